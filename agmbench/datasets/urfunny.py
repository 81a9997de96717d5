"""UR-FUNNY: humor in TED talks, from gestures, voice and words (Hasan et al., EMNLP 2019)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Gt

from agmbench.contracts import Unsuitable
from agmbench.datasets import prepared, urfunny_clips
from agmbench.datasets.arrays import Array, check_labels, check_lengths
from agmbench.datasets.checksums import checksum
from agmbench.datasets.files import FileDataset, Held, Layout, Progress, Source, found
from agmbench.datasets.sequences import PARTS, Part, entries, finite, held, numbers, padded, read_pack, stored
from agmbench.datasets.splitting import ProtocolName
from agmbench.datasets.stored import Stored
from agmbench.datasets.untrusted import load_pickle
from agmbench.datasets.urfunny_clips import Clips, PreparedClips

WIDTHS = {"visual": 371, "audio": 81, "text": 300}  # OpenFace 2, COVAREP, GloVe
LENGTH = 50


class Pack(Layout):
    """`humor.pkl` of MultiBench, which AGM uses: sequences of one word per step, padded with zeros at the beginning."""

    name = "pack"
    signs = ("humor.pkl",)
    sampler = "agmbench.datasets.samples.urfunny:pack"

    def read(self, root: Path, **options: Any) -> Held:
        path = root / "humor.pkl"
        names = {"vision": "visual", "audio": "audio", "text": "text"}
        shapes = {name: (None, None, WIDTHS[modality]) for name, modality in names.items()}
        pack = read_pack(path, {**shapes, "labels": (None, -1)})
        parts, dropped = {}, 0
        for name, arrays in pack.items():
            inputs, rows = stored(arrays, f"{path} '{name}'", names)
            labels = _numbers_of_rows(arrays["labels"], f"{path} '{name}' 'labels'")
            parts[name] = Part(inputs, torch.from_numpy((labels[rows] >= 1).astype(np.int64)), rows)
            dropped += len(labels) - len(rows)
        notes = [f"dropped rows without any text: {dropped}"] if dropped else []
        sizes = {modality: pack["train"][name].shape[1:] for name, modality in names.items()}
        return held(parts, sizes, [path], options["protocol"], notes=notes)


def _numbers_of_rows(labels: Array, where: str) -> Array:
    """The labels as one number per row, `[N]`. Raises `Unsuitable` if they have another shape."""
    rows = labels.reshape(len(labels), -1)
    if rows.shape[1] != 1 or not np.isfinite(rows).all():
        raise Unsuitable(f"{where} has the shape {list(rows.shape)}; expected one finite number per row")
    return rows[:, 0]


FOLDS = {"train": "train", "valid": "dev", "test": "test"}  # names of the parts in data_folds.pkl
FILES = {"visual": "openface_features_sdk.pkl", "audio": "covarep_features_sdk.pkl", "text": "language_sdk.pkl"}
OFFICIAL = ("data_folds.pkl", *FILES.values(), "word_embedding_list.pkl", "humor_label_sdk.pkl")


class Official(Layout):
    """The feature pickles of version 2, which are read into memory completely; `agmbench data prepare` makes arrays that stay on disk."""

    name = "official"
    signs = OFFICIAL
    sampler = "agmbench.datasets.samples.urfunny:official"

    def read(self, root: Path, **options: Any) -> Held:
        length, context = options["length"], options["context"]
        clips = _Clips(root)
        parts = {}
        for part, ids in clips.ids.items():
            items = [_sequences(clips.raw(id_), length, context) for id_ in ids]
            arrays = {name: np.stack([item[name] for item in items]) for name in items[0]}
            parts[part] = _part(arrays, ids)
        return held(parts, _shapes(length), [root / name for name in OFFICIAL], options["protocol"], {"clip": str})


class Prepared(Layout):
    """Arrays made of the official pickles, mapped from disk."""

    name = "prepared"
    signs = ("prepared-*/manifest.json", "prepared-*/train/text.npy")
    sampler = "agmbench.datasets.samples.urfunny:prepared"

    def read(self, root: Path, **options: Any) -> Held:
        length = options["length"]
        made = prepared.read(root, "urfunny", {"length": length, "context": options["context"]})
        names = (*WIDTHS, "length", "target")
        parts = {
            part: _part({name: made.array(part, name) for name in names}, made.manifest["facts"]["ids"][part]) for part in PARTS
        }
        sequences = held(parts, _shapes(length), made.files, options["protocol"], {"clip": str})
        return replace(sequences, checksums=made.checksums)


class URFunny(FileDataset):
    """A sample is a punchline of a TED talk with the sentences before it, one token per word. Is it meant to be funny?

    `visual` `[T, 371]` OpenFace 2 (pose, gaze, action units; its own units), `audio` `[T, 81]` COVAREP (-inf is read as 0), `text`
    `[T, 300]` GloVe 840B. Each token is the mean over the word's time; sequences have zeros at the beginning, and masks. Classes: not
    humorous, humorous.

    Layouts: `pack` (MultiBench's `humor.pkl`, T = 50, as AGM uses it; rows without text are dropped; label 0 if below 1, else 1),
    `official` (version 2: 10,166 clips), `prepared` (made of the official pickles by `agmbench data prepare`). Layouts `clips` and
    `prepared-clips` (ours, for --encoder '*=resnet') have the clips themselves: a sample is `audio` `[1, 257, 454]`, a log spectrogram of
    the last ten seconds, and `visual` `[3, 3, 224, 224]`, three frames; it has no words.

    Splits: the copy's own train, valid (`dev` in the official folds) and test; dev is a tenth of train, by a fixed permutation.

    protocol: `agmbench` (default) has the splits described above. `paper` (AGM, supplement): train is the first 90 % of train, the
        evaluation set the first 90 % of test, dev the last 10 % of both. Valid IS the test set there: epochs are selected on test.
    length: T of the `official` layout: the last T words of context and punchline are taken. Official code takes 20 words per sentence and
        5 sentences separately; default 50, as in the pack (ours).
    context: whether the sentences before the punchline are part of the `official` sequences. Official code and default: they are.
    """

    name = "urfunny"
    source = Source(
        page="https://github.com/ROC-HCI/UR-FUNNY",
        licence="none stated, publicly available for research (paper); TED talks CC BY-NC-ND",
        size="10,166 clips; humor.pkl and prepared arrays 1.5 GB (estimated)",
        then="put MultiBench's humor.pkl into this folder. Or download the six .pkl files of UR-FUNNY-V2's extracted features, or "
        "urfunny2_videos/ with data_folds.pkl and humor_label_sdk.pkl, and run 'agmbench data prepare urfunny --from DIR' (without this, "
        "they are read as they are, but slowly)",
    )
    layouts = (Prepared(), Pack(), Official(), PreparedClips(), Clips())

    def __init__(
        self,
        seed: int,
        *,
        protocol: ProtocolName = "agmbench",
        length: Annotated[int, Gt(0)] = LENGTH,
        context: bool = True,
    ) -> None:
        self.class_names = ["not humorous", "humorous"]
        self.hold(protocol=protocol, length=length, context=context)

    @classmethod
    def prepare(
        cls,
        source: Path,
        target: Path,
        progress: Progress,
        jobs: int,
        *,
        length: Annotated[int, Gt(0)] = LENGTH,
        context: bool = True,
    ) -> None:
        """Turn the official pickles into arrays that are mapped from disk. If there are only clips, turn these into arrays instead;
        `length` and `context` then have no effect."""
        if isinstance(found(cls.name, source, [Official(), Clips()]), Clips):
            urfunny_clips.prepare(source, target, progress, jobs)
            return
        sources = {name: checksum(source / name) for name in OFFICIAL}
        clips = _Clips(source)
        store = prepared.Store(target, _plan(clips.ids, sources, length, context))
        if store.whole:
            return
        items = [(part, row, clips.raw(id_)) for part, ids in clips.ids.items() for row, id_ in enumerate(ids)]
        prepared.fill(store, items, partial(_sequences, length=length, context=context), progress, jobs)


def _plan(ids: Mapping[str, Sequence[Any]], sources: Mapping[str, str], length: int, context: bool) -> prepared.Plan:
    arrays = {
        part: {
            **{modality: ((len(some), length, width), "float32") for modality, width in WIDTHS.items()},
            **{name: ((len(some),), "int64") for name in ("length", "target")},
        }
        for part, some in ids.items()
    }
    facts = {"ids": {part: [str(id_) for id_ in some] for part, some in ids.items()}}
    return prepared.Plan(URFunny.name, {"length": length, "context": context}, sources, arrays, facts)


Raw = Mapping[str, Any]  # a clip: `where`, `target`, and per modality a list with an array per sentence, the punchline last


class _Clips:
    """The content of the official pickles: the `ids` of each part, and each clip by its id."""

    def __init__(self, root: Path) -> None:
        self.root = root
        folds = entries(load_pickle(root / "data_folds.pkl"), str(root / "data_folds.pkl"), FOLDS.values())
        self.ids = {part: list(folds[fold]) for part, fold in FOLDS.items()}
        self.sdk = {modality: self._entries(name) for modality, name in FILES.items()}
        self.labels = self._entries("humor_label_sdk.pkl")
        where = str(root / "word_embedding_list.pkl")
        self.vectors = numbers(where, load_pickle(root / "word_embedding_list.pkl"), (None, WIDTHS["text"])).astype(np.float32)
        labels = [self.labels[id_] for ids in self.ids.values() for id_ in ids]
        check_labels(str(root / "humor_label_sdk.pkl"), numbers(str(root / "humor_label_sdk.pkl"), labels, (None,)), 2)

    def _entries(self, name: str) -> Mapping[Any, Any]:
        ids = [id_ for some in self.ids.values() for id_ in some]
        return entries(load_pickle(self.root / name), str(self.root / name), ids)

    def raw(self, id_: Any) -> Raw:
        """The entries of a clip in all files, unchanged except that words are replaced by their vectors."""
        found: dict[str, Any] = {"where": f"{self.root} clip {id_}", "target": int(self.labels[id_])}
        for modality, name in FILES.items():
            where, kind = f"{self.root / name} {id_}", "embedding_indexes" if modality == "text" else "features"
            clip = entries(self.sdk[modality][id_], where, [f"punchline_{kind}", f"context_{kind}"])
            sentences = [*clip[f"context_{kind}"], clip[f"punchline_{kind}"]]
            found[modality] = [self._vectors(words, where) for words in sentences] if modality == "text" else sentences
        return found

    def _vectors(self, words: Any, where: str) -> Array:
        indexes = np.asarray(words, dtype=np.int64) if len(words) else np.zeros(0, dtype=np.int64)
        if len(wrong := indexes[(indexes < 0) | (indexes >= len(self.vectors))]):
            raise Unsuitable(f"{where} has the word number {wrong[0]}; expected 0 to {len(self.vectors) - 1}")
        chosen: Array = self.vectors[indexes]
        return chosen


def _sequences(raw: Raw, length: int, context: bool) -> dict[str, Array]:
    """The sequences of one clip, each the last `length` words of its sentences with zeros before them, its `length` and its `target`."""
    first = 0 if context else -1
    whole = {
        modality: _joined(raw[modality][first:], width, f"{raw['where']} {modality}") for modality, width in WIDTHS.items()
    }
    check_lengths({f"{raw['where']} {modality}": len(array) for modality, array in whole.items()})
    found = {modality: padded(array, length, in_front=True) for modality, array in whole.items()}
    count = np.asarray(min(length, len(whole["text"])))
    return {**found, "length": count, "target": np.asarray(raw["target"])}


def _joined(sentences: Sequence[Any], width: int, where: str) -> Array:
    spoken = [numbers(where, sentence, (None, width)) for sentence in sentences if len(sentence)]
    return np.concatenate(spoken) if spoken else np.zeros((0, width))


def _part(arrays: Mapping[str, Array], ids: Sequence[Any]) -> Part:
    inputs = {modality: Stored(arrays[modality], finite, arrays["length"], in_front=True) for modality in WIDTHS}
    targets = torch.from_numpy(np.array(arrays["target"], dtype=np.int64))
    return Part(inputs, targets, np.arange(len(targets)), [str(id_) for id_ in ids])


def _shapes(length: int) -> dict[str, tuple[int, ...]]:
    return {modality: (length, width) for modality, width in WIDTHS.items()}
