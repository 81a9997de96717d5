"""Reads a file of entries and suites. An error breaks only the name that it concerns, or a section or the whole file if it concerns no
name."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agmbench.errors import AgmbenchError, allowed
from agmbench.registry.entry import BUILT_IN, KINDS, Broken, Entry, Found, Matrix, check_name
from agmbench.registry.located import Located, mapping, parse, plain

FILE = "registry.yaml"  # the name of the file in a plugin folder and in a package
SUITES, INCLUDE = "suites", "include"
KIND_OF = {**{f"{kind}s": kind for kind in KINDS}, SUITES: "suite"}
Shape = tuple[tuple[type, ...], str]  # the allowed types of a value, and their name in errors
SHAPES: dict[str, Shape] = {
    **dict.fromkeys(("target", "summary", "paper", "family", "refuses"), ((str,), "a text")),
    **dict.fromkeys(("params", "search", "job"), ((dict,), "a mapping")),
    "version": ((str, int), "a text or a whole number"),
    "aliases": ((list,), "a list of names"),
}
SHAPES_OF_SUITES: dict[str, Shape] = {  # the keys of a suite that `agmbench suite list` reads
    "summary": SHAPES["summary"],
    "scales": ((dict,), "a mapping"),
}


@dataclass(frozen=True)
class EntryFile:
    """A file, and what its entries have in common.

    `shown` is the name of the file in errors, `folder` the folder in which modules of targets are searched first, `version` the version
    of entries that state none, `targets` the targets if entry points name them instead of the file, and `above` the files that include
    this one.
    """

    path: Path
    shown: str
    origin: str = BUILT_IN
    folder: Path | None = None
    version: str = "1"
    targets: Mapping[tuple[str, str], str] | None = None
    above: tuple[Path, ...] = ()


def read(source: EntryFile) -> Iterator[Found]:
    """Everything that a file and the files it includes define, in order."""
    yield from _or_broken(source, _sections(source))


def _or_broken(source: EntryFile, found: Iterator[Found], kind: str = "", name: str = "", place: str = "") -> Iterator[Found]:
    """Yield what is found; if an error is raised, yield it as `Broken` and stop."""
    try:
        yield from found
    except AgmbenchError as error:
        yield Broken(kind, name, place or source.shown, source.origin, str(error))


def _sections(source: EntryFile) -> Iterator[Found]:
    tree = mapping(parse(source.path, source.shown), source.shown)
    for section, content in tree.items():
        if section == INCLUDE:
            yield from _or_broken(source, _included(source, content, f"{source.shown}:{tree.lines[section]}"))
        else:
            yield from _or_broken(source, _section(source, section, content))


def _included(source: EntryFile, names: object, place: str) -> Iterator[Found]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise AgmbenchError(f"{place}: 'include' should be a list of files; found {names!r}")
    above = (*source.above, source.path.resolve())
    for name in names:
        path = source.path.parent / name
        if not os.path.isfile(path):
            raise AgmbenchError(f"{place} includes '{name}': there is no such file")
        if path.resolve() in above:
            raise AgmbenchError(f"{place} includes '{name}', which includes this file in turn; remove one of the two includes")
        shown = os.path.normpath(os.path.join(os.path.dirname(source.shown), name))
        yield from read(replace(source, path=path, shown=shown, folder=source.folder and path.parent, above=above))


def _section(source: EntryFile, section: object, content: object) -> Iterator[Found]:
    if section not in KIND_OF:
        raise AgmbenchError(f"{source.shown}: unknown section '{section}': {allowed(str(section), (*KIND_OF, INCLUDE))}")
    kind, entries = KIND_OF[section], mapping(content, f"{source.shown}: '{section}'")
    for name, body in entries.items():
        yield from define(source, kind, str(name), body, f"{source.shown}:{entries.lines[name]}")


def define(source: EntryFile, kind: str, name: str, content: object, place: str) -> Iterator[Found]:
    """What the source defines for one name."""
    yield from _or_broken(source, _one(source, kind, name, content, place), kind, name, place)


def _one(source: EntryFile, kind: str, name: str, content: object, place: str) -> Iterator[Found]:
    check_name(name, f"{place}: {kind}")
    body = mapping(content, f"{place}: '{name}'")
    yield _suite(source, name, body, place) if kind == "suite" else _entry(source, kind, name, body, place)


def _suite(source: EntryFile, name: str, body: Located, place: str) -> Matrix:
    for key in SHAPES_OF_SUITES.keys() & body.keys():
        _check_shape(f"'{key}' of suite '{name}'", body[key], SHAPES_OF_SUITES[key], place)
    return Matrix(name, place, plain(body), source.origin)


def _check_shape(what: str, value: object, shape: Shape, place: str) -> None:
    types, noun = shape
    if not isinstance(value, types):
        raise AgmbenchError(f"{place}: {what} should be {noun}; found {value!r}")


def _entry(source: EntryFile, kind: str, name: str, body: Located, place: str) -> Entry:
    for key, value in body.items():
        if key not in SHAPES:
            raise AgmbenchError(f"{place}: {kind} '{name}' has an unknown key '{key}': {allowed(str(key), SHAPES)}")
        _check_shape(f"'{key}' of {kind} '{name}'", value, SHAPES[key], place)
    for parameter, bounds in body.get("search", {}).items():
        if not isinstance(bounds, dict):
            raise AgmbenchError(f"{place}: search of '{parameter}' of {kind} '{name}' should be a mapping; found {bounds!r}")
    fields: dict[str, Any] = plain(body)
    fields["target"] = _target(source, kind, name, body, place)
    fields["version"] = str(fields.get("version", source.version))
    fields["aliases"] = tuple(map(str, fields.get("aliases", ())))
    for alias in fields["aliases"]:
        check_name(alias, f"{place}: alias of {kind} '{name}'")
    return Entry(kind=kind, name=name, place=place, origin=source.origin, folder=source.folder, **fields)


def _target(source: EntryFile, kind: str, name: str, body: Located, place: str) -> str:
    target = body.get("target")
    if source.targets is not None:
        if target is not None:
            raise AgmbenchError(
                f"{place}: {kind} '{name}' names a target, but its entry point already does; remove the target here"
            )
        target = source.targets.get((kind, name))
        if target is None:
            raise AgmbenchError(f"{place}: {kind} '{name}' has no entry point; its package should name one in agmbench.{kind}")
    if target is None or not all(target.partition(":")):
        raise AgmbenchError(f"{place}: {kind} '{name}' needs a target 'module:attribute'; found {target!r}")
    return str(target)
