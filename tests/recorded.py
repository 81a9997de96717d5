"""Runs of official code that were recorded on small networks: settings, weights before and after, every batch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agmbench.contracts import SPLITS, Batch, Context, Encoder, Fused, Fusion, Modulator, Split, Step
from agmbench.fusions.concat import Concat
from agmbench.fusions.sum import Sum
from agmbench.model import MultimodalModel

FOLDER = Path(__file__).parent / "reference"


class Loaded(Encoder):
    """A stack of layers with recorded weights."""

    def __init__(self, net: nn.Sequential, shape: tuple[int, ...], out_features: int) -> None:
        super().__init__(shape)
        self.net = net
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x)
        return features


class Mean(Fusion):
    """The mean of one head per modality."""

    additive = True

    def __init__(self, features: Mapping[str, int], classes: int) -> None:
        super().__init__(features, classes)
        self.head = nn.ModuleDict({m: nn.Linear(size, classes) for m, size in features.items()})

    def forward(self, features: Mapping[str, Tensor]) -> Fused:
        return Fused(torch.stack(list(self.terms(features).values())).sum(dim=0), torch.cat(list(features.values()), dim=1))

    def terms(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {m: head(features[m]) / len(self.head) for m, head in self.head.items()}

    def heads(self) -> list[nn.Linear]:
        return list(self.head.values())  # type: ignore[arg-type]


class Recorded:
    """One recorded run: its `settings` and `arrays`."""

    def __init__(self, name: str) -> None:
        self.settings: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
        with np.load(FOLDER / f"{name}.npz") as file:
            self.arrays = {key: torch.from_numpy(file[key]) for key in file.files}
        self.modalities: tuple[str, ...] = tuple(self.settings["order"])
        self.steps: int = self.settings.get("steps", len(self.arrays.get("label", ())))

    def weights(self, when: str, part: str) -> dict[str, Tensor]:
        """The tensors of one module of the official network, by their names inside it."""
        prefix = f"{when}/{part}."
        return {key.removeprefix(prefix): value for key, value in self.arrays.items() if key.startswith(prefix)}

    def encoder(self, part: str, when: str = "init") -> Loaded:
        """An encoder with recorded weights: a linear layer (or a convolution), BatchNorm if one was recorded, and an activation."""
        weights = self.weights(when, part)
        after, before, *kernel = weights["0.weight"].shape
        if kernel:
            conv = nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False)
            net = nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        elif "1.weight" in weights:
            net = nn.Sequential(nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU())
        else:
            net = nn.Sequential(nn.Linear(before, after), nn.Tanh())
        net.load_state_dict(weights)
        return Loaded(net, (before, 4, 4) if kernel else (before,), after)

    def linear(self, part: str, when: str = "init") -> nn.Linear:
        """A linear layer with recorded weights."""
        weights = self.weights(when, part)
        layer = nn.Linear(weights["weight"].shape[1], len(weights["weight"]), bias="bias" in weights)
        layer.load_state_dict(weights)
        return layer

    def model(self, encoders: Sequence[str], heads: Sequence[str], kind: type[Fusion] | None = None) -> MultimodalModel:
        """A model of recorded encoders and heads, by the names of their modules, with one head for all features or one per modality."""
        made = {m: self.encoder(part) for m, part in zip(self.modalities, encoders, strict=True)}
        linear = [self.linear(head) for head in heads]
        features = {m: encoder.out_features for m, encoder in made.items()}
        fusion = (kind or (Concat if len(heads) == 1 else Sum))(features, linear[0].out_features)
        for own, recorded in zip(fusion.heads(), linear, strict=True):
            own.load_state_dict(recorded.state_dict())
        return MultimodalModel(made, fusion).train()

    def batch(self, step: int) -> Batch:
        inputs = {m: self.arrays[m][step] for m in self.modalities}
        targets = self.arrays["label"][step].long()
        return Batch(inputs, targets, torch.arange(len(targets)))

    def context(
        self,
        model: MultimodalModel,
        epoch: int = 0,
        splits: Mapping[str, Split] | None = None,
        concepts: Mapping[str, MultimodalModel] | None = None,
    ) -> Context:
        steps = self.settings.get("steps_per_epoch", self.steps)
        shown = {name: split for name in SPLITS if (split := (splits or {}).get(name)) is not None}
        epochs = self.settings.get("epochs", 1)
        return Context(epoch, epochs, steps, shown, torch.Generator().manual_seed(1), model, concepts=concepts or {})

    def train(self, model: MultimodalModel, method: Modulator, **around: Any) -> list[Step]:
        """Train with the recorded settings and batches, and return all steps. `method` must be prepared already."""
        s = self.settings
        steps: list[Step] = []
        per_epoch = s.get("steps_per_epoch", self.steps)
        rates = method.rates(self.context(model, **around))
        groups = [{"params": list(model.parameters())}]
        if own := [tensor for tensor in method.parameters() if tensor.requires_grad]:
            groups.append({"params": own, "lr": s["lr"] * rates.get("modulator", 1.0)})  # type: ignore[dict-item]
        optimizer = torch.optim.SGD(
            groups,
            lr=s["lr"],
            momentum=s.get("momentum", 0.0),
            weight_decay=s.get("weight_decay", 0.0),
        )
        for number in range(self.steps):
            epoch, within = divmod(number, per_epoch)
            if within == 0:
                method.begin_epoch(self.context(model, epoch, **around))
            for step in method.steps(model, [self.batch(number)]):
                steps.append(step)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            if within == per_epoch - 1:
                method.end_epoch(self.context(model, epoch, **around))
        return steps

    def agrees(self, parts: Mapping[str, nn.Module], when: str = "final") -> float:
        """The largest difference from the recorded weights of these modules. Fails if it is more than the recorded tolerance."""
        tolerance = self.settings.get("tolerance_final", self.settings.get("tolerance"))
        largest = 0.0
        for part, module in parts.items():
            recorded = self.weights(when, part)
            assert recorded.keys() == module.state_dict().keys()
            for key, value in module.state_dict().items():
                apart = float((value.double() - recorded[key].double()).abs().max())
                assert apart <= tolerance, f"{part}.{key} differs by {apart:.1e}"
                largest = max(largest, apart)
        return largest
