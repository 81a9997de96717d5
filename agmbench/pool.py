"""The pool of processes for tasks on this machine. Each task has a process of its own, forked from one that has done the imports."""

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple, cast

from agmbench import interrupts
from agmbench.errors import AgmbenchError
from agmbench.launch import INTERRUPTED, Ended, Task, enter, environment, limit_threads, perform

IMPORTED_ONCE = (
    "__main__",
    "agmbench.work",
    "torch._dynamo",
)  # torch imports the last one when FLOPs are counted, which would take a second in each process


class Pool:
    """Runs at most as many tasks at once as there are `places`. A place is the environment variables that its task gets in addition to the
    `variables` of all tasks.

    threads: their number in each task.   folder: where the output of each task is written, as `<key>.log`.   home: the working directory
    of the tasks.
    """

    def __init__(
        self,
        places: Sequence[Mapping[str, str]],
        threads: int,
        folder: Path,
        variables: Mapping[str, str] | None = None,
        home: str | None = None,
    ) -> None:
        self.places, self.threads, self.folder = places, threads, folder
        self.variables = environment() if variables is None else variables
        self.home = home or os.getcwd()

    def run(self, tasks: Sequence[Task]) -> Iterator[Ended]:
        """Run the tasks, and yield each as soon as it has ended. If the generator is closed early, the other tasks are asked to stop and
        waited for."""
        context = get_context("forkserver")
        context.set_forkserver_preload(list(IMPORTED_ONCE))
        self.folder.mkdir(parents=True, exist_ok=True)
        waiting, free = deque(tasks), deque(range(len(self.places)))
        running: dict[int, _Running] = {}  # by the sentinel of its process
        try:
            while waiting or running:
                while waiting and free:
                    started = self._started(waiting.popleft(), free.popleft(), context)
                    running[started.process.sentinel] = started
                for sentinel in wait(list(running)):
                    ended = running.pop(cast(int, sentinel))
                    free.append(ended.place)
                    yield ended.result()
        finally:
            for one in running.values():
                one.process.terminate()
            for one in running.values():
                one.process.join()

    def _started(self, task: Task, place: int, context: Any) -> "_Running":
        said, saying = context.Pipe(duplex=False)
        watched, alive = context.Pipe(duplex=False)
        there = {**self.variables, **self.places[place]}
        given = (task, self.threads, there, self.home, (self.folder / f"{task.key}.log").absolute(), saying, watched)
        process = context.Process(target=_child, args=given, name=task.key)
        with _threads(self.threads):
            process.start()
        saying.close()
        watched.close()
        return _Running(process, task, place, said, alive, time.monotonic())


class _Running(NamedTuple):
    """A task and its process. `alive` is this process's end of a pipe: it closes however this process ends, and the task then stops."""

    process: Any
    task: Task
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
        return Ended(self.task, reason, time.monotonic() - self.begun)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set the number of threads that OpenMP reads when the first process starts, unless the user has set it."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = before or str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]


def _child(
    task: Task, threads: int, variables: Mapping[str, str], home: str, log: Path, saying: Connection, watched: Connection
) -> None:
    """Perform a task in this new process: its output goes to its log, and it stops when its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which stops its children
    reason = INTERRUPTED
    with suppress(KeyboardInterrupt):
        interrupts.listen()
        threading.Thread(target=_watch, args=(watched,), daemon=True).start()
        written = log.open("w")
        os.dup2(written.fileno(), 1)
        os.dup2(written.fileno(), 2)
        sys.stdout = sys.stderr = written
        try:
            enter(variables, home)
            limit_threads(threads)
            reason = perform(task)
        except AgmbenchError as error:
            reason = str(error)
    sys.stdout.flush()
    with suppress(BrokenPipeError):  # the parent is gone
        saying.send(reason)


def _watch(watched: Connection) -> None:
    try:
        watched.recv()
    except EOFError:
        os.kill(os.getpid(), signal.SIGTERM)
