"""Modulators on small cases worked out by hand. `test_reference.py` compares them with official values."""

import copy
import math
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from agmbench.contracts import Batch, Context, Modulator
from agmbench.encoders.mlp import MLP
from agmbench.fusions.concat import Concat
from agmbench.fusions.early import Early
from agmbench.fusions.sum import Sum
from agmbench.model import MultimodalModel
from agmbench.modulators.agm import AGM
from agmbench.modulators.agm_1 import AGM1
from agmbench.modulators.agm_ge import AGMGE
from agmbench.modulators.joint import Joint
from agmbench.modulators.ogm import OGM
from agmbench.modulators.ogm_ge import OGMGE, add_noise
from agmbench.modulators.ogm_ge_ra import OGMGERA
from agmbench.tasks import SingleLabel

NAMES = ("a", "b", "c", "d")


def context(net: MultimodalModel, epoch: int = 0) -> Context:
    return Context(epoch, 10, 1, {}, torch.Generator().manual_seed(7), net)


def batch(modalities: tuple[str, ...], size: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(3)
    inputs = {m: torch.randn(size, 5, generator=generator) for m in modalities}
    return Batch(inputs, torch.randint(0, 3, (size,), generator=generator), torch.arange(size))


def model(modalities: tuple[str, ...], fusion: type = Concat) -> MultimodalModel:
    torch.manual_seed(0)
    encoders = {m: MLP((5,), hidden=4, layers=1) for m in modalities}
    sizes = dict.fromkeys(modalities, 4)
    small = {"hidden": 6, "out": 4, "dropout": 0.0} if fusion is Early else {}
    return MultimodalModel(encoders, fusion(sizes, 3, **small)).train()


def gradients(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.grad.clone() for name, tensor in net.named_parameters() if tensor.grad is not None}


def run(modulator: Modulator, net: MultimodalModel, data: Batch, epoch: int = 0) -> tuple[dict[str, Tensor], dict[str, float]]:
    modulator.prepare(context(net, epoch))
    modulator.begin_epoch(context(net, epoch))
    step = modulator.step(net, [data])
    return gradients(net), {name: float(value) for name, value in step.signals.items()}


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("fusion", [Concat, Sum, Early])
def test_agm_without_strength_is_joint_training(count: int, fusion: type) -> None:
    names = NAMES[:count]
    data = batch(names)
    joint, _ = run(Joint(names), model(names, fusion), data)
    agm, signals = run(AGM(names, alpha=0, clip=None), model(names, fusion), data)
    assert joint.keys() == agm.keys()
    for name in joint:
        torch.testing.assert_close(agm[name], joint[name], atol=1e-6, rtol=1e-5)
    assert all(value == 1 for name, value in signals.items() if name.startswith("kappa"))


def test_agm_gradients_are_kappa_times_those_of_each_response() -> None:
    names = NAMES[:2]
    data, net = batch(names), model(names, Early)
    agm, signals = run(AGM(names, alpha=2, clip=None), net, data)
    again = model(names, Early)
    phi = again.responses(data.inputs)
    total = sum(phi.values()).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(total, data.targets), total)
    surrogate = sum((signals[f"kappa/{m}"] * gradient * phi[m]).sum() for m in names)
    surrogate.backward()
    for name, value in gradients(again).items():
        torch.testing.assert_close(agm[name], value, atol=1e-6, rtol=1e-5)


