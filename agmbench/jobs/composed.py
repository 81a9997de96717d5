"""Composes a job from the defaults of its data set, the components that are named, and dotted settings."""

import copy
import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from agmbench.errors import AgmbenchError, allowed
from agmbench.jobs.faults import fault
from agmbench.jobs.recipe import OF_PARTS, Training
from agmbench.jobs.spec import COMPARED, COMPONENTS, PHASES, Component, JobSpec
from agmbench.registry import Entry, Registry

NO_METRICS = (
    "metrics are not part of a job, because every run is measured by all of them; choose what is shown with agmbench compare --columns "
    "NAME,NAME"
)


def compose(
    registry: Registry,
    dataset: str,
    modulator: str = "joint",
    fusion: str | None = None,
    encoders: Mapping[str, str] | None = None,
    settings: Iterable[tuple[str, Any]] = (),
) -> JobSpec:
    """Compose a job: the data set's defaults, overridden by the named components, overridden by `settings` such as `modulator.alpha`."""
    entry = registry.get("dataset", dataset)
    modulator = registry.get("modulator", modulator).name
    with at_place(f"{entry.place}: job of {entry}"):
        defaults = _Defaults(entry, registry)
        tree: dict[str, Any] = {
            **defaults.rest,
            "dataset": {"name": entry.name},
            "modulator": {"name": modulator, "params": defaults.modulators.get(modulator, {})},
            "encoders": defaults.encoders,
            "fusion": defaults.fusion,
            **defaults.transforms,
        }
        validated(tree)
    if fusion is not None:
        tree["fusion"] = _replace(tree["fusion"], registry.get("fusion", fusion).name)
    wild = tree["encoders"].get("*")
    if "*" in (encoders or {}):
        tree["encoders"] = {}
    for modality, name in (encoders or {}).items():
        old = tree["encoders"].get(modality, wild)
        tree["encoders"][modality] = copy.deepcopy(_replace(old, registry.get("encoder", name).name))
    for key, value in sorted(settings, key=_names_first):
        if not _set(tree, key, value):
            raise AgmbenchError(f"--set {key}: no such setting: {_meant(tree, key, registry)}")
    spec = validated(tree)
    return _canonical_names(spec, registry)


@contextmanager
def at_place(place: str) -> Iterator[None]:
    """Prefix errors that are raised inside with the place."""
    try:
        yield
    except AgmbenchError as error:
        raise AgmbenchError(f"{place}: {error}") from error


