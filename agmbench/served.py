"""A run's best checkpoint as an MLflow model: `mlflow.pyfunc.load_model` gives its predictions without the data set.

Inputs are arrays by modality, `[N, *shape]` in the data set's own dtype, and for sequences with masks also `<modality>_mask` `[N, T]`,
true where there is a token. The output is a table with one row per sample (or segment): `logit/0` ... `logit/C-1`, equal to those of
`predictions.parquet`, and `prediction`, the name of the class or the number of a regression. With several labels per sample there are
`prediction/0` ... instead, each 1 or 0.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from mlflow import pyfunc
from mlflow.models import Model, ModelSignature, infer_signature
from mlflow.models.utils import _save_example
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray
from torch import Tensor

from agmbench import build, predictions
from agmbench.contracts import SPLITS, Batch, Dataset, Input, Modulator, Split, SplitName, TensorSplit, Tokens, in_order
from agmbench.errors import AgmbenchError, allowed
from agmbench.evaluate import evaluate
from agmbench.jobs import job_of
from agmbench.loading import Feed
from agmbench.model import MultimodalModel
from agmbench.registry import load
from agmbench.tasks import SingleLabel, Task
from agmbench.train import prepare

CPU = torch.device("cpu")


def save(job: build.Job, weights: Mapping[str, Any], folder: Path) -> None:
    """Write the selected model of a job to a new folder in MLflow's format; its input example is the first sample of test."""
    sample = job.dataset.split("test").batch(torch.arange(1))
    arrays = _arrays({modality: sample.inputs[modality] for modality in job.spec.encoders})
    inputs = Schema([TensorSpec(values.dtype, (-1, *values.shape[1:]), name) for name, values in arrays.items()])
    blank = torch.zeros(1, job.dataset.task.outputs(len(job.dataset.class_names)))
    answer = _table(blank, job.dataset.task.of_rows(), job.dataset.class_names)
    data = folder / "data"
    data.mkdir(parents=True)
    (data / "job.yaml").write_text(yaml.safe_dump(job.spec.canonical(), sort_keys=False))
    (data / "data.json").write_text(json.dumps(_described(job, sample), indent=1))
    torch.save({"model": weights["model"], "modulator": weights["modulator"]}, data / "weights.pt")
    needed = [f"{name}=={version(name)}" for name in ("mlflow", "agmbench")]
    (folder / "requirements.txt").write_text("\n".join(needed))
    # pyfunc.save_model is not used, because it takes seconds to compare the requirements with every installed package
    written = Model(signature=ModelSignature(inputs, infer_signature(model_output=answer).outputs))
    pyfunc.add_to_model(written, loader_module=__name__, data="data")
    _save_example(written, arrays, str(folder))
    written.save(str(folder / "MLmodel"))


class Served:
    """A trained model with the interface that MLflow calls."""

    def __init__(self, model: MultimodalModel, modulator: Modulator, data: "Described") -> None:
        self.model, self.modulator, self.data = model, modulator, data

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
        """Logits and predictions for inputs, computed in the same way as a job computes them for its splits."""
        blank = self.data.blank
        given = {m: _input(m, x, inputs) for m, x in blank.inputs.items()}
        count = len(next(iter(given.values())))
        split = TensorSplit(given, blank.targets.expand(count, *blank.targets.shape[1:]))
        outcome = evaluate(self.model, self.modulator, in_order(split), where="the inputs")
        return _table(torch.from_numpy(outcome.full), self.data.task.of_rows(), self.data.class_names)


def _load_pyfunc(path: str) -> Served:
    """Load the model on the CPU; MLflow calls this function."""
    folder = Path(path)
    spec = job_of(folder / "job.yaml").spec
    registry, about = load(), json.loads((folder / "data.json").read_text())
    if not about["task"]["class"].startswith(f"{Task.__module__}:"):  # the data set defines the task itself
        registry.get("dataset", spec.dataset.name).load()
    data = Described(about)
    job = build.Job(spec, registry, build.Data(data, data.fingerprint), data.digest)
    weights = torch.load(folder / "weights.pt", map_location=CPU, weights_only=True)
    with torch.random.fork_rng(devices=[]):
        model, modulator = restored(job, weights, CPU)
    return Served(model, modulator, data)


def restored(job: build.Job, weights: Mapping[str, Any], device: torch.device) -> tuple[MultimodalModel, Modulator]:
    """A job's model and modulator as they were when `weights` were saved. Weights of unimodal models are part of the modulator's."""
    model = build.model(job).to(device)
    modulator = build.modulator(job, model)
    concepts = build.concept_models(job, model, device) if modulator.needs_concepts else {}
    feed = Feed({name: job.dataset.split(name) for name in SPLITS}, device)
    prepare(model, modulator, feed, job.spec.training, job.spec.seed, concepts)
    model.load_state_dict(weights["model"])
    resize(modulator, weights["modulator"])
    modulator.load_state_dict(weights["modulator"])
    return model, modulator


