"""A job of a suite as a task of a launcher: runs a job that is given as a text."""

from typing import Any

from agmbench import build, interrupts
from agmbench.errors import printable
from agmbench.execute import execute
from agmbench.jobs import job_in
from agmbench.records import Label
from agmbench.registry import load
from agmbench.trackers.mlflow import MlflowTracker


def job(text: str) -> str:
    """Run the job that the text describes, in the store that the environment or the working directory determines. With CUDA it runs on the
    first visible device; the launcher chooses that by CUDA_VISIBLE_DEVICES. Always returns an empty text, as failures raise."""
    spec, parent, wait, tags = job_in(text, "the text of the job")
    label = Label(tags=tags)
    execute(spec, load(), MlflowTracker(), build.device("auto"), _Log(), parent=parent, wait=wait, label=label)
    return ""


class _Log:
    """An observer that prints a line for each event."""

    def started(self, name: str, epochs: int, done: int) -> None:
        print(f"{name}: epochs {done} to {epochs}", flush=True)

    def warned(self, text: str) -> None:
        print(f"warning: {printable(text)}", flush=True)

    def epoch(self, epoch: Any) -> None:
        interrupts.check()
        print(f"epoch {epoch.number}: valid {epoch.by} {epoch.valid[epoch.by]:.4f}", flush=True)

    def finished(self, record: Any, trained: bool) -> None:
        print(f"{record.name}: test {record.figure}", flush=True)
