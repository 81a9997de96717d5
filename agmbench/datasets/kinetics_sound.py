"""Kinetics-Sounds: actions of Kinetics-400 that can be seen and heard."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agmbench.contracts import Unsuitable
from agmbench.datasets import clips, prepared
from agmbench.datasets.arrays import Array, check_labels
from agmbench.datasets.clips import Clip, Clips
from agmbench.datasets.files import FileDataset, Held, Layout, Progress, Source, found
from agmbench.datasets.media import Decoded, Floats, load_images, pictures_of, read_sound
from agmbench.datasets.splitting import ProtocolName
from agmbench.datasets.untrusted import load_npy
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
MEAN, SPREAD = -4.503877, 5.141276  # mean and deviation by which OGM-GE normalises filterbanks
LISTS = {"train": "my_train.txt", "test": "my_test.txt"}
LABELLED = (
    "classes and clips are those of OGM-GE's list of 31 classes; the 30 classes of the AGM paper's table 7 were never published"
)

Missing = Literal["error", "drop"]


def filterbank(sound: Floats) -> Floats:
    """The log mel filterbank `[1024, 128]` of 16 kHz sound, as in Kaldi: frames of 25 ms every 10 ms, normalised. It is cut to 1024 frames,
    or padded with zeros (before normalising)."""
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
    """Weights of 128 triangles on the mel scale from 20 Hz to 8 kHz, `[257, 128]`."""
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
    """Read a list with lines `id,10,class`."""
    found = clips.listed(path, _clip, "ID,10,CLASS as in -3Mwkq-7TV4_2,10,23")
    check_labels(str(path), np.array([clip.label for clip in found]), len(CLASSES))
    return found


def _clip(row: list[str]) -> Clip | None:
    sound = len(row) == 3 and row[2].isdecimal() and row[0] and "/" not in row[0]
    return Clip(row[0], int(row[2])) if sound else None


def _held(some: Clips, protocol: ProtocolName) -> Held:
    rows, notes = clips.cut_lists(some.rows, protocol)
    held = some.held(rows, (1, FRAMES, BANDS), PICTURES, {"clip": str, "video": lambda name: name[:11]}, notes)
    return replace(held, notes=[LABELLED, *held.notes])


class OGMGE(Layout):
    """The layout of OGM-GE: `my_train.txt` and `my_test.txt` of 14,799 and 2,597 lines `id,10,class`; `audio/<id>.npy`, a normalised
    filterbank `[1024, 128]`, or `audio/<id>.wav`; and n pictures `visual/<id>/frame_0000{t}.jpg`, of which three are read: the first, and
    those n // 3 and 2 (n // 3) later."""

    name = "ogm-ge"
    signs = ("my_train.txt", "my_test.txt", "audio", "visual")
    sampler = "agmbench.datasets.samples.kinetics_sound:ogm_ge"

    def read(self, root: Path, **options: Any) -> Held:
        return _held(self.clips(root, options["missing"]), options["protocol"])

    def clips(self, root: Path, missing: Missing) -> Clips:
        """The clips that the lists name, with the sound and three pictures of each. Incomplete clips are dropped, or raise `Unsuitable` if
        `missing` is `error`."""
        listed = {part: _listed(root / name) for part, name in LISTS.items()}
        sounds, pictures, gone = _files(root, [clip.name for named in listed.values() for clip in named])
        count = sum(map(len, listed.values()))
        if gone and missing == "error":
            way_out = "--set dataset.missing=drop trains on the others"
            raise Unsuitable(f"{gone[0]} ({len(gone)} of {count} clips of the lists are not whole; {way_out})")
        whole = {part: [clip for clip in named if clip.name in sounds] for part, named in listed.items()}
        for part, kept in whole.items():
            if not kept:
                raise Unsuitable(f"{root} has none of the clips that {LISTS[part]} names")
        names = [clip.name for kept in whole.values() for clip in kept]
        return Clips(
            whole,
            Decoded([sounds[name] for name in names], _sound),
            pictures_of([pictures[name] for name in names], load_images),
            files=[root / name for name in LISTS.values()],
            media=[path for name in names for path in (sounds[name], *pictures[name])],
            notes=[f"{len(gone)} of {count} clips of the lists are missing and dropped"] if gone else [],
        )


