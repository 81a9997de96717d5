"""Optimizers and schedules by name, learning rates of parts and layers, and effects of recipes on losses, samples and weights."""

import io
from typing import Any

import pytest
import timm
import torch
from test_train import CPU, TRAINED, make, splits_of, untrained_concepts
from torch import Tensor, nn

from agmbench import build
from agmbench.contracts import Batch, Tokens
from agmbench.criterion import Criterion, balanced
from agmbench.encoders.layers import in_layers
from agmbench.encoders.transformer import Transformer
from agmbench.errors import AgmbenchError
from agmbench.jobs import Schedule, Training
from agmbench.loading import Feed
from agmbench.model import MultimodalModel
from agmbench.optimizers import Average, Gains, make_optimizer, make_schedule, rates_now
from agmbench.recipes import Draws, mixed
from agmbench.tasks import MixedLabel, Segments, SingleLabel
from agmbench.train import Epoch, train


def resumed(name: str = "joint", **settings: Any) -> list[Epoch]:
    """Train three epochs, and the last two of them again from a checkpoint on disk. Fails unless they are equal bit by bit."""
    job = make(name, **{"training.epochs": 3, **settings})
    found: list[list[Epoch]] = []
    models, state = [], None
    for _ in range(2):
        model = build.model(job)
        modulator = build.modulator(job, model)
        concepts = untrained_concepts(job) if modulator.needs_concepts else {}
        found.append([])
        for epoch in train(model, modulator, Feed(splits_of(job), CPU), job.spec.training, job.spec.seed, concepts, state):
            if epoch.number == 0:
                file = io.BytesIO()
                torch.save(epoch.state(), file)
                saved = file.getvalue()
            found[-1].append(epoch)
        models.append(model.state_dict())
        state = torch.load(io.BytesIO(saved), weights_only=True)
    assert found[1] == found[0][1:]
    assert all(torch.equal(a, b) for a, b in zip(models[0].values(), models[1].values(), strict=True))
    return found[0]


def refused(name: str = "joint", **settings: Any) -> str:
    def made() -> None:
        job = make(name, **settings)
        build.modulator(job, build.model(job))

    with pytest.raises(AgmbenchError) as raised:
        made()
    assert "\n" not in str(raised.value)
    return str(raised.value)


RECIPES: list[dict[str, Any]] = [
    {"training.optimizer": "lamb"},
    {"training.optimizer": "lookahead_nadamw", "training.optimizer_args": {"betas": [0.8, 0.9]}},
    {"training.optimizer": "muon", "training.ema": 0.9},
    {"training.schedule.name": "timm-cosine", "training.schedule.args": {"warmup_epochs": 1}, "training.lr.m0": 0.1},
    {"training.schedule": {"name": "plateau", "patience": 1, "reload": True, "warmup": 1}, "training.ema": 0.5},
    {"training.sampling": "balanced", "training.class_weights": "balanced", "training.label_smoothing": 0.1},
    {"training.mixup": 0.4, "training.accumulate": 2},
]


@pytest.mark.parametrize("settings", RECIPES, ids=lambda settings: "-".join(settings))
def test_a_resumed_run_goes_on_bit_by_bit(settings: dict[str, Any]) -> None:
    assert resumed(**settings)[-1].valid != resumed()[-1].valid


@pytest.mark.long
@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("key", ["ema", "sampling", "label_smoothing", "mixup"])
def test_every_method_trains_with_it_or_says_why_not(name: str, key: str) -> None:
    if name == "mtl":
        pytest.importorskip("torchjd")
    settings = {f"training.{key}": {"ema": 0.9, "sampling": "balanced", "label_smoothing": 0.1, "mixup": 0.4}[key]}
    one_class = {"pmr", "mla", "reconboost", "qmf", "cml", "cml-example", "lfm", "relearning", "sample-level", "mbsd"}
    without = {"ema": {"mses", "relearning"}, "sampling": {"sample-level"}, "mixup": one_class, "label_smoothing": set()}[key]
    if name in without:
        assert f"training.{key}" in refused(name, **settings)
    else:
        resumed(name, **settings)


