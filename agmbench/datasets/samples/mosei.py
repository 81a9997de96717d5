"""Random packs of CMU-MOSEI: 40 segments for training, 10 for validation and 10 for test. A video has two segments; in the SDK's files,
five."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np

from agmbench.datasets.arrays import Array
from agmbench.datasets.files import Layout
from agmbench.datasets.mosei import MMSA, MulT
from agmbench.datasets.mosei_sdk import FILES, LABELS, SEGMENTS, prepare
from agmbench.datasets.samples import quiet, write_pickle

COUNTS = {"train": 40, "valid": 10, "test": 10}
PACE = {"text": 3, "audio": 100, "vision": 30}  # rows per second
WIDTHS = {"text": 300, "audio": 74, "vision": 35}


def _labels(draw: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Random sentiment `[N, 1]` and emotions `[N, 6]`."""
    return draw.integers(-9, 10, (count, 1)) / 3.0, draw.integers(0, 10, (count, 6)) / 3.0


def umons(layout: Layout, root: Path) -> None:
    """Write four pickles per part, each by the ids of segments."""
    draw = np.random.default_rng(0)
    for part, count in COUNTS.items():
        ids = [f"{part}{number // 2}[{number % 2}]" for number in range(count)]
        words = {id_: [[f"word{k}".encode()] for k in draw.integers(0, 20, draw.integers(3, 80))] for id_ in ids}
        write_pickle(root / f"{part}_sentences.p", words)
        mels = {id_: draw.normal(size=(draw.integers(20, 90), 80)).astype(np.float32) for id_ in ids}
        write_pickle(root / f"{part}_mels.p", mels)
        sentiment, emotions = _labels(draw, count)
        write_pickle(root / f"{part}_sentiment.p", dict(zip(ids, sentiment, strict=True)))
        write_pickle(root / f"{part}_emotion.p", dict(zip(ids, emotions, strict=True)))


def mult(layout: MulT, root: Path) -> None:
    """Write aligned sequences of 50 words, with labels of sentiment only."""
    _write_mult(root / layout.signs[0], {"text": (50, 300), "audio": (50, 74), "vision": (50, 35)}, labels=1)


def mult_noalign(layout: MulT, root: Path) -> None:
    """Write sequences that are not aligned and differ in length."""
    _write_mult(root / layout.signs[0], {"text": (50, 300), "audio": (90, 74), "vision": (70, 35)}, labels=1)


def mult_raw(layout: MulT, root: Path) -> None:
    """Write aligned sequences with OpenFace's features, and labels of sentiment and emotions."""
    _write_mult(root / layout.signs[0], {"text": (50, 300), "audio": (50, 74), "vision": (50, 713)}, labels=7)


def _write_mult(path: Path, sizes: Mapping[str, tuple[int, int]], labels: int) -> None:
    draw = np.random.default_rng(0)
    write_pickle(path, {part: _mult_part(draw, part, count, sizes, labels) for part, count in COUNTS.items()})


def _mult_part(
    draw: np.random.Generator, part: str, count: int, sizes: Mapping[str, tuple[int, int]], labels: int
) -> dict[str, Array]:
    """Random sequences with zeros at the beginning, and the first `labels` of the seven labels."""
    arrays = {modality: draw.normal(size=(count, *size)).astype(np.float32) for modality, size in sizes.items()}
    begin = draw.integers(0, 20, count)
    for array in arrays.values():
        array[np.arange(array.shape[1]) < begin[:, None]] = 0
    arrays["audio"][:, -1, 0] = -np.inf
    judged = np.concatenate(_labels(draw, count), axis=1)[:, None, :labels]
    ids = np.array([[f"{part}{number // 2}".encode(), b"0.0", b"1.0"] for number in range(count)])
    return {**{modality: arrays[modality] for modality in ("vision", "audio", "text")}, "labels": judged, "id": ids}


