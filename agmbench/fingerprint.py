"""A hash of what the splits of a data set contain. It is part of the digest of every job on them."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agmbench.contracts import SPLITS, Batch, Dataset, Input, Split, TensorSplit, Tokens, Unsuitable

READ = 64 << 20  # how many bytes of a split that is not in memory are hashed
FEWEST = 64  # but never fewer samples than this
PIECE = 64  # samples that are read at once


def contents(dataset: Dataset) -> str:
    """A hash of 16 hexadecimal digits, equal for data sets whose splits contain the same.

    Of a split in memory, every input and target is hashed. Of a split that is read on demand: the number of samples, its `targets` and
    `rows` if it has them, and as many samples as fit into 64 MiB (at least 64), evenly spread. The `fingerprint` that the author of the
    data set gives is hashed as well.
    """
    total = hashlib.sha256(dataset.fingerprint.encode())
    for name in SPLITS:
        split = dataset.split(name)
        total.update(f"{name} {len(split)}\n".encode())
        for part in _parts(split, name, bool(dataset.fingerprint)):
            _add(total, part)
    return total.hexdigest()[:16]


def alike(one: Split, other: Split) -> bool:
    """Whether two splits hold the same samples in the same order, judged by a few of them."""
    if len(one) != len(other):
        return False
    hashes = [hashlib.sha256(), hashlib.sha256()]
    for total, split in zip(hashes, (one, other), strict=True):
        for part in _of(split.batch(_spread(split, FEWEST))):
            _add(total, part)
    return hashes[0].digest() == hashes[1].digest()


def _parts(split: Split, name: str, named: bool) -> Iterator[Any]:
    if isinstance(split, TensorSplit):
        yield from (part for m in sorted(split.inputs) for part in (m, split.inputs[m]))
        yield split.targets
        yield from () if split.weights is None else (split.weights,)
        return
    yield from (value for key in ("targets", "rows") if not callable(value := getattr(split, key, None)))
    yield from (value for value in (getattr(split, "weights", None),) if isinstance(value, Tensor))
    if not len(split):
        return
    first, again = (split.batch(torch.tensor([0])) for _ in range(2))
    if _hash(first) != _hash(again):
        if named:  # samples are random, but the author's fingerprint identifies the data
            return
        raise Unsuitable(
            f"{name} gives different numbers each time for the same sample, so nobody could know on which data a run was trained; seed "
            "the random numbers by the sample's number, or give the data set a fingerprint"
        )
    size = sum(x.numel() * x.element_size() for x in _of(first) if isinstance(x, Tensor))
    for index in _spread(split, max(FEWEST, READ // max(1, size))).split(PIECE):
        yield from _of(split.batch(index))


def _of(batch: Batch) -> Iterator[Any]:
    yield from (part for m in sorted(batch.inputs) for part in (m, batch.inputs[m]))
    yield batch.targets
    yield from () if batch.weights is None else (batch.weights,)


def _hash(batch: Batch) -> bytes:
    total = hashlib.sha256()
    for part in _of(batch):
        _add(total, part)
    return total.digest()


def _spread(split: Split, most: int) -> Tensor:
    """The numbers of up to `most` samples, evenly spread."""
    count = min(most, len(split))
    return torch.arange(count) * len(split) // max(1, count)


def _add(total: Any, part: str | Input | Any) -> None:
    if isinstance(part, Tokens):
        _add(total, part.values)
        _add(total, part.mask)
    elif isinstance(part, Tensor):
        total.update(f"{part.dtype} {list(part.shape)}\n".encode())
        total.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    elif isinstance(part, np.ndarray) and part.dtype.kind in "biuf":
        total.update(f"{part.dtype} {list(part.shape)}\n".encode() + np.ascontiguousarray(part).tobytes())
    else:
        total.update(f"{part}\n".encode())
