"""Build the documentation into site/: the pages in `docs/`, and one page per component and for the command line. `make docs` calls it.

The pages are collected in `build/docs`, so that nothing generated is ever written into `docs/`. A warning of Sphinx (a link to a page or
heading that does not exist, a page that is missing in the menu) is an error. Nothing is downloaded.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from pages import command_line, components
from sphinx.cmd.build import main as sphinx

from agmbench import registry
from agmbench.cli import cli

ROOT = Path(__file__).parents[1]
SITE = ROOT / "site"
SOURCE = ROOT / "build" / "docs"
MENU = {  # the pages, grouped by what a reader wants to do
    "Start": ["avmnist-mini", "python", "glossary"],
    "Use your data": ["your-data", "first-dataset", "backbones", "recipes"],
    "Add a method": ["first-modulator"],
    "Run many jobs, on a cluster": ["suites", "sweeps", "devices", "launchers", "cluster", "reliability", "performance"],
    "Read the numbers": ["Metrics <metrics>", "Statistics <statistics>", "reports", "mlflow", "leaderboard"],
    "Methods": ["methods", "components/modulators/index"],
    "Data sets": ["datasets", "avmnist", "components/datasets/index"],
    "What is reproduced": ["reproduction", "study"],
    "Reference": [
        "Command line <cli>",
        *(f"{components.folder(kind)}/index" for kind in ("encoder", "fusion", "transform", "metric", "launcher")),
    ],
    "For maintainers": ["architecture", "targets", "security"],
}


def menu() -> str:
    """The menu in MyST. It is not in docs/index.md itself, because that is also read as plain Markdown."""
    return "".join(_toctree(pages, f":caption: {title}\n") for title, pages in MENU.items())


def _toctree(pages: list[str], options: str = "") -> str:
    return "\n".join(["", "```{toctree}", f":hidden:\n{options}", *pages, "```", ""])


def generated() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each page that is made from the registry, the docstrings and the command line."""
    known = registry.load(ROOT / "plugins")
    yield "cli.md", command_line.page(cli, "agmbench")
    for kind in components.TITLES:
        entries = known.entries(kind)
        below = _toctree([entry.name for entry in entries])
        yield f"{components.folder(kind)}/index.md", components.table(known, kind) + below
        for entry in entries:
            yield f"{components.folder(kind)}/{entry.name}.md", components.page(entry, known, ROOT)


def assemble() -> None:
    """Write all pages into the build folder."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(ROOT / "docs", SOURCE)
    for path, text in generated():
        (SOURCE / path).parent.mkdir(parents=True, exist_ok=True)
        (SOURCE / path).write_text(text, encoding="utf-8")
    with (SOURCE / "index.md").open("a", encoding="utf-8") as index:
        index.write(menu())


def build() -> int:
    """Run Sphinx, and return its exit status."""
    shutil.rmtree(SITE, ignore_errors=True)
    strict = ["--fail-on-warning", "--keep-going", "--quiet"]
    status: int = sphinx(["-b", "html", "-d", str(SOURCE.with_name("doctrees")), *strict, str(SOURCE), str(SITE)])
    return status


if __name__ == "__main__":
    assemble()
    sys.exit(build())
