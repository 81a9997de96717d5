"""The report of a suite among the artifacts of the suite's own runs, where the MLflow UI shows it."""

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from agmbench.names import SUITE
from agmbench.registry import load

if TYPE_CHECKING:
    from agmbench.records import Record
    from agmbench.suite import Standing
    from agmbench.trackers.mlflow import MlflowTracker

REPORT, SUMMARY = "report.html", "summary.md"
NOTED = "report.sha256"


def keep(
    name: str,
    title: str,
    said: Sequence[str],
    found: "Standing",
    stored: "Iterable[Record]",
    tracker: "MlflowTracker",
    folder: Path,
) -> None:
    """Keep the report of what is done of a suite with its run in the experiment of each data set, in place of an earlier one.

    `stored`: the runs of the suite's jobs.   `folder`: that of the suite on this machine, where a hash of what the last report was made
    of is noted; as long as that is the same, no report is made.
    """
    from agmbench import measures
    from agmbench.cli.tables import tabled
    from agmbench.report.export import Origin
    from agmbench.report.html import page
    from agmbench.report.render import render
    from agmbench.report.tables import BASELINE
    from agmbench.suite import read

    digests = {one.job.digest for one in found.done if one.job}
    done = [record for record in stored if record.digest in digests]
    registry, origin = load(), Origin(tracker.shown)
    made_of, noted = _hash(title, said, done, f"{origin.version} {origin.commit} {origin.store}"), folder / NOTED
    if not done or (noted.is_file() and noted.read_text(encoding="utf-8") == made_of):
        return
    for dataset in sorted({record.spec["dataset"]["name"] for record in done}):
        records = [record for record in done if record.spec["dataset"]["name"] == dataset]
        tables = tabled(records, registry, cost=True, coalitions=True, beside=read(registry, name).published)
        with (
            tracker.group(dataset, f"suite {name}", {SUITE: name}) as run,
            tempfile.TemporaryDirectory(prefix="agmbench-") as scratch,
        ):
            written, kept = Path(scratch), partial(measures.kept, tracker)
            text = page(tables, tracker.history, BASELINE, title, said, origin, kept)
            (written / REPORT).write_text(text, encoding="utf-8")
            summary = "\n\n".join([f"# {title}", *said, render(tables, "markdown", BASELINE, origin)])
            (written / SUMMARY).write_text(f"{summary}\n", encoding="utf-8")
            run.files(written)
    with suppress(OSError):  # the next command makes it again
        noted.write_text(made_of, encoding="utf-8")


def _hash(title: str, said: Sequence[str], records: "Sequence[Record]", by: str) -> str:
    """A hash of what a report is made of."""
    runs = sorted((one.run_id, one.status, sorted(one.metrics.items())) for one in records)
    return sha256(repr((title, [*said], by, runs)).encode()).hexdigest()
