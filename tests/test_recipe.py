"""Effects of a recipe on gradients and learning rates: clipping, summed losses, decay by progress on valid, and early stopping."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from test_train import CPU, REGISTRY, make, run, splits_of, untrained_concepts
from torch import Tensor, nn
from toys import NAMES, batch, context, gradient, model

from agmbench import build
from agmbench.contracts import Context, SplitName
from agmbench.jobs import Schedule, Training
from agmbench.loading import Feed
from agmbench.model import MultimodalModel
from agmbench.modulators.agm import AGM
from agmbench.modulators.joint import Joint
from agmbench.optimizers import Gains, clip_gradients, make_schedule
from agmbench.train import Epoch, train

TRAINED = [entry.name for entry in REGISTRY.entries("modulator") if entry.load().promises.trains]

# clipping


def clipped(gradients: list[list[float]], **recipe: float | str) -> list[list[float]]:
    """What is left of gradients. The first is that of the weights of the only head, of one row."""
    tensors = [nn.Parameter(torch.zeros(len(row))) for row in gradients]
    for tensor, row in zip(tensors, gradients, strict=True):
        tensor.grad = torch.tensor(row)
    resting = nn.Parameter(torch.zeros(2))  # has no gradient
    groups = [{"params": [tensors[0], resting]}, {"params": tensors[1:]}]
    whole = build.model(make())
    (head,) = whole.fusion.heads()
    head.weight = tensors[0]  # type: ignore[assignment]
    clip_gradients(Training.model_validate(recipe), torch.optim.SGD(groups, lr=1.0), whole)
    assert resting.grad is None
    return [tensor.grad.tolist() for tensor in tensors if tensor.grad is not None]


def test_the_norm_of_all_gradients_together_is_cut() -> None:
    found = clipped([[3.0, 0.0], [-4.0]], clip_norm=2.5)
    assert list(itertools.chain(*found)) == pytest.approx([1.5, 0.0, -2.0], rel=1e-5)
    assert clipped([[3.0, 0.0], [-4.0]], clip_norm=5.5) == [[3.0, 0.0], [-4.0]]


def test_each_element_is_cut() -> None:
    assert clipped([[3.0, 0.5], [-4.0]], clip_value=1.0) == [[1.0, 0.5], [-1.0]]


def test_elements_are_cut_before_the_norm() -> None:
    found = clipped([[3.0], [-4.0]], clip_value=1.0, clip_norm=1.0)
    assert list(itertools.chain(*found)) == pytest.approx([0.5**0.5, -(0.5**0.5)], rel=1e-5)


def test_the_norm_is_cut_only_where_an_element_of_a_head_is_large() -> None:
    """The rule of AGM's code, which it has for every method under early fusion."""
    rule: dict[str, Any] = {"clip_norm": 2.5, "clip_when": "head"}
    found = clipped([[3.0, 0.0], [-4.0]], **rule)
    assert list(itertools.chain(*found)) == pytest.approx([1.5, 0.0, -2.0], rel=1e-5)
    found = clipped([[-3.0, 0.0], [4.0]], **rule)
    assert list(itertools.chain(*found)) == pytest.approx([-1.5, 0.0, 2.0], rel=1e-5)
    assert clipped([[2.0, 2.0], [-40.0]], **rule) == [[2.0, 2.0], [-40.0]], "however long the gradient is"
    assert clipped([[3.0, 0.0], [-4.0]], clip_norm=5.5, clip_when="head") == [[3.0, 0.0], [-4.0]]


def test_the_recipe_has_agm_s_rule() -> None:
    """AGM that does not modulate is clipped by the recipe's rule as by its own, in some steps and not in others."""
    most = 0.15

    def weights(**given: Any) -> Tensor:
        trained, _ = run(make("agm", **{"training.epochs": 2, "modulator.alpha": 0, **given}))
        return torch.cat([tensor.detach().flatten() for tensor in trained.parameters()])

    own = weights(**{"modulator.clip": most})
    recipe = weights(**{"modulator.clip": None, "training.clip_norm": most, "training.clip_when": "head"})
    assert torch.equal(own, recipe)
    assert not torch.equal(own, weights(**{"modulator.clip": None}))
    assert not torch.equal(own, weights(**{"modulator.clip": None, "training.clip_norm": most}))


