"""`--devices N`: the processes of one job on this machine, watched until all have ended. No torch here: each of them brings its own."""

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
DONE = "done"  # the file of the first, once its work is done: how a process ends does not matter then
LOOK = 1.0  # seconds between two looks for it
GRACE = 30.0  # seconds in which the others should notice that one has ended, and as many until they are killed


def started(count: int, command: Callable[[Sequence[str]], object], words: Sequence[str]) -> int:
    """Run the command line, `command`, with these words as `count` ranks; the exit status.

    What there is to say the first of them says; of one that ended before it could, the last line is raised here.
    """
    with tempfile.TemporaryDirectory() as folder, _threads(count):
        context = get_context("spawn")
        watched, alive = context.Pipe(duplex=False)
        processes: list[Any] = []
        for rank in range(count):
            said = Path(folder, f"{rank}")
            given = (rank, command, words, _environment(rank, count, folder), said, watched)
            process = context.Process(target=_rank, args=given)
            process.start()
            processes.append(process)
        watched.close()
        try:
            lost = _watched(processes, Path(folder, DONE))
        except KeyboardInterrupt:
            processes[0].terminate()  # who ends the others by ending
            _ended(processes)
            if not Path(folder, "0").exists():  # it could say nothing
                raise
            return INTERRUPTED
        finally:
            for process in processes:
                process.kill()
            alive.close()
        if Path(folder, DONE).exists():  # it is done, even if it had to be ended
            return 0
        status = int(processes[0].exitcode)
        if lost is None:
            return status
        if Path(folder, "0").exists():  # it has said what went wrong, though it may have been killed since
            return status if status > 0 else RunFailed.exit_code
        raise RunFailed(_epitaph(lost, count, processes[lost].exitcode, Path(folder, f"{lost}")))


def _watched(processes: Sequence[Any], done: Path) -> int | None:
    """Wait until all have ended: once one has failed or the first is done, not long for the others. Which failed first, if one did."""
    failed: list[int] = []
    while not failed and processes[0].exitcode is None and not done.exists():
        wait([process.sentinel for process in processes if process.exitcode is None], timeout=LOOK)
        failed = [rank for rank, process in enumerate(processes) if process.exitcode]
    _ended(processes)
    return failed[0] if failed else None


def _ended(processes: Sequence[Any]) -> None:
    """Have all of them ended: of themselves, asked to, or killed."""
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
    """As torchrun has it; on one machine they talk over its loopback device."""
    place = {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{count}", "LOCAL_WORLD_SIZE": f"{count}"}
    loopback = {GLOO: os.environ.get(GLOO, "lo")} if sys.platform == "linux" else {}
    return {**place, **loopback, "AGMBENCH_MEETING": f"file://{folder}/meeting"}


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """The cores are shared; what OpenMP reads when a process starts."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = before or str(max(1, (os.cpu_count() or 1) // count))
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]


def _rank(
    rank: int,
    command: Callable[[Sequence[str]], object],
    words: Sequence[str],
    environment: Mapping[str, str],
    said: Path,
    watched: Connection,
) -> None:
    """One of them: it ends with whoever started it, and leaves Ctrl-C to that."""
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
    """Once the other end is closed: ask this process to stop, and end it if it does not."""
    with suppress(EOFError, OSError):
        watched.recv()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
