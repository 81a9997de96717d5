"""Modality dropout: ModDrop (Neverova et al., TPAMI 2016), the plain baseline of methods against relying on a single modality."""

from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from agmbench.contracts import Batch, Context, Input, Model, Modulator, Promises, Step, Tokens
from agmbench.modulators.heads import several


class ModalityDropout(Modulator):
    """Joint training in which modalities of each sample are muted at random, so that the model does not rely on one alone. A baseline.

    With `d_m[i]` drawn anew for each sample of each batch, 1 with probability `p_m`:

        x_m[i] <- muted x_m[i]   if d_m[i] = 1 and some modality of the sample is left,      L = CE(f, y)

    A muted input is the same that stands for an absent modality in evaluation (the job's `mute`), so that training sees what evaluation
    asks. If a sample would lose every modality, one of them, drawn at random, stays.

    p: probability of muting; one number, or one per modality by name (others 0). Paper: one per modality, by data set; ours .2 for all.

    Records `kept/m`, the share of a batch's samples in which a modality stayed. Random numbers come from the modulator's own generator.

    Official code: none was found. The paper multiplies the part of a modality in the layer where all of them meet; ours mutes its input.
    The rule that one modality stays is ours.
    """

    promises = Promises(neutral={"p": 0.0}, absent=False, weights=True)

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        p: Annotated[float, Ge(0), Lt(1)] | dict[str, Annotated[float, Ge(0), Lt(1)]] = 0.2,
    ) -> None:
        super().__init__(modalities)
        named = p if isinstance(p, dict) else dict.fromkeys(modalities, p)
        self._unknown = sorted(named.keys() - set(modalities))
        self.p = [named.get(m, 0.0) for m in modalities]

    def refuses(self, model: Model) -> str | None:
        if self._unknown:
            return f"has p for {', '.join(self._unknown)}, no modality of this data set: {', '.join(self.modalities)}"
        return several(model)

    def prepare(self, context: Context) -> None:
        self.generator = context.generator
        self.chances = torch.tensor(self.p, device=context.generator.device).unsqueeze(1)  # [M, 1]

    def backward(self, model: Model, batch: Batch) -> Step:
        stays = self.draw(len(batch.targets))  # [M, B]
        shown = dict(batch.inputs)
        for number, m in enumerate(self.modalities):
            shown[m] = chosen(stays[number], shown[m], model.muting(m, shown[m]))
        logits = model.fusion(model.encode(shown)).logits
        loss = model.loss(logits, batch.targets, batch.weights)
        loss.backward()
        return Step(loss.detach(), logits.detach(), self.named(kept=stays.float().mean(dim=1)))

    def draw(self, count: int) -> Tensor:
        """Which samples keep which modality, `[M, B]`; every sample keeps at least one."""
        drawn = torch.rand(len(self.modalities) + 1, count, generator=self.generator, device=self.generator.device)
        kept = drawn[:-1] >= self.chances
        spared = (drawn[-1] * len(self.modalities)).long().clamp(max=len(self.modalities) - 1)  # one modality per sample, [B]
        one = torch.nn.functional.one_hot(spared, num_classes=len(self.modalities)).bool().T
        return kept | (one & ~kept.any(dim=0))


def chosen(stays: Tensor, x: Input, muted: Input) -> Input:
    """`x` for the samples in which it stays, `[B]`, and the muted input for the others."""
    if isinstance(x, Tokens) and isinstance(muted, Tokens):
        values = chosen(stays, x.values, muted.values)
        assert isinstance(values, Tensor)
        return Tokens(values, x.mask, x.alike)
    assert isinstance(x, Tensor)
    assert isinstance(muted, Tensor)
    return torch.where(stays.view(-1, *[1] * (x.ndim - 1)), x, muted)
