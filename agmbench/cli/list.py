"""`agmbench list`."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator

import click

from agmbench.cli.options import Kind, registry_option
from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.registry import BUILT_IN, Broken, Entry, load


@click.command("list", cls=Verb)
@click.argument("kind", required=False, type=Kind())
@click.option(
    "--imports",
    is_flag=True,
    help="Also import every entry that is not built in, each in its own process, to find broken ones.",
)
@registry_option
def command(kind: str | None, imports: bool) -> None:
    """List every data set, transform, encoder, fusion, modulator, metric and launcher, and the entries that are broken.

    The components are not imported, unless you add --imports.
    """
    registry = load()
    entries, broken = registry.entries(kind), [one for one in registry.broken if not kind or one.kind in (kind, "")]
    if imports:
        broken += _failing(entries)
    names = {(one.kind, one.name) for one in broken}
    _print(entry for entry in entries if (entry.kind, entry.name) not in names)
    if broken:
        echo("\nBroken entries (other jobs are unaffected):")
    for one in broken:
        what = f"{one.kind}/{one.name}" if one.name else "file"
        echo(f"  {what} ({one.origin}): {one.reason}")


def _print(entries: Iterable[Entry]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from agmbench.report.grid import print_sentences

    table = Table("kind", "name", "origin", "summary", box=None, pad_edge=False, header_style="bold")
    table.columns[1].no_wrap = True
    rows = []
    for entry in entries:
        also = f" (also: {', '.join(entry.aliases)})" if entry.aliases else ""
        table.add_row(entry.kind, escape(entry.name), escape(entry.origin), escape(entry.summary + also))
        origin = f"origin: {entry.origin}" if entry.origin != BUILT_IN else ""
        rows.append((f"{entry}{also}", (entry.summary, origin)))
    print_sentences(table, rows)


def _failing(entries: Iterable[Entry]) -> Iterator[Broken]:
    """The entries that are not built in and for which `agmbench show` fails, each with the reason."""
    for entry in entries:
        if entry.origin != BUILT_IN:
            words = [sys.executable, "-P", "-m", "agmbench", "show", entry.kind, entry.name]
            path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # so that it finds the same modules as this process
            shown = subprocess.run(words, env={**os.environ, **path}, capture_output=True, text=True, check=False)
            if shown.returncode:
                told = shown.stderr.strip().splitlines() or [f"its import ended the process with status {shown.returncode}"]
                yield Broken(entry.kind, entry.name, entry.place, entry.origin, told[-1].removeprefix("error: "))
