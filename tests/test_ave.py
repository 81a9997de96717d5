"""AVE: each layout is read, trained on and broken; labels and lists are compared with the real annotations, if these are here."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import pytest
import torch
from conftest import CommandLine
from torch import Tensor

from agmbench.contracts import SPLITS, Batch, Unsuitable
from agmbench.datasets import ave_features, clips
from agmbench.datasets.ave import AVE
from agmbench.datasets.ave_lists import BACKGROUND, EVENTS, Event, divided, read_events, read_lists, segment_labels
from agmbench.datasets.untrusted import load_pickle
from agmbench.tasks import Segments, SingleLabel

REAL = Path(__file__).parents[2] / "shared" / "data" / "ave"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real annotations of AVE in {REAL}")
LAYOUTS = {layout.name: layout for layout in AVE.layouts}

CLIPS = ("--encoder", "*=mlp", "--fusion", "concat", "--set", "encoder.audio.hidden=2", "--set", "encoder.visual.hidden=2")


def tensor(batch: Batch, modality: str) -> Tensor:
    values = batch.inputs[modality]
    assert isinstance(values, Tensor)
    return values


def quiet(done: int, of: int) -> None:
    """A progress function that shows nothing."""


@pytest.fixture(scope="session")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random pack in each layout. Tests must not change them."""
    roots = {name: tmp_path_factory.mktemp(name) for name in LAYOUTS}
    for name, layout in LAYOUTS.items():
        layout.write_sample(roots[name])
    return roots


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    return lambda root: monkeypatch.setenv("AGMBENCH_DATA", str(root))


@pytest.fixture
def copied(
    packs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, at: Callable[[Path], None]
) -> Callable[[str], Path]:
    """A function that copies a random pack for one test, outside the command line's folder, and sets AGMBENCH_DATA to it."""

    def copy(layout: str) -> Path:
        root = tmp_path_factory.mktemp("own") / "ave"
        shutil.copytree(packs[layout], root, copy_function=_link)
        at(root)
        return root

    return copy


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def rewrite(path: Path, key: str, values: Any) -> None:
    path.unlink(missing_ok=True)
    with h5py.File(path, "w") as file:
        file[key] = values


def h5(path: Path, key: str = "avadataset") -> Any:
    with h5py.File(path, "r") as file:
        return file[key][:]


# each layout


@pytest.mark.bad_input
def test_clips_are_no_sequences_for_the_psp_network(
    line: CommandLine, packs: dict[str, Path], at: Callable[[Path], None]
) -> None:
    at(packs["prepared"])
    assert "take encoder resnet" in line.refused("run", "-d", "ave", "-m", "joint", "--no-strength")


def test_official_clips_are_what_is_prepared_of_them(
    packs: dict[str, Path], tmp_path: Path, at: Callable[[Path], None]
) -> None:
    AVE.prepare(packs["official"], tmp_path, quiet, 1)
    at(packs["official"])
    raw = AVE(0)
    at(tmp_path)
    made = AVE(0)
    assert (raw.layout.name, made.layout.name) == ("official", "prepared")
    for name in SPLITS:
        index = torch.arange(len(raw.split(name)))
        a, b = raw.split(name).batch(index), made.split(name).batch(index)
        assert torch.equal(a.targets, b.targets)
        assert torch.equal(tensor(a, "visual"), tensor(b, "visual"))
        torch.testing.assert_close(tensor(a, "audio"), tensor(b, "audio"), atol=5e-3, rtol=1e-3)  # stored in half precision


