"""Options that several verbs share."""

import os
from pathlib import Path
from typing import Any

import click

from agmbench.errors import AgmbenchError, allowed
from agmbench.registry import KINDS, load


def own_registry(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """`--registry`: what `AGMBENCH_REGISTRY` is for this process and those that it starts."""
    if value is not None:
        os.environ["AGMBENCH_REGISTRY"] = str(Path(value).absolute())


registry_option = click.option(
    "--registry",
    metavar="FILE",
    callback=own_registry,
    expose_value=False,
    is_eager=True,
    help="A registry of your own beside the others, in place of AGMBENCH_REGISTRY.",
)


def data_root(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """`--data-root`: what `AGMBENCH_DATA` is for this process and those that it starts."""
    if value is not None:
        if not Path(value).is_dir():
            raise AgmbenchError(f"--data-root {value}: there is no such folder")
        os.environ["AGMBENCH_DATA"] = value


root_option = click.option(
    "--data-root",
    metavar="DIR",
    callback=data_root,
    expose_value=False,
    is_eager=True,
    help="Where data sets are, in place of AGMBENCH_DATA. [default: ~/.cache/agmbench/data]",
)


def states(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """`--states`: what `AGMBENCH_STATES` is for this process and those that it starts."""
    if value is not None:
        if not Path(value).is_dir():
            raise AgmbenchError(f"--states {value}: there is no such folder")
        os.environ["AGMBENCH_STATES"] = str(Path(value).absolute())


states_option = click.option(
    "--states",
    metavar="DIR",
    callback=states,
    expose_value=False,
    help="A folder that all machines share, for the states of unfinished jobs, in place of AGMBENCH_STATES. "
    "[default: beside a store that is a file, else in the store]",
)


def workers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """`--workers`: what `AGMBENCH_WORKERS` is for this process and those that it starts."""
    from agmbench.workers import VARIABLE, asked

    if value is not None:
        os.environ[VARIABLE] = value
    asked()


workers_option = click.option(
    "--workers",
    metavar="auto|N",
    callback=workers,
    expose_value=False,
    help="Processes that read data ahead of training; no number depends on it. [default: auto, up to 8 on a GPU, none on a CPU]",
)


class _Component(click.Argument):
    """Kind and name of a component: `modulator/agm`, or the same in two words."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> tuple[str, str] | None:
        if not value:
            return None
        text = "/".join(value)
        kind, _, name = text.partition("/")
        if not name:
            known = load()
            near = [f"{of}/{text}" for of in KINDS if text in known.names(of)]
            hint = f"did you mean {' or '.join(near)}?" if near else f"KIND is one of {', '.join(KINDS)}"
            raise AgmbenchError(f"'{text}' should be KIND/NAME, such as modulator/agm; {hint}")
        if kind not in KINDS:
            raise AgmbenchError(f"no kind '{kind}' in '{text}': {allowed(kind, KINDS)}")
        return kind, name


component_argument = click.argument("component", cls=_Component, metavar="KIND/NAME", nargs=-1, required=True)
