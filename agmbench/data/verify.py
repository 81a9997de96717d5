"""Verifies a data set: reads every sample of every split once, and finds what the splits share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor

from agmbench.contracts import SPLITS, Batch, Dataset, Split, SplitName, Unsuitable
from agmbench.data.fit import Named
from agmbench.data.reading import Findings, Range, Reading, compare
from agmbench.datasets.checksums import checksum
from agmbench.datasets.files import FileDataset

BATCH = 64


@dataclass(frozen=True)
class Seen:
    """One modality of one split: the shape of a sample, and the range of all its numbers."""

    split: str
    modality: str
    shape: tuple[int, ...]
    range: Range


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
    """The result of reading a data set.

    `wrong` is what cannot be trained on or measured, or contradicts the data set's own description. `odd` can be trained on, but is
    seldom intended. Both are lines by topic: `files`, `batch`, `targets`, `content`, `apart`, `classes`. `leaks` are reported, but are
    neither wrong nor odd, because they are no defect of the files.
    """

    samples: Mapping[str, int]
    classes: Mapping[str, Sequence[int]]
    seen: Sequence[Seen]
    leaks: Sequence[Leak]
    wrong: Mapping[str, Sequence[str]]
    odd: Mapping[str, Sequence[str]]


def verify(dataset: Dataset, progress: Callable[[int, int], None]) -> Verdict:
    """Read and check every sample once, and compare the files with their checksums where these are known."""
    verdict = judge(dataset, progress, lambda split: torch.arange(len(split)))
    changed = list(_checksums(dataset))
    return replace(verdict, wrong={**verdict.wrong, "files": [*changed, *verdict.wrong.get("files", [])]})


def judge(dataset: Dataset, progress: Callable[[int, int], None], places: Callable[[Split], Tensor]) -> Verdict:
    """Read and check some samples of each split once: those at the numbers `places(split)`."""
    splits = {name: dataset.split(name) for name in SPLITS}
    chosen = {name: places(split) for name, split in splits.items()}
    named = _named(dataset)
    wrong, odd = Findings(named), Findings(named)
    total, done, readings = sum(map(len, chosen.values())), 0, list[Reading]()
    for name, index in chosen.items():
        readings.append(Reading(dataset, name, len(index), wrong, odd))
        if not len(index):
            wrong.say("files", f"{name} has no samples; expected one or more")
            continue
        for part, batch in _read(splits[name], index, BATCH):
            if isinstance(batch, Unsuitable):
                wrong.say("files", f"{name}: {batch}")
            else:
                readings[-1].add(part, batch)
            done += len(part)
            progress(done, total)
        readings[-1].close()
    compare(dataset, readings, named, wrong, odd)
    return Verdict(
        samples={name: len(split) for name, split in splits.items()},
        classes={reading.name: reading.classes.counts.tolist() for reading in readings if reading.classified},
        seen=[
            Seen(reading.name, m, dataset.shapes[m], found)
            for reading in readings
            for m, found in reading.ranges.items()
            if found.count
        ],
        leaks=leaks(dataset.held.groups if isinstance(dataset, FileDataset) else {}),
        wrong=wrong.lines(),
        odd=odd.lines(),
    )


def _read(split: Split, index: Tensor, size: int) -> Iterator[tuple[Tensor, Batch | Unsuitable]]:
    """Yield the samples `index` in batches of `size`. If a batch cannot be read, its samples are read one by one; a sample that cannot be
    read yields the error instead of a batch."""
    for part in index.split(size):
        try:
            yield part, split.batch(part)
        except Unsuitable as error:
            if size == 1:
                yield part, error
            else:
                yield from _read(split, part, 1)


def _named(dataset: Dataset) -> Named:
    """A function that names a sample by its number and the ids that its files give it: `17 (actor 1001, clip 1001_DFA)`."""
    groups = dataset.held.groups if isinstance(dataset, FileDataset) else {}

    def named(split: SplitName, number: int) -> str:
        known = {kind: ids[split] for kind, ids in groups.items() if number < len(ids.get(split, ()))}
        ids = ", ".join(f"{kind} {ids[number]}" for kind, ids in known.items())
        return f"{number} ({ids})" if ids else str(number)

    return named


def leaks(groups: Mapping[str, Mapping[SplitName, Sequence[str]]]) -> list[Leak]:
    """One leak per kind of id and pair of splits that share such an id: how many they share, of how many different ones in the second."""
    found = []
    for kind, splits in groups.items():
        for one, other in combinations([name for name in SPLITS if name in splits], 2):
            shared = sorted(set(splits[one]) & set(splits[other]))
            if shared:
                found.append(Leak(kind, one, other, len(shared), len(set(splits[other])), shared[0]))
    return found


def _checksums(dataset: Dataset) -> Iterator[str]:
    if isinstance(dataset, FileDataset):
        for path, expected in dataset.checksums().items():
            try:
                if checksum(path) != expected:
                    yield f"{path} is not the file that was prepared: its checksum differs"
            except OSError as error:
                raise Unsuitable(f"{path} cannot be read ({error.strerror})") from error
