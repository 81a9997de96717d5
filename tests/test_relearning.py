"""Diagnosing and re-learning against numbers worked out by hand and against recorded values of the official code."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from recorded import Recorded
from toys import NAMES, context, model

from agmbench.modulators.relearning import Relearning, purity


def test_an_encoder_is_taken_back_by_the_gap_of_its_purities() -> None:
    net = model({"a": [0.0], "v": [1.0]}, [[1.0, -1.0], [0.0, 0.0]])
    method = Relearning(NAMES)
    method.prepare(context(net))
    with torch.no_grad():
        net.encoders["a"].weight.fill_(2.0)
    weight = method.weight(0.9, 0.6)
    method.take_back(net, "a", weight)
    assert weight == pytest.approx(0.7163, abs=1e-4)
    assert net.encoders["a"].weight.tolist() == pytest.approx([0.5674], abs=1e-4)
    assert net.encoders["v"].weight.tolist() == [1.0]


def test_purity_counts_the_most_frequent_class_of_each_cluster() -> None:
    features = np.array([[0.0, 5.0], [0.1, 5.0], [0.2, 5.0], [9.0, 5.0], [9.1, 5.0]], dtype=np.float32)
    assert purity(features, np.array([0, 0, 1, 1, 1]), 2) == pytest.approx(4 / 5)
    assert purity(features[:1], np.array([1]), 3) == 1.0  # fewer samples than classes


def test_it_happens_at_every_so_manieth_epoch_and_not_more_often() -> None:
    happened = []

    class Told(Relearning):
        def take_back(self, model: object, modality: str, weight: float) -> None:
            happened.append((now, modality))

    net = model({"a": [0.0], "v": [1.0]}, [[1.0, -1.0], [0.0, 0.0]])
    method = Told(NAMES, every=3, times=2)
    method.prepare(context(net))
    for now in range(13):
        method.begin_epoch(replace(context(net), epoch=now, epochs=13))
    assert happened == [(3, "a"), (3, "v"), (6, "a"), (6, "v")]


def test_recorded() -> None:
    case = Recorded("relearning_gap")
    s = case.settings
    names = [f"{m}_net" for m in case.modalities]
    net = case.model(names, ["head"])
    method = Relearning(case.modalities, strength=s["move_lambda"])
    method.prepare(case.context(net))
    for m in case.modalities:
        net.encoders[m].net.load_state_dict(case.weights("before", f"{m}_net"))
    arrays = {name: array.numpy() for name, array in case.arrays.items()}
    found = {
        (m, split): purity(arrays[f"{split}_{m}"], arrays[f"{split}_label"], s["classes"])
        for m in case.modalities
        for split in ("train", "valid")
    }
    assert list(found.values()) == pytest.approx(arrays["purity"].tolist(), abs=s["tolerance"])
    weights = [method.weight(found[m, "train"], found[m, "valid"]) for m in case.modalities]
    assert weights == pytest.approx(arrays["weight"].tolist(), abs=s["tolerance"])
    for m, weight in zip(case.modalities, weights, strict=True):
        method.take_back(net, m, weight)
    case.agrees({f"{m}_net": net.encoders[m].net for m in case.modalities} | {"head": case.linear("head", "before")}, when="after")
