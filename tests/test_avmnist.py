"""AV-MNIST: both layouts from the command line, batches, splits, the build from raw files, and broken files of each kind."""

import gzip
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CommandLine

from agmbench.contracts import SPLITS, SplitName, Unsuitable
from agmbench.datasets.arrays import Array
from agmbench.datasets.avmnist import AVMNIST, ProtocolName
from agmbench.datasets.avmnist_queue import finished
from agmbench.datasets.avmnist_raw import PACK, Speakers, TestPCA, build, spoken
from agmbench.datasets.samples.avmnist import write_raw

REAL = Path(__file__).parents[2] / "shared" / "data"
ORDER = [
    60_001,
    60_000,
    60_002,
    60_003,
    60_004,
    60_005,
    60_007,
    60_006,
    60_009,
    60_008,
]  # the items that finish at these places in the queue of the pack
LAYOUTS = {layout.name: layout for layout in AVMNIST.layouts}
TINY = (
    "--epochs",
    "1",
    "--no-strength",
    "--encoder",
    "audio=mlp",
    "--encoder",
    "image=mlp",
    *(word for m in ("audio", "image") for word in ("--set", f"encoder.{m}.hidden=8")),
)


def quiet(done: int, of: int) -> None:
    """A progress function that shows nothing."""


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per layout, as `agmbench data sample` writes it. Tests must not change them."""
    root = tmp_path_factory.mktemp("samples")
    for name, layout in LAYOUTS.items():
        layout.write_sample(root / name)
    return root


@pytest.fixture
def at(samples: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A function that copies the random pack of a layout for one test, and sets AGMBENCH_DATA to it."""

    def copied(layout: str) -> Path:
        root = tmp_path_factory.mktemp("data")
        shutil.copytree(samples / layout, root / "avmnist")
        monkeypatch.setenv("AGMBENCH_DATA", str(root))
        return root / "avmnist"

    return copied


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_raw(tmp_path / "raw")
    return tmp_path / "raw"


def folder(root: Path) -> Path:
    return next(root.glob("prepared-*"))


def read(dataset: AVMNIST, name: SplitName, numbers: Sequence[int]) -> tuple[dict[str, Array], list[int]]:
    """Read a batch, check its shapes, and return its inputs and classes."""
    batch = dataset.split(name).batch(torch.tensor(numbers))
    inputs = {modality: x for modality, x in batch.inputs.items() if isinstance(x, torch.Tensor)}
    assert {modality: tuple(x.shape[1:]) for modality, x in inputs.items()} == dataset.shapes
    assert all(x.dtype == torch.float32 for x in inputs.values())
    assert batch.index.tolist() == list(numbers)
    return {modality: x.numpy() for modality, x in inputs.items()}, batch.targets.tolist()


# from the command line