def test_training_steps_by_clipped_gradients() -> None:
    """Under SGD without momentum and decay, no step is longer than the learning rate times the norm."""
    plain = {"training.momentum": 0.0, "training.weight_decay": 0.0, "training.batch_size": 128, "training.epochs": 1}
    (free, _), (cut, _) = run(make(**plain)), run(make(**plain, **{"training.clip_norm": 0.01}))
    job = make(**plain)

    def moved(trained: MultimodalModel) -> Tensor:
        start = build.model(job).parameters()
        return torch.cat([(a - b).detach().flatten() for a, b in zip(trained.parameters(), start, strict=True)])

    rate = job.spec.training.lr
    assert moved(cut).norm() == pytest.approx(0.01 * rate, rel=1e-3)
    assert moved(free).norm() > 0.02 * rate
    assert torch.cosine_similarity(moved(free), moved(cut), dim=0) == pytest.approx(1, abs=1e-4)


def test_a_method_with_a_rule_of_its_own_is_not_clipped_by_the_recipe() -> None:
    def weights(clip: float | None, **recipe: Any) -> Tensor:
        trained, _ = run(make("agm", **{"training.epochs": 1, "modulator.clip": clip, **recipe}))
        return torch.cat([tensor.detach().flatten() for tensor in trained.parameters()])

    cut = {"training.clip_norm": 0.01}
    assert torch.equal(weights(1.0), weights(1.0, **cut))
    assert not torch.equal(weights(None), weights(None, **cut))


# summed losses


def still(tensors: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """An optimizer that moves nothing. With a summed loss, a step of G-Blend's copies would be longer."""
    return torch.optim.SGD(tensors, lr=0.0)


def stepped(name: str, reduction: str, parts: int, **settings: Any) -> tuple[MultimodalModel, dict[str, Tensor], float]:
    """The model, the gradients and the loss of a modulator's first optimizer step on 24 samples, in `parts` micro-batches."""
    job = make(name, **{"training.reduction": reduction, **settings})
    net = build.model(job).train()
    modulator = build.modulator(job, net)
    concepts = untrained_concepts(job) if modulator.needs_concepts else {}
    splits: dict[SplitName, Any] = splits_of(job)  # type: ignore[assignment]
    known = Context(0, 2, 1, splits, torch.Generator().manual_seed(1), net, concepts=concepts, fresh=still)  # type: ignore[arg-type]
    torch.manual_seed(5)
    modulator.prepare(known)
    modulator.begin_epoch(known)
    batches = [job.dataset.split("train").batch(rows) for rows in torch.arange(24).split(24 // parts)]
    step = next(iter(modulator.steps(net, batches)))
    parameters = itertools.chain(net.named_parameters(), modulator.named_parameters())
    return net, {key: tensor.grad for key, tensor in parameters if tensor.grad is not None}, float(step.loss)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("parts", [1, 2])
def test_a_summed_loss_has_the_gradients_of_the_mean_times_the_samples(name: str, parts: int) -> None:
    settings = {"modulator.clip": None} if name.startswith("agm") else {}
    _, mean, loss = stepped(name, "mean", parts, **settings)
    net, summed, same = stepped(name, "sum", parts, **settings)
    assert net.reduction == "sum"
    assert same == loss, "what is followed is the mean"
    assert summed.keys() == mean.keys()
    for key, value in mean.items():
        torch.testing.assert_close(summed[key], 24 * value, rtol=2e-4, atol=1e-6)


def test_joint_training_of_a_sum_is_that_of_the_summed_loss() -> None:
    net, found, _ = stepped("joint", "sum", 3)
    shown = make().dataset.split("train").batch(torch.arange(24))
    loss = nn.functional.cross_entropy(net(shown.inputs).logits, shown.targets, reduction="sum")
    for (key, tensor), value in zip(net.named_parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True):
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5, msg=f"{key} {tensor.shape}")


def test_agm_clips_the_gradients_of_the_sum() -> None:
    """The largest element of the head's gradient is 1/2 for a mean, and 2 for a sum over four samples, which is above the clip of 1."""
    mean, summed = (model({"a": [1.0], "v": [1.0]}, [[0.0, 0.0], [0.0, 0.0]]) for _ in range(2))
    summed.reduction = "sum"
    norms = []
    for net in (mean, summed):
        agm = AGM(NAMES)
        agm.prepare(context(net))
        agm.step(net, [batch(net, [0, 0, 0, 0])])
        assert gradient(net, "a") is not None
        norms.append(float(nn.utils.get_total_norm([p.grad for p in net.parameters() if p.grad is not None])))
    assert norms[0] == pytest.approx((6 * 0.25) ** 0.5, rel=1e-5)  # four weights and two biases, none above 1
    assert norms[1] == pytest.approx(1, rel=1e-5)


# progress


def followed(recipe: Training, ranks: list[float]) -> list[tuple[float, float, bool]]:
    """For each epoch the weight at its beginning, its learning rate, and whether it is the last. Each epoch adds 1 to the weight."""
    weight, running = nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1)
    nn.init.zeros_(weight.weight)
    net = nn.Sequential(weight, running)
    optimizer = torch.optim.SGD([weight.weight], lr=1.0)
    progress = Gains(recipe, net, nn.Module())
    schedule = make_schedule(recipe.schedule, optimizer, len(ranks), progress)
    found = []
    for rank in ranks:
        progress.begin_epoch()
        begun, rate = float(weight.weight.detach()), schedule.get_last_lr()[0]
        assert float(running.running_mean) == begun, "buffers come back too"  # type: ignore[arg-type]
        weight.weight.data += 1
        running.running_mean += 1  # type: ignore[operator]
        progress.see((rank, 0.0))
        optimizer.step()
        schedule.step()
        found.append((begun, rate, progress.over))
        if progress.over:
            break
    return found


def test_umons_halves_twice_brings_the_best_weights_back_and_stops_after_three_epochs() -> None:
    recipe = Training(schedule=Schedule(name="plateau", gamma=0.5, last=2, reload=True), early_stopping=3)
    # gain, none (reload), gain, none (reload); then no decay is left: two epochs without a gain, a gain, three epochs without a gain
    found = followed(recipe, [0.5, 0.4, 0.6, 0.6, 0.3, 0.3, 0.7, 0.1, 0.2, 0.3, 0.9])
    begun, rates, over = zip(*found, strict=True)
    assert begun == (0, 1, 1, 2, 2, 3, 4, 5, 6, 7)
    assert rates == (1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25)
    assert over == (*[False] * 9, True)


def test_a_plateau_waits_for_its_patience_and_leaves_weights_where_they_are() -> None:
    found = followed(Training(schedule=Schedule(name="plateau", gamma=0.1, patience=2)), [1, 0, 0, 0, 0, 0])
    assert [rate for _, rate, _ in found] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01])
    assert [begun for begun, _, _ in found] == [0, 1, 2, 3, 4, 5]


