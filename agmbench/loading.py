"""Batches of a data set's splits on a device, read ahead by worker processes: the numbers do not depend on how many there are."""

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
from agmbench.workers import asked

MOST = 8  # workers that `auto` takes
AHEAD = 2  # batches that each worker has read before they are asked for
EVALUATED = 256  # samples of a batch in evaluation: one size for all, so that no number depends on the training's
FITS = 0.25  # the share of a GPU's free memory that a split held in memory may take there


def workers(device: torch.device) -> int:
    """How many processes read ahead.

    `auto`, the default, is as many as this job has threads, at most eight, for training on a GPU; none on a CPU, where training
    takes the cores.
    """
    number = asked()
    if number is None:
        return min(MOST, torch.get_num_threads()) if device.type == "cuda" else 0
    return number


class Feed:
    """The splits of a data set as batches on a device.

    workers: processes that read ahead of training and of evaluation; with 0 the training process reads. Splits that are in memory
        need none: on a GPU they move there whole if they fit.
    change: what becomes of a sample before it is finished, in an epoch of training or, with `None`, in evaluation.
    start: how worker processes begin (`fork`, `spawn`, `forkserver`); by default `forkserver` on Linux, elsewhere the platform's way.
        `fork` begins at once, but a video's sound then hangs in PyAV 18 if this process has read one before.
    profile: what watches the batches of an epoch, if anything does.
    stand_in: what becomes of a batch in which samples lack a modality: what the model mutes with stands in for it. Set with the model.
    waited: seconds that whoever asked for batches has waited for them.
    on_host: what becomes of each modality's input before it is copied to the device.
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
        """Other splits from now on."""
        self.close()
        self.splits = splits
        self._moved.clear()

    def close(self) -> None:
        """End the worker processes; they begin again when they are needed."""
        self._loader = None  # torch ends them with the last reference to it

    def batches(self, name: SplitName, pieces: Iterable[Tensor], epoch: int | None = None) -> Iterator[Batch]:
        """Batches of the samples of these numbers, on the device, changed as in that epoch of training or, with `None`, in evaluation."""
        batches = self._timed(self._batches(name, [Request(name, piece, epoch) for piece in pieces]))
        return self.profile.watched(batches) if self.profile is not None and epoch is not None else batches

    def in_order(self, name: SplitName) -> Iterator[Batch]:
        """Every sample of a split once, as they come, in batches of evaluation's size."""
        return self.batches(name, torch.arange(len(self.splits[name])).split(EVALUATED))

    def _batches(self, name: SplitName, requests: Sequence["Request"]) -> Iterator[Batch]:
        split, reader = self.splits[name], _Reader(self.splits, self._change)
        changed = self._change is not None and any(self._change(request.epoch) for request in requests)
        if not changed and (moved := self._on_device(name)) is not None:
            yield from (moved.batch(request.samples.to(self.device)) for request in requests)
        elif self.workers == 0 or self._asking or in_memory(split):  # workers answer one row of requests at a time
            yield from map(_arrived, self._placed(split, map(reader.read, requests)))
        else:
            self._asking = True
            self._requests[:] = requests
            try:
                self._loader = self._loader or self._made(reader)
                yield from map(_arrived, _beside(self._placed(split, _told(iter(self._loader)))))
            except _Died:
                self.close()
                raise
            finally:
                self._asking = False

    def _placed(self, split: Split, batches: Iterator[Batch]) -> Iterator["_Placed"]:
        """Each batch copied to the device and finished, on a GPU by a stream of its own."""
        for batch in batches:
            if self.on_host:
                batch = replace(batch, inputs={m: self.on_host.get(m, _same)(x) for m, x in batch.inputs.items()})
            with torch.cuda.stream(self._stream):
                placed = finished(split, batch.to(self.device))
            yield _Placed(placed, self._stream.record_event() if self._stream is not None else None)

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
            yield self.stand_in(batch) if batch.absent and self.stand_in is not None else batch

    def _on_device(self, name: SplitName) -> Split | None:
        """A split that is in memory, whole on the GPU; `None` if there is no GPU or it does not fit."""
        if self.device.type != "cuda" or not in_memory(self.splits[name]):
            return None
        if name not in self._moved:
            split = self.splits[name]
            one = split.batch(torch.tensor([0]))
            sequences = any(isinstance(x, Tokens) for x in one.inputs.values())  # samples of one mask are found on the host
            if one.absent or sequences:
                return None
            size = len(split) * sum(tensor.numel() * tensor.element_size() for tensor in one.tensors())
            if size > FITS * torch.cuda.mem_get_info(self.device)[0]:
                return None
            whole = split.batch(torch.arange(len(split))).to(self.device)
            self._moved[name] = TensorSplit(whole.inputs, whole.targets, whole.weights)
        return self._moved[name]


class _Placed(NamedTuple):
    """A batch on the device, and on a GPU the event after which it is whole."""

    batch: Batch
    whole: torch.cuda.Event | None


def _arrived(placed: _Placed) -> Batch:
    """What the stream that trains may take."""
    if placed.whole is not None:
        current = torch.cuda.current_stream(placed.batch.targets.device)
        current.wait_event(placed.whole)
        for tensor in placed.batch.tensors():
            tensor.record_stream(current)
    return placed.batch


def _beside(batches: Iterator[_Placed]) -> Iterator[_Placed]:
    """The same, one ahead of whoever asks, by a thread of their own: freeing a batch that came from a worker takes its time as well."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (one := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield one


def _told(answers: Iterator["Batch | _Failed"]) -> Iterator[Batch]:
    while True:
        try:
            answer = next(answers, None)
        except (RuntimeError, OSError, EOFError) as error:  # torch's own, or of a batch that was on its way
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
    """What went wrong in a worker process, to be raised where the batch was asked for."""

    error: Exception


class _Reader(Dataset[Any]):
    """What a worker process has of the data set."""

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
        """The first step of a batch."""
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
    """An error that can be sent to another process; torch would send its traceback as its text."""
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
    """A worker process leaves interruptions to the one that trains, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # which queues send to every process of a job
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Torch's own watch looks at the process that forked this one, which a fork server outlives."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
