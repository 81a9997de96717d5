"""`agmbench compare`."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from agmbench.cli.options import Name, entry_of, registry_option
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import AgmbenchError, allowed
from agmbench.registry import load

FORMS = ("table", "markdown", "latex", "csv", "json", "html")
HTML = Path("compare.html")


@click.command("compare", cls=Verb)
@click.option(
    "-d",
    "--dataset",
    type=Name("dataset"),
    callback=entry_of("dataset"),
    help="Data set, or the file of its entry. [default: all]",
)
@click.option(
    "-m", "--modulator", "modulators", type=Name("modulator"), multiple=True, help="Modulator; repeatable. [default: all]"
)
@click.option("-f", "--fusion", "fusions", type=Name("fusion"), multiple=True, help="Fusion; repeatable. [default: all]")
@click.option("--seed", "seeds", type=int, multiple=True, help="Seed; repeatable. [default: all]")
@click.option(
    "--baseline",
    metavar="NAME",
    help="The row that the others are compared with; if given, it is shown even if -m does not name it. [default: joint]",
)
@click.option(
    "--columns",
    metavar="NAME,NAME",
    help="What to show: metrics, quantities, or one number of a quantity, such as response/audio. Methods are compared by the "
    "first. Numbers that runs lack are measured. [default: by task]",
)
@click.option("--coalitions", is_flag=True, help="Also show the first figure with only some modalities present.")
@click.option("--cost", is_flag=True, help="Also show encoder passes, FLOPs, samples per second and memory.")
@click.option("--published", is_flag=True, help="Also show the figures published in the paper's supplement.")
@click.option("--samples", is_flag=True, help="Also show runs on random data (agmbench data sample).")
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
    help="A folder of results (agmbench export) to show in place of the store; repeatable.",
)
@registry_option
def command(
    dataset: str | None,
    modulators: tuple[str, ...],
    fusions: tuple[str, ...],
    seeds: tuple[int, ...],
    baseline: str | None,
    columns: str | None,
    coalitions: bool,
    cost: bool,
    published: bool,
    samples: bool,
    form: str,
    output: Path | None,
    folders: tuple[Path, ...],
) -> None:
    """Compare methods side by side: one table per setting, from the runs in the store.

    Each method is compared with the baseline by tests paired by seed; docs/statistics.md explains them.
    """
    from agmbench.cli.tables import side_by_side

    registry = load()
    if output is not None and form == "table":
        raise AgmbenchError("--output needs a file format: --format markdown, latex, csv, json or html")

    from agmbench.leaderboard.folder import Folders, read_all
    from agmbench.report.export import Origin
    from agmbench.report.published import TABLES
    from agmbench.report.render import render, save, show
    from agmbench.report.tables import BASELINE
    from agmbench.trackers.mlflow import MlflowTracker

    tracker: MlflowTracker | Folders = Folders(read_all(folders)) if folders else MlflowTracker()
    asked = [word for part in (columns or "").split(",") if (word := part.strip())]
    shown: dict[str, Any] = {"columns": asked, "coalitions": coalitions, "cost": cost or form == "html", "samples": samples}
    shown["published"] = TABLES if published else ()
    named = (*modulators, baseline) if modulators and baseline and baseline not in modulators else modulators
    tables = side_by_side(registry, tracker, dataset, named, fusions, seeds, **shown)
    labels = {label for table in tables for row in table.rows if row.method and row.records for label in (row.label, row.alone)}
    if baseline and baseline not in labels:
        raise AgmbenchError(f"--baseline: no row '{baseline}' in these tables: {allowed(baseline, labels)}")
    against = baseline or BASELINE

    if form == "table":
        show(*tables, baseline=against)
        return
    if form == "html":
        from agmbench import measures
        from agmbench.report.html import page

        kept = partial(measures.kept, tracker)
        text = page(tables, tracker.history, against, origin=Origin(tracker.shown), kept=kept)
        output = output or HTML
    else:
        text = render(tables, form, against, Origin(tracker.shown))
    if output is None:
        echo(text)
    else:
        save(f"{text.rstrip()}\n", output)
        echo(f"wrote {output}", err=True)
