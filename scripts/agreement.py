"""Measures how far the built-in methods are from recorded values of official code: the largest difference per file of tests/reference.

    python scripts/agreement.py

It runs the tests that read such a file, and notes the largest absolute difference of all numbers that they compare with it. It stops if
a test fails. The table, tests/reference/agreement.csv, is part of docs/methods.md.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
TESTS, FOLDER = ROOT / "tests", ROOT / "tests" / "reference"


class Largest:
    """A plugin of pytest that notes for each test which files it reads and the largest difference of the numbers that it compares."""

    def __init__(self) -> None:
        self.found: dict[str, float] = defaultdict(float)
        self._read: set[str] = set()
        self._apart = 0.0
        self._load, self._close, self._approx = np.load, torch.testing.assert_close, pytest.approx
        np.load, torch.testing.assert_close, pytest.approx = self.load, self.close, self.approx

    def load(self, file: Any, *args: Any, **named: Any) -> Any:
        if isinstance(file, Path) and file.parent == FOLDER:
            self._read.add(file.stem)
        return self._load(file, *args, **named)

    def close(self, actual: Any, expected: Any, **named: Any) -> None:
        self._close(actual, expected, **named)
        self.note(actual, expected)

    def approx(self, expected: Any, *args: Any, **named: Any) -> Any:
        return _Noting(self, expected, self._approx(expected, *args, **named))

    def note(self, actual: Any, expected: Any) -> None:
        """Note the largest difference of two numbers, lists or tensors."""
        one, two = (torch.as_tensor(x).detach().double() for x in (actual, expected))
        self._apart = max([self._apart, *(one - two).abs().flatten().tolist()])

    def pytest_collection_finish(self) -> None:
        from recorded import Recorded  # type: ignore[import-not-found]

        weights = Recorded.agrees

        def agrees(case: Any, *args: Any, **named: Any) -> float:
            self._apart = max(self._apart, found := weights(case, *args, **named))
            return float(found)

        Recorded.agrees = agrees

    def pytest_runtest_setup(self) -> None:
        self._read.clear()
        self._apart = 0.0

    def pytest_runtest_teardown(self) -> None:
        for name in self._read:
            self.found[name] = max(self.found[name], self._apart)


class _Noting:
    """A wrapper of `pytest.approx` that notes each comparison that holds."""

    __array_ufunc__ = None

    def __init__(self, largest: Largest, expected: Any, inner: Any) -> None:
        self._largest, self._expected, self._inner = largest, expected, inner

    def __eq__(self, actual: object) -> bool:
        held = bool(actual == self._inner)
        if held:
            self._largest.note(actual, self._expected)
        return held

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._inner)


def main() -> None:
    largest = Largest()
    reading = ("from recorded import", "from test_reference import", "class Case:")
    files = [str(path) for path in sorted(TESTS.glob("test_*.py")) if any(word in path.read_text() for word in reading)]
    status = pytest.main(["-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not long", *files], plugins=[largest])
    if status:
        sys.exit(int(status))
    with (FOLDER / "agreement.csv").open("w", newline="") as file:
        rows = sorted((name, f"{apart:.0e}" if apart else "0") for name, apart in largest.found.items())
        csv.writer(file, lineterminator="\n").writerows([("file", "largest difference"), *rows])


if __name__ == "__main__":
    main()
