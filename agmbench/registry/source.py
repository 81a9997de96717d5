"""The source of a component: a hash of the module that defines it and of the modules that this one imports from the same folder or package.

The files are parsed, not imported.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from agmbench.registry.entry import BUILT_IN, Entry


def stated(entry: Entry, built_in: dict[str, str]) -> str:
    """The text that represents an entry's code in a job's digest: its version and, if it is not built in, the hash of its source.

    `built_in` has the versions of the built-in entries by target. An entry that is not built in may name a built-in target with other
    parameters; then the version of the target replaces the hash.
    """
    if entry.origin == BUILT_IN:
        return entry.version
    return f"{entry.version} {built_in.get(entry.target) or source(entry)}"


def source(entry: Entry) -> str:
    """12 hexadecimal digits of the sha256 over the entry's files and their paths below the plugin folder or the package; empty if there is
    no file."""
    start, root, package = _module(entry)
    if start is None:
        return ""
    total = hashlib.sha256()
    for path in sorted(_reached(start, root, package)):
        total.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return total.hexdigest()[:12]


def _module(entry: Entry) -> tuple[Path | None, Path, str]:
    """The file of a target's module, the folder within which imports are followed, and the package of its absolute imports."""
    name = entry.target.partition(":")[0]
    if entry.folder is not None and (path := entry.folder / f"{name}.py").is_file():
        return path.resolve(), entry.folder.resolve(), ""
    if (
        name == "__main__"
    ):  # a script or a notebook: every edit of it would change the digests of all its jobs; the content of its data is hashed anyway
        return None, Path(), ""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None, Path(), ""
    path, top = Path(spec.origin).resolve(), name.partition(".")[0]
    if "." not in name and path.stem != "__init__":  # a module outside any package
        return path, path.parent, ""
    return path, path.parents[name.count(".") - (path.stem != "__init__")], top


def _reached(start: Path, root: Path, package: str) -> set[Path]:
    """A file, all files below `root` that it imports (directly or indirectly), and the `__init__.py` of the packages that contain them."""
    found: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        between = [folder for folder in path.parents if root == folder or root in folder.parents]
        waiting += [init for folder in between if package and (init := folder / "__init__.py").is_file()]
        waiting += [file for file in _imports(path, root, package) if root in file.parents]
    return found


def _imports(path: Path, root: Path, package: str) -> Iterator[Path]:
    """The files that a file imports, anywhere in it, by relative imports or from its own package."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # an extension module, or a file that Python itself will refuse to import
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _absolute(root, package, alias.name)
        elif isinstance(node, ast.ImportFrom):
            for name in ("", *(alias.name for alias in node.names)):
                whole = ".".join(part for part in (node.module, name) if part)
                if not node.level:
                    yield from _absolute(root, package, whole)
                elif node.level <= len(path.parents):
                    yield from _file(path.parents[node.level - 1], whole)


def _absolute(root: Path, package: str, name: str) -> Iterator[Path]:
    top, _, rest = name.partition(".")
    if package and top == package:
        yield from _file(root, rest)


def _file(folder: Path, name: str) -> Iterator[Path]:
    stem = folder.joinpath(*name.split(".")) if name else folder
    yield from (path for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py") if path.is_file())
