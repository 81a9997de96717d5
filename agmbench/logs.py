"""What a job reports while it is trained: as lines of text or of JSON, and as the file `log.txt` of its run."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class ValidatedEpoch(Protocol):
    """An epoch, as the training loop yields it."""

    @property
    def number(self) -> int: ...
    @property
    def valid(self) -> Mapping[str, float]: ...


def line(event: str, **about: Any) -> str:
    """One event as a line of JSON: its time, its name and its details."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return json.dumps({"time": now, "event": event, **about}, default=str)


def numbers(epoch: ValidatedEpoch) -> str:
    """Every number of an epoch on valid, on one line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in sorted(epoch.valid.items()))


class Log:
    """Keeps the lines that a job reports, with the time of each."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def say(self, text: str) -> None:
        """Keep one line."""
        self._lines.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")

    def epoch(self, epoch: ValidatedEpoch, epochs: int) -> None:
        """Keep a line with the numbers of an epoch on valid."""
        self.say(f"epoch {epoch.number + 1} of {epochs}: valid {numbers(epoch)}")

    def save(self, path: Path) -> None:
        """Write all lines to a file."""
        path.write_text("".join(f"{text}\n" for text in self._lines), encoding="utf-8")