def test_the_data_may_lie_in_the_named_folder_itself(at: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGMBENCH_DATA", str(at("pack")))
    assert AVMNIST(0).layout.name == "pack"


def test_the_defaults_of_a_job_are_the_papers(line: CommandLine) -> None:
    result = line("show", "dataset", "avmnist")
    assert result.status == 0, result.err
    for expected in (
        "audio:\n    name: resnet\n",
        "image:\n    name: resnet\n",
        "fusion: concat\n",
        "batch_size: 64\n  optimizer: sgd\n  lr: 0.0001\n  momentum: 0.9\n  weight_decay: 0.0001\n",
        "name: step\n    step_size: 70\n    gamma: 0.9\n",
        "agm:\n    alpha: 2.5\n",
        "factors:\n      audio: 1.3\n      image: 0.7\n",
    ):
        assert expected in result.out


# batches


def test_a_batch_of_the_pack_is_what_its_files_hold_by_255(at: Callable[[str], Path]) -> None:
    root = at("pack")
    dataset = AVMNIST(0, protocol="multibench")
    starts = {"train": 0, "dev": 50, "valid": 55, "test": 0}
    for split in SPLITS:
        part, rows = ("test" if split == "test" else "train"), [starts[split] + 3, starts[split]]
        inputs, targets = read(dataset, split, [3, 0])
        image = np.load(root / "image" / f"{part}_data.npy")[rows].reshape(2, 1, 28, 28) / 255
        audio = np.load(root / "audio" / f"{part}_data.npy")[rows][:, None] / 255
        assert np.allclose(inputs["image"], image, atol=1e-6)
        assert np.allclose(inputs["audio"], audio, atol=1e-6)
        assert targets == np.load(root / f"{part}_labels.npy")[rows].tolist()


def test_a_prepared_sample_has_the_spectrogram_that_it_was_dealt(at: Callable[[str], Path]) -> None:
    root = folder(at("prepared"))
    audio, dealt = np.load(root / "recordings" / "audio.npy"), np.load(root / "test" / "recording.npy")
    inputs, _ = read(AVMNIST(0, protocol="multibench"), "test", range(20))
    assert np.allclose(inputs["audio"], audio[dealt][:, None] / 255, atol=1e-6)
    assert np.allclose(inputs["image"], np.load(root / "test" / "image.npy").reshape(-1, 1, 28, 28) / 255, atol=1e-6)


def test_a_batch_may_mix_rows_of_train_and_test(at: Callable[[str], Path]) -> None:
    at("pack")
    dataset = AVMNIST(0, protocol="paper")
    whole, targets = read(dataset, "dev", range(8))
    order = [7, 0, 6, 1]
    mixed, theirs = read(dataset, "dev", order)
    assert np.array_equal(mixed["image"], whole["image"][order])
    assert theirs == [targets[number] for number in order]


# splits


def images(dataset: AVMNIST, name: SplitName) -> set[bytes]:
    inputs, _ = read(dataset, name, range(len(dataset.split(name))))
    return {image.tobytes() for image in inputs["image"]}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("protocol", "counts"), [("agmbench", (50, 5, 5, 20)), ("multibench", (50, 5, 5, 20)), ("paper", (54, 8, 18, 18))]
)
def test_splits_have_their_sizes_and_share_no_image(
    layout: str, protocol: ProtocolName, counts: tuple[int, ...], at: Callable[[str], Path]
) -> None:
    at(layout)
    dataset = AVMNIST(0, protocol=protocol)
    assert tuple(len(dataset.split(name)) for name in SPLITS) == counts
    parts = [images(dataset, name) for name in SPLITS]
    if protocol == "paper":
        assert parts[2] == parts[3], "valid is the test set"
        parts.pop()
    assert len(set().union(*parts)) == sum(map(len, parts))
    assert any("chosen on test" in note for note in dataset.held.notes) == (protocol == "paper")


def test_the_protocols_cut_the_full_data_as_published() -> None:
    from agmbench.datasets.avmnist import _rows

    protocols: tuple[ProtocolName, ...] = ("paper", "multibench", "agmbench")
    paper, multibench, ours = (_rows(60_000, 10_000, protocol) for protocol in protocols)
    assert [len(paper[name]) for name in SPLITS] == [54_000, 7_000, 9_000, 9_000]
    assert paper["dev"].tolist() == [*range(54_000, 60_000), *range(69_000, 70_000)]
    assert multibench["valid"].tolist() == list(range(55_000, 60_000))
    assert [len(ours[name]) for name in SPLITS] == [50_000, 5_000, 5_000, 10_000]
    assert ours["valid"].tolist() != multibench["valid"].tolist()


def test_seeds_do_not_change_the_data_and_parameters_do(at: Callable[[str], Path]) -> None:
    root = at("pack")
    first, second = AVMNIST(0), AVMNIST(1)
    assert first.fingerprint == second.fingerprint
    assert images(first, "dev") == images(second, "dev")
    assert AVMNIST(0, protocol="paper").fingerprint != first.fingerprint
    labels = np.load(root / "test_labels.npy")
    np.save(root / "test_labels.npy", labels[::-1])
    assert AVMNIST(0).fingerprint != first.fingerprint


