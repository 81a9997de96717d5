"""Sample-level modality valuation against numbers worked out by hand and against recorded values of the official code."""

from dataclasses import replace

import pytest
import torch
from recorded import Recorded
from torch import Tensor
from toys import NAMES, batch, context, gradient, model

from agmbench.contracts import SPLITS, Batch, Context, Model, Step
from agmbench.jobs import Training
from agmbench.loading import Feed
from agmbench.modulators.sample_level import SampleLevel, copies, listed, values
from agmbench.testing.models import Case
from agmbench.train import train


def test_the_table_of_contributions_and_copies() -> None:
    assert copies(torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5], dtype=torch.float64)).tolist() == [3, 2, 1, 0, 0]


def test_who_is_right_alone_has_contributed_more() -> None:
    net = model({"a": [3.0], "v": [1.0]}, [[1.0, -1.0], [0.0, 0.0]])  # for class 0, a alone is right, v alone wrong, both right
    with net.evaluating(), torch.no_grad():
        phi = SampleLevel(NAMES).valued(net, batch(net, [0]))
    assert phi.tolist() == [[1.5, 0.5]]
    assert copies(phi).tolist() == [[0, 1]]
    assert [x.tolist() for x in listed(torch.tensor([[0, 1], [2, 0]]))] == [[0, 1, 1], [1, 0, 0]]


def test_an_epoch_has_every_sample_whole_and_the_copies_of_one_modality() -> None:
    net = model({"a": [3.0], "v": [1.0]}, [[1.0, -1.0], [0.0, 0.0]])
    method = SampleLevel(NAMES, warmup=1)
    around = context(net)
    method.prepare(around)
    method.begin_epoch(around)
    assert method.samples(around) is None
    around = replace(around, epoch=1)
    method.begin_epoch(around)
    chosen = method.samples(around)
    assert chosen is not None
    present = method._present
    assert present is not None
    # for sample 1, of class 1, a is wrong, v right and both wrong, so phi = (-.5, .5) and there are (3, 1) copies
    found = sorted((sample, *there) for sample, there in zip(chosen.tolist(), present.tolist(), strict=True))
    assert found == sorted([(0, True, True), (0, False, True), (1, True, True), *[(1, True, False)] * 3, (1, False, True)])


def test_a_copy_shows_one_modality_alone() -> None:
    net = model({"a": [3.0], "v": [1.0]}, [[1.0, -1.0], [0.0, 0.0]])
    method = SampleLevel(NAMES)
    method._present = torch.tensor([[True, True], [False, True]])
    one = batch(net, [0])
    step = method.step(net, [Batch(one.inputs, one.targets, one.index, at=torch.tensor([1]))])
    assert step.logits.tolist() == [[-1.0, 0.0]]
    assert float(gradient(net, "a")) == 0.0 != float(gradient(net, "v"))


@pytest.mark.parametrize(("phi", "expected"), [([0.9, 0.3], (1, 40)), ([0.6, 0.3, 0.9], (1, 30))])
def test_the_cheaper_form_copies_by_the_gap(phi: list[float], expected: tuple[int, int]) -> None:
    modalities = ("a", "v", "t")[: len(phi)]
    weakest, times = SampleLevel(modalities).weakest(torch.tensor(phi, dtype=torch.float64), 101)
    assert (weakest, times) == expected


def test_recorded() -> None:
    case = Recorded("sample_level_counts")
    arrays = case.arrays
    net = model({m: [1.0] * 4 for m in case.modalities}, arrays["weight"].tolist())
    with torch.no_grad():
        net.fusion.heads()[0].bias.copy_(arrays["bias"])
        found = values(net, {m: arrays[m] for m in case.modalities}, arrays["label"], case.modalities)
    phi = torch.stack([found[m] for m in case.modalities], dim=1)
    torch.testing.assert_close(phi, arrays["phi"])
    torch.testing.assert_close(phi.mean(dim=0), arrays["mean"])
    assert torch.equal(copies(phi), arrays["extra"])


def test_the_loop_says_at_which_place_of_the_list_a_sample_stands() -> None:
    case = Case("mlp", "concat", 2)
    seen: list[bool] = []

    class Told(SampleLevel):
        def samples(self, context: Context) -> Tensor | None:
            self.listed = super().samples(context)
            return self.listed

        def backward(self, model: Model, batch: Batch) -> Step:
            assert self.listed is not None
            assert batch.at is not None
            seen.append(torch.equal(self.listed[batch.at], batch.index))
            return super().backward(model, batch)

    recipe = Training(epochs=2, batch_size=3, accumulate=2, lr=0.1)
    feed = Feed(dict.fromkeys(SPLITS, case.split), torch.device("cpu"))
    list(train(case.model(), Told(case.modalities, warmup=0), feed, recipe, seed=1))
    assert len(seen) > 2 * 16 / 3
    assert all(seen)