def test_features_are_what_was_written(packs: dict[str, Path], at: Callable[[Path], None]) -> None:
    root = packs["features"]
    at(root)
    data = AVE(0)
    assert isinstance(data.task, Segments)
    assert list(data.class_names) == [*EVENTS, "background"]
    assert data.shapes == {"audio": (10, 128), "visual": (10, 7, 7, 512)}
    order, labels = h5(root / "test_order.h5", "order"), h5(root / "labels.h5")
    batch = data.split("test").batch(torch.tensor([1, 0]))
    assert torch.equal(tensor(batch, "audio"), torch.from_numpy(h5(root / "audio_feature.h5")[order[[1, 0]]]))
    assert torch.equal(tensor(batch, "visual"), torch.from_numpy(h5(root / "visual_feature.h5")[order[[1, 0]]]))
    assert batch.targets.tolist() == labels[order[[1, 0]]].argmax(axis=2).tolist()
    assert batch.targets.shape == (2, 10)
    one = data.split("test").batch(torch.tensor([0]))
    assert torch.equal(tensor(one, "audio")[0], tensor(batch, "audio")[1])


def test_clips_are_what_was_written(packs: dict[str, Path], at: Callable[[Path], None]) -> None:
    at(packs["clip"])
    data = AVE(0)
    assert isinstance(data.task, SingleLabel)
    assert list(data.class_names) == list(EVENTS)
    assert data.shapes == {"audio": (1, 257, 1004), "visual": (3, 3, 224, 224)}
    events = read_events(packs["clip"] / "valSet.txt")
    batch = data.split("valid").batch(torch.arange(2))
    written = load_pickle(packs["clip"] / "Audio-1004-SE" / f"{events[1].video}.pkl")
    assert np.array_equal(tensor(batch, "audio")[1, 0], written)
    assert batch.targets.tolist() == [event.kind for event in events]
    assert tensor(batch, "visual").shape == (2, 3, 3, 224, 224)
    one = AVE(0, frames=1)
    assert one.shapes["visual"] == (3, 224, 224)
    middle = tensor(one.split("valid").batch(torch.arange(2)), "visual")
    assert torch.equal(middle, tensor(batch, "visual")[:, 1])


