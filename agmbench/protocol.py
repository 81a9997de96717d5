"""How a job departs from the published recipe of its data set, and on which split its epoch is chosen."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agmbench.build import transforms
from agmbench.contracts import Dataset
from agmbench.errors import AgmbenchError
from agmbench.fingerprint import alike
from agmbench.jobs import PHASES, Component, JobSpec, compose, flat, spec_of
from agmbench.parameters import parameters, resolved
from agmbench.records import Record, Selected
from agmbench.registry import Registry

NONE = "none"  # stands for the transform of a modality that has none
ITS_OWN = ("dataset", "fusion", "modulator", "seed", "present")  # keys that a table shows anyway, so they are no departures


def departures(spec: JobSpec, registry: Registry, dataset: Dataset | None = None) -> dict[str, Any]:
    """The settings in which a resolved spec differs from the job of its data set's entry, by the keys of `--set`.

    If another component is used, it is a departure, and so are the parameters in which it differs from its own defaults. A table shows
    the fusion and the modulator anyway, so for them only parameters are departures.

    dataset: if it is given, a transform of the data set's recipe that the job leaves out is a departure, too.
    """
    published = compose(registry, spec.dataset.name, spec.modulator.name)
    encoders = {m: published.encoders.get(m, published.encoders.get("*")) for m in spec.encoders}
    changes = {phase: getattr(published, phase) for phase in PHASES}
    if dataset is not None:
        changes = transforms(published, registry, dataset)
    changed = {
        f"{phase}.{m}": changes[phase].get(m)
        for phase in PHASES
        for m in spec.encoders
        if m in getattr(spec, phase) or (dataset is not None and m in changes[phase])
    }
    recipe = published.model_copy(
        update={
            "dataset": _like(registry, "dataset", spec.dataset, published.dataset),
            "encoders": {m: _like(registry, "encoder", spec.encoders[m], found) for m, found in encoders.items()},
            **{
                phase: {m: _like(registry, "transform", one, changes[phase].get(m)) for m, one in getattr(spec, phase).items()}
                for phase in PHASES
            },
            "fusion": _like(registry, "fusion", spec.fusion, published.fusion),
            "modulator": _like(registry, "modulator", spec.modulator, published.modulator),
        }
    )
    named = {f"encoder.{m}": None if found is None else found.name for m, found in encoders.items()}
    named |= {key: NONE if found is None else found.name for key, found in changed.items()}
    expected: Mapping[str, Any] = {**flat(recipe.canonical()), **named}
    found = {**dict.fromkeys(changed, NONE), **flat(spec.canonical())}
    return {key: value for key, value in found.items() if key not in ITS_OWN and value != expected.get(key)}


def _like(registry: Registry, kind: str, found: Component, published: Component | None) -> Component:
    """The published component with all its parameters; if another one is used, that one with its own defaults."""
    same = published is not None and published.name == found.name
    required = {} if same else _required(registry, kind, found)
    return resolved(registry, kind, published if same and published else Component(name=found.name, params=required))


def _required(registry: Registry, kind: str, found: Component) -> dict[str, Any]:
    """The given values of the parameters that have no default."""
    fields = parameters(registry.get(kind, found.name)).model_fields
    return {name: found.params[name] for name, field in fields.items() if field.is_required() and name in found.params}


def selected(spec: JobSpec, dataset: Dataset) -> Selected:
    """The split on which the epoch is chosen: `valid`, or `test` if valid holds the same samples; `last` if the last epoch is taken."""
    if spec.training.select == "last":
        return "last"
    valid, test = dataset.split("valid"), dataset.split("test")
    return "test" if valid is test or alike(valid, test) else "valid"


def noted(record: Record, registry: Registry) -> Record:
    """The record of a run that did not note its departures, with the departures found now; unchanged if its components no longer exist."""
    try:
        return replace(record, departures=departures(spec_of(record.spec), registry))
    except (AgmbenchError, ValueError):
        return record
