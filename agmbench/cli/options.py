"""Options that several verbs share."""

import os
import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict

import click
from click.shell_completion import CompletionItem

from agmbench.errors import AgmbenchError, allowed
from agmbench.registry import KINDS, load
from agmbench.registry.doors import VARIABLE, own_names

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
ENTRIES = (".yaml", ".yml")


def own_registry(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """`--registry` sets `AGMBENCH_REGISTRY` for this process and its children."""
    if value is not None:
        os.environ[VARIABLE] = str(Path(value).absolute())


registry_option = click.option(
    "--registry",
    metavar="FILE",
    callback=own_registry,
    expose_value=False,
    is_eager=True,
    help="A registry file of your own, read in addition to the others. It replaces AGMBENCH_REGISTRY.",
)


def own_entry(kind: str, value: str) -> str:
    """The name of a data set or suite. If `value` is a file with an entry, such as `agmbench data describe` writes, it is the name in that
    file, which is added to the registry."""
    if not value.endswith((*TABLES, *ENTRIES)) or value in load().names(kind):
        return value
    path = Path(value).absolute()
    if value.endswith(TABLES):
        entry = path.with_suffix(".yaml").name
        raise AgmbenchError(
            f"{value} is a table, and an entry is expected; 'agmbench data describe {value}' writes {entry}: name that file instead"
        )
    if not path.is_file():
        raise AgmbenchError(f"there is no file {value}; 'agmbench data describe TABLE' writes one")
    known = [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    if known and os.pathsep in f"{path}":
        raise AgmbenchError(
            f"{value}: a path with '{os.pathsep}' cannot be read together with another registry; rename the folder or the file"
        )
    names = own_names(path, kind)
    if len(names) != 1:
        raise AgmbenchError(
            f"{value} has {len(names)} {kind}s ({', '.join(names) or 'none'}) and should have one; give the file as --registry "
            f"{value}, and the name of the {kind} here"
        )
    if str(path) not in known:
        os.environ[VARIABLE] = os.pathsep.join([*known, str(path)])
    return names[0]


def entry_of(kind: str) -> Any:
    """The callback of an option or argument that names a data set or a suite."""

    def callback(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
        return tuple(own_entry(kind, one) for one in value) if isinstance(value, tuple) else value and own_entry(kind, value)

    return callback


def listed(ctx: click.Context, parameter: click.Parameter, value: Any) -> tuple[str, ...]:
    """The names of an option that takes several, separated by commas; a name that occurs twice is taken once."""
    texts = value if isinstance(value, tuple) else (value,) if value else ()
    names = [name.strip() for text in texts for name in text.split(",")]
    if "" in names:
        raise AgmbenchError(f"{parameter.opts[-1]} {value}: a name is missing before or after a comma")
    return tuple(dict.fromkeys(names))


def entries_listed(kind: str) -> Any:
    """The callback of an option that takes several names of this kind, separated by commas; each may also be the file with its entry."""

    def callback(ctx: click.Context, parameter: click.Parameter, value: Any) -> tuple[str, ...]:
        whole = value is not None and value.endswith(ENTRIES) and Path(value).is_file()
        return tuple(own_entry(kind, one) for one in ((value,) if whole else listed(ctx, parameter, value)))

    return callback


KEY = re.compile(r"\w[\w.-]{0,99}")  # what the key of a tag may be, because it becomes part of a filter of MLflow


def tags_of(texts: Iterable[str]) -> dict[str, str]:
    """The tags of `--tag KEY=VALUE`."""
    from agmbench.jobs.texts import pairs

    found = pairs("--tag", texts, "key=value, such as machine=a100")
    for key, value in found.items():
        if not KEY.fullmatch(key) or len(value) > 1000:
            raise AgmbenchError(
                f"--tag {key}: a key should have at most 100 characters (letters, digits, '.', '_', '-') and a value at most 1000"
            )
    return found


log_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Format of the progress on standard error; json: one object per line.",
)


tag_option = click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="KEY=VALUE",
    help="A tag for the runs, by which agmbench compare --tag finds them; repeatable.",
)


class Day(click.ParamType[int]):
    """A day or a time by this machine's clock, converted to milliseconds since 1970. A day stands for its beginning or, with `last`, for
    its end."""

    name = "date"

    def __init__(self, last: bool = False) -> None:
        self.last = last

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"'{value}' should be a date, such as 2026-11-30, or a time, such as '2026-11-30 14:00'", param, ctx)
        if self.last and len(value.strip()) <= len("2026-11-30"):
            found += timedelta(days=1, milliseconds=-1)
        return int(found.timestamp() * 1000)


