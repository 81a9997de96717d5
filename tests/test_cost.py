"""Compares FLOPs with counts by hand, and encoder passes with what each method needs."""

import os
from pathlib import Path

import pytest
import torch
from test_train import make
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.module import _global_forward_pre_hooks
from torch.utils.flop_counter import FlopCounterMode

from agmbench import build, cost
from agmbench.contracts import SPLITS, Batch, Model, Step
from agmbench.cost import FORMULAS
from agmbench.loading import Feed
from agmbench.modulators.joint import Joint
from agmbench.train import train

DROPOUT = {"encoder.*.dropout": 0.1}
CPU = torch.device("cpu")


def counted(run: object) -> int:
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        run()  # type: ignore[operator]
    return int(counter.get_total_flops())


def test_an_lstm_by_hand() -> None:
    batch, steps, size, hidden = 3, 5, 4, 6
    lstm = nn.LSTM(size, hidden, batch_first=True, bidirectional=True)
    x = torch.randn(batch, steps, size)
    forward = 2 * (2 * batch * steps * 4 * hidden * (size + hidden))  # two directions
    assert counted(lambda: lstm(x)) == forward
    assert counted(lambda: lstm(x)[0].sum().backward()) == 3 * forward


def test_attention_by_hand() -> None:
    batch, heads, queries, keys, size = 2, 3, 5, 7, 4
    q = torch.randn(batch, heads, queries, size, requires_grad=True)
    k, v = (torch.randn(batch, heads, keys, size, requires_grad=True) for _ in range(2))
    product = 2 * batch * heads * queries * keys * size
    assert counted(lambda: F.scaled_dot_product_attention(q, k, v)) == 2 * product
    # backward: the scores again, then two products for each of the two
    assert counted(lambda: F.scaled_dot_product_attention(q, k, v).sum().backward()) == (2 + 5) * product


def test_torchs_own_attention_by_hand_with_and_without_gradient() -> None:
    batch, steps, width, feed = 3, 5, 8, 16
    x = torch.randn(batch, steps, width)
    attention = nn.MultiheadAttention(width, 2, batch_first=True).eval()
    layer = nn.TransformerEncoderLayer(width, 2, feed, batch_first=True).eval()
    projections, products = 4 * 2 * batch * steps * width**2, 2 * 2 * batch * steps * steps * width
    for gradient in (True, False):  # without gradients, torch uses faster operations that are counted separately
        with torch.set_grad_enabled(gradient):
            assert counted(lambda: attention(x, x, x, need_weights=False)) == projections + products
            assert counted(lambda: layer(x)) == projections + products + 2 * 2 * batch * steps * width * feed


def test_a_linear_layer_by_hand() -> None:
    layer, x = nn.Linear(4, 6), torch.randn(3, 4)
    assert counted(lambda: layer(x)) == 2 * 3 * 4 * 6
    assert counted(lambda: layer(x).sum().backward()) == 2 * 2 * 3 * 4 * 6  # the input needs no gradient


@pytest.mark.parametrize(
    ("modulator", "settings", "passes"),
    [
        ("joint", {}, 2.0),
        ("ogm-ge", {}, 2.0),
        ("agm", DROPOUT, 4 + 2 / 64),  # two passes per modality, and one pass per modality with a single muted sample
        ("agm", {}, 2 + 2 / 64),  # one pass per modality, because both modes are the same
        ("agm", {"encoder.m0.dropout": 0.1}, 3 + 2 / 64),
        ("agm", {**DROPOUT, "modulator.coalitions": "shared"}, 2 + 2 / 64),
        ("agm", {**DROPOUT, "dataset.modalities": 5}, 10 + 5 / 64),
        ("agm", {**DROPOUT, "dataset.modalities": 5, "modulator.coalitions": "shared"}, 5 + 5 / 64),
    ],
)
def test_encoder_passes_of_a_step(modulator: str, settings: dict[str, object], passes: float) -> None:
    job = make(modulator, **settings)
    model = build.model(job)
    splits = {name: job.dataset.split(name) for name in SPLITS}
    epochs = list(train(model, build.modulator(job, model), Feed(splits, CPU), job.spec.training, 1))
    costs = {point.name: point.value for point in epochs[-1].costs}
    assert costs["cost/encoder_passes"] == pytest.approx(passes)
    assert costs["cost/samples_per_second"] > 0
    assert costs["cost/peak_memory_mib"] > 10
    assert not _global_forward_pre_hooks


class Large(Joint):
    """Joint training that allocates `size` MiB in each step."""

    def __init__(self, modalities: tuple[str, ...], size: int) -> None:
        super().__init__(modalities)
        self.size = size

    def backward(self, model: Model, batch: Batch) -> Step:
        torch.ones(self.size * 2**18)
        return super().backward(model, batch)


def peak(size: int) -> float:
    job = make("joint")
    model = build.model(job)
    splits = {name: job.dataset.split(name) for name in SPLITS}
    *_, last = train(model, Large(model.modalities, size), Feed(splits, CPU), job.spec.training, 1)
    return next(point.value for point in last.costs if point.name == "cost/peak_memory_mib")


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be reset here")
def test_a_job_s_peak_memory_is_not_that_of_the_job_before() -> None:
    first, second, third = peak(400), peak(50), peak(400)
    assert second < first - 300
    assert third > second + 300


def test_peak_memory_where_nothing_tells_it_of_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cost, "PROCESS", tmp_path / "none")
    assert peak(400) >= 400
    assert peak(50) >= 400


def test_flops_of_joint_training_by_hand() -> None:
    job = make("joint")  # two encoders Linear(16, 32), a head Linear(64, 4), batches of 64
    model = build.model(job)
    splits = {name: job.dataset.split(name) for name in SPLITS}
    (epoch, *_) = train(model, build.modulator(job, model), Feed(splits, CPU), job.spec.training, 1)
    encoders, head = 2 * 64 * 16 * 32 * 2, 2 * 64 * 64 * 4
    costs = {point.name: point.value for point in epoch.costs}
    assert costs["cost/flops"] == 2 * encoders + 3 * head  # the inputs need no gradient, the features do
