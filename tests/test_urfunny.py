"""UR-FUNNY: every layout is read correctly and can be trained on; every broken copy gives one line of error; a real clip is decoded."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CommandLine
from packs import Evil, edit, load, put, save, tokens, whole

from agmbench.contracts import SPLITS, Unsuitable
from agmbench.datasets import media
from agmbench.datasets.untrusted import load_pickle
from agmbench.datasets.urfunny import LENGTH, OFFICIAL, WIDTHS, Official, Pack, Prepared, URFunny
from agmbench.datasets.urfunny_clips import Clips

SHARED = Path(__file__).parents[2] / "shared" / "data" / "urfunny"
SMALL = (
    *("-d", "urfunny", "--epochs", "1", "--no-strength", "--limit", "16", "--set", "training.batch_size=8"),
    *("--set", "encoder.*.layers=1", "--set", "encoder.*.heads=2", "--set", "encoder.*.width=8"),
)
LAYOUTS = {layout.name: layout for layout in URFunny.layouts}

SEQUENCES = [name for name in LAYOUTS if "clips" not in name]

every_layout = pytest.mark.parametrize("name", SEQUENCES)


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("AGMBENCH_DATA", str(root))
    return root / "urfunny"


# every layout


@every_layout
@pytest.mark.parametrize("protocol", ["agmbench", "paper"])
def test_splits_are_disjoint_and_of_the_right_size(name: str, protocol: Any, root: Path) -> None:
    LAYOUTS[name].write_sample(root)
    data = URFunny(0, protocol=protocol)
    assert data.layout is LAYOUTS[name]
    train, test = (39, 9) if name == "pack" else (40, 10)  # the random `pack` has one row without text in each part
    dev = {"agmbench": 4, "paper": 5}[protocol]
    judged = test if protocol == "agmbench" else int(0.9 * test)
    assert [len(data.split(split)) for split in SPLITS] == [int(0.9 * train), dev, judged, judged]
    for split in SPLITS:
        batch = whole(data, split)
        for modality, width in WIDTHS.items():
            assert tokens(batch, modality).values.shape[1:] == data.shapes[modality] == (LENGTH, width)
            assert torch.isfinite(tokens(batch, modality).values).all()
    if clips := data.held.groups.get("clip"):
        pairs = [("train", "dev"), ("train", "test"), ("dev", "test")] + ([("valid", "test")] if protocol == "agmbench" else [])
        assert not any(set(clips[a]) & set(clips[b]) for a, b in pairs)  # type: ignore[index]


@every_layout
def test_the_same_data_are_the_same_whatever_the_seed(name: str, root: Path) -> None:
    LAYOUTS[name].write_sample(root)
    a, b = URFunny(0), URFunny(1)
    assert a.fingerprint == b.fingerprint != URFunny(0, protocol="paper").fingerprint
    assert torch.equal(tokens(whole(a, "train"), "text").values, tokens(whole(b, "train"), "text").values)


# values


def test_the_pack_is_read_as_it_is(root: Path) -> None:
    Pack().write_sample(root)
    written, data = load(root / "humor.pkl")["test"], URFunny(0)
    batch = whole(data, "test")
    assert not written["text"][0].any()
    assert data.held.notes == ["dropped rows without any text: 3"]
    assert np.isneginf(written["audio"]).any()
    np.testing.assert_array_equal(
        tokens(batch, "audio").values.numpy(), np.where(np.isinf(written["audio"]), 0, written["audio"])[1:]
    )
    np.testing.assert_array_equal(tokens(batch, "visual").values.numpy(), written["vision"][1:])
    for modality in WIDTHS:
        np.testing.assert_array_equal(tokens(batch, modality).mask, (written["text"][1:] != 0).any(axis=2))
    assert batch.targets.tolist() == [0 if label < 1 else 1 for label in written["labels"][1:, 0]]


def expected(root: Path, id_: int, modality: str, context: bool) -> Any:
    """The sequence of a clip's words, read directly from the official pickles."""
    file = {"visual": "openface_features_sdk.pkl", "audio": "covarep_features_sdk.pkl", "text": "language_sdk.pkl"}[modality]
    kind = "embedding_indexes" if modality == "text" else "features"
    clip = load(root / file)[id_]
    sentences = [*(clip[f"context_{kind}"] if context else []), clip[f"punchline_{kind}"]]
    if modality == "text":
        vectors = load(root / "word_embedding_list.pkl")
        return np.stack([vectors[word] for sentence in sentences for word in sentence])
    return np.concatenate(sentences)


