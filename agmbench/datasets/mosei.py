"""CMU-MOSEI: sentiment and emotions in videos of speakers (Zadeh et al., ACL 2018)."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Gt

from agmbench.contracts import Unsuitable
from agmbench.datasets.arrays import Array
from agmbench.datasets.files import FileDataset, Held, Layout, Progress, Source
from agmbench.datasets.mosei_labels import KINDS, NAMES, Kind, as_targets, video
from agmbench.datasets.mosei_sdk import CSD, Prepared, prepare
from agmbench.datasets.sequences import (
    PARTS,
    Part,
    decoded,
    entries,
    finite,
    held,
    numbers,
    padded,
    read_pack,
    stored,
)
from agmbench.datasets.splitting import ProtocolName
from agmbench.datasets.stored import Stored, StoredSplit
from agmbench.datasets.untrusted import load_npy, load_pickle
from agmbench.tasks import MultiLabel, Regression

Words = Literal["features", "bert"]

LENGTH = 60
VECTORS = "train_glove.npy"
SAME = {"text": "text", "audio": "audio", "vision": "vision"}


class UMONS(Layout):
    """The pickles of Delbrouck et al. (UMONS), which AGM uses. They have the words and the mel spectrogram of each segment by its id."""

    name = "umons"
    signs = ("train_sentences.p", "train_mels.p")
    sampler = "agmbench.datasets.samples.mosei:umons"

    def read(self, root: Path, **options: Any) -> Held:
        kind, length = options["kind"], options["length"]
        label = "emotion" if kind == "emotions" else "sentiment"
        loaded = {part: [_dictionary(root / f"{part}_{what}.p") for what in ("sentences", "mels", label)] for part in PARTS}
        files = [root / f"{part}_{what}.p" for part in PARTS for what in ("sentences", "mels", label)]
        spoken = {part: {id_: cleaned(words) for id_, words in found[0].items()} for part, found in loaded.items()}
        known, cache = _vocabulary(root, spoken["train"].values())
        parts, dropped = {}, 0
        for part, found in loaded.items():
            ids = [id_ for id_ in found[0] if all(id_ in other for other in found)]
            dropped += len(set().union(*found)) - len(ids)
            where = str(root / f"{part}_mels.p")
            if not ids:
                raise Unsuitable(f"{where} shares no id with {root / f'{part}_sentences.p'} and {root / f'{part}_{label}.p'}")
            text = [spoken[part][id_][:length] for id_ in ids]
            mels = [numbers(f"{where} {id_}", found[1][id_], (None, 80)) for id_ in ids]
            inputs = {
                "text": Stored(_numbered(text, known, length), lengths=np.array([len(words) for words in text])),
                "audio": Stored(
                    np.stack([padded(mel, length) for mel in mels]), finite, np.array([min(length, len(mel)) for mel in mels])
                ),
            }
            labels = [np.asarray(found[2][id_]).ravel() for id_ in ids]
            targets = as_targets(
                kind, numbers(str(root / f"{part}_{label}.p"), labels, (None, 6 if kind == "emotions" else 1)), where
            )
            parts[part] = Part(inputs, targets, np.arange(len(ids)), ids)
        notes = [f"dropped segments that are not in all files: {dropped}"] if dropped else []
        if (vectors := root / VECTORS) in cache:
            notes.append(f"words can begin as these vectors: --set encoder.text.vectors={vectors}")
        return held(parts, {"text": (length, 1), "audio": (length, 80)}, files + cache, options["protocol"], KINDS, notes)


class MulT(Layout):
    """`mosei_senti_data.pkl` of MulT and MultiBench: GloVe, COVAREP and FACET, aligned with words."""

    name = "mult"
    signs: ClassVar[tuple[str, ...]] = ("mosei_senti_data.pkl",)
    sampler = "agmbench.datasets.samples.mosei:mult"
    vision: ClassVar[int | None] = 35

    def read(self, root: Path, **options: Any) -> Held:
        kind, path = options["kind"], root / self.signs[0]
        shapes = {"text": (None, None, 300), "audio": (None, None, 74), "vision": (None, None, self.vision)}
        pack = read_pack(path, {**shapes, "labels": (None, -1)})
        parts, dropped = {}, 0
        for name, arrays in pack.items():
            where = f"{path} '{name}' 'labels'"
            inputs, rows = stored(arrays, f"{path} '{name}'", SAME)
            labels = arrays["labels"].reshape(len(arrays["labels"]), -1)[rows]
            if kind == "emotions" and labels.shape[1] < 7:
                raise _sentiment_alone(path)
            judged = as_targets(kind, labels[:, 1:7] if kind == "emotions" else labels[:, :1], where)
            parts[name] = Part(inputs, judged, rows, _ids(arrays, rows))
            dropped += len(arrays["labels"]) - len(rows)
        notes = [f"dropped rows without any text: {dropped}"] if dropped else []
        sizes = {modality: pack["train"][modality].shape[1:] for modality in SAME}
        kinds = {"video": video} if all(part.ids for part in parts.values()) else None
        return held(parts, sizes, [path], options["protocol"], kinds, notes)


class MulTNoAlign(MulT):
    """`mosei_senti_data_noalign.pkl` of MulT and MultiBench: the same features, not aligned; each modality has its own number of steps."""

    name = "mult-noalign"
    signs = ("mosei_senti_data_noalign.pkl",)
    sampler = "agmbench.datasets.samples.mosei:mult_noalign"


class MulTRaw(MulT):
    """`mosei_raw.pkl` of MultiBench: labels of sentiment and six emotions."""

    name = "mult-raw"
    signs = ("mosei_raw.pkl",)
    sampler = "agmbench.datasets.samples.mosei:mult_raw"
    vision = None


class MMSA(Layout):
    """`aligned_50.pkl` of MMSA: BERT, COVAREP and FACET at 50 steps, padded at the end."""

    name = "mmsa"
    signs: ClassVar[tuple[str, ...]] = ("aligned_50.pkl",)
    sampler = "agmbench.datasets.samples.mosei:mmsa"
    steps: ClassVar[int] = 50

    def read(self, root: Path, **options: Any) -> Held:
        kind, as_bert, path = options["kind"], options["text"] == "bert", root / self.signs[0]
        if kind == "emotions":
            raise _sentiment_alone(path)
        parts, pack = {}, read_pack(path, self._expected())
        for name, arrays in pack.items():
            inputs = self._inputs(arrays, as_bert, f"{path} '{name}'")
            targets = as_targets(kind, arrays["regression_labels"][:, None], f"{path} '{name}' 'regression_labels'")
            rows = np.arange(len(targets))
            parts[name] = Part(inputs, targets, rows, _ids(arrays, rows))
        sizes = {modality: pack["train"][modality].shape[1:] for modality in SAME}
        if as_bert:
            sizes["text"] = (3, 50)
        kinds = KINDS if all(part.ids for part in parts.values()) else None
        return held(parts, sizes, [path], options["protocol"], kinds)

    def _expected(self) -> dict[str, tuple[int | None, ...]]:
        """The expected shapes of the arrays of a part (train, valid or test)."""
        sequences = {"text": (None, 50, 768), "audio": (None, self.steps, 74), "vision": (None, self.steps, 35)}
        lengths = {} if self.steps == 50 else {"audio_lengths": (None,), "vision_lengths": (None,)}
        return {**sequences, "text_bert": (None, 3, 50), "regression_labels": (None,), **lengths}

    def _inputs(self, arrays: Mapping[str, Array], as_bert: bool, where: str) -> dict[str, Stored]:
        """The sequences of a part, with the text as BERT's input if `as_bert`, else as features."""
        text = {"text": Stored(arrays["text_bert"])} if as_bert else {}
        others = [modality for modality in SAME if modality not in text]
        return text | {m: Stored(arrays[m], finite, self._lengths(arrays, m, where)) for m in others}

    def _lengths(self, arrays: Mapping[str, Array], modality: str, where: str) -> Array:
        steps = arrays[modality].shape[1]
        lengths = arrays["text_bert"][:, 1].sum(axis=1) if steps == 50 else arrays[f"{modality}_lengths"]
        if not (lengths >= 0).all():
            raise Unsuitable(f"{where} has the length {lengths.min():g} in '{modality}'; expected 0 to {steps}")
        return np.minimum(lengths, steps).astype(np.int64)


