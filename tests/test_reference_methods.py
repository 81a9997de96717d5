"""The other methods against recorded values of official code, or of a third party's code if there is none; see `reference/README.md`."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from test_reference import Case, Loaded, block
from torch import Tensor, nn

from agmbench.contracts import Batch, Context, Modulator, TensorSplit
from agmbench.encoders.mlp import MLP
from agmbench.fusions.concat import Concat
from agmbench.model import MultimodalModel
from agmbench.modulators.cml import CML
from agmbench.modulators.mla import MLA
from agmbench.modulators.mmpareto import MMPareto
from agmbench.modulators.mses import MSES
from agmbench.modulators.mslr import MSLR
from agmbench.modulators.opm import OPM
from agmbench.modulators.pmr import PMR
from agmbench.modulators.reconboost import ReconBoost
from agmbench.modulators.umt import UMT

NAMES = ("audio", "visual")
AGREES = 1e-5  # tolerance for gradients and coefficients; the file has the tolerance for the last weights

Parts = Mapping[str, nn.Module]  # parts of our network, by their names in the recorded one


def encoder(weights: Mapping[str, Tensor]) -> Loaded:
    after, before = weights["0.weight"].shape
    net = block(before, after)
    net[0] = nn.Linear(before, after, bias="0.bias" in weights)
    return Loaded((before,), net, dict(weights), after)


def late(case: Case, encoders: Mapping[str, str], head: str | None = None) -> MultimodalModel:
    """A model of recorded encoders by their names in the file, with a recorded concat head if `head` names one."""
    made = {m: encoder(case.weights("init", name)) for m, name in encoders.items()}
    features = {m: e.out_features for m, e in made.items()}
    fusion = Concat(features, case.settings["classes"])
    if head is not None:
        fusion.head.load_state_dict(case.weights("init", head))
    return MultimodalModel(made, fusion).train()


def context(case: Case, model: MultimodalModel, epoch: int = 0) -> Context:
    steps = case.settings.get("steps_per_epoch", case.steps)
    return Context(epoch, 100, steps, {}, torch.Generator(), model)


def steps(
    case: Case, model: MultimodalModel, modulator: Modulator, numbers: Iterable[int], optimizer: torch.optim.Optimizer
) -> Iterable[int]:
    """Train on these batches. Yields the number of the batch at each optimizer step, while the gradients are there."""
    for number in numbers:
        for _ in modulator.steps(model, [case.batch(number)]):
            yield number
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def trained(case: Case, model: MultimodalModel, modulator: Modulator) -> torch.optim.Optimizer:
    s = case.settings
    tensors = [*model.parameters(), *modulator.parameters()]
    return torch.optim.SGD(tensors, lr=s["lr"], momentum=s["momentum"], weight_decay=s["weight_decay"])


def gradients_agree(case: Case, parts: Parts, number: int, when: str = "grad") -> None:
    """Compare the gradients before an optimizer step with the recorded ones. A part that does not learn has none; zeros are recorded."""
    for name, module in parts.items():
        for key, tensor in module.named_parameters():
            recorded = case.arrays[f"{when}/{name}.{key}"][number]
            found = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
            torch.testing.assert_close(
                found, recorded, atol=AGREES, rtol=0, msg=lambda text, at=f"{name}.{key}, step {number}": f"{at}: {text}"
            )


def weights_agree(case: Case, parts: Parts, when: str = "final") -> None:
    for name, module in parts.items():
        recorded = case.weights(when, name)
        assert recorded, f"no recorded weights of {name}"
        for key, value in module.state_dict().items():
            torch.testing.assert_close(value, recorded[key], atol=case.settings["tolerance_final"], rtol=0)


# schedules


def small() -> tuple[MultimodalModel, Batch]:
    model = MultimodalModel({m: MLP((3,), hidden=2, layers=1) for m in NAMES}, Concat(dict.fromkeys(NAMES, 2), 2)).train()
    return model, Batch({m: torch.randn(4, 3) for m in NAMES}, torch.tensor([0, 1, 0, 1]), torch.arange(4))


def test_mslr() -> None:
    case, (model, _) = Case("mslr_schedule"), small()
    modulator = MSLR(NAMES, factors=case.settings["factors"])
    for epoch, (accuracy, rate) in enumerate(zip(case.arrays["accuracy"], case.arrays["rate"], strict=True)):
        around = Context(epoch, 20, 1, {}, torch.Generator(), model)
        modulator.begin_epoch(around)
        for tensor in model.parameters():
            tensor.grad = torch.ones_like(tensor)
        signals = modulator.adjust(model, [])
        torch.testing.assert_close(torch.stack([signals[f"rate/{m}"] for m in NAMES]), rate, atol=1e-12, rtol=0)
        for place, m in enumerate(NAMES):
            for tensor in model.encoders[m].parameters():
                torch.testing.assert_close(tensor.grad, torch.full_like(tensor, rate[place]))
            own = model.fusion.head.weight.grad[:, 2 * place : 2 * place + 2]
            torch.testing.assert_close(own, torch.full_like(own, rate[place]))
        assert model.fusion.head.bias.grad.tolist() == [1, 1]
        modulator.end_epoch(replace(around, valid_accuracy=dict(zip(NAMES, accuracy.tolist(), strict=True))))


def test_mses() -> None:
    case, (model, batch) = Case("mses_schedule"), small()
    modulator = MSES(NAMES, patience=case.settings["patience"])
    last = max(case.settings["stop"].values())
    for epoch, (loss, rate) in enumerate(zip(case.arrays["loss"], case.arrays["rate"], strict=True)):
        around = Context(epoch, 50, 1, {}, torch.Generator(), model)
        modulator.begin_epoch(around)
        learns = [all(t.requires_grad for t in model.encoders[m].parameters()) for m in NAMES]
        assert learns == rate.bool().tolist()
        assert bool(list(modulator.steps(model, [batch]))) == (epoch < last)  # after the last epoch nothing learns
        modulator.end_epoch(replace(around, valid_loss=dict(zip(NAMES, loss.tolist(), strict=True))))
    assert dict(zip(NAMES, (modulator.best + 1).tolist(), strict=True)) == case.settings["best"]


# steps


def test_mmpareto() -> None:
    case = Case("mmpareto_concat")
    model = late(case, {"audio": "audio_net", "visual": "visual_net"}, "head")
    modulator = MMPareto(NAMES, gamma=case.settings["gamma"])
    modulator.prepare(context(case, model))
    own = {"audio": "head_audio", "visual": "head_video"}
    for m, name in own.items():
        modulator.heads[m].load_state_dict(case.weights("init", name))
    parts = {f"{m}_net": model.encoders[m].net for m in NAMES} | {"head": model.fusion.head}
    parts |= {name: modulator.heads[m] for m, name in own.items()}
    for number in steps(case, model, modulator, range(case.steps), trained(case, model, modulator)):
        gradients_agree(case, parts, number)
    weights_agree(case, parts)


def test_opm(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("opm_concat")
    s = case.settings
    model = late(case, {"audio": "encoder_1.net", "visual": "encoder_2.net"}, "fusion_model.fxy")
    modulator = OPM(NAMES, base=s["q_base"], slope=s["lam"], executes=s["p_exe"])
    modulator.prepare(context(case, model))
    modulator.begin_epoch(context(case, model, epoch=5))
    assert not modulator.active
    modulator.begin_epoch(context(case, model, epoch=6))
    draws = iter(case.arrays["draws"])
    monkeypatch.setattr("agmbench.modulators.opm.torch.rand", lambda *_, **__: next(draws))
    parts = {f"encoder_{place}.net": model.encoders[m].net for place, m in enumerate(NAMES, 1)}
    parts["fusion_model.fxy"] = model.fusion.head
    for number in steps(case, model, modulator, range(case.steps), trained(case, model, modulator)):
        gradients_agree(case, parts, number)
    weights_agree(case, parts)


def test_umt() -> None:
    case = Case("umt")
    model = late(case, {"audio": "audio_net", "visual": "visual_net"}, "head")
    taught = {m: encoder(case.weights("teacher", m)) for m in NAMES}
    concepts = {m: MultimodalModel({m: e}, Concat({m: e.out_features}, 4)).eval() for m, e in taught.items()}
    modulator = UMT(NAMES, weight=case.settings["scaling"])
    modulator.prepare(replace(context(case, model), concepts=concepts))
    parts = {f"{m}_net": model.encoders[m].net for m in NAMES} | {"head": model.fusion.head}
    optimizer = case.optimizer(model)
    for number in steps(case, model, modulator, range(case.steps), optimizer):
        gradients_agree(case, parts, number)
    weights_agree(case, parts)


@pytest.mark.parametrize("name", ["pmr_concat_nomomentum", "pmr_concat"])
def test_pmr(name: str) -> None:
    case = Case(name)
    s = case.settings
    model = late(case, {"audio": "audio_net", "visual": "visual_net"}, "fusion_module.fc_out")
    modulator = PMR(NAMES, mu=1.0, beta=s["alpha"], entropy=0.0, part=1.0, momentum=s["momentum_coef"])
    shown = TensorSplit({m: case.arrays[f"proto_{m}"] for m in NAMES}, case.arrays["proto_label"].long())
    around = replace(context(case, model), splits={"train": shown})
    modulator.prepare(around)
    parts = {f"{m}_net": model.encoders[m].net for m in NAMES} | {"fusion_module.fc_out": model.fusion.head}
    optimizer, length = trained(case, model, modulator), s["steps_per_epoch"]
    for epoch in range(s["epochs"]):
        modulator.begin_epoch(replace(around, epoch=epoch))
        recorded = case.arrays["prototypes"][epoch]
        found = torch.stack([modulator.prototypes.get_buffer(f"of_{m}") for m in NAMES])
        if epoch == 1 and s["momentum_coef"]:  # the official code replaces the first prototypes, the paper's rule mixes
            first = case.arrays["prototypes"][0]
            mixed = s["momentum_coef"] * first + (1 - s["momentum_coef"]) * recorded
            torch.testing.assert_close(found, mixed, atol=AGREES, rtol=0)
            assert not torch.allclose(found, recorded, atol=1e-3)
            return
        torch.testing.assert_close(found, recorded, atol=AGREES, rtol=0)
        for number in steps(case, model, modulator, range(epoch * length, (epoch + 1) * length), optimizer):
            gradients_agree(case, parts, number)
    weights_agree(case, parts)


def test_reconboost() -> None:
    case = Case("reconboost")
    s = case.settings
    model = late(case, {"audio": "audio.net", "visual": "visual.net"})
    modulator = ReconBoost(NAMES, stage=1, rectify=1, w1=s["weight1"], w2=s["weight2"], alpha=s["alpha"])
    modulator.prepare(context(case, model))
    for m in NAMES:
        modulator.heads[m].load_state_dict(case.weights("init", f"{m}.fc"))
    parts = {f"{m}.net": model.encoders[m].net for m in NAMES} | {f"{m}.fc": modulator.heads[m] for m in NAMES}
    optimizer = trained(case, model, modulator)
    begun = 0
    for epoch in range(2 * s["stages"]):  # a stage takes one epoch here, and its rectification another
        modulator.begin_epoch(replace(context(case, model, epoch), optimizer=optimizer))
        ends = begun + s["steps_of_rectification" if epoch % 2 else "steps_per_stage"]
        for number in steps(case, model, modulator, range(begun, ends), optimizer):
            gradients_agree(case, parts, number, "ga_with_gradient/grad")
            rate = case.arrays["ga_with_gradient/grad/boost_rate"][number]
            found = 0.0 if modulator.rate.grad is None else modulator.rate.grad.item()
            assert found == pytest.approx(rate.item(), abs=AGREES)
        begun = ends
    assert begun == case.steps
    weights_agree(case, parts, "ga_with_gradient/final")
    assert modulator.rate.item() == pytest.approx(case.arrays["ga_with_gradient/final/boost_rate"].item(), abs=AGREES)


@pytest.mark.parametrize(("variant", "kind"), [("protected", "scalar_unnormed_grad_first"), ("published", "name_mended")])
def test_mla(variant: str, kind: str) -> None:
    case = Case("mla")
    model = late(case, {"audio": "audio_net", "visual": "visual_net"})
    modulator = MLA(NAMES, variant=variant)  # type: ignore[arg-type]
    modulator.prepare(context(case, model))
    modulator.head.load_state_dict(case.weights("init", "fusion_module.fc_out"))
    parts = {f"{m}_net": model.encoders[m].net for m in NAMES} | {"fusion_module.fc_out": modulator.head}
    optimizer, row, length = trained(case, model, modulator), 0, case.settings["steps_per_epoch"]
    for epoch in range(case.settings["epochs"]):
        modulator.begin_epoch(context(case, model, epoch))
        for _ in steps(case, model, modulator, range(epoch * length, (epoch + 1) * length), optimizer):
            gradients_agree(case, parts, row, f"{kind}/grad")
            torch.testing.assert_close(modulator.projection.float(), case.arrays[f"{kind}/P"][row], atol=AGREES, rtol=0)
            row += 1
    weights_agree(case, parts, f"{kind}/final")
    model.eval()
    answer = modulator.coalitions(model, case.batch(0).inputs, [frozenset(NAMES)])[frozenset(NAMES)].logits
    torch.testing.assert_close(answer, case.arrays[f"{kind}/answer"], atol=AGREES, rtol=0)


# a loss on logits


def test_cml() -> None:
    case = Case("cml_logits")
    views = case.arrays["logits"].clone().requires_grad_()  # [views, B, C], the view with the most modalities first
    targets = case.arrays["label"].long()
    method = CML(NAMES, excuse=True, views="all")
    rank = torch.stack([method.rise(fewer, more, targets) for more, fewer in pairwise(views)]).sum()
    entropy = torch.stack([nn.functional.cross_entropy(view, targets) for view in views]).mean()
    loss = entropy + case.settings["beta"] / 100 * rank
    for found, name in ((rank, "rank"), (loss, "loss")):
        torch.testing.assert_close(found, case.arrays[name], atol=AGREES, rtol=1e-6)
        (gradient,) = torch.autograd.grad(found, views, retain_graph=True)
        torch.testing.assert_close(gradient, case.arrays[f"{name}_grad"], atol=AGREES, rtol=0)
