"""What the author of a component imports: the kinds of component and what passes between them; of metrics, see `outcomes.py`.

What the job knows comes to a component by position (shapes, classes, modalities, the seed); its parameters are keyword-only and
typed, and their defaults stand in the signature. `registry.yaml` may override a default; `--set` overrides both.

Shapes: B samples in a batch, N in a split, C classes, D features, M modalities.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from agmbench.shapley import Coalition as Coalition
from agmbench.shapley import coalitions as coalitions
from agmbench.shapley import responses as responses
from agmbench.tasks import SingleLabel, Task

SplitName = Literal["train", "dev", "valid", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)

Mode = Literal["exact", "shared"]
Reduction = Literal["mean", "sum"]


class Alike(NamedTuple):
    """Samples that have the same mask: the numbers `[G]` of one of each, and which of these each sample is like, `[B]`."""

    first: Tensor
    group: Tensor

    @classmethod
    def of(cls, mask: Tensor) -> "Alike":
        """How many they are the host has to know, so a mask on a device is waited for."""
        distinct, group = torch.unique(mask, dim=0, return_inverse=True)
        first = torch.full((len(distinct),), len(group), device=mask.device)
        return cls(first.scatter_reduce(0, group, torch.arange(len(group), device=mask.device), "amin"), group)


@dataclass(frozen=True)
class Tokens:
    """Sequences of unlike lengths: `values` `[B, T, D]`, `mask` `[B, T]` true where there is a token; `None` is everywhere.

    `alike` is for the model, which encodes a muted sequence once a mask: `to` asks it of a mask that is still on the CPU, so that nobody
    has to wait for a device.
    """

    values: Tensor
    mask: Tensor | None = None
    alike: Alike | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Tensor | slice) -> "Tokens":
        return Tokens(self.values[index], None if self.mask is None else self.mask[index])

    def to(self, device: torch.device, non_blocking: bool = False) -> "Tokens":
        """The same sequences on a device."""
        values = self.values.to(device, non_blocking=non_blocking)
        if self.mask is None:
            return Tokens(values)
        alike = Alike.of(self.mask) if self.mask.device.type == "cpu" else self.alike
        moved = alike and Alike(*(x.to(device, non_blocking=non_blocking) for x in alike))
        return Tokens(values, self.mask.to(device, non_blocking=non_blocking), moved)

    def pin_memory(self) -> "Tokens":
        """The same sequences in memory from which copies to a GPU do not wait."""
        return Tokens(self.values.pin_memory(), None if self.mask is None else self.mask.pin_memory())

    def tensors(self) -> Iterator[Tensor]:
        """Values, and the mask where there is one."""
        yield self.values
        if self.mask is not None:
            yield self.mask

    def pooled(self) -> Tensor:
        """The mean over the tokens that are there, `[B, D]`; zero where there are none."""
        if self.mask is None:
            return self.values.mean(dim=1)
        there = self.mask.unsqueeze(2).to(self.values.dtype)  # [B, T, 1]
        return (self.values * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)


Input = Tensor | Tokens


def joined(inputs: Sequence[Input]) -> Input:
    """Batches of one modality one after another; its sequences are equally long, and have masks all or none."""
    tokens = [x for x in inputs if isinstance(x, Tokens)]
    if not tokens:
        return torch.cat([x for x in inputs if isinstance(x, Tensor)])
    masks = [x.mask for x in tokens if x.mask is not None]
    return Tokens(torch.cat([x.values for x in tokens]), torch.cat(masks) if masks else None)


def utf8(texts: Sequence[str], length: int) -> Tokens:
    """Raw text as encoders `hf-text` and `clip` take it: numbers `[B, length, 1]` of its bytes in UTF-8, with a mask.

    What is longer is cut off, between two letters.
    """
    values, mask = torch.zeros(len(texts), length, 1), torch.zeros(len(texts), length, dtype=torch.bool)
    for row, text in enumerate(texts):
        content = text.encode()[:length].decode(errors="ignore").encode()
        values[row, : len(content), 0] = torch.tensor(list(content), dtype=torch.float32)
        mask[row, : len(content)] = True
    return Tokens(values, mask)


def texts_of(x: Tokens) -> list[str]:
    """The texts that `utf8` was given; zeros, as of a muted one, are no text. The host reads them."""
    values = x.values.squeeze(2) if x.mask is None else x.values.squeeze(2) * x.mask
    rows = values.round().long().tolist()
    if any(number > 255 or number < 0 for row in rows for number in row):
        raise Unsuitable("takes raw text, numbers 0 to 255 of its bytes (agmbench.contracts.utf8); found other numbers")
    return [bytes(number for number in row if number).decode(errors="replace") for row in rows]


@dataclass(frozen=True)
class Batch:
    """`inputs[m]` `[B, *shape_m]` or sequences, `targets` `[B, ...]` as the task has them (class numbers `[B]`), `index` `[B]` the
    samples' numbers in their split.

    `at` `[B]`, in training: the samples' places in the list of the epoch's samples, in which a sample may stand several times.

    `absent[m]` `[B]` is true for the samples that have no modality m; it is there for modalities that some samples of the split lack.
    What encoders get of these samples is what stands in for an absent modality (the job's `mute`), as in a coalition without it.

    `weights` `[B]`, where the data set weighs its training samples: what the loss of each counts, at least 0 and 1 on average over train.
    """

    inputs: Mapping[str, Input]
    targets: Tensor
    index: Tensor
    at: Tensor | None = None
    absent: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device; a copy from pinned memory does not wait."""
        return Batch(
            {modality: values.to(device, non_blocking=True) for modality, values in self.inputs.items()},
            self.targets.to(device, non_blocking=True),
            self.index.to(device, non_blocking=True),
            None if self.at is None else self.at.to(device, non_blocking=True),
            {modality: lacking.to(device, non_blocking=True) for modality, lacking in self.absent.items()},
            None if self.weights is None else self.weights.to(device, non_blocking=True),
        )

    def pin_memory(self) -> "Batch":
        """The same batch in memory from which copies to a GPU do not wait; torch's `DataLoader` calls this."""
        return Batch(
            {modality: values.pin_memory() for modality, values in self.inputs.items()},
            self.targets.pin_memory(),
            self.index.pin_memory(),
            None if self.at is None else self.at.pin_memory(),
            {modality: lacking.pin_memory() for modality, lacking in self.absent.items()},
            None if self.weights is None else self.weights.pin_memory(),
        )

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor of it."""
        for values in self.inputs.values():
            yield from values.tensors() if isinstance(values, Tokens) else (values,)
        yield self.targets
        yield self.index
        if self.at is not None:
            yield self.at
        yield from self.absent.values()
        if self.weights is not None:
            yield self.weights


class Split(Protocol):
    """One split of a data set: any batch of it by the samples' numbers.

    Inputs are float32, word numbers too. A split that holds the targets of all its samples may have them as `targets` `[N, ...]`.
    """

    def __len__(self) -> int: ...
    def batch(self, index: Tensor) -> Batch: ...


class ChangeOf(Protocol):
    """How the samples of one modality are changed: a sample's number and its input as read, in a batch of one; what becomes of it.

    Where `any_size` says so, pictures of files come as large as they are there.
    """

    @property
    def any_size(self) -> bool: ...
    def __call__(self, number: int, x: Input) -> Input: ...


Change = Mapping[str, ChangeOf]  # by modality; what is not in it stays as it is


class Staged(ABC):
    """A split whose batches are made in two steps: they are `read` in a process that reads ahead and `finished` where the model is.

    So what travels to a GPU is as small as it was stored: frames are bytes until they are there.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: Tensor, change: Change | None = None) -> Batch:
        """The samples of those numbers as they are stored, each changed by `change`."""

    @abstractmethod
    def finished(self, batch: Batch) -> Batch:
        """What was read, on any device, as encoders take it."""

    def batch(self, index: Tensor) -> Batch:
        """The samples of those numbers."""
        return self.finished(self.read(index))