def test_prepared_arrays_are_what_was_written(packs: dict[str, Path], at: Callable[[Path], None]) -> None:
    at(packs["prepared"])
    (folder,) = packs["prepared"].glob("prepared-*")
    batch = AVE(0).split("test").batch(torch.arange(2))
    assert np.array_equal(tensor(batch, "audio")[:, 0], np.load(folder / "test" / "audio.npy").astype(np.float32))
    white = (np.load(folder / "test" / "visual.npy")[1, 2, 5, 7] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert tensor(batch, "visual")[1, 2, :, 5, 7].numpy() == pytest.approx(white, abs=1e-5)
    assert batch.targets.tolist() == np.load(folder / "test" / "targets.npy").tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_seed_changes_nothing_and_a_parameter_the_fingerprint(
    packs: dict[str, Path], at: Callable[[Path], None], layout: str
) -> None:
    at(packs[layout])
    one, other = AVE(0), AVE(1)
    assert one.fingerprint == other.fingerprint != AVE(0, splits="video-disjoint").fingerprint
    for name in SPLITS:
        index = torch.arange(len(one.split(name)))
        a, b = one.split(name).batch(index), other.split(name).batch(index)
        assert torch.equal(a.targets, b.targets)
        assert torch.equal(tensor(a, "audio"), tensor(b, "audio"))
    videos = [set(one.held.groups["video"][name]) for name in SPLITS]
    assert sum(map(len, videos)) == len(set().union(*videos))
    assert [len(one.split(name)) for name in SPLITS] == [len(one.held.groups["video"][name]) for name in SPLITS]


# labels and splits


def test_labels_are_made_where_there_are_none(copied: Callable[[str], Path]) -> None:
    root = copied("features")
    known = AVE(0).split("train").batch(torch.arange(7)).targets
    (root / "labels.h5").unlink()
    made = AVE(0)
    assert torch.equal(made.split("train").batch(torch.arange(7)).targets, known)
    assert list(made.held.notes) == ["labels were made from Annotations.txt"]


def test_right_labels_come_first(copied: Callable[[str], Path]) -> None:
    root = copied("features")
    labels = h5(root / "labels.h5")
    labels[:, :, :] = np.eye(29)[BACKGROUND]
    rewrite(root / "right_labels.h5", "avadataset", labels)
    assert AVE(0).split("test").batch(torch.arange(2)).targets.unique().tolist() == [BACKGROUND]


def test_without_annotations_no_video_is_known(copied: Callable[[str], Path]) -> None:
    root = copied("features")
    (root / "Annotations.txt").unlink()
    data = AVE(0)
    assert data.held.groups == {}
    assert sum(len(data.split(name)) for name in SPLITS) == 12
    with pytest.raises(Unsuitable, match="splits can only be 'official'"):
        AVE(0, splits="video-disjoint")


def test_published_checks_that_agree_are_taken(copied: Callable[[str], Path]) -> None:
    root = copied("features")
    labels = h5(root / "labels.h5")
    rewrite(root / "labels_closs.h5", "avadataset", 1 - labels[:, :, BACKGROUND])
    rewrite(root / "mil_labels.h5", "avadataset", np.eye(29)[[number % 4 for number in range(12)]])
    AVE(0)


def test_events_with_a_header_with_a_mark_and_of_no_length(tmp_path: Path) -> None:
    path = tmp_path / "Annotations.txt"
    path.write_text("\ufeffCategory&VideoID&Quality&StartTime&EndTime\nBark&a-&good&2&5\r\nHorse&b_&good&0&0\n\n")
    events = read_events(path)
    assert events == [Event(2, "a-", 2, 5), Event(23, "b_", 0, 0)]
    assert segment_labels(events).tolist() == [[28, 28, 2, 2, 2, 28, 28, 28, 28, 28], [28] * 10]


def test_dev_is_a_tenth_of_the_videos_of_train() -> None:
    train = [f"v{number // 2}" for number in range(200)]  # two clips per video
    videos = {"train": train, "valid": ["v3", "x"], "test": ["v4", "v5"]}
    parts = divided(videos, "official")
    assert {name: len(places) for name, [(_, places)] in parts.items()} == {"train": 180, "dev": 20, "valid": 2, "test": 2}
    known = {name: {videos[listed][place] for listed, places in some for place in places} for name, some in parts.items()}
    assert not known["train"] & known["dev"]
    apart = divided(videos, "video-disjoint")
    known = {name: {videos[listed][place] for listed, places in some for place in places} for name, some in apart.items()}
    assert sum(map(len, known.values())) == len(set().union(*known.values()))
    assert sum(len(places) for [(listed, places)] in apart.values() if listed == "train") == 194


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_paper_s_protocol_selects_on_test(packs: dict[str, Path], at: Callable[[Path], None], layout: str) -> None:
    at(packs[layout])
    data, whole = AVE(0, protocol="paper"), AVE(0)
    assert [len(data.split(name)) for name in SPLITS] == ([7, 2, 1, 1] if layout == "features" else [3, 2, 1, 1])
    dev, valid, test = (data.split(name).batch(torch.arange(len(data.split(name)))) for name in SPLITS[1:])
    first = whole.split("test").batch(torch.arange(2))
    for modality in data.shapes:
        assert torch.equal(tensor(valid, modality), tensor(test, modality))
        assert torch.equal(tensor(test, modality), tensor(first, modality)[:1])
        assert torch.equal(tensor(dev, modality)[1], tensor(first, modality)[1])
    assert data.held.groups["video"]["dev"][1] == whole.held.groups["video"]["test"][1]
    assert data.held.notes == ["protocol=paper: valid is the test set, so the best epoch is chosen on test"]
    with pytest.raises(Unsuitable, match="protocol=paper is of splits=official alone"):
        AVE(0, protocol="paper", splits="video-disjoint")


def test_valid_and_test_that_share_a_video_cannot_be_disjoint() -> None:
    with pytest.raises(Unsuitable, match="1 videos are in valid and in test, such as c"):
        divided({"train": ["a", "b"], "valid": ["c"], "test": ["c"]}, "video-disjoint")


# broken copies


def no_order(root: Path) -> None:
    (root / "val_order.h5").unlink()


def wrong_key(root: Path) -> None:
    rewrite(root / "audio_feature.h5", "data", np.zeros((12, 10, 128), np.float32))


def wrong_shape(root: Path) -> None:
    rewrite(root / "audio_feature.h5", "avadataset", np.zeros((12, 10, 64), np.float32))


def unlike_lengths(root: Path) -> None:
    rewrite(root / "audio_feature.h5", "avadataset", np.zeros((11, 10, 128), np.float32))


def cut_short(root: Path) -> None:
    content = (root / "visual_feature.h5").read_bytes()
    (root / "visual_feature.h5").unlink()
    (root / "visual_feature.h5").write_bytes(content[: len(content) // 2])


def no_labels(root: Path) -> None:
    (root / "labels.h5").unlink()
    (root / "Annotations.txt").unlink()


def two_labels(root: Path) -> None:
    labels = h5(root / "labels.h5")
    labels[3, 4, :2] = 1
    rewrite(root / "labels.h5", "avadataset", labels)


def order_beyond(root: Path) -> None:
    rewrite(root / "test_order.h5", "order", np.array([12]))


def order_twice(root: Path) -> None:
    rewrite(root / "test_order.h5", "order", h5(root / "train_order.h5", "order")[:2])


def unlike_foreground(root: Path) -> None:
    rewrite(root / "labels_closs.h5", "avadataset", np.ones((12, 10)))


def unlike_class(root: Path) -> None:
    rewrite(root / "mil_labels.h5", "avadataset", np.eye(29)[[9] * 12])


def unknown_event(root: Path) -> None:
    (root / "Annotations.txt").unlink()
    (root / "Annotations.txt").write_text("Church bell&a&good&0&10\nDog&b&good&0&10\n")


def late_event(root: Path) -> None:
    (root / "Annotations.txt").unlink()
    (root / "Annotations.txt").write_text("Bark&a&good&5&11\n")


BROKEN: dict[Callable[[Path], None], str] = {
    no_order: "misses val_order.h5",
    wrong_key: "audio_feature.h5 has no key 'avadataset'; it has data",
    wrong_shape: r"audio_feature.h5 'avadataset' has the shape [12, 10, 64]; expected [N, 10, 128]",
    unlike_lengths: "lengths disagree: ",
    cut_short: "visual_feature.h5 cannot be read as HDF5",
    no_labels: "has no labels: expected right_labels.h5, labels.h5 or Annotations.txt",
    two_labels: "labels.h5 has no single class for second 4 of clip 3; expected one 1",
    order_beyond: "test_order.h5 'order' has the clip 12; expected 0 to 11",
    order_twice: "which is in train_order.h5 too",
    unlike_foreground: "labels.h5 disagrees with labels_closs.h5 on",
    unlike_class: "labels.h5 disagrees with mil_labels.h5 on 12 clips, the first 0",
    unknown_event: "Annotations.txt:2 is 'Dog&b&good&0&10'; expected Category&VideoID",
    late_event: "Annotations.txt:1 has the event from 5 to 11; expected seconds of 0 to 10",
}


@pytest.mark.bad_input
@pytest.mark.parametrize("spoil", BROKEN, ids=lambda spoil: spoil.__name__)
def test_broken_features_are_one_line(line: CommandLine, copied: Callable[[str], Path], spoil: Callable[[Path], None]) -> None:
    spoil(copied("features"))
    assert BROKEN[spoil] in line.refused("run", "-d", "ave", "--no-strength")


def test_numbers_that_are_not_finite_are_told_with_the_modality(line: CommandLine, copied: Callable[[str], Path]) -> None:
    root = copied("features")
    values = h5(root / "audio_feature.h5")
    values[:, 3, 4] = -np.inf
    rewrite(root / "audio_feature.h5", "avadataset", values)
    verdict = line("data", "verify", "ave")
    assert (verdict.status, verdict.err.count("\n")) == (2, 1)
    assert "train: audio with numbers that are not finite in 7 of 7 samples (0 (video " in verdict.err
    failed = line("run", "-d", "ave", "--no-strength", "--epochs", "1")
    assert failed.status == 1
    assert "the input of audio is not finite" in failed.err


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("it-ran"),))


def an_empty_list(root: Path) -> None:
    (root / "trainSet.txt").unlink()
    (root / "trainSet.txt").write_text("")


def a_missing_sound(root: Path) -> None:
    (root / "Audio-1004-SE" / "sample-0002.pkl").unlink()


def no_pictures(root: Path) -> None:
    shutil.rmtree(root / "Image-01-FPS-SE" / "sample-0003")
    (root / "Image-01-FPS-SE" / "sample-0003").mkdir()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (an_empty_list, "the official list of train names no clips"),
        (a_missing_sound, "sample-0002.pkl is missing (1 of "),
        (no_pictures, "sample-0003 has no pictures"),
    ],
)
def test_broken_clips_are_one_line(
    line: CommandLine, copied: Callable[[str], Path], spoil: Callable[[Path], None], said: str
) -> None:
    spoil(copied("clip"))
    assert said in line.refused("run", "-d", "ave", "--no-strength", *CLIPS)


