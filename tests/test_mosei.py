"""CMU-MOSEI: every layout is read correctly and can be trained on; every broken copy gives one line of error."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from conftest import CommandLine
from packs import Evil, edit, load, put, save, tokens, whole

from agmbench.contracts import SPLITS, Tokens, Unsuitable
from agmbench.datasets.csd import ComputationalSequence
from agmbench.datasets.mosei import LENGTH, MMSA, MOSEI, UMONS, MMSAUnaligned, MulT, MulTRaw, cleaned
from agmbench.datasets.mosei_labels import EMOTIONS, video
from agmbench.datasets.mosei_sdk import CSD, Prepared, read_segments
from agmbench.datasets.stored import Joined
from agmbench.datasets.untrusted import load_pickle
from agmbench.encoders.language_model import LanguageModel
from agmbench.encoders.linear import Linear
from agmbench.encoders.lstm import LSTM
from agmbench.muting import Mean, Random
from agmbench.tasks import MultiLabel, Regression, SingleLabel

SHARED = Path(__file__).parents[2] / "shared" / "data"
SMALL = (
    *("--epochs", "1", "--no-strength", "--limit", "16", "--set", "training.batch_size=8"),
    *("--set", "fusion.width=8", "--set", "fusion.heads=2", "--set", "fusion.layers=1", "--set", "fusion.feed_forward=8"),
)
LSTM_SMALL = ("--set", "encoder.text.width=8", "--set", "encoder.text.vocabulary=30", "--set", "encoder.text.embedding=8")
BERT = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
FEATURES = ("text", "audio", "vision")
LAYOUTS = {layout.name: layout for layout in MOSEI.layouts}

every_layout = pytest.mark.parametrize("name", LAYOUTS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    return CommandLine(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("AGMBENCH_DATA", str(root))
    return root / "mosei"


# every layout


@pytest.mark.parametrize("task", ["7-class", "regression", "emotions"])
def test_a_job_runs_on_the_other_tasks(task: str, runs: CommandLine, root: Path) -> None:
    UMONS().write_sample(root)
    words = (
        "run",
        "-d",
        "mosei",
        "-m",
        "agm",
        *SMALL,
        *LSTM_SMALL,
        "--set",
        "encoder.*.width=8",
        "--set",
        f"dataset.task={task}",
    )
    result = runs(*words)
    assert result.status == 0, result.err


def test_a_job_runs_with_a_language_model(runs: CommandLine, root: Path) -> None:
    MMSA().write_sample(root)
    config = "{" + ", ".join(f"{key}: {value}" for key, value in BERT.items()) + "}"
    model = ("--encoder", "text=language-model", "--set", f"encoder.text.config={config}", "--set", "dataset.text=bert")
    small = ("--set", "encoder.audio.width=8", "--set", "encoder.vision.width=8")
    result = runs("run", "-d", "mosei", "-m", "joint", *SMALL, *model, *small)
    assert result.status == 0, result.err


@every_layout
@pytest.mark.parametrize("protocol", ["agmbench", "paper"])
def test_splits_are_disjoint_and_of_the_right_size(name: str, protocol: Any, root: Path) -> None:
    LAYOUTS[name].write_sample(root)
    data = MOSEI(0, protocol=protocol)
    assert data.layout is LAYOUTS[name]
    dev = 5 if name in ("csd", "prepared") else 4  # a tenth of the videos, which have 5 segments in csd's pack and 2 in others
    expected = [40 - dev, dev, 10, 10] if protocol == "agmbench" else [36, 5, 9, 9]
    assert [len(data.split(split)) for split in SPLITS] == expected
    if protocol == "agmbench":
        videos = [set(data.held.groups["video"][split]) for split in SPLITS]
        assert sum(map(len, videos)) == len(set().union(*videos))
    for split in SPLITS:
        batch = whole(data, split)
        assert all(x.values.shape[1:] == data.shapes[m] and torch.isfinite(x.values).all() for m, x in batch.inputs.items())
    assert all(set(kind) == set(SPLITS) for kind in data.held.groups.values())
    if segments := data.held.groups.get("segment"):
        pairs = [("train", "dev"), ("train", "test"), ("dev", "test")] + ([("valid", "test")] if protocol == "agmbench" else [])
        assert not any(set(segments[a]) & set(segments[b]) for a, b in pairs)  # type: ignore[index]
    if protocol == "paper":
        assert torch.equal(whole(data, "valid").targets, whole(data, "test").targets)


@every_layout
def test_the_same_data_are_the_same_whatever_the_seed(name: str, root: Path) -> None:
    LAYOUTS[name].write_sample(root)
    a, b = MOSEI(0), MOSEI(1)
    assert a.fingerprint == b.fingerprint
    assert torch.equal(whole(a, "dev").targets, whole(b, "dev").targets)
    assert torch.equal(tokens(whole(a, "train"), "text").values, tokens(whole(b, "train"), "text").values)
    assert MOSEI(0, task="3-class").fingerprint != a.fingerprint


# values


def test_umons_values_are_those_written(root: Path) -> None:
    UMONS().write_sample(root)
    data = MOSEI(0, task="regression")
    words, mels, sentiment = (load(root / f"test_{what}.p") for what in ("sentences", "mels", "sentiment"))
    batch = whole(data, "test")
    text, audio = tokens(batch, "text"), tokens(batch, "audio")
    assert text.mask is not None
    assert audio.mask is not None
    numbers: dict[str, float] = {}
    for row, id_ in enumerate(data.held.groups["segment"]["test"]):
        spoken = [word[0].decode() for word in words[id_]][:LENGTH]
        assert int(text.mask[row].sum()) == len(spoken)
        assert bool(text.mask[row, : len(spoken)].all())
        for place, word in enumerate(spoken):  # each word has the same number everywhere
            assert numbers.setdefault(word, float(text.values[row, place, 0])) == float(text.values[row, place, 0]) >= 2
        assert not text.values[row, len(spoken) :].any()
        mel = mels[id_][:LENGTH]
        np.testing.assert_array_equal(audio.values[row, : len(mel)].numpy(), mel)
        assert int(audio.mask[row].sum()) == len(mel)
        assert not audio.values[row, len(mel) :].any()
        assert batch.targets[row] == pytest.approx(float(sentiment[id_][0]))
    assert len(set(numbers.values())) == len(numbers)
    assert data.held.groups["video"]["test"][0] == "test0"


def test_umons_reads_the_cache_and_the_encoder_its_vectors(root: Path) -> None:
    UMONS().write_sample(root)
    save(root / "token_to_ix.pkl", {"UNK": 1, "word0": 1, "word1": 2})
    np.save(root / "train_glove.npy", np.arange(12, dtype=np.float32).reshape(3, 4))
    data = MOSEI(0)
    assert set(tokens(whole(data, "train"), "text").values.unique().tolist()) == {0.0, 1.0, 2.0}
    assert f"--set encoder.text.vectors={root}/train_glove.npy" in data.held.notes[-1]
    encoder = LSTM(data.shapes["text"], width=5, vectors=str(root / "train_glove.npy"))
    assert encoder.embed is not None
    assert encoder.embed.weight.requires_grad
    assert encoder.embed.weight[2].tolist() == [8, 9, 10, 11]
    assert encoder(tokens(whole(data, "train"), "text")).values.shape == (36, 60, 5)
    save(root / "token_to_ix.pkl", {"UNK": 1, "word0": 3})
    with pytest.raises(Unsuitable, match="has 3 rows; expected more than 3"):
        MOSEI(0)


def test_words_are_cleaned_as_umons_does() -> None:
    assert cleaned([[b"It's"], ["well-known,"], b"(umm)", "..."]) == ["its", "well known", "umm"]


def test_mult_values_are_those_written(root: Path) -> None:
    MulT().write_sample(root)
    written, batch = load(root / "mosei_senti_data.pkl")["test"], whole(MOSEI(0), "test")
    audio = np.where(np.isinf(written["audio"]), 0, written["audio"])
    assert np.isinf(written["audio"]).any()
    np.testing.assert_array_equal(tokens(batch, "audio").values.numpy(), audio)
    np.testing.assert_array_equal(tokens(batch, "text").values.numpy(), written["text"])
    for modality in ("text", "audio", "vision"):
        np.testing.assert_array_equal(tokens(batch, modality).mask, (written["text"] != 0).any(axis=2))
    assert batch.targets.tolist() == (written["labels"].ravel() >= 0).astype(int).tolist()


def test_mult_padding_may_be_behind_and_rows_without_text_go(root: Path) -> None:
    MulT().write_sample(root)
    pack = load(root / "mosei_senti_data.pkl")
    for part in pack.values():
        for name in ("text", "audio", "vision"):
            part[name] = part[name][:, ::-1].copy()
    pack["test"]["text"][3] = 0
    save(root / "mosei_senti_data.pkl", pack)
    data = MOSEI(0)
    kept = np.delete(np.arange(10), 3)
    np.testing.assert_array_equal(tokens(whole(data, "test"), "vision").mask, (pack["test"]["text"][kept] != 0).any(axis=2))
    assert data.held.notes == ["dropped rows without any text: 1"]


def test_raw_labels_hold_emotions(root: Path) -> None:
    MulTRaw().write_sample(root)
    data = MOSEI(0, task="emotions")
    written = load(root / "mosei_raw.pkl")["test"]["labels"][:, 0, 1:]
    np.testing.assert_array_equal(whole(data, "test").targets.numpy(), written > 0)
    assert isinstance(data.task, MultiLabel)
    assert data.class_names == EMOTIONS


def test_mmsa_values_are_those_written(root: Path) -> None:
    MMSAUnaligned().write_sample(root)
    written, batch = load(root / "unaligned_50.pkl")["test"], whole(MOSEI(0), "test")
    np.testing.assert_array_equal(tokens(batch, "vision").values.numpy(), written["vision"])
    assert tokens(batch, "vision").mask.sum(dim=1).tolist() == written["vision_lengths"]  # type: ignore[union-attr]
    np.testing.assert_array_equal(tokens(batch, "text").mask, written["text_bert"][:, 1] == 1)
    bert = MOSEI(0, text="bert")
    np.testing.assert_array_equal(whole(bert, "test").inputs["text"].numpy(), written["text_bert"])
    assert bert.shapes["text"] == (3, 50)


def test_csd_is_averaged_over_each_word(root: Path) -> None:
    CSD().write_sample(root)
    data = MOSEI(0, task="regression")
    id_ = data.held.groups["segment"]["test"][1]
    vid, number = video(id_), int(id_[-2])
    batch = whole(data, "test")
    with h5py.File(root / "CMU_MOSEI_COVAREP.csd") as file, h5py.File(root / "CMU_MOSEI_TimestampedWordVectors.csd") as words:
        seen, spoken = file[f"audio/data/{vid}"], words[f"text/data/{vid}"]
        times = spoken["intervals"][:]
        mine = np.flatnonzero((times.mean(axis=1) >= 2 * number) & (times.mean(axis=1) < 2 * number + 2))
        middles = seen["intervals"][:].mean(axis=1)
        for place, word in enumerate(mine):
            inside = (middles >= times[word, 0]) & (middles < times[word, 1])
            found = np.where(np.isfinite(seen["features"][:]), seen["features"][:], 0)[inside].mean(axis=0)
            np.testing.assert_allclose(tokens(batch, "audio").values[1, place].numpy(), found, atol=1e-5)
            np.testing.assert_allclose(tokens(batch, "text").values[1, place].numpy(), spoken["features"][word])
    assert int(tokens(batch, "text").mask[1].sum()) == len(mine)  # type: ignore[union-attr]
    with h5py.File(root / "CMU_MOSEI_Labels.csd") as file:
        assert batch.targets[1] == file[f"All Labels/data/{vid}/features"][number, 0]


def quiet(done: int, total: int) -> None:
    """A progress function that shows nothing."""


@pytest.mark.parametrize("task", ["7-class", "emotions"])
def test_prepared_is_the_same_as_csd(task: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CSD().write_sample(tmp_path / "raw")
    MOSEI.prepare(tmp_path / "raw", root, quiet, 2)
    made = MOSEI(0, task=task)
    monkeypatch.setenv("AGMBENCH_DATA", str(tmp_path / "raw"))
    raw = MOSEI(0, task=task)
    assert isinstance(made.layout, Prepared)
    assert isinstance(raw.layout, CSD)
    assert made.held.groups == raw.held.groups
    for split in SPLITS:
        a, b = whole(made, split), whole(raw, split)
        assert torch.equal(a.targets, b.targets)
        for modality in FEATURES:
            assert torch.equal(tokens(a, modality).values, tokens(b, modality).values)
            assert torch.equal(tokens(a, modality).mask, tokens(b, modality).mask)  # type: ignore[arg-type]


def test_another_length_is_prepared_beside(root: Path, tmp_path: Path, line: CommandLine) -> None:
    CSD().write_sample(tmp_path / "raw")
    for length in (60, 4):
        MOSEI.prepare(tmp_path / "raw", root, quiet, 1, length=length)
    assert MOSEI(0, length=4).shapes["text"] == (4, 300)
    assert int(tokens(whole(MOSEI(0, length=4), "test"), "audio").mask.sum(dim=1).max()) == 4  # type: ignore[union-attr]
    with pytest.raises(Unsuitable, match="should have one prepared folder"):
        MOSEI(0, length=9)
    for settings, said in (
        ("width=3", "preparation/mosei has no parameter 'width': Known: length."),
        ("length=0", "is 0: should be a whole number > 0"),
        ("length=x", "is 'x': should be a whole number > 0"),
    ):
        assert said in line.refused("data", "prepare", "mosei", "--from", str(tmp_path / "raw"), "--set", settings)
    assert "layout 'csd'" in line.refused(
        "data", "prepare", "mosei", "--from", str(_without(tmp_path / "raw", "CMU_MOSEI_COVAREP.csd"))
    )


def _without(root: Path, name: str) -> Path:
    (root / name).unlink()
    return root


def test_the_tasks(root: Path) -> None:
    UMONS().write_sample(root)
    sentiment = load(root / "test_sentiment.p")
    values = [-3.0, -2.6, -0.4, 0.0, 0.4, 1.6, 3.0, -1.0, 0.6, -0.1]
    save(root / "test_sentiment.p", dict(zip(sentiment, values, strict=True)))  # labels may also be plain numbers

    def targets(task: Any) -> list[float]:
        targets: list[float] = whole(MOSEI(0, task=task), "test").targets.tolist()
        return targets

    assert targets("binary") == [0, 0, 0, 1, 1, 1, 1, 0, 1, 0]
    assert targets("3-class") == [0, 0, 0, 1, 2, 2, 2, 0, 2, 0]
    assert targets("7-class") == [0, 0, 3, 3, 3, 5, 6, 2, 4, 3]
    assert targets("regression") == pytest.approx(values)
    regression = MOSEI(0, task="regression")
    assert isinstance(regression.task, Regression)
    assert regression.task.variance == pytest.approx(float(whole(regression, "train").targets.var(correction=0)))
    assert type(MOSEI(0, task="7-class").task) is SingleLabel


def test_a_joined_split_answers_in_the_order_asked(root: Path) -> None:
    MulT().write_sample(root)
    dev = MOSEI(0, protocol="paper").split("dev")
    assert isinstance(dev, Joined)
    one_by_one = [dev.batch(torch.tensor([number])) for number in range(len(dev))]
    index = torch.tensor([4, 0, 3, 1])
    batch = dev.batch(index)
    for place, number in enumerate(index.tolist()):
        assert batch.targets[place] == one_by_one[number].targets[0]
        assert torch.equal(tokens(batch, "audio").values[place], tokens(one_by_one[number], "audio").values[0])
    assert batch.index is index


# broken copies


def truncate(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:1000]) and None


def nan(array: Any) -> Any:
    array[2, 3, 4] = np.nan
    return array


def drop_from_h5(root: Path) -> None:
    with h5py.File(root / "CMU_MOSEI_COVAREP.csd", "a") as file:
        del file["audio/data/train0/intervals"]


def link_h5(root: Path) -> None:
    with h5py.File(root / "CMU_MOSEI_COVAREP.csd", "a") as file:
        group = file["audio/data/train0"]
        del group["features"]
        group["features"] = h5py.ExternalLink(root.parent / "elsewhere.csd", "features")


def shorten_h5(root: Path) -> None:
    with h5py.File(root / "CMU_MOSEI_TimestampedWordVectors.csd", "a") as file:
        del file["text/data/train0/intervals"]
        file["text/data/train0/intervals"] = np.zeros((2, 2))


def rename_column(root: Path) -> None:
    path = root / "CMU_MOSEI_Labels.csv"
    path.write_text(path.read_text().replace("split", "part"))


SENTI, ALIGNED, UNALIGNED = "mosei_senti_data.pkl", "aligned_50.pkl", "unaligned_50.pkl"
BROKEN: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "umons a missing file": ("umons", lambda root: (root / "valid_mels.p").unlink(), "valid_mels.p is missing"),
    "umons cut short": ("umons", truncate("train_mels.p"), "train_mels.p cannot be read as a pickle"),
    "umons evil": ("umons", edit("train_sentences.p", lambda _: Evil()), "asks for posix.system"),
    "umons a list": ("umons", edit("train_mels.p", lambda _: [1]), "train_mels.p is of type list; expected a dictionary"),
    "umons a shape": ("umons", edit("test_mels.p", lambda p: {k: v[:, :9] for k, v in p.items()}), "expected [N, 80]"),
    "umons no shared id": ("umons", edit("test_mels.p", lambda p: {k + "x": v for k, v in p.items()}), "shares no id with"),
    "umons a label": (
        "umons",
        edit("test_sentiment.p", lambda p: dict.fromkeys(p, np.array([4.0]))),
        "has the label 4; expected",
    ),
    "mult a part": ("mult", edit(SENTI, lambda p: p.pop("valid") and None), "has no key 'valid'; it has 'train', 'test'"),
    "mult a key": ("mult", edit(SENTI, lambda p: p["test"].pop("audio").any() and None), "'test' has no key 'audio'"),
    "mult a shape": ("mult", edit(SENTI, put("test.audio", lambda x: x[:, :, :9])), "expected [N, N, 74]"),
    "mult lengths": ("mult", edit(SENTI, put("train.labels", lambda x: x[:7])), "lengths disagree"),
    "mult text": ("mult", edit(SENTI, put("valid.text", lambda x: nan(x))), "not finite"),
    "mult a label": ("mult", edit(SENTI, put("train.labels", lambda x: x + 9)), "expected -3 to 3"),
    "mult NaN label": ("mult", edit(SENTI, put("train.labels", lambda x: x * np.nan)), "has the label nan"),
    "mult objects": ("mult", edit(SENTI, put("train.text", lambda x: [x[0], x[1][:3]])), "is not an array of numbers"),
    "mult cut short": ("mult", truncate(SENTI), "cannot be read as a pickle"),
    "mult evil": ("mult", edit(SENTI, put("train.text", lambda x: Evil())), "asks for posix.system"),
    "mult too few": (
        "mult",
        edit(SENTI, lambda p: p["test"].update({k: v[:2] for k, v in p["test"].items()})),
        "at least 4",
    ),
    "mmsa a key": ("mmsa", edit(ALIGNED, lambda p: p["train"].pop("regression_labels").any() and None), "'regression_labels'"),
    "mmsa a shape": ("mmsa", edit(ALIGNED, put("train.text_bert", lambda x: x[:, :2])), "expected [N, 3, 50]"),
    "mmsa no lengths": (
        "mmsa-unaligned",
        edit(UNALIGNED, lambda p: p["test"].pop("audio_lengths") and None),
        "'audio_lengths'",
    ),
    "mmsa a length": (
        "mmsa-unaligned",
        edit(UNALIGNED, put("test.audio_lengths", lambda x: [-1, *x[1:]])),
        "has the length -1",
    ),
    "prepared cut short": (
        "prepared",
        lambda root: [path.write_bytes(path.read_bytes()[:5000]) for path in root.glob("*/train/audio.npy")],
        "audio.npy cannot be read as an array",
    ),
    "prepared a label": (
        "prepared",
        lambda root: [np.save(path, np.load(path) + 9) for path in root.glob("*/test/labels.npy")],
        "expected -3 to 3",
    ),
    "csd a missing file": ("csd", lambda root: (root / "CMU_MOSEI_COVAREP.csd").unlink(), "misses CMU_MOSEI_COVAREP.csd"),
    "csd cut short": ("csd", truncate("CMU_MOSEI_COVAREP.csd"), "cannot be read as HDF5"),
    "csd a key": ("csd", drop_from_h5, "'train0' has no 'intervals'; it has features"),
    "csd a link": ("csd", link_h5, "'audio/data/train0/features' is a link out of the file; expected the data themselves"),
    "csd lengths": ("csd", shorten_h5, "intervals has the shape [2, 2]; expected [30, 2]"),
    "csd a column": ("csd", rename_column, "should have columns file, index, start, end and split"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_copy_is_one_line(case: str, line: CommandLine, root: Path) -> None:
    layout, broken, said = BROKEN[case]
    LAYOUTS[layout].write_sample(root)
    broken(root)
    assert said in line.refused("run", "-d", "mosei", "-m", "joint", *SMALL, *LSTM_SMALL)
    assert not list(root.parent.rglob("stolen"))
    assert not Path("stolen").exists()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("mult", "task=emotions", "has sentiment alone"),
        ("mmsa", "task=emotions", "has sentiment alone"),
        ("umons", "text=bert", "is of the mmsa layouts"),
    ],
)
def test_what_a_layout_does_not_have_is_one_line(name: str, settings: str, said: str, line: CommandLine, root: Path) -> None:
    LAYOUTS[name].write_sample(root)
    assert said in line.refused("run", "-d", "mosei", *SMALL, "--set", f"dataset.{settings}")


@pytest.mark.bad_input
def test_no_data_is_one_line_that_names_what_says_what_is_expected(line: CommandLine, root: Path) -> None:
    layouts = "prepared, umons, mult, mult-noalign, mult-raw, mmsa, mmsa-unaligned, csd"
    said = line.refused("run", "-d", "mosei", *SMALL)
    assert f"known layouts: {layouts}. 'agmbench data status mosei' says" in said
    status = line("data", "status", "mosei").out
    assert "recognised as umons: train_sentences.p" in status
    assert all(f"recognised as {name}: " in status for name in layouts.split(", "))


# encoders


def test_an_lstm_sees_nothing_that_is_hidden() -> None:
    torch.manual_seed(0)
    values, lengths = torch.randn(4, 7, 3), torch.tensor([7, 3, 1, 0])
    for shape_values, encoder in (
        (values, LSTM((7, 3), width=5)),
        ((values[..., :1] * 5).abs().round(), LSTM((7, 1), width=5, embedding=4)),
    ):
        place = torch.arange(7)
        for mask in (place < lengths[:, None], place >= 7 - lengths[:, None]):
            a = encoder(Tokens(shape_values, mask)).values[mask]
            b = encoder(Tokens(torch.where(mask.unsqueeze(2), shape_values, 3.0), mask)).values[mask]
            assert torch.equal(a, b)
    front, behind = place >= 7 - lengths[:, None], place < lengths[:, None]
    moved = torch.zeros_like(values)
    moved[front] = values[behind]
    vectors = LSTM((7, 3), width=5)
    torch.testing.assert_close(vectors(Tokens(moved, front)).values[front], vectors(Tokens(values, behind)).values[behind])
    assert torch.equal(vectors(values).values[0], vectors(Tokens(values, behind)).values[0])


def test_an_lstm_reads_unlikely_word_numbers_as_unknown() -> None:
    encoder = LSTM((3, 1), width=5, vocabulary=4, embedding=4)
    known, unknown = (torch.tensor([[[2.0], [number], [0.0]]]) for number in (1.0, 99.0))
    assert torch.equal(encoder(known).values, encoder(unknown).values)
    assert torch.isfinite(encoder(torch.randn(2, 3, 1)).values).all()  # with mute=random, the encoder gets such inputs


def test_muted_words_are_numbers_too(root: Path) -> None:
    UMONS().write_sample(root)
    data = MOSEI(0)
    text = tokens(whole(data, "dev"), "text")
    encoder = LSTM(data.shapes["text"], width=5)
    for muting in (Mean(data.split("train"), {"text": None}), Random(0)):
        assert torch.isfinite(encoder(muting("text", text)).values).all()


def test_a_linear_adapter_is_one_layer_a_token() -> None:
    encoder, mask = Linear((4, 3), width=2), torch.ones(5, 4, dtype=torch.bool)
    x = torch.randn(5, 4, 3)
    found = encoder(Tokens(x, mask))
    torch.testing.assert_close(found.values[1, 2], encoder.project(x[1, 2]))
    assert found.mask is mask
    assert encoder(x).mask is None


def test_a_language_model_attends_to_the_mask_alone() -> None:
    encoder = LanguageModel((3, 6), config=BERT).eval()
    x = torch.stack(
        [torch.randint(1000, 2000, (2, 6)), torch.tensor([[1, 1, 1, 1, 0, 0], [0] * 6]), torch.zeros(2, 6).long()], 1
    ).float()
    other = x.clone()
    other[0, 0, 4:] = 5
    a, b = encoder(x), encoder(other)
    assert a.mask is not None
    assert a.mask.tolist() == (x[:, 1] == 1).tolist()
    torch.testing.assert_close(a.values[0, :4], b.values[0, :4])
    assert torch.isfinite(a.values).all()
    assert encoder.out_features == 8
    assert torch.isfinite(encoder(torch.randn(2, 3, 6)).values).all()
    assert not any(p.requires_grad for p in LanguageModel((3, 6), config=BERT, frozen=True).parameters())
    assert (
        LanguageModel(
            (3, 6), config={"model_type": "distilbert", "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8}
        ).out_features
        == 8
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LSTM((3,)), "takes a sequence"),
        (lambda: LSTM((3, 4), vectors="x.npy"), "vectors are for word numbers"),
        (lambda: LSTM((3, 1), vectors="no/such.npy"), "cannot be read"),
        (lambda: Linear((1, 2, 3)), "takes a sequence"),
        (lambda: LanguageModel((5, 6)), "takes ids, mask and segments"),
        (lambda: LanguageModel((3, 6), config={"hidden_size": 8}), "needs a 'model_type'"),
        (lambda: LanguageModel((3, 6), config={**BERT, "max_position_embeddings": 4}), "cannot load a model from"),
        (lambda: LanguageModel((3, 6), model="no such model!"), "cannot load 'no such model!'"),
    ],
)
def test_what_encoders_refuse_is_one_line(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(Unsuitable) as error:
        make()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


# real data


@pytest.fixture
def shared() -> Path:
    if not (SHARED / "mosei").is_dir():
        pytest.skip("needs ../shared/data/mosei, which a user does not have")
    return SHARED


def test_the_real_labels_have_the_papers_counts(shared: Path) -> None:
    segments = read_segments(shared / "mosei" / "CMU_MOSEI_Labels.csv")
    assert Counter(segment.part for segment in segments) == {"train": 16327, "valid": 1871, "test": 4662}
    listed = {part: {f"{s.video}[{s.number}]" for s in segments if s.part == part} for part in ("train", "valid", "test")}
    for part, ids in listed.items():
        assert ids == {id_ for id_, _, _ in load_pickle(shared / "mosei" / f"d_{part}.pkl").values()}
    videos = {part: {video(id_) for id_ in ids} for part, ids in listed.items()}
    shared_videos = {(a, b): len(videos[a] & videos[b]) for a, b in (("train", "valid"), ("train", "test"), ("valid", "test"))}
    assert sum(map(len, listed.values())) == len(set().union(*listed.values()))
    assert set(shared_videos.values()) == {0}, shared_videos


def test_a_real_computational_sequence_is_read() -> None:
    path = SHARED / "mosi_csd" / "CMU_MOSI_ModifiedTimestampedWords.csd"
    if not path.is_file():
        pytest.skip("needs ../shared/data/mosi_csd, which a user does not have")
    words = ComputationalSequence(path)
    assert words.root == "CMU_MOSI_ModifiedTimestampedWords"
    assert len(words.videos) == 93
    assert "03bSnISJMiM" in words
    assert words.width == 1
    spoken, times = words.features("03bSnISJMiM"), words.intervals("03bSnISJMiM")
    assert cleaned(spoken[:3]) == ["oh", "sp", "this"]
    assert times.shape == (480, 2)
    assert (times[:, 0] <= times[:, 1]).all()
