"""Checks of what a modulator must do: take valid samples, give a gradient to every tensor that should learn, and not keep the model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from agmbench.contracts import Batch, Modulator, Step
from agmbench.errors import RunFailed
from agmbench.model import MultimodalModel

LEAVES_OUT = (
    "the modulator leaves gradients out: in a whole epoch {} of {} tensors of {} had no gradient, the first is {}; joint training "
    "reaches all of them (a method that leaves out this whole part on purpose declares Promises({}=True))"
)


class Conduct:
    """Watches the steps of the first epoch: which tensors of the model should learn, and which of them had a gradient.

    After that epoch is judged, nothing is checked any more.
    """

    def __init__(self, modulator: Modulator, model: MultimodalModel) -> None:
        self._modulator, self._model = modulator, model
        self._learning: dict[str, None] = {}  # names of the tensors that should learn, in order
        self._reached: set[str] = set()
        self._names = {id(module): name for name, module in model.named_modules()}
        self._ran: set[str] = set()  # names of the modules that ran in a forward pass with gradients
        self._judged = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note which modules run, around the steps of a batch. The hook is global, because torch takes other kernels for a module that has
        a hook of its own."""
        if self._judged:
            yield
            return

        def note(module: nn.Module, _: object) -> None:
            if torch.is_grad_enabled() and id(module) in self._names:
                self._ran.add(self._names[id(module)])

        hook = register_module_forward_pre_hook(note)
        try:
            yield
        finally:
            hook.remove()

    def see(self) -> None:
        """Note which tensors have a gradient; called at each yielded step, before the optimizer's step."""
        for name, tensor in self._model.named_parameters():
            if tensor.requires_grad:
                self._learning[name] = None
                if tensor.grad is not None:
                    self._reached.add(name)

    def check(self, step: object) -> None:
        """Raise `RunFailed` for a step that breaks the contract; called at each yielded step, before the optimizer's step."""
        if self._judged:
            return
        if complaint := malformed(step):
            raise RunFailed(complaint)
        self.see()

    def judge(self, batch: Batch) -> None:
        """Raise `RunFailed` if, after the epoch, the modulator keeps the model or left gradients out; `batch` is any batch of the epoch."""
        if self._judged:
            return
        if complaint := kept_model(self._modulator, self._model) or self.left_out(batch):
            raise RunFailed(complaint)
        self._judged = True

    def left_out(self, batch: Batch) -> str | None:
        """The complaint about tensors that had no gradient in the epoch and should have had one; `None` if there are none."""
        promises = self._modulator.promises
        owed = {f"encoders.{modality}": self._owed(f"encoders.{modality}", promises.rests) for modality in self._model.encoders}
        owed["fusion"] = self._owed("fusion", promises.own_heads)
        if all(self._reached.issuperset(names) for names in owed.values()):
            return None
        joint = reached_jointly(self._model, batch)
        for part, names in owed.items():
            due = [name for name in names if name in joint and not self._skipped(name, part)]
            if missing := [name for name in due if name not in self._reached]:
                return LEAVES_OUT.format(len(missing), len(due), part, missing[0], "own_heads" if part == "fusion" else "rests")
        return None

    def _skipped(self, name: str, part: str) -> bool:
        """Whether `part` ran without the module to which this tensor belongs, as in networks that drop layers."""
        return part in self._ran and name.rpartition(".")[0] not in self._ran

    def _owed(self, part: str, may_rest: bool) -> list[str]:
        names = [name for name in self._learning if name.startswith(f"{part}.")]
        return [] if may_rest and self._reached.isdisjoint(names) else names


def wrong_samples(samples: object, total: int) -> str | None:
    """The reason why these cannot be an epoch's training samples, of a split of `total` samples; `None` if they can."""
    if not isinstance(samples, Tensor):
        found = f"a {type(samples).__name__}"
    elif samples.ndim != 1 or samples.dtype != torch.int64 or samples.device.type != "cpu":
        found = f"{list(samples.shape)} of {samples.dtype} on {samples.device}"
    elif len(samples) < 2:
        found = f"{len(samples)} of them"
    elif samples.min() < 0 or samples.max() >= total:
        found = f"{len(samples)} from {samples.min()} to {samples.max()}"
    else:
        return None
    return (
        f"an epoch's samples should be two or more numbers from 0 to {total - 1}, a tensor [n] of torch.int64 on the CPU; "
        f"found {found}"
    )


def malformed(step: object) -> str | None:
    """How a yielded step breaks the contract; `None` if it does not."""
    if not isinstance(step, Step):
        return f"the modulator should give a Step(loss, logits, signals) for each optimizer step; found a {type(step).__name__}"
    for name, value in {"loss": step.loss, **{f"signal '{name}'": value for name, value in step.signals.items()}}.items():
        if not isinstance(value, Tensor):
            return f"the {name} of the modulator's step should be a tensor of one number; found a {type(value).__name__}"
        if value.numel() != 1:
            return f"the {name} of the modulator's step should be one number; found shape {list(value.shape)}"
    return None


def reached_jointly(model: MultimodalModel, batch: Batch) -> set[str]:
    """The names of the tensors on which the loss of joint training depends; some networks also have tensors on which it does not."""
    named = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    without_cudnn = torch.backends.cudnn.flags(enabled=False)  # cuDNN's recurrent layers have no gradients in eval mode
    with model.evaluating(), model.muting.evaluation(), torch.enable_grad(), without_cudnn:
        loss = model.loss(model(batch.inputs).logits, batch.targets)
        gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None}


def kept_model(modulator: Modulator, model: MultimodalModel) -> str | None:
    """The complaint about an attribute of the modulator that holds the model or a part of it; `None` if there is none."""
    own: dict[int, str] = {id(model): "the model"}
    for part in (model.encoders, model.fusion):
        prefix = "encoders" if part is model.encoders else "fusion"
        own |= {id(item): f"{prefix}.{name}".rstrip(".") for name, item in chain(part.named_modules(), part.named_parameters())}
    for attribute, value in (item for holder in modulator.modules() for item in _attributes(holder)):
        for item in _contents(value):
            if id(item) in own:
                return (
                    f"the modulator keeps the model: its attribute `{attribute}` holds {own[id(item)]} after a step; "
                    "take what is needed from the model that each call is given"
                )
    return None


def _attributes(holder: nn.Module) -> Iterator[tuple[str, object]]:
    """Attributes by the names that the author gave them; torch keeps modules, parameters and buffers apart from the others."""
    for name, value in vars(holder).items():
        yield from value.items() if name in ("_modules", "_parameters", "_buffers") else [(name, value)]


def _contents(value: object) -> Iterator[object]:
    yield value
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _contents(item)
