"""The search space of a sweep: the ranges of a job's parameters, and a grid over them."""

from collections.abc import Mapping, Sequence
from math import inf, prod
from typing import Annotated, Any, Generic, TypeVar

import numpy as np
from annotated_types import Gt, MinLen
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import AfterValidator, Strict, StrictBool, ValidationError, ValidationInfo, field_validator

from agmbench.errors import AgmbenchError, allowed
from agmbench.jobs import Frozen, JobSpec, fault
from agmbench.parameters import check_parameters, parameters
from agmbench.registry import Entry, Registry

Space = Mapping[str, BaseDistribution]

RATE = "training.lr"
FORMS = "a range has low and high, with log: true if wanted, or choices alone"


def _plain(value: object) -> object:
    if not isinstance(value, str | int | float | None):
        raise ValueError("a choice should be a text, a number, true, false or null")
    return value


Finite = Annotated[float, Strict()]  # in a `Frozen` model, only finite numbers are allowed
Positive = Annotated[float, Strict(), Gt(0)]
Whole = Annotated[int, Strict()]
Number = TypeVar("Number", Finite, Whole)


class Range(Frozen, Generic[Number]):
    """An entry of `search` that allows all numbers between two bounds, on a linear or (with `log`) a logarithmic scale."""

    low: Number
    high: Number
    log: StrictBool = False

    @field_validator("high")
    @classmethod
    def _above(cls, high: Number, known: ValidationInfo) -> Number:
        if not known.data.get("low", -inf) < high:
            raise ValueError(f"high should be above low, {known.data['low']:g}")
        return high

    @field_validator("log")
    @classmethod
    def _positive(cls, log: bool, known: ValidationInfo) -> bool:
        if log and known.data.get("low", inf) <= 0:
            raise ValueError(f"a logarithmic range begins above 0; low is {known.data['low']:g}")
        return log


class Choices(Frozen):
    """An entry of `search` that allows the listed values."""

    choices: Annotated[tuple[Annotated[Any, AfterValidator(_plain)], ...], MinLen(1)]


class Rates(Choices):
    """Choices of a learning rate."""

    choices: Annotated[tuple[Positive, ...], MinLen(1)]


def search_space(registry: Registry, spec: JobSpec, fixed: Sequence[str], fair: bool) -> Space:
    """The ranges of a job's parameters, by the keys of `--set`, without the keys in `fixed`.

    They come from `search` in the modulator's entry and in the data set's entry, which may name only `training.lr`. A `fair` space always
    has `training.lr`: as the data set's entry says, or else from a tenth of the recipe's learning rate to ten times it.
    """
    dataset, modulator = registry.get("dataset", spec.dataset.name), registry.get("modulator", spec.modulator.name)
    space = {f"modulator.{name}": _of_parameter(modulator, name, found) for name, found in modulator.search.items()}
    for key, found in dataset.search.items():
        if key != RATE:
            raise AgmbenchError(f"{dataset.place}: search of '{key}' of {dataset}: a data set may only search {RATE}")
        space[RATE] = _distribution(f"{dataset.place}: search of '{RATE}' of {dataset}", found, Range[Positive], Rates)
    if fair and RATE not in space:
        space[RATE] = FloatDistribution(spec.training.lr / 10, spec.training.lr * 10, log=True)
    space = {key: found for key, found in space.items() if key not in fixed}
    if not space:
        raise AgmbenchError(
            f"modulator '{modulator.name}' has nothing to search{' beside what --set fixes' if fixed else ''}; give it a range "
            f"(search) where it is named, {modulator.place}, or tune its learning rate: --fair {modulator.name}"
        )
    return space


def _of_parameter(entry: Entry, name: str, found: Mapping[str, Any]) -> BaseDistribution:
    where = f"{entry.place}: search of '{name}' of {entry}"
    schema = parameters(entry)
    if name not in schema.model_fields:
        raise AgmbenchError(f"{where}: no such parameter: {allowed(name, schema.model_fields)}")
    declared = schema.model_json_schema()["properties"][name]
    types = {option.get("type") for option in declared.get("anyOf", [declared])}
    whole = "integer" in types and "number" not in types
    distribution = _distribution(where, found, Range[Whole] if whole else Range[Finite], Choices)
    for value in found["choices"] if "choices" in found else (found["low"], found["high"]):
        try:
            check_parameters(entry, {name: value})
        except AgmbenchError as error:
            raise AgmbenchError(f"{where}: {error}") from error
    return distribution


def _distribution(where: str, found: Mapping[str, Any], ranged: type[Range[Any]], chosen: type[Choices]) -> BaseDistribution:
    form = chosen if "choices" in found else ranged
    try:
        said = form.model_validate(found)
    except ValidationError as error:
        raise AgmbenchError(f"{where}: {fault(error, form, 'key')}; {FORMS}") from error
    if isinstance(said, Choices):
        return CategoricalDistribution(found["choices"])
    return (IntDistribution if isinstance(said.low, int) else FloatDistribution)(said.low, said.high, log=said.log)


def grid(space: Space, trials: int) -> list[dict[str, Any]]:
    """The points of a grid with exactly `trials` points: all combinations of all choices and of equally many values of each range, which
    include its ends. Raises if no such grid exists."""
    ranges = [found for found in space.values() if not isinstance(found, CategoricalDistribution)]
    choices = prod(len(found.choices) for found in space.values() if isinstance(found, CategoricalDistribution))
    finest = min((found.high - found.low + 1 for found in ranges if isinstance(found, IntDistribution)), default=trials + 2)
    sizes = {choices * count ** len(ranges): count for count in range(2 if ranges else 1, min(trials + 2, finest) + 1)}
    if trials not in sizes:
        near = sorted(sorted(sizes, key=lambda size: abs(size - trials))[:2])
        raise AgmbenchError(
            f"--trials {trials} makes no grid of {' and '.join(space)}; with --sampler grid take {' or '.join(map(str, near))}"
        )
    axes = {key: _values(found, sizes[trials]) for key, found in space.items()}
    mesh = np.ndindex(*(len(values) for values in axes.values()))
    return [{key: axes[key][place] for key, place in zip(axes, index, strict=True)} for index in mesh]


def _values(found: BaseDistribution, count: int) -> list[Any]:
    if isinstance(found, CategoricalDistribution):
        return list(found.choices)
    assert isinstance(found, FloatDistribution | IntDistribution)
    spaced = (np.geomspace if found.log else np.linspace)(found.low, found.high, count).tolist()
    if isinstance(found, FloatDistribution):
        return [min(max(value, found.low), found.high) for value in spaced]
    values: list[int] = []
    for value in spaced:  # near the low end of a logarithmic range, whole numbers are further apart than these values
        values.append(max(round(value), values[-1] + 1) if values else found.low)
    return values