def read(split: Split, index: Tensor, change: Change | None = None) -> Batch:
    """The first step of a batch of any split; one that is not staged takes all of it here."""
    if isinstance(split, Staged):
        return split.read(index, change)
    batch = split.batch(index)
    if change is None:
        return batch
    numbers = batch.index.tolist()
    inputs = {m: changed_each(x, numbers, change[m]) if m in change else x for m, x in batch.inputs.items()}
    return replace(batch, inputs=inputs)


def finished(split: Split, batch: Batch) -> Batch:
    """The second step of a batch that was `read`."""
    return split.finished(batch) if isinstance(split, Staged) else batch


def in_memory(split: Split) -> bool:
    """Whether the samples of a split are there already, so that nobody has to read ahead."""
    return isinstance(split, TensorSplit) or bool(getattr(split, "in_memory", False))


def muted(batch: Batch, mute: Callable[[str, Input], Input], known: Collection[str]) -> Batch:
    """A batch in which `mute` stands in for the modalities that samples lack, of those that are `known` to it; a sequence of such a
    sample keeps its mask, which hides all of it."""
    inputs = dict(batch.inputs)
    for modality, lacking in [(m, lacking) for m, lacking in batch.absent.items() if m in known]:
        x, blank = inputs[modality], mute(modality, inputs[modality])
        if isinstance(x, Tokens) and isinstance(blank, Tokens):
            inputs[modality] = replace(x, values=torch.where(lacking[:, None, None], blank.values, x.values))
        elif isinstance(x, Tensor) and isinstance(blank, Tensor):
            inputs[modality] = torch.where(lacking.reshape(-1, *[1] * (x.ndim - 1)), blank, x)
    return replace(batch, inputs=inputs)


