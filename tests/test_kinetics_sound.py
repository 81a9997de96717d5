"""Kinetics-Sounds in both of its layouts: batches, missing clips, and one line of error for every broken copy."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CommandLine
from torch import Tensor
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from agmbench.contracts import SPLITS, Unsuitable
from agmbench.datasets import kinetics_sound, media
from agmbench.datasets.clips import Clips
from agmbench.datasets.kinetics_sound import CLASSES, KineticsSound, filterbank
from agmbench.datasets.samples.noise import write_sound

REAL = Path(__file__).parents[2] / "shared" / "data" / "kinetics_sound"
LAYOUTS = {layout.name: layout for layout in KineticsSound.layouts}
SMALL = (
    *("--epochs", "1", "--no-strength", "-e", "audio=mlp", "-e", "visual=mlp"),
    *("--set", "encoder.audio.hidden=4", "--set", "encoder.visual.hidden=4", "--set", "training.batch_size=8"),
)

every_layout = pytest.mark.parametrize("layout", LAYOUTS)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random pack in each layout. Tests must not change them."""
    roots = {name: tmp_path_factory.mktemp("data") / "kinetics-sound" for name in LAYOUTS}
    for name, root in roots.items():
        LAYOUTS[name].write_sample(root)
    return roots


@pytest.fixture
def opened(samples: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., KineticsSound]:
    def open_(layout: str | Path, **params: Any) -> KineticsSound:
        monkeypatch.setenv("AGMBENCH_DATA", str((samples[layout] if isinstance(layout, str) else layout).parent))
        return KineticsSound(0, **params)

    return open_


