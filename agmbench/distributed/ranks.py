"""The processes that train one job together, its ranks, and what they say to one another."""

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

# Its functions have the group that is there when it is imported among their defaults, and then the group lives as long as they do, with
# its threads and sockets, whatever `destroy_process_group` says. torch imports it by itself when FLOPs are counted first.
import torch.distributed.nn
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from agmbench import interrupts
from agmbench.errors import AgmbenchError, RunFailed, describe

MEETING = "AGMBENCH_MEETING"  # the variable that says where ranks meet, if not where torchrun lets them
PATIENCE = timedelta(days=1)  # with ranks that live: the first may wait for another process that trains the same job
ENDED = "another process of this job, which trains on several devices, has ended"
REASON = "reason"  # the key under which a rank that fails says why
LISTENS = 3.0  # seconds for such a reason, once a rank is gone


class RankLost(RunFailed):
    """Another rank has ended."""


@dataclass(frozen=True)
class Ranks:
    """This process is number `rank` of `size` that train one job. What they say to one another, all of them say in the same order."""

    rank: int
    size: int
    store: Any

    @property
    def first(self) -> bool:
        """Whether this is the one that talks to the store of runs and to the user."""
        return self.rank == 0

    def counts(self, total: int) -> list[int]:
        """How many of so many samples each rank has."""
        return [total // self.size + (rank < total % self.size) for rank in range(self.size)]

    def own(self, total: int) -> slice:
        """Which of so many samples are this rank's."""
        counts = self.counts(total)
        begun = sum(counts[: self.rank])
        return slice(begun, begun + counts[self.rank])

    def deals(self, total: int) -> bool:
        """Whether so many samples are dealt out; if there are fewer than ranks, each rank takes all of them."""
        return total >= self.size

    def summed(self, x: Tensor) -> Tensor:
        """The sum over the ranks, in place."""
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
        """A tensor of one shape from each rank, copied byte by byte, whatever is in it."""
        raw = x.detach().contiguous().reshape(-1).view(torch.uint8)
        found = [torch.empty_like(raw) for _ in range(self.size)]
        with self._listening():
            dist.all_gather(found, raw)
        return [one.view(x.dtype).view(x.shape) for one in found]

    def rows(self, x: Tensor, total: int) -> Tensor:
        """The rows `[total, ...]` of which `x` are this rank's, as `own` deals them out."""
        counts = self.counts(total)
        if len(x) != counts[self.rank]:
            raise RunFailed(
                f"an encoder was given {counts[self.rank]} samples of a batch of {total} and gave features for {len(x)}, so the job "
                "cannot train on several devices; remove --devices"
            )
        if len(x) < counts[0]:  # all send equally many
            x = torch.cat([x, x[-1:]])
        return torch.cat([one[:count] for one, count in zip(self.each(x), counts, strict=True)])

    def told(self, what: Any) -> Any:
        """What the first rank says; what the others would say does not matter."""
        said = [what if self.first else None]
        with self._listening():
            dist.broadcast_object_list(said, src=0, device=torch.device("cpu"))
        return said[0]

    def as_first(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes that of the first rank."""
        with self._listening():
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Around what all ranks take part in: torch's error where one is gone becomes one line, with the reason that it left."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            interrupts.check()
            raise RankLost(self._reason() or ENDED) from error

    def fails(self, error: BaseException) -> None:
        """Leave the reason for the others; the first that is left counts."""
        if not isinstance(error, RankLost):
            text = str(error) if isinstance(error, AgmbenchError) else describe(error)
            with suppress(RuntimeError):
                self.store.compare_set(REASON, "", f"process {self.rank} of the job's {self.size}: {text}")

    def _reason(self) -> str:
        """Why a rank left; it has a moment to say so."""
        deadline = time.monotonic() + LISTENS
        with suppress(RuntimeError):
            while time.monotonic() < deadline:
                if self.store.check([REASON]):
                    return str(self.store.get(REASON).decode())
                time.sleep(0.1)
        return ""


_here: Ranks | None = None


def here() -> Ranks | None:
    """The ranks that this process is one of; `None` where it trains by itself."""
    return _here


def called_for() -> int:
    """How many ranks whoever started this process wants it to be one of: `agmbench run --devices`, torchrun, or nobody, which is 1."""
    size = os.environ.get("WORLD_SIZE", "")
    return int(size) if size.isdecimal() and "RANK" in os.environ else 1


def one_device() -> None:
    """Let this process see one GPU of its machine, its own, before torch looks for them; so each rank's is `cuda:0`."""
    place = int(os.environ.get("LOCAL_RANK") or 0)
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [str(place)] * (place + 1) if seen is None else [name for name in seen.split(",") if name]
    if len(devices) > 1 or seen is None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[place] if place < len(devices) else ""


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Inside, this process is one of the ranks that the environment names. On a CPU they talk by gloo, on GPUs by NCCL.

    All but the first are silent, and leave it to the first to be interrupted: they end when it does.
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
            dist.barrier()  # nobody goes while another still waits for an answer
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
