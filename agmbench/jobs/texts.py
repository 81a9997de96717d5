"""Jobs and settings as texts: files of jobs, `key=value` of the command line."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from agmbench.errors import AgmbenchError
from agmbench.jobs.composed import at_place, validated
from agmbench.jobs.spec import LATER, JobSpec
from agmbench.registry.located import parse, parsed, plain


def spec_of(content: Mapping[str, Any]) -> JobSpec:
    """A spec from plain containers; one that was written when metrics were part of a job has some to leave out.

    A component that states parameters states all that it had when the spec was written; those that came later are as before.
    """
    tree = {key: value for key, value in content.items() if key != "metrics"}
    dataset = tree.get("dataset")
    if isinstance(dataset, Mapping) and isinstance(stated := dataset.get("params"), Mapping) and stated:
        tree["dataset"] = {**dataset, "params": {**LATER.get(f"dataset/{dataset.get('name')}", {}), **stated}}
    return validated(tree)


class JobFile(NamedTuple):
    """A job as a file has it; `parent` is the run that it stands under, if a suite wrote the file, `wait` says whether it waits while
    another process has it, and `tags` are those that its run is given."""

    spec: JobSpec
    parent: str | None = None
    wait: bool = True
    tags: Mapping[str, str] = {}


def job_of(path: Path) -> JobFile:
    """Read a job's file: one that a suite wrote, or the `job.yaml` of a run."""
    return _job(parse(path, str(path)), str(path))


def job_in(text: str, shown: str) -> JobFile:
    """Read the same from a text, which errors call `shown`."""
    return _job(parsed(text, shown), shown)


def _job(tree: Any, shown: str) -> JobFile:
    content = plain(tree)
    if not isinstance(content, dict) or not isinstance(parent := content.get("parent"), str | None):
        raise AgmbenchError(f"{shown} is not a job; expected a mapping, as the job.yaml of a run is")
    with at_place(shown):
        if not isinstance(spec := content.get("spec", content), dict):
            raise AgmbenchError(f"'spec' should be a mapping; found {spec!r}")
        if not isinstance(tags := content.get("tags", {}), dict):
            raise AgmbenchError(f"'tags' should be a mapping; found {tags!r}")
        texts = {str(key): str(value) for key, value in tags.items()}
        return JobFile(spec_of(spec), parent, content.get("wait", True) is not False, texts)


def parse_settings(texts: Iterable[str], options: Mapping[str, Any] | None = None) -> list[tuple[str, Any]]:
    """`key=value` texts; a value is read as YAML, so `0.1`, `true`, `null` and `[1, 2]` are what they look like.

    `options` are settings that have an option of their own, by their keys; those that were not given are `None`.
    """
    settings = {key: _value(key, value) for key, value in setting_texts(texts).items()}
    return overlaid(settings, options or {})


def parse_ranges(texts: Iterable[str], options: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
    """The same, of settings that may have several values each: `training.lr=0.1,0.01` has two.

    What YAML takes for one value is one value: a list in brackets, a mapping in braces, a text in quotes.
    """
    ranges = {key: _values(key, value) for key, value in setting_texts(texts).items()}
    return dict(overlaid(ranges, {key: [value] for key, value in (options or {}).items() if value is not None}))


def setting_texts(texts: Iterable[str]) -> dict[str, str]:
    """The texts of `--set` by their keys, before they are read."""
    split = (text.partition("=") for text in texts)
    return pairs(
        "--set", (f"{key.strip()}{rest}{value}" for key, rest, value in split), "key=value, such as modulator.alpha=1.5"
    )


def pairs(option: str, texts: Iterable[str], example: str) -> dict[str, str]:
    """`key=value` texts of an option that can be given again, each key once."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise AgmbenchError(f"{option} {text}: should be {example}")
        if key in found:
            raise AgmbenchError(f"{option} {key} is given twice; leave all but one out")
        found[key] = value
    return found


def _value(key: str, text: str) -> Any:
    return plain(parsed(text, f"--set {key}: the value"))


def _values(key: str, text: str) -> list[Any]:
    """The values of a text: what stands between its commas, where that is a list of two or more in YAML without the brackets."""
    try:
        several = plain(parsed(f"[{text}]", ""))
    except AgmbenchError:
        several = []
    return several if isinstance(several, list) and len(several) > 1 else [_value(key, text)]


def as_text(value: Any) -> str:
    """A value as `--set` reads it again."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**9, sort_keys=False).removesuffix("\n").removesuffix("\n...")


def overlaid(settings: Mapping[str, Any], options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Settings by key, and those `options` that were given; no key may be said by both."""
    given = {key: value for key, value in options.items() if value is not None}
    for key in settings.keys() & given.keys():
        raise AgmbenchError(f"--set {key} and --{key.rpartition('.')[2].replace('_', '-')} say the same; leave one of them out")
    return [*settings.items(), *given.items()]
