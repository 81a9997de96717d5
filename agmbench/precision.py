"""In which precision training's passes run: autocast around forward passes alone, and for float16 a scale inside backward passes."""

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge
from torch.nn.utils import get_total_norm
from torch.overrides import TorchFunctionMode

from agmbench.contracts import Batch, Model, Modulator, Step
from agmbench.errors import RunFailed

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
FIRST, FACTOR, PATIENCE = 2.0**16, 2.0, 2000  # those of torch.amp.GradScaler
LEAST = 2.0**-24  # float16's smallest number: what is not finite under it is not so for the scale

# Where backward passes begin, whoever begins them; of each, the names of what it starts from and of the gradients given for it.
BACKWARD: dict[Any, tuple[str, str]] = {
    Tensor.backward: ("self", "gradient"),
    torch.autograd.backward: ("tensors", "grad_tensors"),
    torch.autograd.grad: ("outputs", "grad_outputs"),
}


class Precision:
    """That of training's passes: `fp32`, `bf16` or `fp16`.

    A modulator's step mixes forward and backward passes. It runs inside `autocast` as a whole, and where torch is asked for a backward
    pass in it, that pass leaves autocast. The optimizer's step is outside.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self._device = device
        self._dtype = DTYPES.get(name)
        self._scale = Scale() if self._dtype is torch.float16 else None
        if self._scale is not None and not _watched():
            raise RunFailed(
                f"torch {torch.__version__} hides where some backward passes begin; use --precision bf16, or a newer torch"
            )

    def autocast(self) -> AbstractContextManager[None]:
        """Inside, forward passes are autocast, with weights as they are at its beginning, and backward passes are not."""
        return nullcontext() if self._dtype is None else self._autocast(self._dtype)

    @contextmanager
    def _autocast(self, dtype: torch.dtype) -> Iterator[None]:
        with torch.autocast(self._device.type, dtype), _BackwardPasses(self._device, self._scale):
            yield

    def steps(self, modulator: Modulator, model: Model, batches: Sequence[Batch]) -> Iterator[Step]:
        """The modulator's steps on these batches. Each enters autocast anew, which keeps casts of weights while it lasts."""
        steps = _begun(modulator, model, batches)
        while True:
            with self.autocast():
                try:
                    step = next(steps)
                except StopIteration:
                    return
            yield step

    def holds(self) -> bool:
        """Whether the gradients of the last step are to be taken: `fp16` skips a step whose gradients overflow. Asked once a step."""
        return self._scale is None or self._scale.held()

    def state_dict(self) -> dict[str, float]:
        """For a checkpoint."""
        return {} if self._scale is None else {"scale": self._scale.value, "streak": self._scale.streak}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was taken."""
        if self._scale is not None:
            self._scale.value, self._scale.streak = float(state["scale"]), int(state["streak"])


def _watched() -> bool:
    """Whether this torch shows a backward pass that is begun by function, which some releases do not."""
    scale, leaf = Scale(), torch.ones((), requires_grad=True)
    with _BackwardPasses(leaf.device, scale):
        torch.autograd.backward([leaf])
    return scale.passes > 0


def _begun(modulator: Modulator, model: Model, batches: Sequence[Batch]) -> Iterator[Step]:
    yield from modulator.steps(model, batches)  # not before the first step is asked for, whatever `steps` is


class Scale:
    """What the gradients inside a backward pass are multiplied by, so that float16 does not take small ones for zero.

    `GradScaler` of torch leaves `.grad` scaled until the optimizer's step. A modulator computes with gradients, adds several passes to
    `.grad` and takes others by themselves; so here what comes out of a pass is unscaled at once. When to step and how the scale moves
    is as there: if anything that came out since the last step was not finite, that step is skipped and the scale halved; after 2000
    steps without it is doubled. To know that costs one copy from the device a step. Powers of two lose no digit.
    """

    def __init__(self) -> None:
        self.value = FIRST
        self.streak = 0
        self._sizes: list[Tensor] = []  # the largest number of each pass since the last step

    def scaled(self, roots: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The gradients that a pass starts from; of a scalar it is 1 where none is given."""
        ones = [torch.ones_like(x) if g is None and x.numel() == 1 else g for x, g in zip(roots, gradients, strict=True)]
        return [None if gradient is None else gradient * self.value for gradient in ones]

    def unscaled(self, gradient: Tensor) -> Tensor:
        """One that came out of it."""
        return gradient / self.value

    def see(self, gradients: Sequence[Tensor]) -> None:
        """All that came out of a pass."""
        self._sizes.append(get_total_norm([gradient.detach() for gradient in gradients], float("inf")))

    @property
    def passes(self) -> int:
        """How many there were since the last step."""
        return len(self._sizes)

    def held(self) -> bool:
        """Whether all was finite since this was asked last; moves the scale."""
        finite = bool(torch.stack([size.float() for size in self._sizes]).isfinite().all()) if self._sizes else True
        self._sizes.clear()
        self.streak = self.streak + 1 if finite else 0
        if not finite:
            self.value /= FACTOR
        elif self.streak == PATIENCE:
            self.value, self.streak = self.value * FACTOR, 0
        if self.value < LEAST:
            raise RunFailed("the loss is finite, but the gradients are not under any scale of float16; use --precision bf16")
        return finite


