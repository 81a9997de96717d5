"""UMT: uni-modal teachers (Du et al., "On Uni-Modal Feature Learning in Supervised Multi-Modal Learning", ICML 2023)."""

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from agmbench.contracts import Batch, Context, Model, Modulator, Promises, Step, Tokens
from agmbench.modulators.features import distance


class UMT(Modulator):
    """Each encoder also learns to give the features of a teacher that was trained on its modality alone:

        L = CE(f, y) + weight sum_m MSE(e_m, e_m^T)

    with `e_m^T` the features of the encoder of the unimodal model ("mono-modal concept") of m, the reference run of competition strength:
    trained on the same data with the same recipe, finished, frozen and in eval mode. In sequences, only tokens that are there count.

    weight: `lambda`. Ours 10, as in a third party's code.

    Official code: none was found. The code of a third party (BalanceBenchmark) gives the same gradients and weights, step by step, if its
    teachers are put in eval mode (its values are in `tests/reference`). It leaves them in train mode, which we do not follow.
    """

    promises = Promises(neutral={"weight": 0.0}, absent=False)
    needs_concepts = True

    def __init__(self, modalities: tuple[str, ...], *, weight: Annotated[float, Ge(0)] = 10.0) -> None:
        super().__init__(modalities)
        self.weight = weight

    def refuses(self, model: Model) -> str | None:
        if len(model.modalities) < 2:
            return f"needs two or more modalities, each with a teacher; found {', '.join(model.modalities)}"
        return None

    def prepare(self, context: Context) -> None:
        self.teachers = nn.ModuleDict(dict(context.concepts))  # type: ignore[arg-type]

    def backward(self, model: Model, batch: Batch) -> Step:
        features = model.encode(batch.inputs)
        logits = model.fusion(features).logits
        apart = {m: distance(features[m], taught) for m, taught in self.taught(batch).items()}
        loss = model.loss(logits, batch.targets) + self.weight * torch.stack(list(apart.values())).sum()
        loss.backward()
        return Step(loss.detach(), logits.detach(), {f"distance/{m}": value.detach() for m, value in apart.items()})

    @torch.no_grad()
    def taught(self, batch: Batch) -> Mapping[str, Tensor | Tokens]:
        """The features `e_m^T` of the teachers, in the shape of the model's own features."""
        return {m: teacher.encode(batch.inputs, [m])[m] for m, teacher in self.teachers.items()}  # type: ignore[operator]
