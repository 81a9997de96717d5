"""What the command line shows about jobs while they are trained."""

import time
from typing import TYPE_CHECKING

from agmbench import interrupts
from agmbench.cli.terminal import echo, lasting
from agmbench.logs import line, numbers

if TYPE_CHECKING:
    from agmbench.records import Record
    from agmbench.train import Epoch


class Watcher:
    """An observer that shows a progress bar on a terminal; elsewhere one line per epoch on standard error, so that a log file shows how far
    a job is.

    quiet: show only warnings.
    each_epoch: whether lines are shown for every epoch, or only for every job.
    verbose: show a line per epoch on a terminal, too, with every number on valid.   as_json: show lines of JSON, and no bar.
    trained: whether the last job was trained now.
    """

    def __init__(self, quiet: bool = False, each_epoch: bool = True, verbose: bool = False, as_json: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.trained = False
        self._name = ""
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
        self._bar = Progress(*columns, console=console, disable=quiet or as_json or not console.is_terminal)
        self._lines = not quiet and (as_json or verbose or not console.is_terminal)
        self._verbose, self._json = verbose, as_json
        self._each_epoch = self._lines and each_epoch

    def _event(self, event: str, **about: object) -> None:
        echo(line(event, **{"job": self._name, **about}), err=True)

    def __enter__(self) -> "Watcher":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def started(self, name: str, epochs: int, done: int) -> None:
        """Called when a job begins, or goes on after `done` epochs."""
        self._name, self._epochs, self._done, self._before = name, epochs, done, done
        self._begun = time.monotonic()
        self._task = self._bar.add_task(name, total=epochs, completed=done, now="")
        if self._json and self._lines:
            self._event("started", epochs=epochs, done=done)
        elif done:
            echo(f"'{name}' goes on after epoch {done} of {epochs}", err=True)

    def warned(self, text: str) -> None:
        """Show something that the user should know and that does not stop the job."""
        if self._json:
            self._event("warning", text=text)
        else:
            echo(f"warning: {text}", err=True)

    def epoch(self, epoch: "Epoch") -> None:
        """Called when an epoch is validated."""
        interrupts.check()
        self._done += 1
        now = f"valid {epoch.by} {epoch.valid[epoch.by]:.3f}"
        self._bar.update(self._task, advance=1, now=now)
        if self._each_epoch and self._json:
            self._event("epoch", epoch=self._done, epochs=self._epochs, by=epoch.by, valid=dict(epoch.valid))
        elif self._each_epoch:
            each = (time.monotonic() - self._begun) / (self._done - self._before)
            left = lasting(each * (self._epochs - self._done))
            shown = f"valid {numbers(epoch)}" if self._verbose else now
            echo(f"{self._name}: epoch {self._done} of {self._epochs}, {shown}, {left} left", err=True)

    def finished(self, record: "Record", trained: bool) -> None:
        """Called when a job is done, whether it was trained now or before."""
        self.trained = trained
        if self._json and self._lines:
            figure, _, value = record.figure.partition(" ")
            self._event("finished", job=record.name, run=record.run_id, trained=trained, **{f"test {figure}": value})
        elif trained and self._lines:
            echo(f"trained '{record.name}': test {record.figure}", err=True)
