"""`agmbench suite`: list, show, run, status, report."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import click

from agmbench.cli.launchers import Place, launcher_options
from agmbench.cli.options import (
    entry_of,
    log_option,
    registry_option,
    root_option,
    states_option,
    tag_option,
    tags_of,
    workers_option,
)
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verbs
from agmbench.errors import AgmbenchError
from agmbench.registry import load

if TYPE_CHECKING:
    from agmbench.suite import Planned, Standing
    from agmbench.trackers.mlflow import MlflowTracker

scale_option = click.option("--scale", help="One of the suite's scales, such as quick. [default: the suite as it stands]")
seeds_option = click.option("--seeds", type=click.IntRange(min=1), help="How many seeds. [default: the suite's]")
limit_option = click.option("--limit", type=click.IntRange(min=2), help="Use at most this many samples per split.")
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a parameter of every job, over what the suite and the scale say; of several values, each makes jobs of its own; "
    "repeatable.",
)


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which jobs a suite has."""
    for option in (registry_option, root_option, set_option, limit_option, seeds_option, scale_option):
        command = option(command)
    return command


class JobOptions(TypedDict):
    """Which of a suite's jobs are meant: the values of the options that `_options` adds."""

    scale: str | None
    seeds: int | None
    limit: int | None
    settings: tuple[str, ...]


class RunOptions(JobOptions, Place):
    """Which jobs are run, where, and how their runs are tagged."""

    tags: tuple[str, ...]
    quiet: bool
    log_format: str


@click.group("suite", cls=Verbs)
def command() -> None:
    """Suites are named matrices of jobs: list them, run what is missing, show how far they are, and report them."""


@command.command("list")
@registry_option
def list_() -> None:
    """List the suites of the registry and their scales. A scale is a smaller version of a suite, chosen by --scale."""
    from rich.markup import escape
    from rich.table import Table

    from agmbench.report.grid import print_sentences

    table = Table("suite", "scales", "summary", box=None, pad_edge=False, header_style="bold")
    rows = []
    for matrix in load().suites():
        scales, said = ", ".join(map(str, matrix.content.get("scales", {}))), matrix.content.get("summary", "")
        table.add_row(matrix.name, escape(scales), escape(said))
        rows.append((matrix.name, (said, f"scales: {scales}" if scales else "")))
    print_sentences(table, rows)


@command.command("show")
@click.argument("name", callback=entry_of("suite"))
@_options
def show(name: str, **asked: Unpack[JobOptions]) -> None:
    """List every job of a suite, and say why any is skipped."""
    from agmbench.cli.batches import listed
    from agmbench.suite import checked

    echo("\n".join(listed(checked(_planned(name, asked)))))


@command.command("status")
@click.argument("name", callback=entry_of("suite"))
@_options
def status(name: str, **asked: Unpack[JobOptions]) -> None:
    """Show how far a suite is, according to the store. Nothing is run, and no data are needed.

    A job that is being trained counts as missing until it is done. So does a job that was left behind: its process is gone, and
    `suite run` takes it over.
    """
    from agmbench.cli.batches import elsewhere, summary
    from agmbench.trackers.mlflow import MlflowTracker
    from agmbench.trackers.places import worker

    tracker = MlflowTracker()
    found = _progress(name, asked, tracker)
    echo("\n".join(summary(name, found)))
    left = tracker.left_behind(found.running_runs, _watching)
    for record in found.running_runs:
        echo(f"{'left behind' if record.run_id in left else 'at work'}: {record.name}, by {worker(record.tags)}")
    running = {record.digest for record in found.running_runs}
    for one in found.missing:
        if one.digest not in running:
            echo(f"missing: {one.label}")
    for note in elsewhere(name, found):
        echo(note, err=True)


def _watching(seconds: float) -> None:
    echo(f"note: nothing was heard lately of some jobs at work; watching for up to {seconds:.0f} seconds if they are", err=True)


