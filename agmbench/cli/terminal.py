"""Printing on the command line."""

import click

from agmbench.errors import printable


def echo(text: object = "", err: bool = False) -> None:
    """Write a line on standard output or standard error; it may hold someone else's text, which is made safe for a terminal."""
    click.echo(printable(str(text)), err=err)


def lasting(seconds: float) -> str:
    """A length of time in words: `45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
