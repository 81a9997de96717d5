"""A suite as the registry defines it: a named matrix of jobs.

In `registry.yaml`:

    suites:
      mini:
        summary: what it shows
        seeds: [1, 2, 3]
        jobs:                          # each item is the product of its lists
          - dataset: avmnist-mini      # or a list
            fusion: [concat, early]    # default: the data set's
            modulator: [joint, agm]
            encoder: {image: resnet}   # default: the data set's
            set: {training.lr: 0.01}   # as --set; a list of values is one more dimension
        scales:                        # --scale NAME sets these on top
          quick: {training.epochs: 2, limit: 500}
          long:                        # `datasets` has settings for one data set only, `fusions` for one fusion only
            datasets: {avmnist-mini: {training.epochs: 50, fusions: {early: {fusion.hidden: 256}}}}
        published: [5]                 # tables of the paper's supplement that the report shows beside the results
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from agmbench.errors import AgmbenchError, allowed
from agmbench.jobs import fault
from agmbench.registry import Matrix, Registry
from agmbench.report.published import TABLES

PLACES = {"datasets": "dataset", "fusions": "fusion"}  # keys of a scale with settings for single components


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Some = Annotated[tuple[str, ...], MinLen(1)]


class Block(_Strict):
    """One item of a suite's `jobs`."""

    dataset: Some
    modulator: Some
    fusion: Annotated[tuple[str | None, ...], MinLen(1)] = (None,)
    encoder: Mapping[str, str] = Field(default_factory=dict)
    set: Mapping[str, Any] = Field(default_factory=dict)

    @field_validator("dataset", "modulator", "fusion", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("set")
    @classmethod
    def _valued(cls, found: Mapping[str, Any]) -> Mapping[str, Any]:
        for key, value in found.items():
            if value == []:
                raise ValueError(f"'{key}' has no value; leave it out, or give it one")
        return found


class Suite(_Strict):
    """A suite as the registry defines it.

    scales: settings that override those of the jobs. Below `datasets` and `fusions`, a scale has settings for single data sets and
        fusions; either may stand within the other.
    published: the tables of the paper's supplement that the suite reproduces.
    """

    name: str
    summary: str = ""
    seeds: Annotated[tuple[int, ...], MinLen(1)] = (999,)
    jobs: Annotated[tuple[Block, ...], MinLen(1)]
    scales: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    published: tuple[int, ...] = ()

    @field_validator("scales")
    @classmethod
    def _narrowed(cls, found: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        for name, settings in found.items():
            for _ in places(settings, f"scale '{name}'"):
                pass  # `places` raises if `datasets` or `fusions` is no mapping of mappings
        return found

    @field_validator("published")
    @classmethod
    def _printed(cls, found: tuple[int, ...]) -> tuple[int, ...]:
        if unknown := set(found) - set(TABLES):
            raise ValueError(f"no figures of table {min(unknown)} are here; there are those of {', '.join(map(str, TABLES))}")
        return found

    def at(self, scale: str | None, dataset: str, fusion: str) -> dict[str, Any]:
        """The settings of a scale for a data set and a fusion; without a scale there are none."""
        if scale is None:
            return {}
        if scale not in self.scales:
            known = f": {allowed(scale, self.scales)}" if self.scales else ""
            raise AgmbenchError(f"suite '{self.name}' has no scale '{scale}' (without --scale it is as it stands){known}")
        return _within(self.scales[scale], {"datasets": dataset, "fusions": fusion})


def _within(settings: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The settings that apply to the components with these names: those for all, overridden by those for single components."""
    found = {key: value for key, value in settings.items() if key not in PLACES}
    for place, name in names.items():
        narrowed = settings.get(place, {}).get(name)
        found |= _within(narrowed, names) if narrowed else {}
    return found


def places(settings: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    """The kind and the name of each component for which there are settings of its own, at any depth."""
    for place, kind in PLACES.items():
        of = settings.get(place, {})
        if not (isinstance(of, Mapping) and all(isinstance(each, Mapping) for each in of.values())):
            raise ValueError(f"'{place}' of {where} should have a mapping of settings for each; found {of!r}")
        for name, each in of.items():
            yield kind, name
            yield from places(each, where)


def read(registry: Registry, name: str) -> Suite:
    """The suite with this name."""
    return _parsed(registry.suite(name))


def _parsed(matrix: Matrix) -> Suite:
    try:
        return Suite.model_validate({**matrix.content, "name": matrix.name})
    except ValidationError as error:
        raise AgmbenchError(f"{matrix.place}: suite '{matrix.name}': {fault(error, Suite, 'key')}") from error
