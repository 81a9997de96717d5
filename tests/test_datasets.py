"""The two built-in data sets: the content of splits, the effect of seeds and parameters, and whether the packed data are the real ones."""

import csv
import importlib.util
import os
from collections import Counter
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
import torch
from conftest import CommandLine
from numpy.typing import NDArray
from torch import Tensor

from agmbench.contracts import SPLITS, SplitName
from agmbench.datasets.avmnist_mini import PACKED, AVMNISTMini
from agmbench.datasets.synthetic import Synthetic

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
WHEELS = Path(os.environ.get("AGMBENCH_WHEELS") or ROOT / "wheels")
HASHES = {  # as scripts/pack_avmnist_mini.py prints them
    "digit": "1c868b58f21fddac2ce0df734881bd93",
    "image_digit": "8530e99bc1856c16ee4f68b44b79f48a",
    "images": "6c072e999195dd2ea601fdd83206c64a",
    "length": "654fec98d4e81098b39933e0c2402f3d",
    "mfcc": "0e7489269f4fd09c9ac726c1c2b5bd25",
    "speaker": "060e839dbb492a9127f0225c5902eb81",
    "speakers": "c58b4d7c91a1bf6abf4b4b328b536117",
    "take": "900ea2847ab924815f70037ac0c80258",
}
SIZES: Mapping[SplitName, int] = {"train": 3000, "dev": 500, "valid": 500, "test": 1000}
RULES: tuple[Literal["speakers", "takes"], ...] = ("speakers", "takes")

every_rule_and_some_seeds = pytest.mark.parametrize(("rule", "seed"), [(rule, seed) for rule in RULES for seed in (0, 1, 999)])
every_rule = pytest.mark.parametrize("rule", RULES)


@cache
def avmnist(seed: int = 0, rule: Literal["speakers", "takes"] = "speakers", energy: float = 0.25) -> AVMNISTMini:
    return AVMNISTMini(seed, split=rule, energy=energy, pairing="exact")


