"""Entries from installed packages: entry points name the targets, and a file in the package adds the rest. Nothing is imported."""

import importlib.util
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from agmbench.errors import describe
from agmbench.registry.entry import KINDS, Broken, Found
from agmbench.registry.files import FILE, EntryFile, define, read
from agmbench.registry.located import Located


def packages() -> Iterator[Found]:
    """The entries of all packages. Of two distributions with the same name, the first on the path counts, as in an import."""
    seen: set[str] = set()
    for distribution in metadata.distributions():
        try:
            if "agmbench." in (distribution.read_text("entry_points.txt") or ""):
                facts = distribution.metadata
                yield from list(_package(distribution, facts)) if facts["Name"] not in seen else ()
                seen.add(facts["Name"])
        except Exception as error:  # the metadata of a stranger may contain anything
            origin = f"a package in {distribution.locate_file('')}"
            yield Broken("", "", origin, origin, f"the entry points of {origin} cannot be read ({describe(error)})")


def _package(distribution: metadata.Distribution, facts: metadata.PackageMetadata) -> Iterator[Found]:
    """The entries of a distribution: its entry points, completed by the `registry.yaml` beside the `__init__.py` of their package."""
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
        source = EntryFile(
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
    """The `registry.yaml` of a top-level package, if it has one, and the reason why the package itself is missing, if it is. Nothing is
    imported."""
    spec = importlib.util.find_spec(top) if top else None
    if spec is None:
        return None, f"there is no module '{top}'; install its package again"
    files = (Path(folder) / FILE for folder in spec.submodule_search_locations or ())
    return next((file for file in files if file.is_file()), None), ""
