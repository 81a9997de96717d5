"""Turns records into tables: one table per setting, one row per method. The numbers are computed here; other modules only write them."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from statistics import mean, stdev
from types import MappingProxyType
from typing import Any

from agmbench.jobs import COMPARED, flat, setting
from agmbench.outcomes import Kind
from agmbench.records import FAILED, FINISHED, KILLED, Measurement, Record, chosen, departing
from agmbench.report.columns import ALONE, Column, check, columns, known_of
from agmbench.report.naming import labelled, leaves, settings
from agmbench.report.published import Published, published
from agmbench.report.statistics import Interval, interval, share_interval

BASELINE = "joint"


@dataclass(frozen=True)
class Value:
    """One number per seed; if there is none, the `reason` why."""

    by_seed: Mapping[int, float] = field(default_factory=dict)
    reason: str = ""
    share: bool = False  # whether the numbers are shares in %

    @property
    def values(self) -> tuple[float, ...]:
        """The numbers in the order of seeds."""
        return tuple(self.by_seed[seed] for seed in sorted(self.by_seed))

    @property
    def mean(self) -> float | None:
        return mean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation; `None` for a single value."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def interval(self) -> Interval | None:
        return share_interval(self.values) if self.share else interval(self.values)


@dataclass(frozen=True)
class Row:
    """One method: its values by column key, the number of seeds, and its finished runs in their order.

    The row of the unimodal models ("mono-modal concepts") is a reference, not a method.
    """

    label: str
    seeds: int
    values: Mapping[str, Value]
    records: Sequence[Record] = ()
    method: bool = True

    @property
    def source(self) -> str:
        """The folder of results from which its runs came; empty for runs of this store."""
        return self.records[0].source if self.records else ""

    @property
    def alone(self) -> str:
        """The label without its source."""
        return self.label.removesuffix(f" ({self.source})")


@dataclass(frozen=True)
class Table:
    """All methods of one cell: equal data set, data, encoders, fusion and recipe.

    settings: by key, the departures of the cell from the published recipe of its data set, and what else distinguishes it from other cells.
    """

    dataset: str
    fusion: str
    settings: Mapping[str, Any]
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str]
    modalities: Sequence[str] = ()
    task: Kind = "classification"
    chosen: str = ""  # a sentence that says on which split the epoch is chosen
    sample: bool = False
    published: Sequence[Published] | None = None  # the published figures; `None` if they were not asked for

    @property
    def departs(self) -> list[str]:
        """Its settings, and whether its data are random samples, as texts."""
        return departing(self.settings, self.sample)

    @property
    def title(self) -> str:
        return ", ".join([self.dataset, f"fusion {self.fusion}", *self.departs])

    @property
    def figure(self) -> Column:
        """The column by which methods are compared."""
        return self.columns[0]


def compare(
    records: Iterable[Record],
    modulators: Sequence[str] = (),
    cost: bool = False,
    coalitions: bool = False,
    asked: Sequence[str] = (),
    metrics: Mapping[str, Measurement] = MappingProxyType({}),
    beside: Collection[int] = (),
) -> list[Table]:
    """One table per cell, ordered by data set and fusion; with the named `modulators`, or all.

    cost: add the cost of a step.   coalitions: add the figure with only some modalities present.   asked: the quantities to show
    instead of the customary ones.   metrics: the metrics of the registry by name, with their present version, their quantities and, as
    `reason`, why a run may lack their numbers.   beside: the tables of the paper's supplement whose figures are shown beside ours.

    Runs of unimodal models have no rows of their own.
    """
    cells: dict[str, list[Record]] = defaultdict(list)
    for record in _last(records):
        if not record.concept:
            cells[record.cell].append(record)
    notes = _drop_outdated(cells)
    named = settings(cells)
    known = known_of((record for found in cells.values() for record in found), metrics)
    check(asked, known, [*cells.values()])
    tables = []
    for cell, found in cells.items():
        printed = _published(found[0], beside) if beside else None
        shown = columns(found, known, asked, cost, coalitions, printed or ())
        tables.append(_table(found, modulators, named[cell], shown, notes.get(cell, ()), metrics, printed))
    return sorted(tables, key=lambda table: (table.dataset, table.fusion, table.title))


def _published(record: Record, tables: Collection[int]) -> list[Published]:
    """The published figures for the cell of a record. If its runs are compared with other unimodal models than their own, only figures with
    the same unimodal models count."""
    own = flat(record.spec)
    asked = {setting(key, own[key]) for key in COMPARED if key in own}
    found = published(own["dataset"], own["fusion"], tables)
    return [each for each in found if not asked or not each.variant or each.variant in asked]


def _last(records: Iterable[Record]) -> list[Record]:
    """One record per job and source: the last finished one or, if there is none, the last one."""
    best: dict[tuple[str, str], Record] = {}
    for record in sorted(records, key=lambda record: (record.status == FINISHED, record.order)):
        best[record.source, record.digest] = record
    return list(best.values())


def _drop_outdated(cells: dict[str, list[Record]]) -> dict[str, list[str]]:
    """Remove each cell without finished runs that differs only in data or code from a cell with finished runs.

    Returns a note for each such cell with finished runs.
    """
    notes: dict[str, list[str]] = defaultdict(list)
    finished = {_same(found[0]): cell for cell, found in cells.items() if any(r.status == FINISHED for r in found)}
    for cell, found in list(cells.items()):
        other = finished.get(_same(found[0]))
        if other is not None and not any(record.status == FINISHED for record in found):
            del cells[cell]
            runs = "1 run" if len(found) == 1 else f"{len(found)} runs"
            statuses = ", ".join(sorted({record.status for record in found}))
            notes[other].append(f"left out: {runs} ({statuses}) on other data or with other code")
    return notes


def _same(record: Record) -> str:
    """The key that two cells share if they differ only in data or code."""
    return json.dumps(leaves(record), sort_keys=True, default=str)


def _table(
    records: Sequence[Record],
    modulators: Sequence[str],
    settings: Mapping[str, Any],
    columns: Sequence[Column],
    notes: Sequence[str],
    metrics: Mapping[str, Measurement],
    printed: Sequence[Published] | None,
) -> Table:
    first = records[0]
    groups: dict[str, list[Record]] = defaultdict(list)
    for label, record in labelled(records):
        if not modulators or record.spec["modulator"]["name"] in modulators:
            groups[label].append(record)
    rows = _rows(groups, modulators, columns)
    return Table(
        dataset=first.spec["dataset"]["name"],
        fusion=first.spec["fusion"]["name"],
        settings=settings,
        columns=columns,
        rows=[*_concepts(records, columns), *rows],
        notes=[*_notes(groups, rows, columns, metrics), *notes],
        modalities=first.modalities,
        task=first.task,
        chosen=chosen(first.selected, first.spec),
        sample=any(record.sample for record in records),
        published=printed,
    )


def _rows(groups: Mapping[str, Sequence[Record]], modulators: Sequence[str], columns: Sequence[Column]) -> list[Row]:
    """A row for the runs of each label, the baseline first; and one for each of the named modulators that has no run."""
    named = {record.spec["modulator"]["name"] for found in groups.values() for record in found}
    rows = [_row(label, groups[label], columns) for label in sorted(groups, key=_rank)]
    return rows + [_absent(name, columns, "no run in this setting") for name in modulators if name not in named]


def _notes(
    groups: Mapping[str, Sequence[Record]], rows: Sequence[Row], columns: Sequence[Column], metrics: Mapping[str, Measurement]
) -> list[str]:
    """Notes for readers of the rows: about failed runs, numbers of other versions, runs of others, and seeds without a number."""
    told = [note for label, found in groups.items() for note in _failures(label, found)]
    told += _older({label: groups[label] for label in sorted(groups, key=_rank)}, columns, metrics)
    told += _sources({row.source for row in rows if row.records})
    told += [
        f"{row.label}: only {len(row.values[column.key].values)} of {row.seeds} seeds have {column.key}"
        for row in rows
        for column in columns
        if 0 < len(row.values[column.key].values) < row.seeds
    ]
    return told


def _sources(sources: Collection[str]) -> list[str]:
    """The notes about runs that others made."""
    if len(sources) > 1:
        return ["runs from several sources: each method is compared with the baseline of its own source, if that has one"]
    return [f"runs made by others, from {source}" for source in sources if source]


def _rank(label: str) -> tuple[bool, str]:
    return label.split()[0] != BASELINE, label


def _row(label: str, records: Sequence[Record], columns: Sequence[Column]) -> Row:
    last_of = {r.spec["seed"]: r for r in sorted(records, key=lambda record: record.order) if r.status == FINISHED}
    finished = [last_of[seed] for seed in sorted(last_of)]
    if not finished:
        last = max(records, key=lambda record: record.order)
        return _absent(label, columns, f"{last.status}{': ' if last.reason else ''}{last.reason}")
    return Row(label, len(finished), {column.key: _value(column, finished) for column in columns}, finished)


def _value(column: Column, records: Sequence[Record]) -> Value:
    """One number per seed. If a metric refuses to measure a run, no number is shown, even if an earlier version measured one."""
    refused = {r.spec["seed"]: reason for r in records if (reason := _refusal(column, r))}
    measured = {r.spec["seed"]: r.metrics[column.metric] for r in records if column.metric in r.metrics}
    found = {seed: value * column.scale for seed, value in measured.items() if isfinite(value) and seed not in refused}
    if found:
        return Value(found, share=column.unit == "%")
    if refused:
        return Value(reason=next(iter(refused.values())))
    if measured:
        return Value(reason="not a finite number")
    return Value(reason=column.lacking)


def _refusal(column: Column, record: Record) -> str:
    of = (m.reason for m in record.measurements.values() if any(q.name == column.quantity for q in m.quantities))
    return next(of, "")


def _absent(label: str, columns: Sequence[Column], reason: str) -> Row:
    return Row(label, 0, {column.key: Value(reason=reason) for column in columns})


def _failures(label: str, records: Sequence[Record]) -> list[str]:
    if not any(record.status == FINISHED for record in records):
        return []  # the row itself says why
    lost = [record for record in records if record.status in (FAILED, KILLED)]
    return [f"{label}, seed {r.spec['seed']}: {r.status}{': ' if r.reason else ''}{r.reason}" for r in lost]


def _older(groups: Mapping[str, Sequence[Record]], columns: Sequence[Column], metrics: Mapping[str, Measurement]) -> list[str]:
    """A note for rows whose numbers were measured by several versions of one metric, or not by its present version."""
    labels: dict[str, list[str]] = defaultdict(list)
    for label, records in groups.items():
        for metric, versions in _versions(records, columns).items():
            now = metrics[metric].version if metric in metrics else ""
            other = now not in ("", *versions)
            if other or len(versions) > 1:
                by = f"version{'s' if len(versions) > 1 else ''} {' and '.join(sorted(versions))} of {metric}"
                present = f", whose present version is {now}" if other else ""
                labels[f"measured by {by}{present}; measure all again with: agmbench measure {metric}"].append(label)
    return [f"{', '.join(rows)}: {note}" for note, rows in labels.items()]


def _versions(records: Sequence[Record], columns: Sequence[Column]) -> dict[str, set[str]]:
    """The versions of each metric that measured the shown numbers of a row."""
    shown = {column.quantity for column in columns if column.metric}
    versions: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for found in record.measurements.values():
            if shown & {quantity.name for quantity in found.quantities}:
                versions[found.metric].add(found.version)
    return versions


def _concepts(records: Sequence[Record], columns: Sequence[Column]) -> list[Row]:
    """The figure of each unimodal model, one value per seed, as recorded by the runs that needed it."""
    values: dict[str, Value] = {}
    for column in columns:
        quantity, _, modality = column.key.partition("/")
        alone = f"test/{ALONE.get(quantity)}/{modality}"
        having = [record for record in records if column.metric and alone in record.metrics]
        own_last = sorted(having, key=lambda record: not record.source)
        found = {r.spec["seed"]: column.scale * r.metrics[alone] for r in own_last}
        values[column.key] = (
            Value(found) if found else Value(reason="this row is of unimodal models (concepts), which have no value here")
        )
    seeds = max((len(value.by_seed) for value in values.values()), default=0)
    return [Row("concept", seeds, values, method=False)] if seeds else []