class Filters(TypedDict):
    """Which runs of the store a command takes, as given by `filter_options`; what is empty or `None` excludes no run."""

    dataset: str | None
    modulators: tuple[str, ...]
    fusions: tuple[str, ...]
    seeds: tuple[int, ...]
    tags: tuple[str, ...]
    since: int | None
    until: int | None
    samples: bool


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that takes some of the runs in the store."""
    several = "several, separated by commas. [default: all]"
    day = "2026-11-30, or '2026-11-30 14:00'"
    for option in reversed(
        (
            click.option(
                *("-d", "--dataset"),
                type=Name("dataset"),
                callback=entry_of("dataset"),
                help="Data set, or the file with its entry. [default: all]",
            ),
            click.option(
                *("-m", "--modulator", "modulators"),
                type=Name("modulator"),
                multiple=True,
                callback=listed,
                help=f"Modulator; {several}",
            ),
            click.option(
                *("-f", "--fusion", "fusions"), type=Name("fusion"), multiple=True, callback=listed, help=f"Fusion; {several}"
            ),
            click.option("--seed", "seeds", type=int, multiple=True, help="Seed; repeatable. [default: all]"),
            click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Only runs with this tag; repeatable."),
            click.option("--since", type=Day(), metavar="DATE", help=f"Only runs that began on this day or later: {day}."),
            click.option("--until", type=Day(last=True), metavar="DATE", help="Only runs that began on this day or earlier."),
            click.option("--samples", is_flag=True, help="Include runs on random data (agmbench data sample)."),
        )
    ):
        command = option(command)
    return command


class Seeds(click.ParamType[tuple[int, ...]]):
    """Several seeds: how many (5, for 1 to 5), a range (3-7), or a list of seeds and ranges (1,4,8-10)."""

    name = "seeds"
    MOST = 10_000

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", part) for part in value.split(",")]
        ranges = [(int(part[1]), int(part[2] or part[1])) for part in parts if part]
        if len(ranges) == 1 and parts[0] and parts[0][2] is None:
            ranges = [(1, ranges[0][1])]
        if len(ranges) < len(parts) or not all(0 <= last - first < self.MOST for first, last in ranges):
            self.fail(f"'{value}' should be a count (5, for seeds 1 to 5), a range (3-7) or a list (1,4,8-10)", param, ctx)
        return tuple(dict.fromkeys(seed for first, last in ranges for seed in range(first, last + 1)))


def data_root(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """`--data-root` sets `AGMBENCH_DATA` for this process and its children."""
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
    help="Folder of the data sets. It replaces AGMBENCH_DATA. [default: ~/.cache/agmbench/data]",
)


def states(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """`--states` sets `AGMBENCH_STATES` for this process and its children."""
    if value is not None:
        if not Path(value).is_dir():
            raise AgmbenchError(f"--states {value}: there is no such folder")
        if not os.access(value, os.W_OK):
            raise AgmbenchError(f"--states {value}: this folder is not writable; name one that is")
        os.environ["AGMBENCH_STATES"] = str(Path(value).absolute())


states_option = click.option(
    "--states",
    metavar="DIR",
    callback=states,
    expose_value=False,
    help="A folder that all machines share, where the states of unfinished jobs are kept. It replaces AGMBENCH_STATES. "
    "[default: beside the store if that is a file, otherwise in the store]",
)


def workers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """`--workers` sets `AGMBENCH_WORKERS` for this process and its children."""
    from agmbench.workers import VARIABLE, requested

    if value is not None:
        os.environ[VARIABLE] = value
    requested()


workers_option = click.option(
    "--workers",
    metavar="auto|N",
    callback=workers,
    expose_value=False,
    help="Processes that read data ahead of training; the results are the same for any number. [default: auto, which is up to 8 "
    "with a GPU and none without]",
)


class Kind(click.Choice[str]):
    """A kind of component, in the singular or the plural (`modulators`)."""

    def __init__(self) -> None:
        super().__init__(KINDS, case_sensitive=False)

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if (kind := _singular(value)).lower() not in KINDS:
            raise AgmbenchError(f"no kind '{value}': {allowed(kind, KINDS)}")
        return super().convert(kind, param, ctx)


def _singular(kind: str) -> str:
    return kind[:-1] if kind.lower().removesuffix("s") in KINDS and kind.lower().endswith("s") else kind


class Name(click.ParamType[str]):
    """The name of a component of one kind; the shell can complete it."""

    name = "name"

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, begun = incomplete.rpartition(",")  # of a list of names, only the last one is completed
        return [CompletionItem(before + comma + name) for name in load().names(self.kind) if name.startswith(begun)]


class _Component(click.Argument):
    """The kind and the name of a component: `modulator/agm`, or in two words `modulator agm`."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> tuple[str, str] | None:
        if not value:
            return None
        text = "/".join(value)
        kind, _, name = text.partition("/")
        kind = _singular(kind).lower()
        if not name:
            known = load()
            near = [f"{of}/{text}" for of in KINDS if text in known.names(of)]
            hint = f"did you mean {' or '.join(near)}?" if near else f"KIND is one of {', '.join(KINDS)}"
            raise AgmbenchError(f"'{text}' should be KIND/NAME, such as modulator/agm; {hint}")
        if kind not in KINDS:
            raise AgmbenchError(f"no kind '{kind}' in '{text}': {allowed(kind, KINDS)}")
        return kind, name

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        known = (f"{kind}/{name}" for kind in KINDS for name in load().names(kind))
        return [CompletionItem(name) for name in known if name.startswith(incomplete)]


component_argument = click.argument("component", cls=_Component, metavar="KIND/NAME", nargs=-1, required=True)
