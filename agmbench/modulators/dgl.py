"""DGL: disentangled gradient learning (Wei et al., ICCV 2025)."""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from agmbench.contracts import Batch, Model, Modulator, Promises, Step, Tokens
from agmbench.modulators.features import detached, only
from agmbench.modulators.heads import several


class DGL(Modulator):
    """Each encoder learns only from the prediction of its own modality; the fusion learns from all modalities together.

    With `f` the fusion's logits for all features, and `f_m` its logits for `e_m` alone with the other features set to zero:

        encoders:   the gradient of  alpha sum_m CE(f_m, y)        its part for the fusion is thrown away
        fusion:     the gradient of  CE(f, y)                      from features without gradient

    So no encoder is held back by what the others have learnt. If the fusion is a sum with one head per modality, `f_m` is the term of
    m: the heads of absent modalities, including their biases, are left out. A pass for `f_m` runs only the fusion, in eval mode.

    alpha: weight of the encoders' losses. Official default 4, for CREMA-D 4 to 5, for Kinetics-Sounds 2 to 3; ours 4.

    For any number of modalities, each `f_m` has exactly one. The recorded loss is `CE(f, y)`; `loss/m` is `CE(f_m, y)`.

    Official code: the same gradients and weights, step by step, for `concat` and `sum` (its values are in `tests/reference`). It also
    clips the norm of all gradients to 40, which ours does not; in the recorded runs nothing was clipped. Tasks other than one class per
    sample, more than two modalities, and fusions other than concat, sum, FiLM and gated are ours.
    """

    promises = Promises(absent=False, weights=True)

    def __init__(self, modalities: tuple[str, ...], *, alpha: Annotated[float, Gt(0)] = 4.0) -> None:
        super().__init__(modalities)
        self.alpha = alpha

    def refuses(self, model: Model) -> str | None:
        return several(model)

    def backward(self, model: Model, batch: Batch) -> Step:
        features = model.encode(batch.inputs)
        logits = model.fusion(detached(features)).logits
        loss = model.loss(logits, batch.targets, batch.weights)
        loss.backward()
        alone = torch.stack([model.loss(z, batch.targets, batch.weights) for z in alone_of(model, features).values()])  # [M]
        if learning := [tensor for tensor in model.encoders.parameters() if tensor.requires_grad]:
            (self.alpha * alone.sum()).backward(inputs=learning)
        return Step(loss.detach(), logits.detach(), self.named(loss=alone.detach()))


def alone_of(model: Model, features: Mapping[str, Tensor | Tokens]) -> dict[str, Tensor]:
    """`f_m`, `{m: [B, C]}`: the logits of the fusion, in eval mode, for the features of each modality alone."""
    fusion = model.fusion
    with model.evaluating():
        if fusion.additive and len(fusion.heads()) == len(features):  # a head for each modality
            return fusion.terms(features)  # type: ignore[arg-type]  # an additive fusion takes vectors
        return {m: fusion(only(features, [m])).logits for m in model.modalities}
