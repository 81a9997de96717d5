"""Encoders, dealt out: each rank encodes its own samples of a batch, and all ranks have the features of the whole batch.

What comes after the encoders (fusion, losses, scores, coefficients) is computed on the whole batch by every rank alike. So a modulator
does on each rank what it would do in one process, whatever it does, and its gradients are whole: where a backward pass comes to the
features it goes on with the rank's own samples, and where it comes to the weights of an encoder it is summed over the ranks. Both are
nodes of autograd's graph, so this holds for `backward`, for `torch.autograd.grad` and for second derivatives.

After Shoeybi et al., "Megatron-LM" (2019), whose conjugate operators f and g these are, over samples in place of columns.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call

from agmbench.contracts import Input, Tokens
from agmbench.distributed.norms import WholeBatch
from agmbench.distributed.ranks import Ranks, here


def encoded(encoder: nn.Module, x: Input, *others: Mapping[str, Input]) -> Tensor | Tokens:
    """`encoder(x, *others)`. Among ranks, each encodes its own samples; of fewer samples than ranks, each encodes all."""
    ranks, count = here(), len(x)
    if ranks is None or not ranks.deals(count):
        features: Tensor | Tokens = encoder(x, *others)
        return features
    own = [{m: _own(value, ranks) for m, value in inputs.items()} for inputs in others]
    with _own_draws(ranks), _norms(encoder, ranks):
        return _whole(_called(encoder, _own(x, ranks), *own), count, ranks)


def _called(encoder: nn.Module, *inputs: Any) -> Tensor | Tokens:
    """The encoder with weights whose gradients are summed over the ranks."""
    features: Tensor | Tokens
    if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in encoder.parameters()):
        features = encoder(*inputs)
    else:
        features = functional_call(encoder, _shared(encoder), inputs)
    return features


_known: WeakKeyDictionary[nn.Module, tuple[Any, dict[str, Tensor]]] = WeakKeyDictionary()


def _shared(encoder: nn.Module) -> dict[str, Tensor]:
    """The weights that learn, by name, from one node of the graph until they change: gradients are summed once a backward pass, not
    once for each pass of the encoder in it."""
    learning = {name: tensor for name, tensor in encoder.named_parameters() if tensor.requires_grad}
    state = [(name, id(tensor), tensor.data_ptr(), tensor._version) for name, tensor in learning.items()]
    if (known := _known.get(encoder)) is None or known[0] != state:
        known = state, dict(zip(learning, _Shared.apply(*learning.values()), strict=True))
        _known[encoder] = known
    return known[1]


class _Shared(Function):
    """What all ranks have alike, given to the work of each; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.like = [(x.shape, x.dtype, x.device) for x in tensors]
        return tuple(x.view_as(x) for x in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        ranks = _ranks()
        # a network that drops layers at random may have reached others on another rank
        reached = ranks.summed(torch.tensor([gradient is not None for gradient in gradients], dtype=torch.int32)).tolist()
        mine = [
            torch.zeros(shape, dtype=dtype, device=device) if gradient is None else gradient
            for gradient, there, (shape, dtype, device) in zip(gradients, reached, ctx.like, strict=True)
            if there
        ]
        whole = iter(_Summed.apply(*mine))
        return tuple(next(whole) if there else None for there in reached)


class _Summed(Function):
    """The sum over the ranks of what each has; all of one dtype in one call."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        found: dict[int, Tensor] = {}
        for dtype in dict.fromkeys(x.dtype for x in tensors):
            places = [place for place, x in enumerate(tensors) if x.dtype == dtype]
            flat = _ranks().summed(torch.cat([tensors[place].reshape(-1) for place in places]))
            pieces = flat.split([tensors[place].numel() for place in places])
            found |= {place: piece.view(tensors[place].shape) for place, piece in zip(places, pieces, strict=True)}
        return tuple(found[place] for place in range(len(tensors)))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return _Shared.apply(*gradients)


class _Gathered(Function):
    """The rows of all ranks; the gradient is that of the rank's own, for every rank works on with the same rows to the same end."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int) -> Tensor:
        return _ranks().rows(x, count)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Own.apply(gradient), None


class _Own(Function):
    """The rank's own rows of what all ranks have alike."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.count = len(x)
        return x[_ranks().own(len(x))].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Gathered.apply(gradient, ctx.count)


def _ranks() -> Ranks:
    ranks = here()
    assert ranks is not None  # a graph that was made among ranks is used among them
    return ranks


def _own(x: Input, ranks: Ranks) -> Input:
    if isinstance(x, Tokens):
        mask = None if x.mask is None else x.mask[ranks.own(len(x))]
        return Tokens(_own_rows(x.values, ranks), mask)
    return _own_rows(x, ranks)


def _own_rows(x: Tensor, ranks: Ranks) -> Tensor:
    own: Tensor = _Own.apply(x) if x.requires_grad else x[ranks.own(len(x))]
    return own


def _whole(features: Tensor | Tokens, count: int, ranks: Ranks) -> Tensor | Tokens:
    if not isinstance(features, Tokens):
        return _Gathered.apply(features, count)
    values, mask = features.values, features.mask
    if mask is not None:  # a network that cuts what is behind the longest sequence of a batch has cut otherwise elsewhere
        longest = max(int(length) for length in ranks.each(torch.tensor(values.shape[1])))
        missing = longest - values.shape[1]
        if missing:
            values = torch.cat([values, values.new_zeros(len(values), missing, values.shape[2])], dim=1)
            mask = torch.cat([mask, mask.new_zeros(len(mask), missing)], dim=1)
    return Tokens(_Gathered.apply(values, count), None if mask is None else ranks.rows(mask, count))


def _norms(encoder: nn.Module, ranks: Ranks) -> AbstractContextManager[object]:
    """BatchNorm over the samples of all ranks, if the encoder has any."""
    has = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in encoder.modules())
    return WholeBatch(ranks) if has else nullcontext()


@contextmanager
def _own_draws(ranks: Ranks) -> Iterator[None]:
    """Inside, torch's own generators draw for the samples of this rank; afterwards they are the same on all ranks: as they were if
    nothing was drawn, else somewhere new."""
    generators = [torch.default_generator]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        generators.append(torch.cuda.default_generators[torch.cuda.current_device()])
    before = [generator.get_state() for generator in generators]
    begun = []
    for generator, state in zip(generators, before, strict=True):
        generator.manual_seed(_seed(state, ranks.rank))
        begun.append(generator.get_state())
    try:
        yield
    finally:
        for generator, state, first in zip(generators, before, begun, strict=True):
            if torch.equal(generator.get_state(), first):
                generator.set_state(state)
            else:
                generator.manual_seed(_seed(state, ranks.size))


def _seed(state: Tensor, number: int) -> int:
    """A seed of its own for each number, from a generator's state."""
    digest = hashlib.blake2b(state.numpy().tobytes(), digest_size=7, key=number.to_bytes(4, "big")).digest()
    return int.from_bytes(digest, "big")


def unlike(tensors: Sequence[Tensor], ranks: Ranks) -> bool:
    """Whether the first rank has other numbers than this or any other one, beyond rounding."""
    mine = [tensor.detach().clone() for tensor in tensors]
    ranks.first_of(mine)
    return any(not torch.allclose(a, b, rtol=1e-2, atol=1e-4, equal_nan=True) for a, b in zip(mine, tensors, strict=True))
