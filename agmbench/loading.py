"""Batches of a data set's splits on a device, read ahead by worker processes. The numbers do not depend on how many workers there are."""

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from agmbench.contracts import Batch, Change, Input, Split, SplitName, TensorSplit, Tokens, finished, in_memory, read
from agmbench.errors import RunFailed, describe
from agmbench.profiling import Profile
from agmbench.registry.entry import package_of, plugin_folders
from agmbench.workers import requested

MOST = 8  # the largest number of workers that `auto` chooses
AHEAD = 2  # how many batches each worker reads before they are asked for
EVALUATED = 256  # samples per batch in evaluation: always the same, so that no number depends on the batch size of training
FITS = 0.25  # the largest share of a GPU's free memory that a split may take when it is moved there


def workers(device: torch.device) -> int:
    """How many processes read ahead.

    `auto`, the default, means as many as this job has threads, at most eight, for training on a GPU. On a CPU it means none, because
    training uses the cores.
    """
    number = requested()
    if number is None:
        return min(MOST, torch.get_num_threads()) if device.type == "cuda" else 0
    return number


class Feed:
    """The splits of a data set as batches on a device.

    workers: the number of processes that read ahead for training and evaluation; with 0, the training process reads. Splits that are in
        memory need no workers: if training is on a GPU, the whole split is moved there if it fits.
    change: how samples are changed before they are finished: called with the epoch of training, or with `None` in evaluation.
    start: how worker processes begin (`fork`, `spawn`, `forkserver`); by default `forkserver` on Linux, elsewhere the platform's default.
        `fork` is the fastest, but reading the sound of a video then hangs in PyAV 18 if this process has read one before.
    profile: the profiler that watches the batches of an epoch, if there is one.
    stand_in: puts muted inputs into a batch for the modalities that samples lack. It is set later, because it needs the model's muting.
    waited: the seconds for which the caller has waited for batches.
    on_host: by modality, a function that changes the input before it is copied to the device.
    """

    def __init__(
        self,
        splits: Mapping[SplitName, Split],
        device: torch.device,
        workers: int = 0,
        change: Callable[[int | None], Change] | None = None,
        start: str | None = None,
    ) -> None:
        self.splits = splits
        self.device = device
        self.workers = workers
        self.profile: Profile | None = None
        self.stand_in: Callable[[Batch], Batch] | None = None
        self.waited = 0.0
        self._change = change
        self._context = get_context(start or ("forkserver" if sys.platform == "linux" else None))
        self._requests: list[Request] = []
        self._loader: DataLoader[Any] | None = None
        self._asking = False
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._moved: dict[SplitName, Split] = {}
        self.on_host: Mapping[str, Callable[[Input], Input]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def exchange(self, splits: Mapping[SplitName, Split]) -> None:
        """Use other splits from now on."""
        self.close()
        self.splits = splits
        self._moved.clear()

    def close(self) -> None:
        """End the worker processes; they are started again when they are needed."""
        self._loader = None  # torch ends the workers when the last reference to their loader is gone

    def batches(self, name: SplitName, pieces: Iterable[Tensor], epoch: int | None = None) -> Iterator[Batch]:
        """Batches on the device, one per piece (the numbers of its samples). They are changed as in training in `epoch`; with `None`, as in
        evaluation."""
        batches = self._timed(self._batches(name, [Request(name, piece, epoch) for piece in pieces]))
        return self.profile.watched(batches) if self.profile is not None and epoch is not None else batches

    def in_order(self, name: SplitName) -> Iterator[Batch]:
        """Every sample of a split once, in its order, in batches of evaluation's size."""
        return self.batches(name, torch.arange(len(self.splits[name])).split(EVALUATED))

    def _batches(self, name: SplitName, requests: Sequence["Request"]) -> Iterator[Batch]:
        split, reader = self.splits[name], _Reader(self.splits, self._change)
        changed = self._change is not None and any(self._change(request.epoch) for request in requests)
        if not changed and (moved := self._on_device(name)) is not None:
            yield from (moved.batch(request.samples.to(self.device)) for request in requests)
        elif self.workers == 0 or self._asking or in_memory(split):  # workers can serve only one call of this method at a time
            yield from map(_arrived, self._placed(split, map(reader.read, requests)))
        else:
            self._asking = True
            self._requests[:] = requests
            try:
                self._loader = self._loader or self._made(reader)
                yield from map(_arrived, _beside(self._placed(split, _checked(iter(self._loader)))))
            except _Died:
                self.close()
                raise
            finally:
                self._asking = False

    def _placed(self, split: Split, batches: Iterator[Batch]) -> Iterator["_Placed"]:
        """Copy each batch to the device and finish it there; on a GPU, in a CUDA stream of its own."""
        for batch in batches:
            if self.on_host:
                batch = replace(batch, inputs={m: self.on_host.get(m, _same)(x) for m, x in batch.inputs.items()})
            with torch.cuda.stream(self._stream):
                placed = finished(split, batch.to(self.device))
            yield _Placed(placed, self._stream.record_event() if self._stream is not None else None)

    def _made(self, reader: "_Reader") -> DataLoader[Any]:
        if self._context.get_start_method() == "forkserver":
            self._context.set_forkserver_preload([__name__])  # so this module is imported once for all workers
        return DataLoader(
            reader,
            batch_size=None,
            sampler=self._requests,
            num_workers=self.workers,
            prefetch_factor=AHEAD,
            persistent_workers=True,
            collate_fn=_as_it_is,  # so that torch does not convert what workers return
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_begin,
            multiprocessing_context=self._context,
            generator=torch.Generator(),  # so that nothing is drawn from torch's default generator
        )

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            begun = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - begun
            if batch is None:
                return
            yield self.stand_in(batch) if batch.absent and self.stand_in is not None else batch

    def _on_device(self, name: SplitName) -> Split | None:
        """The whole split on the GPU, if it is in memory; `None` if there is no GPU, if it does not fit, or if its samples are sequences or
        lack modalities."""
        if self.device.type != "cuda" or not in_memory(self.splits[name]):
            return None
        if name not in self._moved:
            split = self.splits[name]
            one = split.batch(torch.tensor([0]))
            sequences = any(isinstance(x, Tokens) for x in one.inputs.values())  # their equal masks are found on the host
            if one.absent or sequences:
                return None
            size = len(split) * sum(tensor.numel() * tensor.element_size() for tensor in one.tensors())
            if size > FITS * torch.cuda.mem_get_info(self.device)[0]:
                return None
            whole = split.batch(torch.arange(len(split))).to(self.device)
            self._moved[name] = TensorSplit(whole.inputs, whole.targets, whole.weights)
        return self._moved[name]


class _Placed(NamedTuple):
    """A batch on the device and, on a GPU, the event after which its copy is complete."""

    batch: Batch
    whole: torch.cuda.Event | None


def _arrived(placed: _Placed) -> Batch:
    """The batch, safe to use in the current (training) stream: the stream waits until the copy is complete."""
    if placed.whole is not None:
        current = torch.cuda.current_stream(placed.batch.targets.device)
        current.wait_event(placed.whole)
        for tensor in placed.batch.tensors():
            tensor.record_stream(current)
    return placed.batch


def _beside(batches: Iterator[_Placed]) -> Iterator[_Placed]:
    """The same batches, prepared one ahead by a thread of their own, which also frees batches that came from a worker; that takes time."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (one := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield one


def _checked(answers: Iterator["Batch | _Failed"]) -> Iterator[Batch]:
    """The batches of the workers. Raises the error that a worker sent instead of a batch, or `_Died` if a worker has ended."""
    while True:
        try:
            answer = next(answers, None)
        except (RuntimeError, OSError, EOFError) as error:  # raised by torch, or while a batch was being transferred
            why = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
            raise _Died(
                f"a process that reads the data ahead has ended ({why}); try fewer of them, as with --workers 0"
            ) from error
        if answer is None:
            return
        if isinstance(answer, _Failed):
            raise answer.error
        yield answer


class _Died(RunFailed):
    pass


class Request(NamedTuple):
    split: SplitName
    samples: Tensor
    epoch: int | None


class _Failed(NamedTuple):
    """An error of a worker process, which is raised again in the process that asked for the batch."""

    error: Exception


class _Reader(Dataset[Any]):
    """The part of the feed that a worker process has: the splits and the changes of samples."""

    def __init__(self, splits: Mapping[SplitName, Split], change: Callable[[int | None], Change] | None) -> None:
        self.splits = splits
        self.change = change

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            return _unpacked, (plugin_folders(), pickle.dumps((self.splits, self.change)))
        except Exception as error:
            raise RunFailed(
                f"the data set cannot be sent to the processes that read ahead ({describe(error)}); --workers 0 needs none"
            ) from error

    def read(self, request: Request) -> Batch:
        """Read a batch and change its samples: the first of a batch's two steps (see `contracts.Staged`)."""
        change = None if self.change is None else self.change(request.epoch)
        return read(self.splits[request.split], request.samples, change or None)

    def __getitem__(self, request: Request) -> Batch | _Failed:
        try:
            return self.read(request)
        except Exception as error:
            return _Failed(_travelling(error))


def _unpacked(folders: Sequence[Path], content: bytes) -> _Reader:
    for folder in folders:
        package_of(folder)
    return _Reader(*pickle.loads(content))


def _travelling(error: Exception) -> Exception:
    """An error that can be sent to another process. Torch itself would send the traceback as the error's text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RunFailed(f"a split cannot be read: {describe(error)}")
    return error


def _same(x: Input) -> Input:
    return x


def _as_it_is(answer: Any) -> Any:
    return answer


def _begin(number: int) -> None:
    """Start a worker process: it ignores requests to stop, which the training process handles, and ends when that process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a cluster's queue sends it to every process of a job
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the training process ends. Torch's own check looks at the parent process, which may be a fork server that lives
    longer."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
