"""Options that several verbs share."""

import os
from pathlib import Path

import click


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
