"""Whether a job that was run again gave the result that a folder states."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agmbench.leaderboard.result import Result

PARTS = ("valid", "test")


@dataclass(frozen=True)
class Verdict:
    """What agrees of two results of one job and what does not.

    numbers: of the final ones on valid and test, by name, what was stated and what came out; `None` where one side lacks it.
    differing: what of the environments may make other numbers.   answers, logits: whether their hashes agree.
    """

    numbers: Mapping[str, tuple[float | None, float | None]]
    differing: tuple[str, ...]
    answers: bool
    logits: bool
    tolerance: float

    @property
    def equal(self) -> list[str]:
        """The numbers that agree bit by bit."""
        return [name for name, (stated, found) in self.numbers.items() if stated == found]

    @property
    def beyond(self) -> list[str]:
        """The numbers that do not agree as they should: bit by bit in the same environment, else within the tolerance."""
        return [name for name, pair in self.numbers.items() if not self._agrees(*pair)]

    @property
    def reproduced(self) -> bool:
        """Whether the result is what it was said to be."""
        return not self.beyond and (bool(self.differing) or (self.answers and self.logits))

    def _agrees(self, stated: float | None, found: float | None) -> bool:
        if stated is None or found is None:
            return False
        if not self.differing:
            return stated == found
        return abs(stated - found) <= self.tolerance * max(1.0, abs(stated), abs(found))


def verdict(stated: Result, found: Result, tolerance: float) -> Verdict:
    """Compare what a folder states with what came out here."""
    return Verdict(
        numbers=dict(_numbers(stated, found)),
        differing=tuple(stated.environment.differing(found.environment)),
        answers=stated.predictions.answers == found.predictions.answers,
        logits=stated.predictions.logits == found.predictions.logits,
        tolerance=tolerance,
    )


def _numbers(stated: Result, found: Result) -> Iterator[tuple[str, tuple[float | None, float | None]]]:
    """Those that were stated; numbers of metrics that there were not then are no part of the result."""
    for part in PARTS:
        theirs, ours = getattr(stated.metrics, part), getattr(found.metrics, part)
        for name in sorted(theirs):
            yield f"{part}/{name}", (theirs[name], ours.get(name))


def changed(stated: Result, digest: str, components: Mapping[str, str], fingerprint: str) -> str:
    """Why the job has another digest here than there; empty if it has the same."""
    if stated.run.digest == digest:
        return ""
    theirs = sorted(stated.run.components.items())
    what = [f"{name} is {version} there and {components.get(name, 'unknown')} here" for name, version in theirs]
    what = [text for text, (name, version) in zip(what, theirs, strict=True) if components.get(name) != version]
    if stated.environment.fingerprint != fingerprint:
        what.append("the data set holds other data")
    return " and ".join(what) or "agmbench itself has changed"
