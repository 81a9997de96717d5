"""The run of a suite in the experiment of a data set. It is the parent of the runs of its jobs, and has the suite's plan and report."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from agmbench.names import SUITE
from agmbench.records import Run, Tracker


def tags(name: str) -> dict[str, str]:
    """The tags by which the runs of the suite `name` are found, one for each data set."""
    return {SUITE: name}


def group(tracker: Tracker, dataset: str, name: str) -> Run:
    """The run of the suite `name` in the experiment of a data set; it is made if there is none."""
    return tracker.group(dataset, f"suite {name}", tags(name))


def keep_texts(run: Run, texts: Mapping[str, str]) -> None:
    """Keep texts as artifacts of a run, by the names of their files."""
    with tempfile.TemporaryDirectory(prefix="agmbench-") as scratch:
        for file, text in texts.items():
            Path(scratch, file).write_text(text, encoding="utf-8")
        run.log_files(Path(scratch))
