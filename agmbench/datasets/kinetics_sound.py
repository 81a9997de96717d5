"""Kinetics-Sounds: actions of Kinetics-400 that can be seen and heard."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from agmbench.contracts import SplitName, Unsuitable
from agmbench.datasets import prepared
from agmbench.datasets.files import (
    ON_TEST,
    Array,
    FileDataset,
    Held,
    Layout,
    Progress,
    Protocol,
    Source,
    Stored,
    StoredSplit,
    check_labels,
    check_lengths,
    check_shape,
    found,
    load_npy,
    regular,
    tenths,
)
from agmbench.datasets.media import (
    SIDE,
    Decoded,
    Floats,
    checksums,
    cut,
    frame_tensor,
    load_images,
    pictures_of,
    read_sound,
    write_picture,
    write_sound,
)
from agmbench.tasks import SingleLabel

CLASSES = (
    *("blowing nose", "blowing out candles", "bowling", "chopping wood", "dribbling basketball", "laughing", "mowing lawn"),
    *("playing accordion", "playing bagpipes", "playing bass guitar", "playing clarinet", "playing drums", "playing guitar"),
    *("playing harmonica", "playing keyboard", "playing organ", "playing piano", "playing saxophone", "playing trombone"),
    *(
        "playing trumpet",
        "playing violin",
        "playing xylophone",
        "ripping paper",
        "shoveling snow",
        "shuffling cards",
        "singing",
    ),
    *("stomping grapes", "tap dancing", "tapping guitar", "tapping pen", "tickling"),
)
RATE = 16000
FRAMES, BANDS = 1024, 128
PICTURES = 3
MEAN, SPREAD = -4.503877, 5.141276  # of OGM-GE's filterbanks
LISTS: Mapping[Literal["train", "test"], str] = {"train": "my_train.txt", "test": "my_test.txt"}
LABELLED = (
    "classes and clips are those of OGM-GE's list of 31 classes; the 30 classes of the AGM paper's table 7 were never published"
)

Missing = Literal["error", "drop"]


class Clip(NamedTuple):
    """A clip's name (a YouTube id, then where it begins) and its class."""

    name: str
    label: int


def filterbank(sound: Floats) -> Floats:
    """`[1024, 128]`: the log mel filterbank of 16 kHz sound as Kaldi has it, 25 ms every 10 ms, cut or padded with zeros, normalised."""
    sound = sound - sound.mean()
    if len(sound) < 400:
        raise Unsuitable(f"a sound of {len(sound)} samples is shorter than one frame of 400")
    frames = np.lib.stride_tricks.sliding_window_view(sound.astype(np.float64), 400)[::160][:FRAMES]
    frames = frames - frames.mean(axis=1, keepdims=True)
    emphasised = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    power = np.abs(np.fft.rfft(emphasised * np.hanning(400), 512, axis=1)) ** 2
    bands = np.zeros((FRAMES, BANDS), dtype=np.float32)
    bands[: len(power)] = np.log(np.maximum(power @ _triangles(), np.finfo(np.float32).eps))
    return (bands - np.float32(MEAN)) / np.float32(2 * SPREAD)


@cache
def _triangles() -> Array:
    """`[257, 128]`: triangles on the mel scale from 20 Hz to 8 kHz."""
    low, high = (1127 * np.log1p(hertz / 700) for hertz in (20, RATE / 2))
    edges = np.linspace(low, high, BANDS + 2)
    mel = 1127 * np.log1p(np.arange(257) * RATE / 512 / 700)[:, None]
    step = edges[1] - edges[0]
    triangles: Array = np.minimum(mel - edges[:-2], edges[2:] - mel).clip(min=0) / step
    return triangles


def _sound(path: Path) -> Array:
    if path.suffix == ".npy":
        bands = np.asarray(load_npy(path, (FRAMES, BANDS)), dtype=np.float32)
        if not np.isfinite(bands).all():
            raise Unsuitable(f"{path} holds numbers that are not finite")
        return bands[None]
    try:
        return filterbank(read_sound(path, RATE))[None]
    except Unsuitable as error:
        raise error if str(path) in str(error) else Unsuitable(f"{path}: {error}") from error


