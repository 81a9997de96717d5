"""Which data sets are on this machine, in which layout, and where to get the others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agmbench.contracts import SPLITS, Dataset, Unsuitable
from agmbench.datasets.files import FileDataset, NotHere, Source
from agmbench.errors import AgmbenchError, describe
from agmbench.registry import Entry

BUILT_IN = "built in"


@dataclass(frozen=True)
class State:
    """Whether a data set is on this machine. If it is: its `layout` and the number of samples per split. If not: what is `missing`, the
    `layouts` in which it would be recognised, and where to get it."""

    name: str
    layout: str = ""
    samples: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    missing: str = ""
    layouts: tuple[str, ...] = ()
    source: Source | None = None


def state(entry: Entry, seed: int) -> State:
    """Open a data set with the parameters of its entry and return its state. An error becomes the state's `missing`."""
    try:
        target: Any = entry.load()
    except AgmbenchError as error:
        return State(entry.name, missing=str(error))
    source = getattr(target, "source", None)
    try:
        known = (seed, entry.folder) if getattr(target, "wants_folder", False) else (seed,)
        dataset: Dataset = target(*known, **entry.params)
        samples: Mapping[str, int] = {name: len(dataset.split(name)) for name in SPLITS}
    except NotHere as error:
        return State(entry.name, missing=error.reason, layouts=error.layouts, source=source)
    except Unsuitable as error:
        return State(entry.name, missing=str(error), source=source)
    except Exception as error:  # a stranger's data set may raise anything
        return State(entry.name, missing=describe(error), source=source)
    if not isinstance(dataset, FileDataset):
        return State(entry.name, BUILT_IN, samples)
    layout = f"{dataset.layout.name} in {dataset.root}"
    notes = (*(["a random sample, no real data"] if dataset.sample else []), *dataset.held.notes)
    return State(entry.name, layout, samples, notes)
