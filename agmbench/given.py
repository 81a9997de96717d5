"""Turns a data set that Python code provides, as tensors or any `torch.utils.data.Dataset`, into an entry of the registry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from agmbench.contracts import SPLITS, Batch, Dataset, Input, Split, SplitName, TensorSplit, Tokens
from agmbench.errors import AgmbenchError, allowed, describe
from agmbench.registry import Entry
from agmbench.tasks import MultiLabel, Regression, Segments, SingleLabel, Task

NAME = "given"  # the name of a data set that was given none
DEV = 0.1  # the share of train that becomes dev, if no dev is given
EXPECTED = 'a mapping of "train", "valid", "test" (and "dev") to (inputs, targets) or to a torch Dataset of such pairs'
ENCODERS = {1: "mlp", 2: "lstm", 3: "conv", 4: "resnet"}  # by the dimensions of a sample
TRAINING = {"epochs": 20, "batch_size": 64, "optimizer": "adam", "lr": 1e-3}


@dataclass(frozen=True)
class Given(Entry):
    """An entry whose target is an object that exists already, so nothing is imported."""

    data: Dataset | None = None

    def import_target(self) -> Any:
        def opened(seed: int) -> Dataset:
            assert self.data is not None
            return self.data

        return opened


def entry(data: Dataset | Mapping[str, Any], name: str = NAME, classes: Sequence[str] | None = None) -> Given:
    """The entry of your own data set under a name, with defaults for its jobs; each modality's encoder is chosen by its samples' shape.

    `data` is a `Dataset` of `agmbench.contracts`, or the splits by name. A split is `(inputs, targets)`, with `inputs` a mapping of
    modality to a tensor or array `[N, ...]` or to `Tokens`, or a torch `Dataset` whose items are such pairs of one sample.
    """
    opened = data if isinstance(data, Dataset) else InMemory(data, classes)
    encoders = {m: ENCODERS.get(len(shape), "mlp") for m, shape in opened.shapes.items()}
    job = {"encoders": encoders, "training": TRAINING}
    place = "the call of agmbench.run"
    target = f"{type(opened).__module__}:{type(opened).__qualname__}"
    return Given("dataset", name, target, place, origin="Python", summary="given from Python", job=job, data=opened)


def _check_names(splits: Mapping[str, Any]) -> None:
    """Raise unless the mapping has exactly the known names of splits; dev may be missing."""
    if not isinstance(splits, Mapping):
        raise AgmbenchError(f"dataset: found a {type(splits).__name__}; expected a name, {EXPECTED}, or a Dataset of agmbench")
    for name in splits:
        if name not in SPLITS:
            raise AgmbenchError(f"dataset: no split is called '{name}': {allowed(str(name), SPLITS)}")
    if missing := [name for name in SPLITS if name not in splits and name != "dev"]:
        raise AgmbenchError(f"dataset: no split {', '.join(missing)}; expected {EXPECTED}")


class InMemory(Dataset):
    """A data set of the given splits. Its fingerprint is a hash of what they contain."""

    follows_seed = False

    def __init__(self, splits: Mapping[str, Any], classes: Sequence[str] | None = None) -> None:
        _check_names(splits)
        made: dict[SplitName, Split] = {name: _split(name, splits[name]) for name in SPLITS if name in splits}
        targets = {name: _targets(split) for name, split in made.items()}
        if "dev" not in made:
            made["train"], made["dev"] = _cut(made["train"])
        self._splits = made
        first = made["train"].batch(torch.arange(1))
        self.shapes = {m: tuple((x.values if isinstance(x, Tokens) else x).shape[1:]) for m, x in first.inputs.items()}
        self.task, count = _task(targets)
        self.class_names = list(classes) if classes is not None else [f"class {number}" for number in range(count)]

    def split(self, name: SplitName) -> Split:
        return self._splits[name]


def _split(name: str, given: Any) -> Split:
    if hasattr(given, "__getitem__") and hasattr(given, "__len__") and not isinstance(given, tuple | list | Mapping):
        if not len(given):
            raise AgmbenchError(f"dataset: {name} has no samples; expected one or more")
        return Items(name, given)
    if not (isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[0], Mapping)):
        raise AgmbenchError(f"dataset: {name} is a {type(given).__name__}; expected {EXPECTED}")
    made = TensorSplit({str(m): _input(name, m, x) for m, x in given[0].items()}, _target(name, given[1]))
    for m, x in made.inputs.items():
        if len(x) != len(made.targets):
            raise AgmbenchError(
                f"dataset: {name} has {len(x)} samples of {m} and {len(made.targets)} targets; expected as many targets as samples"
            )
    return made


def _input(name: str, modality: object, x: Any) -> Input:
    """The input as encoders expect it: float32."""
    if isinstance(x, Tokens):
        return Tokens(x.values.float(), x.mask)
    return _tensor(f"{name}: {modality}", x).float()


def _target(name: str, y: Any) -> Tensor:
    """The targets as a tensor: class numbers as int64, everything else as float32."""
    targets = _tensor(f"{name}: targets", y)
    return targets.float() if targets.is_floating_point() else targets.long()


def _tensor(what: str, x: Any) -> Tensor:
    if isinstance(x, Tensor):
        return x.detach().cpu()
    if isinstance(x, np.ndarray | list | tuple) and np.asarray(x).dtype.kind in "biuf":
        return torch.as_tensor(np.ascontiguousarray(x))
    raise AgmbenchError(f"dataset: {what} is a {type(x).__name__}; expected a tensor or an array of numbers")


@dataclass(frozen=True)
class Items:
    """A split made from a torch `Dataset`, whose items are `(inputs, target)` of one sample."""

    name: str
    items: Any

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, index: Tensor) -> Batch:
        """The samples with these numbers, read one after another."""
        try:
            inputs, targets = default_collate([self.items[number] for number in index.tolist()])
            if not isinstance(inputs, Mapping):
                raise TypeError(f"the inputs of an item are a {type(inputs).__name__}")
        except Exception as error:  # a stranger's data set may raise anything
            raise AgmbenchError(
                f"dataset: items of {self.name} cannot be put together ({describe(error)}); an item should be (inputs, target), "
                "with inputs a mapping of modality to a tensor, of one shape in all items"
            ) from error
        return Batch({str(m): _input(self.name, m, x) for m, x in inputs.items()}, _target(self.name, targets), index)


@dataclass(frozen=True)
class Some:
    """A part of another split: the samples `rows` of `whole`."""

    whole: Split
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Tensor) -> Batch:
        """The samples with these numbers, as counted in this part."""
        found = self.whole.batch(self.rows[index])
        return Batch(found.inputs, found.targets, index)


def _cut(train: Split) -> tuple[Split, Split]:
    """Divide train into train and dev. Dev gets a tenth of the samples, at least two, chosen with a fixed seed."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    count = max(2, round(DEV * len(train)))
    parts = [order[count:].sort().values, order[:count].sort().values]
    if isinstance(train, TensorSplit):
        rest, dev = (TensorSplit({m: x[rows] for m, x in train.inputs.items()}, train.targets[rows]) for rows in parts)
        return rest, dev
    return Some(train, parts[0]), Some(train, parts[1])


def _targets(split: Split) -> Tensor:
    """The targets of every sample; a data set that does not hold them is read once."""
    held = getattr(split.items, "targets", None) if isinstance(split, Items) else getattr(split, "targets", None)
    if isinstance(held, Tensor | np.ndarray | list) and len(held) == len(split):
        return _target("targets", held)
    return torch.cat([split.batch(rows).targets for rows in torch.arange(len(split)).split(256)])


def _task(targets: Mapping[SplitName, Tensor]) -> tuple[Task, int]:
    """The task that the type and shape of the targets imply, and the number of classes."""
    train = targets["train"]
    if not train.is_floating_point():
        return (Segments() if train.ndim == 2 else SingleLabel()), int(max(y.max() for y in targets.values())) + 1
    if train.ndim == 2:
        return MultiLabel(), train.shape[1]
    return Regression(float(train.var())), 1
