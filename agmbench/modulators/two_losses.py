"""Shared code of MMPareto and the multi-task solvers: for each encoder, separate gradients of the joint loss and of its own loss."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from agmbench.contracts import Batch, Context, Model, Modulator, Promises, Step
from agmbench.modulators.heads import Heads


class TwoLosses(Modulator):
    """Each modality also has a head of its own. With `L_0 = CE(f, y)` and `L_m = CE(h_m(e_m), y)`, the gradient of encoder m is what
    `combine` makes of `G0 = dL_0/dtheta_m` and `G1 = dL_m/dtheta_m`. The fusion and the heads take the gradient of the sum of all losses.

    With gradient accumulation, the means of G0 and G1 over the micro-batches are combined once. For an encoder that also sees other
    modalities, G1 is the gradient of all `L_k`.
    """

    promises = Promises(absent=False, weights=True)

    def prepare(self, context: Context) -> None:
        self.heads = Heads(context.model)

    def backward(self, model: Model, batch: Batch) -> Step:
        features = model.encode(batch.inputs)
        logits = model.fusion(features).logits
        joint = model.loss(logits, batch.targets, batch.weights)
        alone = {m: model.loss(z, batch.targets, batch.weights) for m, z in self.heads.answers(model, features).items()}
        joint.backward(retain_graph=True)
        kept = self._backward_alone(torch.stack(list(alone.values())).sum(), model)
        return Step(joint.detach(), logits.detach(), {f"loss/{m}": loss.detach() for m, loss in alone.items()}, kept)

    def _backward_alone(self, loss: Tensor, model: Model) -> dict[str, Tensor]:
        """Add to the gradients of the heads, and return G1 by modality, `[n]` for an encoder with n parameters that learn."""
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
            found, said = self.combine(modality, [g0 for _, g0, _ in reached], [g1 for *_, g1 in reached])
            for (tensor, *_), gradient in zip(reached, found, strict=True):
                tensor.grad = gradient
            signals |= said
        return signals

    def combine(self, modality: str, g0: Sequence[Tensor], g1: Sequence[Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Combine the gradients of the two losses. Returns the gradient of each tensor of the encoder, and signals to record."""
        raise TypeError(f"{type(self).__name__} should define combine(modality, g0, g1)")


def over_all(parts: Sequence[Step], modality: str, model: Model) -> Tensor:
    """G1 of an optimizer step, `[n]`: the mean over the samples of its micro-batches, or the sum if the loss is a sum."""
    counts = [len(part.logits) for part in parts]
    whole = torch.stack([count * part.kept[modality] for count, part in zip(counts, parts, strict=True)]).sum(dim=0)
    return whole if model.reduction == "sum" else whole / sum(counts)


def _learning(module: nn.Module) -> list[nn.Parameter]:
    return [tensor for tensor in module.parameters() if tensor.requires_grad]
