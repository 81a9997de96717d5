"""Small models on the CPU with their data: two to four modalities, every fusion, three kinds of encoder; and models of sequences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from agmbench import registry
from agmbench.contracts import Batch, Coalition, Encoder, Fused, Fusion, Input, Mode, TensorSplit, Tokens
from agmbench.model import MultimodalModel

CLASSES, BATCH, SEED = 3, 8, 17
NAMES = ("radar", "sonar", "touch", "scent")  # names unlike `audio` and `visual`, which a method may wrongly look for


class NormedLinear(Encoder):
    """Linear, LayerNorm, ReLU. Because of the bias, the variance of a muted input is not zero."""

    same_in_training = True

    def __init__(self, shape: tuple[int, ...], *, hidden: int = 6) -> None:
        super().__init__(shape)
        self.net = nn.Sequential(nn.Linear(shape[0], hidden), nn.LayerNorm(hidden), nn.ReLU())
        self.out_features = hidden

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x)  # [B, hidden]
        return features


class NaiveModel(MultimodalModel):
    """A model that computes each coalition by a full forward pass. This is slow, but evidently what `exact` should give.

    It is only for the mode `exact`, and for muted inputs that are the same at every pass (zeros, mean). `passes` counts the passes.
    """

    passes = 0

    def coalitions(
        self,
        inputs: Mapping[str, Input],
        which: Sequence[Coalition],
        mode: Mode = "exact",
        muted_gradient: bool = True,
        partial_gradient: bool = True,
    ) -> dict[Coalition, Fused]:
        """Compute the full coalition first, in the present mode, and all others in eval mode."""
        if mode != "exact" and self.training:
            raise ValueError(f"full passes are the mode 'exact'; found '{mode}'")
        full, training = frozenset(self.modalities), [module for module in self.modules() if module.training]
        fused: dict[Coalition, Fused] = {}
        self.passes += len(which)
        try:
            if full in which:
                fused[full] = self.forward(inputs)
            self.eval()
            with torch.set_grad_enabled(torch.is_grad_enabled() and partial_gradient):
                return fused | {c: self._full_pass(inputs, c, muted_gradient) for c in which if c != full}
        finally:
            for module in training:
                module.training = True

    def _full_pass(self, inputs: Mapping[str, Input], coalition: Coalition, muted_gradient: bool) -> Fused:
        shown = {m: x if m in coalition else self.muting(m, x) for m, x in inputs.items()}
        features = self.encode(shown)
        if not muted_gradient:
            features = {m: feature if m in coalition else _detached(feature) for m, feature in features.items()}
        fused: Fused = self.fusion(features)
        return fused


def _detached(feature: Tensor | Tokens) -> Tensor | Tokens:
    return Tokens(feature.values.detach(), feature.mask) if isinstance(feature, Tokens) else feature.detach()


@dataclass(frozen=True)
class Case:
    """A small model: `count` encoders of one kind and a fusion."""

    encoder: str
    fusion: str
    count: int

    def __str__(self) -> str:
        return f"{self.fusion} of {self.count} {self.encoder}"

    @property
    def modalities(self) -> tuple[str, ...]:
        """The first `count` names of `NAMES`."""
        return NAMES[: self.count]

    def model(self, kind: type[MultimodalModel] = MultimodalModel) -> MultimodalModel:
        """A new model in train mode, with the same weights at every call."""
        seed()
        shape, make = KINDS[self.encoder]
        encoders = {modality: make(shape) for modality in self.modalities}
        features = {modality: encoder.out_features for modality, encoder in encoders.items()}
        fusion: Fusion = built_in("fusion", self.fusion)(features, CLASSES, **FUSIONS[self.fusion])
        return kind(encoders, fusion).train()

    def concepts(self) -> dict[str, MultimodalModel]:
        """A unimodal model for each modality, frozen and in eval mode like a trained one."""
        return {modality: self._alone(modality).requires_grad_(False).eval() for modality in self.modalities}

    def _alone(self, modality: str) -> MultimodalModel:
        """The unimodal model of a modality: one encoder and a head or, if the fusion is not additive, the same network with the other
        modalities muted."""
        model = self.model()
        encoders = {m: encoder_of(model, m) for m in self.modalities}
        if not model.fusion.additive:
            return MultimodalModel(encoders, model.fusion, (modality,))
        head = built_in("fusion", self.fusion)({modality: encoders[modality].out_features}, CLASSES)
        return MultimodalModel({modality: encoders[modality]}, head)

    @cached_property
    def split(self) -> TensorSplit:
        """Two batches of samples; each sample is the centre of its class plus noise."""
        drawn = torch.Generator().manual_seed(SEED)
        shape, _ = KINDS[self.encoder]
        targets = torch.arange(2 * BATCH) % CLASSES
        middles = {modality: torch.randn(CLASSES, *shape, generator=drawn) for modality in self.modalities}
        noise = {modality: torch.randn(2 * BATCH, *shape, generator=drawn) for modality in self.modalities}
        inputs: dict[str, Input] = {m: middles[m][targets] + noise[m] for m in self.modalities}
        if self.encoder in SEQUENCES:
            there = torch.arange(shape[0]) <= torch.arange(2 * BATCH).unsqueeze(1) % shape[0]  # of every length
            inputs = {m: Tokens(x, there) for m, x in inputs.items() if isinstance(x, Tensor)}
        return TensorSplit(inputs, targets)

    def batch(self, number: int = 0) -> Batch:
        """One of the two batches."""
        return self.split.batch(torch.arange(BATCH) + BATCH * (number % 2))


def seed(number: int = SEED) -> None:
    """Seed torch's generator on the CPU, so that the next draws are the same after every call."""
    torch.default_generator.manual_seed(
        number
    )  # torch.manual_seed is too slow to be called so often, because it also asks for every device