@cache
def packed() -> dict[str, NDArray[Any]]:
    with np.load(PACKED, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@cache
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pack_avmnist_mini", ROOT / "scripts" / "pack_avmnist_mini.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def inputs(data: AVMNISTMini | Synthetic, name: SplitName) -> tuple[Mapping[str, Tensor], Tensor]:
    split = data.split(name)
    batch = split.batch(torch.arange(len(split)))
    return batch.inputs, batch.targets


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# avmnist-mini: splits


@every_rule_and_some_seeds
def test_the_splits_have_their_sizes_shapes_and_as_many_samples_of_each_digit(
    rule: Literal["speakers", "takes"], seed: int
) -> None:
    data = avmnist(seed, rule)
    assert data.shapes == {"audio": (1, 13, 92), "image": (1, 28, 28)}
    assert data.class_names == list("0123456789")
    for name, size in SIZES.items():
        seen, targets = inputs(data, name)
        assert len(data.split(name)) == len(targets) == size
        assert {m: x.shape for m, x in seen.items()} == {m: (size, *shape) for m, shape in data.shapes.items()}
        assert all(x.dtype == torch.float32 and bool(x.isfinite().all()) for x in seen.values())
        assert targets.dtype == torch.int64
        assert torch.bincount(targets).tolist() == [size // 10] * 10


@every_rule_and_some_seeds
def test_no_image_and_no_recording_is_in_two_splits(rule: Literal["speakers", "takes"], seed: int) -> None:
    for modality in (0, 1):
        members = [set(avmnist(seed, rule).pairs(name)[modality].tolist()) for name in SPLITS]
        assert sum(map(len, members)) == len(set().union(*members))


@every_rule_and_some_seeds
def test_each_image_occurs_once_and_recordings_equally_often(rule: Literal["speakers", "takes"], seed: int) -> None:
    for name in SPLITS:
        images, recordings = avmnist(seed, rule).pairs(name)
        assert len(set(images.tolist())) == SIZES[name]
        for digit in range(10):
            times = Counter(recordings[packed()["digit"][recordings] == digit].tolist()).values()
            assert max(times) - min(times) <= 1


@every_rule_and_some_seeds
def test_an_image_and_its_recording_are_of_the_class(rule: Literal["speakers", "takes"], seed: int) -> None:
    for name in SPLITS:
        images, recordings = avmnist(seed, rule).pairs(name)
        targets = inputs(avmnist(seed, rule), name)[1].numpy()
        assert np.array_equal(packed()["image_digit"][images], targets)
        assert np.array_equal(packed()["digit"][recordings], targets)


def heard(rule: Literal["speakers", "takes"], name: SplitName) -> tuple[set[str], set[int]]:
    """The speakers and the takes of a split."""
    recordings = avmnist(0, rule).pairs(name)[1]
    return set(packed()["speakers"][packed()["speaker"][recordings]].tolist()), set(packed()["take"][recordings].tolist())


def test_the_speakers_of_test_are_never_heard_before() -> None:
    known = {"jackson", "nicolas", "theo", "yweweler"}
    assert heard("speakers", "test")[0] == {"george", "lucas"}
    assert heard("speakers", "train") == (known, set(range(35)))
    assert heard("speakers", "dev") == (known, set(range(35, 40)))
    assert heard("speakers", "valid") == (known, set(range(40, 50)))


def test_takes_are_cut_alike_for_all_speakers() -> None:
    bounds: Mapping[SplitName, range] = {
        "train": range(30),
        "dev": range(30, 35),
        "valid": range(35, 40),
        "test": range(40, 50),
    }
    for name, takes in bounds.items():
        assert heard("takes", name) == (set(packed()["speakers"].tolist()), set(takes))


# avmnist-mini: seeds


@every_rule
def test_the_same_seed_gives_the_same_data(rule: Literal["speakers", "takes"]) -> None:
    one, two = AVMNISTMini(5, split=rule), AVMNISTMini(5, split=rule)  # with the default pairing
    assert one.fingerprint == two.fingerprint
    for name in reversed(SPLITS):  # in any order
        (mine, my_targets), (other, other_targets) = inputs(one, name), inputs(two, name)
        assert all(torch.equal(mine[m], other[m]) for m in one.shapes)
        assert torch.equal(my_targets, other_targets)


@every_rule
def test_another_seed_pairs_anew_and_keeps_the_members_of_each_split(rule: Literal["speakers", "takes"]) -> None:
    for name in SPLITS:
        one, two = avmnist(0, rule).pairs(name), avmnist(1, rule).pairs(name)
        assert set(zip(*(x.tolist() for x in one), strict=True)) != set(zip(*(x.tolist() for x in two), strict=True))
        assert set(one[0].tolist()) == set(two[0].tolist())
        assert set(one[1].tolist()) == set(two[1].tolist())


def test_the_images_of_a_split_are_the_same_under_both_rules() -> None:
    for name in SPLITS:
        assert set(avmnist(0, "speakers").pairs(name)[0].tolist()) == set(avmnist(0, "takes").pairs(name)[0].tolist())


def test_the_fingerprint_changes_with_seed_and_every_parameter() -> None:
    data = [avmnist(), avmnist(1), avmnist(0, "takes"), avmnist(0, "speakers", 0.5)]
    data += [AVMNISTMini(0, components=3), AVMNISTMini(0, pairing="exact"), AVMNISTMini(0)]
    assert len({each.fingerprint for each in data}) == 7


def test_by_default_it_is_made_as_the_pack_of_avmnist() -> None:
    data, said = AVMNISTMini(0), AVMNISTMini(0, split="takes", components=4, pairing="pack")
    assert data.fingerprint == said.fingerprint
    for name in SPLITS:
        (mine, targets), (other, same) = inputs(data, name), inputs(said, name)
        assert all(torch.equal(mine[m], other[m]) for m in data.shapes)
        assert torch.equal(targets, same)


# avmnist-mini: pairs and images as in AV-MNIST's pack


@every_rule
def test_the_queue_leaves_two_fifths_of_the_recordings_beside_their_digit_and_no_split_loses_any(
    rule: Literal["speakers", "takes"],
) -> None:
    exact, pack = avmnist(3, rule), AVMNISTMini(3, split=rule, pairing="pack")
    for name in SPLITS:
        images, recordings = pack.pairs(name)
        assert all(sorted(one) == sorted(other) for one, other in zip(exact.pairs(name), (images, recordings), strict=True))
        assert np.array_equal(packed()["image_digit"][images], inputs(pack, name)[1].numpy())
        right = packed()["digit"][recordings] == packed()["image_digit"][images]
        assert 0.36 < right.mean() < 0.45
        assert np.array_equal(AVMNISTMini(3, split=rule, pairing="pack").pairs(name)[1], recordings)


@pytest.mark.parametrize("components", [1, 4, 20])
def test_weakened_images_have_as_many_dimensions_as_components_are_asked_for(components: int) -> None:
    data = AVMNISTMini(0, components=components)
    flat = inputs(data, "train")[0]["image"].flatten(1).double()
    assert int(torch.linalg.matrix_rank(flat, rtol=1e-5)) == components


def test_components_are_those_that_energy_would_keep() -> None:
    assert torch.equal(
        inputs(AVMNISTMini(0, components=3, pairing="exact", split="speakers"), "test")[0]["image"],
        inputs(avmnist(), "test")[0]["image"],
    )


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            "components=0",
            "parameter 'components' of dataset/avmnist-mini is 0: should be a whole number >= 1 and <= 784 or null",
        ),
        ("components=785", "parameter 'components' of dataset/avmnist-mini is 785: should be"),
        ("pairing=random", "parameter 'pairing' of dataset/avmnist-mini is 'random': should be one of exact, pack"),
    ],
)
def test_other_pairs_and_components_are_refused(setting: str, expected: str, line: CommandLine) -> None:
    assert expected in line.refused("run", "--set", f"dataset.{setting}")


