"""Divides rows into splits: by a permutation that is always the same or, as in the AGM paper, by their places."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from agmbench.contracts import Unsuitable
from agmbench.datasets.arrays import Array

ProtocolName = Literal["agmbench", "paper"]
ON_TEST = "protocol=paper: valid is the test set, so the best epoch is chosen on test"


def cut(rows: Array, shares: Sequence[float] = (0.1, 0.1)) -> list[Array]:
    """Cut `rows` into disjoint parts by a permutation that is always the same: first the rest, then one part per share."""
    mixed = np.random.default_rng(0).permutation(rows)
    counts = [max(1, round(share * len(rows))) for share in shares]
    if sum(counts) >= len(rows):
        raise Unsuitable(f"{len(rows)} are too few to cut {len(shares)} parts from and to leave some")
    places = len(rows) - np.cumsum(counts[::-1])[::-1]
    return [np.sort(part) for part in np.split(mixed, places)]


def tenths(rows: Array) -> tuple[Array, Array]:
    """The first nine tenths and the last tenth, as the AGM paper cuts its sets."""
    place = len(rows) * 9 // 10
    return rows[:place], rows[place:]