def test_exact_pairs_share_recordings_within_train_and_test_has_its_own(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGMBENCH_DATA", str(tmp_path / "made"))
    AVMNIST.prepare(raw, tmp_path / "made", quiet, 1, pairing="exact")
    dataset = AVMNIST(0, pairing="exact")
    heard = {name: set(ids) for name, ids in dataset.held.groups["recording"].items()}
    assert heard["valid"] <= heard["train"]
    assert not heard["test"] & (heard["train"] | heard["dev"] | heard["valid"])
    assert [len(ids) for ids in dataset.held.groups["recording"].values()] == [len(dataset.split(name)) for name in SPLITS]
    for name, ids in dataset.held.groups["recording"].items():
        _, targets = read(dataset, name, range(len(ids)))
        assert [int(recording[0]) for recording in ids] == targets
    assert "share recordings" in dataset.held.notes[0]


# the build from raw files


def test_two_builds_are_the_same_bytes_in_one_process_or_two(raw: Path, tmp_path: Path) -> None:
    build(raw, tmp_path / "a", quiet, 1)
    build(raw, tmp_path / "b", quiet, 2)
    contents = [
        {p.relative_to(top): p.read_bytes() for p in top.rglob("*") if p.is_file()} for top in (tmp_path / "a", tmp_path / "b")
    ]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 8


def test_zipped_and_archived_images_give_the_same_arrays(raw: Path, tmp_path: Path) -> None:
    build(raw, tmp_path / "plain", quiet, 1)
    arrays: dict[str, Any] = {}
    for path in (raw / "mnist").iterdir():
        content = path.read_bytes()
        part, kind = ("train" if "train" in path.name else "test"), ("x" if "images" in path.name else "y")
        pixels = np.frombuffer(content, np.uint8, offset=16 if kind == "x" else 8)
        arrays[f"{kind}_{part}"] = pixels.reshape(-1, 28, 28) if kind == "x" else pixels
        (raw / f"{path.name}.gz").write_bytes(gzip.compress(content))
    shutil.rmtree(raw / "mnist")
    (raw / "fsdd" / "recordings").rename(raw / "recordings")
    build(raw, tmp_path / "zipped", quiet, 1)
    np.savez_compressed(raw / "mnist_full_70000.npz", **arrays)
    build(raw, tmp_path / "archived", quiet, 1)
    for name in ("train/image.npy", "test/image.npy", "train/targets.npy", "train/recording.npy", "recordings/audio.npy"):
        made = {(folder(tmp_path / top) / name).read_bytes() for top in ("plain", "zipped", "archived")}
        assert len(made) == 1, name


@pytest.mark.parametrize(("components", "test_pca"), [(4, "own"), (4, "train"), (1, "own"), (19, "own")])
def test_images_lie_on_the_components_of_what_they_were_fitted_on(
    components: int, test_pca: TestPCA, raw: Path, tmp_path: Path
) -> None:
    AVMNIST.prepare(raw, tmp_path / "made", quiet, 1, components=components, test_pca=test_pca)
    for part, fitted in (("train", "train"), ("test", "train" if test_pca == "train" else "t10k")):
        name = "train" if part == "train" else "t10k"
        whole = {
            stem: np.fromfile(raw / "mnist" / f"{stem}-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 784)
            for stem in {name, fitted}
        }
        centred = whole[fitted] - whole[fitted].mean(axis=0)
        kept = np.linalg.svd(centred, full_matrices=False)[2][:components]
        expected = (whole[name] - whole[fitted].mean(axis=0)) @ kept.T @ kept
        found = np.load(folder(tmp_path / "made") / part / "image.npy")
        assert np.abs(found - expected).max() < 0.01
        assert np.linalg.matrix_rank(found, rtol=1e-4) == components


def test_one_of_several_prepared_folders_is_chosen(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGMBENCH_DATA", str(tmp_path / "made"))
    AVMNIST.prepare(raw, tmp_path / "made", quiet, 1)
    AVMNIST.prepare(raw, tmp_path / "made", quiet, 1, components=3, test_pca="train")
    assert images(AVMNIST(0), "test") != images(AVMNIST(0, components=3, test_pca="train"), "test")
    with pytest.raises(Unsuitable, match=r"should have one prepared folder of 'avmnist' with .*'pairing': 'exact'.* makes one"):
        AVMNIST(0, pairing="exact")


@pytest.mark.bad_input
def test_a_folder_prepared_before_there_were_pairings_is_told_how_to_be_made_anew(
    line: CommandLine, at: Callable[[str], Path]
) -> None:
    manifest = folder(at("prepared")) / "manifest.json"
    content = json.loads(manifest.read_text())
    content["parameters"] = {"test_pca": "train", "energy": 0.25, "rate": 8000, "n_fft": 222, "floor": -80.0}
    manifest.write_text(json.dumps(content))
    assert "'agmbench data prepare avmnist --from RAW' makes one" in line.refused("run", "-d", "avmnist", "-m", "joint", *TINY)


# which recording is paired with which image


def dealt(made: Path) -> dict[str, tuple[list[int], list[int]]]:
    """For train and test, the spoken digits and the written digits."""
    names = json.loads((folder(made) / "manifest.json").read_text())["facts"]["recordings"]
    return {
        part: (
            [int(names[row][0]) for row in np.load(folder(made) / part / "recording.npy")],
            np.load(folder(made) / part / "targets.npy").tolist(),
        )
        for part in ("train", "test")
    }


def test_exact_pairs_are_right_and_the_packs_are_those_of_one_queue(raw: Path, tmp_path: Path) -> None:
    build(raw, tmp_path / "exact", quiet, 1, PACK._replace(pairing="exact"))
    build(raw, tmp_path / "pack", quiet, 1)
    exact, pack = dealt(tmp_path / "exact"), dealt(tmp_path / "pack")
    assert all(said == written for said, written in exact.values())
    queued = exact["train"][0] + exact["test"][0]
    assert pack["train"][0] + pack["test"][0] == [queued[item] for item in finished(80)]
    assert all(pack[part][1] == exact[part][1] for part in pack), "labels stay where they are"
    assert all(pack[part][0] != exact[part][0] for part in pack)


def test_the_queue_is_in_order_where_nothing_varies_or_one_works_and_its_items_stay_near() -> None:
    assert finished(100, jitter=0).tolist() == list(range(100))
    assert finished(100, workers=1).tolist() == list(range(100))
    order = finished(70_000)
    assert sorted(order) == list(range(70_000))
    assert np.abs(order - np.arange(70_000)).max() < 23
    assert order[60_000:60_010].tolist() == ORDER, "the same on every machine"


def test_the_queue_leaves_about_two_labels_of_five_right() -> None:
    digits = np.random.default_rng(1).integers(0, 10, 70_000)
    right = digits[finished(70_000)] == digits
    assert right[:60_000].mean() == pytest.approx(0.41, abs=0.01)
    assert right[60_000:].mean() == pytest.approx(0.41, abs=0.015)


def test_speakers_that_came_later_are_left_out_or_taken(raw: Path, tmp_path: Path) -> None:
    for path in list((raw / "fsdd" / "recordings").iterdir()):
        shutil.copy(path, path.with_name(path.name.replace("theo", "george")))
    choices: tuple[tuple[Speakers, int], ...] = (("four", 20), ("all", 40))
    for speakers, count in choices:
        build(raw, tmp_path / speakers, quiet, 1, PACK._replace(speakers=speakers))
        assert len(np.load(folder(tmp_path / speakers) / "recordings" / "audio.npy")) == count


def test_an_interrupted_build_is_gone_on_with(raw: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, of: int) -> None:
        if done == 5:
            raise Stop

    seen: list[int] = []
    with pytest.raises(Stop):
        build(raw, tmp_path / "a", stop, 1)
    build(raw, tmp_path / "a", lambda done, of: seen.append(done), 1)
    assert seen == list(range(5, 21))
    build(raw, tmp_path / "b", quiet, 1)
    assert {p.name: p.read_bytes() for p in folder(tmp_path / "a").rglob("*.npy")} == {
        p.name: p.read_bytes() for p in folder(tmp_path / "b").rglob("*.npy")
    }
    build(raw, tmp_path / "a", lambda done, of: seen.append(done), 1)
    assert seen[-1] == 20, "what is whole is left as it is"


def test_a_spectrogram_shows_a_tone_at_its_frequency_and_silence_as_zero(tmp_path: Path) -> None:
    import soundfile

    seconds = np.arange(4000) / 8000
    soundfile.write(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 1000 * seconds) * (seconds < 0.25), 8000)
    audio = spoken(tmp_path / "tone.wav")["audio"]
    assert audio.shape == (112, 112)
    assert audio.dtype == np.uint8
    assert abs(int(audio[:, 10].argmax()) - 1000 / (8000 / 222)) < 1  # rows are 36 Hz apart
    assert audio.max() == 255
    assert not audio[:, 80:].any()
    soundfile.write(tmp_path / "short.wav", np.zeros(50), 8000)
    assert not spoken(tmp_path / "short.wav")["audio"].any()


# broken files


def save(path: Path, change: Callable[[Array], Array]) -> None:
    np.save(path, change(np.load(path)))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def few(pack: Path) -> None:
    for name in ("image/test_data.npy", "audio/test_data.npy", "test_labels.npy"):
        save(pack / name, lambda array: array[:3])


BROKEN_PACKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda r: (r / "audio" / "test_data.npy").unlink(), "test_data.npy is missing"),
    "half there": (lambda r: (r / "train_labels.npy").unlink(), "misses train_labels.npy"),
    "truncated": (lambda r: cut_short(r / "audio" / "train_data.npy"), "train_data.npy cannot be read as an array"),
    "pickled": (
        lambda r: np.save(r / "train_labels.npy", np.array([print] * 60, dtype=object), allow_pickle=True),
        "train_labels.npy cannot be read as an array",
    ),
    "shape": (lambda r: save(r / "image" / "train_data.npy", lambda a: a[:, :700]), "shape [60, 700]; expected [N, 784]"),
    "audio shape": (
        lambda r: save(r / "audio" / "test_data.npy", lambda a: a[:, None]),
        "shape [20, 1, 112, 112]; expected [N, 112, 112]",
    ),
    "lengths": (lambda r: save(r / "train_labels.npy", lambda a: a[:-1]), "train_labels.npy has 59"),
    "label": (lambda r: save(r / "test_labels.npy", lambda a: a + 1), "has the label 10; expected 0 to 9"),
    "label type": (lambda r: save(r / "test_labels.npy", lambda a: a / 2), "type float64; expected whole numbers"),
    "image type": (lambda r: save(r / "image" / "test_data.npy", lambda a: a.astype(str)), "expected numbers"),
    "divided": (lambda r: save(r / "image" / "train_data.npy", lambda a: a / 255), "not divided yet"),
    "not finite": (lambda r: save(r / "image" / "train_data.npy", lambda a: a * np.nan), "up to nan"),
    "empty": (
        few,
        "3 samples of test; expected 12 or more",
    ),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("defect", BROKEN_PACKS)
def test_a_broken_pack_is_one_clear_line(defect: str, line: CommandLine, at: Callable[[str], Path]) -> None:
    damage, expected = BROKEN_PACKS[defect]
    damage(at("pack"))
    assert expected in line.refused("run", "-d", "avmnist", "-m", "joint", *TINY)


def forget_array(manifest: Path) -> None:
    content = json.loads(manifest.read_text())
    del content["arrays"]["test"]["image"]
    manifest.write_text(json.dumps(content))


BROKEN_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda r: (r / "test" / "image.npy").unlink(), "image.npy is missing"),
    "truncated": (lambda r: cut_short(r / "recordings" / "audio.npy"), "audio.npy cannot be read as an array"),
    "shape": (lambda r: save(r / "train" / "image.npy", lambda a: a[:50]), "shape [50, 784]; expected [60, 784]"),
    "label": (lambda r: save(r / "train" / "targets.npy", lambda a: a - 1), "has the label -1; expected 0 to 9"),
    "recording": (lambda r: save(r / "test" / "recording.npy", lambda a: a + 15), "expected 0 to 19"),
    "manifest": (lambda r: (r / "manifest.json").write_text("{"), "manifest.json cannot be read as JSON"),
    "manifest's arrays": (lambda r: forget_array(r / "manifest.json"), "has no array 'test/image'"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("defect", BROKEN_FOLDERS)
def test_a_broken_prepared_folder_is_one_clear_line(defect: str, line: CommandLine, at: Callable[[str], Path]) -> None:
    damage, expected = BROKEN_FOLDERS[defect]
    damage(folder(at("prepared")))
    assert expected in line.refused("run", "-d", "avmnist", "-m", "joint", *TINY)


@pytest.mark.bad_input
def test_no_data_is_one_clear_line(
    line: CommandLine, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGMBENCH_DATA", str(tmp_path_factory.mktemp("empty")))
    assert "there is no data" in line.refused("run", "-d", "avmnist", "-m", "joint")


@pytest.mark.bad_input
@pytest.mark.parametrize("choice", ["components=3", "pairing=exact", "speakers=all", "test_pca=train"])
def test_a_pack_is_read_as_it_is(choice: str, line: CommandLine, at: Callable[[str], Path]) -> None:
    at("pack")
    refusal = line.refused("run", "-d", "avmnist", "-m", "joint", *TINY, "--set", f"dataset.{choice}")
    assert f"{choice} is only for a prepared folder" in refusal


def archive(raw: Path, images: Array, targets: Array | None = None) -> None:
    targets = np.zeros(len(images), np.uint8) if targets is None else targets
    np.savez(raw / "mnist" / "mnist_full_70000.npz", x_train=images, y_train=targets, x_test=images, y_test=targets)


BROKEN_RAW: dict[str, tuple[Callable[[Path], object], str]] = {
    "no images": (lambda r: shutil.rmtree(r / "mnist"), "has no MNIST"),
    "an image file": (lambda r: (r / "mnist" / "t10k-labels-idx1-ubyte").unlink(), "misses t10k-labels-idx1-ubyte"),
    "truncated": (lambda r: cut_short(r / "mnist" / "train-images-idx3-ubyte"), "46940 bytes of data; expected [60, 28, 28]"),
    "swapped": (
        lambda r: shutil.copy(r / "mnist" / "train-labels-idx1-ubyte", r / "mnist" / "train-images-idx3-ubyte"),
        "not an IDX file of bytes with 3 dimensions",
    ),
    "no gzip": (
        lambda r: (r / "mnist" / "train-images-idx3-ubyte").rename(r / "mnist" / "train-images-idx3-ubyte.gz"),
        "train-images-idx3-ubyte.gz cannot be read",
    ),
    "lengths": (
        lambda r: shutil.copy(r / "mnist" / "t10k-labels-idx1-ubyte", r / "mnist" / "train-labels-idx1-ubyte"),
        "lengths disagree",
    ),
    "label": (
        lambda r: (r / "mnist" / "t10k-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 20]) + bytes(range(20))),
        "has the label 10; expected 0 to 9",
    ),
    "archive": (lambda r: (r / "mnist" / "mnist_full_70000.npz").write_bytes(b"PK"), "cannot be read as an archive"),
    "archive's keys": (lambda r: np.savez(r / "mnist" / "mnist_full_70000.npz", x_train=np.zeros(1)), "should hold x_train"),
    "image type": (lambda r: archive(r, np.zeros((3, 28, 28))), "images of train are of the type float64; expected uint8"),
    "label type": (
        lambda r: archive(r, np.zeros((3, 28, 28), np.uint8), np.zeros(3)),
        "labels of train are of the type float64; expected whole numbers",
    ),
    "no samples": (
        lambda r: archive(r, np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.uint8)),
        "MNIST's images of train are none",
    ),
    "no recordings": (lambda r: shutil.rmtree(r / "fsdd"), "has no recordings of FSDD"),
    "a name": (
        lambda r: (r / "fsdd" / "recordings" / "3_theo_0.wav").rename(r / "fsdd" / "recordings" / "three.wav"),
        "three.wav is not named as a recording of FSDD",
    ),
    "strangers": (
        lambda r: [p.rename(p.with_name(p.name.replace("theo", "anna"))) for p in (r / "fsdd" / "recordings").iterdir()],
        "has no recording of jackson, nicolas, theo, yweweler; speakers=all takes whoever is there",
    ),
    "a take": (lambda r: (r / "fsdd" / "recordings" / "3_theo_40.wav").unlink(), "no recording of the digit 3 for test"),
    "unreadable": (
        lambda r: (r / "fsdd" / "recordings" / "3_theo_0.wav").write_bytes(b"no sound"),
        "3_theo_0.wav cannot be read",
    ),
    "cut short": (lambda r: cut_short(r / "fsdd" / "recordings" / "3_theo_0.wav"), "3_theo_0.wav cannot be read"),
}


@pytest.mark.parametrize("defect", BROKEN_RAW)
def test_broken_raw_files_are_one_clear_line(defect: str, raw: Path, tmp_path: Path) -> None:
    damage, expected = BROKEN_RAW[defect]
    damage(raw)
    with pytest.raises(Unsuitable) as raised:
        build(raw, tmp_path / "made", quiet, 1)
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "made").glob("prepared-*/manifest.json"))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("test_pca=both", "parameter 'test_pca' of preparation/avmnist is 'both': should be one of own, train"),
        ("pairing=random", "parameter 'pairing' of preparation/avmnist is 'random': should be one of pack, exact"),
        ("components=0", "parameter 'components' of preparation/avmnist is 0: should be a whole number >= 1 and <= 784"),
        ("components=785", "parameter 'components' of preparation/avmnist is 785: should be"),
        ("components=20", "components is 20; the 20 images of test have 19 at most"),
        ("speakers=5", "parameter 'speakers' of preparation/avmnist is 5: should be one of four, all"),
    ],
)
def test_an_unknown_recipe_is_refused(setting: str, expected: str, raw: Path, line: CommandLine) -> None:
    assert expected in line.refused("data", "prepare", "avmnist", "--from", str(raw), "--set", setting)


