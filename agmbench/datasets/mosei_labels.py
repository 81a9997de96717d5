"""Shared by CMU-MOSEI's layouts: makes the targets of each task from the labels, and finds the video in a segment's id."""

import re
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from agmbench.contracts import Unsuitable
from agmbench.datasets.arrays import Array

Kind = Literal["binary", "3-class", "7-class", "regression", "emotions"]

EMOTIONS = ["happy", "sad", "anger", "surprise", "disgust", "fear"]
NAMES: Mapping[Kind, list[str]] = {
    "binary": ["negative", "not negative"],
    "3-class": ["negative", "neutral", "positive"],
    "7-class": ["-3", "-2", "-1", "0", "1", "2", "3"],
    "regression": ["sentiment"],
    "emotions": EMOTIONS,
}


def video(id_: str) -> str:
    """The video in a segment's id, which is `vid[k]` in UMONS and `vid$_$k` in MMSA."""
    return re.sub(r"(\[\d+\]|\$_\$.*)$", "", id_)


KINDS: Mapping[str, Callable[[str], str]] = {"video": video, "segment": str}


def as_targets(kind: Kind, labels: Array, where: str) -> Tensor:
    """Make the targets of a task from labels `[N, 1]` (sentiment) or `[N, 6]` (emotions). Raises `Unsuitable` for a label out of range."""
    low, high = (0, 3) if kind == "emotions" else (-3, 3)
    wrong = labels[~((labels >= low) & (labels <= high))]
    if len(wrong):
        raise Unsuitable(f"{where} has the label {wrong.flat[0]:g}; expected {low} to {high}")
    if kind == "emotions":
        return torch.from_numpy((labels > 0).astype(np.float32))
    sentiment = labels[:, 0]
    if kind == "regression":
        return torch.from_numpy(sentiment.astype(np.float32))
    classes = {"binary": sentiment >= 0, "3-class": np.sign(sentiment) + 1, "7-class": np.round(sentiment) + 3}[kind]
    return torch.from_numpy(classes.astype(np.int64))
