"""Does several things at the same time, in the threads of a process."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from torch.utils.data import get_worker_info

THREADS = min(8, os.cpu_count() or 1)
T = TypeVar("T")
U = TypeVar("U")


def several(make: Callable[[T], U], things: Sequence[T]) -> list[U]:
    """Apply `make` to each thing, several at the same time. In a worker process of torch's `DataLoader`, it is done one after another."""
    mapped = map if get_worker_info() or len(things) == 1 else _pool().map
    return list(mapped(make, things))


@cache
def _pool() -> ThreadPoolExecutor:
    """The pool of threads of this process."""
    return ThreadPoolExecutor(THREADS)


os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process does not have the threads
