"""What UR-FUNNY and CMU-MOSEI share: sequences of features in packs of three splits, and how those become our four."""

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
CHUNK = 1024  # rows looked at together


class Part(NamedTuple):
    """One of the three splits that a copy comes with: sample i is row `rows[i]` of each input."""

    inputs: Mapping[str, Stored]
    targets: Tensor
    rows: Array
    ids: Sequence[str] = ()

    def at(self, places: Array) -> "Part":
        """Some of the samples."""
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
    """Our four splits of a copy's three; `kinds` say what an id tells of a sample, for the leak report.

    agmbench: dev is a tenth of train, of its videos where `kinds` tell them, by a fixed permutation; valid and test are the copy's.
    paper: train is the first 90 % of train, valid and test are the first 90 % of test, dev is the last 10 % of both.
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
    """Each split in pieces: by the places of samples in train and in test."""
    (train, train_rest), (test, test_rest) = (
        _at(part, tenths(np.arange(len(part.rows)))) for part in (parts["train"], parts["test"])
    )
    return {"train": [train], "dev": [train_rest, test_rest], "valid": [test], "test": [test]}


def _with_dev(parts: Mapping[str, Part], video_of: Callable[[str], str] | None) -> dict[SplitName, list[Part]]:
    """Each split in pieces: dev is cut from train."""
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
    """Each part's arrays of numbers, of the expected shapes; but for their number of rows they are alike in all parts.

    A shape that ends in -1 may have any dimensions after those before. `id`, where there is one, is read too.
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
    """A dictionary that has those keys."""
    if not isinstance(content, dict):
        raise Unsuitable(f"{where} is of type {type(content).__name__}; expected a dictionary")
    for key in keys:
        if key not in content:
            shown = ", ".join(repr(name) for name in list(content)[:8])
            raise Unsuitable(f"{where} has no key {key!r}; it has {shown or 'none'}")
    return content


def numbers(where: str, value: Any, shape: tuple[int | None, ...]) -> Array:
    """An array of numbers of that shape."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of unlike lengths
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "fiu":
        raise Unsuitable(f"{where} is not an array of numbers (its type is {array.dtype}, or its rows are of unlike lengths)")
    if shape[-1] == -1:
        check_shape(where, array.shape[: len(shape) - 1], shape[:-1])
    else:
        check_shape(where, array.shape, shape)
    return array


def decoded(id_: Any) -> str:
    """An id as text; of a row of several, such as video, start and end, the first."""
    first = id_
    while isinstance(first, list | tuple):
        first = first[0]
    if isinstance(first, np.ndarray):
        first = first.ravel()[0]
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


# padding


def there(array: Array) -> Array:
    """`[N, T]`: where a sequence `[T, F]` is not all zero."""
    parts = [(array[start : start + CHUNK] != 0).any(axis=2) for start in range(0, len(array), CHUNK)]
    return np.concatenate(parts) if parts else np.zeros(array.shape[:2], dtype=bool)


def extent(shown: Array) -> tuple[Array, bool]:
    """The lengths of sequences padded with zeros, and whether the padding is in front; from `there`."""
    total = np.full(len(shown), shown.shape[1])
    empty = ~shown.any(axis=1)
    before = np.where(empty, total, shown.argmax(axis=1))
    behind = np.where(empty, total, shown[:, ::-1].argmax(axis=1))
    in_front = bool(before.sum() >= behind.sum())
    return total - (before if in_front else behind), in_front


def finite(x: Tensor) -> Tensor:
    """As floats, with zero for what is not finite."""
    return x.float().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def check_finite(where: str, array: Array) -> None:
    """Raise if a number is not finite."""
    for start in range(0, len(array), CHUNK):
        if not np.isfinite(array[start : start + CHUNK]).all():
            raise Unsuitable(f"{where} has numbers that are not finite in rows {start} to {min(start + CHUNK, len(array)) - 1}")


def stored(pack_part: Mapping[str, Array], where: str, names: Mapping[str, str]) -> tuple[dict[str, Stored], Array]:
    """The sequences of a part as inputs, `names` from array to modality, and the rows that have text.

    Modalities as long as the text are aligned with it word by word and have its lengths; the others have their own.
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
    """`[length, F]` of `[n, F]`: the first tokens with zeros behind, or the last with zeros in front."""
    kept = array[-length:] if in_front else array[:length]
    missing = length - len(kept)
    return np.pad(kept, ((missing, 0) if in_front else (0, missing), (0, 0))).astype(np.float32)
