"""Checks whether training can use the inputs and targets of a data set, and words what is wrong with them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from agmbench.contracts import SPLITS, Batch, Dataset, Split, SplitName, Tokens, Unsuitable
from agmbench.errors import AgmbenchError, describe
from agmbench.tasks import Wrong, shape_of

FIRST = 16  # a job checks so many samples of each split before anything is written
NAMED = 3  # a line names at most so many samples or classes
MOST_LINES = 10  # an error quotes at most so many lines


Named = Callable[[SplitName, int], str]  # the name by which a user knows a sample, given its split and its number


def by_number(split: SplitName, number: int) -> str:
    """Name a sample by its number alone."""
    return str(number)


class Ledger:
    """Collects findings about samples. Each finding of a split becomes one line with the number of samples and the names of the first."""

    def __init__(self, named: Named = by_number) -> None:
        self._named = named
        self._found: dict[tuple[SplitName, str], _Line] = {}

    def add(self, split: SplitName, wrong: Wrong, numbers: Tensor, of: int) -> None:
        """Add a finding about some of the samples `numbers`; `of` is the number of samples of the split that are checked in all."""
        mine = numbers[wrong.samples]
        line = self._found.setdefault((split, wrong.found), _Line(wrong, of))
        line.count += len(mine)
        line.first += mine[: NAMED - len(line.first)].tolist()

    def lines(self) -> list[str]:
        """All findings, one line each."""
        return [self._line(split, line) for (split, _), line in self._found.items()]

    def _line(self, split: SplitName, line: "_Line") -> str:
        such = f", such as {line.wrong.such}," if line.wrong.such else ""
        expected = f"; expected {line.wrong.expected}" if line.wrong.expected else ""
        named = ", ".join(self._named(split, number) for number in line.first)
        return f"{split}: {line.wrong.found}{such} in {line.count:,} of {line.of:,} samples ({named}){expected}"


@dataclass
class _Line:
    wrong: Wrong
    of: int
    count: int = 0
    first: list[int] = field(default_factory=list)


def in_one_line(lines: Sequence[str]) -> str:
    """The lines joined to one. Only the first `MOST_LINES` are quoted; the rest are counted."""
    return "; ".join([*lines[:MOST_LINES], *([f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else [])])


def wrong_input(modality: str, x: object, shape: tuple[int, ...], count: int) -> Wrong | None:
    """Why `x` cannot be the input of `count` samples of this shape; `None` if it can."""
    every = torch.ones(count, dtype=torch.bool)
    expected = f"torch.float32 {shape_of(shape)}"
    values, mask = (x.values, x.mask) if isinstance(x, Tokens) else (x, None)
    if not isinstance(values, Tensor):
        return Wrong(f"no {modality}" if x is None else f"{modality} of type {type(x).__name__}", expected, every)
    if values.shape[:1] != (count,):
        return Wrong(f"{modality} of shape {list(values.shape)} for {count} samples", expected, every)
    if values.dtype != torch.float32 or values.shape[1:] != shape:
        return Wrong(f"{modality} of {values.dtype} {shape_of(values.shape[1:])}", expected, every)
    if not values.numel():
        return Wrong(f"{modality} of {shape_of(shape)}, which has no numbers", "lengths of 1 or more", every)
    if mask is not None and (mask.dtype != torch.bool or mask.shape != values.shape[:2]):
        found = f"a mask of {modality} of {mask.dtype} {shape_of(mask.shape[1:])}"
        return Wrong(found, f"torch.bool {shape_of(values.shape[1:2])}", every)
    return None


def wrong_targets(dataset: Dataset, targets: object, count: int) -> Wrong | None:
    """Why `targets` cannot be the targets of `count` samples; `None` if they can."""
    classes = len(dataset.class_names)
    if isinstance(targets, Tensor) and targets.shape[:1] == (count,):
        return dataset.task.wrong(targets, classes)
    shape = f"shape {list(targets.shape)}" if isinstance(targets, Tensor) else f"type {type(targets).__name__}"
    found = f"targets of {shape} for {count} samples"
    return Wrong(found, dataset.task.expected(classes), torch.ones(count, dtype=torch.bool))


def check_fit(name: str, dataset: Dataset) -> None:
    """Raise `AgmbenchError` unless training can use the data set. Checks the inputs of the first `FIRST` samples of each split, and all its
    targets if they are in memory (else those of the same samples)."""
    for split in SPLITS:
        try:
            lines = _unfit(dataset, split)
        except Unsuitable as error:
            raise AgmbenchError(f"data set '{name}': {split}: {error}") from error
        except Exception as error:  # a stranger's data set may raise anything
            raise AgmbenchError(f"data set '{name}': {split} cannot be read ({describe(error)})") from error
        if lines:
            raise AgmbenchError(f"data set '{name}': {in_one_line(lines)} ('agmbench data verify {name}' reads every sample)")


def _unfit(dataset: Dataset, name: SplitName) -> list[str]:
    split, ledger = dataset.split(name), Ledger()
    if not len(split):
        return [f"{name} has no samples; expected one or more"]
    index = torch.arange(min(FIRST, len(split)))
    batch = split.batch(index)
    targets = _held(split, batch)
    for modality, shape in dataset.shapes.items():
        if wrong := wrong_input(modality, batch.inputs.get(modality), tuple(shape), len(index)):
            ledger.add(name, wrong, index, len(index))
    if wrong := wrong_targets(dataset, targets, len(index) if targets is batch.targets else len(split)):
        ledger.add(name, wrong, torch.arange(len(wrong.samples)), len(wrong.samples))
    return ledger.lines()


def _held(split: Split, batch: Batch) -> Tensor:
    """The targets of the whole split if it has them in memory, else those of its first batch `batch`. It has them if its attribute
    `targets` has one entry per sample and begins with the targets of that batch."""
    held, first = getattr(split, "targets", None), batch.targets
    if not (isinstance(held, Tensor) and isinstance(first, Tensor) and len(held) == len(split) and held.dtype == first.dtype):
        return first
    begun = held[: len(first)]
    alike = begun.shape == first.shape and bool(((begun == first) | (begun.isnan() & first.isnan())).all())
    return held if alike else first
