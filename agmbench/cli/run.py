"""`agmbench run`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agmbench import interrupts
from agmbench.cli.options import registry_option, root_option, states_option, workers_option
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import AgmbenchError
from agmbench.registry import Registry, load

if TYPE_CHECKING:
    from agmbench.measures import Measure
    from agmbench.records import Record
    from agmbench.train import Epoch


@click.command("run", cls=Verb)
@click.option("-d", "--dataset", default="avmnist-mini", show_default=True, help="Data set.")
@click.option("-m", "--modulator", default="agm", show_default=True, help="Modulator.")
@click.option("-f", "--fusion", help="Fusion. [default: the data set's]")
@click.option(
    "-e", "--encoder", "encoders", multiple=True, metavar="MODALITY=NAME", help="Encoder of one modality; repeatable."
)
@click.option("--seed", type=int, help="Seed. [default: 999, the paper's]")
@click.option("--epochs", type=int, help="Epochs. [default: the data set's]")
@click.option("--accumulate", type=int, help="Batches that make one optimizer step. [default: 1]")
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="Of training's passes. [default: fp32]")
@click.option("--limit", type=int, help="At most so many samples a split, to try a job. [default: all]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:i.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A parameter, such as modulator.alpha=2; repeatable."
)
@workers_option
@states_option
@root_option
@registry_option
@click.option("--no-strength", is_flag=True, help="Leave competition strength and its mono-modal reference runs out.")
@click.option(
    "--job",
    "job_file",
    type=click.Path(path_type=Path),
    help="A job's file (a run's job.yaml), in place of all that says which job.",
)
@click.option("--dry-run", is_flag=True, help="Show the job and stop.")
@click.option("--profile", is_flag=True, help="Trace some steps of this job's training, and show where their time goes.")
@click.option("--force", is_flag=True, help="Train this job and its references again even if they are done.")
def command(
    dataset: str,
    modulator: str,
    fusion: str | None,
    encoders: tuple[str, ...],
    seed: int | None,
    epochs: int | None,
    accumulate: int | None,
    precision: str | None,
    limit: int | None,
    device: str,
    settings: tuple[str, ...],
    no_strength: bool,
    job_file: Path | None,
    dry_run: bool,
    profile: bool,
    force: bool,
) -> None:
    """Train one job, with its mono-modal references, and log it to MLflow."""
    from agmbench.jobs import compose, job_of, parse_settings

    named = {
        "training.epochs": epochs,
        "training.accumulate": accumulate,
        "training.precision": precision,
        "seed": seed,
        "limit": limit,
    }
    parent = None
    if job_file is not None:
        _alone("--job")
        spec, parent, _ = job_of(job_file)
    else:
        spec = compose(
            load(),
            dataset,
            modulator,
            fusion,
            _pairs(encoders),
            parse_settings(settings, named),
        )

    from agmbench import build
    from agmbench.execute import execute
    from agmbench.trackers.mlflow import MlflowTracker

    registry, tracker = load(), MlflowTracker()
    chosen = build.device(device)
    if dry_run:
        _describe(build.resolve(spec, registry), tracker, strength=not no_strength)
        return
    with Watcher() as watcher:
        record = execute(
            spec, registry, tracker, chosen, watcher, _wanted(registry, no_strength), force, parent, profile=profile
        )
    if profile and watcher.trained:
        echo(tracker.artifact(record, "profile/parts.txt").read_text().rstrip(), err=True)
    _show(record, registry, tracker.shown, watcher.trained)


def _wanted(registry: Registry, no_strength: bool) -> "list[Measure]":
    """The metrics that the run is measured by: all, or those that need no unimodal models."""
    from agmbench.measures import measures, of_one_run

    return of_one_run(registry) if no_strength else measures(registry)


BESIDE_A_JOB = {"job_file", "device", "no_strength", "dry_run", "profile", "force", "data_root"}  # what does not say which job


def _alone(option: str) -> None:
    """Nothing else may say which job it is."""
    context = click.get_current_context()
    given = [name for name in context.params if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE]
    if also := [name for name in given if name not in BESIDE_A_JOB]:
        raise AgmbenchError(
            f"{option} says all of the job; leave {', '.join('--' + name.replace('_', '-') for name in also)} out"
        )


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        modality, equals, name = text.partition("=")
        if not equals:
            raise AgmbenchError(f"--encoder {text}: should be modality=name, such as audio=resnet")
        if modality in pairs:
            raise AgmbenchError(f"--encoder {modality} is given twice; leave one of them out")
        pairs[modality] = name
    return pairs


def _describe(job: Any, tracker: Any, strength: bool) -> None:
    import yaml

    from agmbench import build

    build.modulator(job, build.model(job))
    build.augmentation(job)
    echo(yaml.safe_dump(job.spec.canonical(), sort_keys=False).rstrip())
    references = list(build.references(job).values()) if strength else []
    for planned, what in ((job, "this job"), *((reference, "reference") for reference in references)):
        done = "done" if tracker.find(planned.digest) else "to be trained"
        modality = f" of {', '.join(planned.modalities)}" if planned is not job else ""
        echo(f"# {what}{modality}: digest {planned.digest}, {done}")


def _show(record: "Record", registry: Registry, uri: str, trained: bool) -> None:
    from agmbench.cli.tables import tabled
    from agmbench.report.render import show

    if not trained:
        echo(f"'{record.name}' is done already (digest {record.digest}); --force trains it again", err=True)
    for table in tabled([record], registry):
        show(table)
    echo(f"MLflow run {record.run_id} in {uri}", err=True)


class Watcher:
    """A progress bar on a terminal; on a pipe, one line a trained job on standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self.trained = False
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[now]}"),
        )
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._quiet = console.is_terminal

    def __enter__(self) -> "Watcher":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def started(self, name: str, epochs: int, done: int) -> None:
        self._task = self._bar.add_task(name, total=epochs, completed=done, now="")
        if done:
            echo(f"'{name}' goes on after epoch {done - 1}", err=True)

    def warned(self, text: str) -> None:
        echo(f"warning: {text}", err=True)

    def epoch(self, epoch: "Epoch") -> None:
        interrupts.check()
        self._bar.update(self._task, advance=1, now=f"valid {epoch.by} {epoch.valid[epoch.by]:.3f}")

    def finished(self, record: "Record", trained: bool) -> None:
        self.trained = trained
        if trained and not self._quiet:
            echo(f"trained '{record.name}': test {record.figure}", err=True)
