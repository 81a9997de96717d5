"""Autocast covers only forward passes, and gradients under float16 are always seen unscaled."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agmbench import registry
from agmbench.contracts import Batch, Model, Step
from agmbench.errors import RunFailed
from agmbench.modulators.joint import Joint
from agmbench.precision import BACKWARD, FIRST, PATIENCE, Precision
from agmbench.testing.driving import begun
from agmbench.testing.models import SOME, Case, seed

CPU = torch.device("cpu")
MODULATORS = {entry.name: entry.load() for entry in registry.builtin().entries("modulator") if entry.load().promises.trains}
NAMES = ("a", "b")


def fp16(scale: float = FIRST) -> Precision:
    precision = Precision("fp16", CPU)
    precision.load_state_dict({"scale": scale, "streak": 0})
    return precision


# settings under which rounding decides nothing. By default, g2d ranks teachers that are untrained and equally confident; and a prototype of
# pmr is the feature of one sample, if only that sample of its class is drawn: the distance between them is 0, and has no direction
FAR_FROM_TIES: dict[str, dict[str, Any]] = {"g2d": {"share": 0.0}, "pmr": {"part": 1.0}}


def gradients(name: str, case: Case, precision: Precision, **params: Any) -> Tensor | None:
    """All gradients of the first optimizer step of two micro-batches, as one vector; `None` if the modulator refuses the model."""
    seed()
    model = case.model()
    modulator = MODULATORS[name](case.modalities, **params)
    if modulator.refuses(model):
        return None
    begun(modulator, case, model)
    seed()
    next(iter(precision.steps(modulator, model, [case.batch(0), case.batch(1)])))
    assert precision.update_scale()
    both = nn.ModuleDict({"model": model, "modulator": modulator})
    return torch.cat([tensor.grad.flatten() for tensor in both.parameters() if tensor.grad is not None])


@pytest.mark.parametrize(("kind", "median", "largest"), [("bf16", 0.04, 0.3), ("fp16", 0.005, 0.1)])
@pytest.mark.parametrize("name", MODULATORS)
def test_a_step_of_every_modulator_is_near_that_in_float32(name: str, kind: str, median: float, largest: float) -> None:
    """bfloat16 has 8 bits and float16 has 11, so numbers are off by .004 and .0005, and a gradient by a few times as much.

    It is more if rounding switches a ReLU or comes before a BatchNorm of eight samples, as in some of these small models.
    """
    apart = []
    for case in SOME:
        params = FAR_FROM_TIES.get(name, {})
        exact = gradients(name, case, Precision("fp32", CPU), **params)
        found = gradients(name, case, fp16(2.0**10) if kind == "fp16" else Precision(kind, CPU), **params)
        if exact is not None and found is not None:
            apart.append((found - exact).norm() / exact.norm())
    assert 0 < torch.stack(apart).median() < median
    assert torch.stack(apart).max() < largest


@pytest.mark.parametrize("name", MODULATORS)
def test_no_modulator_sees_the_scale(name: str) -> None:
    """Noise of the size of a gradient, coefficients from gradients and thresholds on gradients are the same under any scale."""
    seen = 0
    for case in SOME:
        one, two = (gradients(name, case, fp16(scale)) for scale in (2.0**6, 2.0**9))
        if one is not None and two is not None:
            assert (one - two).norm() < 1e-4 * one.norm()  # only the smallest numbers have fewer bits under the smaller scale
            seen += 1
    assert seen


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
@pytest.mark.parametrize("name", MODULATORS)
def test_passes_are_autocast_forward_and_not_backward(name: str, kind: str) -> None:
    case = next(case for case in SOME if not MODULATORS[name](case.modalities).refuses(case.model()))
    model = case.model()
    modulator = begun(MODULATORS[name](case.modalities), case, model)
    forward: list[bool] = []
    backward: list[bool] = []
    for encoder in model.encoders.values():
        encoder.register_forward_hook(lambda *_: forward.append(torch.is_autocast_enabled("cpu")))
    for parameter in model.parameters():
        parameter.register_hook(lambda _: backward.append(torch.is_autocast_enabled("cpu")))
    for _ in (Precision(kind, CPU) if kind == "bf16" else fp16()).steps(modulator, model, [case.batch()]):
        assert not torch.is_autocast_enabled("cpu")
    assert forward
    assert all(forward)
    assert backward
    assert not any(backward)


def test_the_second_step_of_a_batch_sees_the_weights_of_the_first() -> None:
    case = Case("layernorm", "concat", 2)
    model, batch = case.model(), case.batch()

    class Twice(Joint):
        def steps(self, model: Model, batches: Sequence[Batch]) -> Iterator[Step]:
            for _ in range(2):
                yield self.step(model, batches)

    steps = Precision("bf16", CPU).steps(Twice(case.modalities), model, [batch])
    before = next(steps).loss
    with torch.no_grad():
        for head in model.fusion.heads():
            head.weight.zero_()
    assert not torch.equal(next(steps).loss, before)


def test_what_begins_when_steps_is_called_is_autocast_too() -> None:
    class Eager(Joint):
        def steps(self, model: Model, batches: Sequence[Batch]) -> list[Step]:
            return [self.step(model, batches)]

    case = Case("layernorm", "concat", 2)
    (step,) = Precision("bf16", CPU).steps(Eager(case.modalities), case.model(), [case.batch()])
    assert step.logits.dtype == torch.bfloat16


# backward passes under float16, by every way to call them


def linear(size: float = 1.0) -> tuple[nn.Linear, Tensor]:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    return layer, size * torch.randn(5, 4)


def test_small_gradients_are_not_lost() -> None:
    layer, x = linear()
    found = {}
    for scale in (1.0, 2.0**16):
        layer.zero_grad()
        with fp16(scale).autocast():
            (layer(x).float().sum() * 1e-9).backward()
        assert layer.weight.grad is not None
        found[scale] = layer.weight.grad
    assert not found[1.0].any()
    torch.testing.assert_close(found[2.0**16], 1e-9 * x.sum(dim=0).expand(3, 4), rtol=0.01, atol=1e-12)


def test_gradients_add_up_as_they_do_without() -> None:
    layer, x = linear()
    with fp16(2.0**10).autocast():
        output = layer(x).float()
        output.sum().backward(retain_graph=True)
        first = layer.weight.grad
        torch.autograd.backward([output, output], [torch.ones_like(output), torch.ones_like(output)])
    assert first is not None
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, 3 * x.sum(dim=0).expand(3, 4), rtol=0.01, atol=0.01)


def test_gradients_that_are_asked_for_are_not_scaled() -> None:
    layer, x = linear()
    unused = torch.zeros(2, requires_grad=True)
    with fp16(2.0**10).autocast():
        output = layer(x)
        given = torch.full_like(output, 2.0)
        weight, features, nothing = torch.autograd.grad(output, [layer.weight, output, unused], given, allow_unused=True)
    torch.testing.assert_close(weight, 2 * x.sum(dim=0).expand(3, 4), rtol=0.01, atol=0.01)
    torch.testing.assert_close(features, given)
    assert nothing is None


def test_gradients_of_what_is_no_weight_are_not_scaled() -> None:
    layer, x = linear()
    x.requires_grad_()
    with fp16(2.0**10).autocast():
        output = layer(x)
        output.retain_grad()
        leaf = output.detach().float().requires_grad_()
        leaf.sum().backward()
        assert leaf.grad is not None
        output.backward(leaf.grad.to(output.dtype), inputs=[x])
    assert layer.weight.grad is None
    torch.testing.assert_close(leaf.grad, torch.ones(5, 3))
    torch.testing.assert_close(output.grad, torch.ones(5, 3).half())
    torch.testing.assert_close(x.grad, layer.weight.detach().sum(dim=0).expand(5, 4), rtol=0.01, atol=0.01)


def test_a_gradient_of_a_gradient() -> None:
    layer, x = linear()
    x.requires_grad_()
    found = []
    for precision in (Precision("fp32", CPU), fp16(2.0**8)):
        layer.zero_grad()
        with precision.autocast():
            (gradient,) = torch.autograd.grad(layer(x).float().pow(3).sum(), x, create_graph=True)
            gradient.square().sum().backward()
        assert layer.weight.grad is not None
        found.append(layer.weight.grad)
    assert (found[1] - found[0]).norm() < 0.02 * found[0].norm()


def test_what_torch_refuses_is_still_refused() -> None:
    layer, x = linear()
    with fp16().autocast(), pytest.raises(RuntimeError, match="scalar outputs"):
        layer(x).backward()


# overflow


def overflow(precision: Precision, size: float) -> bool:
    """Run a backward pass whose largest gradient is five times `size`, and return whether all gradients are finite."""
    layer, x = linear()
    with precision.autocast():
        (layer(x).float().sum() * size).backward()
    return precision.update_scale()


def test_an_overflow_is_skipped_and_halves_the_scale() -> None:
    precision = fp16()  # 5 * 2^16, 5 * 2^15 and 5 * 2^14 are no numbers of float16
    assert not overflow(precision, 1.0)
    assert precision.state_dict() == {"scale": FIRST / 2, "streak": 0}
    assert [overflow(precision, 1.0) for _ in range(4)] == [False, False, True, True]
    assert precision.state_dict() == {"scale": FIRST / 8, "streak": 2}


def test_the_scale_grows_where_nothing_overflows() -> None:
    precision = Precision("fp16", CPU)
    precision.load_state_dict({"scale": 8.0, "streak": PATIENCE - 2})
    assert overflow(precision, 1.0)
    assert overflow(precision, 1.0)
    assert precision.state_dict() == {"scale": 16.0, "streak": 0}


def test_gradients_that_no_scale_makes_finite_end_the_run() -> None:
    precision = fp16()
    for _ in range(40):  # from 2^16 to 2^-24
        assert not overflow(precision, float("nan"))
    with pytest.raises(
        RunFailed, match="the loss is finite, but the gradients are not under any scale of float16; use --precision bf16"
    ):
        overflow(precision, float("nan"))


def test_a_torch_that_hides_backward_passes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(BACKWARD, torch.autograd.backward)
    with pytest.raises(RunFailed, match="hides where some backward passes begin; use --precision bf16, or a newer torch"):
        fp16()
    Precision("bf16", CPU)


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_other_precisions_have_no_scale(kind: str) -> None:
    precision = Precision(kind, CPU)
    overflow(precision, float("inf"))
    assert precision.update_scale()
    assert precision.state_dict() == {}


def test_a_model_is_as_large_as_a_graph_may_be() -> None:
    """The leaves of a deep graph are found without recursion."""
    weight = torch.ones((), requires_grad=True)
    value = weight
    for _ in range(5000):
        value = value * 1.0
    with fp16(2.0**4).autocast():
        value.backward()
    assert weight.grad == 1
