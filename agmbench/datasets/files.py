"""What the data sets on disk share: where they are looked for, which layout is there, and reading that trusts nobody.

A data set has one or more layouts (`Layout`), told apart by what is on disk. A layout reads itself into `Held`: four splits, the
shapes of a sample and the files that were read. Whatever is wrong is an `Unsuitable` of one line that names the file, what was found
and what was expected.
"""

import hashlib
import json
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self, SupportsIndex, TypeVar

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from agmbench.contracts import (
    Batch,
    Change,
    ChangeOf,
    Dataset,
    Input,
    Split,
    SplitName,
    Staged,
    Tokens,
    Unsuitable,
    joined,
)
from agmbench.datasets import pickles

Array = NDArray[Any]
THREADS = min(8, os.cpu_count() or 1)
WHOLE = 64 << 20  # a larger file enters the fingerprint by its size, beginning, middle and end
PIECE = 4 << 20


class Source(NamedTuple):
    """Where users get a data set: its official `page`, `licence`, `size` in words, and what to do `then`."""

    page: str
    licence: str
    size: str
    then: str


@dataclass(frozen=True)
class Held:
    """What a layout holds.

    groups: what should not be shared between splits, by kind (`actor`, `video`, `clip`): the ids of each split, one a sample.
    notes: what a user should know of this copy, such as labels that were rebuilt or rows that were dropped.
    media: sound and pictures, too many to read at each start: their names and sizes enter the fingerprint, not their contents.
    checksums: those of files for which they are known, as `checksum` gives them; `agmbench data verify` compares.
    odd: what was found in the files that is seldom meant; `agmbench data verify` tells it.
    """

    splits: Mapping[SplitName, "OnDisk"]
    shapes: Mapping[str, tuple[int, ...]]
    files: Sequence[Path]
    groups: Mapping[str, Mapping[SplitName, Sequence[str]]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    media: Sequence[Path] = ()
    checksums: Mapping[Path, str] = field(default_factory=dict)
    odd: Sequence[str] = ()


class Layout(ABC):
    """One way in which users hold a data set. `signs` are the paths (or patterns) below its folder that tell it from others."""

    name: ClassVar[str]
    signs: ClassVar[tuple[str, ...]]

    @abstractmethod
    def read(self, root: Path, **options: Any) -> Held:
        """What is held below `root`, for the data set's own options."""

    @abstractmethod
    def write_sample(self, root: Path) -> None:
        """A tiny random pack in this layout below `root`: true names, keys, shapes of a sample and types, the same at every call."""


class FileDataset(Dataset):
    """A data set read from disk. A subclass names its `layouts` and calls `hold` in `__init__`.

    `layout` is the one that was found below `root`, `held` what it gave; `sample` says that the data are a random pack of
    `agmbench data sample`.
    """

    follows_seed = False
    name: ClassVar[str]
    source: ClassVar[Source]
    layouts: ClassVar[Sequence[Layout]]
    layout: Layout
    held: Held
    root: Path
    sample: bool

    def hold(self, **options: Any) -> None:
        """Find the layout and read it; `options` go to `Layout.read` and into the fingerprint."""
        self.root = root = folder(self.name)
        self.layout = found(self.name, root, self.layouts)
        held = self.layout.read(root, **options)
        given = tuple(options.items())
        self.held = replace(
            held, splits={n: split.found_at(Origin(self.layout, root, given, n)) for n, split in held.splits.items()}
        )
        self.held.splits["train"].batch(torch.tensor([0]))  # a copy that cannot be read is refused at once
        self.shapes = self.held.shapes
        self.sample = (root / SAMPLE).is_file()
        settings: list[Any] = [self.layout.name, {k: repr(v) for k, v in options.items()}]
        settings += sorted([str(path.relative_to(root)), regular(path).stat().st_size] for path in self.held.media)
        self.fingerprint = fingerprint(root, self.held.files, settings)

    def split(self, name: SplitName) -> Split:
        return self.held.splits[name]

    def checksums(self) -> Mapping[Path, str]:
        """Those of files that should be as they were, where they are known."""
        return self.held.checksums

    @classmethod
    def prepare(cls, *known: Any, **options: Any) -> None:
        """Raw files to a layout; a subclass has `(source, target, progress, jobs)`, and what a user may set keyword-only."""
        raise Unsuitable(f"'{cls.name}' needs no preparation: its layouts are read as they are")


ProtocolName = Literal["agmbench", "paper"]
ON_TEST = "protocol=paper: valid is the test set, so the best epoch is chosen on test"
HINT = ". 'agmbench data status' says where to get"
SAMPLE = "AGMBENCH_SAMPLE"  # a file of this name marks a random pack
Progress = Callable[[int, int], None]  # how many items are done, of how many


def folder(name: str) -> Path:
    """`$AGMBENCH_DATA/<name>`, or `$AGMBENCH_DATA` itself where it has no such folder; else `~/.cache/agmbench/data/<name>`."""
    named = os.environ.get("AGMBENCH_DATA")
    if not named:
        return home(name)
    root = Path(named).expanduser()
    return root / name if (root / name).is_dir() else root


def home(name: str) -> Path:
    """Where a data set is written: `$AGMBENCH_DATA/<name>`, else `~/.cache/agmbench/data/<name>`."""
    named = os.environ.get("AGMBENCH_DATA")
    return Path(named or "~/.cache/agmbench/data").expanduser() / name


def found(name: str, root: Path, layouts: Sequence[Layout]) -> Layout:
    """The first layout all of whose signs are there."""
    present = [(layout, [sign for sign in layout.signs if _there(root, sign)]) for layout in layouts]
    for layout, signs in present:
        if len(signs) == len(layout.signs):
            return layout
    nearest, signs = max(present, key=lambda item: len(item[1]) / len(item[0].signs))
    if signs:
        missing = [sign for sign in nearest.signs if sign not in signs]
        raise Unsuitable(f"in {root} the layout '{nearest.name}' misses {', '.join(missing)} (found {', '.join(signs)})")
    expected = "; ".join(f"{layout.name}: {', '.join(layout.signs)}" for layout in layouts)
    state = "there is no data in" if root.is_dir() else "there is no folder"
    raise Unsuitable(f"{state} {root}; expected one of {expected}{HINT} '{name}'")


def _there(root: Path, sign: str) -> bool:
    return next(root.glob(sign), None) is not None if any(letter in sign for letter in "*?[") else (root / sign).exists()


def fingerprint(root: Path, files: Iterable[Path], settings: Any) -> str:
    """Equal if and only if the files are: their contents, of those above 64 MiB the size and three pieces of 4 MiB."""
    total = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in sorted(set(files)):
        total.update(f"{path.relative_to(root)} {checksum(path, whole=False)}\n".encode())
    return total.hexdigest()[:16]


def checksum(path: Path, whole: bool = True) -> str:
    """sha256 of a file's contents; unless `whole`, of a large one its size and three pieces."""
    size = regular(path).stat().st_size
    with path.open("rb") as file:
        if whole or size <= WHOLE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(str(size).encode())
        for start in (0, size // 2, size - PIECE):
            file.seek(start)
            digest.update(file.read(PIECE))
    return digest.hexdigest()


# reading


KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def regular(path: Path) -> Path:
    """The path itself, of a file that is there and whole. A pipe in its place would keep a reader waiting, a device never end."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise Unsuitable(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise Unsuitable(f"{path} cannot be read: {_said(error)}") from error
    if not stat.S_ISREG(mode):
        raise Unsuitable(f"{path} cannot be read: it is {KINDS.get(stat.S_IFMT(mode), 'a device')}; expected a file")
    return path


def load_pickle(path: Path) -> Any:
    """A stranger's pickle, of numpy arrays and builtin containers alone."""
    size = regular(path).stat().st_size
    try:
        with path.open("rb") as file:
            return pickles.read(file, size)
    except (Exception, SystemExit) as error:  # a broken pickle raises nearly anything
        raise Unsuitable(f"{path} cannot be read as a pickle: {_said(error)}") from error


def load_npy(path: Path, shape: tuple[int | None, ...] | None = None) -> Array:
    """An array mapped from disk; `shape` is what is expected of it, `None` where any length will do."""
    regular(path)
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        said = "it holds objects and no numbers, or is not a file of NumPy" if "pickle" in f"{error}" else _said(error)
        raise Unsuitable(f"{path} cannot be read as an array: {said}") from error
    if shape is not None:
        check_shape(str(path), array.shape, shape)
    return array


def h5_file(path: Path) -> h5py.File:
    """An HDF5 file, open for reading, none of whose names leads into another file."""
    regular(path)
    try:
        file = h5py.File(path, "r")
        away = file.id.links.visit(_leads_away, info=True)
    except (OSError, RuntimeError) as error:
        raise Unsuitable(f"{path} cannot be read as HDF5: {_said(error)}") from error
    if away is not None:
        raise Unsuitable(f"{path} '{away.decode(errors='replace')}' is a link out of the file; expected the data themselves")
    return file


def _leads_away(name: bytes, link: Any) -> bytes | None:
    return None if link.type in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT) else name


def h5_array(where: str, found: Any) -> h5py.Dataset:
    """A data set of HDF5 whose numbers are in its own file: no other file enters the fingerprint."""
    if not isinstance(found, h5py.Dataset):
        raise Unsuitable(f"{where} is of type {type(found).__name__}; expected an array")
    if found.external or found.is_virtual:
        raise Unsuitable(f"{where} keeps its numbers in another file; expected the data themselves")
    return found


def open_h5(path: Path, key: str, shape: tuple[int | None, ...] | None = None) -> h5py.Dataset:
    """One data set of an HDF5 file, read from disk as it is indexed."""
    file = h5_file(path)
    if key not in file:
        raise Unsuitable(f"{path} has no key '{key}'; it has {', '.join(sorted(file)) or 'none'}")
    found = h5_array(f"{path} '{key}'", file[key])
    if shape is not None:
        check_shape(f"{path} '{key}'", found.shape, shape)
    return found


def check_shape(what: str, found: Sequence[int], expected: Sequence[int | None]) -> None:
    """Raise unless a shape is as expected, `None` standing for any length."""
    if len(found) != len(expected) or any(b is not None and a != b for a, b in zip(found, expected, strict=True)):
        shown = ", ".join("N" if length is None else str(length) for length in expected)
        raise Unsuitable(f"{what} has the shape {list(found)}; expected [{shown}]")


def check_lengths(lengths: Mapping[str, int]) -> None:
    """Raise unless all are equal; the keys say what has that length."""
    if len(set(lengths.values())) > 1:
        raise Unsuitable("lengths disagree: " + ", ".join(f"{what} has {length}" for what, length in lengths.items()))


def check_labels(what: str, labels: Array, classes: int) -> None:
    """Raise unless all are class numbers."""
    labels = np.asarray(labels)
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise Unsuitable(f"{what} has the label {wrong.flat[0]}; expected 0 to {classes - 1}")


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


# splits


Convert = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Stored:
    """Rows of an array on disk (or in memory), as one modality's input: read when a batch is asked for, converted where it is used.

    `lengths` `[N]`, if given, makes them sequences: the first `lengths[i]` tokens of row i are there (the last, if `in_front`).
    """

    array: Any  # a numpy array, a memory map, or a data set of HDF5
    convert: Convert = Tensor.float
    lengths: Array | None = None
    in_front: bool = False

    def read(self, rows: Array) -> Input:
        """Those rows, in that order, as they are stored."""
        values = torch.from_numpy(take(self.array, rows))
        if self.lengths is None:
            return values
        place = torch.arange(values.shape[1])
        length = torch.from_numpy(np.asarray(self.lengths)[rows].astype(np.int64)).unsqueeze(1)
        return Tokens(values, place >= values.shape[1] - length if self.in_front else place < length)

    def changed(self, rows: Array, numbers: Sequence[int], change: ChangeOf) -> Input:
        """Those rows, which have these numbers, each read and changed by itself."""
        array = getattr(self.array, "originals", self.array) if change.any_size else self.array
        stored = replace(self, array=array)
        return joined(several(lambda place: change(numbers[place], stored.read(rows[place : place + 1])), range(len(rows))))

    def finished(self, x: Input) -> Input:
        """What was read, converted."""
        return replace(x, values=self.convert(x.values)) if isinstance(x, Tokens) else self.convert(x)

    @property
    def in_memory(self) -> bool:
        """Whether reading it touches no file."""
        return type(self.array) is np.ndarray


class Origin(NamedTuple):
    """Where a split is found again by another process: a layout below a folder, the options it was read with, the split's name."""

    layout: Layout
    root: Path
    options: tuple[tuple[str, Any], ...]
    name: SplitName

    def split(self) -> Split:
        """That split; the splits of one data set are opened together, once a process."""
        return _opened(self._replace(name="train"))[self.name]


@lru_cache(maxsize=4)
def _opened(origin: Origin) -> Mapping[SplitName, Split]:
    return origin.layout.read(origin.root, **dict(origin.options)).splits


@dataclass(frozen=True, kw_only=True)
class OnDisk(Staged):
    """A split that travels to another process as the place where it is, if it has one, and not as what it holds."""

    origin: Origin | None = field(default=None, compare=False)

    @property
    @abstractmethod
    def in_memory(self) -> bool:
        """Whether reading it touches no file."""

    def found_at(self, origin: Origin) -> Self:
        """The same split, which knows where it is."""
        return replace(self, origin=origin)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        return (Origin.split, (self.origin,)) if self.origin else super().__reduce_ex__(protocol)


@dataclass(frozen=True)
class StoredSplit(OnDisk):
    """A split of stored arrays: sample i is row `rows[i]` of each; `targets` `[N, ...]` are in memory, in the order of `rows`.

    `absent[m]` `[N]`, of modalities that some samples lack, says which do; what is stored of them is no content. `weights` `[N]` are what
    the samples count in training, if not all alike.
    """

    inputs: Mapping[str, Stored]
    targets: Tensor
    rows: Array
    absent: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def in_memory(self) -> bool:
        return all(stored.in_memory for stored in self.inputs.values())

    def read(self, index: Tensor, change: Change | None = None) -> Batch:
        return self.numbered(index, index, change or {})

    def numbered(self, places: Tensor, numbers: Tensor, change: Change) -> Batch:
        """The samples at those places, by their numbers in the split that this one may be a part of."""
        rows = self.rows[places.numpy()]
        inputs = {
            m: stored.changed(rows, numbers.tolist(), change[m]) if m in change else stored.read(rows)
            for m, stored in self.inputs.items()
        }
        absent = {m: lacking[places] for m, lacking in self.absent.items()}
        weights = None if self.weights is None else self.weights[places]
        return Batch(inputs, self.targets[places], numbers, absent=absent, weights=weights)

    def finished(self, batch: Batch) -> Batch:
        return replace(batch, inputs={m: self.inputs[m].finished(x) for m, x in batch.inputs.items()})


@dataclass(frozen=True)
class Joined(OnDisk):
    """Splits one after another, of the same layout."""

    splits: Sequence[StoredSplit]

    def __len__(self) -> int:
        return sum(map(len, self.splits))

    @property
    def in_memory(self) -> bool:
        return all(split.in_memory for split in self.splits)

    @property
    def targets(self) -> Tensor:
        """Those of all."""
        return torch.cat([split.targets for split in self.splits])

    def read(self, index: Tensor, change: Change | None = None) -> Batch:
        ends = torch.tensor([len(split) for split in self.splits]).cumsum(0)
        owner = torch.bucketize(index, ends, right=True)
        asked = [
            (split, end - len(split), owner == number)
            for number, (split, end) in enumerate(zip(self.splits, ends, strict=True))
        ]
        batches = [split.numbered(index[mine] - start, index[mine], change or {}) for split, start, mine in asked if mine.any()]
        back = torch.cat([mine.nonzero().flatten() for _, _, mine in asked]).argsort()
        inputs = {m: joined([batch.inputs[m] for batch in batches])[back] for m in batches[0].inputs}
        return Batch(inputs, torch.cat([batch.targets for batch in batches])[back], index)

    def finished(self, batch: Batch) -> Batch:
        return self.splits[0].finished(batch)


def chained(splits: Sequence[StoredSplit]) -> StoredSplit | Joined:
    """One split of one or more."""
    return splits[0] if len(splits) == 1 else Joined(splits)


def tenths(rows: Array) -> tuple[Array, Array]:
    """The first nine tenths and the last, as the AGM paper cuts its sets."""
    place = len(rows) * 9 // 10
    return rows[:place], rows[place:]


def take(array: Any, rows: Array) -> Array:
    """Rows of an array in any order; HDF5 itself takes rising ones alone."""
    if not isinstance(array, h5py.Dataset):
        return np.ascontiguousarray(array[rows])
    rising, back = np.unique(rows, return_inverse=True)
    taken: Array = array[rising][back]
    return taken


T = TypeVar("T")
U = TypeVar("U")


def several(make: Callable[[T], U], things: Sequence[T]) -> list[U]:
    """Made of each thing, several at a time; one after another in a process that is one of several which read ahead."""
    mapped = map if get_worker_info() or len(things) == 1 else _pool().map
    return list(mapped(make, things))


@cache
def _pool() -> ThreadPoolExecutor:
    """The threads that decode, of this process."""
    return ThreadPoolExecutor(THREADS)


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads stay behind