def changed_each(x: Input, numbers: Sequence[int], change: ChangeOf) -> Input:
    """A batch of which each sample was changed by itself."""
    return joined([change(number, x[place : place + 1]) for place, number in enumerate(numbers)])


def in_order(split: Split, size: int = 256) -> Iterator[Batch]:
    """Every sample of a split once, as they come."""
    for index in torch.arange(len(split)).split(size):
        yield split.batch(index)


@dataclass(frozen=True)
class TensorSplit:
    """A split held in memory: `inputs[m]` `[N, *shape_m]`, `targets` `[N, ...]`; `weights` `[N]` as a batch has them, if there are."""

    inputs: Mapping[str, Input]
    targets: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, index: Tensor) -> Batch:
        """The samples of those numbers, by one indexing operation a modality."""
        inputs = {modality: values[index] for modality, values in self.inputs.items()}
        return Batch(inputs, self.targets[index], index, weights=None if self.weights is None else self.weights[index])


class Dataset(ABC):
    """Four splits of multimodal samples. Built from the job's seed and its own parameters.

    `shapes[m]` is the shape of one sample of modality m, `class_names` has C names, `task` says what the targets are.

    What the splits contain is hashed by agmbench and enters the digest of every job on them. `fingerprint` is for what it cannot see:
    it reads a split that is not in memory in a few places only.

    wants_folder: behind the seed it is given, as `at`, the folder of the file in which its entry stands, `None` for a built-in one: the
    files that its parameters name are below it.

    follows_seed: `False`, the splits are the same under every seed; `True`, they are made of seed and parameters alone; `None`, it is
    not known, and agmbench opens the data set under one more seed to tell runs on the same data from others.

    untransformed: modalities whose samples are features that were made beforehand, as in one layout of several: the transforms that
    the `job` of the data set's entry names are not for them.
    """

    task: Task = SingleLabel()
    follows_seed: ClassVar[bool | None] = None
    wants_folder: ClassVar[bool] = False

    shapes: Mapping[str, tuple[int, ...]]
    class_names: Sequence[str]
    fingerprint: str = ""
    untransformed: Collection[str] = ()

    @abstractmethod
    def __init__(self, seed: int) -> None: ...

    @abstractmethod
    def split(self, name: SplitName) -> Split:
        """`train` for gradients, `dev` (cut from train) for fits on a trained model, `valid` for choices, `test` for the result."""


