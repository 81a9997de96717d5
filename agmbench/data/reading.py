"""Collects findings while each split is read once, batch by batch, and then compares the splits."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from math import inf

import torch
from torch import Tensor

from agmbench.contracts import Batch, Dataset, Input, SplitName, Tokens
from agmbench.data.classes import Classes, judged
from agmbench.data.contents import Content, filled, whole
from agmbench.data.fit import Ledger, Named, wrong_input, wrong_targets
from agmbench.tasks import Wrong

ITSELF = "the samples of valid, so that whatever is chosen on valid is chosen on test,"


class Findings:
    """Findings by topic: `files`, `batch`, `targets`, `content`, `apart`, `classes`. A finding is about samples (`add`), or is a line of
    its own (`say`)."""

    def __init__(self, named: Named) -> None:
        self._ledgers: defaultdict[str, Ledger] = defaultdict(lambda: Ledger(named))
        self._lines: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, about: str, reading: "Reading", wrong: Wrong, numbers: Tensor) -> None:
        """Add a finding about some of the samples `numbers`."""
        self._ledgers[about].add(reading.name, wrong, numbers, reading.of)

    def say(self, about: str, line: str) -> None:
        """Add a finding that is not about single samples."""
        self._lines[about].append(line)

    def lines(self) -> dict[str, list[str]]:
        """All findings as lines, by topic."""
        found = {about: ledger.lines() for about, ledger in self._ledgers.items()}
        return found | {about: [*found.get(about, []), *lines] for about, lines in self._lines.items()}


class Range:
    """The smallest, the largest and the mean of all finite numbers that were added."""

    def __init__(self) -> None:
        self.least, self.largest, self.total, self.count = inf, -inf, 0.0, 0

    @property
    def mean(self) -> float:
        """The mean of all finite numbers; 0 if there are none."""
        return self.total / max(1, self.count)

    def add(self, values: Tensor) -> None:
        """Add the finite numbers of a batch."""
        sound = torch.isfinite(values)
        finite = values if sound.all() else values[sound]
        if finite.numel():
            self.least, self.largest = min(self.least, float(finite.min())), max(self.largest, float(finite.max()))
            self.total, self.count = self.total + float(finite.sum(dtype=torch.float64)), self.count + finite.numel()


class Reading:
    """Reads one split, of which `of` samples are read, and adds findings to `wrong` and `odd`.

    Only hashes and a few numbers of each sample are kept, so memory does not grow with the size of a sample.
    """

    def __init__(self, dataset: Dataset, name: SplitName, of: int, wrong: Findings, odd: Findings) -> None:
        self.name, self.of = name, of
        self.ranges = {modality: Range() for modality in dataset.shapes}
        self.contents: dict[str, Content] = {}
        self.numbers = torch.zeros(0, dtype=torch.int64)
        self.whole = torch.zeros(0, dtype=torch.int64)
        self.classes, self.values, self.classified = Classes(len(dataset.class_names)), Range(), False
        self._dataset, self._wrong, self._odd = dataset, wrong, odd
        self._parts: dict[str, list[Content]] = {modality: [] for modality in dataset.shapes}
        self._absent: dict[str, list[Tensor]] = {modality: [] for modality in dataset.shapes}

    def add(self, index: Tensor, batch: Batch) -> None:
        """Check a batch, which has the samples with the numbers `index`."""
        self.numbers = torch.cat([self.numbers, index])
        for modality, shape in self._dataset.shapes.items():
            x = batch.inputs.get(modality)
            if wrong := wrong_input(modality, x, tuple(shape), len(index)):
                self._wrong.add("batch", self, wrong, index)
            elif x is not None:
                self._add_modality(modality, x, index, batch.absent.get(modality, torch.zeros(len(index), dtype=torch.bool)))
        sound = torch.ones(len(index), dtype=torch.bool)
        if wrong := wrong_targets(self._dataset, batch.targets, len(index)):
            self._wrong.add("targets", self, wrong, index)
            sound = ~wrong.samples
        if sound.any():
            self._add_targets(index[sound], batch.targets[sound])

    def _add_modality(self, modality: str, x: Input, index: Tensor, lacking: Tensor) -> None:
        """Note which samples lack the modality, and check the input of the others."""
        self._absent[modality].append(index[lacking])
        if not lacking.all():
            self._add_input(modality, x[~lacking] if lacking.any() else x, index[~lacking])

    def _add_input(self, modality: str, x: Input, index: Tensor) -> None:
        values = x.values if isinstance(x, Tokens) else x
        self.ranges[modality].add(values)
        self._parts[modality].append(Content.of(index, x))
        finite = torch.isfinite(values).reshape(len(index), -1).all(dim=1)
        if not finite.all():
            wrong = Wrong(f"{modality} with numbers that are not finite", "finite numbers", ~finite)
            self._wrong.add("content", self, wrong, index)

    def _add_targets(self, index: Tensor, targets: Tensor) -> None:
        labels = self._dataset.task.labels(targets)
        if labels is None:
            self.values.add(targets)
        else:
            self.classified = True
            self.classes.add(index, labels)

    def close(self) -> None:
        """Check the split as a whole, after its last batch."""
        self.contents = {modality: Content.joined(parts) for modality, parts in self._parts.items() if parts}
        absent = {modality: torch.cat(parts) for modality, parts in self._absent.items() if parts}
        self.whole = whole([filled(content, self.numbers, absent[m]) for m, content in self.contents.items()])
        for modality, content in self.contents.items():
            for odd in content.odd(modality, self.ranges[modality].mean):
                self._odd.add("content", self, odd, content.numbers)
        if self.values.count > 1 and self.values.least == self.values.largest:
            self._odd.say("targets", f"{self.name}: all {self.values.count:,} targets are {self.values.least:g}")

    def share(self, other: "Reading") -> None:
        """Find samples, and inputs of single modalities, that a later split shares with this one."""
        both = torch.isin(other.whole, self.whole)
        if both.any():
            numbers = other.numbers
            if (self.name, other.name) == ("valid", "test") and both.all() and len(self.whole) == len(both):
                self._odd.add("apart", other, Wrong(ITSELF, "", both), numbers)
            else:
                self._wrong.add("apart", other, Wrong(f"inputs of {self.name}", "no sample in two splits", both), numbers)
        for modality, content in other.contents.items():
            if modality in self.contents:
                shared = content.shared(self.contents[modality])
                if len(both) == len(other.numbers):
                    shared &= ~both[torch.isin(other.numbers, content.numbers)]
                if shared.any():
                    self._odd.add("apart", other, Wrong(f"{modality} of {self.name}", "", shared), content.numbers)


def compare(dataset: Dataset, readings: Sequence[Reading], named: Named, wrong: Findings, odd: Findings) -> None:
    """Compare the splits: find samples that two of them share, and classes that one of them lacks."""
    for one, other in combinations(readings, 2):
        one.share(other)
    classes = {reading.name: reading.classes for reading in readings if reading.classified}
    unlearned, absent = judged(classes, dataset.class_names, named)
    for line in unlearned:  # a random sample is too small for every class
        (odd if getattr(dataset, "sample", False) else wrong).say("classes", line)
    for line in absent:
        odd.say("classes", line)
