"""Encoders among ranks: each rank encodes its own samples of a batch, and then all ranks have the features of the whole batch.

Everything after the encoders (fusion, losses, scores, coefficients) is computed by every rank on the whole batch. So any modulator does on
each rank exactly what it would do in one process, and its gradients are complete: at the features, a backward pass goes on with only the
rank's own samples; at the weights of an encoder, gradients are summed over the ranks. Both are nodes of autograd's graph, so this works
for `backward`, for `torch.autograd.grad` and for second derivatives.

These are the conjugate operators f and g of Shoeybi et al., "Megatron-LM" (2019), over samples instead of columns.
"""

import hashlib
from collections.abc import Iterator, Mapping
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
    """Compute `encoder(x, *others)`. Among ranks, each encodes its own samples; if there are fewer samples than ranks, each encodes all."""
    ranks, count = here(), len(x)
    if ranks is None or not ranks.deals(count):
        features: Tensor | Tokens = encoder(x, *others)
        return features
    own = [{m: _own(value, ranks) for m, value in inputs.items()} for inputs in others]
    with _own_draws(ranks), _norms(encoder, ranks):
        return _whole(_called(encoder, _own(x, ranks), *own), count, ranks)


def _called(encoder: nn.Module, *inputs: Any) -> Tensor | Tokens:
    """Call the encoder with weights whose gradients are summed over the ranks."""
    features: Tensor | Tokens
    if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in encoder.parameters()):
        features = encoder(*inputs)
    else:
        features = functional_call(encoder, _shared(encoder), inputs)
    return features


_known: WeakKeyDictionary[nn.Module, tuple[Any, dict[str, Tensor]]] = WeakKeyDictionary()


def _shared(encoder: nn.Module) -> dict[str, Tensor]:
    """The trained weights by name. Until they change, they come from one and the same node of the graph, so that gradients are summed once
    per backward pass, not once for each pass of the encoder."""
    learning = {name: tensor for name, tensor in encoder.named_parameters() if tensor.requires_grad}
    state = [(name, id(tensor), tensor.data_ptr(), tensor._version) for name, tensor in learning.items()]
    if (known := _known.get(encoder)) is None or known[0] != state:
        known = state, dict(zip(learning, _Shared.apply(*learning.values()), strict=True))
        _known[encoder] = known
    return known[1]


class _Shared(Function):
    """Passes on tensors that are the same on all ranks; their gradient is the sum of the gradients of all ranks."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.like = [(x.shape, x.dtype, x.device) for x in tensors]
        return tuple(x.view_as(x) for x in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        ranks = _ranks()
        # a network that drops layers at random may have reached other weights on another rank
        reached = ranks.summed(torch.tensor([gradient is not None for gradient in gradients], dtype=torch.int32)).tolist()
        mine = [
            torch.zeros(shape, dtype=dtype, device=device) if gradient is None else gradient
            for gradient, there, (shape, dtype, device) in zip(gradients, reached, ctx.like, strict=True)
            if there
        ]
        whole = iter(_Summed.apply(*mine))
        return tuple(next(whole) if there else None for there in reached)


class _Summed(Function):
    """The sum of tensors over the ranks; all tensors of one dtype are summed in one call."""

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
        shared: tuple[Tensor, ...] = _Shared.apply(*gradients)
        return shared


class _Gathered(Function):
    """Gathers the rows of all ranks. The gradient is that of the rank's own rows, because every rank computes the same with all rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int) -> Tensor:
        return _ranks().rows(x, count)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Own.apply(gradient), None


class _Own(Function):
    """Takes the rank's own rows of a tensor that is the same on all ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.count = len(x)
        return x[_ranks().own(len(x))].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        whole: Tensor = _Gathered.apply(gradient, ctx.count)
        return whole


def _ranks() -> Ranks:
    ranks = here()
    assert ranks is not None  # a graph that was made among ranks is also used among them
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
        whole: Tensor = _Gathered.apply(features, count)
        return whole
    values, mask = features.values, features.mask
    if mask is not None:  # a network that cuts a batch to its longest sequence has cut differently on other ranks
        longest = max(int(length) for length in ranks.each(torch.tensor(values.shape[1])))
        missing = longest - values.shape[1]
        if missing:
            values = torch.cat([values, values.new_zeros(len(values), missing, values.shape[2])], dim=1)
            mask = torch.cat([mask, mask.new_zeros(len(mask), missing)], dim=1)
    return Tokens(_Gathered.apply(values, count), None if mask is None else ranks.rows(mask, count))


def _norms(encoder: nn.Module, ranks: Ranks) -> AbstractContextManager[object]:
    """A context in which BatchNorm uses the samples of all ranks, if the encoder has BatchNorm."""
    has = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in encoder.modules())
    return WholeBatch(ranks) if has else nullcontext()


@contextmanager
def _own_draws(ranks: Ranks) -> Iterator[None]:
    """Give torch's own generators other seeds on each rank inside the block, for the rank's own samples. Afterwards they are the same on
    all ranks: as they were before if nothing was drawn, else with a new seed."""
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
    """A seed made from a generator's state, different for each number."""
    digest = hashlib.blake2b(state.numpy().tobytes(), digest_size=7, key=number.to_bytes(4, "big")).digest()
    return int.from_bytes(digest, "big")