def _files(root: Path, names: Sequence[str]) -> tuple[dict[str, Path], dict[str, list[Path]], list[Unsuitable]]:
    """The sounds and the pictures of the complete clips, by name, and one error for each incomplete clip."""
    sounds, pictures, gone = {}, {}, []
    for name in names:
        try:
            sounds[name], pictures[name] = _sound_file(root, name), _picture_files(root, name)
        except Unsuitable as error:
            gone.append(error)
    return sounds, pictures, gone


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


class Prepared(clips.Prepared):
    """A folder made by `agmbench data prepare kinetics-sound`: filterbanks and three pictures of 224x224 per clip, from which crops are
    taken."""

    dataset = "kinetics-sound"
    title = "Kinetics-Sounds"
    sound = (1, FRAMES, BANDS)
    classes = len(CLASSES)
    sampler = "agmbench.datasets.samples.kinetics_sound:prepared"

    def read(self, root: Path, **options: Any) -> Held:
        return _held(self.opened(root), options["protocol"])

    def facts(self, some: Clips) -> dict[str, Any]:
        named = {part: {"clips": [c.name for c in of], "labels": [c.label for c in of]} for part, of in some.lists.items()}
        return {**named, "notes": list(some.notes)}

    def lists(self, made: prepared.PreparedFolder) -> clips.Lists:
        facts = {part: made.manifest["facts"][part] for part in LISTS}
        return {part: self.paired(made, of["clips"], of["labels"]) for part, of in facts.items()}


class KineticsSound(FileDataset):
    """A sample is a clip of 10 s: `audio` `[1, 1024, 128]`, a filterbank, and `visual` `[3, 3, 224, 224]`, three frames in time.

    The list is OGM-GE's: 14,799 clips and 2,597 for test in 31 classes, in alphabetical order. The AGM paper drew 30 classes at random
    (21,545/1,494/2,917) and published no list, so its table 7 can be compared with, but not reproduced. Valid (1,480) and dev (1,480) are
    cut from train, always the same. Filterbanks are Kaldi's with 128 bands and (x + 4.503877) / (2 * 5.141276), as in OGM-GE's code;
    an npy is taken as it is, already normalised. Pictures are resized to 224x224 and normalised by ImageNet's mean and deviation. In
    training this is done with a random crop and flip, anew in each epoch, as in OGM-GE's code (`augment.visual=crop-flip`); in
    evaluation they are only resized.

    protocol: `agmbench` (default) has the splits described above. `paper` cuts as AGM does: train is the first 90 % of the list of train,
        valid and test are the same first 90 % of the list of test, so the best epoch is chosen ON THE TEST SET; dev is the last 10 % of
        both.
    missing: what to do with clips of the lists that are missing or have fewer than three pictures, because videos disappear from YouTube:
        `error`, or `drop` them and report how many. Official code drops them silently; default error. A prepared folder holds what was
        there when it was made.
    """

    name = "kinetics-sound"
    source = Source(
        page="https://github.com/cvdfoundation/kinetics-dataset",
        licence="CC BY 4.0 (annotations); the videos are their owners'",
        size="17,396 clips of 10 s from Kinetics-400 (450 GB)",
        then="put into one folder my_train.txt and my_test.txt of https://github.com/GeWu-Lab/OGM-GE_CVPR2022 (data/KineticSound), and "
        "audio/<id>.wav and visual/<id>/frame_0000{t}.jpg, which its pre-processing makes. Then run 'agmbench data prepare kinetics-sound "
        "--from DIR'",
    )
    layouts = (Prepared(), OGMGE())
    class_names = CLASSES
    task = SingleLabel()

    def __init__(self, seed: int, *, protocol: ProtocolName = "agmbench", missing: Missing = "error") -> None:
        self.hold(protocol=protocol, missing=missing)

    @classmethod
    def prepare(cls, source: Path, target: Path, progress: Progress, jobs: int, *, missing: Missing = "error") -> None:
        """Write the filterbank and three pictures of each clip. `missing` means the same as in the data set."""
        layout = OGMGE()
        found(cls.name, source, [layout])
        Prepared().make(layout.clips(source, missing), source, target, progress, jobs)
