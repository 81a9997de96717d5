"""CREMA-D: actors say a sentence in one of six emotions, heard and seen."""

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from agmbench.contracts import SplitName, Unsuitable
from agmbench.datasets import clips, prepared
from agmbench.datasets.arrays import Array, check_lengths
from agmbench.datasets.clips import Clip, Clips
from agmbench.datasets.files import FileDataset, Held, Layout, Progress, Source, found
from agmbench.datasets.media import (
    Decoded,
    Floats,
    check_present,
    load_images,
    log_spectrogram,
    pictures_of,
    read_frames,
    read_sound,
    spread,
)
from agmbench.datasets.splitting import ProtocolName, cut
from agmbench.tasks import SingleLabel

CLASSES = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
CLIP = re.compile(r"\d{4}_[A-Z]{3}_[A-Z]{3}_[A-Z]{2}", re.ASCII)  # actor, sentence, emotion, level
RATE, SECONDS = 22050, 3
SOUND = (1, 257, 188)  # frequencies, frames

Splits = Literal["literature", "actor-disjoint"]


def _held(some: Clips, *, frames: int, splits: Splits, protocol: ProtocolName) -> Held:
    """The four splits of the clips of all lists."""
    rows, notes = _parts(some, splits, protocol)
    held = some.held(rows, SOUND, frames, {"actor": lambda name: name[:4], "clip": str}, notes)
    actors = held.groups["actor"]
    tested = set(actors["test"])
    told = f"splits={splits}: {len(tested & set(actors['train']))} of {len(tested)} actors of test are in train too"
    return replace(held, notes=[*held.notes, told])


def _parts(some: Clips, splits: Splits, protocol: ProtocolName) -> tuple[dict[SplitName, Array], list[str]]:
    if protocol == "paper":
        if splits != "literature":
            raise Unsuitable(f"protocol=paper is of splits=literature alone; found splits={splits}")
        if set(some.lists) != {"train", "test"}:
            raise Unsuitable(f"protocol=paper cuts train.csv and test.csv of OGM-GE; found the lists {', '.join(some.lists)}")
    if splits == "actor-disjoint":
        actors = np.array([clip.name[:4] for clip in some.all])
        train, dev, valid, test = (np.flatnonzero(np.isin(actors, few)) for few in cut(np.unique(actors), (0.1, 0.1, 0.1)))
    elif "all" in some.lists:
        train, dev, valid, test = cut(some.rows["all"], (0.1, 0.1, 0.1))
    else:
        return clips.cut_lists(some.rows, protocol)
    own = "there is no train.csv and test.csv: test is our own cut of a tenth, not the literature's test set"
    return {"train": train, "dev": dev, "valid": valid, "test": test}, [own] if splits == "literature" else []


def spectrogram(path: Path) -> Floats:
    """`[1, 257, 188]`: the log spectrogram of a clip's sound, repeated to fill 3 s."""
    sound = np.resize(read_sound(path, RATE), SECONDS * RATE).clip(-1, 1)
    return log_spectrogram(sound, size=512, hop=353)[None]


class Raw(Layout):
    """Clips as files of sound and pictures, with list files named in `lists`."""

    sounds: ClassVar[str] = "AudioWAV"
    lists: ClassVar[Mapping[str, str]] = {"train": "train.csv", "test": "test.csv"}

    def read(self, root: Path, **options: Any) -> Held:
        return _held(self.clips(root, options["frames"]), **options)

    def clips(self, root: Path, frames: int) -> Clips:
        """The clips that the lists name. Raises `Unsuitable` if a file is missing."""
        lists = self.listed(root)
        every = [clip for part in lists.values() for clip in part]
        sounds = [root / self.sounds / f"{clip.name}.wav" for clip in every]
        check_present(sounds)
        pictures, seen = self.pictures(root, every, frames)
        files = [path for name in self.lists.values() if (path := root / name).exists()]
        return Clips(lists, Decoded(sounds, spectrogram), pictures, files, [*sounds, *seen])

    def listed(self, root: Path) -> dict[str, list[Clip]]:
        """The clips of each list."""
        return {part: _listed(root / name) for part, name in self.lists.items()}

    @abstractmethod
    def pictures(self, root: Path, clips: Sequence[Clip], frames: int) -> tuple[Decoded, list[Path]]:
        """`frames` frames of each clip, and the files that are read for them."""


