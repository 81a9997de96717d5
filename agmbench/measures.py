"""Measuring: the values that the metrics of the registry give for a run's outcomes, at the end of the run or later on demand. This module
does not import torch."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from agmbench import outcomes as kept_outcomes
from agmbench import predictions
from agmbench.errors import AgmbenchError, RunFailed, allowed, describe
from agmbench.jobs import digest
from agmbench.outcomes import Kind, Metric, Outcome, Outcomes, Quantity, Unmeasured
from agmbench.records import FINISHED, Measurement, Record, Tracker
from agmbench.registry import BUILT_IN, Entry, Registry
from agmbench.registry.source import stated

ALONE = "not measured (--no-strength)"  # a metric that compares needs unimodal models, which this option leaves out
ITS_OWN = ("loss", "response-loss")  # numbers on test that every run keeps beside its metrics
MOST = 40  # the largest number of quantities of a metric


@dataclass(frozen=True)
class Measure:
    """A metric that is ready for use: its entry, the metric itself, and the version and source that identify its numbers."""

    entry: Entry
    metric: Metric
    version: str

    @property
    def name(self) -> str:
        return self.entry.name

    def quantities(self, kind: Kind) -> list[Quantity]:
        """The quantities that it gives for a task."""
        return [quantity for quantity in self.metric.quantities if kind in quantity.tasks]

    def of(self, outcomes: Outcomes, references: Mapping[str, Outcomes]) -> Measurement:
        """Measure outcomes. If the metric cannot measure them or fails, the result holds the reason. What it prints goes to standard
        error."""
        quantities = self.quantities(outcomes.judged.kind)
        if self.metric.compares and not references:
            return Measurement(self.name, self.version, quantities, ALONE)
        try:
            with redirect_stdout(sys.stderr):
                given = self.metric(outcomes, references)
            values = dict(_values(given, quantities, outcomes.judged.modalities))
        except Unmeasured as reason:
            return Measurement(self.name, self.version, quantities, str(reason))
        except (Exception, SystemExit) as error:  # a stranger's metric may raise anything
            return Measurement(self.name, self.version, quantities, f"{self.entry} failed ({describe(error)})")
        return Measurement(self.name, self.version, quantities, values=values)


def _values(given: Any, quantities: Sequence[Quantity], modalities: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Each number with the name under which it is kept; raises if the numbers do not match the quantities."""
    names = {quantity.name: quantity for quantity in quantities}
    if not isinstance(given, Mapping) or given.keys() != names.keys():
        raise TypeError(f"it should give a mapping of {', '.join(names)}; found {given!r}"[:300])
    for name, value in given.items():
        if names[name].per and not isinstance(value, Mapping):
            raise TypeError(f"'{name}' should be a mapping, a number per {names[name].per}; found {value!r}"[:300])
        if names[name].per == "modality" and value.keys() != set(modalities):
            raise TypeError(f"'{name}' should have a number for each of {', '.join(modalities)}; found {value!r}"[:300])
        parts = {f"{name}/{key}": each for key, each in value.items()} if names[name].per else {name: value}
        for key, number in parts.items():
            number = float(number)
            if not isfinite(number):
                raise Unmeasured(f"{key} is not a finite number")
            yield key, number


def measures(registry: Registry, names: Iterable[str] | None = None) -> list[Measure]:
    """The metrics with these names, or all usable ones, built-in ones first. Raises if a metric that is named cannot be used.

    A quantity belongs to the first metric that gives it: another metric with a quantity of the same name cannot be used.
    """
    owners = dict.fromkeys(ITS_OWN, "agmbench")
    usable: dict[str, Measure | AgmbenchError] = {}
    for entry in sorted(registry.entries("metric"), key=lambda entry: entry.origin != BUILT_IN):
        try:
            usable[entry.name] = made = _made(registry, entry)
            for quantity in made.metric.quantities:
                if (owner := owners.setdefault(quantity.name, str(entry))) != str(entry):
                    raise AgmbenchError(
                        f"{entry} gives '{quantity.name}', which {owner} gives already; rename it (see {entry.place})"
                    )
        except AgmbenchError as error:  # raised only if this metric is named
            usable[entry.name] = error
    wanted = usable if names is None else [registry.get("metric", name).name for name in names]
    if names is not None:
        for found in (usable[name] for name in wanted):
            if isinstance(found, AgmbenchError):
                raise found
    return [one for name in wanted if isinstance(one := usable[name], Measure)]


