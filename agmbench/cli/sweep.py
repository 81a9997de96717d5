"""`agmbench sweep`."""

from contextlib import nullcontext
from pathlib import Path
from typing import Unpack

import click

from agmbench.cli.launchers import Place, launched, launcher_options
from agmbench.cli.options import entry_of, registry_option, root_option, states_option, workers_option
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import AgmbenchError
from agmbench.registry import load


@click.command("sweep", cls=Verb)
@click.option(
    "-d",
    "--dataset",
    default="avmnist-mini",
    show_default=True,
    callback=entry_of("dataset"),
    help="Data set, or the file of its entry.",
)
@click.option("-m", "--modulator", help="Modulator to tune, by the ranges in its entry.")
@click.option(
    "--fair",
    metavar="M1,M2,...",
    help="Tune each of these, and joint, with as many trials, training.lr always among the parameters.",
)
@click.option("-f", "--fusion", help="Fusion. [default: the data set's]")
@click.option("--trials", type=click.IntRange(min=1), default=20, show_default=True, help="Trials of each modulator.")
@click.option(
    "--sampler",
    type=click.Choice(["tpe", "random", "grid", "cmaes"]),
    default="tpe",
    show_default=True,
    help="How parameters are drawn.",
)
@click.option(
    "--pruner",
    type=click.Choice(["median", "none", "hyperband"]),
    default="median",
    show_default=True,
    help="How trials are given up, by the objective on valid after each epoch.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that make trials. On one machine they share it.",
)
@launcher_options
@click.option("--storage", metavar="URL", help="Where the study is kept. [default: sqlite, runs/optuna.db]")
@click.option("--study", metavar="NAME", help="Name of the study. [default: from what it tunes]")
@click.option("--seed", type=int, help="Seed of the jobs and of the sampler. [default: 999, the paper's]")
@click.option("--epochs", type=int, help="Epochs. [default: the data set's]")
@click.option("--limit", type=int, help="At most so many samples a split. [default: all]")
@click.option(
    "--objective",
    metavar="NAME",
    help="What is tuned, and epochs are chosen by, on valid, such as macro-f1. [default: accuracy, R2]",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:i.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A parameter that is not tuned; repeatable.")
@workers_option
@states_option
@root_option
@registry_option
def command(
    dataset: str,
    modulator: str | None,
    fair: str | None,
    fusion: str | None,
    trials: int,
    sampler: str,
    pruner: str,
    storage: str | None,
    study: str | None,
    seed: int | None,
    epochs: int | None,
    limit: int | None,
    objective: str | None,
    device: str,
    settings: tuple[str, ...],
    **place: Unpack[Place],
) -> None:
    """Tune modulators on valid by Optuna; the same command goes on with a study that was stopped."""
    if (modulator is None) == (fair is None):
        raise AgmbenchError("name what to tune: either --modulator NAME or --fair NAME,NAME")
    names = [modulator] if modulator is not None else [name.strip() for name in (fair or "").split(",")]

    from agmbench.jobs import parse_settings
    from agmbench.report.tables import BASELINE

    registry = load()
    modulators = [registry.get("modulator", name).name for name in names]
    if len(set(modulators)) < len(modulators):
        raise AgmbenchError(f"--fair {fair}: a modulator is named twice")
    if fair is not None and BASELINE not in modulators:
        modulators = [BASELINE, *modulators]
    named = {"training.epochs": epochs, "seed": seed, "limit": limit, "training.select_by": objective}
    given = parse_settings(settings, named)

    from agmbench import sweep as sweeps
    from agmbench.cli.watcher import Watcher
    from agmbench.report.sweeps import parameters, sensitivity, side_by_side
    from agmbench.report.terminal import show_sheet
    from agmbench.trackers.mlflow import MlflowTracker, sqlite

    tracker = MlflowTracker()
    planned = [
        sweeps.plan(
            registry,
            dataset,
            name,
            fusion,
            given,
            fair=fair is not None,
            trials=trials,
            sampler=sampler,
            pruner=pruner,
            storage=storage or sqlite(tracker.folder / "optuna.db"),
            name=study,
            device=device,
        )
        for name in modulators
    ]
    tracker.check()  # before a study is made
    count = place["jobs"] or 1
    asked = any(value for key, value in place.items() if key not in ("launcher", "jobs"))
    here = count == 1 and place["launcher"] == "local" and not asked  # in this process
    workers = None if here else sweeps.Workers(launched(place, Path("runs") / "sweeps", tracker.shown), count)
    with nullcontext() if storage else tracker.lock("studies"):  # two first commands at once would both make the tables
        for sweep in planned:
            sweeps.open_study(sweep)
    found = []
    for sweep in planned:
        with Watcher(each_epoch=False) as watcher:
            found.append(sweeps.tune(sweep, registry, MlflowTracker, workers, watcher, say))
    title = f"{planned[0].base.dataset.name}{planned[0].departs}, {trials} trials each, sampler {sampler}, pruner {pruner}"
    for sheet in (side_by_side(title, found), *(sensitivity(tuned, key) for tuned in found for key in parameters(tuned))):
        show_sheet(sheet)


def say(text: str) -> None:
    """A line on standard error."""
    echo(text, err=True)
