"""The report of a suite among the artifacts of the suite's own runs, where the MLflow UI shows it."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agmbench.registry import load

if TYPE_CHECKING:
    from agmbench.suite import Progress
    from agmbench.trackers.mlflow import MlflowTracker

REPORT, SUMMARY = "report.html", "summary.md"


def keep(name: str, title: str, said: Sequence[str], found: "Progress", tracker: "MlflowTracker") -> None:
    """Keep the report of what is done of a suite with its run in the experiment of each data set, in place of an earlier one."""
    from agmbench.cli.tables import tabled
    from agmbench.report.export import Origin
    from agmbench.report.html import page
    from agmbench.report.render import render
    from agmbench.report.tables import BASELINE
    from agmbench.suite import read

    digests = {one.job.digest: one.job.spec.dataset.name for one in found.done if one.job}
    registry, origin = load(), Origin(tracker.shown)
    for dataset in sorted({*digests.values()}):
        records = [record for record in tracker.records(dataset) if record.digest in digests]
        tables = tabled(records, registry, cost=True, coalitions=True, beside=read(registry, name).published)
        with (
            tracker.group(dataset, f"suite {name}", {"agmbench.suite": name}) as run,
            tempfile.TemporaryDirectory(prefix="agmbench-") as scratch,
        ):
            folder = Path(scratch)
            (folder / REPORT).write_text(page(tables, tracker.history, BASELINE, title, said, origin), encoding="utf-8")
            summary = "\n\n".join([f"# {title}", *said, render(tables, "markdown", BASELINE, origin)])
            (folder / SUMMARY).write_text(f"{summary}\n", encoding="utf-8")
            run.files(folder)