def of_one_run(registry: Registry) -> list[Measure]:
    """The metrics that need no other run than the one that they measure."""
    return [one for one in measures(registry) if not one.metric.compares]


def _check_quantities(entry: Entry, quantities: Sequence[object]) -> None:
    if not quantities or not all(isinstance(quantity, Quantity) for quantity in quantities):
        raise AgmbenchError(f"{entry} should have quantities, one Quantity or more; found {quantities!r:.80}")
    if len(quantities) > MOST:
        raise AgmbenchError(
            f"{entry} has {len(quantities)} quantities; a metric has at most {MOST}, of which each may be per modality"
        )


def _made(registry: Registry, entry: Entry) -> Measure:
    target = entry.load()
    if not (isinstance(target, type) and issubclass(target, Metric)):
        raise AgmbenchError(
            f"{entry} should be a class that derives from agmbench.outcomes.Metric; found {target!r}; "
            "'agmbench plugin new metric NAME' makes one"
        )
    try:
        metric = target(**entry.params)
        quantities = tuple(metric.quantities)
    except Exception as error:
        raise AgmbenchError(f"{entry} cannot be made ({describe(error)}); it is named in {entry.place}") from error
    _check_quantities(entry, quantities)
    set_ = [digest(dict(entry.params))[:6]] if entry.params else []
    return Measure(entry, metric, " ".join([stated(entry, registry.versions()), *set_]))


def giving(known: Iterable[Measure], name: str, kind: Kind | None = None) -> tuple[Measure, Quantity]:
    """The metric that gives a quantity, and this quantity. `name` names the quantity, or a metric that has only one quantity for the
    task."""
    known = list(known)
    pairs = [(one, q) for one in known for q in one.metric.quantities if kind is None or kind in q.tasks]
    by_quantity = [(one, q) for one, q in pairs if q.name == name]
    by_metric = [(one, q) for one, q in pairs if name in (one.name, *one.entry.aliases)]
    found = by_quantity or (by_metric if len(by_metric) == 1 else [])
    if not found:
        of = f" of a {kind}" if kind else ""
        raise AgmbenchError(f"no metric gives '{name}'{of}: {allowed(name, {q.name for _, q in pairs})}")
    return found[0]


# the outcomes that a run kept


def load_outcomes(tracker: Tracker, record: Record) -> dict[str, Outcome]:
    """The outcomes that a run kept, by split. A run that was made before outcomes were kept has only what its predictions contain."""
    if record.outcomes_kept:
        with tracker.artifact(record, kept_outcomes.FILE) as path:
            return kept_outcomes.load(path)
    with tracker.artifact(record, "predictions.parquet") as path:
        return predictions.outcomes(path, record.task, record.modalities, tuple(record.class_names))


def as_outcomes(found: Mapping[str, Outcome], split: str = "test") -> Outcomes:
    """The outcomes of `split` and of dev, in the form that a metric takes."""
    return Outcomes(found[split], found.get("dev"))


Find = Callable[[str], Record | None]  # returns the last finished run of the job with a digest


def references(tracker: Tracker, record: Record, find: Find | None = None, split: str = "test") -> dict[str, Outcomes]:
    """The outcomes of a run's unimodal models, by modality; empty unless all of them are finished."""
    found = {m: (find or tracker.find)(digest) for m, digest in record.references.items()}
    if not all(found.values()):
        return {}
    return {m: as_outcomes(load_outcomes(tracker, one), split) for m, one in found.items() if one is not None}


def measured(tracker: Tracker, record: Record, wanted: Sequence[Measure], find: Find | None = None) -> list[Measurement]:
    """Measure a finished run from the outcomes that it kept: nothing is trained, and the data are not opened."""
    assert record.status == FINISHED
    outcomes = as_outcomes(load_outcomes(tracker, record))
    comparing = references(tracker, record, find) if any(one.metric.compares for one in wanted) else {}
    return [one.of(outcomes, comparing) for one in wanted if one.quantities(outcomes.judged.kind)]


