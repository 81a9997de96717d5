"""The features of frozen encoders, kept on disk: each such encoder runs once over the splits, and training reads its features."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agmbench.contracts import Batch, Change, Input, Split, SplitName, Staged, Tokens, finished, muted, read
from agmbench.distributed.ranks import here
from agmbench.loading import Feed
from agmbench.model import MultimodalModel
from agmbench.modes import same_in_training
from agmbench.muting import Random


def frozen(model: MultimodalModel) -> list[str]:
    """The modalities whose encoder learns nothing."""
    return [m for m, encoder in model.encoders.items() if not any(tensor.requires_grad for tensor in encoder.parameters())]


def refused(
    model: MultimodalModel, augmented: Collection[str], evaluated: Collection[str], mixes: bool, compares: bool
) -> str | None:
    """The reason why features cannot be kept, or `None`.

    augmented, evaluated: the modalities that have transforms in training, and in evaluation.
    mixes: whether the recipe mixes inputs.   compares: whether the method needs trained unimodal models.
    """
    found = frozen(model)
    if changed := [m for m in found if m in augmented]:
        return f"the samples of '{changed[0]}' are changed in each epoch; take --set augment.{changed[0]}=none"
    if changed := [m for m in found if m in evaluated]:
        return f"the samples of '{changed[0]}' are changed in evaluation; take --set evaluation.{changed[0]}=none"
    if any(encoder.guided for encoder in model.encoders.values()):
        return "an encoder looks at other modalities, and so at more than a sample's own input"
    if other := [m for m in found if not same_in_training(model.encoders[m].train())]:
        return f"the encoder of '{other[0]}' makes another pass in train mode than in eval mode, as far as is known"
    if isinstance(model.muting, Random):
        return "mute=random draws anew what an encoder sees; take mute=zeros or mute=mean"
    if mixes:
        return "training.mixup mixes the inputs before an encoder sees them; leave one of the two out"
    if compares:
        return "the modulator asks trained concepts, whose encoders are their own"
    return None


@torch.no_grad()
def keep(model: MultimodalModel, feed: Feed, folder: Path) -> None:
    """Replace the inputs that the feed gives by features, for each modality whose encoder is frozen, and tell the model's `muting`.

    In place of an input the feed gives the feature of the sample followed, on the last axis, by the feature of its muted input. With
    tokens `[B, L, 2 (D + 1)]`, the last number of each half is 1 where there is a token. Tokens of text are cut to the batch's longest
    text, as they would be without kept features.
    """
    modalities = frozen(model)
    if not modalities:  # a unimodal model, whose only encoder is not frozen
        return
    masked: dict[str, bool] = {}
    splits: dict[SplitName, Split] = {}
    several = here() is not None  # ranks gather batches, so all samples must have the same length
    text = frozenset(m for m in modalities if model.encoders[m].reads_text and not several)
    with model.evaluating(), model.muting.evaluation():
        for name, split in feed.splits.items():
            whole = split.whole if isinstance(split, Kept) else split
            files = _Files(folder / name, len(split))
            source, lacking = Feed({name: whole}, feed.device), False
            source.stand_in = partial(muted, mute=model.muting, known=tuple(model.encoders))
            for batch in source.in_order(name):
                lacking = lacking or bool(batch.absent)
                blank = {m: model.muting(m, batch.inputs[m]) for m in modalities}
                for m in modalities:
                    feature = model.feature(m, batch.inputs)
                    masked[m] = isinstance(feature, Tokens) and feature.mask is not None
                    files.write(m, batch.index, torch.cat([_flat(feature), _flat(model.feature(m, blank))], dim=-1))
                files.write("targets", batch.index, batch.targets)
                if batch.weights is not None:
                    files.write("weights", batch.index, batch.weights)
            files.close()
            all_kept, weighted = len(modalities) == len(batch.inputs) and not lacking, batch.weights is not None
            splits[name] = Kept(folder / name, tuple(modalities), text, len(split), whole, all_kept, weighted)
    feed.exchange(splits)
    model.muting.kept = masked


def _flat(feature: Input) -> Tensor:
    if isinstance(feature, Tensor):
        return feature
    there = torch.ones_like(feature.values[..., :1])
    return torch.cat([feature.values, there if feature.mask is None else there * feature.mask.unsqueeze(2)], dim=-1)


class _Files:
    """The arrays of a split on disk. Each is created by its first `write`, which tells its type and shape."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._count = folder, count
        self._arrays: dict[str, Any] = {}

    def write(self, name: str, index: Tensor, x: Tensor) -> None:
        """Write the rows with these numbers."""
        rows = x.cpu().numpy()
        if name not in self._arrays:
            kind: dict[str, Any] = {"mode": "w+", "dtype": rows.dtype, "shape": (self._count, *rows.shape[1:])}
            self._arrays[name] = np.lib.format.open_memmap(_path(self._folder, name), **kind)
        self._arrays[name][index.cpu().numpy()] = rows

    def close(self) -> None:
        """Flush all arrays to the disk and close them."""
        for array in self._arrays.values():
            array.flush()
        self._arrays.clear()


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"


@lru_cache(maxsize=64)
def _opened(path: Path) -> Any:
    return np.load(path, mmap_mode="r")


@dataclass(frozen=True)
class Kept(Staged):
    """A split in which the inputs of some `modalities` are features, read from mapped arrays.

    text: the modalities of text, whose tokens are cut to the batch's longest text.
    whole: the split that has the other modalities.
    all_kept: there are no other modalities and no sample lacks a modality, so `whole` is not read.
    """

    folder: Path
    modalities: tuple[str, ...]
    text: frozenset[str]
    count: int
    whole: Split
    all_kept: bool
    weighted: bool

    def __len__(self) -> int:
        return self.count

    def read(self, index: Tensor, change: Change | None = None) -> Batch:
        """Read the features from their arrays, and the other modalities as `whole` stores them."""
        features: dict[str, Input] = {m: self._input(m, index) for m in self.modalities}
        if self.all_kept:
            weights = self._rows("weights", index) if self.weighted else None
            return Batch(features, self._rows("targets", index), index, weights=weights)
        batch = read(self.whole, index, change)
        return replace(batch, inputs={**batch.inputs, **features})

    def finished(self, batch: Batch) -> Batch:
        """Finish the inputs of the other modalities; features are finished already."""
        if self.all_kept:
            return batch
        others = replace(batch, inputs={m: x for m, x in batch.inputs.items() if m not in self.modalities})
        done = finished(self.whole, others)
        return replace(done, inputs={m: batch.inputs[m] if m in self.modalities else done.inputs[m] for m in batch.inputs})

    @property
    def targets(self) -> Tensor:
        """The targets of every sample."""
        return self._rows("targets", torch.arange(self.count))

    def _input(self, modality: str, index: Tensor) -> Input:
        values = self._rows(modality, index)
        if values.ndim == 2:
            return values
        if modality in self.text:
            there = (values[..., values.shape[2] // 2 - 1] > 0).any(dim=0).nonzero()
            values = values[:, : int(there.max()) + 1 if len(there) else 1]
        return Tokens(values)

    def _rows(self, name: str, index: Tensor) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(_opened(_path(self.folder, name))[index.numpy()]))
