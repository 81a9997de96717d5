"""A `JobSpec` is what fixes the numbers of a job; its digest is its name for machines. No torch.

Names are checked against the registry here; parameters are checked against the components' signatures when a job is built.
"""

import copy
import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agmbench.errors import AgmbenchError, allowed
from agmbench.registry import Entry, Registry
from agmbench.registry.located import parse, parsed, plain

CORE_VERSION = 1  # raised when the loop or the engine change a number: it enters every digest
# Metrics were part of a job once. What they were by default stands in the digests for good, so that old runs are found.
METRICS_ONCE = {"mosei": ["accuracy", "macro-f1", "mae", "pearson"]}
METRICS_ELSEWHERE = ["accuracy", "macro-f1"]
# Autocast once kept its casts of weights from one optimizer step of a batch to the next, of which no other built-in takes several.
WITH_STALE_CASTS = ("mla", "bf16")
# Settings that came later, by where they are, with their defaults, under which a job is the one of before: these enter no digest.
LATER: dict[str, dict[str, Any]] = {
    "dataset/avmnist-mini": {"components": None, "pairing": "exact"},
    "training": {
        **{"select_by": None, "reduction": "mean", "clip_value": None, "clip_norm": None, "early_stopping": None},
        **{"optimizer_args": {}, "lr_of": {}, "weight_decay_of": {}, "layer_decay": None, "label_smoothing": 0.0},
        **{"class_weights": None, "sampling": None, "mixup": None, "ema": None, "drop_last": False},
        **{"cache_features": False},
    },
    "training.schedule": {"last": None, "patience": 1, "reload": False, "warmup": 0, "args": {}},
    "encoder/conv": {"pool": 1},
    "encoder/resnet": {"zero_init_last": True, "norm_spread": 0.0},
    "encoder/transformer": {"variant": "paper"},
    "fusion/psp": {"similarity": 0.0},
}
OF_PARTS = {
    "lr": "lr_of",
    "weight_decay": "weight_decay_of",
}  # of `training`: what an encoder, fusion and modulator may have alone
COMPARED = ("concept_seed", "concept_mute")  # of a job, beyond its training
PHASES = ("augment", "evaluation")  # a transform by modality: of samples in training, and when the model is evaluated
NO_METRICS = "metrics are no part of a job: every run is measured by all of them; take agmbench compare --columns NAME,NAME"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Count = Annotated[int, Field(ge=1, le=1_000_000)]  # of what one job can have