@pytest.mark.bad_input
def test_a_pickle_that_would_run_code_is_refused_at_once(line: CommandLine, copied: Callable[[str], Path]) -> None:
    for path in (copied("clip") / "Audio-1004-SE").iterdir():
        path.unlink()
        path.write_bytes(pickle.dumps(Evil()))
    assert "cannot be read as a pickle: it asks for" in line.refused("run", "-d", "ave", "--no-strength", *CLIPS)
    assert not (line.folder / "it-ran").exists()


def test_verify_names_each_clip_that_cannot_be_read(line: CommandLine, copied: Callable[[str], Path]) -> None:
    root = copied("official")
    for number in (2, 6):
        path = root / "AVE_Dataset" / "AVE" / f"sample-000{number}.mp4"
        path.unlink()
        path.write_bytes(b"no clip")
    result = line("data", "verify", "ave")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert result.err.count("cannot be read as sound") == 2
    assert "sample-0002.mp4" in result.err
    assert f"test: {root}/AVE_Dataset/AVE/sample-0006.mp4" in result.err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("Audio-1004-SE/sample-0006.pkl", pickle.dumps(Evil()), "cannot be read as a pickle: it asks for"),
        (
            "Audio-1004-SE/sample-0006.pkl",
            pickle.dumps(np.zeros((257, 99))),
            r"has the shape \[257, 99\]; expected \[257, 1004\]",
        ),
        ("Audio-1004-SE/sample-0006.pkl", pickle.dumps(np.zeros((257, 1004), int)), "type int64; expected floats"),
        ("Audio-1004-SE/sample-0006.pkl", pickle.dumps(np.zeros((257, 1004)))[:-99], "cannot be read as a pickle"),
        ("Image-01-FPS-SE/sample-0006/00005.jpg", b"\xff\xd8 no picture", "00005.jpg cannot be read as a picture"),
    ],
    ids=["evil", "shape", "whole numbers", "cut short", "jpg"],
)
def test_a_broken_clip_is_found_when_it_is_read(copied: Callable[[str], Path], name: str, content: bytes, said: str) -> None:
    path = copied("clip") / name
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(Unsuitable, match=said):
        AVE(0).split("test").batch(torch.arange(2))
    assert not Path("it-ran").exists()


