"""Reads AVE's annotations and official lists, and divides the clips that they name into splits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from agmbench.contracts import SplitName, Unsuitable
from agmbench.datasets.arrays import Array
from agmbench.datasets.splitting import ON_TEST, ProtocolName, tenths
from agmbench.datasets.untrusted import regular

EVENTS = (  # in the order of Annotations.txt, which is that of the label files
    *("Church bell", "Male speech, man speaking", "Bark", "Fixed-wing aircraft, airplane", "Race car, auto racing"),
    *("Female speech, woman speaking", "Helicopter", "Violin, fiddle", "Flute", "Ukulele", "Frying (food)", "Truck"),
    *("Shofar", "Motorcycle", "Acoustic guitar", "Train horn", "Clock", "Banjo", "Goat", "Baby cry, infant cry", "Bus"),
    *("Chainsaw", "Cat", "Horse", "Toilet flush", "Rodents, rats, mice", "Accordion", "Mandolin"),
)
BACKGROUND = len(EVENTS)
SECONDS = 10

Splits = Literal["official", "video-disjoint"]
FILES = {"train": "train", "valid": "val", "test": "test"}  # the official lists, and their names in file names


class Event(NamedTuple):
    """A line of Annotations.txt: an event, the video, and the seconds in which it is heard and seen, `[start, end)`."""

    kind: int
    video: str
    start: int
    end: int


def read_events(path: Path) -> list[Event]:
    """Read the events in a file of lines `Category&VideoID&Quality&StartTime&EndTime`, with or without a header."""
    regular(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Unsuitable(f"{path} cannot be read as text: {error}") from error
    return [
        _event(f"{path}:{number}", line.strip())
        for number, line in enumerate(lines, start=1)
        if line.strip() and not (number == 1 and line.startswith("Category&"))
    ]


def _event(where: str, line: str) -> Event:
    try:
        category, video, _, start, end = line.split("&")
        event = Event(EVENTS.index(category), video, int(start), int(end))
    except ValueError as error:
        expected = "Category&VideoID&Quality&StartTime&EndTime with one of the 28 categories"
        raise Unsuitable(f"{where} is {line!r}; expected {expected}") from error
    if not 0 <= event.start <= event.end <= SECONDS:
        raise Unsuitable(f"{where} has the event from {start} to {end}; expected seconds of 0 to {SECONDS}, in order")
    return event


def segment_labels(events: Sequence[Event]) -> Array:
    """The class of each second, `[N, 10]`: the event's, or background."""
    second = np.arange(SECONDS)
    return np.stack([np.where((event.start <= second) & (second < event.end), event.kind, BACKGROUND) for event in events])


def list_files(root: Path) -> list[Path]:
    """The text files of the official lists."""
    return [root / f"{name}Set.txt" for name in FILES.values()]


def read_lists(root: Path) -> dict[str, list[Event]]:
    """The events of the official lists of train, valid and test."""
    return {split: read_events(path) for split, path in zip(FILES, list_files(root), strict=True)}


# splits


Places = Mapping[SplitName, Sequence[tuple[str, Array]]]  # for each split, the lists that it comes from and its places in each


def divided(videos: Mapping[str, Sequence[str]], splits: Splits, protocol: ProtocolName = "agmbench") -> Places:
    """The places of each split in the official lists. Under the protocol `agmbench`, train and dev never share a video."""
    if empty := [split for split in FILES if not len(videos[split])]:
        raise Unsuitable(f"the official list of {empty[0]} names no clips")
    if protocol == "paper":
        return _paper(videos, splits)
    disjoint = splits == "video-disjoint"
    train, dev = _train_and_dev(videos["train"], [*videos["valid"], *videos["test"]] if disjoint else [])
    if disjoint and (both := {*videos["valid"]} & {*videos["test"]}):
        raise Unsuitable(f"{len(both)} videos are in valid and in test, such as {min(both)}; expected none")
    return {
        "train": [("train", train)],
        "dev": [("train", dev)],
        "valid": [("valid", np.arange(len(videos["valid"])))],
        "test": [("test", np.arange(len(videos["test"])))],
    }


def _train_and_dev(videos: Sequence[str], left_out: Sequence[str]) -> tuple[Array, Array]:
    """Divide the list of train by the videos of its clips and return the places of train and dev. A tenth of the videos goes to dev; the
    videos in `left_out` go to neither."""
    named = np.asarray(videos, dtype=str)
    left = np.flatnonzero(~np.isin(named, np.asarray(left_out, dtype=str)))
    unlike = np.unique(named[left])
    if len(unlike) < 2:
        raise Unsuitable(f"train has the clips of {len(unlike)} videos; expected at least 2, so that dev can be cut from it")
    drawn = np.random.default_rng(0).permutation(unlike)[: max(1, round(len(unlike) / 10))]
    in_dev = np.isin(named[left], drawn)
    return left[~in_dev], left[in_dev]


def _paper(videos: Mapping[str, Sequence[str]], splits: Splits) -> Places:
    if splits != "official":
        raise Unsuitable(f"protocol=paper is of splits=official alone; found splits={splits}")
    (train, dev), (test, rest) = (tenths(np.arange(len(videos[listed]))) for listed in ("train", "test"))
    judged = [("test", test)]
    return {"train": [("train", train)], "dev": [("train", dev), ("test", rest)], "valid": judged, "test": judged}


def places_of(videos: Mapping[str, Sequence[str]], options: Mapping[str, Any]) -> tuple[Places, list[str]]:
    """The places of each split, and notes that a user should know about them."""
    parts = divided(videos, options["splits"], options["protocol"])
    left_out = len(videos["train"]) - sum(len(places) for name in parts for listed, places in parts[name] if listed == "train")
    notes = [f"{left_out} clips of train are left out: their videos are in valid or test"] if left_out else []
    return parts, [*notes, *([ON_TEST] if options["protocol"] == "paper" else [])]


def rows_of(places: Places, of: Mapping[str, Array]) -> dict[SplitName, Array]:
    """The rows of each split; `of` has the rows of each list."""
    return {name: np.concatenate([of[listed][some] for listed, some in parts]) for name, parts in places.items()}
