"""Ranks: the processes that train one job together, and how they communicate."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

# Imported here, before there is a process group: its functions keep the group that exists at import as a default argument, and that group
# would then live on with its threads and sockets even after `destroy_process_group`. Torch itself imports it when it first counts FLOPs.
import torch.distributed.nn
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from agmbench import interrupts
from agmbench.errors import AgmbenchError, RunFailed, describe

MEETING = "AGMBENCH_MEETING"  # the environment variable with the address where ranks meet, if it is not torchrun's
PATIENCE = timedelta(days=1)  # how long ranks wait for the first one, which may wait for another process with the same job
ENDED = "another process of this job, which trains on several devices, has ended"
REASON = "reason"  # the key under which a rank that fails says why
LISTENS = 3.0  # seconds to wait for such a reason after a rank has gone


class RankLost(RunFailed):
    """Raised when another rank has ended."""


@dataclass(frozen=True)
class Ranks:
    """This process is number `rank` of the `size` processes that train one job. All ranks must make the same calls in the same order."""

    rank: int
    size: int
    store: Any

    @property
    def first(self) -> bool:
        """Whether this rank is the one that talks to the store of runs and to the user."""
        return self.rank == 0

    def counts(self, total: int) -> list[int]:
        """How many of `total` samples each rank has."""
        return [total // self.size + (rank < total % self.size) for rank in range(self.size)]

    def own(self, total: int) -> slice:
        """Which of `total` samples belong to this rank."""
        counts = self.counts(total)
        begun = sum(counts[: self.rank])
        return slice(begun, begun + counts[self.rank])

    def deals(self, total: int) -> bool:
        """Whether `total` samples are divided among the ranks; if there are fewer samples than ranks, each rank takes all of them."""
        return total >= self.size

    def summed(self, x: Tensor) -> Tensor:
        """The sum of a tensor over the ranks, in place."""
        with self._listening():
            dist.all_reduce(x)
        return x

    def all_of(self, flags: Tensor) -> Tensor:
        """Which flags are true on every rank."""
        found = flags.to(torch.uint8)
        with self._listening():
            dist.all_reduce(found, dist.ReduceOp.MIN)
        return found.bool()

    def each(self, x: Tensor) -> list[Tensor]:
        """The tensors of all ranks, which have the same shape and dtype. They are copied byte by byte, so any dtype works."""
        raw = x.detach().contiguous().reshape(-1).view(torch.uint8)
        found = [torch.empty_like(raw) for _ in range(self.size)]
        with self._listening():
            dist.all_gather(found, raw)
        return [one.view(x.dtype).view(x.shape) for one in found]

    def rows(self, x: Tensor, total: int) -> Tensor:
        """All rows `[total, ...]`, gathered from the ranks; `x` are this rank's rows, those that `own` gives."""
        counts = self.counts(total)
        if len(x) != counts[self.rank]:
            raise RunFailed(
                f"an encoder was given {counts[self.rank]} samples of a batch of {total} and gave features for {len(x)}, so the job "
                "cannot train on several devices; remove --devices"
            )
        if len(x) < counts[0]:  # all ranks must send the same number of rows
            x = torch.cat([x, x[-1:]])
        return torch.cat([one[:count] for one, count in zip(self.each(x), counts, strict=True)])

    def broadcast(self, what: Any) -> Any:
        """The value of the first rank, on all ranks; the values of the others are ignored."""
        values = [what if self.first else None]
        with self._listening():
            dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def broadcast_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite each tensor by that of the first rank."""
        with self._listening():
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Around communication of all ranks: turn torch's error about a rank that is gone into `RankLost`, with the reason that it left."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            interrupts.check()
            raise RankLost(self._reason() or ENDED) from error

    def fails(self, error: BaseException) -> None:
        """Leave the reason of this rank's error for the other ranks; only the first reason that is left counts."""
        if not isinstance(error, RankLost):
            text = str(error) if isinstance(error, AgmbenchError) else describe(error)
            with suppress(RuntimeError):
                self.store.compare_set(REASON, "", f"process {self.rank} of the job's {self.size}: {text}")

    def _reason(self) -> str:
        """The reason that a rank has left for its end; waits a moment for it, and is empty if there is none."""
        deadline = time.monotonic() + LISTENS
        with suppress(RuntimeError):
            while time.monotonic() < deadline:
                if self.store.check([REASON]):
                    return str(self.store.get(REASON).decode())
                time.sleep(0.1)
        return ""


_here: Ranks | None = None


def here() -> Ranks | None:
    """The ranks to which this process belongs; `None` if it trains alone."""
    return _here


def called_for() -> int:
    """The number of ranks of which this process should be one, set by `agmbench run --devices` or by torchrun; 1 if neither started it."""
    size = os.environ.get("WORLD_SIZE", "")
    return int(size) if size.isdecimal() and "RANK" in os.environ else 1


def one_device() -> None:
    """Let this process see only its own GPU, so that each rank uses `cuda:0`. Call this before torch looks for GPUs."""
    place = int(os.environ.get("LOCAL_RANK") or 0)
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [str(place)] * (place + 1) if seen is None else [name for name in seen.split(",") if name]
    if len(devices) > 1 or seen is None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[place] if place < len(devices) else ""


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Make this process one of the ranks that the environment describes, inside the block. On a CPU they communicate by gloo, on GPUs by
    NCCL.

    All ranks except the first print nothing and ignore requests to stop: they end when the first one does.
    """
    global _here
    rank, size = int(os.environ["RANK"]), called_for()
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, rank, size = next(rendezvous(os.environ.get(MEETING, "env://"), rank, size))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    except Exception as error:
        raise AgmbenchError(f"the {size} processes of the job cannot meet ({describe(error)})") from error
    _here = Ranks(rank, size, store)
    if not _here.first:
        _silence()
    try:
        yield _here
        with _here._listening():
            dist.barrier()  # no rank leaves while another still waits for an answer
        dist.destroy_process_group()
    except BaseException as error:
        _here.fails(error)
        raise
    finally:
        _here = None


def _silence() -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if not os.environ.get("AGMBENCH_DEBUG"):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
