"""From a spec to live objects: the only place that resolves entries and names a device."""

import copy
import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, NamedTuple, TypeVar, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError, create_model
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from agmbench import labels, measures, muting, recipes, shapley
from agmbench.augment import Augmentation
from agmbench.contracts import (
    Batch,
    Change,
    Dataset,
    Encoder,
    Fusion,
    Input,
    Modulator,
    Split,
    SplitName,
    Staged,
    Tokens,
    Transform,
    Unsuitable,
    finished,
    in_memory,
    read,
    texts_of,
)
from agmbench.data.fit import check_fit, wrong_input
from agmbench.errors import AgmbenchError, allowed, describe
from agmbench.fingerprint import contents
from agmbench.jobs import (
    COMPARED,
    CORE_VERSION,
    MADE_OF_THE_SEED,
    PHASES,
    Component,
    JobSpec,
    cell_of,
    compose,
    digest,
    setting,
)
from agmbench.measures import Judge
from agmbench.model import MultimodalModel
from agmbench.registry import BUILT_IN, Entry, Registry
from agmbench.registry.source import stated
from agmbench.tasks import MixedLabel, Segments, SingleLabel, Task

T = TypeVar("T")
READ = 8  # samples of train that are looked at before a job begins


class Data(NamedTuple):
    """A data set that is open, the fingerprint of what its splits contain, and that by which runs of other seeds are on the same."""

    dataset: Dataset
    fingerprint: str
    of_any_seed: str = ""


