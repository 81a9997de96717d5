"""The ways into the registry. Built-ins and the user's own file have to be sound; what comes from others may be broken by itself."""

import importlib.util
import os
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from agmbench.errors import AgmbenchError, describe, shown
from agmbench.registry.entry import KINDS, Broken, Found
from agmbench.registry.files import Source, define, read
from agmbench.registry.located import Located
from agmbench.registry.names import Registry

VARIABLE = "AGMBENCH_REGISTRY"
FILE = "registry.yaml"


def load(plugins: Path | None = None) -> Registry:
    """All of it; plugin folders are those below `plugins` (default: `plugins/` of the working directory)."""
    return Registry([*_sound(_built_ins()), *_folders(plugins or Path("plugins")), *_packages(), *_sound(_own())])


def builtin() -> Registry:
    """The built-in registry alone."""
    return Registry(_sound(_built_ins()))


def _sound(found: Iterable[Found]) -> list[Found]:
    """All of it, if nothing in it is broken."""
    whole = list(found)
    for broken in Registry(whole).broken:
        raise AgmbenchError(broken.reason)
    return whole


def _built_ins() -> Iterator[Found]:
    package = Path(__file__).parents[1]
    shipped = package / FILE  # in a wheel; a checkout keeps the file at its top level
    yield from read(Source(shipped if shipped.is_file() else package.parent / FILE, FILE))


def _folders(plugins: Path) -> Iterator[Found]:
    for path in sorted(plugins.glob(f"*/{FILE}")):
        origin = f"plugins/{path.parent.name}"
        yield from read(Source(path, f"{origin}/{FILE}", origin, path.parent))


def _own() -> Iterator[Found]:
    if name := os.environ.get(VARIABLE):
        path = Path(name).absolute()
        if not path.is_file():
            raise AgmbenchError(f"no file {shown(path)}, which --registry or {VARIABLE} names")
        yield from read(Source(path, shown(path), shown(path), path.parent))


def _packages() -> Iterator[Found]:
    """What installed distributions name in entry points; of two with one name, the first on the path, as in an import."""
    seen: set[str] = set()
    for distribution in metadata.distributions():
        try:
            if "agmbench." in (distribution.read_text("entry_points.txt") or ""):
                facts = distribution.metadata
                yield from list(_package(distribution, facts)) if facts["Name"] not in seen else ()
                seen.add(facts["Name"])
        except Exception as error:  # a stranger's metadata may be anything
            origin = f"a package in {distribution.locate_file('')}"
            yield Broken("", "", origin, origin, f"the entry points of {origin} cannot be read ({describe(error)})")


def _package(distribution: metadata.Distribution, facts: metadata.PackageMetadata) -> Iterator[Found]:
    """Entry points, with what the `registry.yaml` of their top-level package, beside its `__init__.py`, adds to each."""
    name, summary = facts["Name"], (facts.get_all("Summary") or [""])[0]
    points = distribution.entry_points
    targets = {
        (kind, point.name): point.value.partition("[")[0].strip()
        for kind in KINDS
        for point in points.select(group=f"agmbench.{kind}")
    }
    tops = {key: target.partition(":")[0].partition(".")[0] for key, target in targets.items()}
    for top in dict.fromkeys(tops.values()):
        named = {key: target for key, target in targets.items() if tops[key] == top}
        file, missing = _file(top)
        source = Source(
            file or Path(), f"{name}: {top}/{FILE}", f"package {name} {facts['Version']}", None, facts["Version"], named
        )
        found = list(read(source)) if file else []
        yield from found
        missing = missing or next((one.reason for one in found if isinstance(one, Broken) and not one.name), "")
        for kind, entry in named.keys() - {(one.kind, one.name) for one in found}:
            place = f"entry point '{entry}' of {name}"
            if missing:
                yield Broken(kind, entry, place, source.origin, f"{kind} '{entry}' ({place}) cannot be used: {missing}")
            else:
                yield from define(source, kind, entry, Located(summary=summary), place)


def _file(top: str) -> tuple[Path | None, str]:
    """The `registry.yaml` of a top-level package, or why there is none; nothing is imported to know."""
    spec = importlib.util.find_spec(top) if top else None
    if spec is None:
        return None, f"there is no module '{top}'; install its package again"
    files = (Path(folder) / FILE for folder in spec.submodule_search_locations or ())
    return next((file for file in files if file.is_file()), None), ""
