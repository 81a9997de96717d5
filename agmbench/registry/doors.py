"""The four sources of the registry. Errors in the built-ins and in the user's own file are raised at once; an error in what comes
from others only affects the jobs that use it."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from agmbench.errors import AgmbenchError, shown
from agmbench.registry.entry import Found
from agmbench.registry.files import FILE, Source, read
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
    shipped = package / FILE  # in a wheel; a checkout keeps the file at its top level
    yield from read(Source(shipped if shipped.is_file() else package.parent / FILE, FILE))


def _folders(plugins: Path) -> Iterator[Found]:
    found = (folder / FILE for folder in plugins.glob("*"))
    for path in sorted(path for path in found if os.path.lexists(path)):  # a dangling link counts as broken, not as absent
        origin = f"plugins/{path.parent.name}"
        yield from read(Source(path, f"{origin}/{FILE}", origin, path.parent))


def _own() -> Iterator[Found]:
    if name := os.environ.get(VARIABLE):
        path = Path(name).absolute()
        if not os.path.exists(path):
            raise AgmbenchError(f"--registry or {VARIABLE} names {shown(path)}: there is no such file")
        yield from read(Source(path, shown(path), shown(path), path.parent))
