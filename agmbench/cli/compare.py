"""`agmbench compare`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from agmbench.cli.options import Filters, filter_options, registry_option
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import AgmbenchError, allowed
from agmbench.registry import load

if TYPE_CHECKING:
    from agmbench.leaderboard.folder import Folders
    from agmbench.report.tables import Table
    from agmbench.trackers.mlflow import MlflowTracker

FORMS = ("table", "markdown", "latex", "csv", "json", "html")
HTML = Path("compare.html")


class Options(Filters):
    """The options of the command."""

    baseline: str | None
    columns: str | None
    sort: str | None
    coalitions: bool
    cost: bool
    published: bool
    form: str
    output: Path | None
    folders: tuple[Path, ...]


@click.command("compare", cls=Verb)
@filter_options
@click.option(
    "--baseline",
    metavar="NAME",
    help="The row that the others are compared with. It is shown even if -m does not name it. [default: joint]",
)
@click.option(
    "--columns",
    metavar="NAME,NAME",
    help="What to show: metrics, quantities, or one number of a quantity, such as response/audio. The first column is the one by "
    "which methods are compared. Numbers that are missing are measured now. [default: by task]",
)
@click.option(
    "--sort", metavar="COLUMN", help="Order rows by this column, the best first, such as response/audio. [default: by name]"
)
@click.option("--coalitions", is_flag=True, help="Also show the first figure with only some of the modalities present.")
@click.option("--cost", is_flag=True, help="Also show encoder passes, FLOPs, samples per second and memory.")
@click.option("--published", is_flag=True, help="Also show the figures published in the paper's supplement.")
@click.option("--format", "form", type=click.Choice(FORMS), default="table", show_default=True, help="Format of the output.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write. [default: the terminal; html: compare.html]"
)
@click.option(
    "--from",
    "folders",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="RESULTS",
    help="A folder of results (agmbench export) to show instead of the store; repeatable.",
)
@registry_option
def command(**given: Unpack[Options]) -> None:
    """Compare methods side by side: one table per setting, from the runs in the store.

    Each method is compared with the baseline by statistical tests that are paired by seed; docs/statistics.md explains them.
    """
    form, output, baseline = given["form"], given["output"], given["baseline"]
    if output is not None and form == "table":
        raise AgmbenchError("--output needs a format for files; add --format markdown, latex, csv, json or html")

    from agmbench.leaderboard.folder import Folders, read_all
    from agmbench.report.export import Origin
    from agmbench.report.render import render, save
    from agmbench.report.tables import BASELINE
    from agmbench.report.terminal import show
    from agmbench.trackers.mlflow import MlflowTracker

    tracker: MlflowTracker | Folders = Folders(read_all(given["folders"])) if given["folders"] else MlflowTracker()
    tables = _tables(given, tracker)
    labels = {label for table in tables for row in table.rows if row.method and row.records for label in (row.label, row.alone)}
    if baseline and baseline not in labels:
        raise AgmbenchError(f"--baseline {baseline}: there is no such row in these tables: {allowed(baseline, labels)}")
    against = baseline or BASELINE

    if form == "table":
        show(*tables, baseline=against)
        return
    if form == "html":
        from agmbench import measures
        from agmbench.report.html import page

        kept = None if isinstance(tracker, Folders) else partial(measures.load_outcomes, tracker)  # folders have no outcomes
        text = page(tables, tracker.history, against, origin=Origin(tracker.shown), kept=kept)
        output = output or HTML
    else:
        text = render(tables, form, against, Origin(tracker.shown))
    if output is None:
        echo(text)
    else:
        save(f"{text.rstrip()}\n", output)
        echo(f"wrote {output}", err=True)


def _tables(given: Options, tracker: "MlflowTracker | Folders") -> "list[Table]":
    from agmbench.cli.tables import ordered, side_by_side, wanted_of
    from agmbench.report.published import TABLES

    modulators, baseline = given["modulators"], given["baseline"]
    named = (*modulators, baseline) if modulators and baseline and baseline not in modulators else modulators
    tables = side_by_side(
        load(),
        tracker,
        given["dataset"],
        wanted_of(given, named),
        columns=[word for part in (given["columns"] or "").split(",") if (word := part.strip())],
        coalitions=given["coalitions"],
        cost=given["cost"] or given["form"] == "html",
        samples=given["samples"],
        published=TABLES if given["published"] else (),
    )
    return ordered(tables, given["sort"]) if given["sort"] else tables
