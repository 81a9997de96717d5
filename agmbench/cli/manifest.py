"""`agmbench data manifest`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agmbench.cli.own_table import opened_table, show
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import AgmbenchError, allowed, shown
from agmbench.registry import load

if TYPE_CHECKING:
    from agmbench.datasets.tables.manifests import Manifest


@click.command("manifest", cls=Verb)
@click.argument("name", required=False)
@click.option("--from", "source", metavar="DIR", help="Folder of the official files, as they were downloaded.")
@click.option("--force", is_flag=True, help="Overwrite an existing table and entry.")
def manifest(name: str | None, source: str | None, force: bool) -> None:
    """Make a table and an entry of a data set that papers use.

    They are made from the official files and lists of the data set. Without NAME, the command lists the data sets for which this is
    possible.
    """
    from agmbench.contracts import Unsuitable
    from agmbench.datasets.tables.manifests import KNOWN, build

    if name is None:
        for known, one in KNOWN.items():
            echo(f"{known}: {one.summary}; {one.page}")
        return
    if name not in KNOWN:
        raise AgmbenchError(
            f"no manifest is known for '{name}': {allowed(name, KNOWN)} For a table of your own, use 'agmbench data describe'"
        )
    if source is None:
        raise AgmbenchError(f"--from DIR is needed: the folder with the official files of {name} ({KNOWN[name].page})")
    if not Path(source).is_dir():
        raise AgmbenchError(f"--from {source}: there is no such folder")
    try:
        made = build(name, Path(source))
    except (Unsuitable, KeyError, TypeError, ValueError) as error:
        said = f"the files of {name} are not as expected ({error!r})" if not isinstance(error, Unsuitable) else str(error)
        raise AgmbenchError(said) from error
    table, entry = Path(source) / f"{name}.table.csv", Path(source) / f"{name}.yaml"
    for path in (table, entry):
        if path.exists() and not force:
            raise AgmbenchError(f"{path} already exists; overwrite it with --force")
    _write(table, entry, made)


def _write(table: Path, entry: Path, made: "Manifest") -> None:
    import pandas as pd

    from agmbench.data.describe import entry as text_of
    from agmbench.data.describe import entry_name, first_run

    try:
        pd.DataFrame(made.rows).to_csv(table, index=False)
        opened = opened_table(table.absolute(), dict(made.settings))
        show(opened)
        entry.write_text(text_of(opened, entry_name(entry, load().names("dataset")), table.absolute().parent), encoding="utf-8")
    except OSError as error:
        raise AgmbenchError(
            f"{table.parent} cannot be written ({error.strerror}); link its files into a folder that you can write, and name that one"
        ) from error
    for note in made.notes:
        echo(f"note: {note}")
    echo(f"\nwrote {shown(table)} and {shown(entry)}; next: {first_run(opened, shlex.quote(shown(entry)))}")
