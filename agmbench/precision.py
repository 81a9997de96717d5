"""The precision of training's passes: autocast around forward passes only and, for float16, scaled gradients inside backward passes."""

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
FIRST, FACTOR, PATIENCE = 2.0**16, 2.0, 2000  # the values of torch.amp.GradScaler
LEAST = 2.0**-24  # float16's smallest number: gradients that are not finite even at this scale have another reason

# All functions that begin a backward pass, with the names of their parameters for the tensors from which it starts and for the gradients
# of these tensors.
BACKWARD: dict[Any, tuple[str, str]] = {
    Tensor.backward: ("self", "gradient"),
    torch.autograd.backward: ("tensors", "grad_tensors"),
    torch.autograd.grad: ("outputs", "grad_outputs"),
}


class Precision:
    """The precision of training's passes: `fp32`, `bf16` or `fp16`.

    A modulator's step mixes forward and backward passes. The whole step runs inside `autocast`, and each backward pass in it leaves
    autocast while it runs. The optimizer's step is outside.
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
        """Autocast forward passes, but not backward passes, inside the block. Casts of weights are kept, so no weight may change in it."""
        return nullcontext() if self._dtype is None else self._autocast(self._dtype)

    @contextmanager
    def _autocast(self, dtype: torch.dtype) -> Iterator[None]:
        with torch.autocast(self._device.type, dtype), _BackwardPasses(self._device, self._scale):
            yield

    def steps(self, modulator: Modulator, model: Model, batches: Sequence[Batch]) -> Iterator[Step]:
        """The modulator's steps on these batches. Each step enters autocast anew, because autocast keeps its casts of the weights."""
        steps = _begun(modulator, model, batches)
        while True:
            with self.autocast():
                try:
                    step = next(steps)
                except StopIteration:
                    return
            yield step

    def update_scale(self) -> bool:
        """Adjust the scale of `fp16`, once per step. Returns whether the gradients of the step can be used; a step whose gradients overflow
        is skipped."""
        return self._scale is None or self._scale.update()

    def state_dict(self) -> dict[str, float]:
        """The scale of `fp16`, for a checkpoint."""
        return {} if self._scale is None else {"scale": self._scale.value, "streak": self._scale.streak}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a checkpoint."""
        if self._scale is not None:
            self._scale.value, self._scale.streak = float(state["scale"]), int(state["streak"])


def _watched() -> bool:
    """Whether this release of torch lets a function mode see `torch.autograd.backward`; some releases do not."""
    scale, leaf = Scale(), torch.ones((), requires_grad=True)
    with _BackwardPasses(leaf.device, scale):
        torch.autograd.backward([leaf])
    return scale.passes > 0


def _begun(modulator: Modulator, model: Model, batches: Sequence[Batch]) -> Iterator[Step]:
    yield from modulator.steps(model, batches)  # called only when the first step is asked for, even if `steps` is no generator


class Scale:
    """The factor of the gradients inside a backward pass, so that small gradients do not become zero in float16.

    Torch's `GradScaler` leaves `.grad` scaled until the optimizer's step. But a modulator computes with gradients: it adds several passes
    to `.grad` and uses the results of others directly. So here the results of a pass are unscaled at once. The scale changes as in
    `GradScaler`: if a result since the last step was not finite, this step is skipped and the scale is halved; after 2000 good steps in a
    row it is doubled. To know this costs one copy from the device per step. The scale is a power of two, so scaling loses no digits.
    """

    def __init__(self) -> None:
        self.value = FIRST
        self.streak = 0
        self._sizes: list[Tensor] = []  # the largest number of each pass since the last step

    def scaled(self, roots: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The scaled gradients from which a pass starts; where none is given for a scalar, it is 1."""
        ones = [torch.ones_like(x) if g is None and x.numel() == 1 else g for x, g in zip(roots, gradients, strict=True)]
        return [None if gradient is None else gradient * self.value for gradient in ones]

    def unscaled(self, gradient: Tensor) -> Tensor:
        """A gradient that resulted from a pass, without the scale."""
        return gradient / self.value

    def see(self, gradients: Sequence[Tensor]) -> None:
        """Note the largest number of all gradients that resulted from a pass."""
        self._sizes.append(get_total_norm([gradient.detach() for gradient in gradients], float("inf")))

    @property
    def passes(self) -> int:
        """The number of passes since the last step."""
        return len(self._sizes)

    def update(self) -> bool:
        """Adjust the scale; returns whether all results since the last call were finite. Raises `RunFailed` if the scale becomes too
        small."""
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
    """Inside the block, run backward passes without autocast and with scaled gradients."""

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
            return self._taken(given) if func is torch.autograd.grad else self._run_adding(func, roots, given)

    def _taken(self, given: Mapping[str, Any]) -> tuple[Tensor | None, ...]:
        """The gradients that `torch.autograd.grad` is asked for, unscaled; `None` for a tensor that is not reached."""
        assert self._scale is not None
        gradients = torch.autograd.grad(**given)
        self._scale.see([gradient for gradient in gradients if gradient is not None])
        return tuple(None if gradient is None else self._scale.unscaled(gradient) for gradient in gradients)

    def _run_adding(self, func: Any, roots: Sequence[Tensor], given: Mapping[str, Any]) -> None:
        """Run a pass that adds to `.grad`. The gradients that are already there are not scaled, so they are set aside until the new ones
        are unscaled and can be added."""
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
    """The tensors that get a gradient in a backward pass from `roots`."""
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
