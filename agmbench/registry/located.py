"""Reads all YAML: registries, suites, jobs and settings, any of which may come from strangers.

Mappings know the line of each key, so that an error can name it. Input that could exhaust memory or time is refused before values are
built: a file that is not regular or is too large, nesting that is too deep, aliases that expand to too many values.
"""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from agmbench.errors import AgmbenchError, describe

BYTES = 4 * 2**20  # the largest size of a file
NODES = 100_000  # the largest number of values in a text, with its aliases expanded
DEPTH = 50  # the deepest nesting of lists and mappings
DIGITS = 100  # the largest number of digits of a whole number


Place = Callable[[int], str]  # returns the name of a line for errors


class Located(dict[Any, Any]):
    """A YAML mapping that remembers the line of each of its keys."""

    lines: dict[Any, int]


def plain(value: Any) -> Any:
    """The same tree with plain dictionaries in place of `Located`."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def mapping(value: object, where: str) -> Located:
    """The value, if it is a mapping; else an error that names `where`."""
    if isinstance(value, Located):
        return value
    raise AgmbenchError(f"{where} should be a mapping; found {value!r}")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml where PyYAML has it
    """YAML whose mappings are `Located` and in which a key given twice is an error."""

    place: Place

    def construct_located(self, node: yaml.MappingNode) -> Iterator[Located]:
        located = Located()
        located.lines = {}
        yield located
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key should be a name", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if key in located.lines:
                first, second = (self.place(number) for number in (located.lines[key], line))
                raise AgmbenchError(f"'{key}' is defined twice: in {first} and in {second}; rename one of them")
            located.lines[key] = line
        located.update(self.construct_mapping(node, deep=True))

    def construct_short(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > DIGITS:  # Python is slow on longer ones and refuses to print them
            raise yaml.constructor.ConstructorError(None, None, f"a number of more than {DIGITS} digits", node.start_mark)
        return int(self.construct_yaml_int(node))


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_located)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_short)


def parse(path: Path, shown: str) -> Any:
    """The tree in a YAML file. If the file cannot be read or parsed, the error names file and line."""
    try:
        text = _text(path)
    except (OSError, ValueError) as error:
        raise AgmbenchError(f"{shown} cannot be read ({describe(error)})") from error
    return _tree(text, shown, lambda line: f"{shown}:{line}")


def parsed(text: str, shown: str) -> Any:
    """The tree in a one-line YAML text, which errors call `shown`."""
    return _tree(text, shown, lambda line: shown)


def _tree(text: str, shown: str, place: Place) -> Any:
    try:
        _check_size(text, place)
        return yaml.load(text, Loader=type("_", (_Loader,), {"place": staticmethod(place)}))
    except AgmbenchError:
        raise
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise AgmbenchError(f"{place(line)} is not YAML: {error.problem or error.context}") from error
    except Exception as error:  # PyYAML raises nearly any exception for a value that does not fit its tag
        raise AgmbenchError(f"{shown} is not YAML ({describe(error)})") from error


def _text(path: Path) -> str:
    with open(path, "rb", opener=_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a regular file")
        content = file.read(BYTES + 1)
    if len(content) > BYTES:
        raise ValueError(f"it is larger than {BYTES // 2**20} MiB")
    return content.decode("utf-8")


def _at_once(path: str, flags: int) -> int:
    """Open without blocking, so that a pipe to which nobody writes does not make this process wait."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_size(text: str, place: Place) -> None:
    """Raise if the text has too many values or is nested too deeply. Only its events are read; nothing is built."""
    sizes: dict[str, int] = {}  # by anchor: how many values each finished node stands for
    opened: list[tuple[str | None, int]] = []  # unfinished nodes: their anchor, and the number of values before them
    total = 0
    for event in yaml.parse(text, Loader=_Loader):
        where = place(event.start_mark.line + 1 if event.start_mark else 1)
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise AgmbenchError(
                    f"{where}: the alias '{event.anchor}' is used before its value is complete, or has no value"
                )
            total += sizes[event.anchor]
        elif isinstance(event, yaml.NodeEvent):
            total += 1
            if isinstance(event, yaml.CollectionStartEvent):
                opened.append((event.anchor, total - 1))
            elif event.anchor:
                sizes[event.anchor] = 1
        if len(opened) > DEPTH:
            raise AgmbenchError(f"{where} nests lists and mappings more than {DEPTH} deep")
        if total > NODES:
            raise AgmbenchError(f"{where}: with its aliases expanded, the text has more than {NODES:,} values")
