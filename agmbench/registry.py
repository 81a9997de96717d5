"""Names become entries; nothing they name is imported until `Entry.load`.

Two sources, one kind of entry: the built-in `registry.yaml` and every `plugins/*/registry.yaml` below the working directory.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from agmbench.errors import AgmbenchError, allowed, describe

KINDS = ("dataset", "encoder", "fusion", "modulator", "metric")


@dataclass(frozen=True)
class Entry:
    """One name of the registry.

    `params` override the defaults of the target's signature; `search` gives the range of each parameter worth tuning;
    `job` (data sets only) holds the defaults of a job on that data set; `version` is raised when the numbers change.
    """

    kind: str
    name: str
    target: str
    place: str
    origin: str = "built-in"
    folder: Path | None = None
    version: str = "1"
    summary: str = ""
    paper: str = ""
    refuses: str = ""
    aliases: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    job: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    def load(self) -> Any:
        """Import the target, which is `module:attribute`; a plugin folder's modules are looked for in that folder first."""
        module_name, _, attribute = self.target.partition(":")
        try:
            module = self._module(module_name)
            return attrgetter(attribute)(module)
        except (Exception, SystemExit) as error:
            raise AgmbenchError(
                f"{self} cannot be imported from '{self.target}' ({describe(error)}); it is named in {self.place}"
            ) from error

    def _module(self, name: str) -> ModuleType:
        if self.folder is None or not (path := self.folder / f"{name}.py").is_file():
            return importlib.import_module(name)
        unique = f"agmbench_plugins.{self.folder.name}.{name}"
        if (known := sys.modules.get(unique)) is not None and known.__file__ == str(path):
            return known
        spec = importlib.util.spec_from_file_location(unique, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[unique] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[unique]
            raise
        return module


@dataclass(frozen=True)
class Matrix:
    """A suite: a named matrix of jobs. `suite.py` says what its parts are."""

    name: str
    place: str
    content: Mapping[str, Any]


class Registry:
    """All entries by kind and name (or alias), and the suites by name."""

    def __init__(self, entries: Iterable[Entry | Matrix]) -> None:
        self.suites: dict[str, Matrix] = {}
        self._entries: list[Entry] = []
        self._names: dict[tuple[str, str], Entry] = {}
        for entry in entries:
            if isinstance(entry, Entry):
                self._add(entry)
            elif other := self.suites.get(entry.name):
                raise AgmbenchError(
                    f"suite '{entry.name}' is defined twice: in {other.place} and in {entry.place}; rename one of them"
                )
            else:
                self.suites[entry.name] = entry

    def _add(self, entry: Entry) -> None:
        for name in (entry.name, *entry.aliases):
            if other := self._names.get((entry.kind, name)):
                raise AgmbenchError(
                    f"{entry.kind} '{name}' is defined twice: in {other.place} and in {entry.place}; rename one of them"
                )
            self._names[entry.kind, name] = entry
        self._entries.append(entry)

    def get(self, kind: str, name: str) -> Entry:
        """The entry of that kind with that name or alias."""
        if entry := self._names.get((kind, name)):
            return entry
        raise AgmbenchError(f"unknown {kind} '{name}': {allowed(name, self.names(kind))}")

    def names(self, kind: str) -> list[str]:
        """Every name of that kind, aliases included."""
        return sorted(name for of, name in self._names if of == kind)

    def entries(self, kind: str | None = None) -> list[Entry]:
        """Entries in the order of KINDS, then by name."""
        chosen = (entry for entry in self._entries if kind in (None, entry.kind))
        return sorted(chosen, key=lambda entry: (KINDS.index(entry.kind), entry.name))


def load(plugins: Path | None = None) -> Registry:
    """The built-in registry and the plugin folders below `plugins` (default: `plugins/` of the working directory)."""
    return Registry(_all_entries(plugins or Path("plugins")))


def _all_entries(plugins: Path) -> Iterator[Entry | Matrix]:
    yield from _read(_builtin_file(), "built-in", None)
    for path in sorted(plugins.glob("*/registry.yaml")):
        yield from _read(path, f"plugins/{path.parent.name}", path.parent)


def _builtin_file() -> Path:
    package = Path(__file__).parent
    shipped = package / "registry.yaml"  # in a wheel; a checkout keeps the file at its top level
    return shipped if shipped.is_file() else package.parent / "registry.yaml"


def _read(path: Path, origin: str, folder: Path | None) -> Iterator[Entry | Matrix]:
    shown = f"{origin}/registry.yaml" if folder else "registry.yaml"
    for section, entries in _mapping(parse_yaml(path, shown), shown).items():
        if section not in (*_SECTIONS, SUITES):
            raise AgmbenchError(f"{shown}: unknown section '{section}': {allowed(str(section), (*_SECTIONS, SUITES))}")
        entries = _mapping(entries, f"{shown}: '{section}'")
        for name, body in entries.items():
            place = f"{shown}:{entries.lines[name]}"
            body = _mapping(body, f"{place}: '{name}'")
            if section == SUITES:
                yield Matrix(str(name), place, _plain(body))
            else:
                yield _entry(_SECTIONS[section], str(name), body, place, origin, folder)


SUITES = "suites"
_SECTIONS = {f"{kind}s": kind for kind in KINDS}
_SHAPES: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(("target", "summary", "paper", "refuses"), ((str,), "a text")),
    **dict.fromkeys(("params", "search", "job"), ((dict,), "a mapping")),
    "version": ((str, int), "a text or a whole number"),
    "aliases": ((list,), "a list of names"),
}


