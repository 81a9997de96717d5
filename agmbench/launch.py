"""Where jobs run. A launcher is given files of jobs and tells how each ended; it knows nothing of what is in them."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from agmbench import interrupts

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

    Cores are shared: each job has `cores // count` threads. With GPUs, the jobs take turns on them.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.threads = max(1, (os.cpu_count() or 1) // count)

    def run(self, paths: Sequence[Path]) -> Iterator[Ended]:
        context = get_context("forkserver")
        context.set_forkserver_preload(list(IMPORTED_ONCE))
        waiting = list(enumerate(paths))
        running: dict[int, tuple[Any, Path, Connection, Connection, float]] = {}  # by the sentinel of the process
        try:
            while waiting or running:
                while waiting and len(running) < self.count:
                    number, path = waiting.pop(0)
                    said, saying = context.Pipe(duplex=False)
                    watched, alive = context.Pipe(duplex=False)
                    process = context.Process(target=_child, args=(path, self.threads, number, saying, watched), name=path.stem)
                    with _threads(self.threads):
                        process.start()
                    saying.close()
                    watched.close()
                    running[process.sentinel] = (process, path, said, alive, time.monotonic())
                for sentinel in wait(list(running)):
                    process, path, said, alive, begun = running.pop(cast(int, sentinel))
                    process.join()
                    reason = said.recv() if said.poll() else f"its process ended with status {process.exitcode}"
                    said.close()
                    alive.close()
                    yield Ended(path, reason, time.monotonic() - begun)
        finally:
            for process, *_ in running.values():
                process.terminate()
            for process, *_ in running.values():
                process.join()


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


def _child(path: Path, threads: int, number: int, saying: Connection, watched: Connection) -> None:
    """A job in a process of its own: what it prints goes beside its file, and it stops when its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is asked and tells its children
    interrupts.listen()
    threading.Thread(target=_watch, args=(watched,), daemon=True).start()
    with path.with_suffix(".log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        sys.stdout = sys.stderr = log
        try:
            saying.send(work(path, threads, number))
        except KeyboardInterrupt:
            saying.send("interrupted")


def _watch(watched: Connection) -> None:
    try:
        watched.recv()
    except EOFError:
        os.kill(os.getpid(), signal.SIGTERM)


def work(path: Path, threads: int | None = None, number: int = 0) -> str:
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
            device = torch.device("cuda", number % torch.cuda.device_count())
        execute(job_of(path), load(), MlflowTracker(), device, _Log())
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
        print(f"warning: {text}", flush=True)

    def epoch(self, epoch: Any) -> None:
        interrupts.check()
        print(f"epoch {epoch.number}: valid accuracy {epoch.valid['accuracy']:.4f}", flush=True)

    def finished(self, record: Any, trained: bool) -> None:
        print(f"{record.name}: test accuracy {record.metrics['test/accuracy']:.4f}", flush=True)
