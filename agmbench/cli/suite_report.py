"""Keeps the report of a suite among the artifacts of the suite's own runs, where the MLflow UI shows it."""

from collections.abc import Iterable, Sequence
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

from agmbench.registry import load

if TYPE_CHECKING:
    from agmbench.records import Record
    from agmbench.suite import Standing
    from agmbench.trackers.mlflow import MlflowTracker

REPORT, SUMMARY = "report.html", "summary.md"
NOTED = "report.sha256"  # a file beside the report with a hash of everything from which it was made


def keep(
    name: str,
    title: str,
    said: Sequence[str],
    found: "Standing",
    stored: "Iterable[Record]",
    tracker: "MlflowTracker",
) -> None:
    """Keep a report of a suite's finished jobs with the suite's run in the experiment of each data set. It replaces an earlier report,
    unless that shows the same. `stored` are the runs of the suite's jobs."""
    from agmbench import measures
    from agmbench.cli.tables import tabled
    from agmbench.report.export import Origin
    from agmbench.report.html import page
    from agmbench.report.render import render
    from agmbench.report.tables import BASELINE
    from agmbench.suite import read
    from agmbench.suite.group import group, keep_texts, tags

    digests = {one.job.digest for one in found.done if one.job}
    done = [record for record in stored if record.digest in digests]
    registry, origin = load(), Origin(tracker.shown)
    for dataset in sorted({record.spec["dataset"]["name"] for record in done}):
        records = [record for record in done if record.spec["dataset"]["name"] == dataset]
        made_of = _hash(title, said, records, f"{origin.version} {origin.commit}")
        if tracker.of_group(dataset, tags(name), NOTED) == made_of:
            continue
        tables = tabled(records, registry, cost=True, coalitions=True, beside=read(registry, name).published)
        text = page(tables, tracker.history, BASELINE, title, said, origin, partial(measures.load_outcomes, tracker))
        summary = "\n\n".join([f"# {title}", *said, render(tables, "markdown", BASELINE, origin)])
        with group(tracker, dataset, name) as run:
            keep_texts(run, {REPORT: text, SUMMARY: f"{summary}\n"})
            keep_texts(run, {NOTED: made_of})  # only after the report is kept


def _hash(title: str, said: Sequence[str], records: "Sequence[Record]", by: str) -> str:
    """A hash of everything from which a report is made, without the store's address, which may differ between machines."""
    runs = sorted((one.run_id, one.status, sorted(one.metrics.items())) for one in records)
    return sha256(repr((title, [*said], by, runs)).encode()).hexdigest()
