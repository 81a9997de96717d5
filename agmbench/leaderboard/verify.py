"""Checks whether a job that was run again gave the result that a folder states."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agmbench.leaderboard.result import Result

PARTS = ("valid", "test")


@dataclass(frozen=True)
class Verdict:
    """The comparison of two results of one job: which parts agree, and which do not.

    numbers: the final numbers on valid and test, by name: the stated one, and the one found here, which is `None` if it is missing.
    differing: the differences of the environments that may lead to other numbers.   answers, logits: whether their hashes agree.
    """

    numbers: Mapping[str, tuple[float | None, float | None]]
    differing: tuple[str, ...]
    answers: bool
    logits: bool
    tolerance: float

    @property
    def equal(self) -> list[str]:
        """The names of the numbers that are equal."""
        return [name for name, (stated, found) in self.numbers.items() if stated == found]

    @property
    def beyond(self) -> list[str]:
        """The names of the numbers that do not agree as they should: exactly in the same environment, else within the tolerance."""
        return [name for name, pair in self.numbers.items() if not self._agrees(*pair)]

    @property
    def reproduced(self) -> bool:
        """Whether the result is reproduced: all numbers agree and, in the same environment, the predictions do, too."""
        return not self.beyond and (bool(self.differing) or (self.answers and self.logits))

    def _agrees(self, stated: float | None, found: float | None) -> bool:
        if stated is None or found is None:
            return False
        if not self.differing:
            return stated == found
        return abs(stated - found) <= self.tolerance * max(1.0, abs(stated), abs(found))


def verdict(stated: Result, found: Result, tolerance: float) -> Verdict:
    """Compare the result that a folder states with the result of the run here."""
    return Verdict(
        numbers=dict(_numbers(stated, found)),
        differing=tuple(stated.environment.differing(found.environment)),
        answers=stated.predictions.answers == found.predictions.answers,
        logits=stated.predictions.logits == found.predictions.logits,
        tolerance=tolerance,
    )


def _numbers(stated: Result, found: Result) -> Iterator[tuple[str, tuple[float | None, float | None]]]:
    """The stated numbers and those found here, by name. Numbers of metrics that did not exist then are not part of the result."""
    for part in PARTS:
        theirs, ours = getattr(stated.metrics, part), getattr(found.metrics, part)
        for name in sorted(theirs):
            yield f"{part}/{name}", (theirs[name], ours.get(name))


def changed(stated: Result, digest: str, components: Mapping[str, str], fingerprint: str) -> str:
    """The reason why the job has another digest here than in the result; empty if it has the same."""
    if stated.run.digest == digest:
        return ""
    theirs = sorted(stated.run.components.items())
    what = [f"{name} is {version} there and {components.get(name, 'unknown')} here" for name, version in theirs]
    what = [text for text, (name, version) in zip(what, theirs, strict=True) if components.get(name) != version]
    if stated.environment.fingerprint != fingerprint:
        what.append("the data set holds other data")
    return " and ".join(what) or "agmbench itself has changed"
