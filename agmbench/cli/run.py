"""`agmbench run`."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import click

from agmbench.cli.config import Configured, config_option, dumped
from agmbench.cli.launchers import Place, launcher_options
from agmbench.cli.options import (
    Name,
    Seeds,
    entries_listed,
    listed,
    log_option,
    registry_option,
    root_option,
    states_option,
    tag_option,
    tags_of,
    workers_option,
)
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import WORDS
from agmbench.errors import AgmbenchError
from agmbench.registry import Registry, load

if TYPE_CHECKING:
    from agmbench.measures import Measure
    from agmbench.records import Label, Record
    from agmbench.suite import Planned


class Given(Place):
    """The options of the command."""

    dataset: tuple[str, ...]
    modulator: tuple[str, ...]
    fusion: tuple[str, ...]
    encoders: tuple[str, ...]
    seed: int | None
    seeds: tuple[int, ...] | None
    epochs: int | None
    accumulate: int | None
    precision: str | None
    limit: int | None
    settings: tuple[str, ...]
    device: str
    devices: int | None
    no_strength: bool
    job_file: Path | None
    name: str | None
    tags: tuple[str, ...]
    dry_run: bool
    dump_config: bool
    profile: bool
    quiet: bool
    verbose: bool
    log_format: str
    force: bool


@click.command("run", cls=Configured)
@click.option(
    "-d",
    "--dataset",
    type=Name("dataset"),
    default="avmnist-mini",
    show_default=True,
    callback=entries_listed("dataset"),
    help="Data set, or the file with its entry; several, separated by commas.",
)
@click.option(
    "-m",
    "--modulator",
    type=Name("modulator"),
    default="agm",
    show_default=True,
    callback=listed,
    help="Modulator; several, separated by commas.",
)
@click.option(
    "-f",
    "--fusion",
    type=Name("fusion"),
    callback=listed,
    help="Fusion; several, separated by commas. [default: the data set's]",
)
@click.option(
    "-e", "--encoder", "encoders", multiple=True, metavar="MODALITY=NAME", help="Encoder of one modality; repeatable."
)
@click.option("--seed", type=int, help="Seed. [default: 999, the paper's]")
@click.option("--seeds", type=Seeds(), help="Several seeds: how many (5, for 1 to 5), a range (3-7) or a list (1,4,8-10).")
@click.option("--epochs", type=int, help="Epochs. [default: the data set's]")
@click.option("--accumulate", type=int, help="Batches per optimizer step. [default: 1]")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="Number format of the training passes. [default: fp32]"
)
@click.option("--limit", type=int, help="Use at most this many samples per split, to try a job quickly. [default: all]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:i.")
@click.option(
    "--devices",
    type=click.IntRange(1),
    help="Number of processes that train this job together, each on its own GPU. [default: 1]",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a parameter, such as modulator.alpha=2; repeatable. 1,2 stands for two values and so for two jobs, [1, 2] for one "
    "value that is a list.",
)
@workers_option
@states_option
@root_option
@registry_option
@click.option("--no-strength", is_flag=True, help="Skip competition strength and the runs of unimodal models that it needs.")
@click.option(
    "--job",
    "job_file",
    type=click.Path(path_type=Path),
    help="A job file (the job.yaml of a run); replaces all options that describe the job.",
)
@config_option
@click.option("--dump-config", is_flag=True, help="Print these options as a file for --config, and run nothing.")
@click.option("--name", help="Name of the run in MLflow. [default: made from the job]")
@tag_option
@click.option("--jobs", type=click.IntRange(min=1), help="How many of several jobs run at once. [default: the launcher's]")
@launcher_options
@click.option("--dry-run", is_flag=True, help="Show the job and what it will need, or the list of jobs; run nothing.")
@click.option("--profile", is_flag=True, help="Trace a few training steps of this job, and show where their time goes.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress; print only warnings and the result.")
@click.option("-v", "--verbose", is_flag=True, help="Show every metric on valid after each epoch.")
@log_option
@click.option("--force", is_flag=True, help="Train this job and its references again, even if they are done.")
def command(**given: Unpack[Given]) -> None:
    """Train one job and its unimodal reference models, and log them to MLflow.

    If options name several values (-m joint,agm --seeds 5), there is one job for each combination. They run like a suite: each job in
    its own process, and at the end a table compares them.
    """
    from agmbench.jobs import job_of
    from agmbench.records import Label

    label = Label(_run_name(given["name"]), tags_of(given["tags"]))
    if given["dump_config"]:
        if given["job_file"] is not None:
            raise AgmbenchError(
                "--dump-config cannot be used with --job: a job file is already complete; leave one of them out"
            )
        echo(dumped())
    elif given["job_file"] is not None:
        _alone("--job")
        spec, parent, *_ = job_of(given["job_file"])
        _one(spec, given, label, parent)
    else:
        axes = _axes(given)
        if all(len(values) <= 1 for values in axes.values()) and not _placed(given):
            _one(_composed(axes, given), given, label)
        else:
            _several(axes, given, label)


def _run_name(text: str | None) -> str:
    if text is not None and not (text.isprintable() and 0 < len(text.strip()) <= 200):
        raise AgmbenchError(f"--name {text!r} should be one line of 1 to 200 characters")
    return text or ""


def _axes(given: Given) -> dict[str, Sequence[Any]]:
    """The values of everything that may have several, by option or, of a setting, its key."""
    from agmbench.jobs import parse_ranges

    named: dict[str, Any] = {"training.epochs": given["epochs"], "training.accumulate": given["accumulate"]}
    named |= {"training.precision": given["precision"], "seed": given["seed"], "limit": given["limit"]}
    settings = parse_ranges(given["settings"], named)
    seeds = given["seeds"]
    if seeds and "seed" in settings:
        raise AgmbenchError("--seeds and --seed (or --set seed) both set the seed; leave one of them out")
    known = load()
    modulators = [known.get("modulator", name).name for name in given["modulator"]]
    fusions = [known.get("fusion", name).name for name in given["fusion"]]
    datasets = [known.get("dataset", name).name for name in given["dataset"]]
    return {"dataset": datasets, "modulator": modulators, "fusion": fusions, **settings, **({"seed": seeds} if seeds else {})}


AXES = ("dataset", "modulator", "fusion")  # of components; all others are settings


def _composed(axes: Mapping[str, Sequence[Any]], given: Given) -> Any:
    """The one job of axes that have no several values."""
    from agmbench.jobs import compose

    dataset, modulator, fusion = (next(iter(axes[kind]), None) for kind in AXES)
    settings = [(key, values[0]) for key, values in axes.items() if key not in AXES]
    return compose(load(), str(dataset), str(modulator), fusion, _encoders(given), settings)


def _encoders(given: Given) -> dict[str, str]:
    from agmbench.jobs.texts import pairs

    return pairs("--encoder", given["encoders"], "modality=name, such as audio=resnet")


def _placed(given: Given) -> bool:
    """Whether it was said where jobs run, which is for launchers."""
    return given["launcher"] != "local" or any(given[key] for key in Place.__annotations__ if key != "launcher")  # type: ignore[literal-required]


FOR_ONE = ("devices", "no_strength", "profile", "force")  # options that only one job by itself can have


def _several(axes: Mapping[str, Sequence[Any]], given: Given, label: "Label") -> None:
    """Every combination as a job of a suite that has no file, and the table that compares them."""
    from agmbench import suite
    from agmbench.cli.batches import carried_out, ended, recorded, told
    from agmbench.cli.tables import tabled
    from agmbench.jobs import digest
    from agmbench.registry.entry import check_name
    from agmbench.report.terminal import show
    from agmbench.trackers.mlflow import MlflowTracker

    if wrong := [key for key in FOR_ONE if given[key]] + ["device"] * (given["device"] != "auto"):  # type: ignore[literal-required]
        raise AgmbenchError(
            f"--{wrong[0].replace('_', '-')} needs a single job that runs in this process; leave it out, or name only one job"
        )
    if label.name:
        check_name(label.name, "--name of several jobs")
    planned = suite.checked(_product(axes, given))
    if all(one.skipped for one in planned):
        raise AgmbenchError(planned[0].skipped)
    name = label.name or f"run-{digest(sorted(one.label for one in planned))[:8]}"
    if given["dry_run"]:
        for one in planned:
            echo(f"{one.label}{f': skipped, {one.skipped}' if one.skipped else ''}")
        echo(f"{len(planned)} jobs, {sum(bool(one.skipped) for one in planned)} skipped")
        return
    tracker = MlflowTracker()
    found, failure = carried_out(name, planned, tracker, given, label.tags, given["quiet"], given["log_format"] == "json")
    echo("\n".join(told(name, found)), err=True)
    show(*tabled(recorded(found, tracker, label.tags), load()))
    ended(failure)


def _product(axes: Mapping[str, Sequence[Any]], given: Given) -> "list[Planned]":
    from agmbench.suite import Block, Suite, plan

    settings = {key: list(values) for key, values in axes.items() if key not in (*AXES, "seed")}
    for seed in (seeds := tuple(axes.get("seed", (999,)))):
        if not isinstance(seed, int) or seed < 0:
            raise AgmbenchError(f"'seed' is {seed!r}: should be a whole number, 0 or more")
    dataset, modulator, fusion = (tuple(axes[kind]) for kind in AXES)
    block = Block(dataset=dataset, modulator=modulator, fusion=fusion or (None,), encoder=_encoders(given), set=settings)
    return plan(Suite(name="run", seeds=seeds, jobs=(block,)), load())


def _one(spec: Any, given: Given, label: "Label", parent: str | None = None) -> None:
    """One job, in this process."""
    if given["dry_run"]:
        _describe(spec, given)
        return
    if _on_several(given["devices"], given["device"]):
        return

    from agmbench import build
    from agmbench.cli.watcher import Watcher
    from agmbench.distributed.told import told
    from agmbench.execute import execute
    from agmbench.trackers.mlflow import MlflowTracker

    registry, tracker = load(), MlflowTracker()
    chosen = build.device(given["device"])
    shown = {"verbose": given["verbose"], "as_json": given["log_format"] == "json"}
    with _together(chosen) as first, Watcher(given["quiet"] or not first, **shown) as watcher:
        record = execute(
            spec,
            registry,
            told(tracker),
            chosen,
            watcher,
            _wanted(registry, given["no_strength"]),
            given["force"],
            parent,
            profile=given["profile"] and first,
            label=label,
        )
    if not first:
        return
    if given["profile"] and watcher.trained:
        with tracker.artifact(record, "profile/parts.txt") as path:
            echo(path.read_text().rstrip(), err=True)
    _show(record, registry, tracker.shown, watcher.trained)


def _on_several(devices: int | None, device: str) -> bool:
    """Have the job trained by several processes, if there should be some and this is not one of them; whether that was done."""
    from agmbench import build
    from agmbench.cli import main
    from agmbench.distributed.ranks import called_for, one_device
    from agmbench.distributed.start import started

    if (size := called_for()) > 1:
        if devices not in (None, size):
            raise AgmbenchError(f"--devices {devices}: this process was already started as one of {size}; remove --devices")
        one_device()
        return False
    if devices in (None, 1):
        return False
    chosen = build.device(device)
    if chosen.index is not None:
        raise AgmbenchError(
            f"--devices {devices} uses the first GPUs that are visible; choose them with CUDA_VISIBLE_DEVICES instead of --device"
        )
    if chosen.type == "cuda" and devices > (count := build.gpus()):
        raise AgmbenchError(f"--devices {devices}: this machine has only {count} GPU{'s' * (count > 1)}; ask for no more")
    words = click.get_current_context().meta[WORDS]
    if status := started(devices, main, ["run", *words]):
        sys.exit(status)
    return True


@contextmanager
def _together(device: Any) -> Iterator[bool]:
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
    "name",
    "tags",
    "verbose",
    "log_format",
}  # options that do not describe the job


def _alone(option: str) -> None:
    """Raise if another option describes the job as well."""
    context = click.get_current_context()
    given = [name for name in context.params if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE]
    if also := [name for name in given if name not in BESIDE_A_JOB]:
        raise AgmbenchError(
            f"{option} already defines the job; remove {', '.join('--' + name.replace('_', '-') for name in also)}"
        )


def _describe(spec: Any, given: Given) -> None:
    """The job in full, what it will need, and which jobs are done. Imports no more than that takes."""
    import yaml

    from agmbench import build
    from agmbench.cli.needs import needs

    device = build.device(given["device"])
    job = build.resolve(spec, load())
    build.augmentation(job)
    lines = [*needs(job, device)]
    echo(yaml.safe_dump(job.spec.canonical(), sort_keys=False).rstrip())
    for line in lines:
        echo(f"# {line}")
    references = {} if given["no_strength"] else build.references(job)
    for planned, what in ((job, "this job"), *((one, f"reference of {modality}") for modality, one in references.items())):
        echo(f"# {what}: digest {planned.digest}, {'done' if _is_done(planned.digest) else 'to be trained'}")


def _is_done(digest: str) -> bool:
    """Whether the store has the job. Where there is no store yet, MLflow need not be imported, which takes a second."""
    if not os.environ.get("MLFLOW_TRACKING_URI") and not Path("runs/mlflow.db").exists():
        return False
    from agmbench.trackers.mlflow import MlflowTracker

    return MlflowTracker().find(digest) is not None


def _show(record: "Record", registry: Registry, uri: str, trained: bool) -> None:
    from agmbench.cli.tables import tabled
    from agmbench.report.terminal import show

    if not trained:
        echo(f"'{record.name}' is done already (digest {record.digest}); --force trains it again", err=True)
    show(*tabled([record], registry))
    echo(f"MLflow run {record.run_id} in {uri}", err=True)
