"""Titles of tables, which distinguish cells, and names of rows, which distinguish the methods of a cell."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from agmbench.jobs import flat, in_use, setting
from agmbench.records import Record

# cells


def settings(cells: Mapping[str, Sequence[Record]]) -> dict[str, dict[str, Any]]:
    """The settings that name each cell: its departures, and the other keys in which cells of one data set and fusion differ.

    If two cells still have the same name, the fingerprints of their data and the versions and sources of components are added, as far as
    these differ.
    """
    of = {cell: leaves(found[0]) for cell, found in cells.items()}
    departed = {cell: _departures(found[0]) for cell, found in cells.items()}
    named = {cell: _told_apart(cell, of, departed) for cell in cells}
    groups: dict[str, list[str]] = defaultdict(list)
    for cell, found in named.items():
        groups[json.dumps([_name(of[cell]), found], default=str)].append(cell)
    for alike in groups.values():
        made_of = {cell: _made_of(cells[cell][0]) for cell in alike}
        for cell, made in made_of.items():
            named[cell] |= {key: v for key, v in made.items() if any(other.get(key) != v for other in made_of.values())}
    return named


def _told_apart(cell: str, of: Mapping[str, Mapping[str, Any]], departed: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The departures of a cell, and all other settings in which it differs from a cell of the same data set and fusion, by key."""
    own, found = of[cell], dict(departed[cell])
    for other, theirs in of.items():
        if _name(own) == _name(theirs):
            explained = {*departed[cell], *departed[other]}
            keys = {key for key in own.keys() | theirs.keys() if own.get(key) != theirs.get(key)} - explained
            found |= {key: own.get(key, "-") for key in keys}
    return {key: found[key] for key in sorted(found)}


def _departures(record: Record) -> dict[str, Any]:
    """The departures of the cell, without those of the modulator, which are part of the names of rows."""
    return {key: value for key, value in (record.departures or {}).items() if not key.startswith("modulator.")}


def _made_of(record: Record) -> dict[str, str]:
    components = {name: stated for name, stated in record.components.items() if not name.startswith("modulator/")}
    return {"data": record.fingerprint[:8], **components}


def _name(leaves: Mapping[str, Any]) -> tuple[Any, Any]:
    return leaves["dataset"], leaves["fusion"]


def leaves(record: Record) -> dict[str, Any]:
    """The settings of the cell by the keys of `--set`, without settings that were added later and have their defaults."""
    return {
        key: value for key, value in flat(in_use(record.spec)).items() if key.partition(".")[0] not in ("modulator", "seed")
    }


# rows


def labelled(records: Sequence[Record]) -> list[tuple[str, Record]]:
    """Each record with the name of its row: the modulator, and those of its parameters that depart from the defaults on this data set or in
    which runs of this table differ. Its version, or the source of the run, is added if the table has runs of several."""
    varied = _varied(records)
    names = _rounded([_parameters(record, varied) for record in records])
    versions: dict[str, set[str]] = defaultdict(set)
    for name, record in zip(names, records, strict=True):
        versions[name].add(_version(record))
    several = len({record.source for record in records}) > 1
    return [
        (" ".join([name, *_told_by(record, len(versions[name]) > 1, several)]), record)
        for name, record in zip(names, records, strict=True)
    ]


def _parameters(record: Record, varied: Mapping[str, Sequence[str]]) -> tuple[str, dict[str, Any]]:
    """The modulator of a run, with the parameters that its row names."""
    name, params = record.spec["modulator"]["name"], record.spec["modulator"]["params"]
    departs = [key.partition(".")[2] for key in record.departures or () if key.startswith("modulator.")]
    return name, {key: value for key, value in params.items() if key in departs or key in varied.get(name, ())}


def _told_by(record: Record, version: bool, source: bool) -> list[str]:
    """The words that distinguish the row of a run from rows with the same name: the version of its modulator if `version`, and the source
    of someone else's run if `source`."""
    told = [f"(version {_version(record)})"] if version else []
    return [*told, f"({record.source})"] if source and record.source else told


def _rounded(names: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Names of rows with numbers of at most four digits, except where this would give different rows the same name."""
    whole = [" ".join([name, *(setting(key, value) for key, value in params.items())]) for name, params in names]
    short = [" ".join([name, *(setting(key, _digits(value)) for key, value in params.items())]) for name, params in names]
    meant: dict[str, set[str]] = defaultdict(set)
    for one, other in zip(short, whole, strict=True):
        meant[one].add(other)
    return [one if len(meant[one]) == 1 else other for one, other in zip(short, whole, strict=True)]


def _digits(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _digits(one) for key, one in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) and isfinite(value) else value


def _version(record: Record) -> str:
    """Version and source of the run's modulator."""
    return record.components.get(f"modulator/{record.spec['modulator']['name']}", "")


def _varied(records: Sequence[Record]) -> dict[str, list[str]]:
    """The parameters in which runs of one modulator differ, by modulator."""
    seen: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for record in records:
        for key, value in record.spec["modulator"]["params"].items():
            seen[record.spec["modulator"]["name"]][key].add(repr(value))
    return {name: [key for key, values in params.items() if len(values) > 1] for name, params in seen.items()}
