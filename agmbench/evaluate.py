"""What a model says of a split, coalition by coalition, and the numbers read from that."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from agmbench import shapley
from agmbench.contracts import Batch, Coalition, Metric, Outcome, Split
from agmbench.metrics.accuracy import accuracy
from agmbench.model import MultimodalModel

BATCH_SIZE = 256  # one size for all, so that no number depends on the training's batch size


@torch.no_grad()
def evaluate(model: MultimodalModel, split: Split, device: torch.device) -> Outcome:
    """Eval-mode logits of every coalition, each modality's Shapley response, representation and targets, on the CPU."""
    training = model.training
    model.eval()
    which = shapley.coalitions(model.modalities)
    full = frozenset(model.modalities)
    parts: dict[Coalition, list[Tensor]] = {coalition: [] for coalition in which}
    representations, targets = [], []
    with model.muting.evaluation():
        for index in torch.arange(len(split)).split(BATCH_SIZE):
            batch: Batch = split.batch(index).to(device)
            said = model.coalitions(batch.inputs, which)
            for coalition in which:
                parts[coalition].append(said[coalition].logits.float().cpu())
            representations.append(said[full].representation.float().cpu())
            targets.append(batch.targets.cpu())
    model.train(training)
    logits = {coalition: torch.cat(pieces) for coalition, pieces in parts.items()}
    return Outcome(
        modalities=model.modalities,
        logits=logits,
        responses=shapley.responses(logits, model.modalities),
        representation=torch.cat(representations),
        targets=torch.cat(targets),
    )


def measure(outcome: Outcome, metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Accuracy, loss and the chosen metrics of the full coalition; accuracy of each response and of each coalition."""
    targets = outcome.targets
    values = {"accuracy": accuracy(outcome.full, targets), "loss": float(F.cross_entropy(outcome.full, targets))}
    values |= {name: metric(outcome.full, targets) for name, metric in metrics.items()}
    for modality, response in outcome.responses.items():
        values[f"response/{modality}"] = accuracy(response, targets)
        values[f"response-loss/{modality}"] = float(F.cross_entropy(response, targets))
    for coalition, logits in outcome.logits.items():
        values[f"coalition/{shapley.coalition_name(coalition, outcome.modalities)}"] = accuracy(logits, targets)
    return values
