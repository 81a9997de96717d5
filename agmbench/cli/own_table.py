"""`agmbench data describe`."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import click

from agmbench.cli.options import ENTRIES, own_entry, registry_option
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import AgmbenchError, shown
from agmbench.registry import load

if TYPE_CHECKING:
    from agmbench.datasets.tables.opened import Opened

MOST = 40  # the largest number of classes that are shown one by one


class TableOptions(TypedDict):
    """The options that say what a table holds."""

    labels: tuple[str, ...]
    split: str | None
    group: str | None
    arrays: tuple[str, ...]
    settings: tuple[str, ...]


@click.command("describe", cls=Verb)
@click.argument("table")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="COLUMN",
    help="The column with the label; repeatable, for several labels that are 0 or 1.",
)
@click.option("--split", metavar="COLUMN", help="The column that names the split of each row.")
@click.option(
    "--group", metavar="COLUMN", help="The column with the subject, speaker or video: rows of one never get into two splits."
)
@click.option(
    "--array",
    "arrays",
    multiple=True,
    metavar="NAME=FILE",
    help="A further array, whose row i belongs to row i of the table; repeatable.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Another setting (agmbench show dataset/table); repeatable."
)
@click.option("--name", metavar="NAME", help="Name of the data set. [default: the name of the file]")
@click.option("-o", "--output", metavar="FILE", help="File for the entry. [default: beside the table, with the suffix .yaml]")
@click.option("--force", is_flag=True, help="Overwrite an existing entry.")
@registry_option
def describe(table: str, name: str | None, output: str | None, force: bool, **said: Unpack[TableOptions]) -> None:
    """Look into a table of yours and write an entry for it.

    The command tells what the table holds. The entry is a YAML file, which you can edit. If TABLE is such an entry already, the command
    tells what the table holds according to it.
    """
    given = _settings(said)
    if table.endswith(ENTRIES):
        known = own_entry("dataset", table)
        entry = load().get("dataset", known)
        show(opened_table((entry.folder or Path()) / str(entry.params.get("file")), {**entry.params, **given}))
        return
    path = Path(os.path.abspath(table)) if os.path.isdir(table) else Path(table)  # so that `.` gets the name of its folder
    if not path.name:
        raise AgmbenchError(f"'{table}' is not a table; expected a file, or a folder that Hugging Face datasets has saved")
    target = Path(output) if output else path.with_suffix(".yaml") if path.is_file() else path.with_name(f"{path.name}.yaml")
    if target.exists() and not force:
        _check_table(path, given)
        raise AgmbenchError(
            f"{target} already exists; describe {target} itself, overwrite it with --force, or write to another file with -o"
        )
    _write_entry(path, given, name, target)


def _settings(said: TableOptions) -> dict[str, Any]:
    """The parameters of data set `table` that the options set."""
    from agmbench.jobs import parse_settings

    given = dict(parse_settings(said["settings"]))
    given |= {key: column for key in ("split", "group") if (column := said[key])}
    if labels := said["labels"]:
        given["label"] = labels[0] if len(labels) == 1 else list(labels)
    if said["arrays"]:
        given["arrays"] = dict(_pair(text) for text in said["arrays"])
    return given


def _pair(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not equals or not name or not file:
        raise AgmbenchError(f"--array {text}: should be NAME=FILE, such as audio=audio.npy")
    return name, file


def _write_entry(path: Path, given: dict[str, Any], name: str | None, target: Path) -> None:
    from agmbench.data.describe import entry, entry_name, first_run

    opened = opened_table(path.absolute(), given, anew=True)
    known = load().names("dataset")
    if name in known:
        raise AgmbenchError(f"--name {name}: there is already a data set of this name; choose another")
    wrong = show(opened)
    try:
        target.write_text(entry(opened, name or entry_name(path, known), target.absolute().parent), encoding="utf-8")
    except OSError as error:
        raise AgmbenchError(f"{target} cannot be written ({error.strerror}); name another place with -o") from error
    quoted = shlex.quote(shown(target))
    step = f"correct what is wrong, then: agmbench data verify {quoted}" if wrong else first_run(opened, quoted)
    echo(f"\nwrote {shown(target)}; next: {step}")


def opened_table(path: Path, given: dict[str, Any], anew: bool = False) -> "Opened":
    """Open a table with checked settings. Wrong settings are an error; wrong rows are only noted. `anew`: the table has no entry yet."""
    from agmbench.datasets.tables.opened import open_table

    with _settings_of(given) as settings:
        return open_table(path, settings, anew)


def _check_table(path: Path, given: dict[str, Any]) -> None:
    """Raise if there is no such table, or if it lacks a column that the settings name."""
    from agmbench.datasets.tables.opened import rows_of

    with _settings_of(given) as settings:
        rows_of(path, settings)


@contextmanager
def _settings_of(given: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Check settings of a table, for a block that opens it. Why it cannot be opened becomes an error of one line."""
    from agmbench.contracts import Unsuitable
    from agmbench.parameters import check_parameters

    settings = check_parameters(load().get("dataset", "table"), given)
    try:
        yield settings
    except Unsuitable as error:
        raise AgmbenchError(f"{error}") from error


def show(opened: "Opened") -> bool:
    """Print what a table holds: its modalities, its classes in each split, and everything that was noted or is odd or wrong. Returns
    whether anything is wrong."""
    from rich.markup import escape
    from rich.table import Table

    from agmbench.data.describe import WRONG, classes, counts, modalities, remarks
    from agmbench.report.grid import print_grid

    frame = opened.rows.frame
    echo(f"{shown(opened.rows.path)}: {len(frame):,} rows, {len(frame.columns)} columns\n")
    grid = Table("modality", "kind", "columns", "a sample", "empty cells", box=None, pad_edge=False, header_style="bold")
    for row in modalities(opened):
        grid.add_row(*map(escape, row))
    print_grid(grid)
    echo()
    found = classes(opened)
    counted = counts(opened, found)
    grid = Table("class", "train", "dev", "valid", "test", box=None, pad_edge=False, header_style="bold")
    for title, numbers in counted[:MOST]:
        grid.add_row(escape(" ".join(title.split())), *map(str, numbers))
    if len(counted) > MOST:
        grid.add_row(f"and {len(counted) - MOST} more", *(str(sum(n[place] for _, n in counted[MOST:])) for place in range(4)))
    grid.add_row("samples", *(f"{len(opened.parts[part])}" for part in ("train", "dev", "valid", "test")))
    print_grid(grid)
    echo()
    lines = [*remarks(opened, found)]
    echo("\n".join(lines))
    return any(line.startswith(WRONG) for line in lines)
