"""AGM, OGM, OGM-GE and competition strength against values recorded from the official code.

Each file holds the weights before, every batch, the coefficients, and the weights after; see `reference/README.md`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agmbench.clipping import clip_factor
from agmbench.contracts import Batch, Context, Encoder, Fused, Fusion, Modulator
from agmbench.fusions.concat import Concat
from agmbench.fusions.sum import Sum
from agmbench.metrics.competition_strength import CompetitionStrength
from agmbench.model import MultimodalModel
from agmbench.modulators.agm import AGM, MAX_SCORE
from agmbench.modulators.ogm import OGM
from agmbench.modulators.ogm_ge import OGMGE

FOLDER = Path(__file__).parent / "reference"
AGM_FILES = ["agm_2mod_early", "agm_2mod_early_clip", "agm_2mod_late", "agm_3mod_early", "agm_3mod_late_cap"]


class Case:
    """One recorded run: settings and arrays."""

    def __init__(self, name: str) -> None:
        self.settings = json.loads((FOLDER / f"{name}.json").read_text())
        with np.load(FOLDER / f"{name}.npz") as file:
            self.arrays = {key: torch.from_numpy(file[key]) for key in file.files}
        self.modalities = tuple(m for m in ("audio", "visual", "text") if m in self.arrays)
        self.steps = len(self.arrays.get("label", ()))

    def weights(self, when: str, part: str) -> dict[str, Tensor]:
        """The tensors of one module of the official network, by their names inside it."""
        prefix = f"{when}/{part}."
        return {key.removeprefix(prefix): value for key, value in self.arrays.items() if key.startswith(prefix)}

    def batch(self, step: int) -> Batch:
        inputs = {m: self.arrays[m][step] for m in self.modalities}
        targets = self.arrays["label"][step].long()
        return Batch(inputs, targets, torch.arange(len(targets)))

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        s = self.settings
        return torch.optim.SGD(model.parameters(), lr=s["lr"], momentum=s["momentum"], weight_decay=s["weight_decay"])

    def context(self, epoch: int, model: MultimodalModel) -> Context:
        return Context(epoch, self.settings["epochs"], self.settings["steps_per_epoch"], {}, torch.Generator(), model)


class Loaded(Encoder):
    """An encoder of the reference networks: a stack of layers with recorded weights."""

    def __init__(self, shape: tuple[int, ...], net: nn.Sequential, weights: dict[str, Tensor], out_features: int) -> None:
        super().__init__(shape)
        net.load_state_dict(weights)
        self.net = net
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x)
        return features


def block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU())


class ReferenceEarly(Fusion):
    """Concat, Linear, BatchNorm, ReLU, head: the early fusion of the recorded AGM runs."""

    def __init__(self, features: dict[str, int], classes: int, *, hidden: int) -> None:
        super().__init__(features, classes)
        self.mm_encoder = block(sum(features.values()), hidden)
        self.head = nn.Linear(hidden, classes)

    def forward(self, features: dict[str, Tensor]) -> Fused:
        representation = self.mm_encoder(torch.cat(list(features.values()), dim=1))
        return Fused(self.head(representation), representation)

    def heads(self) -> list[nn.Linear]:
        return [self.head]


def agm_model(case: Case) -> MultimodalModel:
    encoders = {}
    for m in case.modalities:
        weights = case.weights("init", f"{m}_encoder")
        after, before = weights["0.weight"].shape
        encoders[m] = Loaded((before,), block(before, after), weights, after)
    features = {m: encoder.out_features for m, encoder in encoders.items()}
    head = case.weights("init", "head.fc")
    classes, width = head["weight"].shape
    if case.settings.get("fusion") == "early":
        fusion: Fusion = ReferenceEarly(features, classes, hidden=width)
        fusion.mm_encoder.load_state_dict(case.weights("init", "mm_encoder"))
    else:
        fusion = Concat(features, classes)
    fusion.head.load_state_dict(head)
    return MultimodalModel(encoders, fusion)


def ogm_model(case: Case) -> MultimodalModel:
    encoders = {}
    for m in case.modalities:
        weights = case.weights("init", f"{m}_net")
        out, channels = weights["0.weight"].shape[:2]
        conv = nn.Conv2d(channels, out, kernel_size=3, padding=1, bias=False)
        net = nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        encoders[m] = Loaded((channels, 6, 6), net, weights, out)
    features = {m: encoder.out_features for m, encoder in encoders.items()}
    if case.settings["fusion"] == "concat":
        head = case.weights("init", "fusion_module.fc_out")
        fusion: Fusion = Concat(features, len(head["bias"]))
        fusion.head.load_state_dict(head)
    else:
        heads = {m: case.weights("init", f"fusion_module.fc_{axis}") for m, axis in zip(case.modalities, "xy", strict=True)}
        fusion = Sum(features, len(heads["audio"]["bias"]))
        for m, head in heads.items():
            fusion.head[m].load_state_dict(head)
    return MultimodalModel(encoders, fusion)


def run(case: Case, model: MultimodalModel, modulator: Modulator) -> list[dict[str, Tensor]]:
    """Train with the recorded settings and batches, and return the signals of every step."""
    modulator.prepare(case.context(0, model))
    optimizer = case.optimizer(model)
    signals = []
    model.train()
    for step in range(case.steps):
        if step % case.settings["steps_per_epoch"] == 0:
            modulator.begin_epoch(case.context(step // case.settings["steps_per_epoch"], model))
        batch = case.batch(step)
        if "conv_padding" in case.settings:
            batch = Batch(
                {m: x if x.ndim == 4 else x.unsqueeze(1) for m, x in batch.inputs.items()}, batch.targets, batch.index
            )
        (done,) = modulator.steps(model, [batch])
        signals.append(done.signals)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return signals


def final_weights(case: Case, model: MultimodalModel, parts: dict[str, nn.Module]) -> None:
    tolerance = case.settings["tolerance_final"]
    for part, module in parts.items():
        recorded = case.weights("final", part)
        assert recorded, f"no recorded weights of {part}"
        for key, value in module.state_dict().items():
            torch.testing.assert_close(
                value, recorded[key], atol=tolerance, rtol=0, msg=lambda text, key=key, part=part: f"{part}.{key}: {text}"
            )


def max_score(name: str) -> float | None:
    """The bound of a recorded run. The run with three modalities has losses up to 61 and no bound; no other has a loss above -log 1e-8."""
    return None if name == "agm_3mod_late_cap" else MAX_SCORE


def kappas(signals: list[dict[str, Tensor]], modalities: tuple[str, ...]) -> Tensor:
    return torch.stack([torch.stack([step[f"kappa/{m}"].double() for m in modalities]) for step in signals])


@pytest.mark.parametrize("name", AGM_FILES)
def test_agm(name: str) -> None:
    case = Case(name)
    model = agm_model(case)
    s = case.settings
    modulator = AGM(case.modalities, alpha=s["alpha"], cap=s["cap"], clip=s["clip"], max_score=max_score(name))
    first = {m: v.detach() for m, v in agm_model(case).train().responses(case.batch(0).inputs).items()}
    for number, m in enumerate(case.modalities):
        torch.testing.assert_close(first[m], case.arrays["phi"][0, number].float(), atol=1e-5, rtol=0)

    signals = run(case, model, modulator)

    loose = s["tolerance_final"] > 1e-5
    tolerance = {"atol": s["tolerance_final"], "rtol": s["tolerance_final"] if loose else 1e-5}
    torch.testing.assert_close(kappas(signals, case.modalities), case.arrays["kappa"].double(), **tolerance)
    torch.testing.assert_close(modulator.running_score, case.arrays["running_score"][-1].double(), **tolerance)
    parts = {f"{m}_encoder": model.encoders[m].net for m in case.modalities} | {"head.fc": model.fusion.head}
    if s["fusion"] == "early":
        parts["mm_encoder"] = model.fusion.mm_encoder
    final_weights(case, model, parts)


@pytest.mark.parametrize("name", ["ogm_concat", "ogm_ge_sum_noise_zeroed"])
def test_ogm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(name)
    model = ogm_model(case)
    kind = OGM if case.settings["method"] == "OGM" else OGMGE
    if kind is OGMGE:
        monkeypatch.setattr("agmbench.modulators.ogm_ge.unit_noise", lambda grad, _: torch.zeros_like(grad))
    modulator = kind(case.modalities, alpha=case.settings["alpha"])

    signals = run(case, model, modulator)

    torch.testing.assert_close(kappas(signals, case.modalities), case.arrays["kappa"].double(), atol=1e-5, rtol=1e-5)
    ratio = torch.stack([step["ratio/visual"].double() for step in signals])
    torch.testing.assert_close(ratio, case.arrays["ratio_visual_over_audio"].double(), atol=1e-5, rtol=1e-5)
    parts: dict[str, nn.Module] = {f"{m}_net": model.encoders[m].net for m in case.modalities}
    if case.settings["fusion"] == "concat":
        parts["fusion_module.fc_out"] = model.fusion.head
    else:
        parts |= {f"fusion_module.fc_{a}": model.fusion.head[m] for m, a in zip(case.modalities, "xy", strict=True)}
    final_weights(case, model, parts)


def test_clipping_and_capping_happen_where_they_were_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    clipped, capped = Case("agm_2mod_early_clip"), Case("agm_3mod_late_cap")
    factors: list[float] = []

    def noted(*given: Any) -> Tensor:
        factors.append(float(factor := clip_factor(*given)))
        return factor

    monkeypatch.setattr("agmbench.clipping.clip_factor", noted)
    s = clipped.settings
    run(clipped, agm_model(clipped), AGM(clipped.modalities, alpha=s["alpha"], cap=s["cap"], clip=s["clip"]))
    assert sum(factor < 1 for factor in factors) == clipped.settings["clip_calls"]

    s = capped.settings
    signals = run(
        capped, agm_model(capped), AGM(capped.modalities, alpha=s["alpha"], cap=s["cap"], clip=s["clip"], max_score=None)
    )
    gaps = [step[f"reference/{m}"] - step[f"ratio/{m}"] for step in signals for m in capped.modalities]
    assert sum(bool(gap > s["cap"]) for gap in gaps) == s["cap_hits"]


def test_competition_strength() -> None:
    case = Case("competition_strength")
    arrays = {key: value.numpy() for key, value in case.arrays.items()}
    for number, m in enumerate(case.settings["order"]):
        found = CompetitionStrength().of(
            arrays["features_dev"], arrays["features_test"], arrays[f"concept_{m}_dev"], arrays[f"concept_{m}_test"]
        )
        assert found == pytest.approx(arrays["strength"][number], abs=case.settings["tolerance"])
