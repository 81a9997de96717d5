"""`agmbench suite`: list, show, run, status, report."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agmbench.cli.data import root_option
from agmbench.cli.options import registry_option
from agmbench.errors import AgmbenchError, RunFailed
from agmbench.registry import load

if TYPE_CHECKING:
    from agmbench.suite import Planned, Progress

scale_option = click.option(
    "--scale", default="paper", show_default=True, help="As it stands, or one of the suite's smaller scales."
)
seeds_option = click.option("--seeds", type=click.IntRange(min=1), help="How many seeds. [default: the suite's]")
limit_option = click.option("--limit", type=int, help="At most so many samples a split.")


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What says which jobs a suite has."""
    for option in (registry_option, root_option, limit_option, seeds_option, scale_option):
        command = option(command)
    return command


@click.group("suite")
def command() -> None:
    """Named matrices of jobs: what there is, run what is missing, how far it is, and its report."""


@command.command("list")
@registry_option
def list_() -> None:
    """The suites of the registry."""
    from rich.table import Table

    from agmbench.report.grid import print_grid

    table = Table("suite", "scales", "summary", box=None, pad_edge=False, header_style="bold")
    for matrix in load().suites():
        table.add_row(matrix.name, ", ".join(["paper", *matrix.content.get("scales", {})]), matrix.content.get("summary", ""))
    print_grid(table)


@command.command("show")
@click.argument("name")
@_options
def show(name: str, scale: str, seeds: int | None, limit: int | None) -> None:
    """Every job of a suite, and those that cannot be, because."""
    planned = _planned(name, scale, seeds, limit)
    for one in planned:
        click.echo(f"{one.label}{f': skipped, {one.skipped}' if one.skipped else ''}")
    click.echo(f"{len(planned)} jobs, {sum(bool(one.skipped) for one in planned)} skipped")


@command.command("status")
@click.argument("name")
@_options
def status(name: str, scale: str, seeds: int | None, limit: int | None) -> None:
    """How far a suite is, by the store."""
    from agmbench.suite import progress
    from agmbench.trackers.mlflow import MlflowTracker

    found = progress(_planned(name, scale, seeds, limit), MlflowTracker())
    _tell(name, found)
    for one in found.missing:
        click.echo(f"missing: {one.label}")


@command.command("run")
@click.argument("name")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="How many at once; they share the cores."
)
@_options
def run(name: str, jobs: int, scale: str, seeds: int | None, limit: int | None) -> None:
    """Run what is missing of a suite, each job in a process of its own. A failed one is recorded, and the rest go on."""
    from agmbench import suite
    from agmbench.launch import LocalProcesses
    from agmbench.trackers.mlflow import MlflowTracker

    registry, tracker = load(), MlflowTracker()
    planned = suite.plan(suite.read(registry, name), registry, scale, seeds, limit)
    failed = 0
    folder = Path("runs") / "suites" / name
    for number, ended in enumerate(suite.run(planned, registry, tracker, LocalProcesses(jobs), folder), 1):
        what = f"failed: {ended.reason}" if ended.reason else "done"
        failed += bool(ended.reason)
        click.echo(f"[{number}] {_name(ended.path)}: {what} ({ended.seconds:.0f} s)", err=True)
    _tell(name, suite.progress(planned, tracker))
    if failed:
        raise RunFailed(f"{failed} jobs of suite '{name}' failed; their logs are in {folder}")


@command.command("report")
@click.argument("name")
@click.option("--output", default=None, metavar="FILE", help="[default: NAME.html]")
@_options
def report(name: str, output: str | None, scale: str, seeds: int | None, limit: int | None) -> None:
    """The report of a suite's finished jobs: one HTML file that needs no network."""
    from agmbench.report.html import write
    from agmbench.suite import progress
    from agmbench.trackers.mlflow import MlflowTracker

    tracker = MlflowTracker()
    found = progress(_planned(name, scale, seeds, limit), tracker)
    digests = {one.job.digest for one in (*found.done, *(one for one, _ in found.failed)) if one.job}
    if not digests:
        raise AgmbenchError(f"nothing of suite '{name}' is done; run it with: agmbench suite run {name}")
    names = {one.job.spec.dataset.name for one in found.done if one.job}
    records = [record for dataset in names for record in tracker.records(dataset) if record.digest in digests]
    path = Path(output or f"{name}.html")
    write(path, records, tracker, title=f"agmbench suite {name}")
    click.echo(f"{path}: {len(found.done)} of {len(found.done) + len(found.failed) + len(found.missing)} jobs")


def _planned(name: str, scale: str, seeds: int | None, limit: int | None) -> "list[Planned]":
    from agmbench import suite

    registry = load()
    return suite.plan(suite.read(registry, name), registry, scale, seeds, limit)


def _tell(name: str, found: "Progress") -> None:
    counts = {"done": found.done, "failed": found.failed, "missing": found.missing, "skipped": found.skipped}
    click.echo(f"suite '{name}': " + ", ".join(f"{len(some)} {what}" for what, some in counts.items()))
    for one, record in found.failed:
        click.echo(f"failed: {one.label}: {record.reason}")
    reasons = Counter(one.skipped for one in found.skipped)
    for reason, count in reasons.items():
        labels = [one.label for one in found.skipped if one.skipped == reason]
        click.echo(f"skipped: {labels[0]}{f' and {count - 1} more' if count > 1 else ''}, because {reason}")


def _name(path: Path) -> str:
    import yaml

    return str(yaml.safe_load(path.read_text())["name"])
