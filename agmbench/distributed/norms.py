"""BatchNorm over the samples of all ranks, for any module that uses it."""

from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from agmbench.distributed.ranks import Ranks, here

_GIVEN = signature(F.batch_norm)


class WholeBatch(TorchFunctionMode):
    """Inside the block, `torch.nn.functional.batch_norm` computes the statistics of a batch over the samples of all ranks."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self._ranks = ranks

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.batch_norm:
            given = _GIVEN.bind(*args, **(kwargs or {}))
            given.apply_defaults()
            if given.arguments["training"]:
                return _batch_norm(**given.arguments)
        return func(*args, **(kwargs or {}))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    normed, mean, variance, count = _Normed.apply(input, weight, bias, eps)
    with torch.no_grad():
        for running, found in ((running_mean, mean), (running_var, variance * (count / (count - 1).clamp(min=1)))):
            if running is not None:
                running.lerp_(found.to(running.dtype), momentum)
    return normed  # type: ignore[no-any-return]


class _Normed(Function):
    """`(x - mean) / sqrt(variance + eps) * weight + bias` for `[B, C, ...]`, with mean and variance `[C]` over all ranks. Also returns
    mean, variance, and the number of values `[C]` from which they are computed."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ranks = here()
        assert ranks is not None
        dims, shape = [d for d in range(x.ndim) if d != 1], [1, -1, *[1] * (x.ndim - 2)]
        exact = x.double() if x.dtype == torch.float64 else x.float()
        variance, mean = torch.var_mean(exact, dims, correction=0)
        count = torch.full_like(mean, exact.numel() / exact.shape[1])
        means, variances, counts = torch.stack(ranks.each(torch.stack([mean, variance, count]).double())).unbind(dim=1)
        total = counts.sum(dim=0)  # [C]
        whole = (counts * means).sum(dim=0) / total
        spread = (counts * (variances + (means - whole).square())).sum(dim=0) / total
        mean, scale = whole.to(exact.dtype), (spread + eps).rsqrt().to(exact.dtype)
        normed = (exact - mean.view(shape)) * scale.view(shape)
        normed = normed if weight is None else normed * weight.view(shape)
        normed = normed if bias is None else normed + bias.view(shape)
        ctx.save_for_backward(x, weight, mean, scale, total)
        ctx.mark_non_differentiable(whole, spread, total)
        return normed.to(x.dtype), whole, spread, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        ranks = here()
        assert ranks is not None
        x, weight, mean, scale, total = ctx.saved_tensors
        dims, shape = [d for d in range(x.ndim) if d != 1], [1, -1, *[1] * (x.ndim - 2)]
        g = gradient.to(mean.dtype)
        normed = (x.to(mean.dtype) - mean.view(shape)) * scale.view(shape)
        own = torch.stack([g.sum(dims), (g * normed).sum(dims)])  # [2, C]
        level, slope = ranks.summed(own.to(torch.float64, copy=True)) / total
        along = g - level.view(shape).to(g.dtype) - normed * slope.view(shape).to(g.dtype)
        factor = scale if weight is None else scale * weight
        of_weight = own[1].to(weight.dtype) if weight is not None and ctx.needs_input_grad[1] else None
        of_bias = own[0].to(mean.dtype) if ctx.needs_input_grad[2] else None
        return (along * factor.view(shape)).to(x.dtype), of_weight, of_bias, None
