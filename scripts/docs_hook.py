"""What MkDocs calls while it builds `docs/`: a page for each component, the command line's, and where they are in the menu."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pages import command_line, components

from agmbench import registry
from agmbench.cli import cli

ROOT = Path(__file__).parents[1]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the components' pages where the menu has `components/`."""
    known = registry.load(ROOT / "plugins")
    menu = [{components.TITLES[kind]: _menu(known, kind)} for kind in components.TITLES]
    config.nav = [
        {title: menu if place == "components/" else place} for item in config.nav or [] for title, place in item.items()
    ]
    return config


def _menu(known: registry.Registry, kind: str) -> list[Any]:
    folder = components.folder(kind)
    return [f"{folder}/index.md", *({entry.name: f"{folder}/{entry.name}.md"} for entry in known.entries(kind))]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for path, text in _pages():
        files.append(File.generated(config, path, content=text))
    return files


def _pages() -> Iterator[tuple[str, str]]:
    known = registry.load(ROOT / "plugins")
    yield "cli.md", command_line.page(cli, "agmbench")
    for kind in components.TITLES:
        yield f"{components.folder(kind)}/index.md", components.table(known, kind)
        for entry in known.entries(kind):
            yield f"{components.folder(kind)}/{entry.name}.md", components.page(entry, known, ROOT)
