"""G2D: gradient-guided distillation (Rakib and Bagavathi, ICCV 2025)."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn import functional as F

from agmbench.contracts import Batch, Context, Model, Modulator, Promises, Step, Tokens
from agmbench.modulators import terms
from agmbench.modulators.features import distance
from agmbench.modulators.heads import several
from agmbench.tasks import MultiLabel, Regression, Task


class G2D(Modulator):
    """Features and logits are distilled from one teacher per modality. In the first epochs, encoders whose teachers are confident wait.

    The teacher of m is its unimodal model ("mono-modal concept"): the reference run of competition strength, finished, frozen and in eval
    mode. With `e_m^T` and `f_m^T` its features and logits, and `p(z) = softmax(z)`:

        L     = CE(f, y) + sum_m [ features MSE(e_m, e_m^T) + logits tau^2 KL( p(f_m^T / tau) | p(f / tau) ) ]
        S_m^T = sum_i p(f_m^T)[i, y_i]                           how sure the teacher is of the right classes of a batch
        grad <- k_m grad,   k_m = 0 for the modality with the largest S_m^T, else 1       in the first epochs, for encoder m

    With M > 2 the first epochs are divided into M - 1 stages of equal length. In stage j only the j modalities with the smallest `S^T`
    learn.

    features, logits: weights of the two distillation losses. Official code and ours 1.
    temperature: `tau`. Official code and ours 1.
    share: part of all epochs in which k applies. Official code the first 151 of 300; ours .5.
    only_conv: apply k only to 4-D tensors, as the official code does. Ours: to every tensor of two or more dimensions, as in OGM.

    KL is summed over classes and averaged over samples (and over segments, or over labels, each taken with its opposite). For a
    regression, MSE replaces KL (ours). Where the gradient is zero, weight decay and momentum still act, as in the official code. With
    gradient accumulation `S^T` is summed over the micro-batches.

    Official code: the same losses, k and weights, step by step, for `concat` and for a mean of heads (its values are in
    `tests/reference`, from a loop that was put together from its functions). More than two modalities, other tasks and other fusions are
    ours.
    """

    promises = Promises(neutral={"features": 0.0, "logits": 0.0, "share": 0.0}, absent=False)
    needs_concepts = True

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        features: Annotated[float, Ge(0)] = 1.0,
        logits: Annotated[float, Ge(0)] = 1.0,
        temperature: Annotated[float, Gt(0)] = 1.0,
        share: Annotated[float, Ge(0), Le(1)] = 0.5,
        only_conv: bool = False,
    ) -> None:
        super().__init__(modalities)
        self.features = features
        self.logits = logits
        self.temperature = temperature
        self.share = share
        self.only_conv = only_conv
        self.learn = len(modalities)  # how many modalities learn in this epoch

    def refuses(self, model: Model) -> str | None:
        return several(model)

    def prepare(self, context: Context) -> None:
        self.teachers = nn.ModuleDict(dict(context.concepts))  # type: ignore[arg-type]

    def begin_epoch(self, context: Context) -> None:
        count, guided = len(self.modalities), self.share * context.epochs
        self.learn = 1 + int(context.epoch * (count - 1) / guided) if context.epoch < guided else count

    def backward(self, model: Model, batch: Batch) -> Step:
        features = model.encode(batch.inputs)
        logits = model.fusion(features).logits
        taught = {m: self.taught(m, batch) for m in self.modalities}
        apart = torch.stack([distance(features[m], e) for m, (e, _) in taught.items()])  # [M]
        told = torch.stack([self.divergence(model.task, z, logits) for _, z in taught.values()])  # [M]
        loss = model.loss(logits, batch.targets)
        loss = loss + self.features * apart.sum() + self.logits * told.sum()
        loss.backward()
        score = terms.likelihoods(model.task, {m: z for m, (_, z) in taught.items()}, batch.targets, self.modalities)
        signals = self.named(distance=apart.detach(), divergence=told.detach())
        return Step(loss.detach(), logits.detach(), signals, {"score": score})

    def adjust(self, model: Model, parts: Sequence[Step]) -> Mapping[str, Tensor]:
        score = terms.over_all(parts)
        kappa = self.coefficients(score)
        for modality, coefficient in zip(self.modalities, kappa, strict=True):
            for tensor in model.encoders[modality].parameters():
                if tensor.grad is not None and (tensor.ndim == 4 if self.only_conv else tensor.ndim >= 2):
                    tensor.grad.mul_(coefficient)
        return self.named(kappa=kappa, score=score)

    def coefficients(self, score: Tensor) -> Tensor:
        """`k_m`, `[M]`: 1 for the modalities that learn in this epoch, whose teachers have the smallest scores."""
        return torch.zeros_like(score).index_fill(0, score.argsort()[: self.learn], 1.0)

    @torch.no_grad()
    def taught(self, modality: str, batch: Batch) -> tuple[Tensor | Tokens, Tensor]:
        """The features `e_m^T` and the logits `f_m^T` of a modality's teacher."""
        teacher: Model = self.teachers[modality]  # type: ignore[assignment]
        features = teacher.encode(batch.inputs)
        return features[modality], teacher.fusion(features).logits

    def divergence(self, task: Task, teacher: Tensor, own: Tensor) -> Tensor:
        """`tau^2 KL( p(f_m^T / tau) | p(f / tau) )`."""
        if isinstance(task, Regression):
            return F.mse_loss(own.float(), teacher.float())
        if isinstance(task, MultiLabel):  # a label and its opposite are two classes
            teacher, own = (torch.stack([z, torch.zeros_like(z)], dim=-1) for z in (teacher, own))
        p, q = ((z.float() / self.temperature).log_softmax(dim=-1) for z in (teacher, own))
        return self.temperature**2 * (p.exp() * (p - q)).sum(dim=-1).mean()
