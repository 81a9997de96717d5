"""UR-FUNNY's clips themselves, for users who do not have its features: sound and pictures, without words.

A sample is `audio` `[1, 257, 454]`, the log spectrogram of a clip's last ten seconds, where the punchline is (16 kHz, window 512, hop
353, shorter sounds begin with silence), and `visual` `[3, 3, 224, 224]`, frames evenly spread over the whole clip.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agmbench.datasets import prepared
from agmbench.datasets.arrays import Array, check_labels
from agmbench.datasets.checksums import checksums
from agmbench.datasets.files import Held, Layout, Progress, found
from agmbench.datasets.media import (
    SIDE,
    Decoded,
    check_present,
    frame_tensor,
    log_spectrogram,
    pictures_of,
    read_frames,
    read_sound,
)
from agmbench.datasets.sequences import PARTS, Part, entries, held, numbers
from agmbench.datasets.splitting import ProtocolName
from agmbench.datasets.stored import Stored
from agmbench.datasets.untrusted import load_pickle

NAME = "urfunny"
VIDEOS, FOLDS, LABELS = "urfunny2_videos", "data_folds.pkl", "humor_label_sdk.pkl"
FOLD = {"train": "train", "valid": "dev", "test": "test"}  # names of the parts in data_folds.pkl
RATE, SECONDS, FRAMES = 16_000, 10, 3
SOUND = (257, 454)  # frequencies, times


class Clips(Layout):
    """`urfunny2_videos/<id>.mp4` with the folds and labels of version 2. A clip is decoded each time a batch needs it."""

    name = "clips"
    signs = (VIDEOS, FOLDS, LABELS)
    sampler = "agmbench.datasets.samples.urfunny:clips"

    def read(self, root: Path, **options: Any) -> Held:
        ids, targets = listed(root)
        parts, paths = {}, {part: _paths(root, some) for part, some in ids.items()}
        for part, videos in paths.items():
            pictures = pictures_of(videos, read_frames, times=FRAMES)
            parts[part] = _part(Decoded(videos, spectrogram), pictures, targets[part], ids[part])
        media = [path for some in paths.values() for path in some]
        return replace(_held(parts, [root / FOLDS, root / LABELS], options["protocol"]), media=media)


class PreparedClips(Layout):
    """Arrays that `prepare` made of the clips, mapped from disk."""

    name = "prepared-clips"
    signs = (f"prepared-*/{prepared.MANIFEST}", "prepared-*/train/visual.npy")
    sampler = "agmbench.datasets.samples.urfunny:prepared_clips"

    def read(self, root: Path, **options: Any) -> Held:
        made = prepared.read(root, NAME, {"frames": FRAMES})
        parts = {}
        for part in PARTS:
            audio, visual, target = (made.array(part, name) for name in ("audio", "visual", "target"))
            check_labels(f"{made.folder / part}/target.npy", target, 2)
            parts[part] = _part(audio, visual, target, made.manifest["facts"]["ids"][part])
        return replace(_held(parts, made.files, options["protocol"]), checksums=made.checksums)


def prepare(source: Path, target: Path, progress: Progress, jobs: int) -> None:
    """Write the spectrogram and the frames of each clip."""
    found(NAME, source, [Clips()])
    ids, targets = listed(source)
    paths = {part: _paths(source, some) for part, some in ids.items()}
    store = prepared.Store(target, _plan(source, ids, paths))
    if not store.whole:
        items = [
            (part, row, (path, int(target)))
            for part, some in paths.items()
            for row, (path, target) in enumerate(zip(some, targets[part], strict=True))
        ]
        prepared.fill(store, items, _clip, progress, jobs)


def _plan(source: Path, ids: Mapping[str, Sequence[Any]], paths: Mapping[str, Sequence[Path]]) -> prepared.Plan:
    arrays = {
        part: {
            "audio": ((len(some), 1, *SOUND), "float16"),
            "visual": ((len(some), FRAMES, SIDE, SIDE, 3), "uint8"),
            "target": ((len(some),), "int64"),
        }
        for part, some in ids.items()
    }
    files = [source / FOLDS, source / LABELS, *(path for some in paths.values() for path in some)]
    facts = {"ids": {part: list(map(str, some)) for part, some in ids.items()}}
    return prepared.Plan(NAME, {"frames": FRAMES}, checksums(source, files), arrays, facts)


def _clip(what: tuple[Path, int]) -> dict[str, Array]:
    path, target = what
    return {"audio": spectrogram(path), "visual": read_frames(path, FRAMES), "target": np.asarray(target)}


def spectrogram(path: Path) -> Array:
    """The log spectrogram `[1, 257, 454]` of the last ten seconds of a clip."""
    sound = read_sound(path, RATE)[-SECONDS * RATE :]
    return log_spectrogram(np.pad(sound, (SECONDS * RATE - len(sound), 0)))[None]


def listed(root: Path) -> tuple[dict[str, list[Any]], dict[str, Array]]:
    """The ids of the clips of each part, and their labels."""
    folds = entries(load_pickle(root / FOLDS), str(root / FOLDS), FOLD.values())
    ids = {part: list(folds[fold]) for part, fold in FOLD.items()}
    known = entries(load_pickle(root / LABELS), str(root / LABELS), [id_ for some in ids.values() for id_ in some])
    labels = {part: numbers(str(root / LABELS), [known[id_] for id_ in some], (None,)) for part, some in ids.items()}
    for some in labels.values():
        check_labels(str(root / LABELS), some, 2)
    return ids, labels


def _paths(root: Path, ids: Sequence[Any]) -> list[Path]:
    paths = [root / VIDEOS / f"{id_}.mp4" for id_ in ids]
    check_present(paths)
    return paths


def _part(sounds: Any, pictures: Any, targets: Array, ids: Sequence[Any]) -> Part:
    inputs = {"audio": Stored(sounds), "visual": Stored(pictures, frame_tensor)}
    return Part(inputs, torch.from_numpy(np.array(targets, dtype=np.int64)), np.arange(len(targets)), list(map(str, ids)))


def _held(parts: Mapping[str, Part], files: Sequence[Path], protocol: ProtocolName) -> Held:
    shapes = {"audio": (1, *SOUND), "visual": (FRAMES, 3, SIDE, SIDE)}
    notes = ["of the clips themselves: sound and pictures, no words; the paper's features are in the other layouts"]
    return held(parts, shapes, files, protocol, {"clip": str}, notes)
