"""Strangers' pickles, read by a machine of our own that can do nothing but hold data.

A pickle is a program for a stack machine. Python's own calls whatever the program names, and numpy's constructors take its word for
what memory holds, so that a forged one runs code, ends the process or takes all memory. Here a name is one of the exact pairs
(module, name) of `CALLS` and what answers is a function of `calls.py`; there is no instruction (`instructions.py`) that makes an object
of a class or sets its attributes. Nothing is made larger than the file because the file says so: not an array (`arrays.py`), not a
memo (`machine.py`), and not what is written once and referred to many times (`values.py`).
"""

from typing import Any, BinaryIO

from agmbench.datasets.pickles.instructions import STEPS
from agmbench.datasets.pickles.machine import Machine


def read(file: BinaryIO, size: int) -> Any:
    """What the pickle in a file of `size` bytes holds; raises an `Exception` if that is no data."""
    try:
        return Machine(file, size).run(STEPS)
    except (IndexError, TypeError) as error:  # of an empty stack, or a call with too many arguments
        raise ValueError("its instructions do not fit one another") from error
