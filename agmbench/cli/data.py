"""`agmbench data`: describe, manifest, status, get, prepare, verify, sample."""

import os
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agmbench.cli import get
from agmbench.cli.manifest import manifest
from agmbench.cli.options import entry_of, registry_option, root_option
from agmbench.cli.own_table import describe
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verbs
from agmbench.errors import AgmbenchError, allowed
from agmbench.registry import Entry, load
from agmbench.whole import whole

if TYPE_CHECKING:
    from agmbench.data.status import State
    from agmbench.data.verify import Verdict
    from agmbench.datasets.files import FileDataset, Progress


set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a parameter of the data set; repeatable."
)


QUIET = 5  # seconds before a command without a terminal starts to report its progress


@click.group("data", cls=Verbs)
def command() -> None:
    """Manage the data sets on this machine: see what is there, download, describe, prepare and verify them, or make random samples."""


command.add_command(describe)
command.add_command(manifest)


@command.command("status")
@click.argument("names", nargs=-1, callback=entry_of("dataset"))
@root_option
@registry_option
def status(names: tuple[str, ...]) -> None:
    """Show which data sets are here, and where to get the others."""
    from rich.markup import escape
    from rich.table import Table

    from agmbench.data.get import known
    from agmbench.data.status import state
    from agmbench.report.grid import folded, print_grid

    registry = load()
    entries = [registry.get("dataset", name) for name in names] or registry.entries("dataset")
    states = [state(entry, seed=0) for entry in entries]
    table = Table("data set", "layout", "train", "dev", "valid", "test", box=None, pad_edge=False, header_style="bold")
    for found in states:
        counts = [str(found.samples.get(split, "-")) for split in ("train", "dev", "valid", "test")]
        table.add_row(found.name, escape(found.layout) or "not here", *counts)
    print_grid(table)
    downloads = known()
    for found in states:
        for text in _status_lines(found, downloads):
            echo(folded(text, later="    "))


def _status_lines(state: "State", downloads: Container[str]) -> Iterator[str]:
    """Lines about a data set: notes if it is here; otherwise what is missing and how to get it."""
    for note in state.notes:
        yield f"{state.name}: {note}"
    if state.missing:
        yield ""
        yield f"{state.name}: {state.missing}"
        if state.source:
            if state.name in downloads:
                yield f"  download: agmbench data get {state.name}"
            yield f"  get it: {state.source.page}"
            yield f"  licence: {state.source.licence}"
            yield f"  size: {state.source.size}"
            yield f"  then: {state.source.then}"
        yield from (f"  recognised as {layout}" for layout in state.layouts)


@command.command("verify")
@click.argument("name", callback=entry_of("dataset"))
@set_option
@root_option
@registry_option
def verify(name: str, settings: tuple[str, ...]) -> None:
    """Read every sample of a data set once, and check it.

    This checks counts, shapes, ranges, labels and checksums. It also shows which samples, speakers or videos two splits have in common,
    and whatever else is odd.
    """
    from agmbench.data.fit import in_one_line
    from agmbench.data.verify import verify as verified

    entry = load().get("dataset", name)
    dataset = _opened(entry, settings)
    with _progress(f"reading {entry.name}") as progress:
        verdict = verified(dataset, progress)
    _show(verdict, dataset.class_names)
    wrong, odd = ([line for lines in found.values() for line in lines] for found in (verdict.wrong, verdict.odd))
    odd = [*getattr(getattr(dataset, "held", None), "odd", ()), *odd]
    for line in odd:
        echo(f"odd: {line}")
    if wrong:
        raise AgmbenchError(f"'{entry.name}' is not sound: {in_one_line(wrong)}")
    echo(f"\n'{entry.name}' has nothing wrong; odd findings: {len(odd)}" if odd else f"\n'{entry.name}' is sound")


def _opened(entry: Entry, settings: tuple[str, ...]) -> Any:
    from agmbench.build import opened
    from agmbench.jobs import parse_settings

    given = {key.removeprefix("dataset."): value for key, value in parse_settings(settings)}
    return opened(load(), entry.name, given)


def _show(verdict: "Verdict", class_names: Any) -> None:
    from rich.markup import escape
    from rich.table import Table

    from agmbench.report.grid import print_grid

    table = Table(
        "split", "samples", "modality", "shape", "least", "mean", "largest", box=None, pad_edge=False, header_style="bold"
    )
    for row in verdict.seen:
        numbers = (f"{value:.4g}" for value in (row.range.least, row.range.mean, row.range.largest))
        table.add_row(row.split, str(verdict.samples[row.split]), escape(row.modality), "x".join(map(str, row.shape)), *numbers)
    print_grid(table)
    if verdict.classes:
        echo()
        _show_classes(verdict, class_names)
    for leak in verdict.leaks:
        echo(
            f"shared: {leak.shared} of the {leak.of} {leak.kind}s of {leak.other} are also in {leak.one}, such as {leak.example}"
        )


