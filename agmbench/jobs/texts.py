"""Reads jobs and settings from texts: files of jobs, and `key=value` on the command line."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from agmbench.errors import AgmbenchError
from agmbench.jobs.composed import at_place, validated
from agmbench.jobs.spec import LATER, JobSpec
from agmbench.registry.located import parse, parsed, plain


def spec_of(content: Mapping[str, Any]) -> JobSpec:
    """A spec from plain containers. Metrics, which were once part of a job, are left out.

    A data set that states parameters states all that it had when the spec was written; parameters that were added later get the defaults
    of `LATER`.
    """
    tree = {key: value for key, value in content.items() if key != "metrics"}
    dataset = tree.get("dataset")
    if isinstance(dataset, Mapping) and isinstance(stated := dataset.get("params"), Mapping) and stated:
        tree["dataset"] = {**dataset, "params": {**LATER.get(f"dataset/{dataset.get('name')}", {}), **stated}}
    return validated(tree)


class JobFile(NamedTuple):
    """The content of a job's file. `parent` is the id of the parent run, if a suite wrote the file; `wait` says whether to wait while
    another process has the job; and `tags` are the tags for its run."""

    spec: JobSpec
    parent: str | None = None
    wait: bool = True
    tags: Mapping[str, str] = {}


def job_of(path: Path) -> JobFile:
    """Read a job's file: one that a suite wrote, or the `job.yaml` of a run."""
    return _job(parse(path, str(path)), str(path))


def job_in(text: str, shown: str) -> JobFile:
    """Read a job from a text; `shown` is its name in errors."""
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
    """Read settings from `key=value` texts. A value is read as YAML, so `0.1` is a number and `[1, 2]` is a list.

    `options` are the values of settings that have an option of their own, by key; `None` means that the option was not given.
    """
    settings = {key: _value(key, value) for key, value in setting_texts(texts).items()}
    return overlaid(settings, options or {})


def parse_ranges(texts: Iterable[str], options: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
    """Read settings that may have several values each: `training.lr=0.1,0.01` has two.

    A list in brackets, a mapping in braces or a text in quotes is one value.
    """
    ranges = {key: _values(key, value) for key, value in setting_texts(texts).items()}
    return dict(overlaid(ranges, {key: [value] for key, value in (options or {}).items() if value is not None}))


def setting_texts(texts: Iterable[str]) -> dict[str, str]:
    """The values of `--set` as texts, by key."""
    split = (text.partition("=") for text in texts)
    return pairs(
        "--set", (f"{key.strip()}{rest}{value}" for key, rest, value in split), "key=value, such as modulator.alpha=1.5"
    )


def pairs(option: str, texts: Iterable[str], example: str) -> dict[str, str]:
    """The values of an option that can be given several times as `KEY=VALUE`, by key; raises if a key is given twice."""
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
    """The values of a text: two or more separated by commas, if the text in brackets is such a list in YAML; otherwise one."""
    try:
        several = plain(parsed(f"[{text}]", ""))
    except AgmbenchError:
        several = []
    return several if isinstance(several, list) and len(several) > 1 else [_value(key, text)]


def as_text(value: Any) -> str:
    """A value as a text from which `--set` reads the same value."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**9, sort_keys=False).removesuffix("\n").removesuffix("\n...")


def overlaid(settings: Mapping[str, Any], options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The settings together with the `options` that were given; raises if both set the same key."""
    given = {key: value for key, value in options.items() if value is not None}
    for key in settings.keys() & given.keys():
        raise AgmbenchError(f"--set {key} and --{key.rpartition('.')[2].replace('_', '-')} say the same; leave one of them out")
    return [*settings.items(), *given.items()]