def measured_or_reasons(
    tracker: Tracker, record: Record, wanted: Sequence[Measure], find: Find | None = None
) -> list[Measurement]:
    """The same as `measured`; if the outcomes of the run are lost, each measurement holds the reason in place of numbers."""
    try:
        return measured(tracker, record, wanted, find)
    except AgmbenchError as error:
        return [Measurement(one.name, one.version, one.quantities(record.task), str(error)) for one in wanted]


def names_of(known: Iterable[Measure], word: str) -> list[str]:
    """The names of the metrics to which a word refers: by name, by alias or by a quantity; none if only runs know the word."""
    return [
        one.name
        for one in known
        if word in (one.name, *one.entry.aliases, *(quantity.name for quantity in one.metric.quantities))
    ]


def stale(record: Record, wanted: Iterable[Measure]) -> list[Measure]:
    """The metrics in `wanted` that have not measured a run, or measured it in another version."""
    found = record.measurements
    return [
        one
        for one in wanted
        if one.quantities(record.task)
        and not (record.concept and one.metric.compares)
        and (one.name not in found or found[one.name].version != one.version)
    ]


def lacking(record: Record, wanted: Iterable[Measure]) -> list[Measure]:
    """The metrics in `wanted` that have not measured a run. It is called with metrics that compare with unimodal models, which must be
    trained first; all other metrics are measured on demand."""
    return [one for one in wanted if one.quantities(record.task) and one.name not in record.measurements]


# the number by which the best epoch is chosen


@dataclass(frozen=True)
class Judge:
    """The number by which the best epoch is chosen: `name` is a number on valid, such as `accuracy`, `macro-f1` or `response/audio`.

    Without a `measure`, it is one of the numbers that are computed for every epoch anyway.
    """

    name: str
    higher: bool = True
    measure: Measure | None = None
    references: Mapping[str, Outcomes] = field(default_factory=dict)

    @property
    def of_any_model(self) -> bool:
        """Whether a model of one modality has this number, too."""
        return self.measure is None or not (self.measure.metric.compares or "/" in self.name)

    def of(self, valid: Outcome, dev: Callable[[], Outcome]) -> dict[str, float]:
        """The number on valid, by its name; empty if it is computed for every epoch anyway."""
        if self.measure is None:
            return {}
        found = self.measure.of(Outcomes(valid, dev), self.references)
        if self.name not in found.values:
            raise RunFailed(f"epochs cannot be chosen by '{self.name}': {found.reason or f'there are {list(found.values)}'}")
        return {self.name: found.values[self.name]}

    def value(self, valid: Mapping[str, float]) -> tuple[float, float]:
        """The key by which epochs are ranked, larger being better: the number (negated if a lower one is better), then the negated loss."""
        return (valid[self.name] if self.higher else -valid[self.name]), -valid["loss"]


def judge(registry: Registry, name: str | None, kind: Kind, figure: str, modalities: Sequence[str]) -> Judge:
    """The judge for a recipe's `select_by`; `None` means the task's own `figure`."""
    if name is None or name == figure:
        return Judge(figure)
    head, _, key = name.partition("/")
    try:
        measure, quantity = giving(measures(registry), head, kind)
    except AgmbenchError as error:
        raise AgmbenchError(f"training.select_by={name}: {error}") from error
    if quantity.better == "neither":
        raise AgmbenchError(
            f"training.select_by={name}: neither a higher nor a lower value of it is better; choose another quantity"
        )
    if quantity.per == "modality" and key not in modalities:
        raise AgmbenchError(f"training.select_by={name} should be '{quantity.name}/MODALITY': {allowed(key, modalities)}")
    if bool(quantity.per) != bool(key):
        raise AgmbenchError(
            f"training.select_by={name}: '{quantity.name}' has {'one number per ' + quantity.per if quantity.per else 'one number'}"
        )
    return Judge(f"{quantity.name}/{key}" if key else quantity.name, quantity.better == "higher", measure)
