"""What a model says of a split, coalition by coalition, and the numbers by which training is followed."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from agmbench import shapley
from agmbench.contracts import Batch, Coalition, Fused, Modulator, Tokens
from agmbench.errors import RunFailed
from agmbench.model import MultimodalModel
from agmbench.outcomes import Outcome
from agmbench.tasks import Task


@torch.no_grad()
def evaluate(
    model: MultimodalModel,
    modulator: Modulator,
    batches: Iterable[Batch],
    class_names: Iterable[str] = (),
    terms: bool = False,
    where: str = "",
) -> Outcome:
    """Eval-mode logits of every coalition on a split, representation and targets, on the CPU; with `terms`, those of an additive
    fusion too. `batches` are the split's, on the model's device.

    What is not finite is an error that names the split (`where`), the modality and the samples.
    """
    which = shapley.coalitions(model.modalities)
    full = frozenset(model.modalities)
    parts: dict[Coalition, list[Tensor]] = {coalition: [] for coalition in which}
    representations, targets, own = [], [], []
    with model.evaluating(), model.muting.evaluation():
        for batch in batches:
            if any(len(_wrong_rows(batch.inputs[m])) for m in model.modalities):
                raise RunFailed(f"the data on {where} are not finite: {culprit(model, [batch])}")
            said = modulator.coalitions(model, batch.inputs, which)
            if not all(_finite(x) for x in (*(fused.logits for fused in said.values()), said[full].representation)):
                raise RunFailed(f"the logits on {where} are not finite: {culprit(model, [batch])}")
            if not _finite(batch.targets):
                raise RunFailed(f"the targets on {where} are not finite; look at the data")
            for coalition in which:
                parts[coalition].append(model.task.rows(said[coalition].logits.float().cpu()))
            representations.append(model.task.rows(said[full].representation.float().cpu()))
            targets.append(model.task.rows(batch.targets.cpu()))
            if terms and (found := _terms(model, batch, said[full])):
                own.append(found)
    return Outcome(
        kind=model.task.kind,
        modalities=model.modalities,
        class_names=tuple(map(str, class_names)),
        logits={coalition: torch.cat(pieces).numpy() for coalition, pieces in parts.items()},
        targets=torch.cat(targets).numpy(),
        fused=torch.cat(representations).numpy(),
        terms={m: torch.cat([model.task.rows(each[m]) for each in own]).numpy() for m in own[0]} if own else {},
    )


def _terms(model: MultimodalModel, batch: Batch, said: Fused) -> dict[str, Tensor]:
    """Each modality's own term of the logits, where the fusion is additive and what the method says is the sum of its terms."""
    if not model.fusion.additive:
        return {}
    terms = {m: term.float().cpu() for m, term in model.fusion.terms(cast(Any, model.encode(batch.inputs))).items()}
    whole = torch.stack(list(terms.values())).sum(dim=0)
    return terms if torch.allclose(whole, said.logits.float().cpu(), rtol=1e-3, atol=1e-3) else {}


def measure(outcome: Outcome, task: Task) -> dict[str, float]:
    """The task's figure and loss of the full coalition and of each response, and the figure of each coalition.

    A figure other than accuracy is part of each name: `r2`, `response-r2/audio`, `coalition-r2/audio:image`.
    """
    rows, targets = task.of_rows(), torch.from_numpy(outcome.targets)
    of = "" if task.figure == "accuracy" else f"-{task.figure}"

    def figure(logits: object) -> float:
        return rows.accuracy(torch.as_tensor(logits), targets)

    def loss(logits: object) -> float:
        return float(rows.losses(torch.as_tensor(logits), targets).mean())

    values = {task.figure: figure(outcome.full), "loss": loss(outcome.full)}
    for modality, response in outcome.responses.items():
        values[f"response{of}/{modality}"] = figure(response)
        values[f"response-loss/{modality}"] = loss(response)
    for coalition, logits in outcome.logits.items():
        values[f"coalition{of}/{shapley.coalition_name(coalition, outcome.modalities)}"] = figure(logits)
    return values


def response_figures(values: Mapping[str, float], task: Task) -> dict[str, float]:
    """The figure of each modality's response, of what `measure` found."""
    start = "response/" if task.figure == "accuracy" else f"response-{task.figure}/"
    return {name.removeprefix(start): value for name, value in values.items() if name.startswith(start)}


@torch.no_grad()
def culprit(model: MultimodalModel, batches: Iterable[Batch]) -> str:
    """Where numbers that are not finite come from, with the weights that made them: the first place of the first batch."""
    for batch in batches:
        wrong = {m: rows for m in model.modalities if len(rows := _wrong_rows(batch.inputs[m]))}
        for m, rows in wrong.items():
            named = f"{len(rows)} of {len(batch.index)} samples of a batch, the first is number {int(batch.index[rows[0]])}"
            return f"the input of {', '.join(wrong)} is not finite ({m}: {named}); look at the data"
        encoded = model.encode(batch.inputs)
        if features := [m for m in model.modalities if not _finite(encoded[m])]:
            return f"the encoder of {', '.join(features)} gives features that are not finite; try a smaller training.lr"
        if not _finite(model(batch.inputs).logits):
            return (
                f"inputs and features of {', '.join(model.modalities)} are finite, the fusion is not; try a smaller training.lr"
            )
    return "inputs, features and logits of the model are finite, what the modulator makes of them is not; look at its losses"


def _wrong_rows(x: Tensor | Tokens) -> list[int]:
    """The samples of a batch that have a number which is not finite; what a mask hides is not looked at."""
    values = x.values if isinstance(x, Tokens) else x
    sound = torch.isfinite(values)
    if isinstance(x, Tokens) and x.mask is not None:
        sound = sound | ~x.mask.unsqueeze(-1)
    if sound.all():
        return []
    return (~sound.flatten(1).all(dim=1)).nonzero().flatten().tolist()


def _finite(x: Tensor | Tokens) -> bool:
    return bool(torch.isfinite(x.values if isinstance(x, Tokens) else x).all())
