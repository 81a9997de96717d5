"""How a process whose work is done ends."""

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn


def leave(status: int) -> NoReturn:
    """End this process: call its exit functions and flush its output, but do not shut the interpreter down. With torch and MLflow
    imported, that would take longer than the last epochs of many jobs, for no benefit."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the reader is gone, or the stream is closed
            stream.flush()
    os._exit(status)
