"""The predictions of a trained model on a split, and what the author of a metric imports. Arrays are numpy's; torch is not imported.

Shapes: N samples of a split (or segments, if the task is per segment), C classes, R features of the fused representation.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from agmbench import shapley
from agmbench.shapley import Coalition

Kind = Literal["classification", "multi-label", "regression"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")  # allowed as the name of a metric in MLflow
Floats = NDArray[np.floating]
Array = NDArray[Any]


class Unmeasured(ValueError):
    """Raised by a metric that cannot be measured on these outcomes. The text says why, and is shown instead of the number."""


@dataclass(frozen=True)
class Quantity:
    """What a number of a metric is.

    name: the name under which it is kept (`test/NAME`, or `test/NAME/audio` if it has a value `per` modality or coalition) and asked for.
    title: the title of its column; `{}` stands for the modality or the coalition, if it has a value per modality or coalition.
    unit: `%` and `points` are kept as shares (0.63) and shown a hundredfold (63.00); another unit, such as `nats`, is shown as it is.
    """

    name: str
    title: str
    meaning: str
    unit: str = ""
    better: Literal["higher", "lower", "neither"] = "higher"
    decimals: int = 4
    tasks: tuple[Kind, ...] = KINDS
    per: Literal["", "modality", "coalition"] = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and NAME.fullmatch(self.name)):
            raise ValueError(
                f"a quantity is called {self.name!r}; a name should be letters, digits, '.', '_' and '-', up to 60"
            )
        what = f"quantity '{self.name}'"
        for part, most in (("title", 60), ("meaning", 300), ("unit", 20)):
            text = getattr(self, part)
            if not (isinstance(text, str) and len(text) <= most and (text or part == "unit")):
                raise ValueError(f"the {part} of {what} should be a text of at most {most} letters; found {text!r:.80}")
        if self.per not in ("", "modality", "coalition") or bool(self.per) != ("{}" in self.title):
            raise ValueError(
                f"the title of {what} should contain {{}} if it has a value per modality or coalition, and not otherwise"
            )
        if self.better not in ("higher", "lower", "neither"):
            raise ValueError(f"{what}: better should be 'higher', 'lower' or 'neither'; found {self.better!r}")
        if not (isinstance(self.tasks, tuple) and self.tasks and set(self.tasks) <= set(KINDS)):
            raise ValueError(f"{what}: tasks should be a tuple of {', '.join(KINDS)}; found {self.tasks!r}")
        if not (isinstance(self.decimals, int) and 0 <= self.decimals <= 12):
            raise ValueError(f"{what}: decimals should be a whole number from 0 to 12; found {self.decimals!r}")

    @property
    def scale(self) -> float:
        """The factor by which a kept value is multiplied when it is shown."""
        return 100.0 if self.unit in ("%", "points") else 1.0


@dataclass(frozen=True)
class Outcome:
    """The predictions of a model on one split.

    logits: `[N, C]` for each coalition of modalities, with the others muted (absent).   targets: `[N]` class numbers, `[N, C]` labels
    that are 0 or 1, or `[N]` numbers of a regression, according to `kind`.   fused: the representation `[N, R]`.   terms: each modality's
    own part `[N, C]` of the logits, if the fusion is a sum of them.   features: the output of each encoder, `[N, D_m]`, if the method
    trains encoders.
    """

    kind: Kind
    modalities: tuple[str, ...]
    class_names: tuple[str, ...]
    logits: Mapping[Coalition, Floats]
    targets: Array
    fused: Floats | None = None
    terms: Mapping[str, Floats] = field(default_factory=dict)
    features: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def full(self) -> Floats:
        """Logits `[N, C]` with every modality present."""
        return self.logits[frozenset(self.modalities)]

    @property
    def representation(self) -> Floats:
        """The fused representation `[N, R]`."""
        if self.fused is None:
            raise Unmeasured("the run kept no representation")
        return self.fused

    @cached_property
    def responses(self) -> Mapping[str, Floats]:
        """Each modality's Shapley response `[N, C]`; they sum to the logits (AGM paper, equation 4)."""
        self.require_coalitions()
        return shapley.responses(self.logits, self.modalities)

    def require_coalitions(self) -> None:
        """Raise `Unmeasured` unless the logits of every coalition were kept."""
        if len(self.logits) < 2 ** len(self.modalities) - 1:
            raise Unmeasured("the run kept only the predictions with all modalities present")

    def predicted(self, logits: Floats) -> Array:
        """The predictions that logits imply, in the form of targets: class numbers, labels that are 0 or 1, or numbers."""
        if self.kind == "classification":
            answers: Array = logits.argmax(axis=-1)
            return answers
        return (logits > 0).astype(logits.dtype) if self.kind == "multi-label" else logits[..., 0]


