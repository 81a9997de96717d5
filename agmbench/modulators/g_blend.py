"""G-Blend: gradient blending (Wang et al., "What Makes Training Multi-Modal Classification Networks Hard?", CVPR 2020)."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from agmbench.contracts import Batch, Context, Model, Modulator, Promises, SplitName, Step
from agmbench.modulators.heads import Heads, several

JOINT = ""  # stands for all modalities together, in place of the name of one


class Losses(NamedTuple):
    """The mean loss on train and on dev."""

    train: float
    dev: float


class GBlend(Modulator):
    """Each modality also has a head of its own, and each loss is weighted by how well it generalizes when it is learnt alone.

        L = w_0 CE(f, y) + sum_m w_m CE(h_m(e_m), y)

    Before every round of `super_epoch` epochs, a copy of the present network is trained for `super_epoch` epochs on each loss k alone: that
    of all modalities together (0), and that of each modality. With `T`, `V` the mean of loss k on train and on dev, in eval mode:

        G_k = V(before) - V(after)                                          how far it generalizes better
        O_k = ( V(after) - T(after) ) - ( V(before) - T(before) )           how far it overfits more
        w_k = max(G_k, 0) / max(O_k^2, 1e-6),    then divided by their sum; all equal if no G is above 0 (ours)

    super_epoch: epochs of a round. BalanceBenchmark 10, MultiBench 20; ours 5.
    offline: find the weights once, before the first epoch, as in the paper's offline variant. Ours: before every round.

    A round costs M + 1 trainings of its length, so that training costs M + 2 times as much as joint training (with `offline`: M + 1 times
    `super_epoch` epochs more). Copies are trained with a fresh optimizer of the recipe at the present rate, in float32, on unchanged
    samples, without the job's transforms and clipping. A step takes as many samples as an optimizer step of training.

    Official code: has only fixed weights, so nothing was recorded to compare with. Third parties use `|G / O^2|`, where a loss that has
    become worse counts as better (BalanceBenchmark, which also sums where it should average, and uses the test set as dev), or
    `|V / O^2|` after training alone (MultiBench); ours is the paper's rule.
    """

    promises = Promises(absent=False, weights=True)
    weight: Tensor

    def __init__(self, modalities: tuple[str, ...], *, super_epoch: Annotated[int, Ge(1)] = 5, offline: bool = False) -> None:
        super().__init__(modalities)
        self.super_epoch = super_epoch
        self.offline = offline
        count = len(modalities) + 1
        self.register_buffer("weight", torch.full((count,), 1 / count, dtype=torch.float64))  # w, the joint loss's first

    def refuses(self, model: Model) -> str | None:
        return several(model)

    def prepare(self, context: Context) -> None:
        self.heads = Heads(context.model)

    def begin_epoch(self, context: Context) -> None:
        if context.epoch % self.super_epoch or (self.offline and context.epoch):
            return
        rounds = [self.tried(context, name) for name in (JOINT, *self.modalities)]
        self.weight.copy_(torch.tensor(blended(rounds), dtype=torch.float64))

    def backward(self, model: Model, batch: Batch) -> Step:
        features = model.encode(batch.inputs)
        logits = model.fusion(features).logits
        answers = self.heads.answers(model, features)
        losses = torch.stack(
            [model.loss(z, batch.targets, batch.weights) for z in (logits, *(answers[m] for m in self.modalities))]
        )  # [M + 1]
        loss = (self.weight.to(losses.dtype) * losses).sum()
        loss.backward()
        signals = {"weight/all": self.weight[0].clone(), **self.named(weight=self.weight[1:].clone(), loss=losses[1:].detach())}
        return Step(loss.detach(), logits.detach(), signals)

    def tried(self, context: Context, name: str) -> tuple[Losses, Losses]:
        """Train a copy of the network for one round on one loss only, and return its losses before and after. `name` is the modality whose
        loss is taken, or `JOINT` for the loss of all."""
        model, heads = copy.deepcopy(context.model), copy.deepcopy(self.heads)
        own = [*model.parameters()] if name == JOINT else [*model.encoders[name].parameters(), *heads[name].parameters()]
        learning = [tensor for tensor in own if tensor.requires_grad]
        before = self.measured(context, model, heads, name)
        optimizer = context.fresh(learning)
        count = len(context.splits["train"])
        for _ in range(self.super_epoch):
            order = torch.randperm(count, generator=context.generator, device=context.generator.device).cpu()
            for batch in context.batches("train", order.tensor_split(context.steps_per_epoch)):
                loss = self.loss(model, heads, name, batch)
                penalty = model.penalty(batch) if name == JOINT else None
                whole = loss if penalty is None else loss + penalty
                gradients = torch.autograd.grad(whole, learning, allow_unused=True)
                factor = len(batch.targets) if model.reduction == "sum" else 1
                for tensor, gradient in zip(learning, gradients, strict=True):
                    tensor.grad = None if gradient is None else factor * gradient
                optimizer.step()
        return before, self.measured(context, model, heads, name)

    def loss(self, model: Model, heads: Heads, name: str, batch: Batch) -> Tensor:
        """The loss of a batch: `CE(f, y)` if `name` is `JOINT`, else `CE(h_m(e_m), y)` of that modality."""
        if name == JOINT:
            return model.loss(model.fusion(model.encode(batch.inputs)).logits, batch.targets, batch.weights)
        return model.loss(heads.answers(model, model.encode(batch.inputs, [name]))[name], batch.targets, batch.weights)

    @torch.no_grad()
    def measured(self, context: Context, model: Model, heads: Heads, name: str) -> Losses:
        """The mean losses on train and dev, `T` and `V`, in eval mode."""

        def mean(split: SplitName) -> float:
            total, pieces = 0.0, torch.arange(len(context.splits[split])).split(256)
            for batch in context.batches(split, pieces):
                alike = replace(batch, weights=None)  # samples of dev have no weights
                total += float(self.loss(model, heads, name, alike)) * len(batch.targets)
            return total / len(context.splits[split])

        with model.evaluating():
            return Losses(mean("train"), mean("dev"))


def blended(rounds: Sequence[tuple[Losses, Losses]]) -> list[float]:
    """The weights `w_k`, from the losses of each copy before and after its round."""
    shares = []
    for before, after in rounds:
        gained = before.dev - after.dev
        overfitted = (after.dev - after.train) - (before.dev - before.train)
        shares.append(max(gained, 0.0) / max(overfitted**2, 1e-6))
    return [share / sum(shares) for share in shares] if sum(shares) > 0 else [1 / len(shares)] * len(shares)
