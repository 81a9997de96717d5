"""`--devices N`: starts the processes of one job on this machine, and watches them until all have ended. Torch is imported only by these
processes."""

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from agmbench.ending import leave
from agmbench.errors import RunFailed

GLOO = "GLOO_SOCKET_IFNAME"
INTERRUPTED = 130  # the exit status of a command that was asked to stop
DONE = "done"  # the file that the first rank makes when its work is done; after that, it does not matter how processes end
LOOK = 1.0  # seconds between two looks for that file
GRACE = 30.0  # seconds for the other ranks to notice that one has ended, and again as many before they are killed


def run_ranks(count: int, command: Callable[[Sequence[str]], object], words: Sequence[str]) -> int:
    """Run the command line `command` with these words as `count` ranks; returns the exit status.

    The first rank prints all output and errors. If a rank ends before the first could report it, this raises `RunFailed` with the last line
    of that rank.
    """
    with tempfile.TemporaryDirectory() as folder, _threads(count):
        context = get_context("spawn")
        watched, alive = context.Pipe(duplex=False)
        processes: list[Any] = []
        for rank in range(count):
            said = Path(folder, f"{rank}")
            given = (rank, command, words, _environment(rank, count, folder), said, watched)
            process = context.Process(target=_run_rank, args=given)
            process.start()
            processes.append(process)
        watched.close()
        try:
            lost = _watch(processes, Path(folder, DONE))
        except KeyboardInterrupt:
            processes[0].terminate()  # the other ranks end when the first one does
            _end(processes)
            if not Path(folder, "0").exists():  # the first rank could not report the interruption
                raise
            return INTERRUPTED
        finally:
            for process in processes:
                process.kill()
            alive.close()
        if Path(folder, DONE).exists():  # the job is done, even if its processes had to be ended
            return 0
        status = int(processes[0].exitcode)
        if lost is None:
            return status
        if Path(folder, "0").exists():  # the first rank has reported the error, though it may have been killed since
            return status if status > 0 else RunFailed.exit_code
        raise RunFailed(_epitaph(lost, count, processes[lost].exitcode, Path(folder, f"{lost}")))


def _watch(processes: Sequence[Any], done: Path) -> int | None:
    """Wait until all processes have ended. After one has failed or the first one is done, wait only a short time for the others. Returns
    the rank that failed first, or `None`."""
    failed: list[int] = []
    while not failed and processes[0].exitcode is None and not done.exists():
        wait([process.sentinel for process in processes if process.exitcode is None], timeout=LOOK)
        failed = [rank for rank, process in enumerate(processes) if process.exitcode]
    _end(processes)
    return failed[0] if failed else None


def _end(processes: Sequence[Any]) -> None:
    """Wait until all processes have ended: first by themselves, then after a request to stop, and at last by killing them."""
    for end in (None, "terminate", "kill"):
        for process in processes:
            if end is not None and process.exitcode is None:
                getattr(process, end)()
        deadline = time.monotonic() + GRACE
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))


def _epitaph(rank: int, count: int, status: int, said: Path) -> str:
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    lines = said.read_text(errors="replace").strip().splitlines() if said.is_file() else []
    last = f": {lines[-1].removeprefix('error: ')}" if lines else ""
    return f"process {rank} of the {count} that trained the job {how}{last}"


def _environment(rank: int, count: int, folder: str) -> Mapping[str, str]:
    """The environment variables of a rank, as torchrun sets them. The ranks of one machine communicate over its loopback device."""
    place = {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{count}", "LOCAL_WORLD_SIZE": f"{count}"}
    loopback = {GLOO: os.environ.get(GLOO, "lo")} if sys.platform == "linux" else {}
    return {**place, **loopback, "AGMBENCH_MEETING": f"file://{folder}/meeting"}


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set the number of threads that OpenMP reads when a process starts, so that the ranks share the cores."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = before or str(max(1, (os.cpu_count() or 1) // count))
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]


def _run_rank(
    rank: int,
    command: Callable[[Sequence[str]], object],
    words: Sequence[str],
    environment: Mapping[str, str],
    said: Path,
    watched: Connection,
) -> None:
    """Run the command as one rank. This process ends when the process that started it does, and leaves Ctrl-C to that process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(watched,), daemon=True).start()
    os.environ.update(environment)
    if rank:
        handle = os.open(said, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
    try:
        command(words)
    except SystemExit as end:
        if end.code:
            if rank == 0:
                said.touch()
            leave(int(end.code))
    if rank == 0:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        said.with_name(DONE).touch()
    leave(0)


def _end_with(watched: Connection) -> None:
    """Wait until the other end of the pipe is closed; then ask this process to stop, and kill it if it does not."""
    with suppress(EOFError, OSError):
        watched.recv()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
