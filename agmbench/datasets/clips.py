"""Shared code of data sets of clips: lists of names and classes, the sound and some pictures of each clip, and their preparation.

The module of a single data set adds its classes, its lists, the form of its sound and the places of its files.
"""

import csv
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from agmbench.contracts import SplitName, Unsuitable
from agmbench.datasets import prepared
from agmbench.datasets.arrays import Array, check_labels, check_lengths, check_shape
from agmbench.datasets.checksums import checksums
from agmbench.datasets.files import Held, Layout, Progress
from agmbench.datasets.media import SIDE, frame_tensor
from agmbench.datasets.splitting import ON_TEST, ProtocolName, cut, tenths
from agmbench.datasets.stored import Stored, StoredSplit
from agmbench.datasets.untrusted import regular


class Clip(NamedTuple):
    """A clip's name and its class."""

    name: str
    label: int


Lists = Mapping[str, Sequence[Clip]]  # the lists train, valid and test, as far as they exist; or one list `all`
Rows = Mapping[SplitName, Array]


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The lines of a file that are not empty, each with its number and split into cells."""
    regular(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [(number, row) for number, row in enumerate(csv.reader(file), 1) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise Unsuitable(f"{path} cannot be read as a list of clips: {error}") from error


def listed(path: Path, clip: Callable[[list[str]], Clip | None], such: str) -> list[Clip]:
    """Read a list with one clip per line. `clip` makes a clip of the cells of a line, or returns `None` if they are not one; that raises
    `Unsuitable` with `such`, an example of a right line."""
    clips = []
    for number, row in _lines(path):
        if number == 1 and row == ["name", "label"]:
            continue
        if (made := clip(row)) is None:
            raise Unsuitable(f"{path} line {number} is '{','.join(row)[:60]}'; expected {such}")
        clips.append(made)
    if not clips:
        raise Unsuitable(f"{path} names no clip; expected one clip per line")
    return clips


def cut_lists(rows: Mapping[str, Array], protocol: ProtocolName) -> tuple[dict[SplitName, Array], list[str]]:
    """The four splits made of the lists train and test (and valid, if it exists), and notes that a user should know.

    Splits without a list are cut from train, always in the same way. Under the protocol `paper`, train is the first 90 % of train, valid
    and test are the same first 90 % of test, and dev is the rest of both.
    """
    train, test = rows["train"], rows["test"]
    if protocol == "paper":
        (train, dev), (test, rest) = tenths(train), tenths(test)
        return {"train": train, "dev": np.concatenate([dev, rest]), "valid": test, "test": test}, [ON_TEST]
    if "valid" in rows:
        train, dev = cut(train, (0.1,))
        return {"train": train, "dev": dev, "valid": rows["valid"], "test": test}, []
    train, dev, valid = cut(train)
    return {"train": train, "dev": dev, "valid": valid, "test": test}, []


@dataclass(frozen=True)
class Clips:
    """The clips of all lists, one list after another. `sounds` and `pictures` have one row per clip: its sound, and its pictures
    `[pictures, 224, 224, 3]`. They are arrays, or objects that are indexed like arrays.
    """

    lists: Lists
    sounds: Any
    pictures: Any
    files: Sequence[Path] = ()
    media: Sequence[Path] = ()
    notes: Sequence[str] = ()
    checksums: Mapping[Path, str] = field(default_factory=dict)

    @property
    def all(self) -> list[Clip]:
        """The clips of all lists, in order."""
        return [clip for clips in self.lists.values() for clip in clips]

    @property
    def rows(self) -> dict[str, Array]:
        """The rows of each list among all clips."""
        ends = np.cumsum([len(clips) for clips in self.lists.values()])
        return dict(zip(self.lists, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))

    def held(
        self,
        rows: Rows,
        sound: tuple[int, ...],
        frames: int,
        of: Mapping[str, Callable[[str], str]],
        notes: Sequence[str] = (),
    ) -> Held:
        """Make the four splits, whose clips are given by `rows`; `audio` has the shape `sound`, and `visual` has `frames` pictures.

        `of` has for each kind of group, such as `actor`, a function that finds the group in the name of a clip. Splits should not share
        groups.
        """
        clips = self.all
        targets = torch.tensor([clip.label for clip in clips])
        inputs = {
            "audio": Stored(self.sounds, lambda sounds: sounds.float().reshape(-1, *sound)),
            "visual": Stored(self.pictures, as_pictures),
        }
        return Held(
            splits={name: StoredSplit(inputs, targets[chosen], chosen) for name, chosen in rows.items()},
            shapes={"audio": sound, "visual": (3, SIDE, SIDE) if frames == 1 else (frames, 3, SIDE, SIDE)},
            files=self.files,
            media=self.media,
            groups={
                kind: {name: [make(clips[row].name) for row in chosen] for name, chosen in rows.items()}
                for kind, make in of.items()
            },
            notes=[*self.notes, *notes],
            checksums=self.checksums,
        )


def as_pictures(frames: Tensor) -> Tensor:
    """Turn bytes `[B, frames, H, W, 3]` into pictures `[B, frames, 3, H, W]`, or `[B, 3, H, W]` if there is one frame."""
    pictures = frame_tensor(frames)
    return pictures[:, 0] if pictures.shape[1] == 1 else pictures


@dataclass(frozen=True)
class Behind:
    """Several arrays, one after another, that are indexed as if they were one."""

    arrays: Sequence[Array]

    def __getitem__(self, rows: Array) -> Array:
        ends = np.cumsum([len(array) for array in self.arrays])
        owner = np.searchsorted(ends, rows, side="right")
        found = np.empty((len(rows), *self.arrays[0].shape[1:]), self.arrays[0].dtype)
        for number, array in enumerate(self.arrays):
            found[owner == number] = array[rows[owner == number] - (ends[number] - len(array))]
        return found


class Prepared(Layout):
    """A folder made by `agmbench data prepare`: the sound of each clip and some pictures of 224x224, from which crops are taken.

    All clips are in one array `clips/audio.npy` and one `clips/visual.npy`. With `apart`, each list has arrays of its own, also of the
    `targets`. `facts` names the clips in the manifest.
    """

    name = "prepared"
    signs = (f"prepared-*/{prepared.MANIFEST}",)
    dataset: ClassVar[str]
    title: ClassVar[str]
    sound: ClassVar[tuple[int, ...]]  # shape of the sound of one clip, as it is stored
    kind: ClassVar[str] = "float32"
    frames: ClassVar[int] = 3
    classes: ClassVar[int]
    apart: ClassVar[bool] = False

    @abstractmethod
    def facts(self, clips: Clips) -> dict[str, Any]:
        """What the manifest says about the clips."""

    @abstractmethod
    def lists(self, made: prepared.PreparedFolder) -> Lists:
        """Read the lists from the facts in the manifest. Raise `KeyError`, `TypeError` or `ValueError` if the facts are not those that
        `facts` writes."""

    def paired(self, made: prepared.PreparedFolder, names: Sequence[Any], labels: Sequence[int] | Array) -> list[Clip]:
        """Make clips of their names and labels. Raises `Unsuitable` if a label is not a class or the lengths differ."""
        path, numbers = made.folder / prepared.MANIFEST, np.array(labels, dtype=np.int64)
        check_labels(str(path), numbers, self.classes)
        check_lengths({f"{path} clips": len(names), "labels": len(numbers)})
        return [Clip(str(name), int(label)) for name, label in zip(names, numbers, strict=True)]

    def opened(self, root: Path, **wanted: Any) -> Clips:
        """The clips of the prepared folder; if there are several folders, of the one with the parameters `wanted`."""
        made = prepared.read(root, self.dataset, wanted)
        path = made.folder / prepared.MANIFEST
        try:
            lists = self.lists(made)
            folders = self.folders(lists)
            lacking = {"audio", "visual"}.difference(*(made.manifest["arrays"][folder] for folder in folders))
        except Unsuitable:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise Unsuitable(f"{path} is not a manifest of {self.title} ({error!r}); prepare the data again") from error
        if lacking:
            raise Unsuitable(f"{path} has no array {', '.join(sorted(lacking))}; prepare the data again")
        sounds, pictures = self._mapped(made, folders, wanted.get("frames", self.frames))
        notes = made.manifest["facts"].get("notes", [])
        return Clips(lists, sounds, pictures, made.files, notes=notes, checksums=made.checksums)

    def _mapped(self, made: prepared.PreparedFolder, folders: Lists, frames: int) -> "tuple[Array | Behind, Array | Behind]":
        """The sounds and the pictures of all folders. Raises `Unsuitable` if an array does not have the expected shape."""
        found: dict[str, list[Array]] = {"audio": [], "visual": []}
        for folder, clips in folders.items():
            expected = self.arrays(len(clips), frames)
            for name, arrays in found.items():
                arrays.append(made.array(folder, name))
                check_shape(f"{made.folder}/{folder}/{name}.npy", arrays[-1].shape, expected[name][0])
        sounds, pictures = (arrays[0] if len(arrays) == 1 else Behind(arrays) for arrays in found.values())
        return sounds, pictures

    def plan(self, clips: Clips, sources: Mapping[str, str], frames: int) -> prepared.Plan:
        """The plan for preparing the clips: arrays, parameters, checksums of the sources, and facts."""
        arrays = {folder: self.arrays(len(some), frames) for folder, some in self.folders(clips.lists).items()}
        return prepared.Plan(self.dataset, {"frames": frames}, sources, arrays, self.facts(clips))

    def folders(self, lists: Lists) -> Lists:
        """The clips in each folder of arrays: one folder per list if `apart`, else one folder for all."""
        return lists if self.apart else {"clips": [clip for clips in lists.values() for clip in clips]}

    def arrays(self, count: int, frames: int) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shapes and types of the arrays of `count` clips with `frames` pictures each."""
        targets = {"targets": ((count,), "int64")} if self.apart else {}
        return {"audio": ((count, *self.sound), self.kind), "visual": ((count, frames, SIDE, SIDE, 3), "uint8"), **targets}

    def make(self, clips: Clips, source: Path, target: Path, progress: Progress, jobs: int, frames: int | None = None) -> None:
        """Decode the clips, whose files are below `source`, into a prepared folder below `target`."""
        read = checksums(source, [*clips.files, *clips.media])
        store = prepared.Store(target, self.plan(clips, read, frames or self.frames))
        if not store.whole:
            decode = (clips.sounds.decode, clips.pictures.decode)
            things = zip(clips.sounds.things, clips.pictures.things, strict=True)
            prepared.fill(store, self.items(clips.lists, ((*thing, *decode) for thing in things)), decoded, progress, jobs)

    def items(self, lists: Lists, things: Iterable[Any]) -> list[prepared.Item]:
        """The items to write, one per clip: its folder and row, with its element of `things` and, if `apart`, its class."""
        places = [(folder, row, clip) for folder, clips in self.folders(lists).items() for row, clip in enumerate(clips)]
        return [
            (folder, row, (thing, clip.label if self.apart else None))
            for (folder, row, clip), thing in zip(places, things, strict=True)
        ]


def decoded(what: tuple[tuple[Any, Any, Callable[[Any], Array], Callable[[Any], Array]], int | None]) -> dict[str, Array]:
    """Decode one clip into its arrays. It is a module's function so that any process can call it."""
    (sound, picture, hear, see), label = what
    return labelled({"audio": hear(sound), "visual": see(picture)}, label)


def labelled(arrays: dict[str, Array], label: int | None) -> dict[str, Array]:
    """Add the class of a clip to its arrays, if there is one."""
    return arrays if label is None else {**arrays, "targets": np.asarray(label)}
