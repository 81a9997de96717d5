"""Reads pickles from untrusted sources by a machine of our own that can only build data.

A pickle is a program for a stack machine. Python's machine calls whatever the program names, and numpy's constructors trust what it
says about memory. So a forged pickle can run code, end the process or fill the memory. Here a pickle may only use the exact pairs
(module, name) of `CALLS`, for which functions of `calls.py` stand in, and no instruction (`instructions.py`) makes an object of a class
or sets its attributes. Nothing becomes larger than the file just because the file says so: no array (`arrays.py`), no memo
(`machine.py`), and no value that is written once and referred to many times (`values.py`).
"""

from typing import Any, BinaryIO

from agmbench.datasets.pickles.instructions import STEPS
from agmbench.datasets.pickles.machine import Machine


def read(file: BinaryIO, size: int) -> Any:
    """The value of the pickle in a file of `size` bytes. Raises some `Exception` if the pickle is broken or is more than plain data."""
    try:
        return Machine(file, size).run(STEPS)
    except (IndexError, TypeError) as error:  # raised by an empty stack, or by a call with too many arguments
        raise ValueError("its instructions do not fit one another") from error