def _listed(path: Path) -> list[Clip]:
    """Read a list with lines `clip,EMO`. A byte order mark and a first line `name,label` are skipped."""
    return clips.listed(path, _clip, "CLIP,EMOTION as in 1001_DFA_ANG_XX,ANG")


def _clip(row: list[str]) -> Clip | None:
    sound = len(row) == 2 and CLIP.fullmatch(row[0]) and row[1] in CLASSES
    return Clip(row[0], CLASSES.index(row[1])) if sound else None


class _Images(Raw):
    """Frames as `Image-{fps:02d}-FPS/<clip>/{frame:05d}.jpg`. If there are several such folders, the one with the most frames per second
    is read."""

    sampler = "agmbench.datasets.samples.cremad:images"

    def pictures(self, root: Path, clips: Sequence[Clip], frames: int) -> tuple[Decoded, list[Path]]:
        folder = max(root.glob("Image-*-FPS"))
        check_present([folder / clip.name for clip in clips])
        chosen = []
        for clip in clips:
            there = sorted((folder / clip.name).glob("*.jpg"))
            if not there:
                raise Unsuitable(f"{folder / clip.name} holds no frame; expected one jpg or more")
            chosen.append(spread(there, frames))
        return pictures_of(chosen, load_images), [path for paths in chosen for path in paths]


class OGMGE(_Images):
    """The layout of OGM-GE: `AudioWAV/<clip>.wav`, `Image-{fps:02d}-FPS/<clip>/`, `train.csv` and `test.csv` of 6,698 and 744 lines."""

    name = "ogm-ge"
    signs = ("AudioWAV", "Image-*-FPS", "train.csv", "test.csv")


class AGM(_Images):
    """The layout of AGM: `Audio/<clip>.wav`, `Image-01-FPS/<clip>/`, the lists of OGM-GE as `CREMAD/train.csv` and `CREMAD/test.csv`."""

    name = "agm"
    signs = ("Audio", "Image-*-FPS", "CREMAD/train.csv", "CREMAD/test.csv")
    sounds = "Audio"
    lists: ClassVar[Mapping[str, str]] = {"train": "CREMAD/train.csv", "test": "CREMAD/test.csv"}


class Relearning(_Images):
    """The layout of Diagnosing and Re-learning: that of OGM-GE, but with the lists `my_train.csv`, `val.csv` and `test.csv` of 5,954, 744
    and 744 clips."""

    name = "relearning"
    signs = ("AudioWAV", "Image-*-FPS", "my_train.csv", "val.csv", "test.csv")
    lists: ClassVar[Mapping[str, str]] = {"train": "my_train.csv", "valid": "val.csv", "test": "test.csv"}


class Official(Raw):
    """The official repository: `AudioWAV/<clip>.wav`, `VideoFlash/<clip>.flv`. It has no lists. If `train.csv` and `test.csv` of OGM-GE lie
    beside them, they give the literature's split; otherwise all clips are cut 70/10/10/10."""

    name = "official"
    signs = ("AudioWAV", "VideoFlash")
    sampler = "agmbench.datasets.samples.cremad:videos"

    def listed(self, root: Path) -> dict[str, list[Clip]]:
        if any((root / name).exists() for name in self.lists.values()):
            return super().listed(root)
        names = sorted(path.stem for path in (root / "VideoFlash").glob("*.flv") if CLIP.fullmatch(path.stem))
        for name in names:
            if name[9:12] not in CLASSES:
                raise Unsuitable(f"{root}/VideoFlash/{name}.flv has the emotion {name[9:12]}; expected {', '.join(CLASSES)}")
        if not names:
            raise Unsuitable(f"{root}/VideoFlash holds no clip; expected files such as 1001_DFA_ANG_XX.flv")
        return {"all": [Clip(name, CLASSES.index(name[9:12])) for name in names]}

    def pictures(self, root: Path, clips: Sequence[Clip], frames: int) -> tuple[Decoded, list[Path]]:
        videos = [root / "VideoFlash" / f"{clip.name}.flv" for clip in clips]
        check_present(videos)
        return pictures_of(videos, read_frames, times=frames), videos


