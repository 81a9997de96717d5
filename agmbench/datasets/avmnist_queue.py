"""Imitates the order in which AV-MNIST's generator finished its recordings, which explains the displaced pairs of the public pack.

The generator gave one recording per image, of the image's digit, to a pool of 23 processes: first those of train, then those of test.
Each process appended its spectrogram to a common list when it was done, but the labels stayed in their order. `finished` simulates
this: a free worker takes the next recording, and all recordings take equally long, except for `JITTER`. How long they really took is
not known. The jitter was chosen so that as many labels are right as the accuracies of the literature suggest; see docs/avmnist.md.
"""

from heapq import heapreplace

import numpy as np

from agmbench.datasets.arrays import Array

WORKERS = 23
JITTER = 0.08


def finished(count: int, workers: int = WORKERS, jitter: float = JITTER) -> Array:
    """The numbers of the items of a queue in the order in which they are finished, `[count]`.

    The time of each item is drawn evenly from 1 +- jitter with the seed 0. Sums of these times are the same on every machine.
    """
    times = 1 + jitter * (2 * np.random.default_rng(0).random(count) - 1)
    free = [0.0] * workers  # the time at which each worker becomes free
    ends = np.empty(count)
    for item, time in enumerate(times.tolist()):
        ends[item] = free[0] + time
        heapreplace(free, ends[item])
    return np.argsort(ends, kind="stable")