@dataclass(frozen=True)
class Job:
    """A spec whose every parameter is known, with the opened data set.

    `digest` covers the spec, what the splits contain and the components' versions and sources; `cell` the same without modulator
    and seed; `training` the same without the concepts that it is compared with, where these are not its own. `setting` is the spec
    alone: of two jobs of one setting and other digests, the data or the code have changed.
    `components` has the version and source of each component by its name.
    """

    spec: JobSpec
    registry: Registry
    data: Data
    digest: str
    cell: str = ""
    setting: str = ""
    components: Mapping[str, str] = field(default_factory=dict)
    training: str = ""

    @property
    def dataset(self) -> Dataset:
        return self.data.dataset

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that training sees."""
        return self.spec.present or tuple(self.spec.encoders)

    @property
    def name(self) -> str:
        """`agm seed 999 on avmnist-mini concat`; a concept says so in place of the modulator, and concepts that are not its own follow."""
        method = self.spec.modulator.name if self.spec.present is None else f"concept of {', '.join(self.spec.present)}"
        beside = [setting(key, value) for key, value in self.spec.compared.items()]
        return " ".join([method, f"seed {self.spec.seed} on {self.spec.dataset.name}", self.spec.fusion.name, *beside])


def resolve(spec: JobSpec, registry: Registry, data: Data | None = None) -> Job:
    """Fill in every parameter, open the data set, and take the digest.

    `data` is that of another job whose data set, seed and limit are the same, so that it is opened once.
    """
    component = resolved(registry, "dataset", spec.dataset)
    data = data or _data(registry, component, spec)
    encoders = _encoders(spec, data.dataset)
    full = spec.model_copy(
        update={
            "dataset": component,
            "encoders": {m: resolved(registry, "encoder", named) for m, named in encoders.items()},
            "fusion": resolved(registry, "fusion", spec.fusion),
            "modulator": resolved(registry, "modulator", spec.modulator),
            **transforms(spec, registry, data.dataset, encoders),
        }
    )
    if reason := shapley.too_many(full.present or tuple(full.encoders)):
        raise AgmbenchError(f"data set '{spec.dataset.name}' {reason}; give it fewer")
    versions = registry.versions()
    components = {str(entry): stated(entry, versions) for entry in entries(full, registry)}
    by = judge(full, registry, data.dataset)
    chosen_by = by.measure if full.training.select == "valid" else None
    if chosen_by is not None:
        components[str(chosen_by.entry)] = chosen_by.version
    # one spelling of what comes to the same
    full = full.model_copy(update={"training": full.training.model_copy(update={"select_by": by.name if chosen_by else None})})
    content = full.identity()
    known = {"core": str(CORE_VERSION), **components, **{f"metric/{name}": "1" for name in content["metrics"]}}
    of_all = {name: version for name, version in known.items() if not name.startswith("modulator/")}
    of_training = {key: value for key, value in content.items() if key not in COMPARED}
    job = Job(
        spec=full,
        registry=registry,
        data=data,
        digest=digest([content, data.fingerprint, known]),
        cell=cell_of(digest([{**content, "modulator": None, "seed": None}, of_all]), data.of_any_seed),
        setting=digest(content),
        components=components,
        training=digest([of_training, data.fingerprint, known]),
    )
    if full.compared:
        references(job)  # raises where there can be none
    return job


def _data(registry: Registry, component: Component, spec: JobSpec) -> Data:
    """The job's data set, and what it contains. What is built in says so itself; of a stranger's, agmbench looks."""
    entry = registry.get("dataset", component.name)
    dataset = _made(registry, component, spec.seed)
    check_fit(spec.dataset.name, dataset if spec.limit is None else Limited(dataset, spec.limit))
    if entry.origin == BUILT_IN:
        found = Data(dataset, dataset.fingerprint, MADE_OF_THE_SEED if dataset.follows_seed else dataset.fingerprint)
    else:
        fingerprint = _contents(entry, dataset)
        same = dataset.follows_seed is False or spec.seed == 0
        of_any = fingerprint if same else _contents(entry, _made(registry, component, 0))
        found = Data(dataset, fingerprint, of_any)
    if spec.limit is not None:
        found = found._replace(dataset=Limited(dataset, spec.limit))
    return found


def _contents(entry: Entry, dataset: Dataset) -> str:
    try:
        return contents(dataset)
    except Unsuitable as error:
        raise AgmbenchError(f"{entry}: {error}") from error
    except Exception as error:  # a stranger's data set may raise anything
        raise AgmbenchError(f"{entry}: its splits cannot be read ({describe(error)}); see {entry.place}") from error


def judge(spec: JobSpec, registry: Registry, dataset: Dataset) -> Judge:
    """By what the recipe chooses epochs."""
    task = dataset.task
    return measures.judge(registry, spec.training.select_by, task.kind, task.figure, spec.present or tuple(dataset.shapes))


def opened(registry: Registry, name: str, params: Mapping[str, Any], seed: int = 0) -> Dataset:
    """A data set by itself, as `agmbench data verify` looks at it."""
    component = resolved(registry, "dataset", Component(name=registry.get("dataset", name).name, params=dict(params)))
    return _made(registry, component, seed)


def _made(registry: Registry, component: Component, seed: int) -> Dataset:
    """A data set whose names can be used."""
    entry = registry.get("dataset", component.name)
    known = (seed, entry.folder) if getattr(entry.load(), "wants_folder", False) else (seed,)
    dataset: Dataset = _make(registry, "dataset", component, *known)
    if reason := labels.refused(dataset.shapes, dataset.class_names):
        raise AgmbenchError(f"{entry}: {reason}; it is named in {entry.place}")
    return dataset


class Limited(Dataset):
    """A data set of which a job sees at most `limit` samples a split."""

    def __init__(self, whole: Dataset, limit: int) -> None:
        self._whole, self._limit = whole, limit
        self.shapes, self.class_names, self.task = whole.shapes, whole.class_names, whole.task
        self.untransformed = whole.untransformed
        self.sample = getattr(whole, "sample", False)

    def split(self, name: SplitName) -> Split:
        whole = self._whole.split(name)
        return whole if len(whole) <= self._limit else _Part(whole, self._limit)


@dataclass(frozen=True)
class _Part(Staged):
    """`count` samples, evenly spread over a split."""

    whole: Split
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, index: Tensor, change: Change | None = None) -> Batch:
        return replace(read(self.whole, self._of_whole(index), change), index=index)

    def finished(self, batch: Batch) -> Batch:
        return finished(self.whole, batch)

    @property
    def in_memory(self) -> bool:
        """Whether reading it touches no file."""
        return in_memory(self.whole)

    @property
    def targets(self) -> Tensor | None:
        """Those of the whole split, if it holds them in memory."""
        held = getattr(self.whole, "targets", None)
        return held[self._of_whole(torch.arange(self.count))] if isinstance(held, Tensor) else None

    def _of_whole(self, index: Tensor) -> Tensor:
        return index * len(self.whole) // self.count


def entries(spec: JobSpec, registry: Registry) -> list[Entry]:
    """Those of every component that a job names."""
    named = [("dataset", spec.dataset), ("fusion", spec.fusion), ("modulator", spec.modulator)]
    named += [("encoder", component) for component in spec.encoders.values()]
    named += [("transform", component) for phase in PHASES for component in getattr(spec, phase).values()]
    return [registry.get(kind, component.name) for kind, component in named]


def _encoders(spec: JobSpec, dataset: Dataset) -> dict[str, Component]:
    """One component for each modality of the data set, or of a late concept's one; in the data set's order."""
    for modality in spec.encoders.keys() - {"*"} - dataset.shapes.keys():
        raise AgmbenchError(f"data set '{spec.dataset.name}' has no modality '{modality}': {allowed(modality, dataset.shapes)}")
    wanted = [m for m in dataset.shapes if "*" in spec.encoders or m in spec.encoders]
    if spec.present is None and len(wanted) < len(dataset.shapes):
        missing = ", ".join(m for m in dataset.shapes if m not in wanted)
        raise AgmbenchError(f"no encoder for {missing} of '{spec.dataset.name}'; name one with --encoder {missing}=NAME")
    return {m: spec.encoders[m] if m in spec.encoders else spec.encoders["*"] for m in wanted}


def transforms(
    spec: JobSpec, registry: Registry, dataset: Dataset, modalities: Iterable[str] | None = None
) -> dict[str, dict[str, Component]]:
    """The transforms of a job by phase and modality, with every parameter, less those that change nothing.

    What the entry of the data set names for modalities that are features made beforehand is left out, and so is a modality that is
    not among `modalities`.
    """
    return {phase: _transforms(spec, phase, registry, dataset, modalities) for phase in PHASES}


def _transforms(
    spec: JobSpec, phase: str, registry: Registry, dataset: Dataset, modalities: Iterable[str] | None
) -> dict[str, Component]:
    asked: Mapping[str, Component] = getattr(spec, phase)
    for modality in asked.keys() - dataset.shapes.keys():
        raise AgmbenchError(f"data set '{spec.dataset.name}' has no modality '{modality}': {allowed(modality, dataset.shapes)}")
    found = {m: resolved(registry, "transform", component) for m, component in asked.items()}
    if beforehand := found.keys() & set(dataset.untransformed):
        named = getattr(compose(registry, spec.dataset.name), phase)
        for m in beforehand & named.keys():
            if found[m] == resolved(registry, "transform", named[m]):
                del found[m]
    kept = found.keys() if modalities is None else found.keys() & set(modalities)
    return {m: found[m] for m in found if m in kept and not registry.get("transform", found[m].name).load().idle}


def augmentation(job: Job) -> Augmentation | None:
    """What becomes of a job's samples, if any transform is named; each has been tried on the first sample of train."""
    named: dict[str, Mapping[str, Component]] = {phase: getattr(job.spec, phase) for phase in PHASES}
    shapes = job.dataset.shapes
    made: dict[str, dict[str, Transform]] = {
        phase: {m: _make(job.registry, "transform", one, shapes[m], of=f" of '{m}'") for m, one in found.items()}
        for phase, found in named.items()
    }
    if not any(made.values()):
        return None
    augmentation = Augmentation(made["augment"], made["evaluation"], shapes, job.spec.seed)
    for epoch, phase in ((0, "augment"), (None, "evaluation")):
        for modality, component in named[phase].items():
            entry = job.registry.get("transform", component.name)
            if reason := _unfit(job.dataset, modality, augmentation(epoch)):
                raise AgmbenchError(f"{entry} of '{modality}': {reason}")
    return augmentation


