"""The launcher `local`: processes on this machine."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from agmbench.errors import AgmbenchError
from agmbench.launch import Ended, Launcher, Task
from agmbench.pool import Pool

VISIBLE = "CUDA_VISIBLE_DEVICES"
MPS = "CUDA_MPS_PIPE_DIRECTORY"


class Local(Launcher):
    """Several jobs at once on this machine, each in its own process, forked from one that has already imported everything.

    The machine is divided into slots. Each slot has `gpus_per_job` GPUs (through CUDA_VISIBLE_DEVICES; if this variable is already
    set, only the GPUs that it names are used) and `cpus_per_job` threads. A job uses the first GPU of its slot, as `cuda:0`.

    jobs: how many jobs run at once. Default: as many as there are GPUs for; without GPUs, as many as there are cores for if
        `cpus_per_job` is given, and otherwise one.
    gpus_per_job: GPUs for each job. Default: one, if the machine has any.
    jobs_per_gpu: how many jobs share a GPU. They take turns on it; with NVIDIA's MPS (`nvidia-cuda-mps-control -d`) they run side by
        side. Default: only as many as `jobs` needs.
    cpus_per_job: threads of each job. Default: the cores divided by the number of jobs at once.
    """

    def __init__(
        self,
        folder: Path,
        store: str,
        *,
        jobs: Annotated[int, Ge(1)] | None = None,
        gpus_per_job: Annotated[int, Ge(0)] | None = None,
        jobs_per_gpu: Annotated[int, Ge(1)] | None = None,
        cpus_per_job: Annotated[int, Ge(1)] | None = None,
    ) -> None:
        super().__init__(folder, store)
        self.jobs, self.gpus_per_job, self.jobs_per_gpu, self.cpus_per_job = jobs, gpus_per_job, jobs_per_gpu, cpus_per_job

    def check(self) -> None:
        self._dealt()

    def notes(self) -> Sequence[str]:
        pipe = Path(os.environ.get(MPS, "/tmp/nvidia-mps"))
        if (self.jobs_per_gpu or 1) > 1 and not pipe.exists():
            return ["jobs that share a GPU take turns on it; they run side by side under MPS: nvidia-cuda-mps-control -d"]
        return ()

    def run(self, tasks: Sequence[Task]) -> Iterator[Ended]:
        groups, count = self._dealt()
        places = [{VISIBLE: ",".join(groups[place % len(groups)])} if groups else {} for place in range(count)]
        yield from Pool(places, self.cpus_per_job or max(1, cores() // count), self.folder).run(tasks)

    def _dealt(self) -> tuple[list[list[str]], int]:
        """The GPUs of each group (no groups if jobs get no GPUs), and the number of places; places use the groups in turn."""
        found = gpus() if self.gpus_per_job != 0 else []
        each = (1 if found else 0) if self.gpus_per_job is None else self.gpus_per_job
        if each > len(found):
            raise AgmbenchError(f"--gpus-per-job {each}: this machine has {len(found)} GPUs for jobs; ask for no more")
        if not each:
            if self.jobs_per_gpu:
                raise AgmbenchError(f"--jobs-per-gpu {self.jobs_per_gpu}: jobs get no GPUs here; use --jobs instead")
            return [], self.jobs or max(1, cores() // self.cpus_per_job if self.cpus_per_job else 1)
        groups = [found[start : start + each] for start in range(0, len(found) - each + 1, each)]
        room = len(groups) * (self.jobs_per_gpu or 1)
        if self.jobs is None:
            return groups, room
        return groups, min(self.jobs, room) if self.jobs_per_gpu else self.jobs


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """The GPUs that this process may use, in the form of CUDA_VISIBLE_DEVICES."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
