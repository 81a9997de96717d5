"""Shared code of data sets on disk: finds their folder and their layout, and opens a split again in another process.

A data set has one or more layouts (`Layout`), which are recognised by their files. A layout is read into `Held`: four splits, the
shapes of a sample and the files that were read. If something is wrong, it raises `Unsuitable` with one line that names the file, what
was found and what was expected.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, SupportsIndex

import torch

from agmbench.contracts import Dataset, Split, SplitName, Staged, Unsuitable
from agmbench.datasets.checksums import fingerprint
from agmbench.datasets.untrusted import regular

SAMPLE = "AGMBENCH_SAMPLE"  # a file of this name marks a random pack
Progress = Callable[[int, int], None]  # called with the number of items that are done, and the number of all


class Source(NamedTuple):
    """Where users get a data set: its official `page`, `licence`, `size` in words, and what to do `then`."""

    page: str
    licence: str
    size: str
    then: str


@dataclass(frozen=True)
class Held:
    """The content of a layout: four splits, the shapes of a sample and the files that were read.

    groups: what splits should not share, by kind (`actor`, `video`, `clip`): the ids of each split, one per sample.
    notes: what a user should know about this copy, such as labels that were rebuilt or rows that were dropped.
    media: files of sound and pictures. They are too many to read at each start, so only their names and sizes enter the fingerprint.
    checksums: the known checksums of files, as `checksum` gives them; `agmbench data verify` compares them.
    odd: lines about things in the files that are seldom intended; `agmbench data verify` prints them.
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
    """One form in which users have a data set on disk. `signs` are paths (or patterns) below its folder by which it is recognised.

    `sampler` names, as `module:name`, the function that writes a random pack in this layout. It takes the layout and the root. Its module
    is imported only when a pack is wanted, so that reading data does not load the code that writes it. A layout may define `write_sample`
    instead.
    """

    name: ClassVar[str]
    signs: ClassVar[tuple[str, ...]]
    sampler: ClassVar[str]

    @abstractmethod
    def read(self, root: Path, **options: Any) -> Held:
        """Read the data below `root`; `options` are the parameters of the data set. Raises `Unsuitable` if something is wrong."""

    def write_sample(self, root: Path) -> None:
        """Write a tiny random pack in this layout below `root`. It has the real names, keys, types and shapes of a sample, and is the same
        at every call."""
        module, _, name = self.sampler.partition(":")
        getattr(import_module(module), name)(self, root)


class FileDataset(Dataset):
    """A data set read from disk. A subclass names its `layouts` and calls `hold` in `__init__`.

    `layout` is the layout that was found below `root`, and `held` what was read from it. `sample` tells whether the data are a random
    pack of `agmbench data sample`.
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
        self.held.splits["train"].batch(torch.tensor([0]))  # raises now if the copy cannot be read
        self.shapes = self.held.shapes
        self.sample = (root / SAMPLE).is_file()
        settings: list[Any] = [self.layout.name, {k: repr(v) for k, v in options.items()}]
        settings += sorted([str(path.relative_to(root)), regular(path).stat().st_size] for path in self.held.media)
        self.fingerprint = fingerprint(root, self.held.files, settings)

    def split(self, name: SplitName) -> Split:
        return self.held.splits[name]

    def checksums(self) -> Mapping[Path, str]:
        """The known checksums of files."""
        return self.held.checksums

    @classmethod
    def prepare(cls, *known: Any, **options: Any) -> None:
        """Turn raw files into a layout. A subclass takes `(source, target, progress, jobs)`, and as keywords what a user may set."""
        raise Unsuitable(f"'{cls.name}' needs no preparation: its layouts are read as they are")


# the folder of a data set, and its layout


def folder(name: str) -> Path:
    """The folder from which a data set is read: `$AGMBENCH_DATA/<name>`, or `$AGMBENCH_DATA` itself if it has no such folder. Without that
    variable, `~/.cache/agmbench/data/<name>`."""
    named = os.environ.get("AGMBENCH_DATA")
    if not named:
        return home(name)
    root = Path(named).expanduser()
    return root / name if (root / name).is_dir() else root


def home(name: str) -> Path:
    """The folder to which a data set is written: `$AGMBENCH_DATA/<name>`, or `~/.cache/agmbench/data/<name>` without that variable."""
    named = os.environ.get("AGMBENCH_DATA")
    return Path(named or "~/.cache/agmbench/data").expanduser() / name


class NotHere(Unsuitable):
    """Raised if a data set is not in its folder. It has the reason, and the layouts in which the data set would be recognised."""

    def __init__(self, name: str, reason: str, layouts: Sequence[Layout]) -> None:
        self.reason = reason
        self.layouts = tuple(f"{layout.name}: {', '.join(layout.signs)}" for layout in layouts)
        names = ", ".join(layout.name for layout in layouts)
        how = f"'agmbench data status {name}' says which files each has, and where to get them"
        super().__init__(f"{reason}; known layouts: {names}. {how}")


def found(name: str, root: Path, layouts: Sequence[Layout]) -> Layout:
    """The first layout of which all signs exist below `root`. Raises `NotHere` if no layout has any, else `Unsuitable` with those that the
    nearest layout lacks."""
    present = [(layout, [sign for sign in layout.signs if _there(root, sign)]) for layout in layouts]
    for layout, signs in present:
        if len(signs) == len(layout.signs):
            return layout
    nearest, signs = max(present, key=lambda item: len(item[1]) / len(item[0].signs))
    if signs:
        missing = [sign for sign in nearest.signs if sign not in signs]
        raise Unsuitable(f"in {root} the layout '{nearest.name}' misses {', '.join(missing)} (found {', '.join(signs)})")
    state = "there is no data in" if root.is_dir() else "there is no folder"
    raise NotHere(name, f"{state} {root}", layouts)


def _there(root: Path, sign: str) -> bool:
    return next(root.glob(sign), None) is not None if any(letter in sign for letter in "*?[") else (root / sign).exists()


# splits that another process opens again


class Origin(NamedTuple):
    """What another process needs to open a split: its layout, folder and name, and the options with which it was read."""

    layout: Layout
    root: Path
    options: tuple[tuple[str, Any], ...]
    name: SplitName

    def split(self) -> Split:
        """Open the split. A process opens the splits of a data set together, and only once."""
        return _opened(self._replace(name="train"))[self.name]


@lru_cache(maxsize=4)
def _opened(origin: Origin) -> Mapping[SplitName, Split]:
    return origin.layout.read(origin.root, **dict(origin.options)).splits


@dataclass(frozen=True, kw_only=True)
class OnDisk(Staged):
    """A split on disk. If it knows its origin, only that is sent to another process, not the data."""

    origin: Origin | None = field(default=None, compare=False)

    @property
    @abstractmethod
    def in_memory(self) -> bool:
        """Whether the split is read without touching a file."""

    def found_at(self, origin: Origin) -> Self:
        """The same split with this origin."""
        return replace(self, origin=origin)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        return (Origin.split, (self.origin,)) if self.origin else super().__reduce_ex__(protocol)
