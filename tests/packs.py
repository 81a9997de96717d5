"""Helpers for tests of data sets in packs: read, write and break a pack's pickles, and look at what a data set reads from them."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from agmbench.contracts import Dataset, Tokens


def load(path: Path) -> Any:
    return pickle.loads(path.read_bytes())


def save(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content))


class Evil:
    """An object whose pickle runs a command when Python's own `pickle` loads it."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch stolen",)


def edit(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """A function that breaks a pack: the file `name` gets what `change` returns, or its content after `change` has altered it."""

    def broken(root: Path) -> None:
        content = load(root / name)
        changed = change(content)
        save(root / name, content if changed is None else changed)

    return broken


def put(path: str, value: Any) -> Callable[[Any], None]:
    """A change that replaces `part.key` of a pack by `value(old)`."""
    part, key = path.split(".")
    return lambda pack: pack[part].__setitem__(key, value(pack[part][key]))


def whole(data: Dataset, name: Any) -> Any:
    return data.split(name).batch(torch.arange(len(data.split(name))))


def tokens(batch: Any, modality: str) -> Tokens:
    assert isinstance(batch.inputs[modality], Tokens)
    return batch.inputs[modality]
