"""The reference of the command line, made from its commands and options."""

from collections.abc import Iterator

import click

from pages.docstrings import prose


def page(command: click.Command, name: str) -> str:
    """The page of a command and of every command below it, with arguments and options."""
    return "\n\n".join(part for context in commands(command, name) for part in _section(context)) + "\n"


def commands(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """Yield the context of a command and of every command below it. Its `command_path` has the words that call it."""
    context = click.Context(command, info_name=name, parent=parent)
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            inner = command.get_command(context, below)
            assert inner is not None
            yield from commands(inner, below, context)


def _section(context: click.Context) -> Iterator[str]:
    command = context.command
    yield f"{'#' * len(context.command_path.split())} {context.command_path}"
    for paragraph in (command.help or "").split("\n\n"):
        yield prose(paragraph)
    yield f"```text\n{context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```"
    if rows := list(_options(context)):
        yield "\n".join(["| option | what it says |", "|---|---|", *rows])


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.params:  # these do not include --help, which every command has
        if record := parameter.get_help_record(context):
            names, text = record
            yield f"| `{names}` | {prose(text)} |"
