"""`agmbench compare`."""

import click

from agmbench.errors import AgmbenchError, allowed
from agmbench.registry import load


@click.command("compare")
@click.option("-d", "--dataset", help="Data set. [default: all]")
@click.option("-m", "--modulator", "modulators", multiple=True, help="Modulator; repeatable. [default: all]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "latex", "csv", "json"]),
    default="table",
    show_default=True,
    help="What to write.",
)
@click.option("--cost", is_flag=True, help="Also show encoder passes, FLOPs, samples a second and memory.")
def command(dataset: str | None, modulators: tuple[str, ...], form: str, cost: bool) -> None:
    """Modulators side by side: one table a setting, from the runs in the store."""
    registry = load()
    dataset = registry.get("dataset", dataset).name if dataset else None

    from agmbench.report.render import render, show
    from agmbench.report.tables import compare
    from agmbench.trackers.mlflow import MlflowTracker

    tracker = MlflowTracker()
    records = [record for record in tracker.records(dataset) if not record.concept]
    known = {*registry.names("modulator"), *(record.spec["modulator"]["name"] for record in records)}
    for name in modulators:
        if name not in known:
            raise AgmbenchError(f"unknown modulator '{name}': {allowed(name, known)}")
    if not records:
        raise AgmbenchError(f"no runs{f' on {dataset}' if dataset else ''} in {tracker.uri}; make one with: agmbench run")
    tables = compare(records, modulators, cost)
    if form == "table":
        for table in tables:
            show(table)
    else:
        click.echo(render(tables, form))
