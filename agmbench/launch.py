"""Where jobs run. A launcher is given files of jobs and tells how each ended; it knows nothing of what is in them."""

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from agmbench import interrupts
from agmbench.errors import printable

IMPORTED_ONCE = ("agmbench.execute", "agmbench.trackers.mlflow")


class Ended(NamedTuple):
    """A job's file, why it failed (empty if it did not), and how many seconds it took."""

    path: Path
    reason: str
    seconds: float


class Launcher(Protocol):
    """Runs jobs, by `agmbench.launch.work(path)` in a process that reaches the store and the data."""

    def run(self, paths: Sequence[Path]) -> Iterator[Ended]:
        """Each job as it ends. Left early, the others are stopped."""


class LocalProcesses:
    """At most `count` jobs at once on this machine, each in a process of its own, forked from one that has imported once.

    Cores are shared: each job has `cores // count` threads. So are GPUs: each of the `count` places has one.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.threads = max(1, (os.cpu_count() or 1) // count)

    def run(self, paths: Sequence[Path]) -> Iterator[Ended]:
        context = get_context("forkserver")
        context.set_forkserver_preload(list(IMPORTED_ONCE))
        waiting, places = deque(paths), deque(range(self.count))
        running: dict[int, _Running] = {}  # by the sentinel of the process
        try:
            while waiting or running:
                while waiting and places:
                    started = self._started(waiting.popleft(), places.popleft(), context)
                    running[started.process.sentinel] = started
                for sentinel in wait(list(running)):
                    ended = running.pop(cast(int, sentinel))
                    places.append(ended.place)
                    yield ended.result()
        finally:
            for one in running.values():
                one.process.terminate()
            for one in running.values():
                one.process.join()

    def _started(self, path: Path, place: int, context: Any) -> "_Running":
        said, saying = context.Pipe(duplex=False)
        watched, alive = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(path, self.threads, place, saying, watched), name=path.stem)
        with _threads(self.threads):
            process.start()
        saying.close()
        watched.close()
        return _Running(process, path, place, said, alive, time.monotonic())


class _Running(NamedTuple):
    """A job's process; `alive` is closed when this one is gone, however it ends."""

    process: Any
    path: Path
    place: int
    said: Connection
    alive: Connection
    begun: float

    def result(self) -> Ended:
        self.process.join()
        try:
            reason = str(self.said.recv())
        except EOFError:
            reason = f"its process ended with status {self.process.exitcode}"
        self.said.close()
        self.alive.close()
        return Ended(self.path, reason, time.monotonic() - self.begun)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """What OpenMP reads when a process starts; jobs with more threads than cores wait for one another."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = before or str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]


def _child(path: Path, threads: int, place: int, saying: Connection, watched: Connection) -> None:
    """A job in a process of its own: what it prints goes beside its file, and it stops when its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is asked and tells its children
    interrupts.listen()
    threading.Thread(target=_watch, args=(watched,), daemon=True).start()
    with path.with_suffix(".log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        sys.stdout = sys.stderr = log
        try:
            reason = work(path, threads, place)
        except KeyboardInterrupt:
            reason = "interrupted"
        with suppress(BrokenPipeError):  # the parent is gone
            saying.send(reason)


def _watch(watched: Connection) -> None:
    try:
        watched.recv()
    except EOFError:
        os.kill(os.getpid(), signal.SIGTERM)


def work(path: Path, threads: int | None = None, place: int = 0) -> str:
    """Run the job of a file, in the store that the working directory or the environment names; why it failed, or nothing."""
    import torch

    from agmbench import build
    from agmbench.errors import AgmbenchError, describe
    from agmbench.execute import execute
    from agmbench.jobs import job_of
    from agmbench.registry import load
    from agmbench.trackers.mlflow import MlflowTracker

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        device = build.device("auto")
        if device.type == "cuda":
            device = torch.device("cuda", place % torch.cuda.device_count())
        spec, parent, wait = job_of(path)
        execute(spec, load(), MlflowTracker(), device, _Log(), parent=parent, wait=wait)
    except AgmbenchError as error:
        return str(error)
    except Exception as error:
        return describe(error)
    return ""


class _Log:
    """An observer that writes lines."""

    def started(self, name: str, epochs: int, done: int) -> None:
        print(f"{name}: epochs {done} to {epochs}", flush=True)

    def warned(self, text: str) -> None:
        print(f"warning: {printable(text)}", flush=True)

    def epoch(self, epoch: Any) -> None:
        interrupts.check()
        print(f"epoch {epoch.number}: valid {epoch.by} {epoch.valid[epoch.by]:.4f}", flush=True)

    def finished(self, record: Any, trained: bool) -> None:
        print(f"{record.name}: test {record.figure}", flush=True)
