"""ReconBoost: boosting can achieve modality reconcilement (Hua et al., ICML 2024)."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F

from agmbench.contracts import Batch, Coalition, Context, Fused, Input, Model, Modulator, Promises, Step
from agmbench.modulators.heads import Heads, joined, late, vectors


class ReconBoost(Modulator):
    """Modalities take turns, a stage of epochs each, and each learns what the others leave to it.

    Each has a head of its own, `z_m = h_m(e_m)`, and the answer is `f(S) = sum_{m in S} z_m`. In the stage of m, only encoder and head
    of m learn; with `p_m = softmax(z_m)` and `p_rest = softmax(sum_{k != m} z_k)`, the others in eval mode and without gradient:

        L = mean( -w1 log p_m[y] + w2 p_rest[y] log p_m[y] ) + alpha MSE(p_m, p_before)

    `p_before` is the answer of the modality whose stage was before (none in the first stage). After its stage come the epochs of a
    global rectification, `CE(f, y)` on all encoders and heads.

    stage: epochs of a modality's stage. Ours 4.
    rectify: epochs of the rectification after it. Ours 4; 0 leaves it out.
    w1, w2: weights of agreement with the labels and with what the rest explains already. Paper and ours 5 and 1.
    alpha: weight of the memory of the stage before. Paper and ours .5.

    The paper trains each modality by an optimizer of its own; ours rests what has no turn, momentum and weight decay included, which
    is the same. The model's own fusion, which has to be additive, does not learn.

    Official code: published codes detach both sides of the MSE, so that their term has no gradient; ours detaches `p_before` alone, as
    the equation says. No values were recorded to compare with; the rule is tested on cases worked out by hand.
    """

    promises = Promises(own_heads=True, rests=True)

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        stage: Annotated[int, Ge(1)] = 4,
        rectify: Annotated[int, Ge(0)] = 4,
        w1: Annotated[float, Ge(0)] = 5.0,
        w2: Annotated[float, Ge(0)] = 1.0,
        alpha: Annotated[float, Ge(0)] = 0.5,
    ) -> None:
        super().__init__(modalities)
        self.stage = stage
        self.rectify = rectify
        self.w1 = w1
        self.w2 = w2
        self.alpha = alpha
        self.turn = 0
        self.rectifying = False

    def refuses(self, model: Model) -> str | None:
        return late(model)

    def prepare(self, context: Context) -> None:
        self.heads = Heads(context.model)

    def begin_epoch(self, context: Context) -> None:
        self.turn, within = divmod(context.epoch, self.stage + self.rectify)
        self.rectifying = within >= self.stage

    def backward(self, model: Model, batch: Batch) -> Step:
        answers = self._answers(model, batch.inputs, self.modalities if self.rectifying else [self._at(self.turn)])
        logits = torch.stack(list(answers.values())).sum(dim=0)
        loss = model.loss(logits, batch.targets) if self.rectifying else self.boosted(answers, batch.targets)
        loss.backward()
        return Step(loss.detach(), logits.detach())

    def _at(self, turn: int) -> str:
        return self.modalities[turn % len(self.modalities)]

    def _answers(self, model: Model, inputs: Mapping[str, Input], learning: Sequence[str]) -> dict[str, Tensor]:
        """`z_m`, `{m: [B, C]}`; of those that are not learning, in eval mode and without gradient."""
        own = self.heads.answers(model, model.encode(inputs, learning))
        others = [m for m in self.modalities if m not in learning]
        with model.evaluating(), torch.no_grad():
            return own | (self.heads.answers(model, model.encode(inputs, others)) if others else {})

    def boosted(self, answers: Mapping[str, Tensor], targets: Tensor) -> Tensor:
        """L of the modality whose turn it is."""
        own, before = self._at(self.turn), self._at(self.turn - 1)
        log_p = answers[own].float().log_softmax(dim=-1)  # [B, C]
        rest = torch.stack([z.float() for m, z in answers.items() if m != own]).sum(dim=0).softmax(dim=-1)
        right = targets.unsqueeze(-1)
        loss = -((self.w1 - self.w2 * rest.gather(-1, right)) * log_p.gather(-1, right)).mean()
        if self.turn > 0:
            loss = loss + self.alpha * F.mse_loss(log_p.exp(), answers[before].float().softmax(dim=-1))
        return loss

    def coalitions(self, model: Model, inputs: Mapping[str, Input], which: Sequence[Coalition]) -> dict[Coalition, Fused]:
        features = vectors(model, model.encode(inputs, self.modalities))
        answers = {m: head(features[m]) for m, head in self.heads.items()}
        return {c: Fused(torch.stack([z for m, z in answers.items() if m in c]).sum(dim=0), joined(features, c)) for c in which}
