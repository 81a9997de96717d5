"""Whether a data set is what it says: every sample of every split read once; and what its splits share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from agmbench.contracts import SPLITS, Batch, Dataset, Input, Split, SplitName, Tokens, Unsuitable
from agmbench.datasets.files import FileDataset, checksum
from agmbench.tasks import Regression

BATCH = 64


@dataclass(frozen=True)
class Seen:
    """One modality of one split: the shape of a sample, and the range of all its numbers."""

    split: str
    modality: str
    shape: tuple[int, ...]
    least: float
    mean: float
    largest: float


@dataclass(frozen=True)
class Leak:
    """How many ids of a kind (`actor`, `video`) two splits share."""

    kind: str
    one: str
    other: str
    shared: int
    of: int
    example: str


@dataclass(frozen=True)
class Verdict:
    """What was found; `wrong` is empty for data that are sound. A leak is no defect of the files: it is told, not judged."""

    samples: Mapping[str, int]
    classes: Mapping[str, Sequence[int]]
    seen: Sequence[Seen]
    leaks: Sequence[Leak]
    wrong: Sequence[str]


def verify(dataset: Dataset, progress: Callable[[int, int], None]) -> Verdict:
    """Read every sample once: counts, shapes, ranges, NaN and inf, labels, checksums where known, and the leak report."""
    wrong: list[str] = list(_checksums(dataset))
    seen: list[Seen] = []
    classes: dict[str, Sequence[int]] = {}
    splits = {name: dataset.split(name) for name in SPLITS}
    total, done = sum(map(len, splits.values())), 0
    for name, split in splits.items():
        if not len(split):
            wrong.append(f"{name} has no samples")
            continue
        ranges = [_Range(m, shape) for m, shape in dataset.shapes.items()]
        targets: list[Tensor] = []
        for batch in _read(split, torch.arange(len(split)), BATCH):
            if isinstance(batch, Unsuitable):
                wrong.append(f"{name}: {batch}")
                done += 1
            else:
                wrong += [f"{name}: {text}" for found in ranges for text in found.add(batch)]
                targets.append(batch.targets)
                done += len(batch.targets)
            progress(done, total)
        if not targets:
            continue
        seen += [found.seen(name) for found in ranges]
        bad = {found.modality: found.not_finite for found in ranges if found.not_finite}
        wrong += [f"{name}: {modality} has {count} numbers that are not finite" for modality, count in bad.items()]
        wrong += [f"{name}: {text}" for text in _targets(dataset, torch.cat(targets))]
        if not isinstance(dataset.task, Regression):
            classes[name] = _counts(torch.cat(targets), len(dataset.class_names))
    groups = dataset.held.groups if isinstance(dataset, FileDataset) else {}
    return Verdict({n: len(s) for n, s in splits.items()}, classes, seen, leaks(groups), list(dict.fromkeys(wrong)))


def _read(split: Split, index: Tensor, size: int) -> Iterator[Batch | Unsuitable]:
    """Those samples in batches; where one cannot be read, its samples one by one, or why they cannot be read."""
    for part in index.split(size):
        try:
            yield split.batch(part)
        except Unsuitable as error:
            if size == 1:
                yield error
            else:
                yield from _read(split, part, 1)


class _Range:
    """The range of one modality, batch by batch."""

    def __init__(self, modality: str, shape: tuple[int, ...]) -> None:
        self.modality, self.shape = modality, shape
        self.least, self.largest, self.total, self.count, self.not_finite = np.inf, -np.inf, 0.0, 0, 0

    def add(self, batch: Batch) -> Iterator[str]:
        """Take a batch in; yields what is wrong with it."""
        if self.modality not in batch.inputs:
            yield f"the batch has no {self.modality}"
            return
        values = _values(batch.inputs[self.modality])
        if tuple(values.shape[1:]) != tuple(self.shape):
            yield f"{self.modality} has samples of shape {list(values.shape[1:])}; its data set says {list(self.shape)}"
        sound = torch.isfinite(values)
        finite = values if sound.all() else values[sound]
        self.not_finite += values.numel() - finite.numel()
        if finite.numel():
            self.least, self.largest = min(self.least, float(finite.min())), max(self.largest, float(finite.max()))
            self.total, self.count = self.total + float(finite.sum(dtype=torch.float64)), self.count + finite.numel()

    def seen(self, split: str) -> Seen:
        return Seen(split, self.modality, self.shape, self.least, self.total / max(1, self.count), self.largest)


def _values(x: Input) -> Tensor:
    return x.values if isinstance(x, Tokens) else x


def _targets(dataset: Dataset, targets: Tensor) -> Iterator[str]:
    if targets.is_floating_point():
        if not torch.isfinite(targets).all():
            yield "targets that are not finite"
    elif (outside := (targets < 0) | (targets >= len(dataset.class_names))).any():
        yield f"the label {int(targets[outside][0])}; expected 0 to {len(dataset.class_names) - 1}"


def _counts(targets: Tensor, classes: int) -> list[int]:
    """Samples (or segments) of each class; of labels, how often each is set."""
    if targets.is_floating_point():
        return [int(count) for count in (targets > 0.5).sum(dim=0)]
    inside = targets[(targets >= 0) & (targets < classes)]
    return torch.bincount(inside.flatten(), minlength=classes).tolist()


def leaks(groups: Mapping[str, Mapping[SplitName, Sequence[str]]]) -> list[Leak]:
    """For each kind and each two splits that share an id: how many, of how many different ones in the second."""
    found = []
    for kind, splits in groups.items():
        for one, other in combinations([name for name in SPLITS if name in splits], 2):
            shared = sorted(set(splits[one]) & set(splits[other]))
            if shared:
                found.append(Leak(kind, one, other, len(shared), len(set(splits[other])), shared[0]))
    return found


def _checksums(dataset: Dataset) -> Iterator[str]:
    if isinstance(dataset, FileDataset):
        for path, expected in dataset.held.checksums.items():
            try:
                if checksum(path) != expected:
                    yield f"{path} is not the file that was prepared: its checksum differs"
            except OSError as error:
                raise Unsuitable(f"{path} cannot be read ({error.strerror})") from error