def _unfit(dataset: Dataset, modality: str, change: Change) -> str | None:
    """Why a transform cannot be used, by what becomes of the first sample."""
    train, first = dataset.split("train"), torch.tensor([0])
    try:
        x = finished(train, read(train, first, {modality: change[modality]})).inputs[modality]
    except (Unsuitable, ValueError) as error:
        return str(error)
    except Exception as error:  # a stranger's component may raise anything
        return f"fails on the first sample of train ({describe(error)})"
    wrong = wrong_input(modality, x, tuple(dataset.shapes[modality]), 1)
    return wrong and f"makes {wrong.found} of the first sample of train; expected {wrong.expected}"


def concepts(job: Job) -> dict[str, JobSpec]:
    """The mono-modal concept of each modality: the reference runs of competition strength (AGM paper, supplement A.2).

    Under an additive fusion a concept is a network of one encoder and a head; under any other it is the same architecture with
    the other modalities muted. Their seed and their muting are the job's, or its `concept_seed` and `concept_mute`.
    """
    joint = Component(name="joint")
    fusion = job.registry.get("fusion", job.spec.fusion.name).load()
    training, asked = job.spec.training, job.spec.compared
    if fusion.additive and "concept_mute" in asked:
        raise AgmbenchError(
            f"concept_mute={asked['concept_mute']}: under fusion '{job.spec.fusion.name}' a concept is one encoder and a head, and "
            "nothing is muted; leave it out, or take a fusion that is not additive"
        )
    if not judge(job.spec, job.registry, job.dataset).of_any_model:
        training = training.model_copy(update={"select_by": None})
    return {
        modality: job.spec.trained().model_copy(
            update={
                "seed": asked.get("concept_seed", job.spec.seed),
                "mute": asked.get("concept_mute", job.spec.mute),
                "modulator": joint,
                "present": (modality,),
                "encoders": {modality: job.spec.encoders[modality]} if fusion.additive else job.spec.encoders,
                "training": training,
            }
        )
        for modality in (job.modalities if job.spec.present is None else ())
    }


