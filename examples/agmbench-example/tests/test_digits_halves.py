"""digits-halves: its splits have all images once, and all classes in equal shares."""

import torch
from agmbench import registry
from agmbench.contracts import SPLITS
from agmbench.testing import check, report
from sklearn.datasets import load_digits

DATA = registry.load().get("dataset", "digits-halves").load()(0)


def whole(name: str) -> torch.Tensor:
    split = DATA.split(name)
    inputs = split.batch(torch.arange(len(split))).inputs
    return torch.cat([inputs["left"], inputs["right"]], dim=3).flatten(1)  # [N, 64]


def test_it_passes_its_check() -> None:
    checks = check(registry.load().get("dataset", "digits-halves"))
    assert "failed" not in [one.outcome for one in checks], report(checks)


def test_the_splits_together_are_every_digit_once() -> None:
    assert [len(DATA.split(name)) for name in SPLITS] == [1078, 179, 179, 361]
    found = torch.cat([whole(name) for name in SPLITS])
    every = torch.from_numpy(load_digits().data).float() / 16
    assert len(torch.unique(found, dim=0)) == len(found) == len(every)
    assert torch.equal(torch.unique(found, dim=0), torch.unique(every, dim=0))


def test_every_split_has_every_class_in_equal_shares() -> None:
    for name in SPLITS:
        split = DATA.split(name)
        counts = torch.bincount(split.batch(torch.arange(len(split))).targets, minlength=10)
        assert counts.max() - counts.min() <= 0.1 * counts.max() + 2


def test_the_data_are_the_same_for_every_seed() -> None:
    other = registry.load().get("dataset", "digits-halves").load()(1)
    assert other.fingerprint == DATA.fingerprint
