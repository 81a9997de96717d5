"""What a model says of a split, coalition by coalition, and the numbers read from that."""

from collections.abc import Mapping

import torch
from torch import Tensor

from agmbench import shapley
from agmbench.contracts import Coalition, Metric, Modulator, Outcome, Split, in_order
from agmbench.model import MultimodalModel

BATCH_SIZE = 256  # one size for all, so that no number depends on the training's batch size


@torch.no_grad()
def evaluate(model: MultimodalModel, modulator: Modulator, split: Split, device: torch.device) -> Outcome:
    """Eval-mode logits of every coalition, each modality's Shapley response, representation and targets, on the CPU."""
    which = shapley.coalitions(model.modalities)
    full = frozenset(model.modalities)
    parts: dict[Coalition, list[Tensor]] = {coalition: [] for coalition in which}
    representations, targets = [], []
    with model.evaluating(), model.muting.evaluation():
        for batch in (batch.to(device) for batch in in_order(split, BATCH_SIZE)):
            said = modulator.coalitions(model, batch.inputs, which)
            for coalition in which:
                parts[coalition].append(model.task.rows(said[coalition].logits.float().cpu()))
            representations.append(model.task.rows(said[full].representation.float().cpu()))
            targets.append(model.task.rows(batch.targets.cpu()))
    logits = {coalition: torch.cat(pieces) for coalition, pieces in parts.items()}
    return Outcome(
        modalities=model.modalities,
        logits=logits,
        responses=shapley.responses(logits, model.modalities),
        representation=torch.cat(representations),
        targets=torch.cat(targets),
        task=model.task.of_rows(),
    )


def measure(outcome: Outcome, metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Accuracy, loss and the chosen metrics of the full coalition; accuracy of each response and of each coalition."""
    task, targets = outcome.task, outcome.targets
    values = {"accuracy": task.accuracy(outcome.full, targets), "loss": float(task.losses(outcome.full, targets).mean())}
    values |= {name: value for name, metric in metrics.items() if (value := metric(outcome.full, targets)) is not None}
    for modality, response in outcome.responses.items():
        values[f"response/{modality}"] = task.accuracy(response, targets)
        values[f"response-loss/{modality}"] = float(task.losses(response, targets).mean())
    for coalition, logits in outcome.logits.items():
        values[f"coalition/{shapley.coalition_name(coalition, outcome.modalities)}"] = task.accuracy(logits, targets)
    return values
