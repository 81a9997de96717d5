"""How many processes read data ahead, as set by `AGMBENCH_WORKERS`. Torch is not imported."""

import os

from agmbench.errors import AgmbenchError

VARIABLE = "AGMBENCH_WORKERS"  # it applies to this process and to those that it starts
MOST = 256


def requested() -> int | None:
    """The number of processes; `None` for `auto`, the default."""
    said = os.environ.get(VARIABLE) or "auto"
    if said == "auto":
        return None
    if not (said.isascii() and said.isdecimal() and int(said) <= MOST):
        raise AgmbenchError(f"--workers (or {VARIABLE}) is '{said}'; expected auto, or a number of processes from 0 to {MOST}")
    return int(said)