class _Defaults:
    """The `job` of a data set's entry, copied, with the parts that `compose` reads checked."""

    def __init__(self, entry: Entry, registry: Registry) -> None:
        self.registry = registry
        self.rest = copy.deepcopy(dict(entry.job))
        if "metrics" in self.rest:
            raise AgmbenchError(NO_METRICS)
        self.modulators = self._mappings("modulators")
        encoders = self._mapping("encoders", self.rest.pop("encoders", {}))
        self.encoders = {m: self._component("encoder", f"encoders.{m}", value) for m, value in encoders.items()}
        self.transforms = {phase: self._transforms(phase) for phase in PHASES}
        self.fusion = self._component("fusion", "fusion", self.rest.pop("fusion", "concat"))
        self._mapping("training", self.rest.get("training", {}))

    def _mappings(self, key: str) -> dict[str, Any]:
        found = self._mapping(key, self.rest.pop(key, {}))
        return {name: self._mapping(f"{key}.{name}", value) for name, value in found.items()}

    def _transforms(self, phase: str) -> dict[str, Any]:
        found = self._mapping(phase, self.rest.pop(phase, {}))
        return {m: self._component("transform", f"{phase}.{m}", value) for m, value in found.items()}

    def _component(self, kind: str, where: str, value: Any) -> dict[str, Any]:
        tree = self._mapping(where, {"name": value} if isinstance(value, str) else value)
        params = self._mapping(f"{where}.params", tree.get("params", {}))
        if not isinstance(tree.get("name"), str):
            raise AgmbenchError(f"{where} needs a name; found {value!r}")
        return {**tree, "name": self.registry.get(kind, tree["name"]).name, "params": params}

    def _mapping(self, where: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise AgmbenchError(f"{where} should be a mapping; found {value!r}")
        return value


def _replace(old: dict[str, Any] | None, name: str) -> dict[str, Any]:
    """The component with this name: the old one with its parameters if it has the name, else a new one without parameters."""
    return old if old is not None and old["name"] == name else {"name": name, "params": {}}


_ENCODERS = ("encoder", "encoders")


def _names_first(setting: tuple[str, Any]) -> bool:
    """The sort key by which names of encoders and transforms come before other settings, so that they are known when parameters are set."""
    head, *rest = setting[0].split(".")
    return not (head in (*PHASES, *_ENCODERS) and len(rest) == 1)


def _set(tree: dict[str, Any], key: str, value: Any) -> bool:
    """Write a setting into the tree of a job; returns whether such a setting exists.

    `modulator.alpha`, `encoder.audio.width` and `dataset.split` set parameters, `encoder.audio` and `augment.visual` name components, and
    `training.lr` sets a field.
    """
    head, *rest = key.split(".")
    if head in COMPONENTS and len(rest) == 1 and rest != ["name"]:
        tree[head].setdefault("params", {})[rest[0]] = value
    elif head in _ENCODERS and len(rest) == 1 and isinstance(value, str):
        old = tree["encoders"].get(rest[0], tree["encoders"].get("*"))
        kept = {} if rest == ["*"] else tree["encoders"]
        tree["encoders"] = {**kept, rest[0]: copy.deepcopy(_replace(old, value))}
    elif head in _ENCODERS and len(rest) == 2:
        modality, parameter = rest
        encoders = tree["encoders"]
        if modality not in encoders and "*" not in encoders:
            raise AgmbenchError(f"--set {key}: no encoder for '{modality}': {allowed(modality, encoders)}")
        encoders.setdefault(modality, copy.deepcopy(encoders.get("*")))["params"][parameter] = value
    elif head in PHASES and len(rest) == 1:
        tree[head][rest[0]] = _replace(tree[head].get(rest[0]), value)
    elif head in PHASES and len(rest) == 2:
        modality, parameter = rest
        if modality not in tree[head]:
            raise AgmbenchError(f"--set {key}: no transform of '{modality}'; name one too, as in --set {head}.{modality}=NAME")
        tree[head][modality]["params"][parameter] = value
    elif head == "training" and len(rest) == 2 and rest[0] in OF_PARTS:
        tree.setdefault("training", {}).setdefault(OF_PARTS[rest[0]], {})[rest[1]] = value
    elif head == "training" and rest:
        node = tree.setdefault("training", {})
        for part in rest[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise AgmbenchError(f"--set {key}: '{key.rpartition('.')[0]}' is {node!r}, which has no parts")
        node[rest[-1]] = value
    elif key in ("seed", "mute", "limit", *COMPARED):
        tree[key] = value
    elif key == "metrics":
        raise AgmbenchError(f"--set {key}: {NO_METRICS}")
    else:
        return False
    return True


def _meant(tree: Mapping[str, Any], key: str, registry: Registry) -> str:
    """A hint at what an unknown setting probably means: for `lr` it is `training.lr`, for `alpha` it is `modulator.alpha`."""
    found = [f"training.{key}"] if key in Training.model_fields else []
    named = {kind: tree[kind] for kind in COMPONENTS} | {f"encoder.{m}": one for m, one in tree["encoders"].items() if m != "*"}
    for place, component in named.items():
        target = registry.get(place.partition(".")[0], component["name"]).load()
        if key in inspect.signature(target).parameters:
            found.append(f"{place}.{key}")
    if found:
        return f"did you mean {' or '.join(found)}?"
    of_transforms = [f"{phase}.MODALITY{end}" for phase in PHASES for end in ("", ".P")]
    components = ("dataset.P", "encoder.MODALITY", "encoder.MODALITY.P", *of_transforms, "fusion.P", "modulator.P")
    return allowed(key, (*components, "training.P", "seed", "mute", "limit", *COMPARED))


def validated(tree: Mapping[str, Any]) -> JobSpec:
    try:
        return JobSpec.model_validate(tree)
    except ValidationError as error:
        raise AgmbenchError(fault(error, JobSpec, "setting")) from error


def _canonical_names(spec: JobSpec, registry: Registry) -> JobSpec:
    """The spec with aliases replaced by names; raises if a name is not known."""

    def named(kind: str, component: Component) -> Component:
        return Component(name=registry.get(kind, component.name).name, params=component.params)

    return spec.model_copy(
        update={
            "dataset": named("dataset", spec.dataset),
            "encoders": {modality: named("encoder", component) for modality, component in spec.encoders.items()},
            "fusion": named("fusion", spec.fusion),
            "modulator": named("modulator", spec.modulator),
            **{phase: {m: named("transform", one) for m, one in getattr(spec, phase).items()} for phase in PHASES},
        }
    )