def test_agm_coefficients_by_hand() -> None:
    agm = AGM(("a", "b"), alpha=0.5)
    kappa, ratio, reference = agm.coefficients(torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert ratio.tolist() == pytest.approx([math.e, 1 / math.e])  # M/(M-1) = 2, mean 1.5
    assert reference.tolist() == [1, 1]
    assert kappa.tolist() == pytest.approx([math.exp(0.5 * (1 - math.e)), math.exp(0.5 * (1 - 1 / math.e))])
    agm.remember(torch.tensor([1.0, 2.0], dtype=torch.float64))
    agm.remember(torch.tensor([2.0, 6.0], dtype=torch.float64))
    assert agm.running_score.tolist() == [1.5, 4.0]


def test_a_hopeless_sample_counts_no_more_than_max_score() -> None:
    phi = {"a": torch.tensor([[0.0, 100.0]]), "b": torch.tensor([[1.0, 0.0]])}
    targets = torch.tensor([0])
    assert AGM(("a", "b")).score(SingleLabel(), phi, targets)[0].item() == pytest.approx(-math.log(1e-8))
    assert AGM(("a", "b"), max_score=None).score(SingleLabel(), phi, targets)[0].item() == pytest.approx(100)


def test_agm_1_is_held_to_the_same_pace_whatever_was_before() -> None:
    agm = AGM1(("a", "b", "c"), alpha=0.5)
    agm.remember(torch.tensor([9.0, 1.0, 2.0], dtype=torch.float64))
    kappa, ratio, reference = agm.coefficients(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    assert reference.tolist() == [1, 1, 1]
    assert ratio.tolist() == pytest.approx([math.exp(1.5), 1, math.exp(-1.5)])  # M/(M-1) = 3/2, mean 2
    assert kappa.tolist() == pytest.approx([math.exp(0.5 * (1 - r)) for r in ratio.tolist()])


def test_agm_cap_bounds_the_gap_from_above() -> None:
    score = torch.tensor([5.0, 1.0], dtype=torch.float64)
    free, _, _ = AGM(("a", "b"), alpha=1).coefficients(score)
    capped, _, _ = AGM(("a", "b"), alpha=1, cap=0.5).coefficients(score)
    assert capped[0].item() == pytest.approx(math.exp(0.5))
    assert free[0] > capped[0]
    assert free[1] == capped[1]


@pytest.mark.parametrize("kind", [AGM, AGMGE, OGM, OGMGE])
def test_equal_modalities_get_equal_coefficients(kind: type[AGM | OGM]) -> None:
    names = NAMES[:2]
    net, data = model(names), batch(names)
    net.encoders["b"].load_state_dict(net.encoders["a"].state_dict())
    with torch.no_grad():
        net.fusion.head.weight[:, 4:] = net.fusion.head.weight[:, :4]
    same = Batch(dict.fromkeys(names, data.inputs["a"]), data.targets, data.index)
    _, signals = run(kind(names), net, same)
    assert signals["kappa/a"] == pytest.approx(signals["kappa/b"], abs=1e-6)


@pytest.mark.parametrize("kind", [AGM, OGM])
def test_the_stronger_modality_gets_the_smaller_coefficient(kind: type[AGM | OGM]) -> None:
    names = NAMES[:2]
    net, data = model(names), batch(names)
    for _ in range(40):  # only a learns
        for tensor in net.encoders["b"].parameters():
            tensor.requires_grad_(False)
        loss = net.loss(net(data.inputs | {"b": torch.zeros_like(data.inputs["b"])}).logits, data.targets)
        net.zero_grad()
        loss.backward()
        with torch.no_grad():
            for tensor in net.parameters():
                if tensor.grad is not None:
                    tensor -= tensor.grad
    for tensor in net.parameters():
        tensor.requires_grad_(True)
        tensor.grad = None
    _, signals = run(kind(names), net, data)
    assert signals["kappa/a"] < signals["kappa/b"]


@pytest.mark.parametrize("kind", [AGM, OGM])
def test_permuted_modalities_have_permuted_coefficients(kind: type[AGM | OGM]) -> None:
    data = batch(NAMES[:3])
    _, forward = run(kind(("a", "b", "c")), model(("a", "b", "c"), Sum), data)
    net = model(("a", "b", "c"), Sum)
    _, backward = run(kind(("c", "b", "a")), MultimodalModel({m: net.encoders[m] for m in "cba"}, net.fusion).train(), data)
    for m in "abc":
        assert forward[f"kappa/{m}"] == pytest.approx(backward[f"kappa/{m}"], abs=1e-6)


@pytest.mark.parametrize("kind", [AGM, AGMGE, OGM, OGMGE])
def test_outside_its_window_a_modulator_trains_jointly(kind: type[AGM | OGM]) -> None:
    names = NAMES[:2]
    data = batch(names)
    joint, _ = run(Joint(names), model(names), data)
    for epoch in (1, 4):
        modulator = kind(names, alpha=3, starts=2, ends=4)
        found, signals = run(modulator, model(names), data, epoch)
        for name in joint:
            torch.testing.assert_close(found[name], joint[name], atol=1e-6, rtol=1e-5)
        assert signals["kappa/a"] == 1
    inside, _ = run(kind(names, alpha=3, starts=2, ends=4), model(names), data, 2)
    assert any(not torch.allclose(inside[name], joint[name]) for name in joint)


def test_agm_scores_go_on_outside_the_window() -> None:
    names = NAMES[:2]
    agm = AGM(names, starts=5)
    run(agm, model(names), batch(names))
    assert agm.iterations == 1
    assert (agm.running_score > 0).all()


def test_agm_state_survives() -> None:
    names = NAMES[:2]
    agm = AGM(names)
    run(agm, model(names), batch(names))
    other = AGM(names)
    other.load_state_dict(copy.deepcopy(agm.state_dict()))
    assert torch.equal(other.running_score, agm.running_score)
    assert other.iterations == 1


def test_agm_clips_the_whole_model_when_a_head_gradient_is_large() -> None:
    names = NAMES[:2]
    free, _ = run(AGM(names, clip=None), model(names), batch(names))
    head = free["fusion.head.weight"].abs().max().item()
    clipped, _ = run(AGM(names, clip=head / 2), model(names), batch(names))
    norm = torch.stack([value.norm() for value in clipped.values()]).norm()
    assert norm.item() == pytest.approx(head / 2, rel=1e-4)
    untouched, _ = run(AGM(names, clip=head * 2), model(names), batch(names))
    assert all(torch.equal(untouched[name], free[name]) for name in free)


def test_ogm_coefficients_by_hand() -> None:
    names = NAMES[:3]
    net, data = model(names), batch(names)
    joint, _ = run(Joint(names), model(names), data)
    found, signals = run(OGM(names, alpha=0.3), net, data)
    terms = model(names).fusion.terms(model(names).encode(data.inputs))
    scores = {m: sum(terms[m][i].softmax(0)[data.targets[i]].item() for i in range(8)) for m in names}
    for m in names:
        others = [scores[k] for k in names if k != m]
        rho = scores[m] / (sum(others) / 2)
        expected = 1 - math.tanh(0.3 * rho) if rho > 1 else 1.0
        assert signals[f"kappa/{m}"] == pytest.approx(expected, abs=1e-5)
        for name, value in joint.items():
            if name.startswith(f"encoders.{m}."):
                torch.testing.assert_close(found[name], value * (expected if value.ndim >= 2 else 1), atol=1e-6, rtol=1e-5)
            if name.startswith("fusion."):
                torch.testing.assert_close(found[name], value, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("average", ["ratio", "scores"])
def test_ogm_ge_ra_measures_against_what_was_before(average: Literal["ratio", "scores"]) -> None:
    names = NAMES[:3]
    net, ra = model(names), OGMGERA(names, alpha=0.3, average=average)
    ra.prepare(context(net))
    ratios: list[dict[str, float]] = []
    sums = dict.fromkeys(names, 0.0)
    for number in range(4):
        ra.active = number != 1  # the mean is updated outside the window too
        data = batch(names)
        data = Batch({m: (1 + number) * x for m, x in data.inputs.items()}, data.targets.roll(number), data.index)
        net.zero_grad()
        signals = {name: float(value) for name, value in ra.step(net, [data]).signals.items()}
        for m in names:
            usual = sum(before[m] for before in ratios) / len(ratios) if ratios else 1.0
            if ratios and average == "scores":
                usual = sums[m] / (sum(sums[k] for k in names if k != m) / 2)
            rho = signals[f"ratio/{m}"]
            expected = 1 - math.tanh(0.3 * rho / usual) if rho > usual and ra.active else 1.0
            assert signals[f"kappa/{m}"] == pytest.approx(expected, abs=1e-5)
        ratios.append({m: signals[f"ratio/{m}"] for m in names})
        sums = {m: sums[m] + signals[f"score/{m}"] for m in names}
    assert any(before[m] > 1.001 for before in ratios for m in names)


def test_only_conv_leaves_other_tensors_and_refuses_encoders_without_any() -> None:
    names = NAMES[:2]
    reason = OGM(names, only_conv=True).refuses(model(names))  # type: ignore[arg-type]
    assert reason is not None
    assert "finds no tensor to modulate in the encoder of 'a'; leave only_conv off" in reason


def test_ogm_refuses_an_encoder_that_is_frozen() -> None:
    names, net = NAMES[:2], model(NAMES[:2])
    net.encoders["b"].requires_grad_(False)
    reason = OGM(names).refuses(net)  # type: ignore[arg-type]
    assert reason is not None
    assert "finds no tensor to modulate in the encoder of 'b'; train it, or take agm" in reason


def test_noise_has_the_size_of_the_gradient_and_its_own_generator() -> None:
    grad = torch.randn(200, 200) * 3 + 1

    def noisy(seed: int) -> torch.Tensor:
        copy = grad.clone()
        add_noise(copy, 0.5, torch.Generator().manual_seed(seed))
        return copy

    noise = noisy(0) - 0.5 * grad
    assert noise.std().item() == pytest.approx(grad.std().item(), rel=0.02)
    assert noise.mean().abs() < 0.1
    state = torch.get_rng_state()
    assert torch.equal(noisy(0), noisy(0))
    assert not torch.equal(noisy(0), noisy(1))
    assert torch.equal(state, torch.get_rng_state())
    one = torch.ones(1, 1)
    add_noise(one, 1.0, torch.Generator())
    assert torch.isfinite(one).all()


@pytest.mark.parametrize(("plain", "enhanced"), [(OGM, OGMGE), (AGM, AGMGE)])
def test_enhancement_adds_noise_to_the_encoders_matrices_alone(plain: type[AGM | OGM], enhanced: type[AGM | OGM]) -> None:
    names = NAMES[:2]
    data = batch(names)
    without, _ = run(plain(names), model(names), data)
    noisy, _ = run(enhanced(names), model(names), data)
    for name, value in without.items():
        changed = not torch.allclose(noisy[name], value)
        assert changed == (name.startswith("encoders.") and value.ndim >= 2), name
