"""Finds where a step waits for the device: counts, while the training loop runs, each time that the host reads numbers of a tensor.

It runs on the CPU, where every tensor stands for one on a device. Reading what is on the host anyway does not count: a batch before it
is on the device, and the optimizers' counters, which torch keeps on the CPU.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import FrameType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from agmbench.contracts import SPLITS, Batch, Context, Model, Modulator, Step, TensorSplit, Tokens
from agmbench.errors import shown
from agmbench.jobs import Training
from agmbench.loading import Feed
from agmbench.testing.models import SEED, Case
from agmbench.train import train

aten = torch.ops.aten
CPU = torch.device("cpu")
# kernels for which the host waits: they return numbers, or results whose shape depends on numbers
READS = {
    aten._local_scalar_dense: "item",  # also called by bool, int, float and format
    **{kernel: kernel.__name__ for kernel in (aten.equal, aten.allclose, aten.nonzero, aten.masked_select, aten.bincount)},
    **dict.fromkeys((aten._unique, aten._unique2, aten.unique_dim), "unique"),
    **dict.fromkeys((aten.unique_consecutive, aten.unique_dim_consecutive), "unique_consecutive"),
}
INDEXING = {aten.index, aten._unsafe_index, aten.index_put, aten.index_put_, aten._index_put_impl_}
# calls that use no kernel on a CPU
COPIES = {
    Tensor.cpu: "cpu",
    Tensor.numpy: "numpy",
    Tensor.__array__: "numpy",
    Tensor.tolist: "tolist",
    Tensor.__repr__: "print",
}
UPLOADS = {torch.tensor: "tensor", torch.as_tensor: "as_tensor", Tensor.new_tensor: "new_tensor"}  # copy unpinned memory
ON_HOST = {function.__code__ for function in (Batch.to, Tokens.to, TensorSplit.batch)}
TORCH, OPTIMIZERS = f"{torch.__path__[0]}{os.sep}", f"{torch.optim.__path__[0]}{os.sep}"


class Read(NamedTuple):
    """One read of the host: the function that was called, and the line outside torch from which it was called."""

    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.what} at {self.where}"


class Reads:
    """Inside the `with` block, each read of the host is added to `found`."""

    def __init__(self) -> None:
        self.found: list[Read] = []

    def __enter__(self) -> Self:
        self._modes = ExitStack()
        self._modes.enter_context(_Kernels(self))
        self._modes.enter_context(_Calls(self))
        return self

    def __exit__(self, *error: Any) -> None:
        self._modes.close()

    def add(self, what: str) -> None:
        """Add a read, unless it reads something that is on the host anyway."""
        frames = list(_frames(sys._getframe(1)))
        if any(frame.f_code in ON_HOST or frame.f_code.co_filename.startswith(OPTIMIZERS) for frame in frames):
            return
        outside = (frame for frame in frames if not frame.f_code.co_filename.startswith((TORCH, __file__)))
        frame = next(outside, frames[-1])
        self.found.append(Read(what, f"{shown(frame.f_code.co_filename)}:{frame.f_lineno}"))


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


class _Kernels(TorchDispatchMode):
    def __init__(self, reads: Reads) -> None:
        super().__init__()
        self._reads = reads

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kernel = func.overloadpacket
        if kernel in READS:
            self._reads.add(READS[kernel])
        elif kernel in INDEXING and _by_mask(args):
            self._reads.add("index by a mask")
        elif kernel is aten.repeat_interleave and _grows(args, kwargs):
            self._reads.add("repeat_interleave")
        return func(*args, **(kwargs or {}))


def _by_mask(args: Sequence[Any]) -> bool:
    """Whether a tensor is indexed by a mask, so that the size of the result depends on its numbers. Filling masked places with a single
    number does not count, because it needs no size."""
    filled = len(args) > 2 and args[2].ndim == 0
    return not filled and any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])


def _grows(args: Sequence[Any], kwargs: Any) -> bool:
    """Whether `repeat_interleave` repeats by counts in a tensor without being given the size of the result."""
    return isinstance(args[0], Tensor) and (kwargs or {}).get("output_size") is None


class _Calls(TorchFunctionMode):
    def __init__(self, reads: Reads) -> None:
        super().__init__()
        self._reads = reads

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in COPIES:
            self._reads.add(COPIES[func])
        elif func is Tensor.to and "cpu" in (value for value in (*args[1:], *kwargs.values()) if isinstance(value, str)):
            self._reads.add("to")  # only for the name `cpu`: a `torch.device` may be the model's, which is the CPU here too
        elif func is Tensor.new_tensor or (func in UPLOADS and kwargs.get("device") is not None):
            self._reads.add(UPLOADS[func])
        before = len(self._reads.found)
        result = func(*args, **kwargs)
        if func is F.one_hot and (len(args) > 1 or "num_classes" in kwargs):
            del self._reads.found[before:]  # one_hot reads its numbers to check them, but only on a CPU
        return result


class Counted(NamedTuple):
    """The number of steps, and the reads in them."""

    steps: int
    reads: list[Read]


def counted(case: Case, modulator: Modulator, accumulate: int = 1, epochs: int = 2, **recipe: Any) -> Counted:
    """Train a case by the real training loop. Reads are counted from the beginning of one optimizer step to that of the next in the same
    epoch."""
    with Reads() as reads:
        turns = _Turns(modulator, reads)
        training = Training(epochs=epochs, batch_size=max(2, 4 // accumulate), accumulate=accumulate, lr=0.01, **recipe)
        splits = dict.fromkeys(SPLITS, case.split)
        for _ in train(case.model(), modulator, Feed(splits, CPU), training, SEED, case.concepts()):
            pass
    return turns.counted


class _Turns:
    """Collects the reads of complete turns of the loop. A turn lasts from one call of `steps` to the next in the same epoch."""

    def __init__(self, modulator: Modulator, reads: Reads) -> None:
        self.counted = Counted(0, [])
        self._reads, self._open, self._steps = reads, False, 0
        self._begin_epoch, self._take = modulator.begin_epoch, modulator.steps
        modulator.begin_epoch, modulator.steps = self.begin_epoch, self.steps  # type: ignore[method-assign]

    def begin_epoch(self, context: Context) -> None:
        self._open = False
        self._begin_epoch(context)

    def steps(self, model: Model, batches: Sequence[Batch]) -> Iterator[Step]:
        if self._open:
            self.counted = Counted(self.counted.steps + self._steps, [*self.counted.reads, *self._reads.found])
        self._open, self._steps = True, 0
        self._reads.found.clear()
        for step in self._take(model, batches):
            self._steps += 1
            yield step
