"""Checks of a data set: whether its four splits contain what it declares."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agmbench.contracts import SPLITS, Batch, Dataset, Split, SplitName, Tokens, Unsuitable
from agmbench.data.classes import lacked
from agmbench.data.fit import in_one_line
from agmbench.data.verify import Verdict, judge
from agmbench.datasets.files import SAMPLE, FileDataset, NotHere
from agmbench.errors import describe
from agmbench.testing.checks import BrokenPromise, Check, CheckOutcome, Skipped, judged
from agmbench.testing.parts import values

LIMIT = 512  # at most so many samples of a split are checked, evenly spread
READ = 32  # samples that are read at once

Make = Callable[..., Dataset]


@dataclass(frozen=True)
class Subject:
    """An open data set, and a function that opens it again."""

    open: Callable[[int], Dataset]  # takes a seed
    data: Dataset

    @cached_property
    def verdict(self) -> Verdict:
        """The result of `agmbench data verify` for the samples that are checked, without checksums."""
        return judge(self.data, lambda done, total: None, _places)

    def judged(self, about: str, detail: str) -> str:
        """The detail of a passed check on the topic `about`, with what is odd about it. Raises `BrokenPromise` if something is wrong."""
        if wrong := self.verdict.wrong.get(about):
            raise BrokenPromise(in_one_line(wrong))
        return in_one_line([detail, *(f"odd: {line}" for line in self.verdict.odd.get(about, ()))])

    @property
    def splits(self) -> Mapping[SplitName, Split]:
        """The four splits."""
        return {name: self.data.split(name) for name in SPLITS}


def check(make: Make, params: Mapping[str, Any]) -> list[Check]:
    """Every check of a data set. If it is not on this machine, a random sample in its first layout is checked instead."""
    opened = partial(make, **params)
    try:
        return _checks(opened)
    except Unsuitable as error:
        said = error.reason if isinstance(error, NotHere) else str(error)
        if not (isinstance(make, type) and issubclass(make, FileDataset)):
            return _closed("skipped", said)
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        return _closed("failed", describe(error))
    absent = Check("data", "skipped", f"{said}; checked on a random sample in layout '{make.layouts[0].name}'")
    try:
        with _sample(make):
            return [absent, *_checks(opened)]
    except (Exception, SystemExit) as error:
        return [absent, *_closed("failed", describe(error))]


def _checks(opened: Callable[[int], Dataset]) -> list[Check]:
    subject = Subject(opened, opened(0))
    return [judged(name, check, subject) for name, check in CHECKS.items()]


def _closed(outcome: CheckOutcome, reason: str) -> list[Check]:
    return [Check("opens", outcome, reason), Check("the others", "skipped", "it is not open")]


@contextmanager
def _sample(make: type[FileDataset]) -> Iterator[None]:
    """Inside the `with` block, the data set is read from a random sample in its first layout."""
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


# reading


def _places(split: Split) -> Tensor:
    """The numbers of the samples that are checked."""
    return torch.linspace(0, len(split) - 1, min(LIMIT, len(split))).round().long()


def _read(split: Split) -> Iterator[Batch]:
    for index in _places(split).split(READ):
        yield split.batch(index)


def _looked_at(subject: Subject) -> str:
    splits = subject.splits.values()
    looked, total = sum(len(_places(split)) for split in splits), sum(map(len, splits))
    return f"in {looked:,} of {total:,} samples"


def _digests(split: Split) -> list[bytes]:
    """One digest per checked sample, over all its modalities and its target."""
    digests: list[bytes] = []
    for batch in _read(split):
        parts = [values(x) for x in batch.inputs.values()]
        parts += [x.mask for x in batch.inputs.values() if isinstance(x, Tokens) and x.mask is not None]
        parts.append(batch.targets)
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
        raise BrokenPromise(f"{', '.join(empty)} should have samples; found {_counted(counts)}")
    return _counted(counts)


def _counted(counts: Mapping[SplitName, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _batch(subject: Subject) -> str:
    shapes = {m: tuple(shape) for m, shape in subject.data.shapes.items()}
    subject.judged("files", "")
    fit = subject.judged("batch", ", ".join(f"{m} {list(shape)}" for m, shape in shapes.items()))
    for name, split in subject.splits.items():
        index = torch.arange(min(4, len(split)))
        batch = split.batch(index)
        if list(batch.inputs) != list(shapes):
            raise BrokenPromise(
                f"{name}: a batch should have {', '.join(shapes)}; found {', '.join(batch.inputs) or 'nothing'}"
            )
        if not torch.equal(batch.index, index):
            raise BrokenPromise(
                f"{name}: asked for the samples {index.tolist()}, a batch says that it has {batch.index.tolist()}"
            )
    return fit


def _targets(subject: Subject) -> str:
    task, classes = type(subject.data.task).__name__, len(subject.data.class_names)
    return subject.judged("targets", f"fit {task} of {classes} classes {_looked_at(subject)}")


def _order(subject: Subject) -> str:
    for name, split in subject.splits.items():
        index = torch.tensor([len(split) - 1, 0, len(split) // 2, 0])
        batch = split.batch(index)
        if not torch.equal(batch.index, index):
            raise BrokenPromise(
                f"{name}: asked for the samples {index.tolist()}, a batch says that it has {batch.index.tolist()}"
            )
        for place, number in enumerate(index):
            single = split.batch(number.unsqueeze(0))
            pairs = {m: (values(x)[place], values(single.inputs[m])[0]) for m, x in batch.inputs.items()}
            pairs["the targets"] = (batch.targets[place], single.targets[0])
            if wrong := [what for what, (one, two) in pairs.items() if not torch.equal(one, two)]:
                raise BrokenPromise(
                    f"{name}: sample {int(number)} asked for alone, and at place {place} of {index.tolist()}, differs in {wrong[0]}"
                )
    return "samples are those asked for, in any order and more than once"


def _content(subject: Subject) -> str:
    return subject.judged("content", f"all numbers are finite {_looked_at(subject)}")


def _same(subject: Subject) -> str:
    other = subject.open(0)
    if other.fingerprint != subject.data.fingerprint:
        raise BrokenPromise(
            f"opened twice with the same seed, fingerprints differ: {subject.data.fingerprint}, {other.fingerprint}"
        )
    for name, split in subject.splits.items():
        differ = sum(one != two for one, two in zip(_digests(split), _digests(other.split(name)), strict=True))
        if differ:
            raise BrokenPromise(f"{name}: opened twice with the same seed, {differ} of {len(_places(split))} samples differ")
    return f"opened again with the same seed, the same {_looked_at(subject)}; fingerprint {subject.data.fingerprint}"


def _fingerprint(subject: Subject) -> str:
    other = subject.open(1)
    one, two = ([_digests(data.split(name)) for name in SPLITS] for data in (subject.data, other))
    prints = other.fingerprint == subject.data.fingerprint
    if one != two and prints:
        raise BrokenPromise(f"seeds 0 and 1 give other data and the same fingerprint, {other.fingerprint}")
    whole = all(len(split) <= LIMIT for split in subject.splits.values())
    if one == two and not prints and whole:
        raise BrokenPromise(
            f"seeds 0 and 1 give the same data and other fingerprints, {subject.data.fingerprint}, {other.fingerprint}"
        )
    return "the same for seeds 0 and 1, which give the same data" if prints else "another for another seed, as the data are"


def _apart(subject: Subject) -> str:
    return subject.judged("apart", f"no sample is in two splits {_looked_at(subject)}")


def _classes(subject: Subject) -> str:
    data = subject.data
    if getattr(data, "sample", False):
        raise Skipped("a random sample is too small for every class")
    if data.task.labels(data.split("train").batch(torch.tensor([0])).targets) is None:
        raise Skipped(f"{type(data.task).__name__} has no classes")
    lacking = {name: _missing(data, split) for name, split in subject.splits.items()}
    lines = {name: f"{name}: {lacked(missing, data.class_names)}" for name, missing in lacking.items() if missing}
    if "train" in lines:
        raise BrokenPromise(lines["train"])
    return in_one_line([f"all {len(data.class_names)} occur in train", *(f"odd: {line}" for line in lines.values())])


def _missing(data: Dataset, split: Split) -> list[int]:
    """The numbers of the classes that do not occur in a split. The split is read in random order until all classes are found."""
    missing = set(range(len(data.class_names)))
    for index in torch.randperm(len(split), generator=torch.Generator().manual_seed(0)).split(READ):
        labels = data.task.labels(split.batch(index).targets)
        missing -= set() if labels is None else set(labels[:, 1].tolist())
        if not missing:
            break
    return sorted(missing)


CHECKS: Mapping[str, Callable[[Subject], str]] = {
    "splits": _splits,
    "batch": _batch,
    "targets": _targets,
    "order": _order,
    "content": _content,
    "same": _same,
    "fingerprint": _fingerprint,
    "apart": _apart,
    "classes": _classes,
}
