"""What the command line says."""

import click

from agmbench.errors import printable


def echo(text: object = "", err: bool = False) -> None:
    """A line, most of which may be a stranger's, on standard output or standard error."""
    click.echo(printable(str(text)), err=err)
