"""Which classes occur in which split, and which of them are missing where they should not be."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from agmbench.contracts import SplitName
from agmbench.data.fit import NAMED, Named


class Classes:
    """How often each class occurs in one split, and the first samples of each class; counted batch by batch."""

    def __init__(self, count: int) -> None:
        self.counts = torch.zeros(count, dtype=torch.int64)
        self.first: dict[int, list[int]] = {number: [] for number in range(count)}

    def add(self, index: Tensor, labels: Tensor) -> None:
        """Count the classes of the samples `index`. `labels` `[n, 2]` are pairs of a row of `index` and a class, as the task gives them."""
        self.counts += torch.bincount(labels[:, 1], minlength=len(self.counts))
        for number in labels[:, 1].unique().tolist():
            if len(few := self.first[number]) < NAMED:
                few += index[labels[labels[:, 1] == number, 0].unique()][: NAMED - len(few)].tolist()


def judged(found: Mapping[SplitName, Classes], titles: Sequence[object], named: Named) -> tuple[list[str], list[str]]:
    """Return two lists of lines. The first, what is wrong: classes that another split has and train lacks. The second, what is only odd:
    classes that train has and another split lacks, and classes that occur in no split."""
    if "train" not in found:
        return [], []
    nowhere = [number for number in range(len(titles)) if not any(classes.counts[number] for classes in found.values())]
    odd = [f"{len(nowhere)} of {len(titles)} classes occur in no split ({_titled(nowhere, titles)})"] if nowhere else []
    others = [name for name in found if name != "train"]
    wrong = [line for name in others for line in _lacking("train", name, found, titles, named)]
    odd += [line for name in others for line in _lacking(name, "train", found, titles, named)]
    return wrong, odd


def _lacking(
    one: SplitName,
    other: SplitName,
    found: Mapping[SplitName, Classes],
    titles: Sequence[object],
    named: Named,
) -> list[str]:
    """One line about the classes that do not occur in split `one`, but do in `other`; no line if there are none."""
    here, there = found[one], found[other]
    missing = ((here.counts == 0) & (there.counts > 0)).nonzero().flatten().tolist()
    if not missing:
        return []
    present = here.counts.nonzero().flatten().tolist()
    alone = f", all targets are '{titles[present[0]]}'" if len(present) == 1 else ""
    samples = sorted({sample for number in missing for sample in there.first[number]})[:NAMED]
    count = int(there.counts[missing].sum())
    times = "once" if count == 1 else f"{count:,} times"
    return [
        f"{one}: {len(missing)} of {len(titles)} classes do not occur ({_titled(missing, titles)}){alone}; "
        f"{other} has them {times} (samples {', '.join(named(other, sample) for sample in samples)})"
    ]


def _titled(classes: Sequence[int], titles: Sequence[object]) -> str:
    return ", ".join(f"'{titles[number]}'" for number in classes[:NAMED])