def _entry(kind: str, name: str, body: "_Located", place: str, origin: str, folder: Path | None) -> Entry:
    for key, value in body.items():
        if key not in _SHAPES:
            raise AgmbenchError(f"{place}: {kind} '{name}' has an unknown key '{key}': {allowed(str(key), _SHAPES)}")
        types, noun = _SHAPES[key]
        if not isinstance(value, types):
            raise AgmbenchError(f"{place}: '{key}' of {kind} '{name}' should be {noun}; found {value!r}")
    for parameter, bounds in body.get("search", {}).items():
        if not isinstance(bounds, dict):
            raise AgmbenchError(f"{place}: search of '{parameter}' of {kind} '{name}' should be a mapping; found {bounds!r}")
    if ":" not in body.get("target", ""):
        raise AgmbenchError(f"{place}: {kind} '{name}' needs a target 'module:attribute'; found {body.get('target')!r}")
    fields = _plain(body)
    fields["version"] = str(fields.get("version", "1"))
    fields["aliases"] = tuple(map(str, fields.get("aliases", ())))
    return Entry(kind=kind, name=name, place=place, origin=origin, folder=folder, **fields)


class _Located(dict[Any, Any]):
    """A YAML mapping that remembers the line of each of its keys."""

    lines: dict[Any, int]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _mapping(value: object, where: str) -> _Located:
    if isinstance(value, _Located):
        return value
    raise AgmbenchError(f"{where} should be a mapping; found {value!r}")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml where PyYAML has it
    """YAML whose mappings are `_Located` and in which a key given twice is an error."""

    shown = ""

    def construct_located(self, node: yaml.MappingNode) -> Iterator[_Located]:
        located = _Located()
        located.lines = {}
        yield located
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key should be a name", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if key in located.lines:
                raise AgmbenchError(
                    f"'{key}' is defined twice: in {self.shown}:{located.lines[key]} and in {self.shown}:{line}; "
                    "rename one of them"
                )
            located.lines[key] = line
        located.update(self.construct_mapping(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_located)


def parse_yaml(path: Path, shown: str) -> Any:
    """The tree in a YAML file; what cannot be read, or not be parsed, is an error that names file and line."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=type("_", (_Loader,), {"shown": shown}))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise AgmbenchError(f"{shown}:{line} is not YAML: {error.problem or error.context}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise AgmbenchError(f"{shown} cannot be read ({describe(error)})") from error
