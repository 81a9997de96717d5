"""Who watches jobs while they are trained."""

from typing import Protocol

from agmbench.records import Record
from agmbench.train import Epoch


class Observer(Protocol):
    """Whoever wants to watch jobs: the command line's progress bar, a test, nobody."""

    def started(self, name: str, epochs: int, done: int) -> None: ...
    def warned(self, text: str) -> None: ...
    def epoch(self, epoch: Epoch) -> None: ...
    def finished(self, record: Record, trained: bool) -> None: ...
