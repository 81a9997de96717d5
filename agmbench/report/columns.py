"""Which numbers a table shows: a column for each quantity asked for, or those that are the custom for the task."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agmbench.errors import AgmbenchError, allowed
from agmbench.metrics.accuracy import Accuracy
from agmbench.metrics.coalitions import Coalitions
from agmbench.metrics.competition_strength import CompetitionStrength
from agmbench.metrics.mae import MAE
from agmbench.metrics.map import MeanAveragePrecision
from agmbench.metrics.pearson import Pearson
from agmbench.metrics.r2 import R2
from agmbench.metrics.responses import Responses
from agmbench.metrics.sentiment import Sentiment
from agmbench.outcomes import Kind, Quantity
from agmbench.records import FINISHED, Record

CUSTOM: Mapping[Kind, Sequence[str]] = {
    "classification": ("accuracy", "response", "strength"),  # AGM paper
    "multi-label": ("map", "accuracy", "response", "strength"),
    "regression": ("mae", "pearson", "acc-2", "acc-7", "r2", "response-r2", "strength"),
}
WHERE_MEASURED = ("acc-2", "acc-7")  # of a sentiment alone
SHOWN = (Accuracy, MeanAveragePrecision, MAE, Pearson, Sentiment, R2, Responses, CompetitionStrength, Coalitions)
ALWAYS = {quantity.name: quantity for metric in SHOWN for quantity in metric.quantities}  # known whether a run has them or not
ALONE = {"response": "concept", "term": "concept", "response-r2": "concept-r2", "term-r2": "concept-r2"}  # of the concept row

RESULTS, COALITIONS, COST = "", "only these modalities present", "cost"


@dataclass(frozen=True)
class Column:
    """A number of a record under a `key` (`accuracy`, `response/audio`) and a `title`; `metric` is what the store calls it.

    `scale` is what a kept value is multiplied by to be shown in its `unit`, `digits` behind the point; `meaning` is one line. Columns
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

    @property
    def lower(self) -> bool:
        """Whether less is better."""
        return self.better == "lower"


COSTS = (
    Column("passes", "encoder passes", "cost/encoder_passes", digits=2, part=COST, better="lower"),
    Column("gflops", "GFLOP a step", "cost/flops", 1e-9, 3, part=COST, better="lower"),
    Column("speed", "samples/s", "cost/samples_per_second", digits=0, part=COST),
    Column("memory", "peak MiB", "cost/peak_memory_mib", digits=0, part=COST, better="lower"),
)


def columns(records: Sequence[Record], asked: Sequence[str] = (), cost: bool = False, coalitions: bool = False) -> list[Column]:
    """Those of one table: of the quantities or metrics `asked` for, else the custom of the task; the first is what is compared."""
    first, known = records[0], described(records)
    names = [name for word in asked for name in _named(word, known, records)] or _custom(records)
    found = [column for name in dict.fromkeys(names) for column in _of(known[name], first, records)]
    if coalitions:
        name = "coalition-r2" if first.task == "regression" else "coalition"
        found += [column for column in _of(known[name], first, records, COALITIONS) if column not in found]
    return [*found, *(COSTS if cost else ())]


def described(records: Iterable[Record]) -> dict[str, Quantity]:
    """Every quantity that is known, by name: what the runs recorded of those that they measured, and the custom ones."""
    recorded = (q for record in records for found in record.measurements.values() for q in found.quantities)
    return {**ALWAYS, **{quantity.name: quantity for quantity in recorded}}


def _named(word: str, known: Mapping[str, Quantity], records: Sequence[Record]) -> Iterator[str]:
    """A quantity of that name, or those of the metric of that name."""
    kind = records[0].task
    if word in known and kind in known[word].tasks:
        yield word
        return
    of_metric = {q.name: q for r in records if word in r.measurements for q in r.measurements[word].quantities}
    fitting = [name for name, quantity in of_metric.items() if kind in quantity.tasks]
    if not fitting:
        names = [name for name, quantity in known.items() if kind in quantity.tasks]
        raise AgmbenchError(f"--columns {word}: nothing of that name is measured of a {kind}: {allowed(word, names)}")
    yield from fitting


def _custom(records: Sequence[Record]) -> list[str]:
    finished = [record for record in records if record.status == FINISHED]
    return [
        name
        for name in CUSTOM[records[0].task]
        if name not in WHERE_MEASURED or any(f"test/{name}" in record.metrics for record in finished)
    ]


def _of(quantity: Quantity, first: Record, records: Sequence[Record], part: str = RESULTS) -> list[Column]:
    """One column, or one per modality or coalition."""
    return [
        Column(
            key=f"{quantity.name}/{key}" if key else quantity.name,
            title=quantity.title.replace("{}", key.replace(":", " + ")),
            metric=f"test/{quantity.name}/{key}" if key else f"test/{quantity.name}",
            scale=quantity.scale,
            digits=quantity.decimals,
            part=part,
            unit=quantity.unit,
            better=quantity.better,
            meaning=quantity.meaning,
            quantity=quantity.name,
            symbol=quantity.title.replace("{}", "m"),
        )
        for key in _keys(quantity, first, records)
    ]


def _keys(quantity: Quantity, first: Record, records: Sequence[Record]) -> list[str]:
    if not quantity.per:
        return [""]
    if quantity.per == "modality":
        return [*first.modalities]
    start = f"test/{quantity.name}/"
    found = {metric.removeprefix(start) for record in records for metric in record.metrics if metric.startswith(start)}
    places = {modality: place for place, modality in enumerate(first.modalities)}
    members = {key: key.split(":") for key in found}
    return sorted(found, key=lambda key: (len(members[key]), [places.get(member, 0) for member in members[key]]))