class Prepared(clips.Prepared):
    """A folder made by `agmbench data prepare cremad`: 3 frames per clip, of which `frames: 1` reads the middle one. They are 224x224, and
    crops are taken from them."""

    dataset = "cremad"
    title = "CREMA-D"
    sound = SOUND
    classes = len(CLASSES)
    sampler = "agmbench.datasets.samples.cremad:prepared"

    def read(self, root: Path, **options: Any) -> Held:
        some = self.opened(root)
        if options["frames"] == 1:
            some = replace(some, pictures=some.pictures[:, 1:2])
        return _held(some, **options)

    def facts(self, some: Clips) -> dict[str, Any]:
        counts = {part: len(listed) for part, listed in some.lists.items()}
        return {"clips": [clip.name for clip in some.all], "labels": [clip.label for clip in some.all], "lists": counts}

    def lists(self, made: prepared.PreparedFolder) -> clips.Lists:
        facts = made.manifest["facts"]
        every = self.paired(made, facts["clips"], facts["labels"])
        counts = {part: int(facts["lists"][part]) for part in ("train", "valid", "test", "all") if part in facts["lists"]}
        check_lengths({f"{made.folder / prepared.MANIFEST} clips": len(every), "lists": sum(counts.values())})
        left = iter(every)
        return {part: [next(left) for _ in range(count)] for part, count in counts.items()}


class CREMAD(FileDataset):
    """A sample is a clip of an actor: `audio` `[1, 257, 188]` and `visual` `[3, 224, 224]`, or `[3, 3, 224, 224]` with three frames.

    7,442 clips of 91 actors in six classes: neutral, happy, sad, fear, disgust, anger, in OGM-GE's order. The sound is brought to
    22,050 Hz, repeated to fill 3 s, and given as log(|STFT| + 1e-7) of windows of 512 samples with hop 353, as in OGM-GE's code (whose
    librosa resamples with another filter). Frames are resized to 224x224 and normalised by ImageNet's mean and deviation. In training
    this is done with a random crop and flip, anew in each epoch, as in OGM-GE's and AGM's code (`augment.visual=crop-flip`); in
    evaluation frames are only resized.

    splits: `literature` is the split of OGM-GE and AGM, 6,698 clips and 744 for test, where every actor is in train and in test;
        valid (669 or 670) and dev are cut from train, always the same, unless there is a `val.csv`. `actor-disjoint` gives each actor to
        one split: 64 to train, 9 each to dev, valid and test. Papers and default: literature.
    protocol: `paper` is AGM's: train is the first 90 % of train, valid and test are the same first 90 % of test, so the best epoch is
        chosen ON THE TEST SET; dev is the last 10 % of both (6,028/745/669/669; the paper says 6,027/745/669). Default agmbench.
    frames: number of frames, evenly spread over the clip; 1 is the middle one. AGM 1, OGM-GE 3 from `Image-03-FPS`; default 1. If a folder
        holds fewer frames, some are taken twice.
    """

    name = "cremad"
    source = Source(
        page="https://github.com/CheyneyComputerScience/CREMA-D",
        licence="Open Database License 1.0",
        size="about 10 GB with Git LFS, 7,442 clips as AudioWAV/*.wav and VideoFlash/*.flv",
        then="clone it with 'git lfs clone'. For the split of the literature, put train.csv and test.csv of "
        "https://github.com/GeWu-Lab/OGM-GE_CVPR2022 (data/CREMAD) beside AudioWAV. Then run 'agmbench data prepare cremad --from DIR'",
    )
    layouts = (Prepared(), Relearning(), OGMGE(), AGM(), Official())
    class_names = CLASSES
    task = SingleLabel()

    def __init__(
        self,
        seed: int,
        *,
        splits: Splits = "literature",
        protocol: ProtocolName = "agmbench",
        frames: Literal[1, 3] = 1,
    ) -> None:
        self.hold(splits=splits, protocol=protocol, frames=frames)

    @classmethod
    def prepare(cls, source: Path, target: Path, progress: Progress, jobs: int) -> None:
        """Write the spectrogram and three frames of each clip; the source may have any of the raw layouts."""
        layout = found(cls.name, source, [layout for layout in cls.layouts if isinstance(layout, Raw)])
        assert isinstance(layout, Raw)
        Prepared().make(layout.clips(source, Prepared.frames), source, target, progress, jobs)
