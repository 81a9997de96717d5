"""The runs that a command shows, and the tables that are made of them. Commands import this only when they need it."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from agmbench.cli.options import Filters, tags_of
from agmbench.cli.terminal import echo
from agmbench.errors import AgmbenchError, allowed
from agmbench.records import FINISHED, Measurement, Record, Tracker
from agmbench.registry import Registry, listing

if TYPE_CHECKING:
    from agmbench.leaderboard.folder import Folders
    from agmbench.report.tables import Row, Table
    from agmbench.trackers.mlflow import MlflowTracker


@dataclass(frozen=True)
class Wanted:
    """Which runs are shown: those of the named modulators, fusions and seeds, with all these tags, that began between `since` and `until`
    (milliseconds since 1970). What is empty or `None` excludes no run."""

    modulators: Sequence[str] = ()
    fusions: Sequence[str] = ()
    seeds: Sequence[int] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    since: int | None = None
    until: int | None = None


EVERYTHING = Wanted()


def wanted_of(given: Filters, modulators: Sequence[str]) -> Wanted:
    """The runs that the options of a command ask for, restricted to these modulators."""
    return Wanted(modulators, given["fusions"], given["seeds"], tags_of(given["tags"]), given["since"], given["until"])


def side_by_side(
    registry: Registry,
    tracker: "MlflowTracker | Folders",
    dataset: str | None = None,
    wanted: Wanted = EVERYTHING,
    *,
    columns: Sequence[str] = (),
    coalitions: bool = False,
    cost: bool = False,
    samples: bool = False,
    published: Collection[int] = (),
) -> "list[Table]":
    """The tables of a store's runs as `agmbench compare` shows them. Raises if a name is unknown or no run is left."""
    stored = [*tracker.records(dataset), *tracker.imported(dataset)]
    if not stored and dataset:
        dataset = registry.get("dataset", dataset).name  # an alias, or it raises; data given from Python are in no registry
        stored = [*tracker.records(dataset), *tracker.imported(dataset)]
    found = [record for record in stored if not record.concept and (samples or not record.sample)]
    if not found:
        raise AgmbenchError(f"no runs{f' on {dataset}' if dataset else ''} in {tracker.shown}; make one with: agmbench run")
    modulators = [registry.spelling("modulator", name) for name in wanted.modulators]
    known = {*registry.names("modulator"), *(record.spec["modulator"]["name"] for record in found)}
    for name in modulators:
        if name not in known:
            raise AgmbenchError(f"unknown modulator '{name}': {allowed(name, known, listing('modulator'))}")
    store = cast(Tracker, tracker)  # safe for folders too, because only runs of this store are measured
    kept = measured(chosen(found, registry, wanted), columns, registry, store, finished(stored).get)
    shown = {"cost": cost, "coalitions": coalitions, "asked": columns, "beside": published}
    return tabled(kept, registry, modulators=modulators, **shown)


def tabled(records: Sequence[Record], registry: Registry, **shown: Any) -> "list[Table]":
    """The tables of runs, made in the same way by every command: with the present metrics of the registry, and with the departures
    from the published recipe where a run did not note them. `shown` is passed on to `report.tables.compare`."""
    from agmbench.report.tables import compare

    return compare(_noted(records, registry), metrics=_present(registry), **shown)


def _present(registry: Registry) -> dict[str, Measurement]:
    """The version and the quantities of each metric of the registry, by name and alias; `reason` says why a run may lack its numbers."""
    from agmbench import measures

    return {
        name: Measurement(
            *(one.name, one.version, one.metric.quantities),
            reason=measures.ALONE if one.metric.compares else "",
        )
        for one in measures.measures(registry)
        for name in (one.name, *one.entry.aliases)
    }


def finished(records: Iterable[Record]) -> dict[str, Record]:
    """The last finished run of each job, by digest."""
    return {r.digest: r for r in sorted(records, key=lambda record: record.order) if r.status == FINISHED}


def measured(
    records: Sequence[Record],
    asked: Sequence[str],
    registry: Registry,
    tracker: Tracker,
    find: Callable[[str], Record | None],
) -> list[Record]:
    """The records, completed with the numbers that are asked for and were not yet measured, or were measured by another version.

    They are computed from the outcomes that runs kept.
    """
    from agmbench import measures

    if not asked:
        return [*records]
    known = measures.measures(registry)
    named = {name for word in asked for name in measures.names_of(known, word.partition("/")[0])}
    wanted = [one for one in known if one.name in named]
    found, count = [], 0
    for record in records:
        here = record.status == FINISHED and not record.source  # the outcomes of imported runs are not here
        lacking = measures.stale(record, wanted) if here else []
        found.append(record.with_measured(measures.measured_or_reasons(tracker, record, lacking, find)) if lacking else record)
        count += bool(lacking)
    if count:
        runs = "1 run was" if count == 1 else f"{count} runs were"
        echo(f"{runs} measured for this table; to keep the numbers: agmbench measure {' '.join(sorted(named))}", err=True)
    return found


def _noted(records: Sequence[Record], registry: Registry) -> list[Record]:
    """The records, completed with their departures from the published recipe where these were not noted when the run was made."""
    if all(record.departures is not None for record in records):
        return [*records]

    from agmbench.protocol import noted

    return [record if record.departures is not None else noted(record, registry) for record in records]


def chosen(records: Sequence[Record], registry: Registry, wanted: Wanted) -> list[Record]:
    """The runs that are wanted, of all modulators; fusions may be named by aliases. Raises if none is left."""
    used = {record.spec["fusion"]["name"] for record in records}
    names = {fusion if fusion in used else registry.get("fusion", fusion).name for fusion in wanted.fusions}
    kept = [
        record
        for record in records
        if (not names or record.spec["fusion"]["name"] in names) and (not wanted.seeds or record.spec["seed"] in wanted.seeds)
    ]
    if not kept:
        there = sorted({f"{record.spec['fusion']['name']}, seed {record.spec['seed']}" for record in records})
        raise AgmbenchError(f"no runs with this --fusion and --seed; the store has: {'; '.join(there[:20])}")
    tagged = [record for record in kept if wanted.tags.items() <= record.label.items()]
    if not tagged:
        there = sorted({f"{key}={value}" for record in kept for key, value in record.label.items()})
        raise AgmbenchError(f"no runs with this --tag; the store has: {', '.join(there[:20]) or 'no tags'}")
    found = [one for one in tagged if (wanted.since or 0) <= one.started <= (wanted.until or one.started)]
    if not found:
        first, last = (_day(at(record.started for record in tagged)) for at in (min, max))
        raise AgmbenchError(
            f"no runs began in this time (--since, --until); the runs in the store began between {first} and {last}"
        )
    return found


def _day(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000):%Y-%m-%d %H:%M}"


def ordered(tables: "Sequence[Table]", key: str) -> "list[Table]":
    """The tables with their rows of methods in the order of a column: the best first, those without a number last."""
    known = {column.key for table in tables for column in table.columns}
    if key not in known:
        raise AgmbenchError(f"--sort {key}: there is no such column in these tables: {allowed(key, known)}")
    return [replace(table, rows=_ordered(table, key)) for table in tables]


def _ordered(table: "Table", key: str) -> "list[Row]":
    column = next((column for column in table.columns if column.key == key), None)
    if column is None:
        return [*table.rows]
    sign = 1 if column.lower else -1

    def rank(row: "Row") -> tuple[bool, bool, float]:
        mean = row.values[key].mean
        return row.method, mean is None, sign * (mean or 0.0)

    return sorted(table.rows, key=rank)
