"""`agmbench run`: its options, and whether they describe one job or several."""

from pathlib import Path
from typing import Unpack

import click

from agmbench.cli import one_job, several_jobs
from agmbench.cli.axes import axes_of, one_spec
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
from agmbench.errors import AgmbenchError


class Options(Place):
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
def command(**given: Unpack[Options]) -> None:
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
        _check_alone("--job")
        spec, parent, *_ = job_of(given["job_file"])
        one_job.carry_out(spec, given, label, parent)
    else:
        axes = axes_of(given)
        if all(len(values) <= 1 for values in axes.values()) and not _placed(given):
            one_job.carry_out(one_spec(axes, given), given, label)
        else:
            several_jobs.carry_out(axes, given, label)


def _run_name(text: str | None) -> str:
    if text is not None and not (text.isprintable() and 0 < len(text.strip()) <= 200):
        raise AgmbenchError(f"--name {text!r} should be one line of 1 to 200 characters")
    return text or ""


def _placed(given: Options) -> bool:
    """Whether an option says where jobs run, so that a launcher is needed."""
    return given["launcher"] != "local" or any(given[key] for key in Place.__annotations__ if key != "launcher")  # type: ignore[literal-required]


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


def _check_alone(option: str) -> None:
    """Raise if another option describes the job as well."""
    context = click.get_current_context()
    given = [name for name in context.params if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE]
    if also := [name for name in given if name not in BESIDE_A_JOB]:
        raise AgmbenchError(
            f"{option} already defines the job; remove {', '.join('--' + name.replace('_', '-') for name in also)}"
        )