def references(job: Job) -> dict[str, Job]:
    """The jobs of the mono-modal concepts, on the data set as it is opened; of another seed, as it is under that."""
    found = concepts(job)
    seed = job.spec.compared.get("concept_seed", job.spec.seed)
    data = job.data if seed == job.spec.seed or not found else _data(job.registry, job.spec.dataset, next(iter(found.values())))
    if data.fingerprint != job.data.fingerprint:
        raise AgmbenchError(
            f"concept_seed={seed}: data set '{job.spec.dataset.name}' holds other samples under that seed, so its concepts are trained "
            "otherwise and tell nothing of this model; leave it out"
        )
    return {modality: resolve(spec, job.registry, data) for modality, spec in found.items()}


def model(job: Job) -> MultimodalModel:
    """The job's model with the weights that its seed gives, on the CPU."""
    torch.manual_seed(job.spec.seed)
    encoders: dict[str, Encoder] = {
        modality: _make(job.registry, "encoder", component, job.dataset.shapes[modality], of=f" of '{modality}'")
        for modality, component in job.spec.encoders.items()
    }
    task = job.dataset.task
    features = {modality: encoder.out_features for modality, encoder in encoders.items()}
    fusion: Fusion = _make(job.registry, "fusion", job.spec.fusion, features, task.outputs(len(job.dataset.class_names)))
    if fusion.per_segment != isinstance(task, Segments):
        asked, given = ("each segment", "a sample") if isinstance(task, Segments) else ("a sample", "each segment")
        fitting = [name for name, other in _fusions(job.registry) if other.per_segment != fusion.per_segment]
        raise AgmbenchError(
            f"data set '{job.spec.dataset.name}' has a class for {asked}, fusion '{job.spec.fusion.name}' answers for {given}; "
            f"take --fusion with one of {', '.join(fitting)}"
        )
    _apart({**{f"encoder of '{modality}'": encoder for modality, encoder in encoders.items()}, "fusion": fusion})
    recipe, train = job.spec.training, job.dataset.split("train")
    criterion = recipes.criterion(recipe, train, len(job.dataset.class_names)) if _of_classes(task) else None
    if recipe.mixup is not None and type(task) is SingleLabel:
        task = MixedLabel(len(job.dataset.class_names))
    made = MultimodalModel(encoders, fusion, job.spec.present, _muting(job), task, recipe.reduction, criterion)
    widths = [module.out_channels for module in made.modules() if isinstance(module, nn.Conv2d)]
    # convolutions are quicker so; torch 2.14 corrupts memory in the backward pass of narrow ones on a CPU
    return made.to(memory_format=torch.channels_last) if all(width >= 16 for width in widths) else made


