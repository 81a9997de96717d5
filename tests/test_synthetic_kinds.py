"""Synthetic data: the best accuracies in the docstring are compared with those of the best classifier."""

import re

import pytest
import torch
from torch import Tensor

from agmbench.datasets.synthetic import Synthetic

# for each kind, the best accuracy on both modalities, on m0 and on m1
KINDS = {
    "independent": (0.943, 0.823, 0.823),
    "redundant": (0.823, 0.823, 0.823),
    "complementary": (0.855, 0.5, 0.5),
    "spurious-fast": (0.823, 0.25, 0.823),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_documented_accuracies_are_those_of_the_formula(kind: str) -> None:
    data = Synthetic(0, kind=kind)  # type: ignore[arg-type]
    found = (data.best_accuracy(), data.best_accuracy("m0"), data.best_accuracy("m1"))
    assert found == pytest.approx(KINDS[kind], abs=5e-4)
    row = next(line for line in (Synthetic.__doc__ or "").splitlines() if line.strip().startswith(f"| {kind}"))
    assert [float(number) for number in re.findall(r"\| (\.\d+)", row)] == list(KINDS[kind])


def latents(data: Synthetic, targets: bool = False) -> tuple[list[Tensor], Tensor]:
    test = data.split("test")
    return [test.inputs[m] @ view for m, view in zip(data.shapes, data._views, strict=True)], test.targets  # type: ignore[attr-defined]


def best(kind: str, seen: list[Tensor]) -> Tensor:
    """The predictions of the best classifier, which knows how the data are made."""
    if kind == "complementary":
        return sum(x.argmax(dim=1) for x in seen) % 2  # type: ignore[return-value]
    return (seen[-1] if kind == "spurious-fast" else torch.stack(seen).sum(dim=0)).argmax(dim=1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_classifier_reaches_the_best_accuracy(kind: str) -> None:
    data = Synthetic(1, kind=kind, samples=80_000)  # type: ignore[arg-type]
    seen, targets = latents(data)
    assert float((best(kind, seen) == targets).double().mean()) == pytest.approx(data.best_accuracy(), abs=0.01)


def test_strengths_that_differ() -> None:
    data = Synthetic(1, samples=80_000, strength=[1.0, 3.0], noise=[1.0, 2.0], redundancy=[0.3, 0.6])
    seen, targets = latents(data)
    n, r, s = [1.0, 2.0], [0.3, 0.6], [1.0, 3.0]
    cross = n[0] * n[1] * (r[0] * r[1]) ** 0.5
    sigma = torch.tensor([[n[0] ** 2, cross], [cross, n[1] ** 2]])
    weight = torch.linalg.solve(sigma, torch.tensor(s))  # the best linear mixture of the two views
    answer = (weight[0] * seen[0] + weight[1] * seen[1]).argmax(dim=1)
    assert float((answer == targets).double().mean()) == pytest.approx(data.best_accuracy(), abs=0.01)


def test_common_noise_that_can_be_taken_away_leaves_no_error() -> None:
    assert Synthetic(0, strength=[1.0, 2.0], redundancy=1.0).best_accuracy() == 1.0


def test_one_bit_of_a_parity_tells_nothing() -> None:
    data = Synthetic(2, kind="complementary", modalities=3, samples=40_000)
    (first, second, _), targets = latents(data)
    for answer in (first.argmax(dim=1), (first.argmax(dim=1) + second.argmax(dim=1)) % 2):
        assert float((answer == targets).double().mean()) == pytest.approx(0.5, abs=0.02)


def test_the_spurious_modality_is_the_easy_one_until_the_test() -> None:
    data = Synthetic(2, kind="spurious-fast", samples=4000)
    for name in ("train", "dev", "valid", "test"):
        split = data.split(name)  # type: ignore[arg-type]
        right = (split.inputs["m0"] @ data._views[0]).argmax(dim=1) == split.targets  # type: ignore[attr-defined]
        share = float(right.double().mean())
        assert share == pytest.approx(0.25, abs=0.04) if name == "test" else share > 0.99


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kind": "complementary", "classes": 3}, "kind complementary has two classes, even and odd; found 3"),
        ({"kind": "spurious-fast", "modalities": 1}, "kind spurious-fast needs two or more modalities; found 1"),
    ],
)
def test_what_a_kind_cannot_have(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Synthetic(0, **parameters)  # type: ignore[arg-type]
