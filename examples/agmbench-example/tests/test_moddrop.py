"""ModDrop keeps its promises, mutes as evaluation does, and mutes as often as `p` says."""

import pytest
import torch
from agmbench import registry
from agmbench.contracts import SPLITS, Batch, Context, TensorSplit
from agmbench.model import MultimodalModel
from agmbench.testing import check, report

from agmbench_example.moddrop import ModDrop

NAMES = ("left", "right")


def test_it_passes_its_check() -> None:
    checks = check(registry.load().get("modulator", "moddrop"))
    assert "failed" not in [one.outcome for one in checks], report(checks)


def model() -> MultimodalModel:
    torch.manual_seed(0)
    known = registry.builtin()
    encoders = {m: known.get("encoder", "mlp").load()((3,), hidden=4, layers=1) for m in NAMES}
    return MultimodalModel(encoders, known.get("fusion", "concat").load()(dict.fromkeys(NAMES, 4), 2)).train()


def batch(count: int) -> Batch:
    inputs = {m: torch.randn(count, 3) for m in NAMES}
    return Batch(inputs, torch.arange(count) % 2, torch.arange(count))


def begun(p: float, net: MultimodalModel) -> ModDrop:
    made, sample = ModDrop(NAMES, p=p), batch(4)
    splits = dict.fromkeys(SPLITS, TensorSplit(sample.inputs, sample.targets))
    made.begin_epoch(Context(0, 1, 1, splits, torch.Generator().manual_seed(1), net))
    return made


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_modality_is_kept_as_often_as_p_says(p: float) -> None:
    kept = torch.stack(list(begun(p, model()).draw(100_000, torch.device("cpu")).values()))  # [M, B]
    assert kept.any(dim=0).all()
    expected = 1 - p + p**2 / 2  # if both would be muted, one of the two stays
    assert kept.float().mean(dim=1).tolist() == pytest.approx([expected] * 2, abs=0.01)


def test_a_muted_modality_is_what_the_model_mutes() -> None:
    net, sample = model(), batch(64)
    method = begun(0.5, net)
    step = method.backward(net, sample)
    kept = begun(0.5, net).draw(64, torch.device("cpu"))
    which = {frozenset(m for m in NAMES if kept[m][row]) for row in range(64)}
    assert len(which) == 3
    said = net.eval().coalitions(sample.inputs, list(which))
    for row in range(64):
        coalition = frozenset(m for m in NAMES if kept[m][row])
        assert torch.allclose(step.logits[row], said[coalition].logits[row], atol=1e-6)
