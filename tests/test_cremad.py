"""CREMA-D in each of its layouts: batches, splits, and one line of error for every broken copy."""

import json
import pickle
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import CommandLine
from torch import Tensor

from agmbench.contracts import SPLITS, Unsuitable
from agmbench.datasets import clips as of_clips
from agmbench.datasets import cremad, media
from agmbench.datasets.cremad import CLASSES, CREMAD
from agmbench.encoders.resnet import ResNet

REAL = Path(__file__).parents[2] / "shared" / "data" / "cremad"
LAYOUTS = {layout.name: layout for layout in CREMAD.layouts}
RAW = ("ogm-ge", "agm", "relearning", "official")
SMALL = (
    *("--epochs", "1", "--no-strength", "-e", "audio=mlp", "-e", "visual=mlp"),
    *("--set", "encoder.audio.hidden=4", "--set", "encoder.visual.hidden=4"),
)

every_layout = pytest.mark.parametrize("layout", LAYOUTS)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random pack in each layout. Tests must not change them."""
    roots = {name: tmp_path_factory.mktemp("data") / "cremad" for name in LAYOUTS}
    for name, root in roots.items():
        LAYOUTS[name].write_sample(root)
    return roots


@pytest.fixture
def opened(samples: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., CREMAD]:
    def open_(layout: str | Path, **params: Any) -> CREMAD:
        root = samples[layout] if isinstance(layout, str) else layout
        monkeypatch.setenv("AGMBENCH_DATA", str(root.parent))
        return CREMAD(0, **params)

    return open_


@pytest.fixture
def copy(samples: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that copies a random pack, so that a test can break it."""
    return lambda layout: Path(shutil.copytree(samples[layout], tmp_path_factory.mktemp("broken") / "cremad"))


def names(data: CREMAD, split: str) -> list[str]:
    return list(data.held.groups["clip"][split])  # type: ignore[index]


def numbers(data: CREMAD, split: str = "train") -> dict[str, Tensor]:
    part = data.split(split)  # type: ignore[arg-type]
    inputs = part.batch(torch.arange(len(part))).inputs
    return {m: x for m, x in inputs.items() if isinstance(x, Tensor)}


# the layouts


@pytest.mark.parametrize("frames", [1, 3])
def test_resnets_take_what_the_data_set_gives(frames: int, opened: Callable[..., CREMAD]) -> None:
    data = opened("ogm-ge", frames=frames)
    inputs = data.split("train").batch(torch.arange(2)).inputs
    for modality, shape in data.shapes.items():
        encoder = ResNet(shape, width=8).eval()
        with torch.no_grad():
            assert encoder(inputs[modality]).shape == (2, encoder.out_features)


@every_layout
def test_the_layout_is_found_and_says_what_it_holds(layout: str, opened: Callable[..., CREMAD]) -> None:
    data = opened(layout)
    assert data.layout.name == layout
    assert data.shapes == {"audio": (1, 257, 188), "visual": (3, 224, 224)}
    assert opened(layout, frames=3).shapes["visual"] == (3, 3, 224, 224)
    assert not data.sample
    for split in SPLITS:
        batch = data.split(split).batch(torch.tensor([1, 0]))
        assert {m: tuple(x.shape[1:]) for m, x in batch.inputs.items() if isinstance(x, Tensor)} == data.shapes
        assert [CLASSES[int(target)] for target in batch.targets] == [name[9:12] for name in names(data, split)[1::-1]]
        assert batch.index.tolist() == [1, 0]