@pytest.mark.bad_input
def test_other_frames_than_prepared_are_refused(line: CommandLine, packs: dict[str, Path], at: Callable[[Path], None]) -> None:
    at(packs["prepared"])
    error = line.refused("run", "-d", "ave", "--no-strength", *CLIPS, "--set", "dataset.frames=5")
    assert "one prepared folder of 'ave' with {'frames': 5}; found prepared-" in error


@pytest.mark.bad_input
def test_a_prepared_array_cut_short_is_refused(line: CommandLine, copied: Callable[[str], Path]) -> None:
    (path,) = copied("prepared").glob("prepared-*/test/audio.npy")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-100])
    assert "audio.npy cannot be read as an array" in line.refused("run", "-d", "ave", "--no-strength", *CLIPS)


# preparation


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_preparation_can_be_interrupted_and_gone_on_with(
    packs: dict[str, Path], tmp_path: Path, at: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, other = tmp_path / "whole", tmp_path / "other"
    AVE.prepare(packs["official"], whole, quiet, 1)

    def interrupt(done: int, of: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        AVE.prepare(packs["official"], other, interrupt, 1)
    work, worked = clips.decoded, []
    monkeypatch.setattr(clips, "decoded", lambda what: worked.append(what) or work(what))  # type: ignore[func-returns-value]
    AVE.prepare(packs["official"] / "AVE_Dataset", other, quiet, 1)
    assert len(worked) == 3
    assert files(whole) == files(other)
    AVE.prepare(packs["official"], other, quiet, 1)
    assert len(worked) == 3
    at(whole)
    data = AVE(0)
    assert [len(data.split(name)) for name in SPLITS] == [3, 1, 2, 2]
    batch = data.split("train").batch(torch.arange(3))
    assert torch.isfinite(tensor(batch, "audio")).all()
    assert tensor(batch, "visual").shape == (3, 3, 3, 224, 224)


def test_preparation_in_processes_is_the_same(packs: dict[str, Path], tmp_path: Path) -> None:
    for jobs in (1, 2):
        AVE.prepare(packs["official"], tmp_path / str(jobs), quiet, jobs, frames=1)
    assert files(tmp_path / "1") == files(tmp_path / "2")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "sample-0003.mp4 is missing"),
        (b"no clip", "sample-0003.mp4 cannot be read as sound"),
        ("silent", "it has no sound"),
    ],
)
def test_a_clip_that_cannot_be_read_is_one_line(
    line: CommandLine, copied: Callable[[str], Path], content: bytes | str | None, said: str
) -> None:
    root = copied("official")
    path = root / "AVE_Dataset" / "AVE" / "sample-0003.mp4"
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        with av.open(str(path), "w") as file:
            stream = file.add_stream("mpeg4", rate=5)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
            file.mux(stream.encode(None))
    result = line("data", "prepare", "ave", "--from", str(root), "--jobs", "1")
    assert result.status == 2
    assert said in result.err
    assert "Traceback" not in result.err


