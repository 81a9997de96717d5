"""CML: calibrating multimodal learning (Ma et al., ICML 2023)."""

from itertools import combinations
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from agmbench.contracts import Batch, Coalition, Mode, Model, Modulator, Promises, Step
from agmbench.tasks import Segments, SingleLabel


class CML(Modulator):
    """Joint training with a penalty where the model becomes more confident when a modality is removed.

    With `conf(S) = max_c softmax(f_S)_c` for the logits `f_S` under the coalition S of modalities, the others muted:

        L = CE(f, y) + lambda * mean over |S| > 1 and m in S of   mean_i max(0, conf_i(S - m) - conf_i(S))

    The paper demands `conf(T) <= conf(S)` for all `T < S`. Pairs that differ in one modality are enough, as all others follow from them.
    The penalty is a mean over pairs and samples, so that `lambda` means the same for any number of modalities and any batch size.

    strength: `lambda`, chosen by data set in the paper. Official code: `beta / 100` for a sum over pairs and samples, so its 10 is .1
        times pairs times samples here; ours 1.
    views: the cross entropy is that of the `full` coalition, as in the paper and by default; or the mean over `all` coalitions, as the
        official code does over its views.
    excuse: as in the official code; off by default. A sample has no penalty if only the smaller coalition is right. If neither is right,
        the gradient of its penalty flows only through the smaller coalition.
    coalitions: `exact` runs partial coalitions in eval mode, as all evaluation here does; `shared` reuses the features of the training
        pass, which costs less. Ours `exact`.

    Gradient flows through both confidences. Records `surer`: the share of samples and pairs with a penalty.

    Official code: the same penalty, cross entropy and gradients on the logits of a chain of views, with `excuse` and `views: all` (its
    values are in `tests/reference`). It removes modalities one after another, in an order drawn for each sample, and compares
    neighbours in that one chain; ours takes every pair, and nothing is drawn. It sums over pairs and samples.
    """

    promises = Promises(neutral={"strength": 0, "views": "full"}, exact={"coalitions": "exact"}, absent=False)

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        strength: Annotated[float, Ge(0)] = 1.0,
        views: Literal["full", "all"] = "full",
        excuse: bool = False,
        coalitions: Mode = "exact",
    ) -> None:
        super().__init__(modalities)
        self.strength = strength
        self.views = views
        self.excuse = excuse
        self.mode: Mode = coalitions

    def refuses(self, model: Model) -> str | None:
        if len(model.modalities) < 2:
            return "needs two or more modalities, to remove one; take joint"
        if not isinstance(model.task, SingleLabel | Segments):
            return f"needs a probability of each class, which a task of {type(model.task).__name__} has not; take agm or joint"
        return None

    def backward(self, model: Model, batch: Batch) -> Step:
        sizes = range(1, len(self.modalities) + 1)
        which = [frozenset(chosen) for size in sizes for chosen in combinations(self.modalities, size)]
        logits: dict[Coalition, Tensor] = {
            coalition: fused.logits for coalition, fused in model.coalitions(batch.inputs, which, self.mode).items()
        }
        pairs = [(coalition - {m}, coalition) for coalition in which if len(coalition) > 1 for m in sorted(coalition)]
        rises = torch.stack([self.rise(logits[fewer], logits[more], batch.targets) for fewer, more in pairs])  # [pairs, B]
        full = frozenset(self.modalities)
        seen = logits.values() if self.views == "all" else [logits[full]]
        entropy = torch.stack([model.loss(values, batch.targets) for values in seen]).mean()
        loss = entropy + self.strength * rises.mean()
        loss.backward()
        return Step(loss.detach(), logits[full].detach(), {"surer": (rises > 0).float().mean()})

    def rise(self, fewer: Tensor, more: Tensor, targets: Tensor) -> Tensor:
        """How much the confidence rises with fewer modalities, `[B]` or (for segments) `[B, T]`; zero if it falls or is excused."""
        (sure, right), (surer, still) = _said(more, targets), _said(fewer, targets)
        if not self.excuse:
            return (surer - sure).relu()
        rise = (surer - torch.where(right, sure, sure.detach())).relu()
        return torch.where(still & ~right, 0.0, rise)


def _said(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The confidence of each prediction, and whether the prediction is right."""
    sure, answer = logits.float().softmax(dim=-1).max(dim=-1)
    return sure, answer == targets
