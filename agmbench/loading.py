"""Batches of a data set's splits on a device, read ahead by worker processes: the numbers do not depend on how many there are."""

import ctypes
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from agmbench.contracts import Batch, Change, Split, SplitName, TensorSplit, finished, in_memory, read
from agmbench.errors import AgmbenchError, RunFailed, describe
from agmbench.registry.entry import package_of, plugin_folders

WORKERS = "AGMBENCH_WORKERS"  # `auto` or a number, for this process and those that it starts
MOST = 8  # workers that `auto` takes
AHEAD = 2  # batches that each worker has read before they are asked for
EVALUATED = 256  # samples of a batch in evaluation: one size for all, so that no number depends on the training's
FITS = 0.25  # the share of a GPU's free memory that a split held in memory may take there


def workers(device: torch.device) -> int:
    """How many processes read ahead: what `AGMBENCH_WORKERS` says.

    `auto`, the default, is one a thread of this job, at most eight, for training on a GPU; none on a CPU, where training has the
    cores.
    """
    said = os.environ.get(WORKERS) or "auto"
    if said == "auto":
        return min(MOST, torch.get_num_threads()) if device.type == "cuda" else 0
    if not said.isdecimal() or int(said) > 256:
        raise AgmbenchError(f"{WORKERS} (--workers) is '{said}'; expected auto, or a number of processes from 0 to 256")
    return int(said)


