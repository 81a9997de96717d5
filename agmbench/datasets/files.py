"""What the data sets on disk share: where they are looked for, which layout is there, and how a split is found again.

A data set has one or more layouts (`Layout`), told apart by what is on disk. A layout reads itself into `Held`: four splits, the
shapes of a sample and the files that were read. Whatever is wrong is an `Unsuitable` of one line that names the file, what was found
and what was expected.
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

HINT = ". 'agmbench data status' says where to get"
SAMPLE = "AGMBENCH_SAMPLE"  # a file of this name marks a random pack
Progress = Callable[[int, int], None]  # how many items are done, of how many


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
    """One way in which users hold a data set. `signs` are the paths (or patterns) below its folder that tell it from others.

    `sampler` is the function that writes a random pack in this layout, as `module:name`: it takes the layout and the root, and its module
    is imported when a pack is asked for. So what reads data only reads. A layout may have a `write_sample` of its own instead.
    """

    name: ClassVar[str]
    signs: ClassVar[tuple[str, ...]]
    sampler: ClassVar[str]

    @abstractmethod
    def read(self, root: Path, **options: Any) -> Held:
        """What is held below `root`, for the data set's own options."""

    def write_sample(self, root: Path) -> None:
        """A tiny random pack in this layout below `root`: true names, keys, shapes of a sample and types, the same at every call."""
        module, _, name = self.sampler.partition(":")
        getattr(import_module(module), name)(self, root)


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


# where it is, and which layout is there


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


class NotHere(Unsuitable):
    """Nothing of a data set is where it was looked for; with the reason, and the layouts in which it would be recognised."""

    def __init__(self, name: str, reason: str, layouts: Sequence[Layout]) -> None:
        self.reason = reason
        self.layouts = tuple(f"{layout.name}: {', '.join(layout.signs)}" for layout in layouts)
        super().__init__(f"{reason}; expected one of {'; '.join(self.layouts)}{HINT} '{name}'")


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
    state = "there is no data in" if root.is_dir() else "there is no folder"
    raise NotHere(name, f"{state} {root}", layouts)


def _there(root: Path, sign: str) -> bool:
    return next(root.glob(sign), None) is not None if any(letter in sign for letter in "*?[") else (root / sign).exists()


# splits that are found again


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