def _apart(parts: Mapping[str, nn.Module]) -> None:
    """Raise unless every part has tensors of its own, of known shape: the optimizer and the methods take the parts by themselves."""
    owner: dict[nn.Parameter, str] = {}
    for part, module in parts.items():
        for name, tensor in module.named_parameters():
            if is_lazy(tensor):
                raise AgmbenchError(
                    f"the {part} does not know the shape of its {name} yet; make it in __init__, without Lazy layers"
                )
            if owner.setdefault(tensor, part) != part:
                raise AgmbenchError(
                    f"the {part} shares its {name} with the {owner[tensor]}; each should have tensors of its own"
                )


def _fusions(registry: Registry) -> Iterator[tuple[str, type[Fusion]]]:
    """Those that can be imported; what is wrong with another is not the job's."""
    for entry in registry.entries("fusion"):
        with suppress(AgmbenchError):
            yield entry.name, entry.load()


def concept_models(
    job: Job, whole: MultimodalModel, device: torch.device, weights: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, MultimodalModel]:
    """The concepts' models, with first `weights` if none are given, frozen and in eval mode; they mute as the `whole` model does."""
    made = {}
    for modality, spec in concepts(job).items():
        concept = model(replace(job, spec=spec)).to(device)
        if weights is not None:
            concept.load_state_dict(weights[modality])
        concept.muting = whole.muting  # after its own weights, which hold the state of its own muting
        made[modality] = concept.requires_grad_(False).eval()
    return made


def _muting(job: Job) -> muting.Zeros:
    if job.spec.mute == "mean":
        return muting.Mean(job.dataset.split("train"), job.spec.encoders)
    return muting.Random(job.spec.seed) if job.spec.mute == "random" else muting.Zeros()


def modulator(job: Job, model: MultimodalModel) -> Modulator:
    """The job's modulator, or an error if it refuses the model."""
    made: Modulator = _make(job.registry, "modulator", job.spec.modulator, job.modalities)
    if reason := made.refuses(model):
        if isinstance(model.task, MixedLabel) and made.refuses(_unmixed(model)) is None:
            reason = "needs the class of each sample, and training.mixup mixes those of two; leave training.mixup out"
        raise AgmbenchError(f"modulator '{job.spec.modulator.name}' {reason}")
    train, texts = job.dataset.split("train"), [m for m, encoder in model.encoders.items() if encoder.reads_text]
    few = train.batch(torch.arange(min(READ if texts else 1, len(train))))  # they tell what all batches have
    for modality in texts:
        _check_text(job, modality, few.inputs[modality])
    if few.absent and not made.promises.absent:
        raise AgmbenchError(
            f"modulator '{job.spec.modulator.name}' learns from each modality by itself, and samples of train lack "
            f"{', '.join(few.absent)}; leave them out (of a table, dataset.missing=drop), or take a method that docs/methods.md does not "
            "say to refuse absent modalities"
        )
    if few.weights is not None and not made.promises.weights:
        raise AgmbenchError(
            f"modulator '{job.spec.modulator.name}' has losses in which all samples count alike, and those of train have weights; leave "
            "the weights out (of a table, dataset.weight=null), or take a method that docs/methods.md does not say to refuse them"
        )
    parts = (*job.dataset.shapes, "fusion", "modulator")
    concept, changed = job.spec.present is not None, (job.spec.augment, job.spec.evaluation)
    if reason := recipes.refused(job.spec.training, model, made, parts, train, *changed, concept):
        raise AgmbenchError(reason)
    return made