class Feed:
    """The splits of a data set as batches on a device.

    workers: processes that read ahead of training and of evaluation; with 0 the training process reads. Splits that are in memory
        need none: on a GPU they move there whole if they fit.
    change: what becomes of a training sample in an epoch, before it is finished.
    start: how worker processes begin (`fork`, `spawn`, `forkserver`); by default `forkserver` on Linux, elsewhere the platform's way.
        `fork` is quick, and hangs if a decoder has been at work in this process before.
    waited: seconds that whoever asked for batches has waited for them.
    """

    def __init__(
        self,
        splits: Mapping[SplitName, Split],
        device: torch.device,
        workers: int = 0,
        change: Callable[[int], Change] | None = None,
        start: str | None = None,
    ) -> None:
        self.splits = splits
        self.device = device
        self.workers = workers
        self.waited = 0.0
        self._change = change
        self._context = get_context(start or ("forkserver" if sys.platform == "linux" else None))
        self._requests: list[_Request] = []
        self._loader: DataLoader[Any] | None = None
        self._reading = False
        self._moved: dict[SplitName, Split] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes; they begin again when they are needed."""
        self._loader = None  # torch ends them with the last reference to it

    def batches(self, name: SplitName, pieces: Iterable[Tensor], epoch: int | None = None) -> Iterator[Batch]:
        """Batches of the samples of these numbers, on the device; those of an `epoch` are changed as in it."""
        requests = [_Request(name, piece, epoch) for piece in pieces]
        moved = self._on_device(name) if epoch is None or self._change is None else None
        if moved is not None:
            yield from (moved.batch(request.samples.to(self.device)) for request in requests)
            return
        read = self._timed(self._read(name, requests))
        yield from self._copied_ahead(name, read) if self.device.type == "cuda" else self._finished(name, read)

    def in_order(self, name: SplitName) -> Iterator[Batch]:
        """Every sample of a split once, as they come, in batches of evaluation's size."""
        return self.batches(name, torch.arange(len(self.splits[name])).split(EVALUATED))

    def _read(self, name: SplitName, requests: Sequence["_Request"]) -> Iterator[Batch]:
        reader = _Reader(self.splits, self._change)
        if self.workers == 0 or self._reading or in_memory(self.splits[name]):
            yield from map(reader.read, requests)
            return
        self._reading = True  # workers serve one row of requests at a time; another that begins meanwhile is read here
        try:
            self._requests[:] = requests
            self._loader = self._loader or self._made(reader)
            for answer in self._loader:
                if isinstance(answer, _Failed):
                    raise answer.error
                yield answer
        except RuntimeError as error:
            if type(error) is not RuntimeError or "DataLoader worker" not in str(error):
                raise
            self.close()
            raise RunFailed(f"{_died(error)}; try fewer processes, as with --workers 0") from error
        finally:
            self._reading = False

    def _made(self, reader: "_Reader") -> DataLoader[Any]:
        if self._context.get_start_method() == "forkserver":
            self._context.set_forkserver_preload([__name__])  # imported once for all workers
        return DataLoader(
            reader,
            batch_size=None,
            sampler=self._requests,
            num_workers=self.workers,
            prefetch_factor=AHEAD,
            persistent_workers=True,
            collate_fn=_as_it_is,  # not turned into tensors
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_begin,
            multiprocessing_context=self._context,
            generator=torch.Generator(),  # so that nothing is drawn from torch's own
        )

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            begun = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - begun
            if batch is None:
                return
            yield batch

    def _finished(self, name: SplitName, batches: Iterator[Batch]) -> Iterator[Batch]:
        split = self.splits[name]
        for batch in batches:
            yield finished(split, batch.to(self.device))

    def _copied_ahead(self, name: SplitName, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Each is copied and finished on a stream of its own while the one before is trained on."""
        split, stream = self.splits[name], torch.cuda.Stream(self.device)
        waiting: list[tuple[Batch, torch.cuda.Event]] = []
        for batch in batches:
            with torch.cuda.stream(stream):
                waiting.append((finished(split, batch.to(self.device)), stream.record_event()))
            if len(waiting) > 1:
                yield _arrived(*waiting.pop(0))
        for one in waiting:
            yield _arrived(*one)

    def _on_device(self, name: SplitName) -> Split | None:
        """A split that is in memory, whole on the GPU; `None` if there is no GPU or it does not fit."""
        if self.device.type != "cuda" or not in_memory(self.splits[name]):
            return None
        if name not in self._moved:
            split = self.splits[name]
            one = split.batch(torch.tensor([0]))
            size = len(split) * sum(tensor.numel() * tensor.element_size() for tensor in one.tensors())
            if size > FITS * torch.cuda.mem_get_info(self.device)[0]:
                return None
            whole = split.batch(torch.arange(len(split))).to(self.device)
            self._moved[name] = TensorSplit(whole.inputs, whole.targets)
        return self._moved[name]


def _arrived(batch: Batch, copied: torch.cuda.Event) -> Batch:
    current = torch.cuda.current_stream(batch.targets.device)
    current.wait_event(copied)
    for tensor in batch.tensors():
        tensor.record_stream(current)
    return batch


class _Request(NamedTuple):
    split: SplitName
    samples: Tensor
    epoch: int | None


class _Failed(NamedTuple):
    """What went wrong in a worker process, to be raised where the batch was asked for."""

    error: Exception


class _Reader(Dataset[Any]):
    """What a worker process has of the data set."""

    def __init__(self, splits: Mapping[SplitName, Split], change: Callable[[int], Change] | None) -> None:
        self.splits = splits
        self.change = change

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            return _unpacked, (plugin_folders(), pickle.dumps((self.splits, self.change)))
        except Exception as error:
            raise RunFailed(
                f"the data set cannot be sent to the processes that read ahead ({describe(error)}); --workers 0 does without"
            ) from error

    def read(self, request: _Request) -> Batch:
        """The first step of a batch."""
        change = None if self.change is None or request.epoch is None else self.change(request.epoch)
        return read(self.splits[request.split], request.samples, change)

    def __getitem__(self, request: _Request) -> Batch | _Failed:
        try:
            return self.read(request)
        except Exception as error:
            return _Failed(_travelling(error))


def _unpacked(folders: Sequence[Path], content: bytes) -> _Reader:
    for folder in folders:
        package_of(folder)
    return _Reader(*pickle.loads(content))


def _travelling(error: Exception) -> Exception:
    """An error that can be sent to another process; torch would send its traceback as its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RunFailed(f"a split cannot be read: {describe(error)}")
    return error


def _as_it_is(answer: Any) -> Any:
    return answer


def _begin(number: int) -> None:
    """A worker process leaves interruptions to the one that trains, and ends with it even if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with suppress(OSError, AttributeError):  # Linux: PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _died(error: RuntimeError) -> str:
    said = " ".join(str(error).split())
    return f"a process that reads the data ahead has ended ({said.partition('. ')[0]})"
