"""What the command line says."""

import click

from agmbench.errors import printable


def echo(text: object = "", err: bool = False) -> None:
    """A line, most of which may be a stranger's, on standard output or standard error."""
    click.echo(printable(str(text)), err=err)


def lasting(seconds: float) -> str:
    """A length of time to read: `45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