@cache
def built_in(kind: str, name: str) -> Callable[..., Any]:
    """A built-in component, whatever plugins are installed."""
    make: Callable[..., Any] = registry.builtin().get(kind, name).load()
    return make


FUSIONS: Mapping[str, Mapping[str, Any]] = {
    "concat": {},
    "sum": {},
    "early": {"hidden": 8, "out": 6},
    "film": {},
    "gated": {"width": 6},
    "hybrid": {"width": 8, "heads": 2, "layers": 1, "feed_forward": 8, "dropout": 0.0},
}
ENCODERS: Mapping[str, tuple[tuple[int, ...], Callable[[tuple[int, ...]], Encoder]]] = {
    "mlp": ((5,), lambda shape: built_in("encoder", "mlp")(shape, hidden=6, layers=2, dropout=0.3)),
    "conv": ((2, 5, 5), lambda shape: built_in("encoder", "conv")(shape, width=3, layers=2)),
    "layernorm": ((5,), NormedLinear),
}
SEQUENCES: Mapping[str, tuple[tuple[int, ...], Callable[[tuple[int, ...]], Encoder]]] = {
    "masked lstm": ((4, 5), lambda shape: built_in("encoder", "lstm")(shape, width=6)),
    "masked transformer": ((4, 5), lambda shape: built_in("encoder", "transformer")(shape, layers=1, heads=2, width=6)),
}
KINDS = {**ENCODERS, **SEQUENCES}
COUNTS = (2, 3, 4)
EVERY = [Case(encoder, fusion, count) for count, fusion, encoder in product(COUNTS, FUSIONS, ENCODERS)]
# each fusion occurs once with each number of modalities, and once with each encoder
SOME = [
    Case(list(ENCODERS)[(row + column) % len(ENCODERS)], fusion, count)
    for row, count in enumerate(COUNTS)
    for column, fusion in enumerate(FUSIONS)
]
# models of sequences with masks
MASKED = [Case(encoder, fusion, 2) for encoder, fusion in product(SEQUENCES, ("concat", "hybrid"))]


@cache
def _trained(case: Case, strong: str) -> dict[str, Any]:
    model, split = case.model(), case.split
    seed()
    learns = [*model.encoders[strong].parameters(), *model.fusion.parameters()]
    for _ in range(25):
        shown = {m: x if m == strong else x[torch.randperm(len(x))] for m, x in split.inputs.items()}
        gradients = torch.autograd.grad(model.loss(model(shown).logits, split.targets), learns)
        with torch.no_grad():
            for parameter, gradient in zip(learns, gradients, strict=True):
                parameter.sub_(0.3 * gradient)
    return model.state_dict()


def unbalanced(case: Case, strong: str) -> MultimodalModel:
    """A model that was trained while the samples of all modalities except `strong` were shuffled, so that it relies on this one."""
    model = case.model()
    model.load_state_dict(_trained(case, strong))
    return model


def equal(case: Case) -> tuple[MultimodalModel, Batch]:
    """A model with fusion `concat` whose modalities have the same weights, and a batch in which they have the same inputs."""
    model, batch = without_dropout(case.model()), case.batch()
    first, *others = case.modalities
    for modality in others:
        model.encoders[modality].load_state_dict(model.encoders[first].state_dict())
    (head,) = model.fusion.heads()
    with torch.no_grad():
        head.weight.copy_(head.weight[:, : head.in_features // case.count].repeat(1, case.count))
    return model, Batch(dict.fromkeys(case.modalities, batch.inputs[first]), batch.targets, batch.index)


def without_dropout(model: MultimodalModel) -> MultimodalModel:
    """Turn the dropout of a model off, and return the model."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def encoder_of(model: MultimodalModel, modality: str) -> Encoder:
    """The encoder of a modality."""
    encoder = model.encoders[modality]
    assert isinstance(encoder, Encoder)
    return encoder
