"""OGM: on-the-fly gradient modulation (Peng et al., CVPR 2022, equations 7-9)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from agmbench.contracts import Batch, Model, Promises, Step
from agmbench.modulators import terms
from agmbench.modulators.balancing import Balancing, Scores
from agmbench.modulators.terms import Responses


class OGM(Balancing):
    """Damps the gradients of the encoders that are ahead.

    With `z_m` the fusion's own term of modality m, `s_m = sum_i softmax(z_m)[i, y_i]` over the batch, and
    `rho_m = s_m / mean_{k != m} s_k`, the gradients of encoder m are multiplied by

        k_m = 1 - tanh(alpha * rho_m)   if rho_m > 1,   else 1.

    Under Adam and AdamW, which divide by the size of the gradient, a scaled gradient is nearly scaled back: use SGD.

    alpha: strength. Paper .1 (VGGSound) and .8 (CREMA-D), by data set; ours .8 unless the data set's entry says otherwise.
    starts, ends: modulate in epochs `starts <= epoch < ends`; `None` means until the end. Official code: `ends` 50, of 100 epochs; AGM's
        repository and ours: all epochs by default.
    only_conv: modulate only 4-D tensors, as the official code does; this leaves a Transformer unmodulated. Ours: every tensor of two or
        more dimensions, so no bias and no norm.
    responses: what `z_m` is. `additive`, the fusion's own terms, as in the paper and by default; fusions without such terms are
        refused. `shapley`, AGM's Shapley responses, for any fusion, at the cost of their forward passes.
    scores: take them from the training `batch`, as in the paper and by default, or from a batch of the same size drawn from the `dev`
        split, in eval mode.

    With gradient accumulation the scores are summed over the micro-batches, and the gradients are scaled once, after the last. The
    paper has two modalities; for more, `rho_m` compares with the mean of the others, which is the same for two.

    Official code: the same gradients and weights, step by step (its values are in `tests/reference`), on 4-D tensors only
    (`only_conv`). More than two modalities, `shapley`, `scores: dev` and accumulation are ours.

    AGM's repository, which made the figures of OGM-GE in AGM's paper, scales every parameter of encoders and heads on CREMA-D. Under late
    fusion on AV-MNIST on one GPU it scales nothing at all, because the part of a tensor's name that it looks at never contains the
    modality.
    """

    promises = Promises(neutral={"alpha": 0}, balances=True, permutes=True, window=True, weights=True)

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        alpha: Annotated[float, Ge(0)] = 0.8,
        starts: Annotated[int, Ge(0)] = 0,
        ends: Annotated[int, Ge(0)] | None = None,
        only_conv: bool = False,
        responses: Responses = "additive",
        scores: Scores = "batch",
    ) -> None:
        super().__init__(modalities, starts, ends, scores)
        self.alpha = alpha
        self.only_conv = only_conv
        self.responses = responses

    def refuses(self, model: Model) -> str | None:
        if reason := super().refuses(model) or terms.missing(model, self.responses):
            return reason
        for modality in model.modalities:
            if not any(True for _ in self.modulated(model.encoders[modality])):
                way_out = "leave only_conv off" if self.only_conv else "train it, or take agm"
                return f"finds no tensor to modulate in the encoder of '{modality}'; {way_out}"
        return None

    def backward(self, model: Model, batch: Batch) -> Step:
        logits, own = self.forward_terms(model, batch)
        loss = model.loss(logits, batch.targets, batch.weights)
        loss.backward()
        score = terms.likelihoods(model.task, *self.scored(model, batch, own), self.modalities)
        return Step(loss.detach(), logits.detach(), kept={"score": score})

    def adjust(self, model: Model, parts: Sequence[Step]) -> Mapping[str, Tensor]:
        score = terms.over_all(parts)
        rho = terms.to_the_others(score)
        excess = rho / self.reference(score)
        k = torch.where(excess > 1, 1 - torch.tanh(self.alpha * excess), 1.0)
        if self.active:
            for modality, coefficient in zip(self.modalities, k, strict=True):
                for tensor in self.modulated(model.encoders[modality]):
                    self.rescale(tensor, coefficient)
        else:
            k = torch.ones_like(k)
        return self.named(kappa=k, score=score, ratio=rho)

    def terms(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        return self.forward_terms(model, batch)[1]

    def forward_terms(self, model: Model, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits `[B, C]`, and the part of each modality in them, `{m: [B, C]}`."""
        if self.responses == "shapley":
            phi = model.responses(batch.inputs, "exact", partial_gradient=False)
            return torch.stack(list(phi.values())).sum(dim=0), phi
        features = model.encode(batch.inputs)
        with torch.no_grad():
            own = model.fusion.terms(features)
        return model.fusion(features).logits, own

    def reference(self, score: Tensor) -> Tensor:
        """The value of `rho_m` that counts as balanced, `[M]`, given the scores `s_m` of this step; it is 1 in OGM."""
        return torch.ones_like(score)

    def modulated(self, encoder: nn.Module) -> Iterator[nn.Parameter]:
        """The tensors of an encoder that are modulated."""
        for tensor in encoder.parameters():
            if tensor.requires_grad and (tensor.ndim == 4 if self.only_conv else tensor.ndim >= 2):
                yield tensor

    def rescale(self, tensor: nn.Parameter, coefficient: Tensor) -> None:
        """Scale the gradient of a tensor: `grad <- k grad`."""
        if tensor.grad is not None:
            tensor.grad.mul_(coefficient)
