"""The data set of a job: opens it, checks it, limits it, and identifies it by what its splits contain."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agmbench import labels
from agmbench.contracts import (
    Batch,
    Change,
    Dataset,
    Split,
    SplitName,
    Staged,
    Unsuitable,
    finished,
    in_memory,
    read,
)
from agmbench.data.fit import check_fit
from agmbench.errors import AgmbenchError, describe
from agmbench.fingerprint import contents
from agmbench.jobs import MADE_OF_THE_SEED, Component, JobSpec
from agmbench.parameters import made, resolved
from agmbench.registry import BUILT_IN, Entry, Registry


class Data(NamedTuple):
    """An opened data set, the fingerprint of what its splits contain, and one that is the same under every seed (`of_any_seed`)."""

    dataset: Dataset
    fingerprint: str
    of_any_seed: str = ""


def data_of(registry: Registry, component: Component, spec: JobSpec) -> Data:
    """The job's data set and its fingerprints. A built-in data set states its fingerprint; the content of any other one is hashed."""
    entry = registry.get("dataset", component.name)
    dataset = _make(registry, component, spec.seed)
    check_fit(spec.dataset.name, dataset if spec.limit is None else Limited(dataset, spec.limit))
    if entry.origin == BUILT_IN:
        found = Data(dataset, dataset.fingerprint, MADE_OF_THE_SEED if dataset.follows_seed else dataset.fingerprint)
    else:
        fingerprint = _contents(entry, dataset)
        same = dataset.follows_seed is False or spec.seed == 0
        of_any = fingerprint if same else _contents(entry, _make(registry, component, 0))
        found = Data(dataset, fingerprint, of_any)
    if spec.limit is not None:
        found = found._replace(dataset=Limited(dataset, spec.limit))
    return found


def _contents(entry: Entry, dataset: Dataset) -> str:
    try:
        return contents(dataset)
    except Unsuitable as error:
        raise AgmbenchError(f"{entry}: {error}") from error
    except Exception as error:  # a stranger's data set may raise anything
        raise AgmbenchError(f"{entry}: its splits cannot be read ({describe(error)}); see {entry.place}") from error


def opened(registry: Registry, name: str, params: Mapping[str, Any], seed: int = 0) -> Dataset:
    """A data set without a job, for commands such as `agmbench data verify`."""
    component = resolved(registry, "dataset", Component(name=registry.get("dataset", name).name, params=dict(params)))
    return _make(registry, component, seed)


def _make(registry: Registry, component: Component, seed: int) -> Dataset:
    """Make a data set; raises if the names of its modalities or classes cannot be used."""
    entry = registry.get("dataset", component.name)
    known = (seed, entry.folder) if getattr(entry.load(), "wants_folder", False) else (seed,)
    dataset: Dataset = made(registry, "dataset", component, *known)
    if reason := labels.refused(dataset.shapes, dataset.class_names):
        raise AgmbenchError(f"{entry}: {reason}; it is named in {entry.place}")
    return dataset


class Limited(Dataset):
    """A data set with at most `limit` samples of each split of another."""

    def __init__(self, whole: Dataset, limit: int) -> None:
        self._whole, self._limit = whole, limit
        self.shapes, self.class_names, self.task = whole.shapes, whole.class_names, whole.task
        self.untransformed = whole.untransformed
        self.sample = getattr(whole, "sample", False)

    def split(self, name: SplitName) -> Split:
        whole = self._whole.split(name)
        return whole if len(whole) <= self._limit else _Part(whole, self._limit)


@dataclass(frozen=True)
class _Part(Staged):
    """The part of a split that consists of `count` samples, evenly spread over it."""

    whole: Split
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, index: Tensor, change: Change | None = None) -> Batch:
        return replace(read(self.whole, self._of_whole(index), change), index=index)

    def finished(self, batch: Batch) -> Batch:
        return finished(self.whole, batch)

    @property
    def in_memory(self) -> bool:
        """Whether its samples are already in memory, so that reading them opens no file."""
        return in_memory(self.whole)

    @property
    def targets(self) -> Tensor | None:
        """The targets of this part's samples, if the whole split holds its targets in memory."""
        held = getattr(self.whole, "targets", None)
        return held[self._of_whole(torch.arange(self.count))] if isinstance(held, Tensor) else None

    def _of_whole(self, index: Tensor) -> Tensor:
        return index * len(self.whole) // self.count