@pytest.mark.parametrize(("length", "context"), [(50, True), (6, True), (50, False)])
def test_official_clips_are_their_last_words_with_zeros_in_front(root: Path, length: int, context: bool) -> None:
    Official().write_sample(root)
    data = URFunny(0, length=length, context=context)
    batch, labels = whole(data, "valid"), load(root / "humor_label_sdk.pkl")
    ids = load(root / "data_folds.pkl")["dev"]
    assert list(data.held.groups["clip"]["valid"]) == [str(id_) for id_ in ids]
    for row, id_ in enumerate(ids):
        for modality in WIDTHS:
            words = expected(root, id_, modality, context)[-length:]
            found, mask = tokens(batch, modality).values[row].numpy(), tokens(batch, modality).mask
            assert mask is not None
            np.testing.assert_allclose(found[length - len(words) :], np.where(np.isinf(words), 0, words), rtol=1e-6)
            assert not found[: length - len(words)].any()
            assert mask[row].tolist() == [place >= length - len(words) for place in range(length)]
        assert batch.targets[row] == labels[id_]


def test_prepared_is_the_same_as_official(root: Path, tmp_path: Path) -> None:
    Official().write_sample(tmp_path / "raw")
    seen: list[tuple[int, int]] = []
    URFunny.prepare(tmp_path / "raw", root, lambda done, total: seen.append((done, total)), 2)
    assert seen[0] == (0, 60)
    assert seen[-1] == (60, 60)
    prepared = URFunny(0)
    assert isinstance(prepared.layout, Prepared)
    Official().write_sample(root.parent / "other")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGMBENCH_DATA", str(root.parent / "other"))
        official = URFunny(0)
    for split in SPLITS:
        a, b = whole(prepared, split), whole(official, split)
        assert torch.equal(a.targets, b.targets)
        for modality in WIDTHS:
            assert torch.equal(tokens(a, modality).values, tokens(b, modality).values)
            assert torch.equal(tokens(a, modality).mask, tokens(b, modality).mask)  # type: ignore[arg-type]
    assert prepared.held.groups == official.held.groups
    before = sorted(root.rglob("*"))
    URFunny.prepare(tmp_path / "raw", root, lambda done, total: None, 2)  # the folder is complete already
    assert sorted(root.rglob("*")) == before


def test_another_length_is_prepared_beside(root: Path, tmp_path: Path) -> None:
    Official().write_sample(tmp_path / "raw")
    for length in (50, 8):
        URFunny.prepare(tmp_path / "raw", root, lambda done, total: None, 1, length=length)
    assert URFunny(0, length=8).shapes["text"] == (8, 300)
    with pytest.raises(Unsuitable, match="should have one prepared folder"):
        URFunny(0, length=9)
    (tmp_path / "raw" / "data_folds.pkl").unlink()
    with pytest.raises(Unsuitable, match=r"misses data_folds\.pkl"):
        URFunny.prepare(tmp_path / "raw", root, lambda done, total: None, 1)


# broken copies


def truncate(name: str) -> Callable[[Path], Any]:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:1000])


def punchline(value: Any) -> Callable[[Any], None]:
    def change(sdk: Any) -> None:
        clip = sdk[next(iter(sdk))]
        key = next(key for key in clip if key.startswith("punchline_"))
        clip[key] = value(clip[key])

    return change


def cut_array(root: Path) -> None:
    path = next(root.glob("prepared-*/train/audio.npy"))
    path.write_bytes(path.read_bytes()[:5000])


