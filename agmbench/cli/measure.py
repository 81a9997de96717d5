"""`agmbench measure`."""

import click

from agmbench.cli.options import entry_of, registry_option, root_option, workers_option
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import AgmbenchError
from agmbench.registry import load


@click.command("measure", cls=Verb)
@click.argument("metrics", nargs=-1)
@click.option("-d", "--dataset", callback=entry_of("dataset"), help="Only runs on this data set. [default: all]")
@click.option(
    "--device", default="auto", show_default=True, help="Device for runs that have to be evaluated again: auto, cpu, cuda."
)
@workers_option
@root_option
@registry_option
def command(metrics: tuple[str, ...], dataset: str | None, device: str) -> None:
    """Measure finished runs by METRICS (default: all) and keep the numbers; nothing is trained.

    A run that the present version of a metric has already measured is skipped. The numbers are computed from the predictions that each
    run keeps. Older runs kept none: their best checkpoint is evaluated again, if the data set is on this machine and unchanged.
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
                from agmbench.execute.evaluation import evaluate_again

                record = evaluate_again(record, registry, tracker, device)
            found = measures.measured(tracker, record, lacking)
        except AgmbenchError as error:
            untold.append(f"{record.run_id[:8]} '{record.name}': {error}")
            continue
        kept = [one for one in found if one.reason != measures.ALONE]  # the others may be measured later
        with tracker.reopen(record) as run:
            run.log_measurements(kept, record.spec["training"]["epochs"] - 1)
        count += bool(kept)
        if len(kept) < len(found):
            untold.append(
                f"{record.run_id[:8]} '{record.name}': the metrics that compare it with its unimodal models, which are not in this store"
            )
    for text in untold:
        echo(f"not measured: {text}", err=True)
    echo(
        f"measured {count} of {len(finished)} finished runs by {', '.join(one.name for one in wanted)}; "
        f"{len(finished) - count - len(untold)} were measured before"
    )
