"""Records become tables: one a setting, one row a modulator. The numbers are made here; `render` only writes them."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from statistics import mean, stdev
from typing import Any

from agmbench.records import FAILED, FINISHED, KILLED, Record
from agmbench.report.statistics import Interval, interval

BASELINE = "joint"


@dataclass(frozen=True)
class Value:
    """One number a seed; where there is none, the `reason`."""

    by_seed: Mapping[int, float] = field(default_factory=dict)
    reason: str = ""

    @property
    def values(self) -> tuple[float, ...]:
        """In the order of seeds."""
        return tuple(self.by_seed[seed] for seed in sorted(self.by_seed))

    @property
    def mean(self) -> float | None:
        return mean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation; there is none of a single value."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def interval(self) -> Interval | None:
        return interval(self.values)


RESULTS, COALITIONS, COST = "", "only these modalities present", "cost"


@dataclass(frozen=True)
class Column:
    """A metric of a record under a short `key` and a `title`; `scale` 100 for percent; `digits` behind the point.

    Columns of one `part` are shown together.
    """

    key: str
    title: str
    metric: str
    scale: float = 1.0
    digits: int = 4
    part: str = RESULTS


@dataclass(frozen=True)
class Row:
    """One method: its values by column key, the number of seeds, and its finished runs in their order.

    The row of the mono-modal concepts is a reference and no method.
    """

    label: str
    seeds: int
    values: Mapping[str, Value]
    records: Sequence[Record] = ()
    method: bool = True


@dataclass(frozen=True)
class Table:
    """All methods of one cell: equal data set, encoders, fusion and recipe."""

    dataset: str
    fusion: str
    settings: Mapping[str, Any]
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str]

    @property
    def title(self) -> str:
        extra = "".join(f", {setting(key, value)}" for key, value in self.settings.items())
        return f"{self.dataset}, fusion {self.fusion}{extra}"


def setting(key: str, value: object) -> str:
    """As `--set` takes it."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


CAPTION = (
    "Acc: accuracy on test, %. Acc_m: accuracy of modality m's Shapley response; in the concept row, of the model trained on m alone. "
    "d_m: competition strength, 0 where m's concept is wholly kept, near 1 where it is lost. "
    "Mean ± sample standard deviation over n seeds; the epoch is chosen on valid, test is read once."
)


COSTS = (
    Column("passes", "encoder passes", "cost/encoder_passes", digits=2, part=COST),
    Column("gflops", "GFLOP a step", "cost/flops", 1e-9, 3, part=COST),
    Column("speed", "samples/s", "cost/samples_per_second", digits=0, part=COST),
    Column("memory", "peak MiB", "cost/peak_memory_mib", digits=0, part=COST),
)


def compare(
    records: Iterable[Record], modulators: Sequence[str] = (), cost: bool = False, coalitions: bool = False
) -> list[Table]:
    """One table a cell, in the order of data set and fusion; only the `modulators` named, or all.

    With `cost`, what a step took; with `coalitions`, the accuracy where only some modalities are present. Concept runs are no rows.
    """
    kept = [record for record in _newest(records) if not record.concept]
    cells: dict[str, list[Record]] = defaultdict(list)
    for record in kept:
        cells[record.cell].append(record)
    settings = _differences({cell: found[0].spec for cell, found in cells.items()})
    anywhere = _varied(kept)
    tables = []
    for cell, found in cells.items():
        more = [*(_coalitions(found) if coalitions else ()), *(COSTS if cost else ())]
        tables.append(_table(found, modulators, settings[cell], more, anywhere))
    return sorted(tables, key=lambda table: (table.dataset, table.fusion, table.title))


def _coalitions(records: Sequence[Record]) -> list[Column]:
    """A column for each coalition that the runs measured, smallest first."""
    names = {metric for record in records for metric in record.metrics if metric.startswith("test/coalition/")}
    places = {modality: place for place, modality in enumerate(records[0].modalities)}
    members = {name: name.removeprefix("test/coalition/").split(":") for name in names}
    ordered = sorted(names, key=lambda name: (len(members[name]), [places.get(member, 0) for member in members[name]]))
    return [Column("+".join(members[n]), " + ".join(members[n]), n, 100, 2, COALITIONS) for n in ordered]


def _newest(records: Iterable[Record]) -> list[Record]:
    """One record a job: the newest finished one, else the newest of all."""
    best: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: (record.status == FINISHED, record.started)):
        best[record.digest] = record
    return list(best.values())


