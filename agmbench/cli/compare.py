"""`agmbench compare`."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agmbench.cli.options import registry_option
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import AgmbenchError, allowed
from agmbench.records import FINISHED, Measurement, Record
from agmbench.registry import Registry, load

if TYPE_CHECKING:
    from agmbench.report.tables import Table
    from agmbench.trackers.mlflow import MlflowTracker

FORMS = ("table", "markdown", "latex", "csv", "json", "html")
HTML = Path("compare.html")


@click.command("compare", cls=Verb)
@click.option("-d", "--dataset", help="Data set. [default: all]")
@click.option("-m", "--modulator", "modulators", multiple=True, help="Modulator; repeatable. [default: all]")
@click.option("-f", "--fusion", "fusions", multiple=True, help="Fusion; repeatable. [default: all]")
@click.option("--seed", "seeds", type=int, multiple=True, help="Seed; repeatable. [default: all]")
@click.option("--baseline", metavar="NAME", help="The row that the others are compared with, kept by -m. [default: joint]")
@click.option(
    "--columns",
    metavar="NAME,NAME",
    help="What to show: metrics, quantities, or one number of a quantity, such as response/audio; the first is compared. "
    "What runs lack is measured. [default: by task]",
)
@click.option("--coalitions", is_flag=True, help="Also show the first figure where only some modalities are present.")
@click.option("--cost", is_flag=True, help="Also show encoder passes, FLOPs, samples a second and memory.")
@click.option("--published", is_flag=True, help="Also show the figures that the paper's supplement printed.")
@click.option("--samples", is_flag=True, help="Also show runs on random samples (agmbench data sample).")
@click.option("--format", "form", type=click.Choice(FORMS), default="table", show_default=True, help="What to write.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to. [default: the terminal; html: compare.html]")
@registry_option
def command(
    dataset: str | None,
    modulators: tuple[str, ...],
    fusions: tuple[str, ...],
    seeds: tuple[int, ...],
    baseline: str | None,
    columns: str | None,
    coalitions: bool,
    cost: bool,
    published: bool,
    samples: bool,
    form: str,
    output: Path | None,
) -> None:
    """Modulators side by side: one table a setting, from the runs in the store.

    Methods are compared with the baseline by paired tests over seeds: docs/statistics.md.
    """
    registry = load()
    dataset = registry.get("dataset", dataset).name if dataset else None
    if output is not None and form == "table":
        raise AgmbenchError("--output needs a written form: --format markdown, latex, csv, json or html")

    from agmbench.report.export import Origin
    from agmbench.report.render import render, save, show
    from agmbench.report.tables import BASELINE
    from agmbench.trackers.mlflow import MlflowTracker

    tracker = MlflowTracker()
    stored = tracker.records(dataset)
    found = [record for record in stored if not record.concept and (samples or not record.sample)]
    if not found:
        raise AgmbenchError(f"no runs{f' on {dataset}' if dataset else ''} in {tracker.shown}; make one with: agmbench run")
    known = {*registry.names("modulator"), *(record.spec["modulator"]["name"] for record in found)}
    for name in modulators:
        if name not in known:
            raise AgmbenchError(f"unknown modulator '{name}': {allowed(name, known)}")
    kept = _chosen(found, registry, fusions, seeds)
    asked = [word for part in (columns or "").split(",") if (word := part.strip())]
    kept = _measured(kept, asked, registry, tracker, _finished(stored).get)
    named = (*modulators, baseline) if modulators and baseline and baseline not in modulators else modulators
    tables = tabled(kept, registry, modulators=named, cost=cost or form == "html", coalitions=coalitions, asked=asked)
    labels = {row.label for table in tables for row in table.rows if row.method and row.records}
    if baseline and baseline not in labels:
        raise AgmbenchError(f"--baseline: no row '{baseline}' in these tables: {allowed(baseline, labels)}")
    against = baseline or BASELINE

    if form == "table":
        show(*tables, baseline=against, beside=published)
        return
    if form == "html":
        from agmbench.report.html import page

        text = page(tables, tracker.history, against, published, origin=Origin(tracker.shown))
        output = output or HTML
    else:
        text = render(tables, form, against, published, Origin(tracker.shown))
    if output is None:
        echo(text)
    else:
        save(f"{text.rstrip()}\n", output)
        echo(f"wrote {output}", err=True)


def tabled(records: Sequence[Record], registry: Registry, **shown: Any) -> "list[Table]":
    """The tables of runs, as every command makes them: with what the metrics of the registry are now, and with what departs from the
    published recipe in runs that did not note it. What is `shown` is as `report.tables.compare` takes it."""
    from agmbench.report.tables import compare

    return compare(_noted(records, registry), metrics=_present(registry), **shown)


def _present(registry: Registry) -> dict[str, Measurement]:
    """Each metric's version and what it gives, by its names; as reason, why a run may not be measured by it."""
    from agmbench import measures

    return {
        name: Measurement(
            *(one.name, one.version, one.metric.quantities),
            reason=measures.ALONE if one.metric.compares else "",
        )
        for one in measures.measures(registry)
        for name in (one.name, *one.entry.aliases)
    }


def _finished(records: Iterable[Record]) -> dict[str, Record]:
    """The last finished run of each job, by digest."""
    return {r.digest: r for r in sorted(records, key=lambda record: record.order) if r.status == FINISHED}


def _measured(
    records: Sequence[Record],
    asked: Sequence[str],
    registry: Registry,
    tracker: "MlflowTracker",
    find: Callable[[str], Record | None],
) -> list[Record]:
    """The records with what is asked for and was not measured yet, or by another version, from the outcomes that runs kept."""
    from agmbench import measures

    if not asked:
        return [*records]
    known = measures.measures(registry)
    named = {name for word in asked for name in measures.names_of(known, word.partition("/")[0])}
    wanted = [one for one in known if one.name in named]
    found, count = [], 0
    for record in records:
        lacking = measures.stale(record, wanted) if record.status == FINISHED else []
        found.append(record.with_measured(measures.tried(tracker, record, lacking, find)) if lacking else record)
        count += bool(lacking)
    if count:
        runs = "1 run was" if count == 1 else f"{count} runs were"
        echo(f"{runs} measured for this table; to keep it: agmbench measure {' '.join(sorted(named))}", err=True)
    return found


def _noted(records: Sequence[Record], registry: Registry) -> list[Record]:
    """The records with what departs from the published recipe, where nobody noted it when they were made."""
    if all(record.departures is not None for record in records):
        return [*records]

    from agmbench.protocol import noted

    return [record if record.departures is not None else noted(record, registry) for record in records]


def _chosen(records: Sequence[Record], registry: Registry, fusions: Sequence[str], seeds: Sequence[int]) -> list[Record]:
    """The runs under the fusions (or their aliases) and of the seeds named; all where none are."""
    used = {record.spec["fusion"]["name"] for record in records}
    names = {fusion if fusion in used else registry.get("fusion", fusion).name for fusion in fusions}
    kept = [
        record
        for record in records
        if (not names or record.spec["fusion"]["name"] in names) and (not seeds or record.spec["seed"] in seeds)
    ]
    if not kept:
        there = sorted({f"{record.spec['fusion']['name']}, seed {record.spec['seed']}" for record in records})
        raise AgmbenchError(f"no runs of this --fusion and --seed; there are: {'; '.join(there[:20])}")
    return kept
