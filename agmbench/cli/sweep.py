"""`agmbench sweep`."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from agmbench.cli.launchers import Place, launched, launcher_options
from agmbench.cli.options import entry_of, registry_option, root_option, states_option, workers_option
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import AgmbenchError
from agmbench.registry import Registry, load

if TYPE_CHECKING:
    from agmbench.report.sweeps import Tuned
    from agmbench.sweep import Sweep, Workers


class Options(Place):
    """The options of the command."""

    dataset: str
    modulator: str | None
    fair: str | None
    fusion: str | None
    trials: int
    sampler: str
    pruner: str
    storage: str | None
    study: str | None
    seed: int | None
    epochs: int | None
    limit: int | None
    objective: str | None
    device: str
    settings: tuple[str, ...]


@click.command("sweep", cls=Verb)
@click.option(
    "-d",
    "--dataset",
    default="avmnist-mini",
    show_default=True,
    callback=entry_of("dataset"),
    help="Data set, or the file with its entry.",
)
@click.option("-m", "--modulator", help="Modulator to tune, over the ranges in its entry.")
@click.option(
    "--fair",
    metavar="M1,M2,...",
    help="Tune each of these modulators, and joint, with the same number of trials; training.lr is always tuned too.",
)
@click.option("-f", "--fusion", help="Fusion. [default: the data set's]")
@click.option("--trials", type=click.IntRange(min=1), default=20, show_default=True, help="Number of trials of each modulator.")
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
    help="How bad trials are stopped early, by their objective on valid after each epoch.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of processes that run trials at the same time.",
)
@launcher_options
@click.option("--storage", metavar="URL", help="Optuna storage where the study is kept. [default: SQLite, runs/optuna.db]")
@click.option("--study", metavar="NAME", help="Name of the study. [default: made from what it tunes]")
@click.option("--seed", type=int, help="Seed of the jobs and of the sampler. [default: 999, the paper's]")
@click.option("--epochs", type=int, help="Epochs. [default: the data set's]")
@click.option("--limit", type=int, help="Use at most this many samples per split. [default: all]")
@click.option(
    "--objective",
    metavar="NAME",
    help="Metric on valid that is optimized and that chooses the epoch, such as macro-f1. [default: accuracy; for regression R2]",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:i.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a parameter that is not tuned; repeatable.")
@workers_option
@states_option
@root_option
@registry_option
def command(**given: Unpack[Options]) -> None:
    """Tune modulators with Optuna on the valid split. Run the same command again to resume a study that was stopped."""
    registry = load()
    modulators = _modulators(given, registry)

    from agmbench import sweep as sweeps
    from agmbench.cli.watcher import Watcher
    from agmbench.trackers.mlflow import MlflowTracker

    tracker = MlflowTracker()
    planned = _planned(given, registry, modulators, tracker.folder)
    tracker.check()  # raises before a study is made
    workers = _workers(given, tracker.shown)
    with nullcontext() if given["storage"] else tracker.lock("studies"):  # or two commands would both make the tables
        for sweep in planned:
            sweeps.open_study(sweep)
    found = []
    for sweep in planned:
        with Watcher(each_epoch=False) as watcher:
            found.append(sweeps.tune(sweep, registry, MlflowTracker, workers, watcher, say))
    _show(planned, found)


def _modulators(given: Options, registry: Registry) -> list[str]:
    """The names of the modulators that are tuned."""
    modulator, fair = given["modulator"], given["fair"]
    if (modulator is None) == (fair is None):
        raise AgmbenchError("name what to tune, by one of --modulator NAME and --fair NAME,NAME")

    from agmbench.report.tables import BASELINE

    named = [modulator] if modulator is not None else [name.strip() for name in (fair or "").split(",")]
    names = [registry.get("modulator", name).name for name in named]
    if len(set(names)) < len(names):
        raise AgmbenchError(f"--fair {fair}: a modulator is named twice")
    return [BASELINE, *names] if fair is not None and BASELINE not in names else names


def _planned(given: Options, registry: Registry, modulators: Sequence[str], folder: Path) -> "list[Sweep]":
    """One sweep per modulator; nothing is written."""
    from agmbench import sweep as sweeps
    from agmbench.jobs import parse_settings
    from agmbench.trackers.mlflow import sqlite

    named = {"training.epochs": given["epochs"], "seed": given["seed"], "limit": given["limit"]}
    settings = parse_settings(given["settings"], {**named, "training.select_by": given["objective"]})
    storage, fair = given["storage"] or sqlite(folder / "optuna.db"), given["fair"] is not None
    how = given["trials"], given["sampler"], given["pruner"], storage, given["device"]
    search = sweeps.Search(*how, given["study"], fair)
    return [sweeps.plan(registry, given["dataset"], name, given["fusion"], settings, search) for name in modulators]


def _workers(given: Options, store: str) -> "Workers | None":
    """The processes that run trials, started by a launcher; `None` means this process."""
    from agmbench import sweep as sweeps

    count = given["jobs"] or 1
    asked = any(given[key] for key in Place.__annotations__ if key not in ("launcher", "jobs"))  # type: ignore[literal-required]
    if count == 1 and given["launcher"] == "local" and not asked:
        return None
    return sweeps.Workers(launched(given, Path("runs") / "sweeps", store), count)


def _show(planned: "Sequence[Sweep]", found: "Sequence[Tuned]") -> None:
    from agmbench.report.sweeps import parameters, sensitivity, side_by_side
    from agmbench.report.terminal import show_sheets

    first = planned[0]
    title = (
        f"{first.base.dataset.name}{first.departs}, {first.trials} trials each, sampler {first.sampler}, pruner {first.pruner}"
    )
    show_sheets([side_by_side(title, found), *(sensitivity(tuned, key) for tuned in found for key in parameters(tuned))])


def say(text: str) -> None:
    """Write a line on standard error."""
    echo(text, err=True)
