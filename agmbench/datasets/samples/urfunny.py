"""Random packs of UR-FUNNY: 60 clips as features, 20 as videos."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from agmbench.datasets import urfunny_clips
from agmbench.datasets.files import Layout
from agmbench.datasets.samples import quiet, write_pickle
from agmbench.datasets.samples.noise import write_clip
from agmbench.datasets.urfunny import FILES, FOLDS, LENGTH, WIDTHS, URFunny

COUNTS = {"train": 40, "valid": 10, "test": 10}
VIDEOS = {"train": 12, "valid": 4, "test": 4}


def pack(layout: Layout, root: Path) -> None:
    """Write sequences with zeros at the beginning; the first sample of each part has no text."""
    draw = np.random.default_rng(0)
    pack = {}
    for part, count in COUNTS.items():
        hidden = np.arange(LENGTH) < LENGTH - draw.integers(5, LENGTH, (count, 1))
        arrays = {m: draw.normal(size=(count, LENGTH, width)).astype(np.float32) for m, width in WIDTHS.items()}
        for array in arrays.values():
            array[hidden] = 0
        arrays["audio"][:, -1, 0] = -np.inf
        arrays["text"][0] = 0
        labels = draw.permutation(np.resize([-1, 1], count)).reshape(count, 1)
        pack[part] = {"vision": arrays["visual"], "audio": arrays["audio"], "text": arrays["text"], "labels": labels}
    write_pickle(root / "humor.pkl", pack)


def official(layout: Layout, root: Path) -> None:
    """Write the pickles of version 2, with one to three sentences of two to eight words per clip."""
    draw = np.random.default_rng(0)
    folds = _folds(COUNTS)
    vectors = draw.normal(size=(30, WIDTHS["text"])).astype(np.float32)
    clips = {id_: _clip(draw) for ids in folds.values() for id_ in ids}
    for modality, name in FILES.items():
        write_pickle(root / name, {id_: clip[modality] for id_, clip in clips.items()})
    write_pickle(root / "data_folds.pkl", folds)
    write_pickle(root / "word_embedding_list.pkl", list(vectors))
    write_pickle(root / "humor_label_sdk.pkl", {id_: id_ % 2 for id_ in clips})


def _folds(counts: Mapping[str, int]) -> dict[str, list[int]]:
    """The ids of each fold, numbered 1, 2, 3, ... through all folds."""
    ids = iter(range(1, sum(counts.values()) + 1))
    return {FOLDS[part]: [next(ids) for _ in range(count)] for part, count in counts.items()}


def _clip(draw: np.random.Generator) -> dict[str, dict[str, Any]]:
    """The random entries of one clip in the files of each modality."""
    sizes = draw.integers(2, 9, draw.integers(1, 4)).tolist()  # number of words per sentence; the last is the punchline
    words = [draw.integers(1, 30, size).tolist() for size in sizes]
    clip = {"text": _words(words)}
    for modality in ("visual", "audio"):
        drawn = [draw.normal(size=(size, WIDTHS[modality])) for size in sizes]
        clip[modality] = {"punchline_features": drawn[-1], "context_features": drawn[:-1]}
    clip["audio"]["punchline_features"][0, 0] = -np.inf
    return clip


def _words(sentences: Sequence[Sequence[int]]) -> dict[str, Any]:
    """The words of a clip as numbers, as text, and with their times; each word takes 0.3 s."""
    spoken = [" ".join(f"word{word}" for word in sentence) for sentence in sentences]
    times = [[[0.3 * place, 0.3 * place + 0.3] for place in range(len(sentence))] for sentence in sentences]
    return {
        **{"punchline_embedding_indexes": sentences[-1], "context_embedding_indexes": sentences[:-1]},
        **{"punchline_sentence": spoken[-1], "context_sentences": spoken[:-1]},
        **{"punchline_intervals": times[-1], "context_intervals": times[:-1]},
    }


def prepared(layout: Layout, root: Path) -> None:
    """Write a folder prepared from the pickles of `official`."""
    with TemporaryDirectory() as raw:
        official(layout, Path(raw))
        URFunny.prepare(Path(raw), root, quiet, 1)


def clips(layout: Layout, root: Path) -> None:
    """Write videos of two seconds, folds and labels."""
    draw, folds = np.random.default_rng(0), _folds(VIDEOS)
    ids = [id_ for some in folds.values() for id_ in some]
    (root / urfunny_clips.VIDEOS).mkdir(parents=True)
    for id_ in ids:
        write_clip(root / urfunny_clips.VIDEOS / f"{id_}.mp4", draw)
    write_pickle(root / urfunny_clips.FOLDS, folds)
    write_pickle(root / urfunny_clips.LABELS, {id_: id_ % 2 for id_ in ids})


def prepared_clips(layout: Layout, root: Path) -> None:
    """Write a folder prepared from the videos of `clips`."""
    with TemporaryDirectory() as raw:
        clips(layout, Path(raw))
        urfunny_clips.prepare(Path(raw), root, quiet, 1)