@pytest.mark.bad_input
@pytest.mark.parametrize("frames", ["many", "0", "11"])
def test_frames_to_prepare_are_a_number(line: CommandLine, packs: dict[str, Path], frames: str) -> None:
    error = line.refused("data", "prepare", "ave", "--from", str(packs["official"]), "--set", f"frames={frames}")
    assert "parameter 'frames' of preparation/ave is " in error
    assert "should be a whole number > 0 and <= 10" in error


@pytest.mark.bad_input
def test_a_list_without_clips_is_not_prepared(line: CommandLine, copied: Callable[[str], Path]) -> None:
    root = copied("official")
    (root / "AVE_Dataset" / "valSet.txt").unlink()
    (root / "AVE_Dataset" / "valSet.txt").write_text("")
    error = line.refused("data", "prepare", "ave", "--from", str(root))
    assert "there are no samples for 'valid'; expected one or more" in error
    assert not list(root.glob("prepared-*"))


# the real annotations, lists and two real clips


@real
def test_labels_made_from_the_real_annotations_agree_with_what_others_published() -> None:
    events = read_events(REAL / "Annotations.txt")
    labels = segment_labels(events)
    assert labels.shape == (4143, 10)
    assert list(EVENTS) == list(dict.fromkeys(EVENTS[event.kind] for event in events))
    assert np.array_equal(h5(REAL / "mil_labels.h5").argmax(axis=1), [event.kind for event in events])
    assert np.array_equal(h5(REAL / "labels_closs.h5"), labels != BACKGROUND)
    ave_features._check(REAL, REAL / "Annotations.txt", labels)


