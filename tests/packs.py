"""What the tests of data sets in packs share: reading and writing a pack's pickles, and looking at what a data set makes of them."""

import pickle
from pathlib import Path
from typing import Any

import torch

from agmbench.contracts import Dataset, Tokens


def load(path: Path) -> Any:
    return pickle.loads(path.read_bytes())


def save(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content))


def whole(data: Dataset, name: Any) -> Any:
    return data.split(name).batch(torch.arange(len(data.split(name))))


def tokens(batch: Any, modality: str) -> Tokens:
    assert isinstance(batch.inputs[modality], Tokens)
    return batch.inputs[modality]
