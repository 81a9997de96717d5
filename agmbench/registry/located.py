"""YAML whose mappings know the line of each key, so that an error can name it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from agmbench.errors import AgmbenchError, describe


class Located(dict[Any, Any]):
    """A YAML mapping that remembers the line of each of its keys."""

    lines: dict[Any, int]


def plain(value: Any) -> Any:
    """The same tree in plain containers."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def mapping(value: object, where: str) -> Located:
    """The value, if it is a mapping."""
    if isinstance(value, Located):
        return value
    raise AgmbenchError(f"{where} should be a mapping; found {value!r}")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml where PyYAML has it
    """YAML whose mappings are `Located` and in which a key given twice is an error."""

    shown = ""

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
                raise AgmbenchError(
                    f"'{key}' is defined twice: in {self.shown}:{located.lines[key]} and in {self.shown}:{line}; "
                    "rename one of them"
                )
            located.lines[key] = line
        located.update(self.construct_mapping(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_located)


def parse(path: Path, shown: str) -> Any:
    """The tree in a YAML file; what cannot be read, or not be parsed, is an error that names file and line."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=type("_", (_Loader,), {"shown": shown}))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise AgmbenchError(f"{shown}:{line} is not YAML: {error.problem or error.context}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise AgmbenchError(f"{shown} cannot be read ({describe(error)})") from error
