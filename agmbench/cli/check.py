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
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a parameter of the component; repeatable.")
@registry_option
def command(component: tuple[str, str], settings: tuple[str, ...]) -> None:
    """Check whether a component, built in or your own, keeps the promises of its kind. Exit status 1 if a check fails.

    Each check prints one line: what was found, which promise is broken and by how much, or why the check was skipped.
    """
    entry = load().get(*component)
    from agmbench.jobs import parse_settings
    from agmbench.testing import check_entry, report

    with redirect_stdout(sys.stderr):  # for whatever the component prints
        checks = check_entry(entry, dict(parse_settings(settings)))
    echo(report(checks))
    if failed := [check.name for check in checks if check.outcome == "failed"]:
        raise RunFailed(f"{entry} does not keep its promises: {', '.join(failed)}")
