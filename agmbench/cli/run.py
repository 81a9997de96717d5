"""`agmbench run`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agmbench.cli.options import Name, entry_of, registry_option, root_option, states_option, workers_option
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import WORDS, Verb
from agmbench.errors import AgmbenchError
from agmbench.registry import Registry, load

if TYPE_CHECKING:
    import torch

    from agmbench.measures import Measure
    from agmbench.records import Record


@click.command("run", cls=Verb)
@click.option(
    "-d",
    "--dataset",
    type=Name("dataset"),
    default="avmnist-mini",
    show_default=True,
    callback=entry_of("dataset"),
    help="Data set, or the file of its entry.",
)
@click.option("-m", "--modulator", type=Name("modulator"), default="agm", show_default=True, help="Modulator.")
@click.option("-f", "--fusion", type=Name("fusion"), help="Fusion. [default: the data set's]")
@click.option(
    "-e", "--encoder", "encoders", multiple=True, metavar="MODALITY=NAME", help="Encoder of one modality; repeatable."
)
@click.option("--seed", type=int, help="Seed. [default: 999, the paper's]")
@click.option("--epochs", type=int, help="Epochs. [default: the data set's]")
@click.option("--accumulate", type=int, help="Batches per optimizer step. [default: 1]")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="Number format of the training passes. [default: fp32]"
)
@click.option("--limit", type=int, help="Use at most this many samples per split, to try a job. [default: all]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:i.")
@click.option("--devices", type=click.IntRange(1), help="Processes that train this job together, a GPU each. [default: 1]")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a parameter, such as modulator.alpha=2; repeatable."
)
@workers_option
@states_option
@root_option
@registry_option
@click.option("--no-strength", is_flag=True, help="Skip competition strength and the unimodal reference runs that it needs.")
@click.option(
    "--job",
    "job_file",
    type=click.Path(path_type=Path),
    help="A job file (the job.yaml of a run); replaces all options that describe the job.",
)
@click.option("--dry-run", is_flag=True, help="Show the job and stop.")
@click.option("--profile", is_flag=True, help="Trace some training steps of this job, and show where their time goes.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress; print only warnings and the result.")
@click.option("--force", is_flag=True, help="Train this job and its references again, even if they are done.")
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
    devices: int | None,
    settings: tuple[str, ...],
    no_strength: bool,
    job_file: Path | None,
    dry_run: bool,
    profile: bool,
    quiet: bool,
    force: bool,
) -> None:
    """Train one job and its unimodal reference models, and log them to MLflow."""
    from agmbench.jobs import compose, job_of, parse_settings

    given = {
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
            parse_settings(settings, given),
        )

    if not dry_run and _on_several(devices, device):
        return

    from agmbench import build
    from agmbench.cli.watcher import Watcher
    from agmbench.distributed.told import told
    from agmbench.execute import execute
    from agmbench.trackers.mlflow import MlflowTracker

    registry, tracker = load(), MlflowTracker()
    chosen = build.device(device)
    if dry_run:
        _describe(build.resolve(spec, registry), tracker, strength=not no_strength)
        return
    with _together(chosen) as first, Watcher(quiet or not first) as watcher:
        record = execute(
            spec,
            registry,
            told(tracker),
            chosen,
            watcher,
            _wanted(registry, no_strength),
            force,
            parent,
            profile=profile and first,
        )
    if not first:
        return
    if profile and watcher.trained:
        echo(tracker.artifact(record, "profile/parts.txt").read_text().rstrip(), err=True)
    _show(record, registry, tracker.shown, watcher.trained)


def _on_several(devices: int | None, device: str) -> bool:
    """Have the job trained by several processes, if there should be some and this is not one of them; whether that was done."""
    from agmbench import build
    from agmbench.cli import main
    from agmbench.distributed.ranks import called_for, one_device
    from agmbench.distributed.start import started

    if (size := called_for()) > 1:
        if devices not in (None, size):
            raise AgmbenchError(f"--devices {devices}: this is one of {size} processes already; leave --devices out")
        one_device()
        return False
    if devices in (None, 1):
        return False
    chosen = build.device(device)
    if chosen.index is not None:
        raise AgmbenchError(
            f"--devices {devices} takes the first GPUs that it sees; choose by CUDA_VISIBLE_DEVICES, not by --device"
        )
    if chosen.type == "cuda" and devices > (count := build.gpus()):
        raise AgmbenchError(f"--devices {devices}: this machine shows {count} GPU{'s' * (count > 1)}; take no more")
    words = click.get_current_context().meta[WORDS]
    if status := started(devices, main, ["run", *words]):
        sys.exit(status)
    return True


@contextmanager
def _together(device: "torch.device") -> Iterator[bool]:
    """Inside, this process is one of those that train the job, if there are several; whether it is the first, which alone speaks."""
    from agmbench.distributed.ranks import called_for, joined

    if called_for() == 1:
        yield True
        return
    with joined(device) as ranks:
        yield ranks.first


def _wanted(registry: Registry, no_strength: bool) -> "list[Measure]":
    """The metrics by which the run is measured: all, or only those that need no unimodal models."""
    from agmbench.measures import measures, of_one_run

    return of_one_run(registry) if no_strength else measures(registry)


BESIDE_A_JOB = {
    "job_file",
    "device",
    "devices",
    "no_strength",
    "dry_run",
    "profile",
    "quiet",
    "force",
    "data_root",
}  # options that do not describe the job


def _alone(option: str) -> None:
    """Raise if another option describes the job as well."""
    context = click.get_current_context()
    given = [name for name in context.params if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE]
    if also := [name for name in given if name not in BESIDE_A_JOB]:
        raise AgmbenchError(
            f"{option} already defines the job; remove {', '.join('--' + name.replace('_', '-') for name in also)}"
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