def _show_classes(verdict: "Verdict", class_names: Any) -> None:
    from rich.markup import escape
    from rich.table import Table

    from agmbench.report.grid import print_grid

    counts = Table("class", *map(escape, verdict.classes), box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(class_names):
        counts.add_row(escape(str(title)), *(str(found[number]) for found in verdict.classes.values()))
    print_grid(counts)


@command.command("prepare")
@click.argument("name", callback=entry_of("dataset"))
@click.option(
    "--from",
    "source",
    metavar="DIR",
    help="Folder of the raw files, as they were downloaded. [default for a table: its own folder]",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=lambda: os.cpu_count() or 1,
    help="Number of processes. [default: one per core]",
)
@set_option
@root_option
@registry_option
def prepare(name: str, source: str | None, jobs: int, settings: tuple[str, ...]) -> None:
    """Turn raw files into arrays that can be read quickly.

    Run the same command again to resume an interrupted preparation.
    """
    from agmbench.contracts import Unsuitable
    from agmbench.datasets.files import home
    from agmbench.jobs import parse_settings
    from agmbench.parameters import check_parameters

    entry = load().get("dataset", name)
    target_class = _file_dataset(entry)
    beside = target_class.wants_folder
    if beside and source is None:
        source = str(entry.folder or home(target_class.name))
    if source is None:
        raise AgmbenchError("--from DIR is needed: the folder of the raw files, as they were downloaded")
    if not Path(source).is_dir():
        raise AgmbenchError(f"--from {source}: there is no such folder")
    target = Path(source).absolute() if beside else home(target_class.name)
    function = replace(entry, kind="preparation", target=f"{entry.target}.prepare", params=entry.params if beside else {})
    options = check_parameters(function, dict(parse_settings(settings)))
    try:
        with _progress(f"preparing {entry.name}") as progress:
            target_class.prepare(Path(source).absolute(), target, progress, jobs, **options)
    except Unsuitable as error:
        raise AgmbenchError(f"{entry}: {error}") from error
    except OSError as error:
        raise AgmbenchError(f"{entry}: {error.filename} cannot be read or written ({error.strerror})") from error
    echo(f"'{entry.name}' is ready in {target}")


@command.command("sample")
@click.argument("name", callback=entry_of("dataset"))
@click.option("--layout", help="Which of the data set's file layouts to write. [default: the first]")
@root_option
@registry_option
def sample(name: str, layout: str | None) -> None:
    """Write a tiny data set of random numbers, to try the pipeline.

    It has the layout of the real data set. Runs on it are tagged, and agmbench compare leaves them out unless you add --samples.
    """
    from agmbench.datasets.files import SAMPLE, home

    entry = load().get("dataset", name)
    target_class = _file_dataset(entry)
    layouts = {known.name: known for known in target_class.layouts}
    if layout is not None and layout not in layouts:
        raise AgmbenchError(f"'{entry.name}' has no layout '{layout}': {allowed(layout, layouts)}")
    target = home(target_class.name)
    chosen = layouts[layout] if layout else target_class.layouts[0]
    try:
        if target.is_dir() and any(target.iterdir()):
            raise AgmbenchError(f"{target} is not empty; name another place with --data-root")
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as fresh:
            fresh.mkdir()
            chosen.write_sample(fresh)
            (fresh / SAMPLE).write_text("random numbers, no data\n")
    except OSError as error:
        raise AgmbenchError(f"{target} cannot be written ({error.strerror}); name another place with --data-root") from error
    echo(f"a random sample of '{entry.name}' in layout '{chosen.name}' is in {target}")


def _file_dataset(entry: Entry) -> "type[FileDataset]":
    from agmbench.datasets.files import FileDataset

    target = entry.load()
    if not (isinstance(target, type) and issubclass(target, FileDataset)):
        raise AgmbenchError(f"'{entry.name}' is not read from files, so there is nothing to prepare; use it as it is")
    return target


@contextmanager
def _progress(what: str) -> "Iterator[Progress]":
    """A progress bar on a terminal; elsewhere one line per tenth of the work, if it takes longer than some seconds."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        tenths, begun = 0, time.monotonic()

        def show(done: int, total: int) -> None:
            nonlocal tenths
            bar.update(task, completed=done, total=total)
            long = time.monotonic() - begun > QUIET
            if long and not console.is_terminal and total and (now := 10 * done // total) > tenths:
                tenths = now
                echo(f"{what}: {done:,} of {total:,}", err=True)

        yield show


command.add_command(get.command(_progress))
