"""`agmbench site`."""

from pathlib import Path

import click

from agmbench.cli.options import registry_option
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import AgmbenchError, shown
from agmbench.registry import load

TITLE = "agmbench leaderboard"


@click.command("site", cls=Verb)
@click.argument("results", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the site; index.html is written in it."
)
@click.option("--title", default=TITLE, show_default=True, help="Title of the page.")
@registry_option
def command(results: tuple[Path, ...], output: Path, title: str) -> None:
    """Write a static site of one or several folders of RESULTS: one page that needs no server and no network.

    Each folder is first verified against its manifest. If there are several, each row names its folder.
    """
    from agmbench.cli.tables import tabled
    from agmbench.leaderboard.folder import Folders, read_all
    from agmbench.report.export import Origin
    from agmbench.report.html import page
    from agmbench.report.render import save
    from agmbench.report.tables import BASELINE

    folders = read_all(results)
    store = Folders(folders)
    tables = tabled([record for record in store.records() if not record.concept], load(), cost=True, coalitions=True)
    if not tables:
        raise AgmbenchError("the folders hold no runs of methods, so there is nothing to show")
    notes = [f"{one.name}: {len(one.results)} results; sha256 of manifest.json {one.sha256}" for one in folders]
    text = page(tables, store.history, BASELINE, title, notes, Origin(store.shown))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AgmbenchError(
            f"{shown(output)} cannot be written ({error.strerror}); name another folder with --output"
        ) from error
    save(text, output / "index.html")
    echo(f"wrote {shown(output / 'index.html')}")
