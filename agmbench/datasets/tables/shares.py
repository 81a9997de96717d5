"""Assigns rows to splits: by a column of the table, or by shares, with no group in two splits and every class in each split if possible."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from agmbench.contracts import SPLITS, SplitName, Unsuitable
from agmbench.datasets.arrays import Array

NAMES: Mapping[str, str] = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "eval", "dev_seen"), "valid"),
    **dict.fromkeys(("dev", "development"), "dev"),
    **dict.fromkeys(("test", "testing", "test_seen"), "test"),
}
SHARES: Mapping[str, float] = {"train": 0.7, "dev": 0.1, "valid": 0.1, "test": 0.1}
CUT = {"dev": 0.1, "valid": 0.1}  # the shares that are cut from train for splits that the column does not name
ORDER = ("train", "test", "valid", "dev")


def shared(shares: Mapping[str, float], strata: Array, groups: Array | None, seed: int) -> Array:
    """The name of each row's split, `[N]`. Groups stay together, and each split gets about its share of each stratum.

    A group belongs to the stratum of its first row. Within a stratum, groups are shuffled by `seed` and assigned to splits by the number of
    rows that each still needs; if a split gets too many rows of one stratum, it gets fewer of the next. Every stratum has a group in train,
    and in each split whose share of it is at least a whole group. Every split has a group, if there are enough.
    """
    names = [name for name in ORDER if shares.get(name, 0) > 0]
    wanted = np.array([shares[name] for name in names]) / sum(shares[name] for name in names)
    if groups is None:
        owner, firsts, sizes = np.arange(len(strata)), np.arange(len(strata)), np.ones(len(strata))
    else:
        _, firsts, owner, counts = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
        sizes = counts.astype(float)
    draw, short = np.random.default_rng(seed), np.zeros(len(names))
    of_group = np.zeros(len(firsts), dtype=np.int64)
    _, stratum = np.unique(strata[firsts], return_inverse=True)
    by_stratum = np.argsort(stratum, kind="stable")
    for some in np.split(by_stratum, np.flatnonzero(np.diff(stratum[by_stratum])) + 1):
        some = draw.permutation(some)
        total = sizes[some].sum()
        aimed = np.clip(wanted * total + short, 0, None)
        aimed *= total / aimed.sum()
        middles = np.cumsum(sizes[some]) - sizes[some] / 2
        dealt = np.minimum(np.searchsorted(np.cumsum(aimed), middles), len(names) - 1)
        if "train" in names and not (dealt == names.index("train")).any():
            dealt[0] = names.index("train")
        for lacking in np.flatnonzero(np.bincount(dealt, minlength=len(names)) == 0):
            counts = np.bincount(dealt, minlength=len(names))
            most = np.flatnonzero(dealt == counts.argmax())
            smallest = most[sizes[some][most].argmin()]
            if len(most) > 1 and wanted[lacking] * total >= sizes[some][smallest]:
                dealt[smallest] = lacking
        of_group[some] = dealt
        short += wanted * total - np.bincount(dealt, weights=sizes[some], minlength=len(names))
    for place in range(len(names)):  # with few groups, a split may have got none
        counts = np.bincount(of_group, minlength=len(names))
        if not counts[place] and counts.max() > 1:
            most = np.flatnonzero(of_group == counts.argmax())
            of_group[most[sizes[most].argmin()]] = place
    split: Array = np.array(names, dtype=object)[of_group[owner]]
    return split


def parts(
    named: Array | None, shares: Mapping[str, float] | None, strata: Array, groups: Array | None, seed: int
) -> tuple[dict[SplitName, Array], list[str]]:
    """The rows of each split in rising order, and notes for the user. `named` are the names of splits in a column, if there is one. Raises
    `Unsuitable` if a split has no rows."""
    notes = []
    if named is None:
        split = shared(shares or SHARES, strata, groups, seed)
        asked = ", ".join(f"{name} {share:g}" for name, share in (shares or SHARES).items())
        by = "no group in two splits" if groups is not None else "row by row"
        notes.append(f"no column names the splits, so they are drawn at random ({asked}; {by}; seed {seed})")
    else:
        places, distinct = pd.factorize(named)
        split = np.array([NAMES[str(name).strip().lower()] for name in distinct], dtype=object)[places]
        if "valid" not in split and "dev" in split:
            split[split == "dev"] = "valid"
            notes.append("split 'dev' is taken as valid, because no split is called valid")
        lacking = {name: share for name, share in CUT.items() if name not in split}
        train = np.flatnonzero(split == "train")
        if lacking and len(train):
            if groups is not None and list(lacking) == ["dev"] and len(np.unique(groups[train])) < 1 / CUT["dev"]:
                notes.append(
                    "train has too few groups to give whole groups to dev, so single rows are taken: dev shares groups with train"
                )
                groups = None
            own = shared(
                {"train": 1 - sum(lacking.values()), **lacking}, strata[train], None if groups is None else groups[train], seed
            )
            split[train] = own
            notes.append(
                f"{' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} cut from train, a tenth each (seed {seed})"
            )
    found: dict[SplitName, Array] = {name: np.flatnonzero(split == name) for name in SPLITS}
    for name, rows in found.items():
        if not len(rows):
            have = ", ".join(f"{other} {len(some)}" for other, some in found.items())
            raise Unsuitable(f"{name} has no rows ({have}); name the splits in a column, or set shares and have enough groups")
    return found, notes


def unknown(named: Sequence[object] | Array) -> list[int]:
    """The places of names that are not known names of splits."""
    places, distinct = pd.factorize(np.asarray(named, dtype=object))
    strange = [number for number, name in enumerate(distinct) if str(name).strip().lower() not in NAMES]
    return [int(place) for place in np.flatnonzero(np.isin(places, [-1, *strange]))]