def test_early_stopping_alone_counts_epochs_in_a_row() -> None:
    found = followed(Training(early_stopping=2), [0.1, 0.1, 0.2, 0.2, 0.2, 0.9])
    assert len(found) == 5
    assert {rate for _, rate, _ in found} == {1.0}


def trained(name: str, **settings: object) -> list[Epoch]:
    job = make(name, **{"training.epochs": 8, "training.lr": 1.0, **settings})
    return run(job)[1]


@pytest.mark.parametrize("name", TRAINED)
def test_every_modulator_is_stopped_by_its_ranks(name: str) -> None:
    """The epochs are those of the same training without early stopping, up to the first epoch without a gain."""
    free, stopped = trained(name), trained(name, **{"training.early_stopping": 1})
    ranks = [epoch.rank for epoch in free]
    first = next((number for number, rank in enumerate(ranks) if number and rank <= max(ranks[:number])), 7)
    assert stopped == free[: first + 1]


def test_the_paces_of_mslr_stand_on_the_decayed_rate() -> None:
    job = make(
        "mslr",
        **{
            "training.epochs": 8,
            "training.lr": 3.0,
            "training.schedule.name": "plateau",
            "training.schedule.gamma": 0.5,
            "modulator.factors": {"m0": 2.0},
        },
    )
    model = build.model(job)
    modulator = build.modulator(job, model)
    epochs = train(model, modulator, Feed(splits_of(job), CPU), job.spec.training, job.spec.seed)
    decays = 0
    for epoch in epochs:
        assert [point.value for point in epoch.points if point.name == "lr"] == [3.0 * 0.5**decays]
        state = epoch.state()
        decays = state["progress"]["decays"]
        assert {group["lr"] for group in state["optimizer"]["param_groups"]} == {3.0 * 0.5**decays}
    assert decays


def test_a_state_with_weights_of_another_model_does_not_fit() -> None:
    recipe = Training(schedule=Schedule(name="plateau", reload=True))
    one, other = (Gains(recipe, nn.Linear(size, 1), Joint(NAMES)) for size in (2, 3))
    one.see((1.0, 0.0))
    other.load_state_dict(Gains(recipe, nn.Linear(9, 9), Joint(NAMES)).state_dict())  # this one has no weights yet
    with pytest.raises(ValueError, match="of another model"):
        other.load_state_dict(one.state_dict())