class _BackwardPasses(TorchFunctionMode):
    """Inside, backward passes run without autocast, and scaled."""

    def __init__(self, device: torch.device, scale: Scale | None) -> None:
        super().__init__()
        self._device = device
        self._scale = scale
        self._retained: list[weakref.ref[Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.retain_grad:
            self._retained.append(weakref.ref(args[0]))
        if func not in BACKWARD:
            return func(*args, **kwargs)
        with torch.autocast(self._device.type, enabled=False):
            if self._scale is None:
                return func(*args, **kwargs)
            root, seed = BACKWARD[func]
            given = signature(func).bind(*args, **kwargs).arguments
            roots = _listed(given[root])
            seeds = self._scale.scaled(roots, _listed(given.get(seed)) or [None] * len(roots))
            given[seed] = seeds[0] if func is Tensor.backward else seeds
            return self._taken(given) if func is torch.autograd.grad else self._added(func, roots, given)

    def _taken(self, given: Mapping[str, Any]) -> tuple[Tensor | None, ...]:
        """The gradients that are asked for; `None` for what is not reached."""
        assert self._scale is not None
        gradients = torch.autograd.grad(**given)
        self._scale.see([gradient for gradient in gradients if gradient is not None])
        return tuple(None if gradient is None else self._scale.unscaled(gradient) for gradient in gradients)

    def _added(self, func: Any, roots: Sequence[Tensor], given: Mapping[str, Any]) -> None:
        """Gradients are added to what is in `.grad`, which is not scaled: it is laid aside until they are not either."""
        assert self._scale is not None
        kept = [tensor for reference in self._retained if (tensor := reference()) is not None]
        tensors = [*(_listed(given.get("inputs")) or _leaves(roots)), *kept]
        before = [tensor.grad for tensor in tensors]
        for tensor in tensors:
            tensor.grad = None
        func(**given)
        self._scale.see([tensor.grad for tensor in tensors if tensor.grad is not None])
        with torch.set_grad_enabled(bool(given.get("create_graph"))):
            for tensor, old in zip(tensors, before, strict=True):
                if tensor.grad is None:
                    tensor.grad = old
                else:
                    new = self._scale.unscaled(tensor.grad)
                    tensor.grad = new if old is None else old + new


def _listed(found: Any) -> list[Any]:
    if found is None:
        return []
    return list(found.values() if isinstance(found, Mapping) else [found] if isinstance(found, Tensor) else found)


def _leaves(roots: Iterable[Tensor]) -> list[Tensor]:
    """The tensors that a backward pass from there gives a gradient to."""
    ahead: list[Any] = [get_gradient_edge(root).node for root in roots if root.requires_grad]
    seen = set(ahead)
    leaves = []
    while ahead:
        node = ahead.pop()
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        following = {after for after, _ in node.next_functions if after is not None} - seen
        seen |= following
        ahead += following
    return leaves
