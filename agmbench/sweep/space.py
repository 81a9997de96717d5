"""What a sweep searches: the ranges of a job's parameters, and a grid over them."""

from collections.abc import Mapping, Sequence
from math import inf, prod
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from agmbench.errors import AgmbenchError, allowed
from agmbench.jobs import JobSpec
from agmbench.parameters import check_parameters, parameters
from agmbench.registry import Entry, Registry

Space = Mapping[str, BaseDistribution]

RATE = "training.lr"


def search_space(registry: Registry, spec: JobSpec, fixed: Sequence[str], fair: bool) -> Space:
    """The ranges of a job's parameters by the keys of `--set`, less those `fixed` there.

    They are the modulator entry's `search` and the data set entry's, which may name `training.lr`. A `fair` space always has
    `training.lr`: as the data set's entry says, else from a tenth of the recipe's to ten times it.
    """
    dataset, modulator = registry.get("dataset", spec.dataset.name), registry.get("modulator", spec.modulator.name)
    space = {f"modulator.{name}": _of_parameter(modulator, name, found) for name, found in modulator.search.items()}
    for key, found in dataset.search.items():
        if key != RATE:
            raise AgmbenchError(f"{dataset.place}: search of '{key}' of {dataset}: a data set may only search {RATE}")
        space[RATE] = _distribution(f"{dataset.place}: search of '{RATE}' of {dataset}", found, whole=False)
        for bound in (found["low"], found["high"]) if "low" in found else found["choices"]:
            if not isinstance(bound, int | float) or bound <= 0:
                raise AgmbenchError(f"{dataset.place}: search of '{RATE}' of {dataset}: {bound!r} should be a number > 0")
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
    distribution = _distribution(where, found, whole="integer" in types and "number" not in types)
    for value in found["choices"] if "choices" in found else (found["low"], found["high"]):
        try:
            check_parameters(entry, {name: value})
        except AgmbenchError as error:
            raise AgmbenchError(f"{where}: {error}") from error
    return distribution


def _distribution(where: str, found: Mapping[str, Any], whole: bool) -> BaseDistribution:
    if found.keys() == {"choices"}:
        return _choice(where, found["choices"])
    if not {"low", "high"} <= found.keys() <= {"low", "high", "log"}:
        raise AgmbenchError(f"{where}: needs low and high, with log: true if wanted, or choices alone; found {dict(found)}")
    low, high, log = found["low"], found["high"], found.get("log", False)
    kinds = (int,) if whole else (int, float)
    if any(isinstance(bound, bool) or not isinstance(bound, kinds) for bound in (low, high)):
        raise AgmbenchError(f"{where}: low and high should be {'whole ' if whole else ''}numbers; found {low!r} and {high!r}")
    if not isinstance(log, bool):
        raise AgmbenchError(f"{where}: log should be true or false; found {log!r}")
    if not low < high < inf or low == -inf:
        raise AgmbenchError(f"{where}: low should be below high; found {low} and {high}")
    if log and low <= 0:
        raise AgmbenchError(f"{where}: a logarithmic range begins above 0; found {low}")
    return IntDistribution(low, high, log=log) if whole else FloatDistribution(low, high, log=log)


def _choice(where: str, choices: object) -> BaseDistribution:
    if not isinstance(choices, list) or not choices or not all(isinstance(c, str | int | float | None) for c in choices):
        raise AgmbenchError(f"{where}: choices should be a list of plain values; found {choices!r}")
    return CategoricalDistribution(choices)


def grid(space: Space, trials: int) -> list[dict[str, Any]]:
    """`trials` points: every choice with equally many values of each range, its ends included."""
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
    for value in spaced:  # near the low end of a logarithmic range whole numbers lie further apart
        values.append(max(round(value), values[-1] + 1) if values else found.low)
    return values