class MMSAUnaligned(MMSA):
    """`unaligned_50.pkl` of MMSA: audio and vision have their own numbers of steps, up to 500."""

    name = "mmsa-unaligned"
    signs = ("unaligned_50.pkl",)
    steps = 500


class MOSEI(FileDataset):
    """A sample is a sentence of a speaker in a video. It has a sentiment in [-3, 3] and six emotions in [0, 3].

    Layouts are recognised by their files. If a folder has several, `prepared` is read first, then the first in this order:

    - `umons` (the AGM paper's): `text` `[60, 1]` word numbers (0 none, 1 unknown), `audio` `[60, 80]` mel spectrogram, zeros at the end.
    - `mult`, `mult-noalign`, `mult-raw`: `text` `[T, 300]` GloVe, `audio` `[T, 74]` COVAREP, `vision` `[T, 35]` FACET (`mult-raw`: 713
        OpenFace), zeros at the beginning or at the end; rows without text are dropped.
    - `mmsa`, `mmsa-unaligned`: `text` `[50, 768]` BERT, `audio` `[50|500, 74]`, `vision` `[50|500, 35]`, zeros at the end.
    - `csd`: GloVe, COVAREP and a visual sequence averaged over each word, `[60, F]`, read from disk; `prepared`: the same, averaged once.

    All are sequences with masks. COVAREP's -inf, and all other numbers in audio or vision that are not finite, are read as 0.

    Splits: the copy's own train, valid and test (16,327/1,871/4,662 segments); dev is a tenth of the videos of train (of its
    segments in copies without ids), by a fixed permutation.

    task: `binary` (paper and default; 1 if sentiment >= 0), `3-class` (its sign), `7-class` (rounded; UMONS code takes intervals),
        `regression` (sentiment itself; AGM's scores are divided by the variance of train) or `emotions` (an emotion is present if it is
        above 0; only in layouts `umons`, `mult-raw`, `csd` and `prepared`).
    protocol: `agmbench` (default) has the splits described above. `paper` (AGM, supplement): train is the first 90 % of train, the
        evaluation set the first 90 % of test, dev the last 10 % of both. Valid IS the test set there: epochs are selected on test.
    length: number of tokens in `umons`, `csd` and `prepared`; longer sequences are cut. UMONS code and default 60.
    text: for the `mmsa` layouts: BERT's `features` (default), or `bert`: its ids, mask and segments `[3, 50]` for encoder language-model.
    """

    name = "mosei"
    source = Source(
        page="http://multicomp.cs.cmu.edu/resources/cmu-mosei-dataset/",
        licence="research only, terms on the page; UMONS's lists Apache-2.0 or MIT",
        size="22,860 segments; estimated: mult 2 GB, mmsa 4 GB (unaligned 8 GB), csd 7 GB of COVAREP and 20 GB of OpenFace",
        then="put the files of one layout into this folder: UMONS's *.p (github.com/jbdel/MOSEI_UMONS), MultiBench's mosei_*.pkl, MMSA's "
        "*aligned_50.pkl, or the SDK's .csd files with CMU_MOSEI_Labels.csv. The last is read faster after 'agmbench data prepare mosei'",
    )
    layouts = (Prepared(), UMONS(), MulT(), MulTNoAlign(), MulTRaw(), MMSA(), MMSAUnaligned(), CSD())

    def __init__(
        self,
        seed: int,
        *,
        task: Kind = "binary",
        protocol: ProtocolName = "agmbench",
        length: Annotated[int, Gt(0)] = LENGTH,
        text: Words = "features",
    ) -> None:
        self.class_names = NAMES[task]
        self.hold(kind=task, protocol=protocol, length=length, text=text)
        if text == "bert" and not isinstance(self.layout, MMSA):
            raise Unsuitable(f"text=bert is of the mmsa layouts; found layout '{self.layout.name}'")
        if task == "emotions":
            self.task = MultiLabel()
        elif task == "regression":
            train = self.held.splits["train"]
            assert isinstance(train, StoredSplit)
            self.task = Regression(float(train.targets.double().var(correction=0).clamp(min=1e-8)))

    @classmethod
    def prepare(
        cls, source: Path, target: Path, progress: Progress, jobs: int, *, length: Annotated[int, Gt(0)] = LENGTH
    ) -> None:
        """Turn the SDK's sequences into arrays that are mapped from disk, with `length` words per segment."""
        prepare(source, target, progress, jobs, length)


