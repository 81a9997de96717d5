"""MLB against numbers worked out by hand and against recorded runs of the official code."""

import pytest
import torch
from recorded import Recorded
from torch import nn
from toys import NAMES, batch, context, gradient, model

from agmbench.fusions.concat import Concat
from agmbench.fusions.early import Early
from agmbench.fusions.sum import Sum
from agmbench.modulators.mlb import MLB


@pytest.mark.parametrize(("beta", "expected"), [(2.0, (0.6201, 1.6640)), (3.0, (0.6201, 2.3281))])
def test_one_ahead_is_damped_and_one_behind_sped_up(beta: float, expected: tuple[float, float]) -> None:
    rho, k = MLB(NAMES, alpha=0.8, beta=beta).coefficients(torch.tensor([0.6, 0.3]))
    assert rho.tolist() == pytest.approx([0.5, 2.0])
    assert k.tolist() == pytest.approx(expected, abs=1e-4)


def test_of_three_the_mean_of_the_others_counts() -> None:
    rho, _ = MLB(("a", "v", "t")).coefficients(torch.tensor([0.6, 0.3, 0.3]))
    assert rho.tolist() == pytest.approx([0.5, 1.5, 1.5])


def test_k_scales_encoder_head_and_what_the_fusion_reads_but_not_its_bias() -> None:
    found = []
    for starts in (0, 1):
        net = model({"a": [1.0], "v": [1.0]}, [[1.0, -1.0], [0.0, 0.0]])
        method = MLB(NAMES, starts=starts)
        torch.manual_seed(0)
        method.prepare(context(net))
        method.begin_epoch(context(net))
        step = method.step(net, [batch(net, [0])])
        (head,) = net.fusion.heads()
        own = method.heads["a"]
        found.append((gradient(net, "a"), own.bias.grad, head.weight.grad[:, :1], head.bias.grad))
        if not starts:
            k = step.signals["kappa/a"]
    assert abs(k - 1) > 0.01
    scaled, plain = found
    for one, other in zip(scaled[:3], plain[:3], strict=True):
        torch.testing.assert_close(one, k * other)
    torch.testing.assert_close(scaled[3], plain[3])


@pytest.mark.parametrize("kind", [Concat, Sum])
def test_what_a_fusion_reads_of_a_modality_is_found_in_its_heads(kind: type[Concat] | type[Sum]) -> None:
    net = model({"a": [1.0, 2.0], "v": [3.0, 4.0]}, [[0.0] * 4, [0.0] * 4])
    net.fusion = kind({"a": 2, "v": 2}, 2)
    with torch.no_grad():
        for tensor in net.fusion.parameters():
            tensor.zero_()
    net.loss(net(batch(net, [0]).inputs).logits, torch.tensor([0])).backward()
    read = {m: next(gradient for gradient in net.fusion.own_gradients(m) if gradient.ndim > 1) for m in ("a", "v")}
    torch.testing.assert_close(read["a"], torch.tensor([[-0.5, -1.0], [0.5, 1.0]]))
    torch.testing.assert_close(read["v"], torch.tensor([[-1.5, -2.0], [1.5, 2.0]]))
    net.fusion = Early({"a": 2, "v": 2}, 2)
    assert net.fusion.own_gradients("a") == net.fusion.own_gradients("v") == []


@pytest.mark.parametrize("name", ["mlb_alpha08", "mlb_beta3"])
def test_recorded(name: str) -> None:
    case = Recorded(name)
    s = case.settings
    weight = torch.cat([case.arrays["init/fc_0_lin.weight"], case.arrays["init/fc_1_lin.weight"]], dim=1)
    case.arrays |= {"init/head.weight": weight, "init/head.bias": case.arrays["init/fc_0_lin.bias"]}
    net = case.model(["enc_0.net", "enc_1.net"], ["head"])
    method = MLB(case.modalities, alpha=s["alpha"], beta=s["beta"], starts=s["starts"], ends=s["last_epoch"] + 1)
    method.prepare(case.context(net))
    for number, m in enumerate(case.modalities):
        method.heads[m].load_state_dict(case.weights("init", f"enc_{number}.cls"))

    steps = case.train(net, method)

    for number, step in enumerate(steps):
        torch.testing.assert_close(step.logits, case.arrays["logits"][number], atol=1e-5, rtol=0)
        assert float(step.signals["ratio/audio"]) == pytest.approx(float(case.arrays["ratio"][number]), rel=1e-5)
        found = torch.stack([step.signals[f"kappa/{m}"].double() for m in case.modalities])
        inside = number // s["steps_per_epoch"] <= s["last_epoch"]
        torch.testing.assert_close(found, case.arrays["kappa"][number] if inside else torch.ones(2).double(), atol=1e-5, rtol=0)
    weight = torch.cat([case.arrays["final/fc_0_lin.weight"], case.arrays["final/fc_1_lin.weight"]], dim=1)
    case.arrays |= {"final/head.weight": weight, "final/head.bias": case.arrays["final/fc_0_lin.bias"]}
    parts: dict[str, nn.Module] = {f"enc_{n}.net": net.encoders[m].net for n, m in enumerate(case.modalities)}
    parts |= {f"enc_{n}.cls": method.heads[m] for n, m in enumerate(case.modalities)}
    case.agrees(parts | {"head": net.fusion.heads()[0]})
