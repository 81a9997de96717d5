"""The end of a process whose work is done."""

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn


def leave(status: int) -> NoReturn:
    """End this process. What is registered for its end is done, and what it has said is written; but the interpreter is not taken apart,
    which with torch and MLflow in it takes longer than many a job's last epochs, for nothing."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(status)
