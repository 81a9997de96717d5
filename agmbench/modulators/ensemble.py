"""The ensemble of the unimodal models ("mono-modal concepts"): what modalities achieve that were never trained together."""

from collections.abc import Mapping, Sequence
from math import log

import torch
from torch import nn

from agmbench.contracts import Batch, Coalition, Context, Fused, Input, Model, Modulator, Promises, Step
from agmbench.modulators.heads import several
from agmbench.tasks import SingleLabel


class Ensemble(Modulator):
    """Predicts with the mean of the unimodal models' probabilities, and trains nothing itself. A baseline without parameters.

        f(S) = log( 1/|S| sum_{m in S} softmax(C^m(x_m)) )

    with `C^m` the unimodal model ("mono-modal concept") of modality m: the reference run of competition strength. The model of an absent
    modality is left out of the mean. The fused representation is the concatenation of the representations of the unimodal models.
    """

    promises = Promises(trains=False, absent=False, weights=True)
    needs_concepts = True

    def refuses(self, model: Model) -> str | None:
        if reason := several(model):
            return reason
        if not isinstance(model.task, SingleLabel):
            return f"averages probabilities of classes; the task of this data set is {type(model.task).__name__}"
        return None

    def prepare(self, context: Context) -> None:
        self.concepts = nn.ModuleDict(dict(context.concepts))  # type: ignore[arg-type]

    def members(self) -> Sequence[str]:
        """The modalities whose concepts are used."""
        return self.modalities

    def steps(self, model: Model, batches: Sequence[Batch]) -> Sequence[Step]:
        return ()

    def coalitions(self, model: Model, inputs: Mapping[str, Input], which: Sequence[Coalition]) -> dict[Coalition, Fused]:
        said = {m: alone(self.concepts[m], m, inputs) for m in self.members()}  # type: ignore[arg-type]
        return {coalition: _mean(said, coalition) for coalition in which}


def alone(concept: Model, modality: str, inputs: Mapping[str, Input]) -> Fused:
    """The output of a concept, whose only input is its own modality."""
    only = frozenset({modality})
    return concept.coalitions(inputs, [only])[only]


def _mean(said: Mapping[str, Fused], coalition: Coalition) -> Fused:
    """The mean; if the modality of no concept is present, every class is equally likely."""
    known = [fused.logits.float().log_softmax(dim=-1) for m, fused in said.items() if m in coalition]
    unknown = [torch.zeros_like(fused.logits) for fused in said.values()][:1]
    logits = torch.stack(known or unknown).logsumexp(dim=0) - log(len(known) or 1)
    return Fused(logits, torch.cat([fused.representation * (m in coalition) for m, fused in said.items()], dim=-1))
