"""MLA: multimodal learning with alternating unimodal adaptation (Zhang et al., CVPR 2024)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from agmbench.contracts import Batch, Coalition, Context, Fused, Input, Model, Modulator, Promises, Step
from agmbench.modulators.heads import classes, joined, late, unlike, vectors, width


class MLA(Modulator):
    """The modalities take turns: each takes an optimizer step of its own, through a head W that they share.

    On a batch, for each m: `L = CE(W e_m, y)` gives the gradients of encoder m and of W. What the earlier modalities have taught the
    head is protected: `dL/dW <- dL/dW P^T`. After that, with `r = mean_i e_m[i]` `[1, D]` and `k = P r^T`,

        P <- P - k k^T / (a + r k),    a = .1^(1 + t / T),    step t of the T steps of an epoch; P is the identity at first

    The prediction weighs the modalities that are present, sample by sample, by their confidence (H is the entropy of `softmax(W e_m)`):

        f(S) = sum_{m in S} g_m W e_m,    g_m = exp(max_k H_k - H_m) / sum_k exp(max_k H_k - H_k) = softmax(-H)_m

    variant: `protected` is the rule above, and the default. `published` is the rule of the published code, after the name is corrected
        by which it finds its head. In each step except the first of the run, which neither moves P nor projects:

            P <- P - k k^T / (a + k r),   P <- P / |P|_F,   dL/dW <- dL/dW P^T

        `k r` `[D, D]` is an outer product, and the division is elementwise.

    The paper's method has no fusion, so the model's own fusion, which has to be additive, does not learn. With gradient accumulation, a
    modality takes its step after the last micro-batch, and r is the mean over all micro-batches.

    Official code: as published it projects nothing, because it looks for a tensor `module.weight`, but its head's tensor is called
    `weight`. With the name corrected, it differs from ours in five points: (1) it uses the outer product `k r` instead of the number
    `r k`, (2) it divides P by its Frobenius norm at each step, (3) it moves P by the present batch before P multiplies the gradient, so
    that the modality's own features are protected too, (4) the first step of the run neither moves P nor projects, and (5) its entropy
    weights are those of a batch (a softmax over samples, one H per modality), and by default it uses a fixed weight of .55; ours are
    those of each sample, also under `published`, so that no prediction depends on the batch. `published` has the same gradients, P and
    weights, step by step, as the corrected code, and `protected` has those of the code with (1) to (4) undone (values of both are in
    `tests/reference`).
    """

    promises = Promises(own_heads=True, absent=False, weights=True)
    projection: Tensor

    def __init__(self, modalities: tuple[str, ...], *, variant: Literal["protected", "published"] = "protected") -> None:
        super().__init__(modalities)
        self.variant = variant
        self._begun = False

    def refuses(self, model: Model) -> str | None:
        return late(model) or unlike(model)

    def prepare(self, context: Context) -> None:
        size, device = width(context.model, self.modalities[0]), context.generator.device
        self.head = nn.Linear(size, classes(context.model))
        # P in float64: in float32 rounding makes `a + r k` negative in a long run over large features
        self.register_buffer("projection", torch.eye(size, dtype=torch.float64, device=device))

    def begin_epoch(self, context: Context) -> None:
        self._step, self._steps = 0, context.steps_per_epoch
        self._begun = context.epoch > 0

    def steps(self, model: Model, batches: Sequence[Batch]) -> Iterable[Step]:
        for modality in self.modalities:
            self._turn = modality
            yield self.step(model, batches)
        self._step += 1

    def backward(self, model: Model, batch: Batch) -> Step:
        feature = vectors(model, model.encode(batch.inputs, [self._turn]))[self._turn]  # [B, D]
        logits = self.head(feature)
        loss = model.loss(logits, batch.targets, batch.weights)
        loss.backward()
        return Step(loss.detach(), logits.detach(), kept={"feature": feature.detach().double()})

    def adjust(self, model: Model, parts: Sequence[Step]) -> Mapping[str, Tensor]:
        r = torch.cat([part.kept["feature"] for part in parts]).mean(dim=0, keepdim=True)  # [1, D]
        if self.variant == "protected":
            self._project()
            self._move(r)
        elif self._begun:
            self._move(r)
            self._project()
        self._begun = True
        return {}

    def _project(self) -> None:
        """Project the gradient of the head: `dL/dW <- dL/dW P^T`."""
        gradient = self.head.weight.grad
        assert gradient is not None  # `backward` has just made it
        self.head.weight.grad = (gradient.double() @ self.projection.T).to(gradient.dtype)

    def _move(self, r: Tensor) -> None:
        """Remove the direction of the features' mean `r` `[1, D]` from P."""
        k = self.projection @ r.T  # [D, 1]
        a = 0.1 ** (1 + self._step / self._steps)
        if self.variant == "protected":
            self.projection -= k @ k.T / (a + r @ k)
        else:
            self.projection -= k @ k.T / (a + k @ r)
            self.projection /= self.projection.norm()

    def coalitions(self, model: Model, inputs: Mapping[str, Input], which: Sequence[Coalition]) -> dict[Coalition, Fused]:
        features = vectors(model, model.encode(inputs, self.modalities))
        return {c: self._answer({m: e for m, e in features.items() if m in c}, features) for c in which}

    def _answer(self, present: Mapping[str, Tensor], features: Mapping[str, Tensor]) -> Fused:
        logits = torch.stack([self.head(e).float() for e in present.values()])  # [|S|, B, C]
        entropy = -(logits.softmax(dim=-1) * logits.log_softmax(dim=-1)).sum(dim=-1)  # H, [|S|, B]
        weight = (-entropy).softmax(dim=0).unsqueeze(-1)
        return Fused((weight * logits).sum(dim=0), joined(features, present))
