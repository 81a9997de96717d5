"""Gradient accumulation: what a modulator does per micro-batch, and what once per optimizer step; and scores from dev."""

import pytest
import torch
from torch import Tensor

from agmbench.contracts import Batch, Context, Modulator, TensorSplit
from agmbench.encoders.conv import Conv
from agmbench.encoders.mlp import MLP
from agmbench.fusions.concat import Concat
from agmbench.model import MultimodalModel
from agmbench.modulators.agm import AGM
from agmbench.modulators.joint import Joint
from agmbench.modulators.ogm import OGM

NAMES = ("a", "b")


def model(kind: str = "mlp") -> MultimodalModel:
    torch.manual_seed(0)
    shape = (5,) if kind == "mlp" else (1, 5, 5)
    encoders = {m: MLP(shape, hidden=4, layers=1) if kind == "mlp" else Conv(shape, width=4, layers=2) for m in NAMES}
    return MultimodalModel(encoders, Concat(dict.fromkeys(NAMES, encoders["a"].out_features), 3)).train()


def batch(size: int, seed: int, shape: tuple[int, ...] = (5,)) -> Batch:
    drawn = torch.Generator().manual_seed(seed)
    inputs = {m: torch.randn(size, *shape, generator=drawn) for m in NAMES}
    return Batch(inputs, torch.randint(0, 3, (size,), generator=drawn), torch.arange(size))


def gradients(net: MultimodalModel) -> dict[str, Tensor]:
    return {name: tensor.grad.clone() for name, tensor in net.named_parameters() if tensor.grad is not None}


def begun(modulator: Modulator, dev: Batch | None = None) -> Modulator:
    splits = {} if dev is None else {"dev": TensorSplit(dev.inputs, dev.targets)}
    context = Context(0, 1, 1, splits, torch.Generator().manual_seed(7), model())  # type: ignore[arg-type]
    modulator.prepare(context)
    modulator.begin_epoch(context)
    return modulator


PARTS = [batch(8, 1), batch(8, 2), batch(4, 3)]  # the last is smaller, as at the end of an epoch


def test_gradients_are_weighted_by_the_share_of_the_samples() -> None:
    whole = Batch(
        {m: torch.cat([b.inputs[m] for b in PARTS]) for m in NAMES}, torch.cat([b.targets for b in PARTS]), torch.arange(20)
    )
    one, other = model(), model()
    found, expected = Joint(NAMES).step(one, PARTS), Joint(NAMES).step(other, [whole])
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=1e-6)
    torch.testing.assert_close(found.logits, expected.logits)
    for name, value in gradients(other).items():
        torch.testing.assert_close(gradients(one)[name], value, atol=1e-7, rtol=1e-5)


def test_agm_has_a_kappa_a_micro_batch_and_moves_its_scores_once() -> None:
    net, agm = model(), begun(AGM(NAMES, alpha=2, clip=None))
    assert isinstance(agm, AGM)
    step = agm.step(net, PARTS)
    assert agm.iterations == 1

    weighted: dict[str, Tensor] = {}
    scores = []
    for part in PARTS:
        alone, fresh = model(), begun(AGM(NAMES, alpha=2, clip=None))
        single = fresh.step(alone, [part])
        scores.append(torch.stack([single.signals[f"score/{m}"] for m in NAMES]))
        for name, value in gradients(alone).items():
            weighted[name] = weighted.get(name, torch.zeros(())) + value * len(part.targets) / 20
    for name, value in gradients(net).items():
        torch.testing.assert_close(value, weighted[name], atol=1e-7, rtol=1e-5)
    torch.testing.assert_close(agm.running_score, torch.stack(scores).mean(dim=0))
    mean = sum(score[0] * len(part.targets) / 20 for score, part in zip(scores, PARTS, strict=True))
    assert step.signals["score/a"].item() == pytest.approx(float(mean))


def test_ogm_scales_once_by_the_scores_of_all_micro_batches() -> None:
    net, ogm = model(), begun(OGM(NAMES, alpha=0.7))
    step = ogm.step(net, PARTS)
    singles = [begun(OGM(NAMES)).step(model(), [part]) for part in PARTS]
    score = {m: sum(float(single.signals[f"score/{m}"]) for single in singles) for m in NAMES}
    plain = model()
    Joint(NAMES).step(plain, PARTS)
    for m, other in (NAMES, tuple(reversed(NAMES))):
        rho = torch.tensor(score[m] / score[other])
        k = float(1 - torch.tanh(0.7 * rho)) if rho > 1 else 1.0
        assert float(step.signals[f"kappa/{m}"]) == pytest.approx(k, rel=1e-5)
        name = next(n for n, p in net.named_parameters() if n.startswith(f"encoders.{m}.") and p.ndim == 2)
        torch.testing.assert_close(gradients(net)[name], gradients(plain)[name] * k, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("kind", [Joint, AGM, OGM])
def test_batch_statistics_move_once_a_micro_batch(kind: type[Modulator]) -> None:
    net = model("conv")
    begun(kind(NAMES)).step(net, [batch(8, seed, (1, 5, 5)) for seed in range(3)])
    moved = {int(value) for name, value in net.named_buffers() if name.endswith("num_batches_tracked")}
    assert moved == {3}


@pytest.mark.parametrize("kind", [AGM, OGM])
def test_scores_may_come_from_dev(kind: type[AGM | OGM]) -> None:
    dev, train = batch(8, 5, (1, 5, 5)), batch(8, 6, (1, 5, 5))
    net = model("conv")
    step = begun(kind(NAMES, scores="dev"), dev).step(net, [train])
    judge = model("conv")
    judge(train.inputs)  # updates the running statistics as the training pass did
    judge.eval()
    expected = begun(kind(NAMES)).step(judge, [dev])
    for m in NAMES:
        assert float(step.signals[f"score/{m}"]) == pytest.approx(float(expected.signals[f"score/{m}"]), rel=1e-5)
    assert net.training
    assert all(module.training for module in net.modules())
    moved = {int(value) for name, value in net.named_buffers() if name.endswith("num_batches_tracked")}
    assert moved == {1}
