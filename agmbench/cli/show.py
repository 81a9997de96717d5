"""`agmbench show`."""

import inspect

import click

from agmbench.cli.options import registry_option
from agmbench.registry import BUILT_IN, KINDS, Entry, load


@click.command("show")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@registry_option
def command(kind: str, name: str) -> None:
    """One entry: its parameters, defaults, paper, and what it refuses."""
    import yaml

    entry = load().get(kind, name)
    target = entry.load()
    facts = {
        "also called": ", ".join(entry.aliases),
        "paper": entry.paper,
        "refuses": entry.refuses,
        "defined in": f"{entry.place} ({entry.target}, version {entry.version})",
        "origin": entry.origin if entry.origin != BUILT_IN else "",
    }
    click.echo(f"{entry}: {entry.summary}")
    for label, text in facts.items():
        if text:
            click.echo(f"{label}: {text}")
    click.echo(f"\n{inspect.cleandoc(target.__doc__ or 'No description.')}\n")
    _parameters(entry)
    if entry.job:
        click.echo(f"\ndefaults of a job on it:\n{yaml.safe_dump(dict(entry.job), sort_keys=False).rstrip()}")


def _parameters(entry: Entry) -> None:
    from rich.table import Table

    from agmbench.build import annotation, parameters
    from agmbench.report.grid import print_grid

    schema = parameters(entry)
    if not schema.model_fields:
        click.echo("parameters: none")
        return
    table = Table("parameter", "takes", "default", "search", box=None, pad_edge=False, header_style="bold")
    for name, field in schema.model_fields.items():
        default = entry.params.get(name, "required" if field.is_required() else field.default)
        search = ", ".join(f"{key} {value}" for key, value in entry.search.get(name, {}).items())
        table.add_row(name, annotation(schema, name), "null" if default is None else str(default), search)
    print_grid(table)
