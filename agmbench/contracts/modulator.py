"""What a modulator is, what its step returns, and what it promises."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from agmbench.contracts.batches import Batch
from agmbench.contracts.context import Context
from agmbench.contracts.fusion import Fused
from agmbench.contracts.inputs import Input
from agmbench.contracts.model import Model
from agmbench.shapley import Coalition


class Step(NamedTuple):
    """The result of one backward pass: the `loss`, the `logits` `[B, C]`, and values to record by metric name (`kappa/audio`).

    `kept` are the tensors of this batch that `adjust` needs, such as scores, by names that the method chooses. They are not recorded.
    """

    loss: Tensor
    logits: Tensor
    signals: Mapping[str, Tensor] = {}
    kept: Mapping[str, Tensor] = {}


@dataclass(frozen=True)
class Promises:
    """What a modulator promises about itself; `agmbench.testing` checks it.

    neutral: parameters under which its gradients are those of joint training; `None` if there are none.
    balances: it records `kappa/m`. From a fresh state, equal modalities get an equal kappa, and the stronger modality gets the smaller one.
    permutes: permuting the modalities permutes its `kappa/m`.
    window: it has parameters `starts` and `ends`, and in epochs outside them its gradients are those of joint training.
    exact: parameters under which its results for coalitions equal those of one full pass per coalition; `None` if it uses no coalitions.
    trains: it takes optimizer steps; a method that only combines finished models does not.
    rests: whole encoders may have no gradient for an epoch. Otherwise every tensor that joint training reaches has one.
    own_heads: it predicts with heads of its own, so the model's fusion need not learn.
    puts_back: between epochs it restores earlier weights itself, so not only the optimizer changes weights.
    divides: several processes that train a job together arrive at the same numbers. This holds for every method that draws random numbers
        only from `context.generator` or from torch, and reads nothing that differs between processes.
    absent: it trains on samples that lack a modality (`Batch.absent`). A method that lets each modality learn or predict by itself on
        every sample does not: it would treat the muted input as if it were the modality.
    weights: it gives `Batch.weights` to every loss over samples. A method with further losses beside the model's, in which all samples
        count the same, does not. A method without this promise refuses a data set whose samples have weights.
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
    """Computes the gradients of training. Most methods override only `backward`, and `adjust` if they change gradients afterwards.

    An optimizer step has one batch, or several micro-batches with gradient accumulation. `backward` is called for each of them, and
    `adjust` once, with what each `backward` returned. `steps` is for methods that take several optimizer steps per batch, `coalitions`
    for methods whose predictions are not those of the model.

    A step never reads a number from a tensor (`.item()`, `if tensor:`, `tensor[mask]`), because the host would wait for the device.

    A method computes a mean loss. Before `adjust` sees the gradients, `step` adds those of the fusion's penalty, and turns them into
    gradients of a sum over the samples if the model's `reduction` is a sum.

    State that a resumed run needs is a buffer, a parameter or a submodule. The model is never kept. The tensors of a modality are
    `model.encoders[m].parameters()`; never look for them by name. `needs_concepts` asks for the unimodal models ("mono-modal concepts")
    in the context. A method that clips gradients by a rule of its own says so (`clips`); the recipe's clipping is then left out.
    """

    needs_concepts: ClassVar[bool] = False
    clips: bool = False
    promises: ClassVar[Promises] = Promises()

    def __init__(self, modalities: tuple[str, ...]) -> None:
        super().__init__()
        self.modalities = modalities

    def refuses(self, model: Model) -> str | None:
        """The reason why this method cannot modulate the model, and what to do instead; `None` if it can. Called before anything is
        written."""
        return None

    def prepare(self, context: Context) -> None:
        """Called before the optimizer is made and before a checkpoint is loaded."""

    def begin_epoch(self, context: Context) -> None:
        """Called before the first batch of an epoch."""

    def rates(self, context: Context) -> Mapping[str, float]:
        """Factors of this epoch's learning rate, by parameter group: a modality, `fusion` or `modulator`; a group without one has 1."""
        return {}

    def samples(self, context: Context) -> Tensor | None:
        """The numbers `[n]` of the training samples of this epoch, in order, on the CPU. `None`, the default, means all, shuffled."""
        return None

    def end_epoch(self, context: Context) -> None:
        """Called after the validation of each epoch."""

    def steps(self, model: Model, batches: Sequence[Batch]) -> Iterable[Step]:
        """Yield one `Step` per optimizer step, with its gradients in `.grad`; the loop then steps the optimizer and clears them."""
        yield self.step(model, batches)

    def step(self, model: Model, batches: Sequence[Batch]) -> Step:
        """Call `backward` for each micro-batch, then `adjust`. Gradients are weighted by the micro-batch's share of the samples or, if the
        loss is a sum, by its number of samples."""
        parts: list[Step] = []
        counts = [len(batch.targets) for batch in batches]
        for number, batch in enumerate(batches):
            if number and counts[number] != counts[number - 1]:  # rescale the gradients so far to the size of this micro-batch
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

        `parts` are the results of `backward`, one for each micro-batch of the step, in order.
        """
        return {}

    def named(self, **values: Iterable[Tensor]) -> dict[str, Tensor]:
        """Values `[M]`, one per modality, as signals: `kappa/audio`, `kappa/image`, ..."""
        return {f"{name}/{m}": value for name, row in values.items() for m, value in zip(self.modalities, row, strict=True)}

    def coalitions(self, model: Model, inputs: Mapping[str, Input], which: Sequence[Coalition]) -> dict[Coalition, Fused]:
        """The output of the trained method when only the modalities of a coalition are present; by default that of the model."""
        return model.coalitions(inputs, which)


def _merged(parts: Sequence[Step], counts: Sequence[int]) -> Step:
    """The steps of several micro-batches merged into one: losses and signals averaged over the samples, logits concatenated."""
    weights = [count / sum(counts) for count in counts]

    def mean(values: Iterable[Tensor]) -> Tensor:
        return torch.stack([weight * value for weight, value in zip(weights, values, strict=True)]).sum(dim=0)

    signals = {name: mean(part.signals[name] for part in parts) for name in parts[0].signals}
    return Step(mean(part.loss for part in parts), torch.cat([part.logits for part in parts]), signals)
