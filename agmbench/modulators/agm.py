"""AGM: adaptive gradient modulation (Li et al., "Boosting Multi-modal Model Performance with Adaptive Gradient Modulation", ICCV 2023)."""

from collections.abc import Mapping, Sequence
from math import log
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from agmbench.clipping import clip_norm_by_heads
from agmbench.contracts import Batch, Mode, Model, Promises, Step
from agmbench.modulators.balancing import Balancing, Scores
from agmbench.tasks import Task

MAX_SCORE = -log(1e-8)


class AGM(Balancing):
    """Scales the gradient that flows back through each modality's Shapley response.

    With `phi_m` the responses (they sum to the logits) and `s_m` the cross entropy of `phi_m` (small is strong):

        r_m     = exp( M/(M-1) (mean_k s_k - s_m) )        how far m is ahead in this batch
        tau_m   = exp( M/(M-1) (mean_k S_k - S_m) )        how far m was ahead so far; S is the cumulative mean of s
        kappa_m = exp( alpha min(tau_m - r_m, cap) )       below 1 for a modality that is further ahead than it was on average
        L       = CE( sum_m phi_m, y ),   dL/dphi_m  <-  kappa_m dL/dphi_m

    alpha: strength. Official runs 2.5 (AV-MNIST), 1.5 (CREMA-D), 4 and 6 (UR-FUNNY, late and early); not stated elsewhere, ours 1.
    cap: upper bound of tau - r. Official 10 (CREMA-D), 7 (UR-FUNNY), none elsewhere; ours none.
    clip: if an element of a head's weight gradient is larger than this, the norm of the whole model's gradient is clipped to it.
        Official 1 (5 on UR-FUNNY), ours 1. It replaces the clipping of the recipe; with `None`, the recipe's clipping applies.
    max_score: upper bound of a sample's cross entropy in s. Official code -log 1e-8 (its run with three modalities, recorded in
        `tests/reference`, has no bound); ours -log 1e-8. Without a bound, one hopeless batch can drive kappa to infinity.
    coalitions: `exact` encodes the coalitions of one modality again in eval mode, as the official code does. `shared` takes the
        features of the full pass and costs little more than joint training, but gives other numbers.
    muted_gradient: whether gradient flows through the passes with muted inputs. In the paper and by default it does.
    starts, ends: modulate in epochs `starts <= epoch < ends`; `None` means until the end. In other epochs kappa is 1, and S is still
        updated.
    scores: take them from the training `batch`, as in the paper and by default, or from a batch of the same size drawn from the `dev`
        split, in eval mode.

    Scores and coefficients carry no gradient. S is a mean over all iterations of the run; it is 0 at first, so tau starts at 1. With
    gradient accumulation each micro-batch has its own kappa, and S is updated once per optimizer step, with the mean of their scores.

    Official code: the same gradients and weights, step by step (its values are in `tests/reference`). It makes one pass of the whole
    network for each coalition; here each encoder runs once per mode. `shared`, `muted_gradient`, `scores: dev` and accumulation are
    ours.
    """

    promises = Promises(
        neutral={"alpha": 0, "clip": None},
        balances=True,
        permutes=True,
        window=True,
        exact={"coalitions": "exact"},
        weights=True,
    )

    running_score: Tensor
    iterations: Tensor

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        alpha: Annotated[float, Ge(0)] = 1.0,
        cap: Annotated[float, Gt(0)] | None = None,
        clip: Annotated[float, Gt(0)] | None = 1.0,
        max_score: Annotated[float, Gt(0)] | None = MAX_SCORE,
        coalitions: Mode = "exact",
        muted_gradient: bool = True,
        starts: Annotated[int, Ge(0)] = 0,
        ends: Annotated[int, Ge(0)] | None = None,
        scores: Scores = "batch",
    ) -> None:
        super().__init__(modalities, starts, ends, scores)
        self.alpha = alpha
        self.cap = cap
        self.clip = clip
        self.clips = clip is not None
        self.max_score = max_score
        self.mode = coalitions
        self.muted_gradient = muted_gradient
        self.register_buffer("running_score", torch.zeros(len(modalities), dtype=torch.float64))  # S
        self.register_buffer("iterations", torch.zeros((), dtype=torch.float64))  # t

    def terms(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        return model.responses(batch.inputs, self.mode, self.muted_gradient)

    def backward(self, model: Model, batch: Batch) -> Step:
        phi = self.terms(model, batch)
        score = self.score(model.task, *self.scored(model, batch, phi))  # [M]
        kappa, ratio, reference = self.coefficients(score)

        responses = [phi[modality] for modality in self.modalities]  # M times [B, C]
        logits = torch.stack([response.detach() for response in responses]).sum(dim=0).requires_grad_()
        loss = model.loss(logits, batch.targets, batch.weights)
        (gradient,) = torch.autograd.grad(loss, logits)
        torch.autograd.backward(responses, [k.to(gradient.dtype) * gradient for k in kappa])
        signals = self.named(kappa=kappa, score=score, ratio=ratio, reference=reference)
        return Step(loss.detach(), logits.detach(), signals, {"score": score})

    def adjust(self, model: Model, parts: Sequence[Step]) -> Mapping[str, Tensor]:
        self.remember(torch.stack([part.kept["score"] for part in parts]).mean(dim=0))
        self.enhance(model)
        if self.clip is not None:
            clip_norm_by_heads(model.parameters(), model.fusion.heads(), self.clip)
        return {}

    @torch.no_grad()
    def score(self, task: Task, phi: Mapping[str, Tensor], targets: Tensor) -> Tensor:
        """`s_m`, `[M]`, float64: mean score (cross entropy) of each response; that of a sample is at most `max_score`."""
        losses = torch.stack([task.scores(phi[m].float(), targets) for m in self.modalities])  # [M, B]
        return (losses if self.max_score is None else losses.clamp(max=self.max_score)).mean(dim=1).double()

    def coefficients(self, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`kappa`, `r` and `tau`, each `[M]`, from the scores of this batch and S of the batches before."""
        ratio = _ahead(score)
        reference = self.reference()
        gap = reference - ratio if self.cap is None else (reference - ratio).clamp(max=self.cap)
        kappa = torch.exp(self.alpha * gap)
        return kappa if self.active else torch.ones_like(kappa), ratio, reference

    def reference(self) -> Tensor:
        """`tau`, `[M]`: the ratio that counts as balanced."""
        return _ahead(self.running_score)

    def remember(self, score: Tensor) -> None:
        """`S <- S t/(t+1) + s/(t+1)`."""
        self.running_score += (score - self.running_score) / (self.iterations + 1)
        self.iterations += 1

    def enhance(self, model: Model) -> None:
        """Change the modulated gradients before they are clipped. AGM itself does nothing here; a variant may."""


def _ahead(score: Tensor) -> Tensor:
    """`exp( M/(M-1) (mean_k s_k - s_m) )`, `[M]`: above 1 for a modality that is ahead of the others."""
    count = len(score)
    return torch.exp(count / (count - 1) * (score.mean() - score))