@dataclass(frozen=True)
class Outcomes:
    """The outcome that is `judged`, usually the one on test, and the one on dev, for metrics that fit something on a trained model."""

    judged: Outcome
    of_dev: Outcome | Callable[[], Outcome] | None = None

    @cached_property
    def dev(self) -> Outcome:
        """The outcome on dev; it is made only when it is asked for if that takes time."""
        if self.of_dev is None:
            raise Unmeasured("the run kept no predictions on dev")
        return self.of_dev() if callable(self.of_dev) else self.of_dev


class Metric(ABC):
    """A measure of outcomes: a pure function. It is not part of a job's digest, so a metric that is added later also measures old runs.

    quantities: what it gives, each for the tasks that it is for.   compares: it reads the outcomes of the unimodal models ("mono-modal
    concepts") of the same job, by modality, which are then trained with the job.   Parameters are keyword-only, in `__init__`.
    """

    quantities: ClassVar[Sequence[Quantity]]
    compares: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, outcomes: Outcomes, references: Mapping[str, Outcomes]) -> Mapping[str, float | Mapping[str, float]]:
        """For each quantity of the task, by its name: its value, or a mapping of modality or coalition to value. Raises `Unmeasured` if it
        cannot be measured."""


class OfAnswers(Metric):
    """A metric of one quantity that depends only on logits and targets: a subclass defines only `of(outcome, logits)`."""

    def __call__(self, outcomes: Outcomes, references: Mapping[str, Outcomes]) -> Mapping[str, float]:
        return {self.quantities[0].name: self.of(outcomes.judged, outcomes.judged.full)}

    @abstractmethod
    def of(self, outcome: Outcome, logits: Floats) -> float:
        """The value for some logits `[N, C]` of this outcome."""


# the file in which a run keeps its outcomes


FILE = "outcomes.npz"


def save(outcomes: Mapping[str, Outcome], path: Path) -> None:
    """Write outcomes, by split, to one file of plain arrays."""
    arrays: dict[str, Array] = {}
    about: dict[str, Any] = {}
    for split, outcome in outcomes.items():
        known = about[split] = {"kind": outcome.kind, "modalities": outcome.modalities, "class_names": outcome.class_names}
        known["coalitions"] = [[m for m in outcome.modalities if m in coalition] for coalition in outcome.logits]
        known["terms"] = [*outcome.terms]
        known["features"] = {m: feature.shape[1] for m, feature in outcome.features.items()}
        arrays[f"{split}/targets"] = outcome.targets
        arrays |= {f"{split}/logits/{number}": logits for number, logits in enumerate(outcome.logits.values())}
        arrays |= {f"{split}/terms/{number}": term for number, term in enumerate(outcome.terms.values())}
        if outcome.fused is not None:
            arrays[f"{split}/representation"] = outcome.fused
        if outcome.features and not _joined(outcome):
            arrays[f"{split}/features"] = np.concatenate([*outcome.features.values()], axis=1)
    np.savez(path, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]  # names become keywords


def _joined(outcome: Outcome) -> bool:
    """Whether the representation is the concatenation of the features, as in late fusion, so that they need not be kept twice."""
    sizes = sum(feature.shape[1] for feature in outcome.features.values())
    if outcome.fused is None or outcome.fused.shape[1] != sizes:
        return False
    return np.array_equal(outcome.fused, np.concatenate([*outcome.features.values()], axis=1))


def load(path: Path) -> dict[str, Outcome]:
    """Read the outcomes that `save` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return {split: _read(file, split, known) for split, known in json.loads(str(file["about"])).items()}


def _read(file: Any, split: str, about: Mapping[str, Any]) -> Outcome:
    fused = f"{split}/representation"
    sizes: Mapping[str, int] = about.get("features", {})  # older runs have none
    features = file[f"{split}/features" if f"{split}/features" in file.files else fused] if sizes else np.empty((0, 0))
    pieces = np.split(features, np.cumsum([*sizes.values()])[:-1], axis=1) if sizes else []
    return Outcome(
        kind=about["kind"],
        modalities=tuple(about["modalities"]),
        class_names=tuple(about["class_names"]),
        logits={frozenset(c): file[f"{split}/logits/{number}"] for number, c in enumerate(about["coalitions"])},
        targets=file[f"{split}/targets"],
        fused=file[fused] if fused in file.files else None,
        terms={m: file[f"{split}/terms/{number}"] for number, m in enumerate(about["terms"])},
        features=dict(zip(sizes, pieces, strict=True)),
    )
