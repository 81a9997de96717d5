"""States of an unfinished job. A job that goes on from one ends as if it had never been stopped."""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from agmbench.errors import describe
from agmbench.records import Beyond, Point
from agmbench.whole import whole

NEWEST, BEFORE = "state.pt", "state-before.pt"
JOB = "job"  # the key in a state under which the job's digest stands
SHARE = 0.05  # the largest share of the time that may go into writing states


class Checkpoints:
    """A folder with the newest state of a job and the state before it. A file is written under another name, synced and then renamed.

    `beyond` also keeps the newest state where other machines can reach it. The first `load` asks it for a state that another machine left.
    """

    def __init__(self, folder: Path, digest: str, beyond: Beyond | None = None) -> None:
        self.folder, self.digest = folder, digest
        self._beyond = beyond
        self._fetched = beyond is None
        self.warnings: list[str] = []
        self._written = 0.0  # the time when the last state was written
        self._took = 0.0

    def due(self) -> bool:
        """Whether enough time has passed since the last state: writing may take at most a twentieth of the time."""
        return time.monotonic() - self._written >= self._took / SHARE

    def save(self, state: Mapping[str, Any]) -> None:
        """Make this the newest state."""
        begun = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        newest = self.folder / NEWEST
        with whole(newest) as fresh:
            _write({JOB: self.digest, **state}, fresh)
            if newest.is_file():
                newest.replace(self.folder / BEFORE)
        _sync(self.folder)
        if self._beyond is not None:
            self._beyond.keep(newest)
        self._written = time.monotonic()
        self._took = self._written - begun

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The newest state of this job that can be read. A state that cannot be read, or is of another job, is moved aside, and
        `warnings` names it."""
        if self._beyond is not None and not self._fetched:
            self._beyond.fetch(self.folder / NEWEST)
            self._fetched = True  # only once: a state that was set aside would be fetched again
        for path in (self.folder / NEWEST, self.folder / BEFORE):
            if path.is_file() and (state := self._read(path, device)) is not None:
                return state
        return None

    def _read(self, path: Path, device: torch.device) -> dict[str, Any] | None:
        try:
            state = torch.load(path, map_location=device, weights_only=True)
        except Exception as error:  # torch raises nearly anything for a broken file
            self._set_aside(path, f"cannot be read ({describe(error)})")
            return None
        found = state.get(JOB) if isinstance(state, dict) else None
        if found == self.digest:
            return {name: part for name, part in state.items() if name != JOB}
        of = f"of job {found}" if isinstance(found, str) else "of no job that it names"
        self._set_aside(path, f"is {of}; expected job {self.digest}")
        return None

    def refuse(self, reason: str) -> None:
        """Move the state that `load` gave aside because it does not fit the job, so that the next `load` gives the one before it."""
        path = next(path for path in (self.folder / NEWEST, self.folder / BEFORE) if path.is_file())
        self._set_aside(path, f"does not fit its job ({reason})")

    def _set_aside(self, path: Path, what: str) -> None:
        aside = path.with_suffix(".corrupt")
        path.replace(aside)
        self.warnings.append(f"the checkpoint {path} {what}; it is kept as {aside.name}")

    def clear(self) -> None:
        """Remove all states, because the job is finished or should start from the beginning."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._beyond is not None:
            self._beyond.clear()


def _write(state: Mapping[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def pack(points: Sequence[Point]) -> dict[str, Any]:
    """Turn points into tensors, which are quick to write and safe to read."""
    names = list(dict.fromkeys(point.name for point in points))
    numbers = {name: number for number, name in enumerate(names)}
    return {
        "names": names,
        "name": torch.tensor([numbers[point.name] for point in points], dtype=torch.int64),
        "value": torch.tensor([point.value for point in points], dtype=torch.float64),
        "step": torch.tensor([point.step for point in points], dtype=torch.int64),
    }


def unpack(packed: Mapping[str, Any]) -> list[Point]:
    """The points that `pack` was given."""
    rows = zip(packed["name"].tolist(), packed["value"].tolist(), packed["step"].tolist(), strict=True)
    return [Point(packed["names"][name], value, step) for name, value, step in rows]