def _listed(path: Path) -> list[Clip]:
    """Lines `id,10,class`."""
    regular(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise Unsuitable(f"{path} cannot be read as a list of clips: {error}") from error
    clips = []
    for number, row in enumerate(rows, 1):
        if len(row) != 3 or not row[2].isdecimal() or not row[0] or "/" in row[0]:
            raise Unsuitable(f"{path} line {number} is '{','.join(row)[:60]}'; expected ID,10,CLASS as in -3Mwkq-7TV4_2,10,23")
        clips.append(Clip(row[0], int(row[2])))
    if not clips:
        raise Unsuitable(f"{path} names no clip")
    check_labels(str(path), np.array([clip.label for clip in clips]), len(CLASSES))
    return clips


def _held(
    lists: Mapping[Literal["train", "test"], Sequence[Clip]],
    sounds: Any,
    pictures: Any,
    files: Sequence[Path],
    protocol: Protocol,
    media: Sequence[Path] = (),
    notes: Sequence[str] = (),
) -> Held:
    clips = [*lists["train"], *lists["test"]]
    names, targets = np.array([clip.name for clip in clips]), torch.tensor([clip.label for clip in clips])
    rows = _rows(len(lists["train"]), len(clips), protocol)
    inputs = {"audio": Stored(sounds, Tensor.float), "visual": Stored(pictures, frame_tensor)}
    return Held(
        splits={name: StoredSplit(inputs, targets[chosen], chosen) for name, chosen in rows.items()},
        shapes={"audio": (1, FRAMES, BANDS), "visual": (PICTURES, 3, SIDE, SIDE)},
        files=files,
        media=media,
        groups={
            "clip": {name: names[chosen].tolist() for name, chosen in rows.items()},
            "video": {name: [clip[:11] for clip in names[chosen].tolist()] for name, chosen in rows.items()},
        },
        notes=[LABELLED, *notes, *([ON_TEST] if protocol == "paper" else [])],
    )


def _rows(first: int, count: int, protocol: Protocol) -> dict[SplitName, Array]:
    """The rows of each split; those of test are numbered after the `first`, which are train's."""
    listed, test = np.arange(first), np.arange(first, count)
    if protocol == "paper":
        train, dev = tenths(listed)
        test, rest = tenths(test)
        return {"train": train, "dev": np.concatenate([dev, rest]), "valid": test, "test": test}
    train, dev, valid = cut(listed)
    return {"train": train, "dev": dev, "valid": valid, "test": test}


class OGMGE(Layout):
    """Of OGM-GE: `my_train.txt` and `my_test.txt` of 14,799 and 2,597 lines `id,10,class`; `audio/<id>.npy`, a normalised filterbank
    `[1024, 128]`, or `audio/<id>.wav`; `visual/<id>/frame_0000{t}.jpg`, three of those that are there: 1, 1 + n // 3, 1 + 2 (n // 3)."""

    name = "ogm-ge"
    signs = ("my_train.txt", "my_test.txt", "audio", "visual")

    def read(self, root: Path, **options: Any) -> Held:
        lists, sounds, pictures, notes = self.clips(root, options["missing"])
        media = [*sounds, *(path for paths in pictures for path in paths)]
        files = [root / name for name in LISTS.values()]
        return _held(
            lists, Decoded(sounds, _sound), pictures_of(pictures, load_images), files, options["protocol"], media, notes
        )

    def clips(
        self, root: Path, missing: Missing
    ) -> tuple[dict[Literal["train", "test"], list[Clip]], list[Path], list[list[Path]], list[str]]:
        """What the lists name, each clip's sound and its three pictures, and what a user should know."""
        listed = {part: _listed(root / name) for part, name in LISTS.items()}
        lists: dict[Literal["train", "test"], list[Clip]] = {part: [] for part in LISTS}
        sounds, pictures, gone = [], [], []
        for part, clips in listed.items():
            for clip in clips:
                try:
                    pair = _sound_file(root, clip.name), _picture_files(root, clip.name)
                except Unsuitable as error:
                    gone.append(error)
                    continue
                lists[part].append(clip)
                sounds.append(pair[0])
                pictures.append(pair[1])
        count = sum(map(len, listed.values()))
        if gone and missing == "error":
            way_out = "--set dataset.missing=drop trains on the others"
            raise Unsuitable(f"{gone[0]} ({len(gone)} of {count} clips of the lists are not whole; {way_out})")
        for part, kept in lists.items():
            if not kept:
                raise Unsuitable(f"{root} has none of the clips that {LISTS[part]} names")
        return lists, sounds, pictures, [f"{len(gone)} of {count} clips of the lists are missing and dropped"] if gone else []

    def write_sample(self, root: Path) -> None:
        draw = np.random.default_rng(0)
        for part, (name, count) in enumerate(zip(LISTS.values(), (31, 8), strict=True)):
            lines = []
            for number in range(count):
                letters = "".join(draw.choice(list("abcdefghijkXYZ0123_-"), 11).tolist())
                clip = f"{letters}_{number:06}_{number + 10:06}" if part == 0 else f"{letters}_{number}"
                lines.append(f"{clip},10,{number % len(CLASSES)}\n")
                if number % 2:
                    write_sound(root / "audio" / f"{clip}.wav", draw, seconds=0.3)
                else:
                    (root / "audio").mkdir(parents=True, exist_ok=True)
                    np.save(root / "audio" / f"{clip}.npy", draw.normal(size=(FRAMES, BANDS)).astype(np.float32))
                for frame in range(1, 5):
                    write_picture(root / "visual" / clip / f"frame_{frame:05}.jpg", draw)
            (root / name).write_text("".join(lines))


def _sound_file(root: Path, name: str) -> Path:
    for path in (root / "audio" / f"{name}.npy", root / "audio" / f"{name}.wav"):
        if path.exists():
            return path
    raise Unsuitable(f"{root}/audio/{name}.wav (or .npy) is missing")


def _picture_files(root: Path, name: str) -> list[Path]:
    there = sorted((root / "visual" / name).glob("frame_*.jpg"))
    if len(there) < PICTURES:
        raise Unsuitable(f"{root}/visual/{name} has {len(there)} pictures frame_*.jpg; expected {PICTURES} or more")
    return [there[number * (len(there) // PICTURES)] for number in range(PICTURES)]


class Prepared(Layout):
    """A folder made by `agmbench data prepare kinetics-sound`: filterbanks and three pictures a clip, of 224x224, from which crops are
    taken."""

    name = "prepared"
    signs = (f"prepared-*/{prepared.MANIFEST}",)

    def read(self, root: Path, **options: Any) -> Held:
        made = prepared.read(root, KineticsSound.name)
        lists = {part: _facts(made, part) for part in LISTS}
        count = sum(map(len, lists.values()))
        sounds, pictures = made.array("clips", "audio"), made.array("clips", "visual")
        check_shape(f"{made.folder}/clips/audio.npy", sounds.shape, (count, 1, FRAMES, BANDS))
        check_shape(f"{made.folder}/clips/visual.npy", pictures.shape, (count, PICTURES, SIDE, SIDE, 3))
        notes = made.manifest["facts"].get("notes", [])
        held = _held(lists, sounds, pictures, made.files, options["protocol"], notes=notes)
        return replace(held, checksums=made.checksums)

    def write_sample(self, root: Path) -> None:
        draw = np.random.default_rng(0)
        clips = [Clip(f"{number:011}_0", number % len(CLASSES)) for number in range(39)]
        items = [("clips", row, int(draw.integers(2**31))) for row in range(len(clips))]
        plan = _plan({"train": clips[:31], "test": clips[31:]}, {}, [])
        prepared.fill(prepared.Store(root, plan), items, _random_item, lambda done, of: None, jobs=1)


def _facts(made: prepared.Prepared, part: str) -> list[Clip]:
    path, facts = made.folder / prepared.MANIFEST, made.manifest["facts"]
    try:
        names, labels = list(facts[part]["clips"]), np.array(facts[part]["labels"], dtype=np.int64)
        lacking = {"audio", "visual"} - set(made.manifest["arrays"]["clips"])
    except (KeyError, TypeError, ValueError) as error:
        raise Unsuitable(f"{path} is no manifest of Kinetics-Sounds ({error!r}); prepare the data again") from error
    if lacking:
        raise Unsuitable(f"{path} has no array {', '.join(sorted(lacking))}; prepare the data again")
    check_lengths({f"{path} clips": len(names), "labels": len(labels)})
    check_labels(str(path), labels, len(CLASSES))
    return [Clip(str(name), int(label)) for name, label in zip(names, labels, strict=True)]


def _plan(
    lists: Mapping[Literal["train", "test"], Sequence[Clip]], sources: Mapping[str, str], notes: Sequence[str]
) -> prepared.Plan:
    count = sum(map(len, lists.values()))
    named: dict[str, Any] = {
        part: {"clips": [c.name for c in clips], "labels": [c.label for c in clips]} for part, clips in lists.items()
    }
    return prepared.Plan(
        dataset=KineticsSound.name,
        parameters={"frames": PICTURES},
        sources=sources,
        arrays={
            "clips": {
                "audio": ((count, 1, FRAMES, BANDS), "float32"),
                "visual": ((count, PICTURES, SIDE, SIDE, 3), "uint8"),
            }
        },
        facts={**named, "notes": list(notes)},
    )


def _random_item(seed: int) -> dict[str, Array]:
    draw = np.random.default_rng(seed)
    pictures = draw.integers(0, 256, (PICTURES, SIDE, SIDE, 3), dtype=np.uint8)
    return {"audio": draw.normal(size=(1, FRAMES, BANDS)).astype(np.float32), "visual": pictures}


def _decoded_item(what: tuple[Path, Sequence[Path]]) -> dict[str, Array]:
    return {"audio": _sound(what[0]), "visual": load_images(what[1])}


class KineticsSound(FileDataset):
    """A sample is a clip of 10 s: `audio` `[1, 1024, 128]`, a filterbank, and `visual` `[3, 3, 224, 224]`, three frames in time.

    The list is OGM-GE's: 14,799 clips and 2,597 for test in 31 classes, in alphabetical order. The AGM paper drew 30 classes at random
    (21,545/1,494/2,917) and published no list, so that its table 7 can only be compared with, not made again. Valid (1,480) and
    dev (1,480) are cut from train, always the same. Filterbanks are Kaldi's of 128 bands and (x + 4.503877) / (2 * 5.141276), as in
    OGM-GE's code; an npy is taken as it is, already normalised. Pictures are brought to 224x224 and normalised by ImageNet's mean
    and deviation. In training that is by a random crop and flip, anew in each epoch, as in OGM-GE's code (`augment.visual=crop-flip`);
    in evaluation they are resized alone.

    protocol: `agmbench` (default) is that. `paper` cuts as AGM does: train is the first 90 % of the list of train, valid and test are
        the same first 90 % of that of test, so the best epoch is chosen ON THE TEST SET; dev is the last 10 % of both.
    missing: what to do about clips of the lists that are not there or have fewer than three pictures, for videos leave YouTube:
        `error`, or `drop` them and say how many. Official code drops them and says nothing; default error. A prepared folder holds
        what was there when it was made.
    """

    name = "kinetics-sound"
    source = Source(
        page="https://github.com/cvdfoundation/kinetics-dataset",
        licence="CC BY 4.0 (annotations); the videos are their owners'",
        size="17,396 clips of 10 s, of Kinetics-400 (450 GB)",
        then="put my_train.txt and my_test.txt of https://github.com/GeWu-Lab/OGM-GE_CVPR2022 (data/KineticSound), audio/<id>.wav and "
        "visual/<id>/frame_0000{t}.jpg in one folder (its pre-processing makes both), then 'agmbench data prepare kinetics-sound'",
    )
    layouts = (Prepared(), OGMGE())
    class_names = CLASSES
    task = SingleLabel()

    def __init__(self, seed: int, *, protocol: Protocol = "agmbench", missing: Missing = "error") -> None:
        self.hold(protocol=protocol, missing=missing)

    @classmethod
    def prepare(cls, source: Path, target: Path, progress: Progress, jobs: int, *, missing: Missing = "error") -> None:
        """Filterbanks and three pictures of each clip; `missing` as in the data set."""
        layout = OGMGE()
        found(cls.name, source, [layout])
        lists, sounds, pictures, notes = layout.clips(source, missing)
        read = [*(source / name for name in LISTS.values()), *sounds, *(path for paths in pictures for path in paths)]
        store = prepared.Store(target, _plan(lists, checksums(source, read), notes))
        if store.whole:
            return
        items = [("clips", row, pair) for row, pair in enumerate(zip(sounds, pictures, strict=True))]
        prepared.fill(store, items, _decoded_item, progress, jobs)