@pytest.fixture
def copy(samples: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that copies a random pack, so that a test can break it."""
    return lambda layout: Path(shutil.copytree(samples[layout], tmp_path_factory.mktemp("broken") / "kinetics-sound"))


def names(data: KineticsSound, split: str) -> list[str]:
    return list(data.held.groups["clip"][split])  # type: ignore[index]


def numbers(data: KineticsSound, split: str) -> dict[str, Tensor]:
    part = data.split(split)  # type: ignore[arg-type]
    inputs = part.batch(torch.arange(len(part))).inputs
    return {m: x for m, x in inputs.items() if isinstance(x, Tensor)}


@every_layout
def test_splits_are_disjoint_and_always_the_same(layout: str, opened: Callable[..., KineticsSound]) -> None:
    data, again = opened(layout), opened(layout)
    assert data.layout.name == layout
    assert {split: len(data.split(split)) for split in SPLITS} == {"train": 25, "dev": 3, "valid": 3, "test": 8}
    assert len({name for split in SPLITS for name in names(data, split)}) == 39
    assert all(names(data, split) == names(again, split) for split in SPLITS)
    assert data.fingerprint == again.fingerprint
    assert data.held.groups["video"]["test"] == [name[:11] for name in names(data, "test")]
    assert "were never published" in data.held.notes[0]


@every_layout
def test_the_paper_s_protocol_selects_on_test(layout: str, opened: Callable[..., KineticsSound]) -> None:
    data, whole = opened(layout, protocol="paper"), opened(layout)
    assert {split: len(data.split(split)) for split in SPLITS} == {"train": 27, "dev": 5, "valid": 7, "test": 7}
    assert names(data, "valid") == names(data, "test") == names(whole, "test")[:7]
    assert len({*names(data, "train"), *names(data, "dev"), *names(data, "test")}) == 39
    assert data.held.notes[-1] == "protocol=paper: valid is the test set, so the best epoch is chosen on test"
    assert data.fingerprint != whole.fingerprint


def test_a_batch_holds_what_the_files_say(samples: dict[str, Path], opened: Callable[..., KineticsSound]) -> None:
    data, root = opened("ogm-ge"), samples["ogm-ge"]
    listed = dict(line.split(",10,") for line in (root / "my_test.txt").read_text().splitlines())
    batch = data.split("test").batch(torch.tensor([3, 0]))
    audio, visual = (np.asarray(batch.inputs[m]) for m in ("audio", "visual"))
    assert (audio.shape, visual.shape) == ((2, 1, 1024, 128), (2, 3, 3, 224, 224))
    for place, name in enumerate(names(data, "test")[number] for number in (3, 0)):
        assert int(batch.targets[place]) == int(listed[name])
        if (root / "audio" / f"{name}.npy").is_file():
            expected = np.load(root / "audio" / f"{name}.npy")
        else:
            expected = filterbank(media.read_sound(root / "audio" / f"{name}.wav", 16000))
        np.testing.assert_array_equal(audio[place, 0], expected)
        frames = np.stack([media.load_image(root / "visual" / name / f"frame_0000{t}.jpg") for t in (1, 2, 3)])
        torch.testing.assert_close(torch.tensor(visual[place]), media.frame_tensor(torch.from_numpy(frames)))


@pytest.mark.parametrize(("count", "chosen"), [(3, [1, 2, 3]), (6, [1, 3, 5]), (10, [1, 4, 7])])
def test_three_pictures_as_ogm_ge_takes_them(count: int, chosen: list[int], tmp_path: Path) -> None:
    (tmp_path / "visual" / "a").mkdir(parents=True)
    for number in range(1, count + 1):
        (tmp_path / "visual" / "a" / f"frame_{number:05}.jpg").touch()
    found = kinetics_sound._picture_files(tmp_path, "a")
    assert [path.name for path in found] == [f"frame_{number:05}.jpg" for number in chosen]


@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
@pytest.mark.parametrize("seconds", [0.5, 10.0, 11.0])
def test_a_filterbank_is_kaldi_s(seconds: float) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, round(16000 * seconds)).astype(np.float32)
    mel = mel_filter_bank(257, 128, 20, 8000, 16000, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True)
    expected = spectrogram(
        (sound - sound.mean()).astype(np.float64),
        window_function(400, "hann", periodic=False),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=mel,
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
    ).T[:1024]
    whole = np.zeros((1024, 128))
    whole[: len(expected)] = expected
    np.testing.assert_allclose(filterbank(sound), (whole + 4.503877) / (2 * 5.141276), atol=1e-4)


def test_clips_that_are_gone_can_be_dropped(
    copy: Callable[[str], Path], opened: Callable[..., KineticsSound], line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy("ogm-ge")
    train = (root / "my_train.txt").read_text().split(",10,0")[0]
    test = [text.split(",")[0] for text in (root / "my_test.txt").read_text().splitlines()]
    for path in (root / "audio").glob(f"{train}.*"):
        path.unlink()
    shutil.rmtree(root / "visual" / test[1])
    monkeypatch.setenv("AGMBENCH_DATA", str(root.parent))
    said = line.refused("run", "-d", "kinetics-sound", *SMALL)
    assert (
        f"audio/{train}.wav (or .npy) is missing (2 of 39 clips of the lists are not whole; --set dataset.missing=drop" in said
    )
    data = opened(root, missing="drop")
    assert len(data.split("test")) == 7
    assert test[1] not in names(data, "test")
    assert "2 of 39 clips of the lists are missing and dropped" in data.held.notes


def _text(name: str, text: str) -> Callable[[Path], Any]:
    return lambda root: (root / name).write_text(text)


def _npy(change: Callable[[Any], Any]) -> Callable[[Path], Any]:
    def broken(root: Path) -> None:
        for path in root.glob("audio/*.npy"):
            np.save(path, change(np.load(path)))

    return broken


def _manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    def broken(root: Path) -> None:
        (path,) = root.glob("prepared-*/manifest.json")
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return broken


BROKEN: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "a list is missing": ("ogm-ge", lambda r: (r / "my_test.txt").unlink(), "the layout 'ogm-ge' misses my_test.txt"),
    "an empty list": ("ogm-ge", _text("my_test.txt", ""), "my_test.txt names no clip"),
    "a class out of range": ("ogm-ge", _text("my_test.txt", "a,10,31\n"), "my_test.txt has the label 31; expected 0 to 30"),
    "a class that is not a number": ("ogm-ge", _text("my_test.txt", "a,10,x\n"), "my_test.txt line 1 is 'a,10,x'; expected ID,10,CLASS"),
    "a clip elsewhere": ("ogm-ge", _text("my_test.txt", "../a,10,1\n"), "my_test.txt line 1 is '../a,10,1'"),
    "too few pictures": (
        "ogm-ge",
        lambda r: list(map(Path.unlink, r.glob("visual/*/frame_0000[12].jpg"))),
        "has 2 pictures frame_*.jpg; expected 3 or more (39 of 39 clips",
    ),
    "a filterbank of another shape": ("ogm-ge", _npy(lambda x: x[:9]), ".npy has the shape [9, 128]; expected [1024, 128]"),
    "a filterbank of infinities": ("ogm-ge", _npy(lambda x: x - np.inf), ".npy holds numbers that are not finite"),
    "a pickle": ("ogm-ge", _npy(lambda x: np.array([{}])), ".npy cannot be read as an array"),
    "a picture that is text": ("ogm-ge", lambda r: [p.write_text("x") for p in r.glob("visual/*/*")], "cannot be read as a picture"),
    "lengths that disagree": ("prepared", _manifest(lambda m: m["facts"]["test"]["clips"].pop()), "clips has 7, labels has 8"),
    "a label out of range": ("prepared", _manifest(lambda m: m["facts"]["test"]["labels"].__setitem__(0, 31)), "has the label 31"),
    "a manifest of something else": ("prepared", _manifest(lambda m: m["facts"].pop("train")), "is not a manifest of Kinetics-Sounds"),
    "an array is missing": ("prepared", lambda r: list(map(Path.unlink, r.glob("*/clips/audio.npy"))), "audio.npy is missing"),
}  # fmt: skip


@pytest.mark.bad_input
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_copy_is_one_line(
    case: str, copy: Callable[[str], Path], line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, break_it, said = BROKEN[case]
    root = copy(layout)
    break_it(root)
    monkeypatch.setenv("AGMBENCH_DATA", str(root.parent))
    assert said in line.refused("run", "-d", "kinetics-sound", "-m", "joint", *SMALL)


def test_a_sound_that_is_too_short_is_named(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", np.random.default_rng(0), seconds=0.01)
    with pytest.raises(Unsuitable, match=r"a\.wav: a sound of 160 samples is shorter than one frame of 400"):
        kinetics_sound._sound(tmp_path / "a.wav")


def test_prepared_data_are_those_of_the_files_and_an_interrupted_preparation_is_gone_on_with(
    samples: dict[str, Path], tmp_path: Path, opened: Callable[..., KineticsSound]
) -> None:
    def interrupt(done: int, of: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    targets = [tmp_path / name / "kinetics-sound" for name in "ab"]
    with pytest.raises(KeyboardInterrupt):
        KineticsSound.prepare(samples["ogm-ge"], targets[0], interrupt, jobs=1)
    shown: list[tuple[int, int]] = []
    for target in targets:
        KineticsSound.prepare(samples["ogm-ge"], target, lambda done, of: shown.append((done, of)), jobs=1)
    assert shown[0][0] >= 19
    assert shown[-1] == (39, 39)
    found = [{str(p.relative_to(t)): p.read_bytes() for p in t.rglob("*") if p.is_file()} for t in targets]
    assert found[0] == found[1]
    raw, made = opened("ogm-ge"), opened(targets[0])
    for split in SPLITS:
        assert names(raw, split) == names(made, split)
        assert all(torch.equal(x, numbers(made, split)[m]) for m, x in numbers(raw, split).items())


def test_a_preparation_without_the_clips_that_are_gone(copy: Callable[[str], Path], tmp_path: Path) -> None:
    root = copy("ogm-ge")
    next(root.glob("audio/*.wav")).unlink()
    with pytest.raises(Unsuitable, match="1 of 39 clips"):
        KineticsSound.prepare(root, tmp_path, lambda done, of: None, jobs=1)
    KineticsSound.prepare(root, tmp_path, lambda done, of: None, jobs=1, missing="drop")
    (manifest,) = tmp_path.glob("prepared-*/manifest.json")
    assert json.loads(manifest.read_text())["facts"]["notes"] == ["1 of 39 clips of the lists are missing and dropped"]


@pytest.mark.skipif(not REAL.is_dir(), reason="the lists of Kinetics-Sounds are not here (../shared/data/kinetics_sound)")
def test_the_real_lists() -> None:
    train, test = (kinetics_sound._listed(REAL / name) for name in ("my_train.txt", "my_test.txt"))
    assert (len(train), len(test)) == (14799, 2597)
    assert {clip.label for clip in train} == {clip.label for clip in test} == set(range(31))
    assert not {clip.name for clip in train} & {clip.name for clip in test}
    held = kinetics_sound._held(Clips({"train": train, "test": test}, None, None), "agmbench")
    assert [len(held.splits[split]) for split in SPLITS] == [11839, 1480, 1480, 2597]


def test_classes_are_in_alphabetical_order() -> None:
    assert len(CLASSES) == 31
    assert list(CLASSES) == sorted(CLASSES)