def mmsa(layout: MMSA, root: Path) -> None:
    """Write BERT's features and token numbers of 50 words, with audio and vision in the layout's number of steps."""
    draw = np.random.default_rng(0)
    parts = {part: _mmsa_part(draw, part, count, layout.steps) for part, count in COUNTS.items()}
    write_pickle(root / layout.signs[0], parts)


def _mmsa_part(draw: np.random.Generator, part: str, count: int, steps: int) -> dict[str, Any]:
    words = draw.integers(5, 51, count)
    mask = (np.arange(50) < words[:, None]).astype(np.int64)
    ids = draw.integers(1000, 30000, (count, 50)) * mask
    arrays, lengths = _padded_behind(draw, words, steps)
    sentiment, _ = _labels(draw, count)
    return {
        **arrays,
        "text_bert": np.stack([ids, mask, np.zeros_like(ids)], axis=1).astype(np.float64),
        "raw_text": np.array([f"sentence {number}" for number in range(count)]),
        "id": np.array([f"{part}{number // 2}$_${number % 2}" for number in range(count)]),
        "regression_labels": sentiment[:, 0].astype(np.float32),
        "classification_labels": np.sign(sentiment[:, 0]) + 1,
        "annotations": np.array(["Positive"] * count),
        **({} if steps == 50 else {f"{m}_lengths": lengths[m].tolist() for m in ("audio", "vision")}),
    }


def _padded_behind(draw: np.random.Generator, words: Array, steps: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """Random sequences with zeros at the end, and their lengths. Sequences of 50 steps are as long as the text."""
    sizes = {"text": (50, 768), "audio": (steps, 74), "vision": (steps, 35)}
    lengths = {m: words if size[0] == 50 else draw.integers(20, size[0] + 1, len(words)) for m, size in sizes.items()}
    arrays = {m: draw.normal(size=(len(words), *size)).astype(np.float32) for m, size in sizes.items()}
    for modality, array in arrays.items():
        array[np.arange(array.shape[1]) >= lengths[modality][:, None]] = 0
    arrays["audio"][:, 0, 0] = -np.inf
    return arrays, lengths


def csd(layout: Layout, root: Path) -> None:
    """Write computational sequences, each with all videos, and the list of segments."""
    draw = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    names = {**FILES, "vision": "CMU_MOSEI_VisualFacet42.csd"}
    files = {m: h5py.File(root / name, "w").create_group(f"{m}/data") for m, name in names.items()}
    labels = h5py.File(root / LABELS, "w").create_group("All Labels/data")
    lines = ["file,index,start,end,split"]
    for place, (part, count) in enumerate(COUNTS.items()):
        for first in range(0, count, 5):
            _write_video(draw, f"{part}{first}", files, labels)
            lines += [f"{part}{first},{number},{2 * number},{2 * number + 2},{place}" for number in range(5)]
    for group in (*files.values(), labels):
        group.file.close()
    (root / SEGMENTS).write_text("\n".join(lines) + "\n")


def _write_video(draw: np.random.Generator, name: str, files: Mapping[str, h5py.Group], labels: h5py.Group) -> None:
    """Write a video of ten seconds with five segments of two seconds."""
    judged = np.concatenate(_labels(draw, 5), axis=1)
    _write_group(labels, name, judged, np.arange(5)[:, None] * 2 + np.array([0, 2]))
    for modality, group in files.items():
        rows, pace = 10 * PACE[modality], PACE[modality]
        features = draw.normal(size=(rows, WIDTHS[modality]))
        if modality == "audio":
            features[0, 0] = -np.inf
        _write_group(group, name, features, np.arange(rows)[:, None] / pace + np.array([0, 1 / pace]))


def _write_group(data: h5py.Group, name: str, features: Array, intervals: Array) -> None:
    group = data.create_group(name)
    group["features"], group["intervals"] = features.astype(np.float32), intervals.astype(np.float64)


def prepared(layout: Layout, root: Path) -> None:
    """Write a folder prepared from the sequences of `csd`."""
    with TemporaryDirectory() as raw:
        csd(layout, Path(raw))
        prepare(Path(raw), root, quiet, 1, 60)