def resize(module: torch.nn.Module, state: Mapping[str, Any]) -> None:
    """Give buffers the size that they have in a state. A buffer with a value per training sample is empty where there are no samples."""
    for name, buffer in list(module.named_buffers()):
        if name in state and state[name].shape != buffer.shape:
            owner, _, own = name.rpartition(".")
            module.get_submodule(owner).register_buffer(own, torch.zeros_like(state[name], device=buffer.device))


class Described(Dataset):
    """What a model has to know about its data set: every split is one blank sample."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        self.digest = about["digest"]
        self.fingerprint = about["fingerprint"]
        self.class_names = about["class_names"]
        self.shapes = {modality: tuple(kind["shape"]) for modality, kind in about["inputs"].items()}
        self.task: Task = task_class(about["task"]["class"])(**about["task"]["with"])
        inputs = {modality: _blank(kind) for modality, kind in about["inputs"].items()}
        self.blank = TensorSplit(inputs, _zeros(about["targets"]))

    def split(self, name: SplitName) -> Split:
        return self.blank


def task_class(name: str) -> type[Task]:
    """The task with the name `module:class`, among agmbench's own and those of data sets that are loaded. Nothing is imported."""
    known = {_named(found): found for found in _below(Task)}  # type: ignore[type-abstract]
    if name not in known:
        raise AgmbenchError(f"the model's task {name!r} is none of agmbench.tasks, nor its data set's: {allowed(name, known)}")
    return known[name]


def _named(task: type[Task]) -> str:
    return f"{task.__module__}:{task.__qualname__}"


def _below(task: type[Task]) -> Iterator[type[Task]]:
    for found in task.__subclasses__():
        yield found
        yield from _below(found)


def _described(job: build.Job, sample: Batch) -> dict[str, Any]:
    task = job.dataset.task
    return {
        "digest": job.digest,
        "fingerprint": job.data.fingerprint,
        "task": {"class": _named(type(task)), "with": vars(task)},
        "class_names": list(job.dataset.class_names),
        "inputs": {modality: _described_input(sample.inputs[modality]) for modality in job.spec.encoders},
        "targets": _kind(sample.targets),
    }


def _described_input(x: Input) -> dict[str, Any]:
    if isinstance(x, Tokens):
        return {**_kind(x.values), "sequence": True, "mask": x.mask is not None}
    return {**_kind(x), "sequence": False, "mask": False}


def _kind(x: Tensor) -> dict[str, Any]:
    """The shape and dtype of one sample."""
    return {"shape": list(x.shape[1:]), "dtype": str(x.dtype).removeprefix("torch.")}


def _zeros(kind: Mapping[str, Any]) -> Tensor:
    """One sample of zeros with the shape and dtype of `kind`."""
    dtype = getattr(torch, kind["dtype"], None)
    if not isinstance(dtype, torch.dtype):
        raise AgmbenchError(f"the model's data have a type that torch does not know: {kind['dtype']!r}")
    return torch.zeros(1, *kind["shape"], dtype=dtype)


def _blank(kind: Mapping[str, Any]) -> Input:
    values = _zeros(kind)
    if not kind["sequence"]:
        return values
    return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool) if kind["mask"] else None)


def _arrays(inputs: Mapping[str, Input]) -> dict[str, NDArray[Any]]:
    """The inputs of a batch in the form in which MLflow passes them."""
    arrays = {}
    for modality, x in inputs.items():
        arrays[modality] = (x.values if isinstance(x, Tokens) else x).numpy()
        if isinstance(x, Tokens) and x.mask is not None:
            arrays[f"{modality}_mask"] = x.mask.numpy()
    return arrays


def _input(modality: str, like: Input, arrays: Mapping[str, NDArray[Any]]) -> Input:
    """The input of one modality from these arrays; a sequence if `like`, the data set's input, is one."""
    values = torch.tensor(np.asarray(arrays[modality]))
    if not isinstance(like, Tokens):
        return values
    return Tokens(values, None if like.mask is None else torch.tensor(np.asarray(arrays[f"{modality}_mask"])))


def _table(logits: Tensor, task: Task, class_names: Sequence[str]) -> pd.DataFrame:
    predicted = task.predicted(logits)
    columns: dict[str, Any] = {}
    if isinstance(task, SingleLabel):
        columns["prediction"] = [str(class_names[number]) for number in predicted.tolist()]
    else:
        columns |= predictions.columns("prediction", predicted.numpy())
    return pd.DataFrame(columns | predictions.columns("logit", logits.numpy()))