# optimizers, rates


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optimizer": "lamn"}, "no optimizer 'lamn': did you mean 'lamb'?"),
        ({"optimizer": "adahessian"}, "needs second derivatives"),
        ({"optimizer": "kron"}, "compiles its steps"),
        ({"optimizer": "lion", "optimizer_args": {"beta": 1}}, "optimizer 'lion' with {'beta': 1} cannot be made (TypeError"),
        ({"optimizer_args": {"lr": 1}}, "training.optimizer_args has lr"),
        ({"lr.m7": 0.1}, "training.lr.m7: there is no such part; expected one of m0, m1, fusion, modulator"),
        ({"layer_decay": 0.5}, "no encoder of the job has numbered layers"),
        ({"clip_when": "head"}, "training.clip_when=head says when the norm is limited; set training.clip_norm"),
        ({"schedule.args": {"min_lr": 0}}, "schedule.args are only for timm's schedules"),
        ({"schedule.name": "timm-step", "schedule.args": {"min": 0}}, "timm cannot make 'step' with {'min': 0} (TypeError"),
        ({"mixup": 0.2, "schedule.name": "timm-plateau"}, "'training.schedule.name' is 'timm-plateau'"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_line(settings: dict[str, Any], said: str) -> None:
    assert said in refused(**{f"training.{key}": value for key, value in settings.items()})


def test_a_part_has_its_own_rate_and_decay() -> None:
    job = make(**{"training.lr.m1": 1e-4, "training.weight_decay.fusion": 0.0})
    model = build.model(job)
    optimizer = make_optimizer(job.spec.training, model, nn.Module())
    assert [(group["name"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [
        ("m0", 0.05, 1e-4),
        ("m1", 1e-4, 1e-4),
        ("fusion", 0.05, 0.0),
    ]
    schedule = make_schedule(Schedule(warmup=1), optimizer, 4, Gains(job.spec.training, model, nn.Module()))
    assert rates_now(schedule, optimizer) == {"lr": 0.025, "lr/m0": 0.025, "lr/m1": 5e-5, "lr/fusion": 0.025}
    assert rates_now(make_schedule(Schedule(), make_optimizer(Training(), model, nn.Module()), 4, None), optimizer) == {
        "lr": 1e-3
    }  # type: ignore[arg-type]


def test_rates_decay_from_layer_to_layer() -> None:
    of_torch = Transformer((6, 5), layers=2, heads=1, width=8)
    (first, one, two) = in_layers(of_torch)
    assert first[0] is of_torch.project.weight
    assert len(one) == len(two) == 16
    of_timm = nn.Sequential(timm.create_model("resnet10t", num_classes=0))
    layers = in_layers(of_timm)
    assert sum(len(layer) for layer in layers) == len([*of_timm.parameters()])
    assert layers[0][0] is next(of_timm.parameters())
    assert in_layers(nn.Linear(2, 2)) == []
    model = MultimodalModel({"a": of_torch}, nn.Linear(8, 2))  # type: ignore[arg-type]
    groups = make_optimizer(Training(layer_decay=0.5, lr=0.8), model, nn.Module()).param_groups
    assert [(group["name"], group["lr"]) for group in groups] == [("a", 0.8), ("a", 0.4), ("a", 0.2), ("fusion", 0.8)]


def test_a_schedule_of_timm_is_timms() -> None:
    schedule = Schedule.model_validate({"name": "timm-cosine", "args": {"warmup_epochs": 2, "warmup_lr": 0.1, "min_lr": 0.5}})
    theirs = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    made, _ = timm.scheduler.create_scheduler_v2(theirs, "cosine", 6, warmup_epochs=2, warmup_lr=0.1, min_lr=0.5)
    ours = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    found = make_schedule(schedule, ours, 6, Gains(Training(), nn.Module(), nn.Module()))
    for epoch in range(6):
        made.step(epoch)
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)
        ours.step()
        found.step()


# losses and samples


def test_losses_are_smoothed_and_weighed() -> None:
    logits, targets = torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 1])
    said = -logits.log_softmax(dim=1)
    task, weights = SingleLabel(), torch.tensor([2.0, 0.5])
    smooth = [0.9 * said[0, 0] + 0.1 * said[0].mean(), 0.9 * said[1, 1] + 0.1 * said[1].mean()]
    torch.testing.assert_close(Criterion(0.1).losses(task, logits, targets), torch.stack(smooth))
    torch.testing.assert_close(
        Criterion(0.0, weights).losses(task, logits, targets), torch.stack([2 * said[0, 0], said[1, 1] / 2])
    )
    segments = Criterion(0.1).losses(Segments(), logits.unsqueeze(0), targets.unsqueeze(0))
    torch.testing.assert_close(segments, torch.stack(smooth).mean().unsqueeze(0))
    halves = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    torch.testing.assert_close(
        Criterion(0.0, weights).losses(MixedLabel(2), logits, halves),
        torch.stack([1.25 * said[0].mean(), said[1, 1] / 2]),
    )
    assert torch.equal(Criterion().losses(task, logits, targets), task.losses(logits, targets))
    assert balanced(torch.tensor([0, 0, 0, 2]), 3).tolist() == pytest.approx([4 / 9, 1.0, 4 / 3])


def test_balanced_sampling_draws_every_class_as_often() -> None:
    class Rare:
        targets = torch.tensor([0] * 990 + [1] * 10)

        def __len__(self) -> int:
            return len(self.targets)

    draws = Draws(Training(sampling="balanced"), Rare(), torch.Generator().manual_seed(1))  # type: ignore[arg-type]
    drawn = draws()
    assert len(drawn) == 1000
    assert 450 < int(Rare.targets[drawn].sum()) < 550
    assert Draws(Training(), Rare(), torch.Generator())().sort().values.tolist() == [*range(1000)]  # type: ignore[arg-type]


def test_a_batch_is_mixed_with_itself_in_reverse_order() -> None:
    model = build.model(make(**{"training.mixup": 0.3}))
    assert isinstance(model.task, MixedLabel)
    x, targets = torch.arange(6.0).view(3, 2), torch.tensor([0, 1, 3])
    batch = Batch({"m0": x, "m1": Tokens(x.unsqueeze(2))}, targets, torch.arange(3))
    (one,), (same,), (other,) = (mixed(iter([batch]), Training(mixup=0.3), model, 1, epoch) for epoch in (0, 0, 1))
    share = float(one.targets[0, 0])
    assert 0 < share < 1
    assert one.targets.tolist() == [
        pytest.approx(row) for row in ([share, 0, 0, 1 - share], [0, 1, 0, 0], [1 - share, 0, 0, share])
    ]
    torch.testing.assert_close(one.inputs["m0"], share * x + (1 - share) * x.flip(0))
    second = one.inputs["m1"]
    assert isinstance(second, Tokens)
    torch.testing.assert_close(second.values.squeeze(2), one.inputs["m0"])
    assert torch.equal(one.targets, same.targets)
    assert not torch.equal(one.targets, other.targets)
    assert model.task.likelihood(torch.zeros(3, 4), one.targets).tolist() == pytest.approx([0.25] * 3)
    words = {"encoder.*.hidden": 8, "training.mixup": 0.3}
    assert "needs the class of each sample" in refused("pmr", **words)


# weights


def test_the_mean_of_the_weights_is_what_is_validated() -> None:
    weight = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(weight.weight)
    average = Average(Training(ema=0.5), weight, nn.Module())
    means: list[Tensor] = []
    for step in range(1, 4):
        weight.weight.data.fill_(step)
        average.update()
        average.enter()
        average.enter()
        means.append(weight.weight.item())  # type: ignore[arg-type]
        average.leave()
        assert weight.weight.item() == step
    moved = [2 / 11, 3 / 12, 4 / 13]
    first = (1 - moved[0]) * 1
    second = moved[1] * first + (1 - moved[1]) * 2
    assert means == pytest.approx([first, second, moved[2] * second + (1 - moved[2]) * 3])
    assert Average(Training(), weight, nn.Module()).state_dict() == {}