def _differences(specs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What tells the cells of one data set and fusion apart, by dotted key."""
    leaves = {cell: _leaves({**spec, "modulator": None, "seed": None}) for cell, spec in specs.items()}
    found: dict[str, dict[str, Any]] = {}
    for cell, own in leaves.items():
        alike = [other for other in leaves.values() if _name(other) == _name(own)]
        keys = sorted({key for other in alike for key in own.keys() | other.keys() if other.get(key) != own.get(key)})
        found[cell] = {key: own.get(key, "-") for key in keys}
    return found


def _name(leaves: Mapping[str, Any]) -> tuple[Any, Any]:
    return leaves["dataset.name"], leaves["fusion.name"]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            values |= _leaves(value, f"{path}.")
        else:
            values[path.replace(".params.", ".")] = value
    return values


def _table(
    records: Sequence[Record],
    modulators: Sequence[str],
    settings: Mapping[str, Any],
    more: Sequence[Column],
    anywhere: Mapping[str, Sequence[str]],
) -> Table:
    first = records[0]
    columns = [
        Column("acc", "Acc", "test/accuracy", 100, 2),
        *(Column(f"acc_{m}", f"Acc_{m}", f"test/response/{m}", 100, 2) for m in first.modalities),
        *(Column(f"d_{m}", f"d_{m}", f"test/strength/{m}") for m in first.modalities),
        *more,
    ]
    groups: dict[str, list[Record]] = defaultdict(list)
    for label, record in _labelled(records):
        if not modulators or record.spec["modulator"]["name"] in modulators:
            groups[label].append(record)
    named = {record.spec["modulator"]["name"] for found in groups.values() for record in found}
    rows = [_row(label, found, columns) for label, found in sorted(groups.items(), key=lambda item: _rank(item[0]))]
    rows += [_absent(name, columns, "no run in this setting") for name in modulators if name not in named]
    notes = _elsewhere([found[0] for _, found in sorted(groups.items())], anywhere, _varied(records))
    notes += [note for label, found in groups.items() for note in _failures(label, found)]
    notes += [
        f"{row.label}: {column.key} of {len(row.values[column.key].values)} seeds of {row.seeds}"
        for row in rows
        for column in columns
        if 0 < len(row.values[column.key].values) < row.seeds
    ]
    return Table(
        dataset=first.spec["dataset"]["name"],
        fusion=first.spec["fusion"]["name"],
        settings=settings,
        columns=columns,
        rows=[*_concepts(records, columns), *rows],
        notes=notes,
    )


def _rank(label: str) -> tuple[bool, str]:
    return label.split()[0] != BASELINE, label


def _labelled(records: Sequence[Record]) -> list[tuple[str, Record]]:
    """Each record with its row's name: the modulator, and those of its parameters in which this table's runs differ."""
    varied = _varied(records)
    labelled = []
    for record in records:
        name, params = record.spec["modulator"]["name"], record.spec["modulator"]["params"]
        labelled.append(
            (" ".join([name, *(setting(key, params[key]) for key in varied.get(name, ()) if key in params)]), record)
        )
    return labelled


def _varied(records: Sequence[Record]) -> dict[str, list[str]]:
    """The parameters in which runs of one modulator differ, by modulator."""
    seen: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for record in records:
        for key, value in record.spec["modulator"]["params"].items():
            seen[record.spec["modulator"]["name"]][key].add(repr(value))
    return {name: [key for key, values in params.items() if len(values) > 1] for name, params in seen.items()}


def _elsewhere(rows: Sequence[Record], anywhere: Mapping[str, Sequence[str]], here: Mapping[str, Sequence[str]]) -> list[str]:
    """A note of what modulators are set to in this table and not in others; what rows differ in is in their names."""
    found = {}
    for record in rows:
        name, params = record.spec["modulator"]["name"], record.spec["modulator"]["params"]
        keys = [key for key in anywhere.get(name, ()) if key in params and key not in here.get(name, ())]
        if keys:
            found[name] = " ".join([name, *(setting(key, params[key]) for key in keys)])
    return [f"Here, and not in every table: {'; '.join(found.values())}"] if found else []


def _row(label: str, records: Sequence[Record], columns: Sequence[Column]) -> Row:
    newest_of = {r.spec["seed"]: r for r in sorted(records, key=lambda record: record.started) if r.status == FINISHED}
    finished = [newest_of[seed] for seed in sorted(newest_of)]
    if not finished:
        newest = max(records, key=lambda record: record.started)
        return _absent(label, columns, f"{newest.status}{': ' if newest.reason else ''}{newest.reason}")
    values = {}
    for column in columns:
        measured = {r.spec["seed"]: r.metrics[column.metric] for r in finished if column.metric in r.metrics}
        found = {seed: value * column.scale for seed, value in measured.items() if isfinite(value)}
        values[column.key] = Value(found) if found else Value(reason=_why_missing(column, bool(measured)))
    return Row(label, len(finished), values, finished)


def _why_missing(column: Column, measured: bool) -> str:
    if measured:
        return "not a finite number"
    return "not measured (--no-strength)" if column.key.startswith("d_") else "not in the run"


def _absent(label: str, columns: Sequence[Column], reason: str) -> Row:
    return Row(label, 0, {column.key: Value(reason=reason) for column in columns})


def _failures(label: str, records: Sequence[Record]) -> list[str]:
    if not any(record.status == FINISHED for record in records):
        return []  # the row itself says why
    lost = [record for record in records if record.status in (FAILED, KILLED)]
    return [f"{label}, seed {r.spec['seed']}: {r.status}{': ' if r.reason else ''}{r.reason}" for r in lost]


def _concepts(records: Sequence[Record], columns: Sequence[Column]) -> list[Row]:
    """The accuracy of each modality trained alone, one value a seed, as the runs that needed it recorded it."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for record in records:
        for modality in record.modalities:
            if (value := record.metrics.get(f"test/concept/{modality}")) is not None:
                found[modality][record.spec["seed"]] = 100 * value
    if not found:
        return []
    values = {column.key: Value(reason="a concept is one modality alone") for column in columns}
    values |= {f"acc_{m}": Value(seeds) for m, seeds in found.items()}
    return [Row("concept", max(map(len, found.values())), values, method=False)]
