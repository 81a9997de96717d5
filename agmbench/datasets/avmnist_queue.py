"""The order in which AV-MNIST's generator was done with its recordings, and so why the public pack's pairs are displaced.

The generator gave one recording an image, of its digit, to a pool of 23 processes, those of train and then those of test, and each
process appended its spectrogram to one list when it was done; the labels stayed in their order. `finished` plays that: a worker
that is free takes the next recording, and each takes as long as any other, but for `JITTER`. How long they took is not known: the
jitter was chosen so that as many labels are right as the accuracies of the literature ask for, which docs/avmnist.md tells.
"""

from heapq import heapreplace

import numpy as np

from agmbench.datasets.arrays import Array

WORKERS = 23
JITTER = 0.08


def finished(count: int, workers: int = WORKERS, jitter: float = JITTER) -> Array:
    """`[count]`: the numbers of the items of a queue in the order in which they are done.

    The times are evenly distributed over 1 +- jitter, drawn with the seed 0: sums of binary fractions, the same on every machine.
    """
    times = 1 + jitter * (2 * np.random.default_rng(0).random(count) - 1)
    free = [0.0] * workers  # when each worker can go on
    ends = np.empty(count)
    for item, time in enumerate(times.tolist()):
        ends[item] = free[0] + time
        heapreplace(free, ends[item])
    return np.argsort(ends, kind="stable")
