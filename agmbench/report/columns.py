"""Which numbers a table shows: a column for each quantity that is asked for, or for those that are customary for the task."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from agmbench.errors import AgmbenchError, allowed
from agmbench.metrics.accuracy import Accuracy
from agmbench.metrics.coalitions import Coalitions
from agmbench.metrics.competition_strength import CompetitionStrength
from agmbench.metrics.concepts import Concepts
from agmbench.metrics.mae import MAE
from agmbench.metrics.map import MeanAveragePrecision
from agmbench.metrics.pearson import Pearson
from agmbench.metrics.r2 import R2
from agmbench.metrics.responses import Responses
from agmbench.metrics.sentiment import Sentiment
from agmbench.metrics.terms import Terms
from agmbench.outcomes import Kind, Quantity
from agmbench.records import FINISHED, Measurement, Record
from agmbench.report.published import Published
from agmbench.shapley import coalition_name, coalitions

CUSTOM: Mapping[Kind, Sequence[str]] = {
    "classification": ("accuracy", "response", "strength"),  # as in the AGM paper
    "multi-label": ("map", "accuracy", "response", "strength"),
    "regression": ("mae", "pearson", "acc-2", "acc-7", "r2", "response-r2", "strength"),
}
WHERE_MEASURED = ("acc-2", "acc-7")  # only sentiment tasks have them
SHOWN = (
    Accuracy,
    MeanAveragePrecision,
    MAE,
    Pearson,
    Sentiment,
    R2,
    Responses,
    Terms,
    CompetitionStrength,
    Concepts,
    Coalitions,
)
ALWAYS = {quantity.name: quantity for metric in SHOWN for quantity in metric.quantities}  # these are known without a registry
LACKING = {  # why a run may have no number of these
    quantity.name: "not measured (--no-strength)" if metric.compares else "not in the run"
    for metric in SHOWN
    for quantity in metric.quantities
}
CALLED: Mapping[Kind, str] = {
    "classification": "classification",
    "multi-label": "multi-label classification",
    "regression": "regression",
}
# in the row of unimodal models: the quantity that is shown in place of each of these
ALONE = {"response": "concept", "term": "concept", "response-r2": "concept-r2", "term-r2": "concept-r2"}

RESULTS, COALITIONS, COST = "", "only these modalities present", "cost"


@dataclass(frozen=True)
class Column:
    """A number of a record, with a `key` (`accuracy`, `response/audio`) and a `title`; `metric` is its name in the store.

    A kept value is multiplied by `scale` and shown in its `unit`, with `digits` decimals. `meaning` is one line that explains it. Columns
    of one `part` are shown together.
    """

    key: str
    title: str
    metric: str
    scale: float = 1.0
    digits: int = 4
    part: str = RESULTS
    unit: str = ""
    better: str = "higher"
    meaning: str = ""
    quantity: str = ""
    symbol: str = ""  # the title with `m` for the modality
    lacking: str = "not in the run"  # the reason shown where there is no number

    @property
    def lower(self) -> bool:
        """Whether lower is better."""
        return self.better == "lower"


COSTS = (
    Column("passes", "encoder passes", "cost/encoder_passes", digits=2, part=COST, better="lower"),
    Column("gflops", "GFLOP per step", "cost/flops", 1e-9, 3, part=COST, better="lower"),
    Column("speed", "samples/s", "cost/samples_per_second", digits=0, part=COST),
    Column("waiting", "waited for data, %", "cost/waiting_share", 100, 0, part=COST, better="lower"),
    Column("memory", "peak MiB", "cost/peak_memory_mib", digits=0, part=COST, better="lower"),
    Column("seconds", "s per epoch", "cost/seconds", digits=1, part=COST, better="lower"),
    Column("parameters", "parameters", "cost/parameters", digits=0, part=COST, better="lower"),
)


@dataclass(frozen=True)
class Known:
    """What can be asked for: the `quantities` by name, the quantity names that each of the `metrics` gives, and (`lacking`) the reason
    why a run may have no number of a quantity."""

    quantities: Mapping[str, Quantity]
    metrics: Mapping[str, Sequence[str]]
    lacking: Mapping[str, str]

    def within(self, records: Iterable[Record]) -> "Known":
        """The same facts, but with the quantities as these runs recorded them. If runs disagree, runs of this store take precedence over
        imported ones."""
        ordered = sorted(records, key=lambda record: not record.source)
        own = {q.name: q for record in ordered for found in record.measurements.values() for q in found.quantities}
        return replace(self, quantities={**self.quantities, **own})


def known_of(records: Iterable[Record], metrics: Mapping[str, Measurement]) -> Known:
    """The quantities of the customary tables, those that runs recorded, and those of the registry's `metrics`, by name."""
    named = [*(pair for record in records for pair in record.measurements.items()), *metrics.items()]
    given: dict[str, dict[str, None]] = defaultdict(dict)
    for name, found in named:
        given[name] |= dict.fromkeys(quantity.name for quantity in found.quantities)
    reasons = {q.name: found.reason for found in metrics.values() for q in found.quantities if found.reason}
    return Known(
        {**ALWAYS, **{quantity.name: quantity for _, found in named for quantity in found.quantities}},
        {name: [*names] for name, names in given.items()},
        {**LACKING, **reasons},
    )