class Transform(ABC):
    """What becomes of the samples of a modality in training, drawn anew in every epoch. Evaluation never sees it.

    A subclass has `__init__(self, shape, *, ...)`, which raises `Unsuitable` for a shape that it cannot take. It is called with one
    sample in a batch of one and gives another of the same shape, dtype and kind; what it was given stays as it is. Every draw comes
    from the `generator`, which is the sample's own in that epoch, so that it is the same in any process and after a resume.

    It sees a sample before the data set converts it: pictures `[1, ..., C, H, W]`, which may be bytes, sequences as `Tokens`, all else
    `[1, *shape]`. It is sent to the processes that read ahead, so it can be pickled and keeps nothing between calls.

    any_size: it takes pictures of any size and brings them to that of the shape; so those of files come as large as they are there.
    idle: it leaves every sample as it is, so a job with it is the job without.
    """

    any_size: ClassVar[bool] = False
    idle: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, shape: tuple[int, ...]) -> None: ...

    @abstractmethod
    def __call__(self, x: Any, generator: torch.Generator) -> Any:
        """What becomes of one sample, a tensor or `Tokens`."""


class Encoder(nn.Module):
    """One modality's input `[B, *shape]` to features `[B, out_features]`, or to `Tokens` `[B, T, out_features]`.

    A subclass sets `out_features` in `__init__(self, shape, *, ...)` and raises `Unsuitable` for a shape that it cannot take.
    A fusion that takes vectors is given the mean of the tokens, one that takes tokens a vector as a sequence of one.

    `guided` says that the encoder looks at other modalities too: its `forward(x, inputs)` is then given all inputs of the batch, the
    absent ones muted, and each coalition costs a full pass.

    `same_in_training` says that `forward` does not look at `training`, and draws nothing: if none of the encoder's modules does either
    (no BatchNorm, no dropout above 0), methods that ask for passes in eval mode too take one for both. A subclass says it anew.

    `reads_numbers` says that its input are numbers of words or of tokens, so that there is nothing between two of them, `reads_text`
    that they are the bytes of raw text (`utf8`), of which it makes tokens by `on_host`.

    `sees_padding` says that it reads no mask, as some published networks do; otherwise what a mask hides changes nothing.
    """

    guided: ClassVar[bool] = False
    same_in_training: ClassVar[bool] = False
    sees_padding: bool = False
    reads_numbers: bool = False
    reads_text: bool = False
    out_features: int

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()

    def on_host(self, x: Input) -> Input:
        """What becomes of its input before it is copied to the device, as where text is made tokens; by default nothing.

        `forward` takes both, what comes out of this and what goes in, and makes the same of them.
        """
        return x

    def forward(self, *inputs: Any, **named: Any) -> Tensor | Tokens:
        raise TypeError(f"{type(self).__name__} should define forward(x)")


class Fused(NamedTuple):
    """`logits` `[B, C]` and the fused `representation` `[B, R]` from which competition strength is read."""

    logits: Tensor
    representation: Tensor