@real
def test_the_real_orders_and_the_videos_that_they_share() -> None:
    events = read_events(REAL / "Annotations.txt")
    orders = ave_features._orders(REAL, 4143)
    assert [len(rows) for rows in orders.values()] == [3339, 402, 402]
    videos = {listed: [events[row].video for row in rows] for listed, rows in orders.items()}
    known = {listed: set(names) for listed, names in videos.items()}
    assert len(known["train"] & known["test"]) == 8
    assert len(known["train"] & known["valid"]) == 10
    assert not known["valid"] & known["test"]
    parts = divided(videos, "official")
    assert [len(parts[name][0][1]) for name in SPLITS] == [3005, 334, 402, 402]
    paper = divided(videos, "official", "paper")
    assert {name: [len(places) for _, places in paper[name]] for name in SPLITS} == {
        "train": [3005],
        "dev": [334, 41],
        "valid": [361],
        "test": [361],
    }
    apart = divided(videos, "video-disjoint")
    kept = [len(places) for [(listed, places)] in apart.values() if listed == "train"]
    assert sum(kept) == 3339 - 19  # one of the 18 videos is in train twice
    listed = {split: set(names) for split, names in read_lists(REAL).items()}
    assert {listed_: len(names) for listed_, names in listed.items()} == {"train": 3338, "valid": 402, "test": 402}
    assert {events[row] for row in orders["train"]} - listed["train"] == {Event(0, "VWi2ENBuTbw", 0, 0)}


@real
def test_real_annotations_serve_a_whole_pack(tmp_path: Path, at: Callable[[Path], None]) -> None:
    """The features have the real sizes, but are all zero and never written, because HDF5 stores no chunks for them."""
    for name, shape in {"audio": (4143, 10, 128), "visual": (4143, 10, 7, 7, 512)}.items():
        with h5py.File(tmp_path / f"{name}_feature.h5", "w") as file:
            file.create_dataset("avadataset", shape, np.float32, chunks=(1, *shape[1:]))
    for path in [*REAL.glob("*.h5"), REAL / "Annotations.txt"]:
        (tmp_path / path.name).symlink_to(path)
    at(tmp_path)
    data = AVE(0)
    assert [len(data.split(name)) for name in SPLITS] == [3005, 334, 402, 402]
    batch = data.split("train").batch(torch.tensor([3004, 0, 17]))
    assert tensor(batch, "visual").shape == (3, 10, 7, 7, 512)


@real
def test_two_real_clips_are_prepared(tmp_path: Path, at: Callable[[Path], None]) -> None:
    raw = tmp_path / "AVE_Dataset"
    raw.mkdir()
    (raw / "AVE").symlink_to(REAL / "AVE")
    lines = {path.stem: f"{path.stem}&good&5&10\n" for path in sorted((REAL / "AVE").glob("*.mp4"))}
    speech, ukulele = f"Female speech, woman speaking&{lines['0lFf-HP86Q0']}", f"Ukulele&{lines['16eUxQwxxbs']}"
    for name, text in {"train": speech + ukulele, "val": speech, "test": ukulele}.items():
        (raw / f"{name}Set.txt").write_text(text)
    AVE.prepare(tmp_path, tmp_path / "made", quiet, 1)
    at(tmp_path / "made")
    data = AVE(0)
    (manifest,) = (tmp_path / "made").glob("prepared-*/manifest.json")
    assert json.loads(manifest.read_text())["facts"]["videos"]["test"] == ["16eUxQwxxbs"]
    batch = data.split("test").batch(torch.arange(1))
    audio, visual = tensor(batch, "audio"), tensor(batch, "visual")
    assert audio.shape == (1, 1, 257, 1004)
    assert float(audio.mean()) == pytest.approx(0, abs=1e-3)
    assert float(audio.std()) == pytest.approx(1, abs=1e-3)
    assert visual.shape == (1, 3, 3, 224, 224)
    assert float(visual.std()) > 0.3
    assert not torch.equal(visual[0, 0], visual[0, 2])
    assert EVENTS[int(batch.targets)] == "Ukulele"
