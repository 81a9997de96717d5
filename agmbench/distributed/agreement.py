"""Checks that all ranks still train the same model, and makes them go on with exactly the same numbers."""

from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

from agmbench.distributed.ranks import here
from agmbench.errors import RunFailed

T = TypeVar("T")
ROUNDING = 1e-4  # how far ranks may differ after an epoch, relative to the largest number of a tensor


def of_first_rank(value: T) -> T:
    """The value of the first rank, on every rank; without ranks, the value itself."""
    ranks = here()
    return value if ranks is None else ranks.broadcast(value)


@torch.no_grad()
def agree(*parts: nn.Module) -> None:
    """After an epoch, raise `RunFailed` if the tensors of ranks differ by more than rounding; then take over those of the first rank.

    Tensors differ if a component draws random numbers by itself, or reads something that differs between ranks.
    """
    ranks = here()
    if ranks is None:
        return
    named = dict(chain.from_iterable([*part.named_parameters(), *part.named_buffers()] for part in parts))
    mine = {name: tensor.clone() for name, tensor in named.items()}
    ranks.broadcast_tensors(list(named.values()))
    alike = torch.stack([_alike(mine[name], tensor) for name, tensor in named.items()])
    wrong = [name for name, one in zip(named, ranks.all_of(alike).tolist(), strict=True) if not one]
    if wrong:
        raise RunFailed(
            f"the processes of this job have arrived at different numbers in {len(wrong)} of {len(named)} tensors, the first {wrong[0]}: "
            "its method or an encoder of it cannot train on several devices (draws should come from `context.generator` "
            "or torch's own); remove --devices"
        )


def _alike(one: Tensor, other: Tensor) -> Tensor:
    if one.numel() == 0:
        return torch.ones((), dtype=torch.bool, device=one.device)
    one, other = one.double(), other.double()
    same = (one == other) | (one.isnan() & other.isnan())  # running figures may begin at infinity
    return torch.where(same, 0.0, one - other).abs().max() <= ROUNDING * other.nan_to_num(0, 0, 0).abs().max()
