"""QMF: quality-aware multimodal fusion (Zhang et al., ICML 2023)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from agmbench.contracts import Batch, Coalition, Context, Fused, Input, Model, Modulator, Promises, Step
from agmbench.modulators.heads import Heads, joined, late, vectors


class QMF(Modulator):
    """Each modality has a head, weighted in each sample by its confidence. A head should be more confident in samples that it found easy.

    With `z_m = h_m(e_m)`:

        c_m  = .1 logsumexp(z_m)                                   the confidence of m in a sample
        f(S) = sum_{m in S} c_m z_m
        L    = CE(f, y) + sum_m CE(z_m, y) + lambda sum_m R_m
        R_m  = mean_i relu( t (c_m[i] - c_m[j]) + |u_m[i] - u_m[j]| ),   t = sign(u_m[i] - u_m[j]),   j the sample after i in the batch

    `u_m` is the history: the sum of `CE(z_m, y)` of a sample over all earlier steps, scaled to the range from 0 to 1 over the training
    set, for each modality by itself. A sample that was not seen yet has 0.

    strength: `lambda`. Official code .1 (RGB-D scenes) and 1 (text and images); ours .1.
    margin: `ranked`, as above, demands that confidences are as far apart as the losses were. `released`, as in the official code, has a
        minus before the margin, so that two samples in the wrong order have no penalty within it. Ours `ranked`.
    detached: cut the gradient to `c_m` in f. Official code: false with RGB-D, true with text; ours: false.

    The history is updated once per optimizer step, after the losses were computed. In the first step all of it is equal, and R is zero.
    The model's own fusion, which has to be additive, does not learn.

    Official code: with `margin: released` the same loss, history and weights, step by step (its values are in `tests/reference`), except
    for the first step, where its R is 0/0; it was recorded without R there. More than two modalities and segments are ours.
    """

    promises = Promises(own_heads=True, absent=False)
    history: Tensor

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        strength: Annotated[float, Ge(0)] = 0.1,
        margin: Literal["ranked", "released"] = "ranked",
        detached: bool = False,
    ) -> None:
        super().__init__(modalities)
        self.strength = strength
        self.margin = margin
        self.detached = detached

    def refuses(self, model: Model) -> str | None:
        return late(model)

    def prepare(self, context: Context) -> None:
        self.heads = Heads(context.model)
        count, device = len(context.splits["train"]), context.generator.device
        self.register_buffer("history", torch.zeros(count, len(self.modalities), dtype=torch.float64, device=device))

    def backward(self, model: Model, batch: Batch) -> Step:
        answers = self.heads.answers(model, model.encode(batch.inputs, self.modalities))
        sure = {m: confidence(z) for m, z in answers.items()}
        logits = self._fused(answers, {m: c.detach() for m, c in sure.items()} if self.detached else sure)
        losses = torch.stack([model.losses(answers[m], batch.targets) for m in self.modalities], dim=1)  # [B, M]
        means = [sure[m].reshape(len(losses), -1).mean(dim=1) for m in self.modalities]  # over a sample's segments
        apart = self.misranked(torch.stack(means, dim=1), self.scaled()[batch.index].float())
        loss = model.loss(logits, batch.targets) + losses.mean(dim=0).sum() + self.strength * apart.sum()
        loss.backward()
        kept = {"index": batch.index, "losses": losses.detach().double()}
        return Step(loss.detach(), logits.detach(), self.named(rank_loss=apart.detach()), kept)

    def adjust(self, model: Model, parts: Sequence[Step]) -> Mapping[str, Tensor]:
        for part in parts:
            self.history.index_add_(0, part.kept["index"], part.kept["losses"])
        return {}

    def scaled(self) -> Tensor:
        """The scaled history `u`, `[N, M]`; zero as long as there is no history."""
        least, most = self.history.aminmax(dim=0)
        return (self.history - least) / (most - least).clamp(min=1e-12)

    def misranked(self, sure: Tensor, u: Tensor) -> Tensor:
        """`R_m`, `[M]`, from confidences and histories `[B, M]`."""
        difference = u - u.roll(-1, dims=0)
        margin = difference.abs() if self.margin == "ranked" else -difference.abs()
        return (difference.sign() * (sure - sure.roll(-1, dims=0)) + margin).relu().mean(dim=0)

    def _fused(self, answers: Mapping[str, Tensor], sure: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([sure[m].unsqueeze(-1) * z for m, z in answers.items()]).sum(dim=0)

    def coalitions(self, model: Model, inputs: Mapping[str, Input], which: Sequence[Coalition]) -> dict[Coalition, Fused]:
        features = vectors(model, model.encode(inputs, self.modalities))
        answers = {m: head(features[m]) for m, head in self.heads.items()}
        sure = {m: confidence(z) for m, z in answers.items()}
        return {c: Fused(self._fused({m: z for m, z in answers.items() if m in c}, sure), joined(features, c)) for c in which}


def confidence(z: Tensor) -> Tensor:
    """The confidence `c` in each sample (or segment), `[B]`."""
    return 0.1 * z.float().logsumexp(dim=-1)