@command.command("run")
@click.argument("name", callback=entry_of("suite"))
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="How many jobs run at once. [default: the launcher's; local: one, or one on each GPU]",
)
@launcher_options
@tag_option
@click.option("-q", "--quiet", is_flag=True, help="Show only jobs that fail, and at the end how far the suite is.")
@log_option
@workers_option
@states_option
@_options
def run(name: str, **given: Unpack[RunOptions]) -> None:
    """Run the missing jobs of a suite, each in its own process. A failed job is recorded, and the others go on."""
    from agmbench.cli.batches import raise_if_failed, recorded, run_jobs, summary
    from agmbench.cli.suite_report import keep
    from agmbench.trackers.mlflow import MlflowTracker

    tracker = MlflowTracker()
    tagged = tags_of(given["tags"])
    found, failure = run_jobs(
        name, _planned(name, given), tracker, given, tagged, given["quiet"], given["log_format"] == "json"
    )
    stored, said = recorded(found, tracker, tagged), summary(name, found)
    echo("\n".join(said))
    keep(name, " ".join(["agmbench suite", name, *_words(given)]), said, found, stored, tracker)
    raise_if_failed(failure)


@command.command("report")
@click.argument("name", callback=entry_of("suite"))
@click.option("--output", default=None, metavar="FILE", help="File to write. [default: NAME.html]")
@click.option(
    "--published/--no-published",
    default=None,
    help="Show the figures of the paper's supplement beside ours. [default: only of the tables that the suite reproduces]",
)
@_options
def report(name: str, output: str | None, published: bool | None, **asked: Unpack[JobOptions]) -> None:
    """Write an HTML report of a suite's finished jobs. It is one file and needs no network."""
    from agmbench import measures
    from agmbench.cli.batches import elsewhere, recorded, summary
    from agmbench.cli.tables import tabled
    from agmbench.report.export import Origin
    from agmbench.report.html import page
    from agmbench.report.published import TABLES
    from agmbench.report.render import save
    from agmbench.report.tables import BASELINE
    from agmbench.suite import read
    from agmbench.trackers.mlflow import MlflowTracker

    tracker = MlflowTracker()
    found = _progress(name, asked, tracker)
    for note in elsewhere(name, found):
        echo(note, err=True)
    if not (records := recorded(found, tracker)):
        words = " ".join([name, *_words(asked)])
        raise AgmbenchError(f"no job of suite '{name}' is done yet; run it with: agmbench suite run {words}")
    path = Path(output or f"{name}.html")
    known = load()
    beside = read(known, name).published if published is None else TABLES if published else ()
    tables = tabled(records, known, cost=True, coalitions=True, beside=beside)
    title = " ".join(["agmbench suite", name, *_words(asked)])
    kept = partial(measures.load_outcomes, tracker)
    save(page(tables, tracker.history, BASELINE, title, summary(name, found), Origin(tracker.shown), kept), path)
    echo(f"{path}: {len(found.done)} of {len(found.done) + len(found.failed) + len(found.missing)} jobs")


def _planned(name: str, asked: JobOptions) -> "list[Planned]":
    from agmbench import suite
    from agmbench.jobs import parse_settings

    registry = load()
    settings = parse_settings(asked["settings"])
    return suite.plan(suite.read(registry, name), registry, asked["scale"], asked["seeds"], asked["limit"], settings)


def _progress(name: str, asked: JobOptions, tracker: "MlflowTracker") -> "Standing":
    """The standing of a suite's jobs according to the store, including jobs whose data are not on this machine."""
    from agmbench.suite import progress, remembered

    return progress(remembered(_planned(name, asked), name, tracker), tracker, load())


def _words(asked: JobOptions) -> list[str]:
    """The options as words of a command line."""
    options = [f"--{key} {asked[key]}" for key in ("scale", "seeds", "limit") if asked[key] is not None]
    return [*options, *(f"--set {text}" for text in asked["settings"])]
