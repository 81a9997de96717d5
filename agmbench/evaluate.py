"""The predictions of a model on a split under each coalition, and the numbers that are recorded while it trains."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from agmbench import shapley
from agmbench.contracts import Batch, Modulator, Tokens
from agmbench.errors import RunFailed
from agmbench.finite import culprit, sound_input, wrong_input
from agmbench.model import MultimodalModel
from agmbench.outcomes import Outcome
from agmbench.tasks import Task


@torch.no_grad()
def evaluate(
    model: MultimodalModel,
    modulator: Modulator,
    batches: Iterable[Batch],
    class_names: Iterable[str] = (),
    whole: bool = False,
    where: str = "",
) -> Outcome:
    """Evaluate a split in eval mode: the logits of every coalition, the representation and the targets, on the CPU. With `whole`, also the
    terms of an additive fusion and, for a method that trains, the features. `batches` are all batches of the split, on the model's device.

    Raises `RunFailed` for a number that is not finite, with a text that names the split (`where`), the modality and the samples.
    """
    which = shapley.coalitions(model.modalities)
    full = frozenset(model.modalities)
    parts: list[list[Tensor]] = []  # per batch: logits of each coalition, representation, and terms and features if any
    targets: list[Tensor] = []
    own: Mapping[str, Tensor] = {}
    features: Mapping[str, Tensor] = {}
    with model.evaluating(), model.muting.evaluation():
        for batch in batches:
            said = modulator.coalitions(model, batch.inputs, which)
            own, features = _inside(model, batch) if whole else ({}, {})
            rows = [
                *(said[c].logits.float() for c in which),
                said[full].representation.float(),
                *(x.float() for x in (*own.values(), *features.values())),
            ]
            sound_here = torch.stack([sound_input(batch.inputs[m]).all() for m in model.modalities]).all()
            *made, answers, sound = on_host([*rows, batch.targets, sound_here])
            logits_sound = all(torch.isfinite(x).all() for x in made[: len(which) + 1])
            if not sound or not logits_sound or not torch.isfinite(answers).all():
                raise RunFailed(_not_finite(model, batch, bool(sound), logits_sound, where))
            parts.append([model.task.rows(x) for x in made])
            targets.append(model.task.rows(answers))
    rows = [torch.cat(pieces) for pieces in zip(*parts, strict=True)]
    logits, (fused, *others) = dict(zip(which, rows, strict=False)), rows[len(which) :]
    own, features = dict(zip(own, others, strict=False)), dict(zip(features, others[len(own) :], strict=True))
    return Outcome(
        kind=model.task.kind,
        modalities=model.modalities,
        class_names=tuple(map(str, class_names)),
        logits={coalition: x.numpy() for coalition, x in logits.items()},
        targets=torch.cat(targets).numpy(),
        fused=fused.numpy(),
        terms={m: x.numpy() for m, x in own.items()} if _add_up(own, logits[full]) else {},
        features={m: x.numpy() for m, x in features.items()} if modulator.promises.trains else {},
    )


def _not_finite(model: MultimodalModel, batch: Batch, inputs_sound: bool, logits_sound: bool, where: str) -> str:
    """The error that says which part of a batch is not finite: its inputs, the logits, or else the targets."""
    if not inputs_sound:
        return f"the data on {where} are not finite: {wrong_input(batch, model.modalities)}"
    if not logits_sound:
        return f"the logits on {where} are not finite: {culprit(model, batch)}"
    return f"the targets on {where} are not finite; look at the data"


def on_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies of the tensors on the CPU, made by one transfer of all their bytes, so that the host waits for the device only once."""
    # the widest numbers come first, so that every tensor starts at a multiple of its element size
    order = sorted(range(len(tensors)), key=lambda place: -tensors[place].element_size())
    pieces = [tensors[place].detach().contiguous().flatten().view(torch.uint8) for place in order]
    copied = torch.cat(pieces).cpu().split([len(piece) for piece in pieces])
    back = dict(zip(order, copied, strict=True))
    return [back[place].view(x.dtype).view(x.shape) for place, x in enumerate(tensors)]


def _inside(model: MultimodalModel, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Each modality's own term of the logits, if the fusion is additive; and the features of each modality, with tokens averaged (unless
    the fusion predicts per segment)."""
    with model.muting.evaluation():  # so that random numbers drawn here do not change those drawn for the predictions
        features = cast(dict[str, Any], model.encode(batch.inputs))
    terms = model.fusion.terms(features) if model.fusion.additive else {}
    tokens = {m: features[m] for m in model.modalities}
    segments = model.fusion.per_segment
    return terms, {m: (x.values if segments else x.pooled()) if isinstance(x, Tokens) else x for m, x in tokens.items()}


def _add_up(terms: Mapping[str, Tensor], logits: Tensor) -> bool:
    """Whether the method's logits are the sum of the model's terms."""
    return bool(terms) and torch.allclose(torch.stack(list(terms.values())).sum(dim=0), logits, rtol=1e-3, atol=1e-3)


def measure(outcome: Outcome, task: Task) -> dict[str, float]:
    """The task's figure and loss for the full coalition and for each Shapley response, and the figure of each coalition.

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
    """The figure of each modality's Shapley response, from the numbers of `measure`."""
    start = "response/" if task.figure == "accuracy" else f"response-{task.figure}/"
    return {name.removeprefix(start): value for name, value in values.items() if name.startswith(start)}
