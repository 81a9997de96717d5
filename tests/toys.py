"""Networks so small that a step can be worked out by hand."""

import torch
from torch import Tensor, nn

from agmbench.contracts import SPLITS, Batch, Context, Encoder, Fusion, TensorSplit
from agmbench.fusions.concat import Concat
from agmbench.model import MultimodalModel

NAMES = ("a", "v")


class Scale(Encoder):
    """An encoder `e = x * weight`, `[B, D]`. For an input of ones, the feature is the weight."""

    def __init__(self, weight: list[float]) -> None:
        super().__init__((len(weight),))
        self.weight = nn.Parameter(torch.tensor(weight))
        self.out_features = len(weight)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def model(features: dict[str, list[float]], head: list[list[float]], fusion: type[Fusion] = Concat) -> MultimodalModel:
    """A model that gives these features for an input of ones. `head` are the weights of its head, `[C, sum D]`, which has no bias."""
    encoders = {m: Scale(weight) for m, weight in features.items()}
    made = fusion({m: e.out_features for m, e in encoders.items()}, len(head))
    (linear,) = made.heads()
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(head))
        linear.bias.zero_()
    return MultimodalModel(encoders, made).train()


def batch(net: MultimodalModel, targets: list[int]) -> Batch:
    """A batch with inputs of ones and these targets."""
    count = len(targets)
    inputs = {m: torch.ones(count, int(e.out_features)) for m, e in net.encoders.items()}  # type: ignore[arg-type]
    return Batch(inputs, torch.tensor(targets), torch.arange(count))


def context(
    net: MultimodalModel, epoch: int = 0, steps: int = 1, concepts: dict[str, MultimodalModel] | None = None
) -> Context:
    """A context in which every split has two samples, one of each class."""
    shown = batch(net, [0, 1])
    splits = dict.fromkeys(SPLITS, TensorSplit(shown.inputs, shown.targets))
    return Context(epoch, 10, steps, splits, torch.Generator().manual_seed(1), net, concepts=concepts or {})


def gradient(net: MultimodalModel, modality: str) -> Tensor | None:
    """The gradient of the weight of a modality's encoder."""
    found: Tensor | None = net.encoders[modality].weight.grad  # type: ignore[assignment, union-attr]
    return found