class Fusion(nn.Module):
    """Features `{m: [B, D_m]}` to logits, by one or more linear heads.

    `additive` says that the logits are a sum of one term a modality, which `terms` then returns. `takes_tokens` says that features
    are `{m: Tokens}` instead, `per_segment` that it answers for each segment: logits `[B, T, C]`, representation `[B, T, R]`.
    `penalises` says that it has a loss of its own, which no logits tell: its `penalty` is then added to the loss of every method.
    """

    additive: ClassVar[bool] = False
    takes_tokens: ClassVar[bool] = False
    per_segment: ClassVar[bool] = False
    penalises: bool = False

    def __init__(self, features: Mapping[str, int], classes: int) -> None:
        super().__init__()

    def forward(self, features: Mapping[str, Any]) -> Fused:
        raise TypeError(f"{type(self).__name__} should define forward(features)")

    def terms(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`z_m` `[B, C]` with `sum_m z_m` = logits; for additive fusions only."""
        raise TypeError(f"{type(self).__name__} is not additive: it has no term of a modality's own")

    def own_gradients(self, modality: str) -> list[Tensor]:
        """The gradients that are there of the weights of a modality's own term, to be changed in place; none where all share them."""
        return []

    def penalty(self, features: Mapping[str, Any], targets: Tensor) -> Tensor:
        """The loss of its own, a mean over the samples, of features in train mode; for fusions that penalise only."""
        raise TypeError(f"{type(self).__name__} has no loss of its own")

    def heads(self) -> list[nn.Linear]:
        """The last linear layers, those that write the logits."""
        raise TypeError(f"{type(self).__name__} should define heads()")


class Model(Protocol):
    """The multimodal model as a modulator sees it (`agmbench.model.MultimodalModel`)."""

    encoders: nn.ModuleDict
    fusion: Fusion
    modalities: tuple[str, ...]
    task: Task
    reduction: Reduction

    @property
    def muting(self) -> Callable[[str, Input], Input]:
        """What stands in for the input of a modality, given its name and a batch of it, where it is absent."""

    def parameters(self) -> Iterator[nn.Parameter]: ...
    def encode(self, inputs: Mapping[str, Input], which: Collection[str] | None = None) -> dict[str, Any]:
        """Features of every modality, or of `which`, in the present mode, `{m: [B, D_m]}`, or tokens if the fusion takes them."""

    def evaluating(self) -> AbstractContextManager[None]:
        """Inside, every module is in eval mode; afterwards each is as it was."""

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The loss of training, averaged over the batch, whatever the `reduction`: the task's, as the recipe changes it, each sample's
        times its weight where there are `weights` `[B]` (`Batch.weights`)."""

    def losses(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The same of each sample, `[B]`."""

    def penalty(self, batch: Batch) -> Tensor | None:
        """What the fusion adds to it, found in a pass of its own; `None` if it adds nothing."""

    def coalitions(
        self, inputs: Mapping[str, Input], which: Sequence[Coalition], mode: Mode = "exact"
    ) -> dict[Coalition, Fused]:
        """What the model says when only the modalities of a coalition are present, for each of `which`."""

    def responses(
        self, inputs: Mapping[str, Input], mode: Mode = "exact", muted_gradient: bool = True, partial_gradient: bool = True
    ) -> dict[str, Tensor]:
        """Shapley responses `phi_m` `[B, C]`, which sum to the logits of the full coalition.

        `mode` says which passes serve the partial coalitions, `muted_gradient` whether gradient flows through muted inputs' passes,
        `partial_gradient` whether it flows through anything but the full coalition.
        """


class Step(NamedTuple):
    """What one backward pass found: the `loss`, the `logits` `[B, C]`, and values to record by metric name (`kappa/audio`).

    `kept` are the tensors of this batch that `adjust` needs, such as scores, by names of the method's own. They are not recorded.
    """

    loss: Tensor
    logits: Tensor
    signals: Mapping[str, Tensor] = {}
    kept: Mapping[str, Tensor] = {}


def _unranked(model: Model) -> tuple[float, float]:
    raise TypeError("this context has no validation by which models could be ranked")


def _no_recipe(tensors: Sequence[nn.Parameter]) -> Optimizer:
    raise TypeError("this context has no recipe by which an optimizer could be made")


@dataclass(frozen=True)
class Context:
    """What a modulator may know of the training around it.

    `generator` is the modulator's own, on the model's device, and part of the checkpoint. `valid_accuracy` and `valid_loss` are
    those of each modality's response after the last epoch, empty before the first (of a regression, R2 in place of accuracy).
    `model` and `optimizer` are there to act on, not to keep. The optimizer is there from the first epoch on; its state, but not its
    rates, may be cleared or put back at the beginning of an epoch, and is part of the checkpoint. `rank` says where a model of one
    modality would stand on valid, as epochs are ranked: the larger the better. `fresh` makes another optimizer of the recipe's kind, at
    the present rate, for tensors of a copy that a method trains by itself.
    `concepts` are the trained mono-modal concepts, frozen and in eval mode, for a modulator that `needs_concepts`.
    """

    epoch: int
    epochs: int
    steps_per_epoch: int
    splits: Mapping[SplitName, Split]
    generator: torch.Generator
    model: Model
    valid_accuracy: Mapping[str, float] = field(default_factory=dict)
    valid_loss: Mapping[str, float] = field(default_factory=dict)
    concepts: Mapping[str, Model] = field(default_factory=dict)
    rank: Callable[[Model], tuple[float, float]] = _unranked
    reads: Callable[[SplitName, Iterable[Tensor]], Iterator[Batch]] | None = None
    optimizer: Optimizer | None = None
    fresh: Callable[[Sequence[nn.Parameter]], Optimizer] = _no_recipe

    def batches(self, name: SplitName, pieces: Iterable[Tensor]) -> Iterator[Batch]:
        """Batches of a split by the numbers of their samples, on the model's device, read ahead if the job reads ahead."""
        split = self.splits[name]
        if self.reads is not None:
            return self.reads(name, pieces)
        return (split.batch(piece).to(self.generator.device) for piece in pieces)


@dataclass(frozen=True)
class Promises:
    """What a modulator declares of itself, for `agmbench.testing` to hold it to.

    neutral: parameters under which its gradients are those of joint training; `None` if there are none.
    balances: it records `kappa/m`; from a fresh state equal modalities get equal ones and the stronger modality the smaller.
    permutes: permuting the modalities permutes its `kappa/m`.
    window: it has parameters `starts` and `ends`, and outside them its gradients are those of joint training.
    exact: parameters under which what it asks of coalitions is what full passes give, one a coalition; `None` if it asks nothing.
    trains: it takes optimizer steps; a method that only combines finished models does not.
    rests: whole encoders may have no gradient for an epoch. Otherwise every tensor that joint training reaches has one.
    own_heads: it answers by heads of its own, so the model's fusion need not learn.
    puts_back: between epochs it puts earlier weights back itself, so they are not the optimizer's alone.
    divides: several processes that train a job together come to the same numbers. Every method does that draws random numbers from
        `context.generator` or torch's own alone, and reads nothing that one process has and another has not.
    absent: it trains on samples that lack a modality (`Batch.absent`). A method that lets each modality learn or answer by itself, of
        every sample, does not: it would take what stands in for the absent one for the modality.
    weights: it gives `Batch.weights` to every loss that it takes of samples. One that has losses of its own beside the model's, in which
        all samples count alike, does not; a method that does not promise it refuses a data set whose samples have weights.
    """

    neutral: Mapping[str, object] | None = None
    balances: bool = False
    permutes: bool = False
    window: bool = False
    exact: Mapping[str, object] | None = None
    trains: bool = True
    rests: bool = False
    own_heads: bool = False
    puts_back: bool = False
    divides: bool = True
    absent: bool = True
    weights: bool = False


class Modulator(nn.Module):
    """How gradients come to be. Most methods override `backward` alone, and `adjust` if they change gradients that are there.

    An optimizer step has one batch, or with gradient accumulation several micro-batches: `backward` is called for each, `adjust`
    once, with what each `backward` returned. `steps` is for methods that take several optimizer steps a batch, `coalitions` for those
    whose answer is not the model's.

    A step asks for no number of a tensor (`.item()`, `if tensor:`, `tensor[mask]`): the host would wait for the device.

    What is wanted of a method is a mean loss. `step` adds the gradients of what the fusion penalises, and makes those of a sum over the
    samples where the model's `reduction` says so, before `adjust` sees them.

    State that a resumed run needs is a buffer, a parameter or a submodule. The model is never kept. A modality's tensors are
    `model.encoders[m].parameters()`, never found by their names. `needs_concepts` asks for the mono-modal concepts in the context.
    A method that clips gradients by a rule of its own says so (`clips`), and the recipe's clipping leaves them to it.
    """

    needs_concepts: ClassVar[bool] = False
    clips: bool = False
    promises: ClassVar[Promises] = Promises()

    def __init__(self, modalities: tuple[str, ...]) -> None:
        super().__init__()
        self.modalities = modalities

    def refuses(self, model: Model) -> str | None:
        """Why this method cannot modulate that model, with the way out; `None` if it can. Asked before anything is written."""
        return None

    def prepare(self, context: Context) -> None:
        """Before the optimizer is made and before a checkpoint is loaded."""

    def begin_epoch(self, context: Context) -> None:
        """Before the first batch of an epoch."""

    def rates(self, context: Context) -> Mapping[str, float]:
        """Factors of this epoch's learning rate, by parameter group: a modality, `fusion` or `modulator`; 1 where none is named."""
        return {}

    def samples(self, context: Context) -> Tensor | None:
        """The numbers `[n]` of the training samples of this epoch, in order, on the CPU; `None`, the default: all, shuffled."""
        return None

    def end_epoch(self, context: Context) -> None:
        """After validation."""

    def steps(self, model: Model, batches: Sequence[Batch]) -> Iterable[Step]:
        """At each yielded step the gradients wanted are in `.grad`; the loop then steps the optimizer and clears them."""
        yield self.step(model, batches)

    def step(self, model: Model, batches: Sequence[Batch]) -> Step:
        """`backward` for each micro-batch, its gradient weighted by its share of the samples (of a sum, by them), then `adjust`."""
        parts: list[Step] = []
        counts = [len(batch.targets) for batch in batches]
        for number, batch in enumerate(batches):
            if number and counts[number] != counts[number - 1]:  # what is there, in units of this micro-batch
                self._scale(model, counts[number - 1] / counts[number])
            penalty = model.penalty(batch)
            if penalty is not None:
                penalty.backward()
            part = self.backward(model, batch)
            if not isinstance(part, Step):
                found = type(part).__name__
                raise TypeError(f"{type(self).__name__}.backward should return a Step(loss, logits, signals); found a {found}")
            extra = {} if penalty is None else {"penalty": penalty.detach()}
            parts.append(part._replace(signals={**part.signals, **extra}))
        weight = counts[-1] if model.reduction == "sum" else counts[-1] / sum(counts)
        if weight != 1:
            self._scale(model, weight)
        with torch.autocast(batches[0].targets.device.type, enabled=False):  # gradients are float32
            adjusted = self.adjust(model, parts)
        merged = _merged(parts, counts) if len(parts) > 1 else parts[0]
        return merged._replace(signals={**merged.signals, **adjusted}, kept={})

    def _scale(self, model: Model, factor: float) -> None:
        for parameter in (*model.parameters(), *self.parameters()):
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def backward(self, model: Model, batch: Batch) -> Step:
        """Add the gradients of one batch to `.grad`."""
        raise TypeError(f"{type(self).__name__} should define backward(model, batch) or steps(model, batches)")

    def adjust(self, model: Model, parts: Sequence[Step]) -> Mapping[str, Tensor]:
        """Change the gradients in `.grad` before the optimizer step; returns signals.

        `parts` is what `backward` returned, one for each micro-batch of the step, in order.
        """
        return {}

    def named(self, **values: Iterable[Tensor]) -> dict[str, Tensor]:
        """Values `[M]`, one a modality, as signals: `kappa/audio`, `kappa/image`, ..."""
        return {f"{name}/{m}": value for name, row in values.items() for m, value in zip(self.modalities, row, strict=True)}

    def coalitions(self, model: Model, inputs: Mapping[str, Input], which: Sequence[Coalition]) -> dict[Coalition, Fused]:
        """What the trained method says when only the modalities of a coalition are present; by default what the model says."""
        return model.coalitions(inputs, which)


def _merged(parts: Sequence[Step], counts: Sequence[int]) -> Step:
    """The mean over the samples of losses and signals, all logits."""
    weights = [count / sum(counts) for count in counts]

    def mean(values: Iterable[Tensor]) -> Tensor:
        return torch.stack([weight * value for weight, value in zip(weights, values, strict=True)]).sum(dim=0)

    signals = {name: mean(part.signals[name] for part in parts) for name in parts[0].signals}
    return Step(mean(part.loss for part in parts), torch.cat([part.logits for part in parts]), signals)


class Unsuitable(ValueError):
    """Raised by a component that cannot take what the job gives it; the text says why and what it takes."""
