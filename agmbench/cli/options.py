"""Options that several verbs share."""

import os
from pathlib import Path

import click

from agmbench.errors import AgmbenchError


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