# real data


@pytest.mark.skipif(not (REAL / "fsdd" / "recordings").is_dir(), reason="the recordings of FSDD are not in ../shared/data")
def test_real_recordings_become_unlike_spectrograms() -> None:
    paths = [REAL / "fsdd" / "recordings" / f"{digit}_jackson_0.wav" for digit in range(10)]
    made = np.stack([spoken(path)["audio"] for path in paths]).astype(float)
    assert made.max(axis=(1, 2)).tolist() == [255] * 10
    assert (made.std(axis=(1, 2)) > 20).all()
    assert np.abs(made[:, None] - made[None]).mean(axis=(2, 3))[~np.eye(10, dtype=bool)].min() > 5


@pytest.mark.skipif(not (REAL / "mnist" / "mnist_full_70000.npz").is_file(), reason="MNIST is not in ../shared/data")
def test_the_first_whole_number_of_components_below_a_quarter_of_mnists_energy_is_three() -> None:
    from agmbench.datasets.avmnist_raw import _components, _digits

    digits = _digits(REAL)
    assert {part: len(targets) for part, targets in digits.targets.items()} == {"train": 60_000, "test": 10_000}
    images = digits.images["test"]
    mean, kept = _components(images, 4)
    assert kept.shape == (784, 4)
    assert np.abs(kept.T @ kept - np.eye(4)).max() < 1e-4
    assert np.abs(mean - images.mean(axis=0)).max() < 0.01
    energies = ((images - mean) @ kept).var(axis=0) / images.var(axis=0).sum()
    assert energies[:3].sum() < 0.25 < energies.sum()
