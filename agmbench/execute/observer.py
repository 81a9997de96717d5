"""The interface of whatever watches jobs while they are trained."""

from typing import Protocol

from agmbench.records import Record
from agmbench.train import Epoch


class Observer(Protocol):
    """Is told about the progress of jobs; for example the progress bar of the command line."""

    def started(self, name: str, epochs: int, done: int) -> None: ...
    def warned(self, text: str) -> None: ...
    def epoch(self, epoch: Epoch) -> None: ...
    def finished(self, record: Record, trained: bool) -> None: ...
