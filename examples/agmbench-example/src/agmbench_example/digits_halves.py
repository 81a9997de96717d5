"""digits-halves: handwritten digits, each cut into a left and a right half; real data that is part of scikit-learn.

The digits are the test part of Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, UCI Machine Learning Repository,
CC BY 4.0), 1,797 images of 8 by 8 pixels.
"""

import hashlib
from functools import cache

import numpy as np
import torch
from agmbench.contracts import SPLITS, Dataset, Split, SplitName, TensorSplit
from numpy.typing import NDArray
from sklearn.datasets import load_digits

SHARES = {"train": 0.6, "dev": 0.1, "valid": 0.1, "test": 0.2}


class DigitsHalves(Dataset):
    """A sample is a digit: `left` and `right`, `[1, 8, 4]` each, from 0 to 1. The splits have 1,078/179/179/361 samples.

    Each class is divided among the splits in the same shares, in an order that is the same for every seed. No image occurs
    twice. Who wrote a digit is not known, so digits of the same writer may be in two splits.
    """

    def __init__(self, seed: int) -> None:
        self.shapes = {"left": (1, 8, 4), "right": (1, 8, 4)}
        self.class_names = [str(digit) for digit in range(10)]
        images, digits = _read()
        self.fingerprint = hashlib.sha256(images.tobytes() + digits.tobytes() + repr(SHARES).encode()).hexdigest()[:16]
        numbers = _dealt(digits)
        pixels, targets = torch.from_numpy(images).unsqueeze(1) / 16, torch.from_numpy(digits)  # [N, 1, 8, 8], [N]
        self._splits = {
            name: TensorSplit(
                {"left": pixels[numbers[name], :, :, :4], "right": pixels[numbers[name], :, :, 4:]}, targets[numbers[name]]
            )
            for name in SPLITS
        }

    def split(self, name: SplitName) -> Split:
        return self._splits[name]


@cache
def _read() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images `[N, 8, 8]` with values from 0 to 16, and their digits `[N]`."""
    pixels, digits = load_digits(return_X_y=True)
    return pixels.reshape(-1, 8, 8).astype(np.float32), digits.astype(np.int64)


def _dealt(digits: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """The numbers of the samples of each split."""
    shuffled = np.random.default_rng(0).permutation(len(digits))
    numbers: dict[str, list[NDArray[np.int64]]] = {name: [] for name in SPLITS}
    for digit in range(10):
        mine = shuffled[digits[shuffled] == digit]
        ends = np.cumsum([round(len(mine) * SHARES[name]) for name in SPLITS[:-1]])
        for name, part in zip(SPLITS, np.split(mine, ends), strict=True):
            numbers[name].append(part)
    return {name: np.sort(np.concatenate(parts)) for name, parts in numbers.items()}