# avmnist-mini: inputs


@every_rule
def test_inputs_are_standardised_by_train(rule: Literal["speakers", "takes"]) -> None:
    data = avmnist(0, rule)
    images = inputs(data, "train")[0]["image"].double()
    assert float(images.mean()) == pytest.approx(0, abs=1e-5)
    assert float(images.std(correction=0)) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(images.mean(dim=0), torch.zeros(1, 28, 28, dtype=torch.float64), atol=1e-5, rtol=0)

    recordings, first = np.unique(data.pairs("train")[1], return_index=True)  # each recording once
    audio = inputs(data, "train")[0]["audio"][torch.from_numpy(first)].double().squeeze(1)  # [N, 13, 92]
    frames = torch.cat([x[:, : packed()["length"][row]] for x, row in zip(audio, recordings, strict=True)], dim=1)
    torch.testing.assert_close(frames.mean(dim=1), torch.zeros(13, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(frames.std(dim=1, correction=0), torch.ones(13, dtype=torch.float64), atol=1e-5, rtol=0)


def test_audio_is_zero_after_the_end_of_a_recording_and_the_recording_before() -> None:
    data = avmnist()
    starts = np.concatenate([[0], np.cumsum(packed()["length"], dtype=np.int64)])
    frames = packed()["mfcc"].astype(np.float64)  # [sum of lengths, 13]
    train = np.unique(data.pairs("train")[1])
    fitted = np.concatenate([frames[starts[row] : starts[row + 1]] for row in train])
    for name in SPLITS:
        audio = inputs(data, name)[0]["audio"]
        for sample, row in zip(audio[:50], data.pairs(name)[1][:50], strict=True):
            length = int(packed()["length"][row])
            assert not sample[..., length:].any()
            expected = (frames[starts[row] : starts[row + 1]] - fitted.mean(axis=0)) / fitted.std(axis=0)
            np.testing.assert_allclose(sample[0, :, :length].numpy().T, expected, atol=1e-4)


@pytest.mark.parametrize("energy", [0.01, 0.25, 0.5])
def test_weakened_images_have_as_many_dimensions_as_components_stay_below_the_energy(energy: float) -> None:
    data = avmnist(0, "speakers", energy)
    images = packed()["images"].reshape(-1, 784)[np.sort(data.pairs("train")[0])].astype(np.float64)
    variances = np.linalg.svd(images - images.mean(axis=0), compute_uv=False) ** 2
    count = max(1, int((np.cumsum(variances) / variances.sum() < energy).sum()))
    for name in ("train", "test"):
        flat = inputs(data, name)[0]["image"].flatten(1).double()
        assert int(torch.linalg.matrix_rank(flat, rtol=1e-5)) == count


def test_with_all_energy_images_are_whole() -> None:
    data = avmnist(0, "speakers", 1.0)
    train = packed()["images"][data.pairs("train")[0]] / 255
    mean = train.mean(axis=0)
    spread = (train - mean).std()
    for name in SPLITS:
        images = inputs(data, name)[0]["image"].squeeze(1).numpy() * spread + mean
        np.testing.assert_allclose(images, packed()["images"][data.pairs(name)[0]] / 255, atol=1e-5)


# avmnist-mini: the packed file


def test_the_packed_file_is_small() -> None:
    assert PACKED.stat().st_size <= 2_500_000


def test_the_packed_arrays_are_those_that_were_published() -> None:
    assert {name: script().sha256(array) for name, array in packed().items()} == HASHES


def test_the_packed_arrays_come_out_of_the_wheels_again() -> None:
    if not WHEELS.is_dir():
        pytest.skip("no folder of wheels: see scripts/pack_avmnist_mini.py, then ./wheels or AGMBENCH_WHEELS")
    arrays = script().images(WHEELS) | script().recordings(WHEELS)
    assert {name: script().sha256(array) for name, array in arrays.items()} == HASHES


def test_every_recording_has_a_row_of_its_own() -> None:
    named = rows(ROOT / "scripts" / "fsdd_rows.csv")
    speakers = packed()["speakers"].tolist()
    found = [
        (int(digit), speakers[speaker], int(take))
        for digit, speaker, take in zip(packed()["digit"], packed()["speaker"], packed()["take"], strict=True)
    ]
    assert found == [(int(row["digit"]), row["speaker"], int(row["take"])) for row in named]
    assert [int(row["row"]) for row in named] == list(range(3000))
    assert len(set(found)) == 3000
    assert int(packed()["length"].sum()) == len(packed()["mfcc"])


def shared(path: str) -> Path:
    if not (SHARED / path).exists():
        pytest.skip(f"no {path} in the shared data beside the checkout")
    return SHARED / path


def test_the_rows_are_those_of_the_shared_file() -> None:
    assert rows(ROOT / "scripts" / "fsdd_rows.csv") == rows(shared("avmnist_mini/fsdd_rows.csv"))


def test_every_row_names_a_recording_and_longer_ones_have_more_frames() -> None:
    folder = shared("fsdd/recordings")
    sizes = [
        (folder / f"{r['digit']}_{r['speaker']}_{r['take']}.wav").stat().st_size
        for r in rows(ROOT / "scripts" / "fsdd_rows.csv")
    ]
    assert np.corrcoef(sizes, packed()["length"])[0, 1] > 0.99


def test_every_packed_image_is_an_image_of_mnist_with_its_label() -> None:
    with np.load(shared("mnist/mnist_full_70000.npz")) as file:
        images = np.concatenate([file["x_train"], file["x_test"]])
        labels = np.concatenate([file["y_train"], file["y_test"]])
    known = {image.tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
    found = [known.get(image.tobytes()) for image in packed()["images"]]
    assert found == packed()["image_digit"].tolist()


# synthetic


def predictions(data: Synthetic, modality: str) -> tuple[Tensor, Tensor]:
    """The predictions on test by the nearest class mean of train, and the targets."""
    (train, known), (test, targets) = inputs(data, "train"), inputs(data, "test")
    means = torch.stack([train[modality][known == number].mean(dim=0) for number in range(len(data.class_names))])
    return torch.cdist(test[modality], means).argmin(dim=1), targets


def accuracies(data: Synthetic) -> list[float]:
    return [float((found == targets).double().mean()) for found, targets in (predictions(data, m) for m in data.shapes)]


@pytest.mark.parametrize("modalities", [1, 2, 5])
def test_synthetic_has_the_shapes_and_sizes_asked_for(modalities: int) -> None:
    data = Synthetic(0, modalities=modalities, classes=3, size=7, samples=300)
    assert data.shapes == {f"m{number}": (7,) for number in range(modalities)}
    assert len(data.class_names) == 3
    for name in SPLITS:
        seen, targets = inputs(data, name)
        size = 300 if name == "train" else 75
        assert {m: tuple(x.shape) for m, x in seen.items()} == dict.fromkeys(data.shapes, (size, 7))
        assert targets.dtype == torch.int64
        assert torch.bincount(targets).tolist() == [size // 3] * 3


def test_small_synthetic_splits_have_64_samples() -> None:
    data = Synthetic(0, samples=64)
    assert [len(data.split(name)) for name in SPLITS] == [64, 64, 64, 64]


def test_synthetic_inputs_lie_in_a_view_of_as_many_dimensions_as_classes() -> None:
    seen, _ = inputs(Synthetic(0, classes=3, size=16), "train")
    assert [int(torch.linalg.matrix_rank(x, rtol=1e-4)) for x in seen.values()] == [3, 3]


def test_synthetic_is_the_same_for_the_same_seed_and_other_for_another() -> None:
    one, two, other = Synthetic(3), Synthetic(3), Synthetic(4)
    assert one.fingerprint == two.fingerprint != other.fingerprint
    for name in reversed(SPLITS):
        mine, same, different = (inputs(data, name)[0]["m1"] for data in (one, two, other))
        assert torch.equal(mine, same)
        assert not torch.equal(mine, different)


def test_the_splits_of_synthetic_are_not_copies() -> None:
    data = Synthetic(0, samples=64)
    seen = [inputs(data, name)[0]["m0"] for name in SPLITS]
    assert not any(torch.equal(one, two) for number, one in enumerate(seen) for two in seen[:number])


@pytest.mark.parametrize(
    "parameters",
    [
        {"modalities": 3},
        {"classes": 3},
        {"size": 8},
        {"samples": 128},
        {"strength": 1.0},
        {"noise": 2.0},
        {"redundancy": 0.5},
        {"strength": [2.0, 1.0]},
    ],
    ids=str,
)
def test_the_fingerprint_of_synthetic_changes_with_every_parameter(parameters: dict[str, Any]) -> None:
    assert Synthetic(0, **parameters).fingerprint != Synthetic(0).fingerprint


def test_one_number_and_a_list_of_it_are_the_same_data() -> None:
    assert Synthetic(0, strength=1.5).fingerprint == Synthetic(0, strength=[1.5, 1.5]).fingerprint


def test_strength_orders_the_modalities() -> None:
    found = accuracies(Synthetic(0, modalities=4, samples=4096, strength=[0.0, 1.0, 2.0, 5.0]))
    assert found == sorted(found)
    assert found[0] == pytest.approx(0.25, abs=0.06)
    assert found[3] > 0.95
    assert min(after - before for before, after in pairwise(found)) > 0.1


def test_noise_weakens_as_strength_strengthens() -> None:
    strong, weak = accuracies(Synthetic(0, samples=4096, noise=[0.5, 2.0]))
    assert strong > weak + 0.2
    halved, doubled = Synthetic(1, samples=4096, strength=1.0, noise=0.5), Synthetic(1, samples=4096, strength=4.0, noise=2.0)
    assert accuracies(halved) == pytest.approx(accuracies(doubled), abs=0.01)


def test_modalities_without_redundancy_err_independently() -> None:
    data = Synthetic(0, samples=8192, redundancy=0.0)
    (one, targets), (two, _) = (predictions(data, m) for m in data.shapes)
    both = ((one != targets) & (two != targets)).double().mean()
    assert float(both) == pytest.approx(float((one != targets).double().mean() * (two != targets).double().mean()), abs=0.02)


def test_modalities_of_full_redundancy_err_together() -> None:
    data = Synthetic(0, modalities=3, samples=4096, redundancy=1.0)
    first, *others = (predictions(data, m)[0] for m in data.shapes)
    assert 0.2 < accuracies(data)[0] < 0.95
    assert all(torch.equal(first, other) for other in others)
    assert not torch.equal(*(inputs(data, "test")[0][m] for m in ("m0", "m1")))  # each modality has its own `A_m`


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"redundancy": 1.5}, "redundancy should be between 0 and 1; found 1.5"),
        ({"redundancy": [0.5, -0.1]}, "redundancy should be between 0 and 1; found [0.5, -0.1]"),
        ({"size": 3}, "size should be at least the number of classes; found size 3 and 4 classes"),
        ({"strength": [1.0]}, "strength should be one number, or 2 numbers, one per modality; found [1.0]"),
        ({"noise": [1.0, 2.0, 3.0]}, "noise should be one number, or 2 numbers, one per modality; found [1.0, 2.0, 3.0]"),
        ({"modalities": 3, "redundancy": [0.1, 0.2]}, "redundancy should be one number, or 3 numbers"),
    ],
    ids=str,
)
def test_bad_parameters_of_synthetic_are_one_clear_error(parameters: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match="should be") as error:
        Synthetic(0, **parameters)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
