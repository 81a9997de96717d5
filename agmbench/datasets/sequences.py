"""Shared code of UR-FUNNY and CMU-MOSEI: reads packs of sequences in three splits, and makes our four splits of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from agmbench.contracts import SplitName, Unsuitable
from agmbench.datasets.arrays import Array, check_lengths, check_shape
from agmbench.datasets.files import Held, OnDisk
from agmbench.datasets.splitting import ON_TEST, ProtocolName, cut, tenths
from agmbench.datasets.stored import Stored, StoredSplit, chained
from agmbench.datasets.untrusted import load_pickle

PARTS = ("train", "valid", "test")
CHUNK = 1024  # rows of an array that are checked at once


class Part(NamedTuple):
    """One of the three splits of a copy. Sample i is row `rows[i]` of each input."""

    inputs: Mapping[str, Stored]
    targets: Tensor
    rows: Array
    ids: Sequence[str] = ()

    def at(self, places: Array) -> "Part":
        """The samples at some places."""
        ids = [self.ids[place] for place in places] if self.ids else ()
        return Part(self.inputs, self.targets[torch.from_numpy(places)], self.rows[places], ids)


def held(
    parts: Mapping[str, Part],
    shapes: Mapping[str, tuple[int, ...]],
    files: Sequence[Path],
    protocol: ProtocolName,
    kinds: Mapping[str, Callable[[str], str]] | None = None,
    notes: Sequence[str] = (),
) -> Held:
    """Make our four splits of the three of a copy. `kinds` has functions that find groups, such as the video, in the id of a sample.

    Protocol `agmbench`: dev is a tenth of train by a fixed permutation (of its videos, if `kinds` can find them); valid and test are the
    copy's. Protocol `paper`: train is the first 90 % of train, valid and test are both the first 90 % of test, and dev is the last 10 % of
    train and test.
    """
    for name, part in parts.items():
        if len(part.rows) < 4:
            raise Unsuitable(f"{files[0]} has {len(part.rows)} usable samples in '{name}'; expected at least 4")
    paper = protocol == "paper"
    pieces = _of_paper(parts) if paper else _with_dev(parts, (kinds or {}).get("video"))
    notes = [*notes, ON_TEST] if paper else notes
    groups: dict[str, dict[SplitName, Sequence[str]]] = {
        kind: {name: [of(id_) for part in some for id_ in part.ids] for name, some in pieces.items()}
        for kind, of in (kinds or {}).items()
    }
    return Held({name: _split(some) for name, some in pieces.items()}, shapes, files, groups, notes)


def _of_paper(parts: Mapping[str, Part]) -> dict[SplitName, list[Part]]:
    """The parts of which each split consists under the protocol `paper`, cut by the places of samples in train and test."""
    (train, train_rest), (test, test_rest) = (
        _at(part, tenths(np.arange(len(part.rows)))) for part in (parts["train"], parts["test"])
    )
    return {"train": [train], "dev": [train_rest, test_rest], "valid": [test], "test": [test]}


def _with_dev(parts: Mapping[str, Part], video_of: Callable[[str], str] | None) -> dict[SplitName, list[Part]]:
    """The parts of which each split consists when dev is cut from train."""
    train = parts["train"]
    videos = [video_of(id_) for id_ in train.ids] if video_of else np.arange(len(train.rows))
    _, video = np.unique(videos, return_inverse=True)
    _, chosen = cut(np.arange(video.max() + 1), (0.1,))
    train, dev = _at(train, [np.flatnonzero(~np.isin(video, chosen)), np.flatnonzero(np.isin(video, chosen))])
    return {"train": [train], "dev": [dev], "valid": [parts["valid"]], "test": [parts["test"]]}


def _at(part: Part, places: Sequence[Array]) -> list[Part]:
    return [part.at(some) for some in places]


def _split(parts: Sequence[Part]) -> OnDisk:
    return chained([StoredSplit(part.inputs, part.targets, part.rows) for part in parts])


# packs: one pickle {'train', 'valid', 'test'} x {name of an array}


Pack = Mapping[str, Mapping[str, Array]]


def read_pack(path: Path, expected: Mapping[str, tuple[int | None, ...]]) -> Pack:
    """Read the arrays of train, valid and test. Raises `Unsuitable` unless they have the expected shapes, which may differ between the
    three only in the number of rows.

    An expected shape that ends in -1 allows any further dimensions. `id` is read too if it exists.
    """
    content = entries(load_pickle(path), str(path), PARTS)
    pack = {part: _arrays(f"{path} '{part}'", content[part], expected) for part in PARTS}
    for name in expected:
        for before, after in pairwise(PARTS):
            check_shape(f"{path} '{after}' '{name}'", pack[after][name].shape, (None, *pack[before][name].shape[1:]))
    return pack


def _arrays(where: str, content: Any, expected: Mapping[str, tuple[int | None, ...]]) -> dict[str, Array]:
    content = entries(content, where, tuple(expected))
    arrays = {name: numbers(f"{where} '{name}'", content[name], shape) for name, shape in expected.items()}
    if "id" in content:
        ids = content["id"]
        arrays["id"] = ids if isinstance(ids, np.ndarray) else np.fromiter(ids, dtype=object)
    check_lengths({f"{where} '{name}'": len(array) for name, array in arrays.items()})
    return arrays


def entries(content: Any, where: str, keys: Iterable[Any]) -> Mapping[Any, Any]:
    """Return `content` if it is a dictionary with these keys, else raise `Unsuitable`."""
    if not isinstance(content, dict):
        raise Unsuitable(f"{where} is of type {type(content).__name__}; expected a dictionary")
    for key in keys:
        if key not in content:
            shown = ", ".join(repr(name) for name in list(content)[:8])
            raise Unsuitable(f"{where} has no key {key!r}; it has {shown or 'none'}")
    return content


def numbers(where: str, value: Any, shape: tuple[int | None, ...]) -> Array:
    """Return `value` as an array of numbers of this shape, or raise `Unsuitable`."""
    try:
        array = np.asarray(value)
    except ValueError:  # its rows differ in length
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "fiu":
        raise Unsuitable(f"{where} is not an array of numbers (its type is {array.dtype}, or its rows are of unlike lengths)")
    if shape[-1] == -1:
        check_shape(where, array.shape[: len(shape) - 1], shape[:-1])
    else:
        check_shape(where, array.shape, shape)
    return array


def decoded(id_: Any) -> str:
    """An id as text. If it is a row of several values, such as video, start and end, the first is taken."""
    first = id_
    while isinstance(first, list | tuple):
        first = first[0]
    if isinstance(first, np.ndarray):
        first = first.ravel()[0]
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


# padding


def there(array: Array) -> Array:
    """Which tokens of sequences `[N, T, F]` are not all zero, `[N, T]`."""
    parts = [(array[start : start + CHUNK] != 0).any(axis=2) for start in range(0, len(array), CHUNK)]
    return np.concatenate(parts) if parts else np.zeros(array.shape[:2], dtype=bool)


def extent(shown: Array) -> tuple[Array, bool]:
    """The lengths `[N]` of sequences padded with zeros, and whether the padding is at the beginning. `shown` comes from `there`."""
    total = np.full(len(shown), shown.shape[1])
    empty = ~shown.any(axis=1)
    before = np.where(empty, total, shown.argmax(axis=1))
    behind = np.where(empty, total, shown[:, ::-1].argmax(axis=1))
    in_front = bool(before.sum() >= behind.sum())
    return total - (before if in_front else behind), in_front


def finite(x: Tensor) -> Tensor:
    """The numbers as floats, with zero in place of those that are not finite."""
    return x.float().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def check_finite(where: str, array: Array) -> None:
    """Raise `Unsuitable` if a number is not finite."""
    for start in range(0, len(array), CHUNK):
        if not np.isfinite(array[start : start + CHUNK]).all():
            raise Unsuitable(f"{where} has numbers that are not finite in rows {start} to {min(start + CHUNK, len(array)) - 1}")


def stored(pack_part: Mapping[str, Array], where: str, names: Mapping[str, str]) -> tuple[dict[str, Stored], Array]:
    """The sequences of a part as inputs, and the rows that have text. `names` has the modality of each array.

    A modality with as many steps as the text is aligned with it word by word and has its lengths; other modalities have their own.
    """
    check_finite(f"{where} 'text'", pack_part["text"])
    shown = there(pack_part["text"])
    inputs = {}
    for name, modality in names.items():
        array = pack_part[name]
        lengths, in_front = extent(shown if array.shape[1] == shown.shape[1] else there(array))
        inputs[modality] = Stored(array, finite, lengths, in_front)
    return inputs, np.flatnonzero(shown.any(axis=1))


def padded(array: Array, length: int, in_front: bool = False) -> Array:
    """Cut or pad `[n, F]` to `[length, F]`: the first tokens with zeros at the end, or with `in_front` the last with zeros before them."""
    kept = array[-length:] if in_front else array[:length]
    missing = length - len(kept)
    return np.pad(kept, ((missing, 0) if in_front else (0, missing), (0, 0))).astype(np.float32)