PKL, WORDS, SOUND, LABELS = "humor.pkl", "language_sdk.pkl", "covarep_features_sdk.pkl", "humor_label_sdk.pkl"
BROKEN: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "pack a part": ("pack", edit(PKL, lambda p: p.pop("test") and None), "has no key 'test'; it has 'train', 'valid'"),
    "pack a key": ("pack", edit(PKL, lambda p: p["train"].__delitem__("vision")), "'train' has no key 'vision'"),
    "pack a shape": ("pack", edit(PKL, put("valid.vision", lambda x: x[:, :, :75])), "expected [N, N, 371]"),
    "pack another T": ("pack", edit(PKL, put("valid.audio", lambda x: x[:, :9])), "expected [N, 50, 81]"),
    "pack lengths": ("pack", edit(PKL, put("train.labels", lambda x: x[:5])), "lengths disagree"),
    "pack labels": ("pack", edit(PKL, put("train.labels", lambda x: x * np.nan)), "expected one finite number per row"),
    "pack no text": ("pack", edit(PKL, put("test.text", lambda x: x * 0)), "has 0 usable samples in 'test'"),
    "pack NaN text": ("pack", edit(PKL, put("test.text", lambda x: x + np.nan)), "not finite"),
    "pack cut short": ("pack", truncate(PKL), "cannot be read as a pickle"),
    "pack evil": ("pack", edit(PKL, put("train.text", lambda x: Evil())), "asks for posix.system"),
    "official a missing file": ("official", lambda root: (root / LABELS).unlink(), f"misses {LABELS}"),
    "official a fold": ("official", edit("data_folds.pkl", lambda p: p.__delitem__("dev")), "has no key 'dev'"),
    "official a clip": ("official", edit(SOUND, lambda p: p.__delitem__(7)), f"{SOUND} has no key 7"),
    "official a key": (
        "official",
        edit(SOUND, lambda p: p[7].__delitem__("context_features")),
        "7 has no key 'context_features'",
    ),
    "official a label": ("official", edit(LABELS, lambda p: p.__setitem__(3, 2)), "has the label 2; expected 0 to 1"),
    "official a word": ("official", edit(WORDS, punchline(lambda x: [99])), "has the word number 99; expected 0 to 29"),
    "official a width": ("official", edit(SOUND, punchline(lambda x: x[:, :9])), "expected [N, 81]"),
    "official lengths": ("official", edit(SOUND, punchline(lambda x: x[:1])), "lengths disagree"),
    "official vectors": ("official", edit("word_embedding_list.pkl", lambda p: [v[:9] for v in p]), "expected [N, 300]"),
    "official cut short": ("official", truncate(WORDS), "cannot be read as a pickle"),
    "official evil": ("official", edit(WORDS, lambda p: {**p, "x": Evil()}), "asks for posix.system"),
    "prepared cut short": ("prepared", cut_array, "audio.npy cannot be read as an array"),
    "prepared no array": ("prepared", lambda root: next(root.glob("*/test/text.npy")).unlink(), "text.npy is missing"),
    "prepared no JSON": ("prepared", lambda root: next(root.glob("*/manifest.json")).write_text("{"), "cannot be read as JSON"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_copy_is_one_line(case: str, line: CommandLine, root: Path) -> None:
    layout, broken, said = BROKEN[case]
    LAYOUTS[layout].write_sample(root)
    broken(root)
    assert said in line.refused("run", "-m", "joint", *SMALL)
    assert not Path("stolen").exists()


@pytest.mark.bad_input
def test_no_data_is_one_line_that_names_what_says_what_is_expected(line: CommandLine, root: Path) -> None:
    assert "known layouts: prepared, pack, official, prepared-clips, clips. 'agmbench data status urfunny'" in line.refused(
        "run", *SMALL
    )
    assert "recognised as pack: humor.pkl\n" in line("data", "status", "urfunny").out


# the clips themselves


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random pack of clips. Tests must not change it."""
    raw = tmp_path_factory.mktemp("clips")
    Clips().write_sample(raw)
    return raw


def test_clips_are_what_is_prepared_of_them(clips: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    URFunny.prepare(clips, root, lambda done, total: None, 2)
    made = URFunny(0)
    monkeypatch.setenv("AGMBENCH_DATA", str(clips))
    raw = URFunny(0)
    assert (made.layout.name, raw.layout.name) == ("prepared-clips", "clips")
    assert made.held.groups == raw.held.groups
    assert [len(raw.split(split)) for split in SPLITS] == [11, 1, 4, 4]
    labels = load(clips / LABELS)
    for split in SPLITS:
        a, b = whole(made, split), whole(raw, split)
        assert a.targets.tolist() == b.targets.tolist() == [labels[int(id_)] for id_ in raw.held.groups["clip"][split]]
        assert {m: tuple(x.shape[1:]) for m, x in b.inputs.items()} == raw.shapes
        assert torch.equal(a.inputs["visual"], b.inputs["visual"])
        torch.testing.assert_close(a.inputs["audio"], b.inputs["audio"], atol=5e-3, rtol=1e-3)  # stored in half precision


def a_label_of(value: Any) -> Callable[[Path], None]:
    return edit(LABELS, lambda labels: {**labels, 1: value})


BROKEN_CLIPS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a video is missing": (lambda root: (root / "urfunny2_videos/3.mp4").unlink(), "3.mp4 is missing (1 of the 12 files"),
    "no video": (lambda root: (root / "urfunny2_videos/1.mp4").write_bytes(b""), "1.mp4 cannot be read as sound"),
    "a video cut short": (
        lambda root: [path.write_bytes(path.read_bytes()[:9000]) for path in (root / "urfunny2_videos").iterdir()],
        ".mp4 cannot be read as sound",
    ),
    "a label": (a_label_of(2), "has the label 2; expected 0 to 1"),
    "a label that is text": (a_label_of("funny"), f"{LABELS} is not an array of numbers"),
    "no label": (edit(LABELS, lambda labels: labels.pop(1) and None), f"{LABELS} has no key 1"),
    "a fold": (edit("data_folds.pkl", lambda folds: folds.pop("dev") and None), "has no key 'dev'"),
    "evil": (edit(LABELS, lambda labels: Evil()), "asks for posix.system"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("way", ["run", "prepare"])
@pytest.mark.parametrize("case", BROKEN_CLIPS)
def test_broken_clips_are_one_line(case: str, way: str, clips: Path, root: Path, line: CommandLine) -> None:
    broken, said = BROKEN_CLIPS[case]
    shutil.copytree(clips, root)
    broken(root)
    if way == "run":
        assert said in line.refused("run", "-d", "urfunny", "--no-strength", "-e", "*=resnet")
    else:
        assert said in line.refused("data", "prepare", "urfunny", "--from", str(root), "--jobs", "1")
    assert not list(root.glob("prepared-*/manifest.json"))
    assert not Path("stolen").exists()


# real data


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("needs ../shared/data/urfunny, which a user does not have")
    return SHARED


def test_the_real_labels_serve_a_copy(shared: Path, root: Path) -> None:
    labels = load_pickle(shared / "humor_label_sdk.pkl")
    assert len(labels) == 10166
    assert set(map(int, labels.values())) == {0, 1}
    Official().write_sample(root)
    ids = sorted(labels)[:60]
    new = dict(zip(range(1, 61), ids, strict=True))  # the sample's clips under real ids
    for name in OFFICIAL:
        content = load(root / name)
        if name == "data_folds.pkl":
            save(root / name, {fold: [new[id_] for id_ in some] for fold, some in content.items()})
        elif name.endswith("_sdk.pkl"):
            save(root / name, {new[id_]: clip for id_, clip in content.items()})
    (root / "humor_label_sdk.pkl").write_bytes((shared / "humor_label_sdk.pkl").read_bytes())
    data = URFunny(0)
    for split in SPLITS:
        clips = data.held.groups["clip"][split]
        assert whole(data, split).targets.tolist() == [int(labels[int(clip)]) for clip in clips]


def test_a_real_clip_is_prepared(shared: Path, root: Path, tmp_path: Path, line: CommandLine) -> None:
    """One clip is used under twelve real ids, because each part needs some."""
    path = next((shared / "urfunny2_videos").glob("*.mp4"))
    labels = load_pickle(shared / "humor_label_sdk.pkl")
    ids = [int(path.stem), *(id_ for id_ in labels if id_ != int(path.stem))][:12]
    raw = tmp_path / "raw"
    (raw / "urfunny2_videos").mkdir(parents=True)
    for id_ in ids:
        (raw / "urfunny2_videos" / f"{id_}.mp4").symlink_to(path)
    (raw / "humor_label_sdk.pkl").symlink_to(shared / "humor_label_sdk.pkl")
    save(raw / "data_folds.pkl", {"train": ids[:4], "dev": ids[4:8], "test": ids[8:]})
    assert line("data", "prepare", "urfunny", "--from", str(raw), "--jobs", "1").status == 0
    verified = line("data", "verify", "urfunny")  # all is read; the same clip in all splits and missing labels are reported
    assert verified.status == 2
    assert "test: inputs of train in 4 of 4 samples" in verified.err
    assert "'not humorous'" in verified.err
    data = URFunny(0)
    batch = whole(data, "test")
    assert batch.targets.tolist() == [int(labels[id_]) for id_ in ids[8:]]
    audio, visual = (batch.inputs[modality][0] for modality in ("audio", "visual"))
    sound = media.read_sound(path, 16000)[-160000:]
    assert np.abs(sound).max() > 0.01
    expected = media.log_spectrogram(np.pad(sound, (160000 - len(sound), 0)))
    np.testing.assert_allclose(audio[0].numpy(), expected, atol=5e-3)
    torch.testing.assert_close(visual, media.frame_tensor(torch.from_numpy(media.read_frames(path, 3))))
    assert not torch.equal(visual[0], visual[2])