def _sentiment_alone(path: Path) -> Unsuitable:
    return Unsuitable(f"{path} has sentiment alone; the emotions are in layouts umons, mult-raw, csd and prepared")


def _ids(arrays: Mapping[str, Array], rows: Array) -> Sequence[str]:
    """The ids of some rows; empty if the copy has no ids."""
    return [decoded(arrays["id"][row]) for row in rows] if "id" in arrays else ()


def _dictionary(path: Path) -> Mapping[Any, Any]:
    return entries(load_pickle(path), str(path), ())


def cleaned(words: Any) -> list[str]:
    """Words as UMONS has them: in lower case and without punctuation. Each given word is bytes, text, or an array of one of these."""
    texts = (re.sub(r"[.,'!?\"()*#:;]", "", decoded(word).lower()).replace("-", " ").replace("/", " ") for word in words)
    return [text for text in texts if text]


def _vocabulary(root: Path, train: Sequence[list[str]] | Any) -> tuple[Mapping[str, int], list[Path]]:
    """The number of each word, and the files from which the numbers were read: UMONS's cache if it exists. Otherwise the words of train are
    numbered by frequency."""
    path, vectors = root / "token_to_ix.pkl", root / VECTORS
    if not path.exists():
        counted = Counter(word for words in train for word in words)
        ordered = sorted(counted, key=lambda word: (-counted[word], word))
        return {word: number for number, word in enumerate(ordered, start=2)}, []
    known = _dictionary(path)
    if wrong := [number for number in known.values() if not isinstance(number, int) or number < 1]:
        raise Unsuitable(f"{path} has the word number {wrong[0]!r}; expected whole numbers from 1")
    if not vectors.exists():
        return known, [path]
    rows = len(load_npy(vectors, (None, None)))
    if max(known.values(), default=0) >= rows:
        raise Unsuitable(f"{vectors} has {rows} rows; expected more than {max(known.values())}, the last number in {path.name}")
    return known, [path, vectors]


def _numbered(text: Sequence[list[str]], known: Mapping[str, int], length: int) -> Array:
    """The texts as word numbers `[N, length, 1]`; floats, like every input."""
    found = np.zeros((len(text), length, 1), dtype=np.float32)
    for row, words in enumerate(text):
        found[row, : len(words), 0] = [known.get(word, 1) for word in words]
    return found
