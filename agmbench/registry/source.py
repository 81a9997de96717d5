"""The source of a component: a hash of the module that defines it and of what that module imports from beside it. Nothing is imported."""

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from agmbench.registry.entry import BUILT_IN, Entry


def stated(entry: Entry, built_in: dict[str, str]) -> str:
    """What of an entry's code enters the identity of a job: its version and, where it is not built in, the hash of its source.

    `built_in` has the versions of the built-in entries by target: an entry of a stranger may give a built-in other parameters.
    """
    if entry.origin == BUILT_IN:
        return entry.version
    return f"{entry.version} {built_in.get(entry.target) or source(entry)}"


def source(entry: Entry) -> str:
    """12 hexadecimal digits of the sha256 of its files, by their places below the folder (or package) that they share."""
    start, root = _module(entry)
    if start is None:
        return ""
    total = hashlib.sha256()
    for path in sorted(_reached(start, root)):
        total.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return total.hexdigest()[:12]


def _module(entry: Entry) -> tuple[Path | None, Path]:
    """The file of a target's module, and the folder in which imports are followed: the plugin's, or that of the package."""
    name = entry.target.partition(":")[0]
    if entry.folder is not None and (path := entry.folder / f"{name}.py").is_file():
        return path.resolve(), entry.folder.resolve()
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None, Path()
    path = Path(spec.origin).resolve()
    return path, path.parents[len(name.split(".")) - (path.stem != "__init__")]


def _reached(start: Path, root: Path) -> set[Path]:
    """A file, those below `root` that it imports, however deep, and the `__init__.py` of the packages between."""
    found: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        waiting += [init for folder in path.parents if root in folder.parents and (init := folder / "__init__.py").is_file()]
        waiting += _imports(path, root)
    return found


def _imports(path: Path, root: Path) -> Iterator[Path]:
    """The files below `root` that a file names in its imports, wherever they stand in it."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # an extension module, or a file that Python will refuse in its own words
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _file(root, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = path.parents[node.level - 1] if 0 < node.level <= len(path.parents) else root
            for name in ("", *(alias.name for alias in node.names)):
                yield from _file(base, ".".join(part for part in (node.module, name) if part))


def _file(folder: Path, name: str) -> Iterator[Path]:
    stem = folder.joinpath(*name.split("."))
    yield from (path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file())