@pytest.mark.parametrize("layout", RAW)
def test_a_batch_holds_what_the_files_say(layout: str, samples: dict[str, Path], opened: Callable[..., CREMAD]) -> None:
    data, root = opened(layout, frames=3), samples[layout]
    batch = data.split("test").batch(torch.tensor([2]))
    name = names(data, "test")[2]
    sound = media.read_sound(root / ("Audio" if layout == "agm" else "AudioWAV") / f"{name}.wav", 22050)
    tiled = np.tile(sound, 20)[: 3 * 22050]
    np.testing.assert_array_equal(np.asarray(batch.inputs["audio"])[0, 0], media.log_spectrogram(tiled))
    if layout == "official":
        frames = media.read_frames(root / "VideoFlash" / f"{name}.flv", 3)
    else:
        frames = np.stack([media.load_image(path) for path in sorted((root / "Image-01-FPS" / name).iterdir())])
    expected = (torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / (
        torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    )
    seen = torch.as_tensor(np.asarray(batch.inputs["visual"])[0])
    torch.testing.assert_close(seen, expected)
    one = opened(layout).split("test").batch(torch.tensor([2])).inputs["visual"]
    assert isinstance(one, Tensor)
    torch.testing.assert_close(one[0], expected[1])  # the middle one


def test_a_prepared_batch_holds_what_the_arrays_say(samples: dict[str, Path], opened: Callable[..., CREMAD]) -> None:
    (folder,) = samples["prepared"].glob("prepared-*")
    clips = json.loads((folder / "manifest.json").read_text())["facts"]["clips"]
    data = opened("prepared", frames=3)
    for split in SPLITS:
        rows = [clips.index(name) for name in names(data, split)]
        found = numbers(data, split)
        np.testing.assert_array_equal(found["audio"], np.load(folder / "clips" / "audio.npy")[rows])
        frames = torch.from_numpy(np.load(folder / "clips" / "visual.npy")[rows])
        torch.testing.assert_close(found["visual"], media.frame_tensor(frames))
        assert torch.equal(numbers(opened("prepared"), split)["visual"], found["visual"][:, 1])


def test_a_byte_order_mark_and_a_first_line_of_names(copy: Callable[[str], Path], opened: Callable[..., CREMAD]) -> None:
    root = copy("ogm-ge")
    before = opened(root)
    text = (root / "test.csv").read_text()
    (root / "test.csv").write_text("name,label\r\n" + text.replace("\n", "\r\n"), encoding="utf-8-sig")
    assert names(opened(root), "test") == names(before, "test")


def test_of_several_folders_of_frames_the_finest_is_read(copy: Callable[[str], Path], opened: Callable[..., CREMAD]) -> None:
    root = copy("ogm-ge")
    shutil.copytree(root / "Image-01-FPS", root / "Image-03-FPS")
    assert {path.parts[-3] for path in opened(root).held.media if path.suffix == ".jpg"} == {"Image-03-FPS"}


def test_fewer_frames_than_asked_for_are_taken_twice(copy: Callable[[str], Path], opened: Callable[..., CREMAD]) -> None:
    root = copy("ogm-ge")
    for path in root.glob("Image-01-FPS/*/000[36]0.jpg"):
        path.unlink()
    seen = numbers(opened(root, frames=3), "test")["visual"]
    assert torch.equal(seen[:, 0], seen[:, 1])
    assert torch.equal(seen[:, 0], seen[:, 2])


# the splits


def kinds(data: CREMAD, kind: str) -> dict[str, set[str]]:
    return {split: set(data.held.groups[kind][split]) for split in SPLITS}


@every_layout
@pytest.mark.parametrize("splits", ["literature", "actor-disjoint"])
def test_splits_share_no_clip_and_are_always_the_same(layout: str, splits: str, opened: Callable[..., CREMAD]) -> None:
    data = opened(layout, splits=splits)
    clips = kinds(data, "clip")
    assert sum(map(len, clips.values())) == len(set.union(*clips.values())) == 48
    assert all(len(names(data, split)) == len(data.split(split)) for split in SPLITS)
    again = opened(layout, splits=splits)
    assert all(names(data, split) == names(again, split) for split in SPLITS)
    assert data.fingerprint == again.fingerprint
    assert data.fingerprint != opened(layout, splits=splits, frames=3).fingerprint


@every_layout
def test_an_actor_is_in_one_split(layout: str, opened: Callable[..., CREMAD]) -> None:
    actors = kinds(opened(layout, splits="actor-disjoint"), "actor")
    assert {split: len(found) for split, found in actors.items()} == {"train": 5, "dev": 1, "valid": 1, "test": 1}
    assert len(set.union(*actors.values())) == 8
    assert actors == kinds(opened("ogm-ge", splits="actor-disjoint"), "actor")


def test_the_literature_s_test_set_is_the_list(samples: dict[str, Path], opened: Callable[..., CREMAD]) -> None:
    data = opened("ogm-ge")
    assert {split: len(data.split(split)) for split in SPLITS} == {"train": 32, "dev": 4, "valid": 4, "test": 8}
    listed = (samples["ogm-ge"] / "test.csv").read_text().splitlines()
    assert [f"{name},{name[9:12]}" for name in names(data, "test")] == listed
    assert data.held.notes == ["splits=literature: 7 of 7 actors of test are in train too"]


def test_a_list_of_valid_is_kept(samples: dict[str, Path], opened: Callable[..., CREMAD]) -> None:
    data = opened("relearning")
    assert {split: len(data.split(split)) for split in SPLITS} == {"train": 29, "dev": 3, "valid": 8, "test": 8}
    assert [f"{n},{n[9:12]}" for n in names(data, "valid")] == (samples["relearning"] / "val.csv").read_text().splitlines()


@pytest.mark.parametrize("layout", ["ogm-ge", "agm", "official"])
def test_the_paper_s_protocol_selects_on_test(layout: str, opened: Callable[..., CREMAD]) -> None:
    data = opened(layout, protocol="paper")
    assert {split: len(data.split(split)) for split in SPLITS} == {"train": 36, "dev": 5, "valid": 7, "test": 7}
    assert names(data, "valid") == names(data, "test")
    assert "on test" in data.held.notes[0]
    assert not kinds(data, "clip")["dev"] & (kinds(data, "clip")["train"] | kinds(data, "clip")["test"])


def test_the_official_repository_without_lists(copy: Callable[[str], Path], opened: Callable[..., CREMAD]) -> None:
    root = copy("official")
    (root / "train.csv").unlink()
    (root / "test.csv").unlink()
    data = opened(root)
    assert {split: len(data.split(split)) for split in SPLITS} == {"train": 33, "dev": 5, "valid": 5, "test": 5}
    assert len(set.union(*kinds(data, "clip").values())) == 48
    assert "not the literature's test set" in data.held.notes[0]
    with pytest.raises(Unsuitable, match=r"protocol=paper cuts train\.csv and test\.csv"):
        opened(root, protocol="paper")


@pytest.mark.parametrize(
    ("layout", "params", "said"),
    [
        ("relearning", {"protocol": "paper"}, "protocol=paper cuts train.csv and test.csv of OGM-GE; found the lists train"),
        ("ogm-ge", {"protocol": "paper", "splits": "actor-disjoint"}, "protocol=paper is of splits=literature alone"),
    ],
)
def test_what_does_not_go_together(layout: str, params: dict[str, str], said: str, opened: Callable[..., CREMAD]) -> None:
    with pytest.raises(Unsuitable, match=said):
        opened(layout, **params)


# broken copies


def _write(path: str, content: bytes) -> Callable[[Path], Any]:
    return lambda root: next(root.glob(path)).write_bytes(content)


def _line(text: str) -> Callable[[Path], Any]:
    return lambda root: (root / "train.csv").write_text((root / "train.csv").read_text() + text)


def _first(root: Path) -> str:
    return (root / "train.csv").read_text()[:15]


def _manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    def broken(root: Path) -> None:
        (path,) = root.glob("prepared-*/manifest.json")
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return broken


def _array(name: str, change: Callable[[Any], Any]) -> Callable[[Path], Any]:
    def broken(root: Path) -> None:
        (path,) = root.glob(f"prepared-*/clips/{name}.npy")
        np.save(path, change(np.load(path)))

    return broken


BROKEN: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "a sound is missing": ("ogm-ge", lambda r: (r / "AudioWAV" / f"{_first(r)}.wav").unlink(), ".wav is missing (1 of the 48 files"),
    "no frames of a clip": ("ogm-ge", lambda r: shutil.rmtree(r / "Image-01-FPS" / _first(r)), " is missing (1 of the 48 files"),
    "an empty folder": (
        "ogm-ge",
        lambda r: list(map(Path.unlink, (r / "Image-01-FPS" / _first(r)).iterdir())),
        "holds no frame; expected one jpg or more",
    ),
    "a video is missing": ("official", lambda r: next(r.glob("VideoFlash/*")).unlink(), ".flv is missing (1 of the 48 files"),
    "a list is missing": ("official", lambda r: (r / "test.csv").unlink(), "test.csv is missing"),
    "no list": ("ogm-ge", lambda r: (r / "test.csv").unlink(), "the layout 'ogm-ge' misses test.csv"),
    "an unknown emotion": ("ogm-ge", _line("1001_DFA_ANG_XX,JOY\n"), "train.csv line 41 is '1001_DFA_ANG_XX,JOY'; expected CLIP,EMOTION"),
    "a clip of another kind": ("ogm-ge", _line("../../secret,ANG\n"), "train.csv line 41 is '../../secret,ANG'"),
    "a line of three": ("ogm-ge", _line("1001_DFA_ANG_XX,ANG,1\n"), "train.csv line 41"),
    "an empty list": ("ogm-ge", _write("test.csv", b""), "test.csv names no clip"),
    "a list that is no text": ("ogm-ge", _write("test.csv", b"\xff\xfe\x00"), "test.csv cannot be read as a list of clips"),
    "a sound that is text": ("ogm-ge", lambda r: (r / "AudioWAV" / f"{_first(r)}.wav").write_text("x"), "cannot be read as sound"),
    "pointers of Git LFS": (
        "official",
        lambda r: [path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n") for path in r.glob("AudioWAV/*")],
        "fetch the file itself with 'git lfs pull'",
    ),
    "a picture cut short": (
        "ogm-ge",
        lambda r: [path.write_bytes(path.read_bytes()[:999]) for path in (r / "Image-01-FPS" / _first(r)).iterdir()],
        "cannot be read as a picture",
    ),
    "a video cut short": ("official", lambda r: [path.write_bytes(path.read_bytes()[:9]) for path in r.glob("*/*.flv")], "as video"),
    "a manifest that is not JSON": ("prepared", _write("prepared-*/manifest.json", b"{"), "manifest.json cannot be read as JSON"),
    "a manifest of something else": ("prepared", _manifest(lambda m: m["facts"].pop("clips")), "is not a manifest of CREMA-D"),
    "a label out of range": ("prepared", _manifest(lambda m: m["facts"]["labels"].append(6)), "has the label 6; expected 0 to 5"),
    "lengths that disagree": ("prepared", _manifest(lambda m: m["facts"]["clips"].pop()), "clips has 47, labels has 48"),
    "an array that is not named": ("prepared", _manifest(lambda m: m["arrays"]["clips"].pop("audio")), "has no array audio"),
    "an array of another shape": ("prepared", _array("audio", lambda a: a[:, :, :9]), "audio.npy has the shape [48, 1, 9, 188]; expected"),
    "an array of pickles": ("prepared", _array("audio", lambda a: np.array([{}])), "audio.npy cannot be read as an array"),
    "an array cut short": (
        "prepared",
        lambda r: [path.write_bytes(path.read_bytes()[:999]) for path in r.glob("*/clips/visual.npy")],
        "visual.npy cannot be read as an array",
    ),
    "an array is missing": ("prepared", lambda r: list(map(Path.unlink, r.glob("*/clips/visual.npy"))), "visual.npy is missing"),
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
    assert said in line.refused("run", "-d", "cremad", "-m", "joint", *SMALL)


def test_a_broken_clip_is_named_when_it_is_read(copy: Callable[[str], Path], opened: Callable[..., CREMAD]) -> None:
    root = copy("ogm-ge")
    data = opened(root)
    broken = root / "AudioWAV" / f"{names(data, 'test')[5]}.wav"
    soundfile.write(broken, np.zeros(0), 16000)
    test = data.split("test")
    test.batch(torch.arange(5))
    with pytest.raises(Unsuitable, match=f"{broken} cannot be read as sound: it holds no samples"):
        test.batch(torch.arange(8))


def test_the_fingerprint_is_that_of_the_copy(copy: Callable[[str], Path], opened: Callable[..., CREMAD]) -> None:
    root = copy("ogm-ge")
    before = opened(root).fingerprint
    assert opened("ogm-ge").fingerprint == before
    soundfile.write(next(root.glob("AudioWAV/*")), np.zeros(9), 16000)
    assert opened(root).fingerprint != before


# preparing


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("layout", ["ogm-ge", "official"])
def test_prepared_data_are_those_of_the_files(
    layout: str, samples: dict[str, Path], tmp_path: Path, opened: Callable[..., CREMAD]
) -> None:
    shown: list[tuple[int, int]] = []
    target = tmp_path / "cremad"
    CREMAD.prepare(samples[layout], target, lambda done, of: shown.append((done, of)), jobs=1)
    assert shown[0] == (0, 48)
    assert shown[-1] == (48, 48)
    for frames in (1, 3):
        raw, made = opened(layout, frames=frames), opened(target, frames=frames)
        assert made.layout.name == "prepared"
        for split in SPLITS:
            assert names(raw, split) == names(made, split)
            assert all(torch.equal(x, numbers(made, split)[m]) for m, x in numbers(raw, split).items())


def test_an_interrupted_preparation_is_gone_on_with(samples: dict[str, Path], tmp_path: Path) -> None:
    def interrupt(done: int, of: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CREMAD.prepare(samples["ogm-ge"], tmp_path / "a", interrupt, jobs=1)
    assert not list((tmp_path / "a").glob("prepared-*/manifest.json"))
    shown: list[int] = []
    CREMAD.prepare(samples["ogm-ge"], tmp_path / "a", lambda done, of: shown.append(done), jobs=1)
    assert shown[0] >= 19
    CREMAD.prepare(samples["ogm-ge"], tmp_path / "b", lambda done, of: None, jobs=1)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    CREMAD.prepare(samples["ogm-ge"], tmp_path / "b", interrupt, jobs=1)  # nothing is left to do


@pytest.mark.parametrize("layout", ["ogm-ge", "official"])
def test_other_processes_can_be_sent_the_work(layout: str, samples: dict[str, Path]) -> None:
    found = LAYOUTS[layout]
    assert isinstance(found, cremad.Raw)
    clips = found.clips(samples[layout], 3)
    thing = (clips.sounds.things[0], clips.pictures.things[0], clips.sounds.decode, clips.pictures.decode)
    sent = (of_clips.decoded, (thing, None))
    work, what = pickle.loads(pickle.dumps(sent))
    assert work(what)["visual"].shape == (3, 224, 224, 3)


def test_a_clip_that_cannot_be_read_stops_the_preparation(copy: Callable[[str], Path], tmp_path: Path) -> None:
    root = copy("ogm-ge")
    broken = sorted(root.glob("AudioWAV/*"))[30]
    broken.write_text("x")
    with pytest.raises(Unsuitable, match=f"{broken} cannot be read as sound"):
        CREMAD.prepare(root, tmp_path, lambda done, of: None, jobs=1)


@pytest.mark.bad_input
def test_a_folder_in_place_of_a_sound_is_one_line(
    copy: Callable[[str], Path], line: CommandLine, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy("ogm-ge")
    broken = sorted(root.glob("AudioWAV/*"))[30]
    broken.unlink()
    broken.mkdir()
    monkeypatch.setenv("AGMBENCH_DATA", str(tmp_path_factory.mktemp("made")))
    assert f"{broken} cannot be read: it is a folder; expected a file" in line.refused(
        "data", "prepare", "cremad", "--from", str(root)
    )


# the real lists


@pytest.mark.skipif(not REAL.is_dir(), reason="the lists of CREMA-D are not here (../shared/data/cremad)")
def test_the_real_lists() -> None:
    listed = {path.stem: cremad._listed(path) for path in REAL.glob("*_*.csv")}
    assert {name: len(clips) for name, clips in listed.items()} == {
        "ogm_train": 6698,
        "ogm_test": 744,
        "relearning_my_train": 5954,
        "relearning_val": 744,
        "relearning_test": 744,
    }
    clips = {name: {clip.name for clip in found} for name, found in listed.items()}
    assert clips["ogm_train"] == clips["relearning_my_train"] | clips["relearning_val"]
    assert clips["ogm_test"] == clips["relearning_test"]
    assert all(CLASSES[clip.label] == clip.name[9:12] for found in listed.values() for clip in found)


@pytest.mark.skipif(not REAL.is_dir(), reason="the lists of CREMA-D are not here (../shared/data/cremad)")
def test_the_real_lists_are_cut_as_the_docstring_says() -> None:
    train, test = cremad._listed(REAL / "ogm_train.csv"), cremad._listed(REAL / "ogm_test.csv")
    held = partial(cremad._held, of_clips.Clips({"train": train, "test": test}, None, None), frames=1)
    literature, paper, disjoint = (
        held(splits="literature", protocol="agmbench"),
        held(splits="literature", protocol="paper"),
        held(splits="actor-disjoint", protocol="agmbench"),
    )
    assert [len(literature.splits[name]) for name in SPLITS] == [5358, 670, 670, 744]
    assert literature.notes == ["splits=literature: 91 of 91 actors of test are in train too"]
    assert [len(paper.splits[name]) for name in SPLITS] == [6028, 745, 669, 669]
    assert [len(set(disjoint.groups["actor"][name])) for name in SPLITS] == [64, 9, 9, 9]
    assert sum(len(disjoint.splits[name]) for name in SPLITS) == 7442
    assert disjoint.notes == ["splits=actor-disjoint: 0 of 9 actors of test are in train too"]
