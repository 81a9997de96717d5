"""OPM: on-the-fly prediction modulation (Wei et al., "On-the-fly Modulation for Balanced Multimodal Learning", TPAMI 2024)."""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from agmbench.contracts import Batch, Context, Model, Promises, Step, Tokens
from agmbench.modulators import terms
from agmbench.modulators.balancing import Balancing, Scores
from agmbench.modulators.heads import width
from agmbench.modulators.terms import Responses

Features = Mapping[str, Tensor | Tokens]


class OPM(Balancing):
    """Drops features of the modality that is ahead, so that the prediction depends on the others more often.

    With `s_m` as in OGM, from the batch's undropped features, and `rho_m = s_m / mean_{k != m} s_k - 1`:

        q_m = clip( base (1 + lambda tanh(rho_m)), 0, 1 )   if rho_m > 0,   else 0

    A batch is changed with probability `executes`. Then the feature `e_m` of each sample is dropped (set to zero) with probability `q_m`,
    and everything that is left is scaled by `1 / (1 - sum_k q_k D_k / sum_k D_k)`, with `D_k` the number of features of modality k. In the
    paper, samples that lost every modality leave the batch. There are none, because the modality with the smallest score is never ahead
    of the mean of the others.

    base: `q_base`; paper and ours .5.
    slope: `lambda`; paper and ours .5.
    executes: `p_exe`; paper and ours .7.
    starts, ends: drop in epochs `starts <= epoch < ends`; `None` means until the end. Official code and ours from 6 on: epochs 0 to 5 are
        a warm-up with plain joint training.
    responses: where `s_m` comes from. `additive`, the fusion's own terms, as in the paper and by default; `shapley`, AGM's Shapley
        responses in eval mode, for any fusion.
    scores: those of the training `batch`, as in the paper and by default, or of a batch of the same size drawn from `dev`, in eval mode.

    The paper has two modalities; for more, `rho_m` compares with the mean of the others, as our OGM does. Random numbers come from the
    modulator's own generator. The recorded logits are those of the undropped features.

    No gradient flows through `q_m` or through the factor that scales what is left, as in the paper.

    Official code: the same `q_m`, gradients and weights, step by step, from the same random numbers (its values are in
    `tests/reference`), with that factor detached. As published, its backward pass returns the factor itself as the gradient of the factor.
    This leaks through `q_m` and the scores into the encoders (5 to 14 % of their gradients where it was recorded). Its file does not parse
    either, because of a stray bracket. More than two modalities, `shapley`, `scores: dev` and sequences are ours.
    """

    promises = Promises(neutral={"base": 0.0}, window=True, weights=True)

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        base: Annotated[float, Ge(0), Le(1)] = 0.5,
        slope: Annotated[float, Ge(0)] = 0.5,
        executes: Annotated[float, Ge(0), Le(1)] = 0.7,
        starts: Annotated[int, Ge(0)] = 6,
        ends: Annotated[int, Ge(0)] | None = None,
        responses: Responses = "additive",
        scores: Scores = "batch",
    ) -> None:
        super().__init__(modalities, starts, ends, scores)
        self.base = base
        self.slope = slope
        self.executes = executes
        self.responses = responses

    def refuses(self, model: Model) -> str | None:
        return super().refuses(model) or terms.missing(model, self.responses)

    def prepare(self, context: Context) -> None:
        super().prepare(context)
        widths = [width(context.model, modality) for modality in self.modalities]
        self.sizes = torch.tensor(widths, dtype=torch.float32, device=context.generator.device)  # D_k

    def backward(self, model: Model, batch: Batch) -> Step:
        features = model.encode(batch.inputs)
        own = self._terms_of(model, batch, features)
        score = terms.likelihoods(model.task, *self.scored(model, batch, own), self.modalities)
        rho = terms.to_the_others(score) - 1
        q = self.probabilities(rho)
        loss = model.loss(model.fusion(self.drop(features, q, len(batch.targets))).logits, batch.targets, batch.weights)
        loss.backward()
        logits = torch.stack(list(own.values())).sum(dim=0)
        return Step(loss.detach(), logits, self.named(dropped=q, score=score, ratio=rho))

    def probabilities(self, rho: Tensor) -> Tensor:
        """`q_m`, `[M]`; zero outside the window."""
        q = (self.base * (1 + self.slope * torch.tanh(rho))).clamp(0, 1)
        ahead = (rho > 0) & (rho > rho.min())  # if all are equal, rounding may leave all of them above 0
        return torch.where(ahead, q, 0.0) if self.active else torch.zeros_like(q)

    def drop(self, features: Features, q: Tensor, count: int) -> dict[str, Tensor | Tokens]:
        """Set dropped features to zero and scale the others. The stand-in for a modality that is never present is not changed."""
        drawn = torch.rand(len(q) + 1, count, generator=self.generator, device=q.device)
        kept = drawn[1:] >= q.unsqueeze(1)  # [M, B]
        scale = 1 / (1 - (q * self.sizes).sum() / self.sizes.sum())
        factors = torch.where(drawn[0, 0] < self.executes, kept * scale, 1.0)
        return {**features, **{m: _scaled(features[m], factor) for m, factor in zip(self.modalities, factors, strict=True)}}

    @torch.no_grad()
    def _terms_of(self, model: Model, batch: Batch, features: Features) -> dict[str, Tensor]:
        if self.responses == "additive":
            return model.fusion.terms(features)  # type: ignore[arg-type]  # an additive fusion takes vectors
        with model.evaluating():
            return model.responses(batch.inputs)

    def terms(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        return self._terms_of(model, batch, model.encode(batch.inputs))


def _scaled(feature: Tensor | Tokens, factor: Tensor) -> Tensor | Tokens:
    if isinstance(feature, Tokens):
        return Tokens(feature.values * factor.to(feature.values.dtype).view(-1, 1, 1), feature.mask)
    return feature * factor.to(feature.dtype).unsqueeze(1)
