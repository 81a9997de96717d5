"""Which classes occur in which split, and which of them are missing where they should not be."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from agmbench.contracts import SplitName
from agmbench.data.fit import NAMED, Named

FOLLOWS: Mapping[SplitName, str] = {  # what follows if a split lacks a class; `{}` is the class, or the classes
    "train": "so the model cannot learn {}",
    "dev": "so what is fitted on dev, such as competition strength, does not know {}",
    "valid": "so the epoch is chosen without {}",
    "test": "so the results on test say nothing about {}",
}


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


def judged(
    found: Mapping[SplitName, Classes], titles: Sequence[object], named: Named, called: str = "sample"
) -> tuple[list[str], list[str]]:
    """Return two lists of lines. The first, what is wrong: classes that another split has and train lacks. The second, what is only odd:
    classes that train has and another split lacks, and classes that occur in no split. `called` is the word for what `named` names."""
    if "train" not in found:
        return [], []
    nowhere = [number for number in range(len(titles)) if not any(classes.counts[number] for classes in found.values())]
    odd = [f"{lacked(nowhere, titles)} in any split"] if nowhere else []
    others = [name for name in found if name != "train"]
    wrong = [line for name in others for line in _lacking("train", name, found, titles, named, called)]
    odd += [line for name in others for line in _lacking(name, "train", found, titles, named, called)]
    return wrong, odd


def _lacking(
    one: SplitName,
    other: SplitName,
    found: Mapping[SplitName, Classes],
    titles: Sequence[object],
    named: Named,
    called: str,
) -> list[str]:
    """One line about the classes that do not occur in split `one`, but do in `other`, and what follows; no line if there are none."""
    here, there = found[one], found[other]
    missing = ((here.counts == 0) & (there.counts > 0)).nonzero().flatten().tolist()
    if not missing:
        return []
    present = here.counts.nonzero().flatten().tolist()
    alone = f", all targets are '{titles[present[0]]}'" if len(present) == 1 else ""
    samples = sorted({sample for number in missing for sample in there.first[number]})[:NAMED]
    count = int(there.counts[missing].sum())
    times = "once" if count == 1 else f"{count:,} times"
    them = "it" if len(missing) == 1 else "them"
    return [
        f"{one}: {lacked(missing, titles)}{alone}; {other} has {them} {times} "
        f"({called}{'s' if len(samples) > 1 else ''} {', '.join(named(other, sample) for sample in samples)}), "
        f"{FOLLOWS[one].format(them)}"
    ]


def lacked(missing: Sequence[int], titles: Sequence[object]) -> str:
    """Which classes do not occur, as the beginning of a sentence."""
    first = ", ".join(f"'{titles[number]}'" for number in missing[:NAMED]) + (", ..." if len(missing) > NAMED else "")
    return f"{len(missing)} of {len(titles)} classes {'does' if len(missing) == 1 else 'do'} not occur ({first})"