def _check_text(job: Job, modality: str, x: Input) -> None:
    """Raise if an encoder of raw text would be given something else."""
    try:
        texts_of(x if isinstance(x, Tokens) else Tokens(x))
    except Unsuitable as error:
        raise AgmbenchError(
            f"encoder/{job.spec.encoders[modality].name} of '{modality}': {error}; in the entry of a table say 'numbers: bytes' of the "
            "modality, with a length in bytes"
        ) from error


def _of_classes(task: Task) -> bool:
    """Whether the recipe's smoothing and weights of classes mean anything; where they do not, they are refused with a reason."""
    return isinstance(task, SingleLabel)


def _unmixed(model: MultimodalModel) -> MultimodalModel:
    """The same model on the task of the data set, to be asked about."""
    plain = copy.copy(model)
    plain.task = SingleLabel()
    return plain


def gpus() -> int:
    """How many GPUs torch sees."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def device(name: str) -> torch.device:
    """`auto` is CUDA where there is one; `cpu`, `cuda` and `cuda:i` are themselves."""
    count = gpus()
    present = ["cpu", *(["cuda", *(f"cuda:{number}" for number in range(count))] if count else [])]
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    if name not in present:
        raise AgmbenchError(f"no device '{name}' on this machine: {allowed(name, ['auto', *present])}")
    return torch.device(name)


def resolved(registry: Registry, kind: str, component: Component) -> Component:
    """The component with every parameter, checked against the types of its signature."""
    entry = registry.get(kind, component.name)
    return Component(name=entry.name, params=check_parameters(entry, component.params))


def check_parameters(entry: Entry, given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of an entry as JSON values: the signature's defaults, the entry's, then those given."""
    schema = parameters(entry)
    for name in (*entry.params, *given):
        if name not in schema.model_fields:
            raise AgmbenchError(f"{entry} has no parameter '{name}': {allowed(name, schema.model_fields)}")
    try:
        return schema.model_validate({**entry.params, **given}).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] == "missing":
            raise AgmbenchError(f"{entry} needs a value: parameter '{name}' of {entry} has no default") from error
        raise AgmbenchError(
            f"parameter '{name}' of {entry} is {first['input']!r}: should be {annotation(schema, name)}"
        ) from error


def parameters(entry: Entry) -> type[BaseModel]:
    """The keyword-only parameters of an entry's target, as a pydantic model."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a parameter may be called what pydantic calls a method
            return _schema(str(entry), entry.load())
    except (NameError, TypeError, PydanticUserError) as error:
        raise AgmbenchError(
            f"{entry}: the types of the parameters of '{entry.target}' cannot be read ({describe(error)}); see {entry.place}"
        ) from error


@cache
def _schema(title: str, target: Any) -> type[BaseModel]:
    """Made once per target and process: a plan of hundreds of jobs asks for the same few."""
    function = target.__init__ if inspect.isclass(target) else target
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        parameter.name: (hints.get(parameter.name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())
    return create_model(title, __config__=config, **fields)


def annotation(schema: type[BaseModel], name: str) -> str:
    """A parameter's type as a reader of the terminal understands it: `float >= 0`, `one of exact, shared`, `int > 0 or none`."""
    return _words(schema.model_json_schema()["properties"][name])


_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_TYPES = {"number": "a number", "integer": "a whole number", "boolean": "true or false", "string": "a text", "null": "null"}
_TYPES |= {"object": "a mapping", "array": "a list"}


def _words(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_words(option) for option in schema["anyOf"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    bounds = [f"{sign} {schema[key]}" for key, sign in _BOUNDS.items() if key in schema]
    return " ".join([_TYPES.get(schema.get("type", ""), "anything"), " and ".join(bounds)]).strip()


def _make(registry: Registry, kind: str, component: Component, *known: Any, of: str = "") -> Any:
    entry = registry.get(kind, component.name)
    make: Callable[..., Any] = entry.load()
    try:
        return make(*known, **component.params)
    except (Unsuitable, ValueError) as error:
        raise AgmbenchError(f"{entry}{of}: {error}") from error
    except Exception as error:  # a stranger's component may raise anything
        raise AgmbenchError(f"{entry}{of} cannot be made ({describe(error)}); it is named in {entry.place}") from error
