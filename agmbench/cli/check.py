"""`agmbench check`."""

import sys
from contextlib import redirect_stdout

import click

from agmbench.cli.options import component_argument, registry_option
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import RunFailed
from agmbench.registry import load


@click.command("check", cls=Verb)
@component_argument
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A parameter of it; repeatable.")
@registry_option
def command(component: tuple[str, str], settings: tuple[str, ...]) -> None:
    """The conformance checks of a component, built in or not; exit status 1 if one fails.

    A line a check: what was found, which promise is broken with the numbers, or why it was skipped.
    """
    entry = load().get(*component)
    from agmbench.jobs import parse_settings
    from agmbench.testing import check_entry, report

    with redirect_stdout(sys.stderr):  # whatever the component prints
        checks = check_entry(entry, dict(parse_settings(settings)))
    echo(report(checks))
    if failed := [check.name for check in checks if check.outcome == "failed"]:
        raise RunFailed(f"{entry} does not keep {', '.join(failed)}")
