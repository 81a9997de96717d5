"""What data sets of clips share: lists of names and classes, a sound and some pictures of each clip, and their preparation.

The files of one data set are its classes, its lists, how its sound is given and where its files are.
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


Lists = Mapping[str, Sequence[Clip]]  # of train, valid and test, those that there are; or of `all`
Rows = Mapping[SplitName, Array]


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The lines of a list that are not empty, by their numbers."""
    regular(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [(number, row) for number, row in enumerate(csv.reader(file), 1) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise Unsuitable(f"{path} cannot be read as a list of clips: {error}") from error


def listed(path: Path, clip: Callable[[list[str]], Clip | None], such: str) -> list[Clip]:
    """The clips of a list, a line each; `clip` makes one of a line's cells, or `None` where they are none. `such` is an example."""
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
    """The splits of the lists train and test (and valid), and what a user should know: what lacks is cut from train, always the same.

    Under `paper` train is the first 90 % of train, valid and test the same first 90 % of test, and dev is what is left of both.
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
    """The clips of all lists, one list after another, with a sound and `[pictures, 224, 224, 3]` of each.

    `sounds` and `pictures` are arrays, or read like arrays.
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
        """All of them."""
        return [clip for clips in self.lists.values() for clip in clips]

    @property
    def rows(self) -> dict[str, Array]:
        """The places that each list has among all."""
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
        """The four splits of these rows: `audio` of the shape `sound`, `visual` of so many frames.

        `of` makes of a clip's name what should not be shared between splits, by its kind.
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
    """Bytes `[B, frames, H, W, 3]` as `[B, frames, 3, H, W]`; of one frame `[B, 3, H, W]`."""
    pictures = frame_tensor(frames)
    return pictures[:, 0] if pictures.shape[1] == 1 else pictures


@dataclass(frozen=True)
class Behind:
    """Arrays one behind another, as if they were one."""

    arrays: Sequence[Array]

    def __getitem__(self, rows: Array) -> Array:
        ends = np.cumsum([len(array) for array in self.arrays])
        owner = np.searchsorted(ends, rows, side="right")
        found = np.empty((len(rows), *self.arrays[0].shape[1:]), self.arrays[0].dtype)
        for number, array in enumerate(self.arrays):
            found[owner == number] = array[rows[owner == number] - (ends[number] - len(array))]
        return found


class Prepared(Layout):
    """A folder made by `agmbench data prepare`: the sound and so many pictures of each clip, of 224x224, from which crops are taken.

    All clips are in one array `clips/audio.npy` and one `clips/visual.npy`, or those of each list are `apart`, with their `targets`;
    `facts` says in the manifest which they are.
    """

    name = "prepared"
    signs = (f"prepared-*/{prepared.MANIFEST}",)
    dataset: ClassVar[str]
    title: ClassVar[str]
    sound: ClassVar[tuple[int, ...]]  # of one clip, as it is stored
    kind: ClassVar[str] = "float32"
    frames: ClassVar[int] = 3
    classes: ClassVar[int]
    apart: ClassVar[bool] = False

    @abstractmethod
    def facts(self, clips: Clips) -> dict[str, Any]:
        """What the manifest says of them."""

    @abstractmethod
    def lists(self, made: prepared.PreparedFolder) -> Lists:
        """The same again; a `KeyError`, `TypeError` or `ValueError` says that these are no such facts."""

    def paired(self, made: prepared.PreparedFolder, names: Sequence[Any], labels: Sequence[int] | Array) -> list[Clip]:
        """Clips of their names and their classes."""
        path, numbers = made.folder / prepared.MANIFEST, np.array(labels, dtype=np.int64)
        check_labels(str(path), numbers, self.classes)
        check_lengths({f"{path} clips": len(names), "labels": len(numbers)})
        return [Clip(str(name), int(label)) for name, label in zip(names, numbers, strict=True)]

    def opened(self, root: Path, **wanted: Any) -> Clips:
        """The clips of the prepared folder, of the one with these parameters if there are several."""
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
        """The sounds and the pictures of all folders, of the shapes that they should have."""
        found: dict[str, list[Array]] = {"audio": [], "visual": []}
        for folder, clips in folders.items():
            expected = self.arrays(len(clips), frames)
            for name, arrays in found.items():
                arrays.append(made.array(folder, name))
                check_shape(f"{made.folder}/{folder}/{name}.npy", arrays[-1].shape, expected[name][0])
        sounds, pictures = (arrays[0] if len(arrays) == 1 else Behind(arrays) for arrays in found.values())
        return sounds, pictures

    def plan(self, clips: Clips, sources: Mapping[str, str], frames: int) -> prepared.Plan:
        """What will be prepared of them."""
        arrays = {folder: self.arrays(len(some), frames) for folder, some in self.folders(clips.lists).items()}
        return prepared.Plan(self.dataset, {"frames": frames}, sources, arrays, self.facts(clips))

    def folders(self, lists: Lists) -> Lists:
        """The clips of each folder of arrays."""
        return lists if self.apart else {"clips": [clip for clips in lists.values() for clip in clips]}

    def arrays(self, count: int, frames: int) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shapes and types of the arrays of so many clips."""
        targets = {"targets": ((count,), "int64")} if self.apart else {}
        return {"audio": ((count, *self.sound), self.kind), "visual": ((count, frames, SIDE, SIDE, 3), "uint8"), **targets}

    def make(self, clips: Clips, source: Path, target: Path, progress: Progress, jobs: int, frames: int | None = None) -> None:
        """Decode what is below `source` into a folder below `target`."""
        read = checksums(source, [*clips.files, *clips.media])
        store = prepared.Store(target, self.plan(clips, read, frames or self.frames))
        if not store.whole:
            decode = (clips.sounds.decode, clips.pictures.decode)
            things = zip(clips.sounds.things, clips.pictures.things, strict=True)
            prepared.fill(store, self.items(clips.lists, ((*thing, *decode) for thing in things)), decoded, progress, jobs)

    def items(self, lists: Lists, things: Iterable[Any]) -> list[prepared.Item]:
        """What is to be written of each clip: a thing each, with its class if the arrays have `targets`."""
        places = [(folder, row, clip) for folder, clips in self.folders(lists).items() for row, clip in enumerate(clips)]
        return [
            (folder, row, (thing, clip.label if self.apart else None))
            for (folder, row, clip), thing in zip(places, things, strict=True)
        ]


def decoded(what: tuple[tuple[Any, Any, Callable[[Any], Array], Callable[[Any], Array]], int | None]) -> dict[str, Array]:
    """The arrays of one clip, in any process."""
    (sound, picture, hear, see), label = what
    return labelled({"audio": hear(sound), "visual": see(picture)}, label)


def labelled(arrays: dict[str, Array], label: int | None) -> dict[str, Array]:
    """The arrays of one clip, with its class where there is one."""
    return arrays if label is None else {**arrays, "targets": np.asarray(label)}
