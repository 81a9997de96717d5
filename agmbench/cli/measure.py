"""`agmbench measure`."""

import click

from agmbench.cli.options import entry_of, registry_option, root_option, workers_option
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import AgmbenchError
from agmbench.registry import load


@click.command("measure", cls=Verb)
@click.argument("metrics", nargs=-1)
@click.option("-d", "--dataset", callback=entry_of("dataset"), help="Runs on this data set alone. [default: all]")
@click.option(
    "--device", default="auto", show_default=True, help="Where a run that kept no outcomes is evaluated: auto, cpu, cuda."
)
@workers_option
@root_option
@registry_option
def command(metrics: tuple[str, ...], dataset: str | None, device: str) -> None:
    """Measure finished runs by METRICS (all that there are) and keep the numbers; nothing is trained.

    A metric that has measured a run in its present version and source is not asked again. Numbers come from the outcomes that runs
    keep; where a run was made before outcomes were kept, its best checkpoint is evaluated once more, if its data set is here unchanged.
    """
    from agmbench import measures
    from agmbench.records import FINISHED
    from agmbench.trackers.mlflow import MlflowTracker

    registry, tracker = load(), MlflowTracker()
    wanted = measures.measures(registry, metrics or None)
    name = registry.get("dataset", dataset).name if dataset else None
    finished = [record for record in tracker.records(name) if record.status == FINISHED]
    if not finished:
        raise AgmbenchError(f"no finished runs{f' on {name}' if name else ''} in {tracker.shown}; make one with: agmbench run")
    count, untold = 0, []
    for record in finished:
        lacking = measures.stale(record, wanted)
        if not lacking:
            continue
        try:
            if not record.outcomes_kept:
                from agmbench.execute import kept_again

                record = kept_again(record, registry, tracker, device)
            found = measures.measured(tracker, record, lacking)
        except AgmbenchError as error:
            untold.append(f"{record.run_id[:8]} '{record.name}': {error}")
            continue
        kept = [one for one in found if one.reason != measures.ALONE]  # what may be measured later is not kept as refused
        with tracker.reopen(record) as run:
            run.measured(kept, record.spec["training"]["epochs"] - 1)
        count += bool(kept)
        if len(kept) < len(found):
            untold.append(
                f"{record.run_id[:8]} '{record.name}': by metrics that compare with unimodal models, which are not here"
            )
    for text in untold:
        echo(f"not measured: {text}", err=True)
    echo(
        f"measured {count} of {len(finished)} finished runs by {', '.join(one.name for one in wanted)}; "
        f"{len(finished) - count - len(untold)} had been already"
    )
