"""`agmbench import`."""

import tempfile
from pathlib import Path

import click

from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import shown


@click.command("import", cls=Verb)
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the source, shown in the rows of tables. [default: the name of the folder]")
def command(results: Path, name: str | None) -> None:
    """Read the folder RESULTS that someone else exported, verify it, and keep its runs in the store for agmbench compare.

    Imported runs have the tag agmbench.imported, and never count as jobs that were done here. To compare without keeping anything, use
    agmbench compare --from RESULTS.
    """
    from agmbench.leaderboard.folder import name_of, named, read
    from agmbench.trackers.mlflow import MlflowTracker

    folder = read(results, name_of(name) if name else next(iter(named([results]))))
    tracker, new = MlflowTracker(), 0
    for record in folder.records():
        with tempfile.TemporaryDirectory(prefix="agmbench-") as copy:
            folder.copy(record.digest, Path(copy))
            new += tracker.adopt(record, Path(copy), folder.sealed(record.digest))
    known = len(folder.results) - new
    also = f"; {known} were imported before" if known else ""
    echo(f"imported {new} result{'s' * (new != 1)} of {shown(results)} as '{folder.name}'{also}")
