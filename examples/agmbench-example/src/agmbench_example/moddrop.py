"""ModDrop (Neverova et al., TPAMI 2016)."""

from typing import Annotated

import torch
from agmbench.contracts import Batch, Context, Input, Model, Modulator, Promises, Step, Tokens
from annotated_types import Ge, Lt
from torch import Tensor


class ModDrop(Modulator):
    """Joint training in which each modality of each sample is muted with probability p, so that the model relies on none alone.

    The paper draws one Bernoulli variable per modality and sample, and multiplies by it what the modality contributes to the
    fusing layer. Here a dropped modality is muted as in evaluation: its encoder gets the input that stands for an absent
    modality. A sample that would lose all its modalities keeps one, drawn at random (ours).

    p: probability of muting. The paper has one per modality; ours is the same for all, .2.

    Records `kept/m`, the share of samples in which a modality stayed.
    """

    promises = Promises(neutral={"p": 0}, absent=False, weights=True)

    def __init__(self, modalities: tuple[str, ...], *, p: Annotated[float, Ge(0), Lt(1)] = 0.2) -> None:
        super().__init__(modalities)
        self.p = p

    def begin_epoch(self, context: Context) -> None:
        self.generator = context.generator

    def backward(self, model: Model, batch: Batch) -> Step:
        kept = self.draw(len(batch.targets), batch.targets.device)
        shown = {m: _mixed(kept[m], x, model.muting(m, x)) if m in kept else x for m, x in batch.inputs.items()}
        logits = model.fusion(model.encode(shown)).logits
        loss = model.loss(logits, batch.targets, batch.weights)
        loss.backward()
        return Step(loss.detach(), logits.detach(), {f"kept/{m}": stays.float().mean() for m, stays in kept.items()})

    def draw(self, count: int, device: torch.device) -> dict[str, Tensor]:
        """Draw for each modality which samples keep it, `[B]`; every sample keeps at least one modality."""
        drawn = torch.rand(len(self.modalities), count, generator=self.generator, device=device)  # [M, B]
        chosen = torch.randint(len(self.modalities), (count,), generator=self.generator, device=device)
        kept = drawn >= self.p
        lost = ~kept.any(dim=0)
        kept[chosen[lost], lost] = True
        return dict(zip(self.modalities, kept, strict=True))


def _mixed(kept: Tensor, x: Input, muted: Input) -> Input:
    """`x` for the samples that keep the modality, and `muted` for the others."""
    if isinstance(x, Tokens) and isinstance(muted, Tokens):
        return Tokens(_where(kept, x.values, muted.values), x.mask)
    assert isinstance(x, Tensor)
    assert isinstance(muted, Tensor)
    return _where(kept, x, muted)


def _where(kept: Tensor, x: Tensor, muted: Tensor) -> Tensor:
    return torch.where(kept.view(-1, *[1] * (x.ndim - 1)), x, muted)
