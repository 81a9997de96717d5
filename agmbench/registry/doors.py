"""The four sources of the registry. Errors in the built-in entries and in the user's own file are raised at once. An error in a plugin
folder or a package affects only the jobs that use it."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from agmbench.errors import AgmbenchError, shown
from agmbench.registry.entry import Broken, Found
from agmbench.registry.files import FILE, EntryFile, read
from agmbench.registry.names import Registry
from agmbench.registry.packages import packages

VARIABLE = "AGMBENCH_REGISTRY"


def load(plugins: Path | None = None) -> Registry:
    """The whole registry. Plugin folders are searched below `plugins` (default: `plugins/` of the working directory)."""
    return Registry([*_sound(_built_ins()), *_folders(plugins or Path("plugins")), *packages(), *_sound(_own())])


def builtin() -> Registry:
    """Only the built-in registry."""
    return Registry(_sound(_built_ins()))


def _sound(found: Iterable[Found]) -> list[Found]:
    """All entries that were found; raises if one of them is broken."""
    whole = list(found)
    for broken in Registry(whole).broken:
        raise AgmbenchError(broken.reason)
    return whole


def _built_ins() -> Iterator[Found]:
    package = Path(__file__).parents[1]
    shipped = package / FILE  # its place in a wheel; a checkout has the file at the top level
    yield from read(EntryFile(shipped if shipped.is_file() else package.parent / FILE, FILE))


def _folders(plugins: Path) -> Iterator[Found]:
    found = (folder / FILE for folder in plugins.glob("*"))
    for path in sorted(path for path in found if os.path.lexists(path)):  # a dangling link counts as broken, not as absent
        origin = f"plugins/{path.parent.name}"
        yield from read(EntryFile(path, f"{origin}/{FILE}", origin, path.parent))


def _own() -> Iterator[Found]:
    for path in own_files():
        if not os.path.exists(path):
            raise AgmbenchError(f"--registry or {VARIABLE} names {shown(path)}: there is no such file")
        yield from read(EntryFile(path, shown(path), shown(path), path.parent))


def own_names(path: Path, kind: str) -> list[str]:
    """The names of one kind that the user's own file defines; raises if anything in the file is wrong."""
    found = list(read(EntryFile(path, shown(path), shown(path), path.parent)))
    for broken in found:
        if isinstance(broken, Broken):
            raise AgmbenchError(broken.reason)
    return [one.name for one in found if one.kind == kind]


def own_files() -> list[Path]:
    """The user's own files, from the environment variable: one path, or several separated by `:` (`;` on Windows)."""
    named = os.environ.get(VARIABLE, "")
    several = [named] if os.path.exists(named) else named.split(os.pathsep)
    return [Path(name).absolute() for name in several if name]