def check(asked: Iterable[str], known: Known, cells: Sequence[Sequence[Record]]) -> None:
    """Raise if a word that is asked for names no number that a run of any cell could have."""
    for word in asked if cells else ():
        if not any(column.metric for cell in cells for column in _named(word, known.within(cell), cell)):
            fitting = [column for cell in cells for name in known.quantities for column in _of(name, known.within(cell), cell)]
            names = {column.key if "/" in word else column.quantity for column in fitting if column.metric}
            kinds = " or ".join(sorted({CALLED[cell[0].task] for cell in cells}))
            raise AgmbenchError(f"--columns {word}: there is no such quantity for {kinds}: {allowed(word, names)}")


def columns(
    records: Sequence[Record],
    known: Known,
    asked: Sequence[str] = (),
    cost: bool = False,
    coalitions: bool = False,
    printed: Iterable[Published] = (),
) -> list[Column]:
    """The columns of one table: those `asked` for, else those customary for the task and those of the `printed` figures.

    Methods are compared by the first column.
    """
    known = known.within(records)
    words = asked or [*_custom(records), *(key.partition("/")[0] for each in printed for key in each.figures)]
    found = [column for word in words for column in _named(word, known, records)]
    if coalitions:
        name = "coalition-r2" if records[0].task == "regression" else "coalition"
        found += _of(name, known, records, part=COALITIONS)
    return [*{(column.key, column.part): column for column in found}.values(), *(COSTS if cost else ())]


def _named(word: str, known: Known, records: Sequence[Record]) -> list[Column]:
    """The columns of a quantity (`response`), of one of its numbers (`response/audio`), or of all quantities of a metric.

    Quantities that are not for the task of these runs are returned only if none of that name is for it.
    """
    name, _, key = word.partition("/")
    quantity, of_metric = [name] if name in known.quantities else [], [*known.metrics.get(word, ())]
    for names in (quantity, of_metric):
        if fitting := [each for each in names if records[0].task in known.quantities[each].tasks]:
            return [column for each in fitting for column in _of(each, known, records, key)]
    return [column for each in quantity or of_metric for column in _of(each, known, records, key)]


def _custom(records: Sequence[Record]) -> list[str]:
    finished = [record for record in records if record.status == FINISHED]
    return [
        name
        for name in CUSTOM[records[0].task]
        if name not in WHERE_MEASURED or any(f"test/{name}" in record.metrics for record in finished)
    ]


def _of(name: str, known: Known, records: Sequence[Record], only: str = "", part: str = RESULTS) -> list[Column]:
    """One column for a quantity, or one per modality or coalition, or `only` one of these.

    A column that none of these runs can have has no `metric`.
    """
    quantity, task = known.quantities[name], records[0].task
    keys = _keys(quantity, records)
    never = f"not for {CALLED[task]}" if task not in quantity.tasks else f"no {only} here" if only and only not in keys else ""
    return [
        Column(
            key=f"{name}/{key}" if key else name,
            title=quantity.title.replace("{}", key.replace(":", " + ")),
            metric="" if never else f"test/{name}/{key}" if key else f"test/{name}",
            scale=quantity.scale,
            digits=quantity.decimals,
            part=part,
            unit=quantity.unit,
            better=quantity.better,
            meaning=quantity.meaning,
            quantity=name,
            symbol=quantity.title.replace("{}", "m"),
            lacking=never or known.lacking.get(name, "not measured (agmbench measure)"),
        )
        for key in ([only] if only else keys)
    ]


def _keys(quantity: Quantity, records: Sequence[Record]) -> list[str]:
    """The keys of its numbers: one empty key, one per modality, or one per coalition that a run has measured (if none has: all)."""
    modalities = records[0].modalities
    if not quantity.per:
        return [""]
    if quantity.per == "modality":
        return [*modalities]
    start = f"test/{quantity.name}/"
    found = {metric.removeprefix(start) for record in records for metric in record.metrics if metric.startswith(start)}
    every = [coalition_name(coalition, modalities) for coalition in coalitions(modalities)]
    return [name for name in every if name in found] or every
