"""How many processes read data ahead, as it is said in `AGMBENCH_WORKERS`. No torch."""

import os

from agmbench.errors import AgmbenchError

VARIABLE = "AGMBENCH_WORKERS"  # for this process and those that it starts
MOST = 256


def asked() -> int | None:
    """That number; `None` for `auto`, which is the default."""
    said = os.environ.get(VARIABLE) or "auto"
    if said == "auto":
        return None
    if not (said.isascii() and said.isdecimal() and int(said) <= MOST):
        raise AgmbenchError(f"--workers (or {VARIABLE}) is '{said}'; expected auto, or a number of processes from 0 to {MOST}")
    return int(said)
