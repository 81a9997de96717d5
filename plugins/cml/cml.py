"""CML: calibrating multimodal learning (Ma et al., ICML 2023)."""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from agmbench.contracts import Batch, Coalition, Mode, Model, Modulator, Promises, Step
from agmbench.tasks import Segments, SingleLabel


class CML(Modulator):
    """Joint training with a penalty wherever the model is surer of itself once a modality is removed.

    With `conf(S) = max_c softmax(f_S)_c` for the logits `f_S` under the coalition S of modalities, the others muted:

        L = CE(f, y) + lambda * mean over |S| > 1 and m in S of   mean_i max(0, conf_i(S - m) - conf_i(S))

    The paper asks `conf(T) <= conf(S)` of all `T < S`, with the same hinge, and in training draws pairs of coalitions at random.
    Ours takes every pair that differs in one modality: all other inequalities follow from these, and nothing is drawn. Ours is
    a mean over the pairs, so that `lambda` means the same for any number of modalities.

    strength: `lambda`, chosen by data set in the paper; ours 1.
    coalitions: `exact` runs partial coalitions in eval mode, as all evaluation here does; `shared` reuses the training pass's
        features, which costs less. Ours `exact`.

    Official code: no values of it were recorded to compare with; the rule is written from the paper's equations and tested on cases
        worked out by hand.

    Gradient flows through both confidences. Records `surer`: the share of samples and pairs with a penalty.
    """

    promises = Promises(neutral={"strength": 0}, exact={"coalitions": "exact"}, absent=False)

    def __init__(
        self, modalities: tuple[str, ...], *, strength: Annotated[float, Ge(0)] = 1.0, coalitions: Mode = "exact"
    ) -> None:
        super().__init__(modalities)
        self.strength = strength
        self.mode: Mode = coalitions

    def refuses(self, model: Model) -> str | None:
        if len(model.modalities) < 2:
            return "needs two or more modalities, to remove one; take joint"
        if not isinstance(model.task, SingleLabel | Segments):
            return f"needs a probability of each class, which a task of {type(model.task).__name__} has not; take agm or joint"
        return None

    def backward(self, model: Model, batch: Batch) -> Step:
        pairs = [(coalition - {m}, coalition) for coalition in _larger_than_one(self.modalities) for m in sorted(coalition)]
        which = dict.fromkeys(coalition for pair in reversed(pairs) for coalition in pair)
        logits = {
            coalition: fused.logits for coalition, fused in model.coalitions(batch.inputs, list(which), self.mode).items()
        }
        sure = {coalition: _confidence(values) for coalition, values in logits.items()}
        rise = torch.stack([sure[fewer] - sure[more] for fewer, more in pairs])  # [pairs, B], or [pairs, B, T]
        full = logits[frozenset(self.modalities)]
        loss = model.loss(full, batch.targets) + self.strength * rise.relu().mean()
        loss.backward()
        return Step(loss.detach(), full.detach(), {"surer": (rise > 0).float().mean()})


def _larger_than_one(modalities: tuple[str, ...]) -> list[Coalition]:
    """Every coalition of two or more, the full one last."""
    subsets = [
        frozenset(m for place, m in enumerate(modalities) if number >> place & 1) for number in range(2 ** len(modalities))
    ]
    return sorted((subset for subset in subsets if len(subset) > 1), key=len)


def _confidence(logits: Tensor) -> Tensor:
    return logits.float().softmax(dim=-1).amax(dim=-1)
