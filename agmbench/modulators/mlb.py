"""MLB: multi-loss balanced gradient modulation (Kontras et al., BMVC 2024)."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from agmbench.contracts import Batch, Context, Model, Promises, Step
from agmbench.modulators import terms
from agmbench.modulators.balancing import Windowed
from agmbench.modulators.heads import Heads, several


class MLB(Windowed):
    """Each modality also has a head of its own. A modality that is behind is sped up, one that is ahead is damped.

    With `s_m` the probability of the right class by `h_m(e_m)`, summed over the batch, and `L_m = CE(h_m(e_m), y)`:

        L     = CE(f, y) + weight sum_m L_m
        rho_m = mean_{k != m} s_k / s_m
        k_m   = 1 + (beta - 1) tanh( alpha (rho_m - 1) )   if rho_m > 1,   else   1 + tanh( alpha (rho_m - 1) )

    and `k_m` multiplies the gradients of encoder m (including biases and norms), of `h_m`, and of `W_m`: the weights by which the head of
    an additive fusion reads m, without its bias.

    alpha: steepness. Official code .8 in all its configurations (CREMA-D, AVE, MOSEI); ours .8.
    beta: the value to which `k_m` can rise. Official code and ours 2, for which the two cases have the same formula.
    weight: weight of the modalities' own losses. Official code and ours 1.
    starts, ends: modulate in epochs `starts <= epoch < ends`; `None` means until the end. In other epochs k is 1 and all losses stay, as
        in the official code. Official code and ours: all epochs.

    Any number of modalities, as in the official code. With gradient accumulation `s_m` is summed over the micro-batches and the
    gradients are scaled once, after the last. Under Adam, which divides by the size of the gradient, a scaled gradient is nearly scaled
    back.

    Official code: the same weights, step by step (its values are in `tests/reference`). The recorded snapshot cannot construct its
    class, because it calls `super()` with an undefined name; with the name corrected it runs, as later snapshots do. Fusions that are
    not additive, and regression, whose `s_m` is OGM's likelihood, are ours.
    """

    promises = Promises(neutral={"alpha": 0, "weight": 0}, absent=False, weights=True)

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        alpha: Annotated[float, Ge(0)] = 0.8,
        beta: Annotated[float, Ge(1)] = 2.0,
        weight: Annotated[float, Ge(0)] = 1.0,
        starts: Annotated[int, Ge(0)] = 0,
        ends: Annotated[int, Ge(0)] | None = None,
    ) -> None:
        super().__init__(modalities, starts, ends)
        self.alpha = alpha
        self.beta = beta
        self.weight = weight

    def refuses(self, model: Model) -> str | None:
        return several(model)

    def prepare(self, context: Context) -> None:
        self.heads = Heads(context.model)

    def backward(self, model: Model, batch: Batch) -> Step:
        features = model.encode(batch.inputs)
        logits = model.fusion(features).logits
        answers = self.heads.answers(model, features)
        alone = torch.stack([model.loss(answers[m], batch.targets, batch.weights) for m in self.modalities])  # [M]
        loss = model.loss(logits, batch.targets, batch.weights) + self.weight * alone.sum()
        loss.backward()
        score = terms.likelihoods(model.task, answers, batch.targets, self.modalities)
        return Step(loss.detach(), logits.detach(), self.named(loss=alone.detach()), {"score": score})

    def adjust(self, model: Model, parts: Sequence[Step]) -> Mapping[str, Tensor]:
        score = terms.over_all(parts)
        rho, k = self.coefficients(score)
        if self.active:
            for modality, coefficient in zip(self.modalities, k, strict=True):
                own = [*model.encoders[modality].parameters(), *self.heads[modality].parameters()]
                gradients = [tensor.grad for tensor in own if tensor.grad is not None]
                weights = [gradient for gradient in model.fusion.own_gradients(modality) if gradient.ndim > 1]  # no bias
                for gradient in (*gradients, *weights):
                    gradient.mul_(coefficient)
        else:
            k = torch.ones_like(k)
        return self.named(kappa=k, score=score, ratio=rho)

    def coefficients(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """`rho` and `k`, each `[M]`; they are finite even if a modality gives no right class any probability."""
        rho = (score.sum() - score) / ((len(score) - 1) * score).clamp(min=1e-8)
        rise = torch.tanh(self.alpha * (rho - 1))
        return rho, 1 + torch.where(rho > 1, (self.beta - 1) * rise, rise)
