"""Late averaging: a logistic regression on the predictions of the unimodal models ("mono-modal concepts")."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from agmbench.contracts import Coalition, Context, Fused, Input, Model, coalitions
from agmbench.modulators.ensemble import Ensemble, alone
from agmbench.modulators.heads import classes

NEVER = -30.0  # the logit of a class that does not occur in dev


class LateAverage(Ensemble):
    """Predicts with a logistic regression on the log-probabilities of the unimodal models (stacking); trains no network. A baseline.

        f(S) = b_S + sum_{m in S} W_{S,m} log softmax( C^m(x_m) )
        W, b = argmin  sum_i CE(f(S), y)[i] + |W|^2 / (2 strength)         over the samples of dev

    with `C^m` the unimodal model ("mono-modal concept") of modality m: the reference run of competition strength. Each coalition S has a
    regression of its own, so an absent modality has no part in a prediction. The regression is fitted on dev, which is cut from the
    training set and which no unimodal model has learnt from: on samples that they have learnt from, all of them look confident. The
    fused representation is the concatenation of the representations of the unimodal models.

    strength: inverse of the penalty, scikit-learn's `C`. Ours 1, its default.

    It has no paper of its own; published critiques of balanced learning call it "late averaging".
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, modalities: tuple[str, ...], *, strength: Annotated[float, Gt(0)] = 1.0) -> None:
        super().__init__(modalities)
        self.strength = strength
        self.which = coalitions(modalities)

    def prepare(self, context: Context) -> None:
        super().prepare(context)
        count, device = classes(context.model), context.generator.device
        self.register_buffer("weight", torch.zeros(len(self.which), count, len(self.modalities) * count, device=device))
        self.register_buffer("bias", torch.zeros(len(self.which), count, device=device))

    @torch.no_grad()
    def begin_epoch(self, context: Context) -> None:
        pieces = torch.arange(len(context.splits["dev"])).split(256)
        rows, targets = [], []
        for batch in context.batches("dev", pieces):
            rows.append(context.model.task.rows(self._known(self._said(batch.inputs))).cpu())
            targets.append(context.model.task.rows(batch.targets).cpu())
        known, right = torch.cat(rows).double(), torch.cat(targets)
        size = known.shape[1] // len(self.modalities)
        for number, coalition in enumerate(self.which):
            there = torch.tensor([m in coalition for m in self.modalities]).repeat_interleave(size)
            weight, bias = fitted(known[:, there], right, size, self.strength)
            self.weight[number, :, there] = weight.to(self.weight)
            self.bias[number] = bias.to(self.bias)

    def _said(self, inputs: Mapping[str, Input]) -> dict[str, Fused]:
        return {m: alone(self.concepts[m], m, inputs) for m in self.modalities}  # type: ignore[arg-type]

    def _known(self, said: Mapping[str, Fused]) -> Tensor:
        """The log-probabilities of all unimodal models side by side, `[B, M C]`."""
        return torch.cat([fused.logits.float().log_softmax(dim=-1) for fused in said.values()], dim=-1)

    def coalitions(self, model: Model, inputs: Mapping[str, Input], which: Sequence[Coalition]) -> dict[Coalition, Fused]:
        said = self._said(inputs)
        known, answers = self._known(said), {}
        for coalition in which:
            number = self.which.index(coalition)
            logits = known @ self.weight[number].T + self.bias[number]
            features = torch.cat([fused.representation * (m in coalition) for m, fused in said.items()], dim=-1)
            answers[coalition] = Fused(logits, features)
        return answers


def fitted(known: Tensor, right: Tensor, count: int, strength: float) -> tuple[Tensor, Tensor]:
    """`W` `[C, K]` and `b` `[C]`, fitted on the inputs `known` `[N, K]` and the classes `[N]`, with `count` classes in all."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weight, bias = torch.zeros(count, known.shape[1], dtype=torch.float64), torch.full((count,), NEVER, dtype=torch.float64)
    found = right.unique()
    bias[found] = 0.0
    if len(found) < 2:
        return weight, bias
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        made = LogisticRegression(C=strength, max_iter=1000).fit(known.numpy(), right.numpy())
    own, constant = torch.from_numpy(made.coef_), torch.from_numpy(made.intercept_)
    if len(found) == 2:  # scikit-learn then gives one row, for the second class against the first
        own, constant = torch.cat([-own, own]) / 2, torch.cat([-constant, constant]) / 2
    weight[found], bias[found] = own, constant
    return weight, bias
