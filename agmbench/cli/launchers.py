"""The options that say where jobs run, and the launcher that they make."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click

from agmbench.cli.terminal import echo
from agmbench.errors import AgmbenchError
from agmbench.registry import load

if TYPE_CHECKING:
    from agmbench.launch import Launcher


class Place(TypedDict):
    """Where jobs run: the values of the options that `launcher_options` adds, and of `--jobs`."""

    launcher: str
    jobs: int | None
    gpus_per_job: float | None
    jobs_per_gpu: int | None
    cpus_per_job: int | None
    time: str | None
    partition: str | None
    slurm: tuple[str, ...]
    launch: tuple[str, ...]


NAMED = ("jobs", "gpus_per_job", "jobs_per_gpu", "cpus_per_job", "time", "partition")  # options of equally named parameters
OPTIONS = (
    click.option(
        "--launcher",
        default="local",
        show_default=True,
        metavar="NAME",
        help="Where jobs run: local, slurm, ray, or one of your own (agmbench list launcher).",
    ),
    click.option(
        "--gpus-per-job", type=click.FloatRange(min=0), metavar="N", help="GPUs for each job. [default: the launcher's]"
    ),
    click.option(
        "--jobs-per-gpu", type=click.IntRange(min=1), metavar="N", help="How many jobs share each GPU of this machine."
    ),
    click.option("--cpus-per-job", type=click.IntRange(min=1), metavar="N", help="CPU cores, and so threads, for each job."),
    click.option(
        "--time", metavar="LIMIT", help="Time limit of a job, as the launcher writes it. A job that reaches it is resumed."
    ),
    click.option("--partition", metavar="NAME", help="Partition of a Slurm cluster."),
    click.option("--slurm", multiple=True, metavar="KEY=VALUE", help="An option of sbatch, such as qos=low; repeatable."),
    click.option(
        "--launch",
        multiple=True,
        metavar="KEY=VALUE",
        help="A parameter of the launcher (agmbench show launcher NAME), such as address=HOST:6379; repeatable.",
    ),
)


def launcher_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add all these options except `--jobs`, which each verb defines itself because it means different things."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def launched(place: Place, folder: Path, store: str) -> "Launcher":
    """Make the launcher that the options ask for, and check that it can run jobs. `store` is the address of the store of runs."""
    from agmbench.jobs import digest
    from agmbench.launch import Launcher
    from agmbench.parameters import check_parameters

    entry = load().get("launcher", place["launcher"])
    given: dict[str, Any] = {key: value for key, value in place.items() if key in NAMED}
    given["slurm"] = _pairs("--slurm", place["slurm"], bare=True) or None
    if isinstance(gpus := given["gpus_per_job"], float) and gpus.is_integer():
        given["gpus_per_job"] = int(gpus)
    given = {key: value for key, value in given.items() if value is not None}
    target = entry.load()
    if not (inspect.isclass(target) and issubclass(target, Launcher)):
        raise AgmbenchError(
            f"{entry} ({entry.target}) should be a class that derives from agmbench.launch.Launcher; see {entry.place}"
        )
    found: Launcher = target(
        folder, digest(store)[:8], **check_parameters(entry, {**given, **_pairs("--launch", place["launch"])})
    )
    found.check()
    for note in found.notes():
        echo(f"note: {note}", err=True)
    return found


def _pairs(option: str, texts: Sequence[str], bare: bool = False) -> dict[str, Any]:
    """The values of `key=value` texts by key. Options of sbatch (`bare`) stay texts and may lack a value; others are read as in `--set`."""
    from agmbench.jobs import parse_settings

    pairs: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not (equals or bare):
            raise AgmbenchError(f"{option} {text}: should be key=value, such as {'qos=low' if bare else 'address=HOST:6379'}")
        pairs[key.lstrip("-")] = value if bare else dict(parse_settings([text]))[key]
    return pairs
