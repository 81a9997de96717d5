"""Checks of a data set: four splits that hold what it declares."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agmbench.contracts import SPLITS, Batch, Dataset, Split, SplitName, Tokens, Unsuitable
from agmbench.datasets.files import HINT, SAMPLE, FileDataset
from agmbench.errors import describe
from agmbench.tasks import MultiLabel, Segments, SingleLabel, Task
from agmbench.testing.checks import Broken, Check, Outcome, Skipped, judged
from agmbench.testing.parts import values

LIMIT = 512  # samples of a split that are looked at, spread evenly
READ = 32  # at once

Make = Callable[..., Dataset]


@dataclass(frozen=True)
class Subject:
    """A data set that is open, and how to open it again."""

    open: Callable[[int], Dataset]  # under a seed
    data: Dataset

    @property
    def splits(self) -> Mapping[SplitName, Split]:
        """The four."""
        return {name: self.data.split(name) for name in SPLITS}


def check(make: Make, params: Mapping[str, Any]) -> list[Check]:
    """Every check of a data set: of what is here or, where that cannot be opened, of a random sample in its first layout."""
    opened = partial(make, **params)
    try:
        return _checks(opened)
    except Unsuitable as error:
        said = str(error).partition(HINT)[0]
        if not (isinstance(make, type) and issubclass(make, FileDataset)):
            return _closed("skipped", said)
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        return _closed("failed", describe(error))
    told = Check("data", "skipped", f"{said}; checked on a random sample in layout '{make.layouts[0].name}'")
    try:
        with _sample(make):
            return [told, *_checks(opened)]
    except (Exception, SystemExit) as error:
        return [told, *_closed("failed", describe(error))]


def _checks(opened: Callable[[int], Dataset]) -> list[Check]:
    subject = Subject(opened, opened(0))
    return [judged(name, check, subject) for name, check in CHECKS.items()]


def _closed(outcome: Outcome, reason: str) -> list[Check]:
    return [Check("opens", outcome, reason), Check("the others", "skipped", "it is not open")]


@contextmanager
def _sample(make: type[FileDataset]) -> Iterator[None]:
    """Inside, a random sample in the first layout is what is on disk."""
    before = os.environ.get("AGMBENCH_DATA")
    with tempfile.TemporaryDirectory() as root:
        home = Path(root) / make.name
        home.mkdir()
        (home / SAMPLE).touch()
        make.layouts[0].write_sample(home)
        os.environ["AGMBENCH_DATA"] = root
        try:
            yield
        finally:
            del os.environ["AGMBENCH_DATA"]
            if before is not None:
                os.environ["AGMBENCH_DATA"] = before


# what is read


def _places(split: Split) -> Tensor:
    """The numbers of the samples that are looked at."""
    return torch.linspace(0, len(split) - 1, min(LIMIT, len(split))).round().long()


def _read(split: Split) -> Iterator[Batch]:
    for index in _places(split).split(READ):
        yield split.batch(index)


def _looked_at(subject: Subject) -> str:
    splits = subject.splits.values()
    looked, total = sum(len(_places(split)) for split in splits), sum(map(len, splits))
    return f"in {looked:,} of {total:,} samples"


def _digests(split: Split, targets: bool = True) -> list[bytes]:
    """One of each sample that is looked at, over all its modalities."""
    digests: list[bytes] = []
    for batch in _read(split):
        parts = [values(x) for x in batch.inputs.values()]
        parts += [x.mask for x in batch.inputs.values() if isinstance(x, Tokens) and x.mask is not None]
        parts += [batch.targets] if targets else []
        digests += [_digest(part[row] for part in parts) for row in range(len(batch.index))]
    return digests


def _digest(tensors: Iterator[Tensor]) -> bytes:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.digest()


# checks


def _splits(subject: Subject) -> str:
    counts = {name: len(split) for name, split in subject.splits.items()}
    if empty := [name for name, count in counts.items() if not count]:
        raise Broken(f"{', '.join(empty)} should have samples; found {_counted(counts)}")
    return _counted(counts)


def _counted(counts: Mapping[SplitName, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _batch(subject: Subject) -> str:
    shapes = {m: tuple(shape) for m, shape in subject.data.shapes.items()}
    for name, split in subject.splits.items():
        index = torch.arange(min(4, len(split)))
        batch = split.batch(index)
        if list(batch.inputs) != list(shapes):
            raise Broken(f"{name}: a batch should have {', '.join(shapes)}; found {', '.join(batch.inputs) or 'nothing'}")
        if not torch.equal(batch.index, index):
            raise Broken(f"{name}: asked for the samples {index.tolist()}, a batch says that it has {batch.index.tolist()}")
        for m, x in batch.inputs.items():
            shape, dtype = tuple(values(x).shape), values(x).dtype
            if shape != (len(index), *shapes[m]) or dtype != torch.float32:
                expected = f"{[len(index), *shapes[m]]} of torch.float32"
                raise Broken(f"{name}: {m} should be {expected}, as its shapes say; found {list(shape)} of {dtype}")
            if isinstance(x, Tokens) and x.mask is not None and (x.mask.shape != shape[:2] or x.mask.dtype != torch.bool):
                found_mask = f"{list(x.mask.shape)} of {x.mask.dtype}"
                raise Broken(f"{name}: the mask of {m} should be {list(shape[:2])} of torch.bool; found {found_mask}")
    return ", ".join(f"{m} {list(shape)}" for m, shape in shapes.items())


def _targets(subject: Subject) -> str:
    task, classes = subject.data.task, len(subject.data.class_names)
    for name, split in subject.splits.items():
        for batch in _read(split):
            if expected := _unfit(task, batch.targets, classes):
                low, high = batch.targets.min().item(), batch.targets.max().item()
                found_range = f"{list(batch.targets.shape)} of {batch.targets.dtype}, from {low:g} to {high:g}"
                raise Broken(f"{name}: targets of {type(task).__name__} should be {expected}; found {found_range}")
    return f"fit {type(task).__name__} of {classes} classes {_looked_at(subject)}"


def _unfit(task: Task, targets: Tensor, classes: int) -> str | None:
    """What the targets of a batch should be, if they are not."""
    if isinstance(task, SingleLabel) and (targets.dtype != torch.int64 or bool(((targets < 0) | (targets >= classes)).any())):
        return f"class numbers from 0 to {classes - 1} of torch.int64"
    if isinstance(task, MultiLabel) and bool(((targets != 0) & (targets != 1)).any()):
        return "0 and 1"
    segments = targets.shape[1:] if isinstance(task, Segments) else ()
    try:
        losses = task.losses(torch.zeros(len(targets), *segments, task.outputs(classes)), targets)
    except (RuntimeError, ValueError) as error:
        return f"such that its losses can be taken ({describe(error)})"
    if losses.shape != (len(targets),) or not bool(torch.isfinite(losses).all()):
        return f"such that a sample has a finite loss (found losses of shape {list(losses.shape)})"
    return None


def _order(subject: Subject) -> str:
    for name, split in subject.splits.items():
        index = torch.tensor([len(split) - 1, 0, len(split) // 2, 0])
        batch = split.batch(index)
        if not torch.equal(batch.index, index):
            raise Broken(f"{name}: asked for the samples {index.tolist()}, a batch says that it has {batch.index.tolist()}")
        for place, number in enumerate(index):
            single = split.batch(number.unsqueeze(0))
            pairs = {m: (values(x)[place], values(single.inputs[m])[0]) for m, x in batch.inputs.items()}
            pairs["the targets"] = (batch.targets[place], single.targets[0])
            if wrong := [what for what, (one, two) in pairs.items() if not torch.equal(one, two)]:
                raise Broken(
                    f"{name}: sample {int(number)} asked for alone, and at place {place} of {index.tolist()}, differs in {wrong[0]}"
                )
    return "samples are those asked for, in any order and more than once"


def _finite(subject: Subject) -> str:
    for name, split in subject.splits.items():
        for batch in _read(split):
            for m, x in batch.inputs.items():
                if count := values(x).numel() - int(torch.isfinite(values(x)).sum()):
                    first = int(batch.index[0])
                    raise Broken(f"{name}: {count} numbers of {m} are not finite in {len(batch.index)} samples from {first} on")
    return f"all numbers {_looked_at(subject)}"


def _same(subject: Subject) -> str:
    other = subject.open(0)
    if other.fingerprint != subject.data.fingerprint:
        raise Broken(f"opened twice with the same seed, fingerprints differ: {subject.data.fingerprint}, {other.fingerprint}")
    for name, split in subject.splits.items():
        differ = sum(one != two for one, two in zip(_digests(split), _digests(other.split(name)), strict=True))
        if differ:
            raise Broken(f"{name}: opened twice with the same seed, {differ} of {len(_places(split))} samples differ")
    return f"opened again with the same seed, the same {_looked_at(subject)}; fingerprint {subject.data.fingerprint}"


def _fingerprint(subject: Subject) -> str:
    other = subject.open(1)
    one, two = ([_digests(data.split(name)) for name in SPLITS] for data in (subject.data, other))
    prints = other.fingerprint == subject.data.fingerprint
    if one != two and prints:
        raise Broken(f"seeds 0 and 1 give other data and the same fingerprint, {other.fingerprint}")
    whole = all(len(split) <= LIMIT for split in subject.splits.values())
    if one == two and not prints and whole:
        raise Broken(
            f"seeds 0 and 1 give the same data and other fingerprints, {subject.data.fingerprint}, {other.fingerprint}"
        )
    return "the same for seeds 0 and 1, which give the same data" if prints else "another for another seed, as the data are"


def _apart(subject: Subject) -> str:
    digests = {name: set(_digests(split, targets=False)) for name, split in subject.splits.items()}
    shared = {(one, two): len(digests[one] & digests[two]) for one, two in combinations(SPLITS, 2)}
    if wrong := [f"{count} of {two} are in {one} too" for (one, two), count in shared.items() if count]:
        raise Broken(f"no sample should be in two splits; found that {', '.join(wrong)}, {_looked_at(subject)}")
    return f"no sample is in two splits, {_looked_at(subject)}"


def _classes(subject: Subject) -> str:
    data, train = subject.data, subject.data.split("train")
    if getattr(data, "sample", False):
        raise Skipped("a random sample is too small for every class")
    if not isinstance(data.task, SingleLabel | MultiLabel):
        raise Skipped(f"{type(data.task).__name__} has no classes")
    missing, read = set(range(len(data.class_names))), 0
    for index in torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).split(READ):
        targets = train.batch(index).targets
        present = targets if isinstance(data.task, SingleLabel) else targets.nonzero()[:, 1]
        missing -= set(present.flatten().tolist())
        read += len(index)
        if not missing:
            return f"all {len(data.class_names)} occur in train, among its first {read:,} samples"
    names: Sequence[str] = [str(data.class_names[number]) for number in sorted(missing)]
    raise Broken(f"{len(names)} of {len(data.class_names)} classes do not occur in train, the first of them {names[0]}")


CHECKS: Mapping[str, Callable[[Subject], str]] = {
    "splits": _splits,
    "batch": _batch,
    "targets": _targets,
    "order": _order,
    "finite": _finite,
    "same": _same,
    "fingerprint": _fingerprint,
    "apart": _apart,
    "classes": _classes,
}
