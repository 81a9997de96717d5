"""MBSD: self-distillation between modalities (after Liu et al., WSDM 2023, as BalanceBenchmark has it)."""

from collections.abc import Mapping
from itertools import combinations
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from agmbench.contracts import Batch, Model, Modulator, Promises, Step
from agmbench.modulators.heads import additive
from agmbench.tasks import SingleLabel


class MBSD(Modulator):
    """Each modality's own term has a loss too. In each pair of modalities, one learns from the other, which is surer of the right class.

    With `z_m` the fusion's own term of m and `p_m = softmax(z_m)`:

        L   = CE(f, y) + own sum_m CE(z_m, y) + strength D
        D   = mean over pairs a, b and samples of   w ( |p_a - p_b|^2 / C + KL( p_strong | p_weak ) )
        w   = |p_a[y] - p_b[y]|   where a or b is right, else 0

    with "strong" the one of the two that has the larger `p[y]`. No gradient flows through `w`, nor through `p_strong` in KL.

    own: weight of the terms' own losses. BalanceBenchmark and ours 1.
    strength: weight of D. BalanceBenchmark and ours 1.

    KL is summed over the classes; each segment counts as a sample. For more than two modalities, D is the mean over all pairs.

    Official code: none was found. The paper pre-trains a vision-language model on pairs of images and texts. This is its
    self-distillation as a third party (BalanceBenchmark) has it, with these mistakes corrected: there the square is that of raw logits,
    the KL is that of two numbers taken for log-probabilities, and gradient flows through everything.
    """

    promises = Promises(neutral={"own": 0.0, "strength": 0.0}, absent=False)

    def __init__(
        self, modalities: tuple[str, ...], *, own: Annotated[float, Ge(0)] = 1.0, strength: Annotated[float, Ge(0)] = 1.0
    ) -> None:
        super().__init__(modalities)
        self.own = own
        self.strength = strength

    def refuses(self, model: Model) -> str | None:
        if not isinstance(model.task, SingleLabel):
            return f"compares probabilities of classes; the task of this data set is {type(model.task).__name__}"
        return additive(model)

    def backward(self, model: Model, batch: Batch) -> Step:
        features = model.encode(batch.inputs)
        logits, terms = model.fusion(features).logits, model.fusion.terms(features)
        alone = torch.stack([model.loss(terms[m], batch.targets) for m in self.modalities])  # [M]
        apart = self.distilled(terms, batch.targets)
        loss = model.loss(logits, batch.targets) + self.own * alone.sum() + self.strength * apart
        loss.backward()
        return Step(loss.detach(), logits.detach(), {**self.named(loss=alone.detach()), "distilled": apart.detach()})

    def distilled(self, terms: Mapping[str, Tensor], targets: Tensor) -> Tensor:
        """D, from the logits of each modality, `{m: [..., C]}`, and the classes `[...]`."""
        log_p = {m: terms[m].float().log_softmax(dim=-1) for m in self.modalities}
        return torch.stack([pair(log_p[a], log_p[b], targets) for a, b in combinations(self.modalities, 2)]).mean()


def pair(one: Tensor, two: Tensor, targets: Tensor) -> Tensor:
    """The value of D for one pair of modalities, from their log-probabilities `[..., C]`."""
    right = targets.unsqueeze(-1)
    sure = [log_p.detach().gather(-1, right).squeeze(-1).exp() for log_p in (one, two)]
    counts = (one.argmax(dim=-1) == targets) | (two.argmax(dim=-1) == targets)
    weight = torch.where(counts, (sure[0] - sure[1]).abs(), 0.0)
    first = (sure[0] >= sure[1]).unsqueeze(-1)
    strong, weak = torch.where(first, one, two).detach(), torch.where(first, two, one)
    square = (one.exp() - two.exp()).square().mean(dim=-1)
    divergence = (strong.exp() * (strong - weak)).sum(dim=-1)
    return (weight * (square + divergence)).mean()
