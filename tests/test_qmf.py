"""QMF against numbers worked out by hand and against a recorded run of the official code."""

import pytest
import torch
from recorded import Recorded
from toys import NAMES, batch, context, model

from agmbench.contracts import Batch, TensorSplit
from agmbench.modulators.qmf import QMF, confidence
from agmbench.served import resize

Z = {"a": [2.0, 0.0], "v": [0.0, 1.0]}


def test_the_answer_weighs_each_head_by_its_confidence() -> None:
    net = model({"a": [1.0], "v": [1.0]}, [[0.0, 0.0], [0.0, 0.0]])
    method = QMF(NAMES)
    method.prepare(context(net))
    with torch.no_grad():
        for m in NAMES:
            method.heads[m].weight.zero_()
            method.heads[m].bias.copy_(torch.tensor(Z[m]))
    assert [float(confidence(torch.tensor(z))) for z in Z.values()] == pytest.approx([0.2127, 0.1313], abs=1e-4)
    both, one = frozenset(NAMES), frozenset("v")
    with torch.no_grad():
        said = method.coalitions(net, batch(net, [0]).inputs, [both, one])
    assert said[both].logits[0].tolist() == pytest.approx([0.4254, 0.1313], abs=1e-4)
    assert said[one].logits[0].tolist() == pytest.approx([0.0, 0.1313], abs=1e-4)
    assert said[one].representation.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(("margin", "expected"), [("released", 0.1), ("ranked", 0.3)])
def test_two_samples_in_the_wrong_order(margin: str, expected: float) -> None:
    method = QMF(("a",), margin=margin)  # type: ignore[arg-type]
    found = method.misranked(torch.tensor([[0.3], [0.1]]), torch.tensor([[0.6], [0.5]]))
    assert found.tolist() == pytest.approx([expected])


def test_the_history_is_of_the_steps_before_and_of_each_sample() -> None:
    net = model({"a": [1.0], "v": [1.0]}, [[0.0, 0.0], [0.0, 0.0]])
    method = QMF(NAMES)
    method.prepare(context(net))
    step = method.step(net, [batch(net, [0, 1])])
    assert [float(step.signals[f"rank_loss/{m}"]) for m in NAMES] == [0.0, 0.0]
    assert (method.history > 0).all()
    assert sorted(method.scaled()[:, 0].tolist()) == [0.0, 1.0]


def test_recorded() -> None:
    case = Recorded("qmf_rank")
    whole = TensorSplit({m: case.arrays[m] for m in case.modalities}, case.arrays["label"])
    net = case.model(["enc_audio", "enc_visual"], ["clf_audio", "clf_visual"])
    method = QMF(case.modalities, strength=case.settings["lamb"], margin="released")
    method.prepare(case.context(net, splits={"train": whole}))
    for m in case.modalities:
        method.heads[m].load_state_dict(case.weights("init", f"clf_{m}"))
    told = []

    def chosen(step: int) -> Batch:
        if step:
            told.append(method.history.clone())
        return whole.batch(case.arrays["index"][step])

    case.batch = chosen  # type: ignore[method-assign]
    steps = case.train(net, method)
    told.append(method.history)
    torch.testing.assert_close(torch.stack([step.loss.double() for step in steps]), case.arrays["loss"], atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.stack(told), case.arrays["history"], atol=1e-5, rtol=0)
    case.agrees(
        {f"enc_{m}": net.encoders[m].net for m in case.modalities} | {f"clf_{m}": method.heads[m] for m in case.modalities}
    )


def test_a_served_model_has_the_history_of_the_samples_that_it_was_trained_on() -> None:
    net, method = model({"a": [1.0], "v": [1.0]}, [[0.0, 0.0], [0.0, 0.0]]), QMF(NAMES)
    method.prepare(context(net))  # the training set has two samples
    state = {**method.state_dict(), "history": torch.ones(5, 2, dtype=torch.float64)}
    resize(method, state)
    method.load_state_dict(state)
    assert method.history.tolist() == [[1, 1]] * 5
