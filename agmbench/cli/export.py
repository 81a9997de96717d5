"""`agmbench export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from agmbench.cli.options import Filters, entry_of, filter_options, registry_option, root_option
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import AgmbenchError, allowed, shown
from agmbench.registry import Registry, load

if TYPE_CHECKING:
    from agmbench.records import Record


@click.command("export", cls=Verb)
@click.argument("results", type=click.Path(path_type=Path))
@filter_options
@click.option("--suite", callback=entry_of("suite"), help="Only the jobs of this suite (a name, or the file with its entry).")
@click.option("--scale", help="The scale of the suite. [default: the suite as it stands]")
@root_option
@registry_option
def command(results: Path, suite: str | None, scale: str | None, **given: Unpack[Filters]) -> None:
    """Write finished runs to the folder RESULTS, which others can verify and compare with theirs.

    Each run gets a folder that is named after the digest of its job. It holds the job, the final numbers, the environment, and hashes
    of the predictions. The runs of the unimodal models that a run is compared with are exported too. Exporting the same runs again
    gives the same files.
    """
    from agmbench.cli.tables import chosen, wanted_of
    from agmbench.leaderboard.collect import results as collected
    from agmbench.leaderboard.collect import with_references
    from agmbench.leaderboard.folder import write
    from agmbench.protocol import noted
    from agmbench.records import FINISHED
    from agmbench.trackers.mlflow import MlflowTracker

    registry, tracker, dataset = load(), MlflowTracker(), given["dataset"]
    if scale is not None and suite is None:
        raise AgmbenchError("--scale needs a suite; name the suite with --suite NAME")
    stored = tracker.records(registry.get("dataset", dataset).name if dataset else None)
    found = [one for one in stored if one.status == FINISHED and not one.concept and (given["samples"] or not one.sample)]
    if not found:
        raise AgmbenchError(
            f"no finished runs{f' on {dataset}' if dataset else ''} in {tracker.shown}; make one with: agmbench run"
        )
    found = _by(given["modulators"], chosen(found, registry, wanted_of(given, ())), registry)
    if suite is not None:
        digests = _digests(registry, suite, scale)
        found = [record for record in found if record.digest in digests]
    runs = [record if record.departures is not None else noted(record, registry) for record in with_references(found, stored)]
    made, left_out = collected(runs, tracker)
    for text in left_out:
        echo(f"left out: {text}", err=True)
    if not made:
        raise AgmbenchError("no run is left to export; agmbench compare shows which runs there are")
    written = write(made, results)
    echo(f"wrote {shown(results)}: {len(made)} result{'s' * (len(made) > 1)}; sha256 of manifest.json: {written.sha256}")


def _by(modulators: tuple[str, ...], records: "list[Record]", registry: Registry) -> "list[Record]":
    """The runs of the named modulators; all runs if no modulator is named."""
    names = {registry.spelling("modulator", name) for name in modulators}
    there = {record.spec["modulator"]["name"] for record in records}
    for name in names - there:
        raise AgmbenchError(f"no finished runs of modulator '{name}' here: {allowed(name, there)}")
    return [record for record in records if not names or record.spec["modulator"]["name"] in names]


def _digests(registry: Registry, suite: str, scale: str | None) -> set[str]:
    """The digests of the jobs of a suite."""
    from agmbench.suite import plan, read

    return {one.job.digest for one in plan(read(registry, suite), registry, scale) if one.job}
