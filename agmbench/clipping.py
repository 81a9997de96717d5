"""The rule by which AGM's code clips gradients: by their norm, but only where an element of a head's gradient is large."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def clip_norm_by_heads(tensors: Iterable[Tensor], heads: Iterable[nn.Linear], most: float) -> None:
    """Limit the norm of all gradients together to `most` if an element of a head's weight gradient is larger than `most`.

    Otherwise, and if no head has a gradient, the gradients stay as they are. The host does not wait for the device's answer. The official
    code does this for AGM under every fusion, and for every method under early fusion; its heads are the last linear layers.
    """
    of_heads = [head.weight.grad for head in heads if head.weight.grad is not None]
    if of_heads:
        gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
        torch._foreach_mul_(gradients, clip_factor(of_heads, nn.utils.get_total_norm(gradients), most))


def clip_factor(heads: Iterable[Tensor], norm: Tensor, most: float) -> Tensor:
    """The factor by which all gradients are multiplied, `[]`; 1 if no head's gradient is too large."""
    too_large = torch.stack([gradient.abs().max() > most for gradient in heads]).any()
    return torch.where(too_large, (most / (norm + 1e-6)).clamp(max=1), 1.0)  # the formula of torch.nn.utils.clip_grad_norm_
