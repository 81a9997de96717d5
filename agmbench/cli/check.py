"""`agmbench check`."""

import sys
from contextlib import redirect_stdout

import click

from agmbench.cli.options import registry_option
from agmbench.errors import AgmbenchError, RunFailed, allowed
from agmbench.registry import KINDS, Entry, load


@click.command("check")
@click.argument("component", metavar="KIND/NAME")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A parameter of it; repeatable.")
@registry_option
def command(component: str, settings: tuple[str, ...]) -> None:
    """The conformance checks of a component, built in or not; exit status 1 if one fails.

    A line a check: what was found, which promise is broken with the numbers, or why it was skipped.
    """
    entry = _entry(component)
    from agmbench.jobs import parse_settings
    from agmbench.testing import check_entry, report

    with redirect_stdout(sys.stderr):  # whatever the component prints
        checks = check_entry(entry, dict(parse_settings(settings)))
    click.echo(report(checks))
    if failed := [check.name for check in checks if check.outcome == "failed"]:
        raise RunFailed(f"{entry} does not keep {', '.join(failed)}")


def _entry(component: str) -> Entry:
    kind, _, name = component.partition("/")
    if not name:
        raise AgmbenchError(f"'{component}' should be KIND/NAME, such as modulator/agm; KIND is one of {', '.join(KINDS)}")
    if kind not in KINDS:
        raise AgmbenchError(f"no kind '{kind}' in '{component}': {allowed(kind, KINDS)}")
    return load().get(kind, name)