class Component(_Frozen):
    """An entry by name and the parameters given for it."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


class Schedule(_Frozen):
    """How the learning rate moves, once an epoch.

    `step` multiplies it by `gamma` every `step_size` epochs, `cosine` takes it to zero over the run, `constant` leaves it. `plateau`
    multiplies it by `gamma` after `patience` epochs without a gain on valid; with `reload` the weights of the best epoch come back then.
    `last` is the number of decays after which `step` and `plateau` leave it; `None` is no end. `timm-NAME` is a schedule of
    `timm.scheduler` over the run's epochs, with `args` as timm's `create_scheduler_v2` takes them (`warmup_epochs`, `min_lr`,
    `cycle_limit`, ...); the other settings are not for it, but for `warmup`. In the first `warmup` epochs n of any schedule the rate
    is n/(warmup+1) of what it would be.
    """

    name: Literal[
        "constant",
        "step",
        "cosine",
        "plateau",
        "timm-cosine",
        "timm-tanh",
        "timm-step",
        "timm-multistep",
        "timm-poly",
        "timm-wsd",
        "timm-rsqrt",
    ] = "constant"
    step_size: Count = 70
    gamma: float = Field(default=0.9, gt=0, le=1)
    last: Count | None = None
    patience: Count = 1
    reload: bool = False
    warmup: int = Field(default=0, ge=0, le=1_000_000)
    args: dict[str, Any] = Field(default_factory=dict)


class Training(_Frozen):
    """The recipe. `select` says which epoch's weights are kept: the best on `valid`, or the `last`.

    `select_by` is the quantity that is best there, such as `macro-f1` or `response/audio`; `None` is the task's own (accuracy, of a
    regression R2). Among equals the least loss decides. `precision` is that of training's passes: `bf16` and `fp16` are autocast in
    forward passes, with weights, gradients, losses and scores in float32; `fp16` scales inside backward passes and skips the steps
    that overflow. Evaluation is float32. `accumulate` is the number of batches whose gradients make one optimizer step. `reduction` of
    the loss over their samples is the `mean`, or the `sum`, whose gradients are as many times larger as there are samples. Before a
    step, each element of the gradients is cut to `clip_value`, and the norm of them all to `clip_norm`, but where a method has a rule of
    its own (AGM's `clip`). Training ends after `early_stopping` epochs in a row without a gain on valid, counted anew from each decay
    of schedule `plateau`. `drop_last` leaves out an epoch's last batch where it is not full.

    `optimizer` is torch's `sgd`, `adam` or `adamw`, or any other of `timm.optim.list_optimizers()`, with `optimizer_args` as it takes
    them. `lr_of` and `weight_decay_of` are those of an encoder (by its modality), of `fusion` or of `modulator` where they are not the
    recipe's: `--set training.lr.audio=1e-4`. With `layer_decay` the rate of an encoder's layer is that of the next one times it; the
    last layer has the encoder's own (BEiT, Bao et al., ICLR 2022).

    `label_smoothing` is the share of a sample's target that all classes have in common. `class_weights=balanced` weighs each sample's
    loss by n / (C n_c), n_c the training samples of its class. `sampling=balanced` draws as many training samples an epoch as there
    are, with replacement, every class as often. These are of training alone: losses and scores of evaluation, and AGM's and OGM's of
    training, are the task's. `mixup` is alpha of mixup (Zhang et al., ICLR 2018): each batch is mixed with itself in reverse order, in
    shares drawn from Beta(alpha, alpha). `ema` is the decay of a running mean of the weights after each optimizer step, n-th with
    min(ema, (1+n)/(10+n)); it is what is validated, kept and tested, while training goes on with the weights themselves.
    With `cache_features` an encoder that is frozen runs once over the data, in eval mode, and training reads what it made.
    """

    epochs: Count = 100
    batch_size: int = Field(default=64, ge=2, le=1_000_000)
    accumulate: Count = 1
    optimizer: str = "sgd"
    optimizer_args: dict[str, Any] = Field(default_factory=dict)
    lr: float = Field(default=1e-3, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    lr_of: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    weight_decay_of: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    schedule: Schedule = Field(default_factory=Schedule)
    select: Literal["valid", "last"] = "valid"
    select_by: str | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    reduction: Literal["mean", "sum"] = "mean"
    clip_value: float | None = Field(default=None, gt=0)
    clip_norm: float | None = Field(default=None, gt=0)
    early_stopping: Count | None = None
    drop_last: bool = False
    label_smoothing: float = Field(default=0, ge=0, lt=1)
    class_weights: Literal["balanced"] | None = None
    sampling: Literal["balanced"] | None = None
    mixup: float | None = Field(default=None, gt=0)
    ema: float | None = Field(default=None, gt=0, lt=1)
    cache_features: bool = False


class JobSpec(_Frozen):
    """One job: the components with their parameters, the recipe and the seed.

    `encoders` has one component a modality; `"*"` stands for every modality not named. `augment` has a transform for each modality
    whose training samples are changed, `evaluation` one for each modality whose samples are changed when the model is evaluated.
    `mute` is what stands in for an absent modality. `limit` is the largest number of samples of a split, evenly spread over it.
    `present` (a mono-modal concept) names the modalities that training sees, the others muted; `None` is all of them.

    `concept_seed` and `concept_mute` are those of the mono-modal concepts that the model is compared with, where they are not the
    job's own. They are no part of its training: jobs that differ in them alone share one (`trained`).
    """

    dataset: Component
    encoders: dict[str, Component]
    fusion: Component
    modulator: Component
    training: Training = Field(default_factory=Training)
    mute: Literal["zeros", "random", "mean"] = "zeros"
    seed: int = Field(default=999, ge=0, lt=2**31)
    present: tuple[str, ...] | None = None
    limit: int | None = Field(default=None, ge=2, lt=2**31)
    augment: dict[str, Component] = Field(default_factory=dict)
    evaluation: dict[str, Component] = Field(default_factory=dict)
    concept_seed: int | None = Field(default=None, ge=0, lt=2**31)
    concept_mute: Literal["zeros", "random", "mean"] | None = None

    @property
    def compared(self) -> dict[str, Any]:
        """What sets the concepts that it is compared with apart from its own."""
        found = {key: getattr(self, key) for key in COMPARED}
        return {key: value for key, value in found.items() if value is not None}

    def trained(self) -> "JobSpec":
        """The job whose training this one's is."""
        return self.model_copy(update=dict.fromkeys(COMPARED))

    def canonical(self) -> dict[str, Any]:
        """The spec as plain containers."""
        return self.model_dump(mode="json")

    def identity(self) -> dict[str, Any]:
        """What of it enters a digest. A setting that came later is left out where it is not made use of."""
        content = in_use(self.canonical())
        for key in COMPARED:
            if content[key] is None:
                del content[key]
        for phase in PHASES:
            if not content[phase]:
                del content[phase]
        if (self.modulator.name, self.training.precision) == WITH_STALE_CASTS:
            content["modulator"]["autocast"] = "anew each step"
        return {**content, "metrics": METRICS_ONCE.get(self.dataset.name, METRICS_ELSEWHERE)}


def in_use(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec in plain containers without what came later and is not made use of."""
    content = copy.deepcopy(dict(spec))
    training = content.get("training", {})
    places = {"training": training, "training.schedule": training.get("schedule", {})}
    components = [(kind, content[kind]) for kind in _COMPONENTS]
    components += [("encoder", component) for component in content.get("encoders", {}).values()]
    found = [*places.items(), *((f"{kind}/{component['name']}", component["params"]) for kind, component in components)]
    for place, settings in found:
        for name in [name for name, before in LATER.get(place, {}).items() if settings.get(name, before) == before]:
            settings.pop(name, None)
    return content


def flat(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec in plain containers under the keys that `--set` takes: `modulator`, `modulator.alpha`, `augment.visual.flip`, `limit`."""
    components = {"dataset": spec["dataset"], "fusion": spec["fusion"], "modulator": spec["modulator"]}
    components |= {f"encoder.{modality}": component for modality, component in spec.get("encoders", {}).items()}
    components |= {f"{phase}.{m}": component for phase in PHASES for m, component in spec.get(phase, {}).items()}
    values: dict[str, Any] = {}
    for key, component in components.items():
        values[key] = component["name"]
        values |= {f"{key}.{name}": value for name, value in component["params"].items()}
    recipe = spec.get("training", {})
    training = {f"training.{key}": value for key, value in recipe.items() if key not in ("schedule", *OF_PARTS.values())}
    for key, of in OF_PARTS.items():
        training |= {f"training.{key}.{part}": value for part, value in recipe.get(of, {}).items()}
    schedule = {f"training.schedule.{key}": value for key, value in spec.get("training", {}).get("schedule", {}).items()}
    rest = {key: spec[key] for key in ("seed", "mute", "limit", "present") if key in spec}
    compared = {key: spec[key] for key in COMPARED if spec.get(key) is not None}
    return {**values, **training, **schedule, **rest, **compared}


def setting(key: str, value: object) -> str:
    """As `--set` takes it."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def digest(content: Any) -> str:
    """The first 16 hexadecimal digits of the sha256 of a value's canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


MADE_OF_THE_SEED = "made of the seed"  # in place of a fingerprint, of data that every seed makes anew


def cell_of(setting: str, fingerprint: str) -> str:
    """A cell: what runs have in common that may stand in one table, of a setting and the data that it is on."""
    return digest([setting, fingerprint])


def compose(
    registry: Registry,
    dataset: str,
    modulator: str = "joint",
    fusion: str | None = None,
    encoders: Mapping[str, str] | None = None,
    settings: Iterable[tuple[str, Any]] = (),
) -> JobSpec:
    """A job from names: the data set's defaults, then the named components, then dotted `settings` such as `modulator.alpha`."""
    entry = registry.get("dataset", dataset)
    modulator = registry.get("modulator", modulator).name
    with _at(f"{entry.place}: job of {entry}"):
        defaults = _Defaults(entry, registry)
        tree: dict[str, Any] = {
            **defaults.rest,
            "dataset": {"name": entry.name},
            "modulator": {"name": modulator, "params": defaults.modulators.get(modulator, {})},
            "encoders": defaults.encoders,
            "fusion": defaults.fusion,
            **defaults.transforms,
        }
        _validated(tree)
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
    spec = _validated(tree)
    return _canonical_names(spec, registry)


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Prefix errors that are raised inside with the place."""
    try:
        yield
    except AgmbenchError as error:
        raise AgmbenchError(f"{place}: {error}") from error


class _Defaults:
    """A data set's `job`, checked as far as `compose` reads it, in containers of its own."""

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
    """Another component brings none of the old one's parameters."""
    return old if old is not None and old["name"] == name else {"name": name, "params": {}}


_COMPONENTS = ("dataset", "fusion", "modulator")
_ENCODERS = ("encoder", "encoders")


def _names_first(setting: tuple[str, Any]) -> bool:
    """An encoder and a transform are named before their parameters are set, in whichever order both are given."""
    head, *rest = setting[0].split(".")
    return not (head in (*PHASES, *_ENCODERS) and len(rest) == 1)


def _set(tree: dict[str, Any], key: str, value: Any) -> bool:
    """`modulator.alpha`, `encoder.audio.width` and `dataset.split` are parameters; `encoder.audio` and `augment.visual` are names,
    `training.lr` a field.

    Returns whether there is such a setting.
    """
    head, *rest = key.split(".")
    if head in _COMPONENTS and len(rest) == 1 and rest != ["name"]:
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
    """What was probably meant by a setting that there is not: `lr` is `training.lr`, `alpha` the modulator's."""
    found = [f"training.{key}"] if key in Training.model_fields else []
    named = {kind: tree[kind] for kind in _COMPONENTS} | {
        f"encoder.{m}": one for m, one in tree["encoders"].items() if m != "*"
    }
    for place, component in named.items():
        target = registry.get(place.partition(".")[0], component["name"]).load()
        if key in inspect.signature(target).parameters:
            found.append(f"{place}.{key}")
    if found:
        return f"did you mean {' or '.join(found)}?"
    of_transforms = [f"{phase}.MODALITY{end}" for phase in PHASES for end in ("", ".P")]
    components = ("dataset.P", "encoder.MODALITY", "encoder.MODALITY.P", *of_transforms, "fusion.P", "modulator.P")
    return allowed(key, (*components, "training.P", "seed", "mute", "limit", *COMPARED))


def _validated(tree: Mapping[str, Any]) -> JobSpec:
    try:
        return JobSpec.model_validate(tree)
    except ValidationError as error:
        raise AgmbenchError(fault(error, JobSpec, "setting")) from error


def fault(error: ValidationError, model: type[BaseModel], noun: str) -> str:
    """In one line, what pydantic found first; a key that is unknown before one that is missing, of which it may be a typo."""
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown {noun} '{where}': {allowed(str(first['loc'][-1]), _siblings(model, first['loc']))}"
    if first["type"] == "missing":
        return f"needs '{where}'"
    message = first["msg"].replace("valid tuple", "list").replace("valid dictionary", "mapping")
    return f"'{where}' is {first['input']!r}: {message[0].lower()}{message[1:]}"


def _siblings(model: Any, location: tuple[int | str, ...]) -> Iterable[str]:
    for part in location[:-1]:
        if hasattr(model, "model_fields"):
            field = model.model_fields.get(part)
            model = field.annotation if field is not None else None
        else:  # one item of a mapping or a list
            model = next((item for item in get_args(model) if hasattr(item, "model_fields")), None)
    return model.model_fields if hasattr(model, "model_fields") else ()


def _canonical_names(spec: JobSpec, registry: Registry) -> JobSpec:
    """Aliases become names, and every name is known."""

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


def spec_of(content: Mapping[str, Any]) -> JobSpec:
    """A spec from plain containers; one that was written when metrics were part of a job has some to leave out.

    A component that states parameters states all that it had when the spec was written; those that came later are as before.
    """
    tree = {key: value for key, value in content.items() if key != "metrics"}
    dataset = tree.get("dataset")
    if isinstance(dataset, Mapping) and isinstance(stated := dataset.get("params"), Mapping) and stated:
        tree["dataset"] = {**dataset, "params": {**LATER.get(f"dataset/{dataset.get('name')}", {}), **stated}}
    return _validated(tree)


class JobFile(NamedTuple):
    """A job as a file has it; `parent` is the run that it stands under, if a suite wrote the file, and `wait` says whether it waits
    while another process has it."""

    spec: JobSpec
    parent: str | None = None
    wait: bool = True


def job_of(path: Path) -> JobFile:
    """Read a job's file: one that a suite wrote, or the `job.yaml` of a run."""
    return _job(parse(path, str(path)), str(path))


def job_in(text: str, shown: str) -> JobFile:
    """Read the same from a text, which errors call `shown`."""
    return _job(parsed(text, shown), shown)


def _job(tree: Any, shown: str) -> JobFile:
    content = plain(tree)
    if not isinstance(content, dict) or not isinstance(parent := content.get("parent"), str | None):
        raise AgmbenchError(f"{shown} is no job; expected a mapping, as the job.yaml of a run is")
    with _at(shown):
        if not isinstance(spec := content.get("spec", content), dict):
            raise AgmbenchError(f"'spec' should be a mapping; found {spec!r}")
        return JobFile(spec_of(spec), parent, content.get("wait", True) is not False)


def parse_settings(texts: Iterable[str], options: Mapping[str, Any] | None = None) -> list[tuple[str, Any]]:
    """`key=value` texts; a value is read as YAML, so `0.1`, `true`, `null` and `[1, 2]` are what they look like.

    `options` are settings that have an option of their own, by their keys; those that were not given are `None`.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise AgmbenchError(f"--set {text}: should be key=value, such as modulator.alpha=1.5")
        if key in settings:
            raise AgmbenchError(f"--set {key} is given twice; leave all but one out")
        settings[key] = plain(parsed(value, f"--set {key}: the value"))
    return overlaid(settings, options or {})


def overlaid(settings: Mapping[str, Any], options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Settings by key, and those `options` that were given; no key may be said by both."""
    given = {key: value for key, value in options.items() if value is not None}
    for key in settings.keys() & given.keys():
        raise AgmbenchError(f"--set {key} and --{key.rpartition('.')[2].replace('_', '-')} say the same; leave one of them out")
    return [*settings.items(), *given.items()]
