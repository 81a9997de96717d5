"""MMPareto: Pareto integration of multimodal and unimodal gradients (Wei and Hu, ICML 2024)."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn

from agmbench.contracts import Batch, Context, Model, Modulator, Step
from agmbench.modulators.heads import Heads


class MMPareto(Modulator):
    """Each modality also answers by a head of its own, and its encoder takes a direction that serves both losses.

    With `L_0 = CE(f, y)`, `L_m = CE(h_m(e_m), y)`, and for encoder m `G0 = dL_0/dtheta_m`, `G1 = dL_m/dtheta_m`:

        w0, w1 = 1/2, 1/2                                           if cos(G0, G1) > 0, else
        w0     = clip( G1.(G1 - G0) / |G0 - G1|^2, 0, 1 )           which makes |w0 G0 + w1 G1| the least, w1 = 1 - w0
        g      = 2 w0 G0 + 2 w1 G1
        g     <- gamma g max(1, |G0 + G1| / |g|)                    tensor by tensor

    The fusion and the heads take the gradient of the sum of all losses.

    gamma: paper, official code and ours 1.5.

    G0 and G1 each come from a backward pass of their own; reimplementations that do not clear gradients in between have cos = 1 and
    up to three times the gradient. With gradient accumulation the means of G0 and G1 over the micro-batches are combined once. Of
    an encoder that looks at other modalities, G1 is the gradient of all `L_k`.

    Official code: the same gradients and weights, step by step, whichever branch is taken (its values are in `tests/reference`), of two
    modalities and three losses. More modalities, accumulation and encoders that look at others are ours.
    """

    def __init__(self, modalities: tuple[str, ...], *, gamma: Annotated[float, Gt(0)] = 1.5) -> None:
        super().__init__(modalities)
        self.gamma = gamma

    def prepare(self, context: Context) -> None:
        self.heads = Heads(context.model)

    def backward(self, model: Model, batch: Batch) -> Step:
        features = model.encode(batch.inputs)
        logits = model.fusion(features).logits
        joint = model.loss(logits, batch.targets)
        alone = {m: model.loss(z, batch.targets) for m, z in self.heads.answers(model, features).items()}
        joint.backward(retain_graph=True)
        kept = self._backward_alone(torch.stack(list(alone.values())).sum(), model)
        return Step(joint.detach(), logits.detach(), {f"loss/{m}": loss.detach() for m, loss in alone.items()}, kept)

    def _backward_alone(self, loss: Tensor, model: Model) -> dict[str, Tensor]:
        """Adds to the gradients of the heads; G1 by modality, `[n]` for an encoder of n numbers that learn."""
        parts = {**{m: _learning(model.encoders[m]) for m in self.modalities}, "heads": _learning(self.heads)}
        flat = [tensor for tensors in parts.values() for tensor in tensors]
        gradients = iter(torch.autograd.grad(loss, flat, allow_unused=True, materialize_grads=True))
        found = {part: [next(gradients) for _ in tensors] for part, tensors in parts.items()}
        for tensor, gradient in zip(parts["heads"], found.pop("heads"), strict=True):
            tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient
        return {m: torch.cat([gradient.flatten() for gradient in new]) for m, new in found.items() if new}

    def adjust(self, model: Model, parts: Sequence[Step]) -> Mapping[str, Tensor]:
        signals: dict[str, Tensor] = {}
        for modality in parts[0].kept:
            tensors = _learning(model.encoders[modality])
            alone = over_all(parts, modality, model).split([tensor.numel() for tensor in tensors])
            pairs = zip(tensors, alone, strict=True)
            reached = [(tensor, tensor.grad, g1.view_as(tensor)) for tensor, g1 in pairs if tensor.grad is not None]
            if not reached:  # nothing of this encoder learns
                continue
            cosine, w0 = weights([g0 for _, g0, _ in reached], [g1 for *_, g1 in reached])
            for tensor, g0, g1 in reached:
                tensor.grad = self.combined(g0, g1, w0)
            signals |= {f"cosine/{modality}": cosine, f"weight/{modality}": w0}
        return signals

    def combined(self, g0: Tensor, g1: Tensor, w0: Tensor) -> Tensor:
        """`gamma g max(1, |G0 + G1| / |g|)` of one tensor."""
        g = 2 * w0 * g0 + 2 * (1 - w0) * g1
        short = (g0 + g1).norm() / g.norm().clamp(min=1e-12)
        grown: Tensor = self.gamma * short.clamp(min=1) * g
        return grown


def over_all(parts: Sequence[Step], modality: str, model: Model) -> Tensor:
    """G1 of an optimizer step, `[n]`: the mean over the samples of its micro-batches, or of a summed loss the sum."""
    counts = [len(part.logits) for part in parts]
    whole = torch.stack([count * part.kept[modality] for count, part in zip(counts, parts, strict=True)]).sum(dim=0)
    return whole if model.reduction == "sum" else whole / sum(counts)


def weights(g0: Sequence[Tensor], g1: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """`cos(G0, G1)` and `w0`, over all tensors of an encoder."""

    def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()

    across, own0, own1 = dot(g0, g1), dot(g0, g0), dot(g1, g1)
    cosine = across / (own0 * own1).sqrt().clamp(min=1e-30)
    least = ((own1 - across) / (own0 + own1 - 2 * across).clamp(min=1e-30)).clamp(0, 1)
    return cosine, torch.where(across > 0, torch.full_like(least, 0.5), least)


def _learning(module: nn.Module) -> list[nn.Parameter]:
    return [tensor for tensor in module.parameters() if tensor.requires_grad]
