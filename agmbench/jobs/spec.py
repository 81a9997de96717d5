"""A `JobSpec`: everything that fixes the numbers of a job, and which of it is part of the digest."""

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from agmbench.jobs.recipe import OF_PARTS, Frozen, Training

CORE_VERSION = 1  # part of every digest; raised when a change of the training loop or the model changes numbers
# Metrics were once part of a job. The digests still contain the metrics that were the default then, so that old runs are found.
METRICS_ONCE = {"mosei": ["accuracy", "macro-f1", "mae", "pearson"]}
METRICS_ELSEWHERE = ["accuracy", "macro-f1"]
# Once, autocast kept its casts of weights between the optimizer steps of one batch. Of the built-in methods only this one takes several
# such steps, so only its bf16 jobs have got another digest.
WITH_STALE_CASTS = ("mla", "bf16")
# Settings that were added later, by their place, with their defaults. A setting with its default is left out of the digest, so the job has
# the same digest as before.
LATER: dict[str, dict[str, Any]] = {
    "dataset": {"weight": None},  # a setting of tables, which have names that users choose
    "dataset/avmnist-mini": {"components": None, "pairing": "exact"},
    "training": {
        **{"select_by": None, "reduction": "mean", "clip_value": None, "clip_norm": None, "early_stopping": None},
        **{"optimizer_args": {}, "lr_of": {}, "weight_decay_of": {}, "layer_decay": None, "label_smoothing": 0.0},
        **{"class_weights": None, "sampling": None, "mixup": None, "ema": None, "drop_last": False},
        **{"cache_features": False, "clip_when": "always"},
    },
    "training.schedule": {"last": None, "patience": 1, "reload": False, "warmup": 0, "args": {}},
    "encoder/conv": {"pool": 1},
    "encoder/resnet": {"zero_init_last": True, "norm_spread": 0.0},
    "encoder/transformer": {"variant": "paper"},
    "fusion/psp": {"similarity": 0.0},
}
COMPARED = ("concept_seed", "concept_mute")  # settings of a job that do not affect its training
PHASES = ("augment", "evaluation")  # each has transforms by modality: for samples in training, and for samples in evaluation
COMPONENTS = ("dataset", "fusion", "modulator")


class Component(Frozen):
    """The name of an entry, and the parameters that are given for it."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


class JobSpec(Frozen):
    """One job: the components with their parameters, the recipe and the seed.

    `encoders` has one component per modality; `"*"` stands for every modality that is not named. `augment` has a transform for each
    modality whose training samples are changed, `evaluation` one for each modality whose samples are changed when the model is evaluated.
    `mute` is the kind of input that replaces an absent modality. `limit` is the largest number of samples of a split, evenly spread over
    it. `present`, in the job of a unimodal model, names the modality that training sees, while the others are muted; `None` means all.

    `concept_seed` and `concept_mute` are the seed and the muting of the unimodal models with which the model is compared, if they differ
    from the job's own. They do not affect training: jobs that differ only in them share one training (`trained`).
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
        """The settings in which the unimodal models with which it is compared differ from its own; empty if they are its own."""
        found = {key: getattr(self, key) for key in COMPARED}
        return {key: value for key, value in found.items() if value is not None}

    def trained(self) -> "JobSpec":
        """The job whose training this job shares; itself, if it is compared with its own unimodal models."""
        return self.model_copy(update=dict.fromkeys(COMPARED))

    def canonical(self) -> dict[str, Any]:
        """The spec as plain containers."""
        return self.model_dump(mode="json")

    def identity(self) -> dict[str, Any]:
        """The content that is part of a digest. Settings that were added later are left out if they have their defaults."""
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
    """A spec in plain containers, without the settings of `LATER` that have their defaults."""
    content = copy.deepcopy(dict(spec))
    training = content.get("training", {})
    places = {"training": training, "training.schedule": training.get("schedule", {})}
    components = [(kind, content[kind]) for kind in COMPONENTS]
    components += [("encoder", component) for component in content.get("encoders", {}).values()]
    found = [*places.items(), *((f"{kind}/{component['name']}", component["params"]) for kind, component in components)]
    found.append(("dataset", content["dataset"]["params"]))
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
    """A setting in the form that `--set` takes: `key=value`."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def digest(content: Any) -> str:
    """The first 16 hexadecimal digits of the sha256 of a value's canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


MADE_OF_THE_SEED = "made of the seed"  # stands for the fingerprint, in the cell, of data that differ under every seed


def cell_of(setting: str, fingerprint: str) -> str:
    """The cell of a run, made from its setting and the fingerprint of its data. Runs of one cell may stand in one table."""
    return digest([setting, fingerprint])
