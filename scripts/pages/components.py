"""Makes a page for each entry of the registry, and a table of each kind."""

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from agmbench.contracts import Promises
from agmbench.parameters import annotation, parameters
from agmbench.registry import Entry, Registry
from pages.docstrings import described, prose

TITLES = {  # in the order of the menu
    "modulator": "Modulators",
    "dataset": "Data sets",
    "transform": "Transforms",
    "encoder": "Encoders",
    "fusion": "Fusions",
    "metric": "Metrics",
    "launcher": "Launchers",
}


def folder(kind: str) -> str:
    """The folder of the pages of a kind."""
    return f"components/{kind}s"


def table(registry: Registry, kind: str) -> str:
    """All entries of a kind side by side, without the columns that are empty for all of them."""
    rows = [("name", "what it is", "paper", "ranges of a sweep")]
    for entry in registry.entries(kind):
        name = ", ".join([f"[`{entry.name}`]({entry.name}.md)", *(f"`{alias}`" for alias in entry.aliases)])
        ranges = "<br>".join(f"`{parameter}` {_range(bounds)}" for parameter, bounds in entry.search.items())
        rows.append((name, prose(entry.summary), prose(entry.paper), ranges))
    filled = [column for column in zip(*rows, strict=True) if any(column[1:])]
    lines = [f"| {' | '.join(cells)} |" for cells in zip(*filled, strict=True)]
    return "\n".join([f"# {TITLES[kind]}", "", lines[0], "|---" * len(filled) + "|", *lines[1:]]) + "\n"


def page(entry: Entry, registry: Registry, root: Path) -> str:
    """The page of an entry. `root` is the folder to which the path of its registry file is relative."""
    return "\n\n".join(_sections(entry, registry, root)) + "\n"


def _sections(entry: Entry, registry: Registry, root: Path) -> Iterator[str]:
    target = entry.load()
    schema = parameters(entry)
    said = described(target.__doc__, schema.model_fields)
    yield f"# {entry.name}"
    yield f"{{.summary}}\n{prose(entry.summary)}"
    yield _facts(entry)
    yield from _titled("What it does", said.text)
    yield from _titled("Differences from the official code", said.official)
    yield from _titled("Parameters", _parameters(entry, schema))
    yield from _titled("Defaults on a data set", _by_dataset(entry, registry))
    yield from _titled("What it promises", _promises(target))
    yield from _titled("Defaults of a job on it", _job(entry, root))
    yield from _titled("Try it", _commands(entry))
    yield from _titled("Source", _source(target))


def _titled(title: str, body: str) -> Iterator[str]:
    if body:
        yield f"## {title}"
        yield body


def _facts(entry: Entry) -> str:
    facts = {
        "Paper": prose(entry.paper),
        "Refuses": prose(entry.refuses),
        "Also called": ", ".join(f"`{alias}`" for alias in entry.aliases),
        "Code": f"`{entry.target}`, version {entry.version}",
        "Named in": f"`{entry.place}` ({entry.origin})",
    }
    return "\n".join(f"- **{label}**: {text}" for label, text in facts.items() if text)


def _parameters(entry: Entry, schema: Any) -> str:
    """Type, default and range of each parameter, each followed by its meaning in the docstrings of the class and its bases."""
    meanings: dict[str, tuple[tuple[str, ...], str]] = {}
    target = entry.load()
    for owner in inspect.getmro(target) if inspect.isclass(target) else (target,):
        for group, text in described(owner.__doc__, schema.model_fields).meanings.items():
            for name in group:
                meanings.setdefault(name, (group, text))
    shown: list[str] = []
    written: set[str] = set()
    for name in schema.model_fields:
        group, text = meanings.get(name, ((name,), "Not described."))
        if name not in written:
            shown += [_term(entry, schema, group[0]), f":   {text[:1].upper()}{text[1:]}\n"]
            for other in group[1:]:  # MyST allows one term per definition
                shown += [_term(entry, schema, other), f":   See `{group[0]}`, which is explained with it.\n"]
            written.update(group)
    return "\n".join(shown) if shown else "None."


def _term(entry: Entry, schema: Any, name: str) -> str:
    field = schema.model_fields[name]
    default = entry.params.get(name, ... if field.is_required() else field.default)
    words = [f"`{name}`", prose(annotation(schema, name)), "required" if default is ... else f"default {_value(default)}"]
    if name in entry.search:
        words.append(f"swept over {_range(entry.search[name])}")
    return " · ".join(words)


def _value(value: object) -> str:
    """A value in the form that `--set` takes."""
    if isinstance(value, float):
        return f"`{value:.6g}`"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _range(bounds: Mapping[str, Any]) -> str:
    if {"low", "high"} <= bounds.keys():
        return f"{bounds['low']} to {bounds['high']}" + (", logarithmic" if bounds.get("log") else "")
    return ", ".join(f"{key} {value}" for key, value in bounds.items())


def _by_dataset(entry: Entry, registry: Registry) -> str:
    """A table of the data sets that have defaults of their own for this modulator."""
    rows = []
    for dataset in registry.entries("dataset") if entry.kind == "modulator" else ():
        given = dataset.job.get("modulators", {}).get(entry.name, {})
        if given:
            values = ", ".join(f"`{name}` {_value(value)}" for name, value in given.items())
            rows.append(f"| [`{dataset.name}`](../datasets/{dataset.name}.md) | {values} |")
    return "\n".join(["| data set | values |", "|---|---|", *rows]) if rows else ""


def _promises(target: Any) -> str:
    """A table of the promises that a class declares, each explained by the docstring of `Promises`."""
    if not isinstance(promises := getattr(target, "promises", None), Promises):
        return ""
    names = [field.name for field in fields(promises)]
    meanings = {name: text for (name,), text in described(Promises.__doc__, names).meanings.items()}
    rows = [f"| `{name}` | {_promised(getattr(promises, name))} | {meanings[name]} |" for name in names]
    return "\n".join(["| promise | made | what it says |", "|---|---|---|", *rows])


def _promised(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"`{name}={setting}`" for name, setting in value.items()) or "yes"
    return "yes" if value is True else "no" if value in (None, False) else f"`{value}`"


def _job(entry: Entry, root: Path) -> str:
    """The text of the `job` section in the registry, including its comments, which name the sources."""
    if not entry.job:
        return ""
    file, _, line = entry.place.rpartition(":")
    lines = (root / file).read_text(encoding="utf-8").splitlines()[int(line) :]
    start = next(number for number, text in enumerate(lines) if text.strip().startswith("job:"))
    depth = _indent(lines[start])
    inside = []
    for text in lines[start + 1 :]:
        if text.strip() and _indent(text) <= depth:
            break
        inside.append(text[depth + 2 :])
    return "\n".join(["```yaml", *inside, "```"])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _commands(entry: Entry) -> str:
    lines = [f"agmbench show {entry.kind} {entry.name}", f"agmbench check {entry}"]
    if entry.kind in ("modulator", "dataset"):
        lines.append(f"agmbench run --{entry.kind} {entry.name}")
    if entry.search:
        lines.append(f"agmbench sweep --{entry.kind} {entry.name}")
    return "\n".join(["```sh", *lines, "```"])


def _source(target: Any) -> str:
    fence = "`" * 5  # docstrings may have fences of their own
    source = inspect.getsource(target).rstrip()
    return f"<details><summary>{target.__module__}</summary>\n\n{fence}python\n{source}\n{fence}\n\n</details>"
