"""`agmbench show`."""

import inspect
import json

import click

from agmbench.cli.options import component_argument, registry_option
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.registry import BUILT_IN, Entry, load


@click.command("show", cls=Verb)
@component_argument
@registry_option
def command(component: tuple[str, str]) -> None:
    """Show one component: its parameters, defaults, paper, and what it refuses."""
    import yaml

    entry = load().get(*component)
    target = entry.load()
    echo(f"{entry}: {entry.summary}")
    for label, text in _facts(entry).items():
        if text:
            echo(f"{label}: {text}")
    echo(f"\n{inspect.cleandoc(target.__doc__ or 'No description.')}\n")
    _parameters(entry)
    if entry.job:
        echo(f"\ndefaults of a job on this data set:\n{yaml.safe_dump(dict(entry.job), sort_keys=False).rstrip()}")


def _facts(entry: Entry) -> dict[str, str]:
    return {
        "also called": ", ".join(entry.aliases),
        "paper": entry.paper,
        "family": entry.family,
        "refuses": entry.refuses,
        "defined in": f"{entry.place} ({entry.target}, version {entry.version})",
        "origin": entry.origin if entry.origin != BUILT_IN else "",
    }


def _parameters(entry: Entry) -> None:
    from rich.markup import escape
    from rich.table import Table

    from agmbench.parameters import annotation, parameters
    from agmbench.report.grid import print_sentences

    schema = parameters(entry)
    if not schema.model_fields:
        echo("parameters: none")
        return
    table = Table("parameter", "takes", "default", "search", box=None, pad_edge=False, header_style="bold")
    table.columns[0].no_wrap = True
    rows = []
    for name, field in schema.model_fields.items():
        default = entry.params.get(name, "required" if field.is_required() else field.default)
        search = ", ".join(f"{key} {_typed(value)}" for key, value in entry.search.get(name, {}).items())
        takes = annotation(schema, name)
        table.add_row(*map(escape, (name, takes, _typed(default), search)))
        rows.append((name, (f"takes: {takes}", f"default: {_typed(default)}", f"search: {search}" if search else "")))
    print_sentences(table, [("parameters:", ()), *rows])


def _typed(value: object) -> str:
    """The value in the form in which it is written for `--set`."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
