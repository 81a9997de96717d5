"""What the splits of a data set contain, as a hash: it enters the identity of every job on them."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from agmbench.contracts import SPLITS, Batch, Dataset, Input, Split, TensorSplit, Tokens

LOOKED_AT = 64  # samples of a split that is not in memory, evenly spread


def contents(dataset: Dataset) -> str:
    """16 hexadecimal digits: equal if what the splits hold is.

    Of a split in memory, every input and target enters. Of one that is read when asked, the number of samples, its `targets` and `rows`
    where it has them, and 64 samples evenly spread. What the author gives as `fingerprint` enters as well.
    """
    total = hashlib.sha256(dataset.fingerprint.encode())
    for name in SPLITS:
        split = dataset.split(name)
        total.update(f"{name} {len(split)}\n".encode())
        for part in _parts(split):
            _add(total, part)
    return total.hexdigest()[:16]


def alike(one: Split, other: Split) -> bool:
    """Whether two splits hold the same samples in the same order, by what of them is looked at."""
    if len(one) != len(other):
        return False
    hashes = [hashlib.sha256(), hashlib.sha256()]
    for total, split in zip(hashes, (one, other), strict=True):
        batch = _spread(split)
        for part in (*batch.inputs.values(), batch.targets):
            _add(total, part)
    return hashes[0].digest() == hashes[1].digest()


def _parts(split: Split) -> list[Any]:
    if isinstance(split, TensorSplit):
        return [part for m in sorted(split.inputs) for part in (m, split.inputs[m])] + [split.targets]
    batch = _spread(split)
    known = [torch.as_tensor(value) for name in ("targets", "rows") if (value := getattr(split, name, None)) is not None]
    return [part for m in sorted(batch.inputs) for part in (m, batch.inputs[m])] + [batch.targets, *known]


def _spread(split: Split) -> Batch:
    count = min(LOOKED_AT, len(split))
    return split.batch(torch.arange(count) * len(split) // max(1, count))


def _add(total: Any, part: str | Input | None) -> None:
    if isinstance(part, Tokens):
        _add(total, part.values)
        _add(total, part.mask)
    elif isinstance(part, Tensor):
        total.update(f"{part.dtype} {list(part.shape)}\n".encode())
        total.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    else:
        total.update(f"{part}\n".encode())
