"""The launcher `ray`: a Ray cluster that is already running (`pip install 'agmbench[ray]'`)."""

import logging
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from annotated_types import Ge, Gt

from agmbench.errors import AgmbenchError, describe
from agmbench.launch import PLACE, Ended, Launcher, Task, environment
from agmbench.pool import Pool

LOOK = 5  # the longest wait in seconds for tasks to end, so that interrupts are noticed
LOG = 2**20  # how many of the last bytes of a task's output are sent back


class Ray(Launcher):
    """Each job is a Ray task, on any node that has room; inside Ray's worker process each job has a process of its own.

    A job whose worker process or node dies is tried again on another one, and goes on from its last state. The environment is sent with the
    arguments of the task, so it is on no command line. When this command ends, Ray ends its jobs.

    Ray counts cores and GPUs and sets CUDA_VISIBLE_DEVICES; `gpus_per_job` below 1, such as 0.5, lets jobs share a GPU.

    jobs: how many jobs run at once. Default: as many as the cluster has room for.
    gpus_per_job: GPUs for each job, as Ray counts them.
    cpus_per_job: cores, and so threads, for each job.
    address: the head of the cluster, HOST:PORT or ray://HOST:PORT. Default: RAY_ADDRESS, or the cluster of this machine.
    retries: how often a job is tried again after its worker process or node died.
    timeout: seconds within which the cluster has to answer.
    """

    def __init__(
        self,
        folder: Path,
        store: str,
        *,
        jobs: Annotated[int, Ge(1)] | None = None,
        gpus_per_job: Annotated[float, Ge(0)] = 0,
        cpus_per_job: Annotated[int, Ge(1)] = 1,
        address: str | None = None,
        retries: Annotated[int, Ge(0)] = 10,
        timeout: Annotated[float, Gt(0)] = 60,
    ) -> None:
        super().__init__(folder, store)
        self.jobs, self.retries, self.timeout = jobs, retries, timeout
        self.gpus_per_job, self.cpus_per_job = gpus_per_job, cpus_per_job
        self.address = address or os.environ.get("RAY_ADDRESS") or "auto"

    def check(self) -> None:
        ray = _imported()
        host, colon, port = self.address.rpartition("://")[2].rpartition(":")
        if self.address != "auto":
            if not (colon and port.isdigit()):
                raise AgmbenchError(f"--launch address={self.address}: expected HOST:PORT of the head of a Ray cluster")
            try:
                socket.create_connection((host.strip("[]"), int(port)), self.timeout).close()
            except (OSError, OverflowError) as error:
                raise AgmbenchError(f"--launcher ray: {self.address} does not answer ({describe(error)})") from error
        self._connect(ray)

    def _connect(self, ray: Any) -> None:
        """Connect to the cluster as a driver. Ray waits for minutes for a cluster that does not answer, so this happens in a thread that
        can be abandoned."""
        if ray.is_initialized():
            return
        refused: list[BaseException] = []

        def join() -> None:
            try:
                ray.init(address=self.address, log_to_driver=False, logging_level=logging.CRITICAL)
            except (Exception, SystemExit) as error:
                refused.append(error)

        with redirect_stdout(sys.stderr):  # standard output is only for results
            asked = threading.Thread(target=join, daemon=True)
            asked.start()
            asked.join(self.timeout)
        if asked.is_alive():
            raise AgmbenchError(
                f"--launcher ray: the cluster {self.address} does not answer within {self.timeout:g} seconds; see whether it "
                "runs (ray status), or name another: --launch address=HOST:6379"
            )
        if refused:
            raise AgmbenchError(
                f"--launcher ray: the cluster {self.address} cannot be joined ({describe(refused[0])}); start one (ray start "
                "--head), or name its head: --launch address=HOST:6379"
            )

    def run(self, tasks: Sequence[Task]) -> Iterator[Ended]:
        ray = _imported()
        self._connect(ray)
        self.folder.mkdir(parents=True, exist_ok=True)
        resources = {"num_cpus": self.cpus_per_job, "num_gpus": self.gpus_per_job, "max_retries": self.retries}
        work = ray.remote(**resources)(_work)
        variables = ray.put(environment())
        waiting, running = list(reversed(tasks)), dict[Any, tuple[Task, str, float]]()
        try:
            while waiting or running:
                while waiting and (self.jobs is None or len(running) < self.jobs):
                    task = waiting.pop()
                    place = f"ray-{uuid4().hex}"
                    one = work.remote(task, variables, place, os.getcwd(), self.cpus_per_job)
                    running[one] = task, place, time.monotonic()
                for one in ray.wait(list(running), timeout=LOOK)[0]:
                    task, place, begun = running.pop(one)
                    try:
                        reason, log, seconds = ray.get(one)
                    except Exception as error:  # the worker process died too often, or Ray itself failed
                        reason, log, seconds = f"Ray: {describe(error)}", "", time.monotonic() - begun
                    (self.folder / f"{task.key}.log").write_text(log, encoding="utf-8")
                    yield Ended(task, reason, seconds, place)
        finally:
            for one in running:
                ray.cancel(one, force=True)


def _imported() -> Any:
    try:
        import ray
    except ImportError as error:
        raise AgmbenchError("--launcher ray needs the package ray: pip install 'agmbench[ray]'") from error
    return ray


def _work(task: Task, variables: Mapping[str, str], place: str, home: str, threads: int) -> tuple[str, str, float]:
    """Perform a task in Ray's worker process; returns why it failed, its output, and how many seconds it took. If this process dies, the
    task stops."""
    chosen = {name: value for name, value in os.environ.items() if name == "CUDA_VISIBLE_DEVICES"}  # set by Ray
    with tempfile.TemporaryDirectory() as folder:
        (ended,) = Pool([{**chosen, PLACE: place}], threads, Path(folder), variables, home).run([task])
        log = Path(folder, f"{task.key}.log").read_bytes()[-LOG:]
    return ended.reason, log.decode("utf-8", "replace"), ended.seconds
