"""Options that several verbs share."""

import os
from pathlib import Path
from typing import Any

import click

from agmbench.errors import AgmbenchError, allowed
from agmbench.registry import KINDS, load
from agmbench.registry.doors import VARIABLE, own_names

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
ENTRIES = (".yaml", ".yml")


def own_registry(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """`--registry`: what `AGMBENCH_REGISTRY` is for this process and those that it starts."""
    if value is not None:
        os.environ[VARIABLE] = str(Path(value).absolute())


registry_option = click.option(
    "--registry",
    metavar="FILE",
    callback=own_registry,
    expose_value=False,
    is_eager=True,
    help="A registry of your own beside the others, in place of AGMBENCH_REGISTRY.",
)


def own_entry(kind: str, value: str) -> str:
    """The name of a data set or suite; of a file that `agmbench data describe` wrote, the one in it, which is then known."""
    if not value.endswith((*TABLES, *ENTRIES)) or value in load().names(kind):
        return value
    path = Path(value).absolute()
    if value.endswith(TABLES):
        entry = path.with_suffix(".yaml").name
        raise AgmbenchError(
            f"{value} is a table and no entry; 'agmbench data describe {value}' writes {entry}, which takes its place"
        )
    if not path.is_file():
        raise AgmbenchError(f"there is no file {value}; 'agmbench data describe TABLE' writes one")
    known = [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    if known and os.pathsep in f"{path}":
        raise AgmbenchError(f"{value}: a path with '{os.pathsep}' cannot stand beside another registry; rename a folder")
    names = own_names(path, kind)
    if len(names) != 1:
        raise AgmbenchError(
            f"{value} has {len(names)} {kind}s ({', '.join(names) or 'none'}); name one, with --registry {value}"
        )
    if str(path) not in known:
        os.environ[VARIABLE] = os.pathsep.join([*known, str(path)])
    return names[0]


def entry_of(kind: str) -> Any:
    """What an option or an argument that names a data set or a suite is passed through."""

    def callback(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
        return tuple(own_entry(kind, one) for one in value) if isinstance(value, tuple) else value and own_entry(kind, value)

    return callback


def data_root(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """`--data-root`: what `AGMBENCH_DATA` is for this process and those that it starts."""
    if value is not None:
        if not Path(value).is_dir():
            raise AgmbenchError(f"--data-root {value}: there is no such folder")
        os.environ["AGMBENCH_DATA"] = value


root_option = click.option(
    "--data-root",
    metavar="DIR",
    callback=data_root,
    expose_value=False,
    is_eager=True,
    help="Where data sets are, in place of AGMBENCH_DATA. [default: ~/.cache/agmbench/data]",
)


def workers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """`--workers`: what `AGMBENCH_WORKERS` is for this process and those that it starts."""
    from agmbench.workers import VARIABLE, asked

    if value is not None:
        os.environ[VARIABLE] = value
    asked()


workers_option = click.option(
    "--workers",
    metavar="auto|N",
    callback=workers,
    expose_value=False,
    help="Processes that read data ahead of training; no number depends on it. [default: auto, up to 8 on a GPU, none on a CPU]",
)


class _Component(click.Argument):
    """Kind and name of a component: `modulator/agm`, or the same in two words."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> tuple[str, str] | None:
        if not value:
            return None
        text = "/".join(value)
        kind, _, name = text.partition("/")
        if not name:
            known = load()
            near = [f"{of}/{text}" for of in KINDS if text in known.names(of)]
            hint = f"did you mean {' or '.join(near)}?" if near else f"KIND is one of {', '.join(KINDS)}"
            raise AgmbenchError(f"'{text}' should be KIND/NAME, such as modulator/agm; {hint}")
        if kind not in KINDS:
            raise AgmbenchError(f"no kind '{kind}' in '{text}': {allowed(kind, KINDS)}")
        return kind, name


component_argument = click.argument("component", cls=_Component, metavar="KIND/NAME", nargs=-1, required=True)
