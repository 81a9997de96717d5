"""`agmbench list`."""

import click

from agmbench.registry import KINDS, load


@click.command("list")
@click.argument("kind", required=False, type=click.Choice(KINDS))
def command(kind: str | None) -> None:
    """The registry: every data set, encoder, fusion, modulator and metric. Nothing they name is imported."""
    from rich.markup import escape
    from rich.table import Table

    from agmbench.report.grid import print_grid

    table = Table("kind", "name", "origin", "summary", box=None, pad_edge=False, header_style="bold")
    for entry in load().entries(kind):
        also = f" (also: {', '.join(entry.aliases)})" if entry.aliases else ""
        table.add_row(entry.kind, entry.name + also, entry.origin, escape(entry.summary))
    print_grid(table)
