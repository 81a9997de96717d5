"""What the command line shows of jobs while they are trained."""

import time
from typing import TYPE_CHECKING

from agmbench import interrupts
from agmbench.cli.terminal import echo, lasting

if TYPE_CHECKING:
    from agmbench.records import Record
    from agmbench.train import Epoch


class Watcher:
    """A progress bar on a terminal; elsewhere one line per epoch on standard error, so that a log file shows where a job is.

    quiet: show warnings alone.
    each_epoch: whether there is a line per epoch where there is no terminal; otherwise one per job.
    trained: whether any job was trained.
    """

    def __init__(self, quiet: bool = False, each_epoch: bool = True) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.trained = False
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}"),
        )
        self._bar = Progress(*columns, console=console, disable=quiet or not console.is_terminal)
        self._lines = not quiet and not console.is_terminal
        self._each_epoch = self._lines and each_epoch

    def __enter__(self) -> "Watcher":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def started(self, name: str, epochs: int, done: int) -> None:
        """A job begins, or goes on after so many epochs."""
        self._name, self._epochs, self._done, self._before = name, epochs, done, done
        self._begun = time.monotonic()
        self._task = self._bar.add_task(name, total=epochs, completed=done, now="")
        if done:
            echo(f"'{name}' goes on after epoch {done - 1}", err=True)

    def warned(self, text: str) -> None:
        """Something that its reader should know, and that stops nothing."""
        echo(f"warning: {text}", err=True)

    def epoch(self, epoch: "Epoch") -> None:
        """An epoch is validated."""
        interrupts.check()
        self._done += 1
        now = f"valid {epoch.by} {epoch.valid[epoch.by]:.3f}"
        self._bar.update(self._task, advance=1, now=now)
        if self._each_epoch:
            each = (time.monotonic() - self._begun) / (self._done - self._before)
            left = lasting(each * (self._epochs - self._done))
            echo(f"{self._name}: epoch {self._done} of {self._epochs}, {now}, {left} left", err=True)

    def finished(self, record: "Record", trained: bool) -> None:
        """A job is done, trained now or before."""
        self.trained = trained
        if trained and self._lines:
            echo(f"trained '{record.name}': test {record.figure}", err=True)
