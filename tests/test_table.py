"""Data set table: what is inferred from a file of rows, how its cells are read, and one line for every odd row."""

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import soundfile
import torch
from conftest import CommandLine
from PIL import Image

from agmbench.contracts import SPLITS, Tokens, Unsuitable, muted, texts_of, utf8
from agmbench.data.verify import verify
from agmbench.datasets.samples.noise import write_clip
from agmbench.datasets.table import Table
from agmbench.datasets.tables.opened import open_table
from agmbench.datasets.tables.shares import shared
from agmbench.datasets.tables.words import word_numbers, words
from agmbench.encoders.mlp import MLP
from agmbench.fusions.concat import Concat
from agmbench.loading import Feed
from agmbench.model import MultimodalModel
from agmbench.muting import Mean, Muting, Zeros
from agmbench.tasks import MultiLabel, Regression, Segments

ROWS = 60
DRAW = np.random.default_rng(0)
NUMBERS = DRAW.normal(size=(ROWS, 3)).round(4)


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo after each test what commands add to the registry by AGMBENCH_REGISTRY."""
    monkeypatch.setenv("AGMBENCH_REGISTRY", "")


def table(folder: Path, file: str = "t.csv", **columns: Any) -> Path:
    """Write a table with numbers `x_0` to `x_2`, a label and the given columns; `None` leaves a column out."""
    given: dict[str, Any] = {f"x_{place}": NUMBERS[:, place] for place in range(3)}
    given |= {"label": ["cat", "dog", "emu"] * (ROWS // 3), **columns}
    frame = pd.DataFrame({name: cells for name, cells in given.items() if cells is not None})
    folder.mkdir(parents=True, exist_ok=True)
    writers: Mapping[str, Callable[[Path], Any]] = {
        ".csv": lambda path: frame.to_csv(path, index=False),
        ".parquet": frame.to_parquet,
        ".jsonl": lambda path: frame.to_json(path, orient="records", lines=True),
    }
    writers[Path(file).suffix](folder / file)
    return folder / file


def opened(path: Path, **settings: Any) -> Table:
    return Table(0, path.parent, file=path.name, **settings)


def refused(path: Path, **settings: Any) -> str:
    with pytest.raises(Unsuitable) as error:
        opened(path, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def odd(path: Path, **settings: Any) -> str:
    return "\n".join(opened(path, **settings).held.odd)


def first(data: Table, modality: str, count: int = 4) -> Any:
    return data.split("train").batch(torch.arange(count)).inputs[modality]


# kinds of columns


def media(folder: Path, *names: str) -> dict[str, list[str]]:
    """Columns of paths and text (all, or those with these names), and their files. Names of files have spaces and unicode."""
    folder.mkdir(parents=True, exist_ok=True)
    columns: dict[str, tuple[Callable[[int], Any], str]] = {
        "picture": (lambda row: _picture(folder / "bilder ü" / f"no {row}.png", row), "bilder ü/no {}.png"),
        "sound_path": (lambda row: _sound(folder / "snd" / f"{row}.wav", row), "snd/{}.wav"),
        "clip": (lambda row: _frames(folder / "frames" / f"{row}"), "frames/{}"),
        "vector": (lambda row: np.save(folder / f"v{row}.npy", np.full(4, row, np.float64)), "v{}.npy"),
        "zipped": (lambda row: np.savez(folder / f"z{row}.npz", one=np.arange(3.0) + row, two=np.zeros(2)), "z{}.npz:one"),
        "tensor": (lambda row: torch.save({"a": torch.zeros(2, 3) + row}, folder / f"p{row}.pt"), "p{}.pt:a"),
        "sequence": (lambda row: np.save(folder / f"s{row}.npy", np.ones((row + 1, 5), np.float32)), "s{}.npy"),
        "hdf": (lambda row: _hdf(folder / "all.h5"), "all.h5:deep/features:{}"),
    }
    found = {name: columns[name] for name in names or columns if name in columns}
    for write, _ in found.values():
        for row in range(4):
            write(row)
    given = {name: [cell.format(row % 4) for row in range(ROWS)] for name, (_, cell) in found.items()}
    if not names or "said" in names:
        given["said"] = [f"the Cat, no. {row}, isn't here" for row in range(ROWS)]
    return given


def _picture(path: Path, row: int) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((6, 8), 40 * row, np.uint8)).save(path)


def _sound(path: Path, row: int) -> None:
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, np.sin(np.arange(1600 + row) / 9), 16000)


def _frames(folder: Path) -> None:
    folder.mkdir(parents=True)
    for frame in range(5):
        Image.new("RGB", (10, 10), (frame, 0, 0)).save(folder / f"{frame:03}.png")


def _hdf(path: Path) -> None:
    if not path.exists():
        with h5py.File(path, "w") as file:
            file["deep/features"] = np.arange(4 * 7.0).reshape(4, 7)


def test_kinds_and_shapes_are_inferred_and_read(tmp_path: Path) -> None:
    data = opened(table(tmp_path, **media(tmp_path)))
    assert data.shapes == {
        "picture": (1, 6, 8),
        "sound": (1, 257, 1 + 1760 // 256),  # 0.11 s is the length of the longest, rounded up
        "clip": (3, 3, 224, 224),
        "said": (6, 1),
        "vector": (4,),
        "zipped": (3,),
        "tensor": (2, 3),
        "sequence": (4, 5),
        "hdf": (7,),
        "x": (3,),
    }
    assert data.class_names == ["cat", "dog", "emu"]
    batch = data.split("train").batch(torch.arange(8))
    rows = data.held.splits["train"].rows[:8]  # type: ignore[attr-defined]
    pictures, said, sequence = batch.inputs["picture"], batch.inputs["said"], batch.inputs["sequence"]
    assert isinstance(pictures, torch.Tensor)
    torch.testing.assert_close(
        pictures[:, 0, 0, 0], torch.tensor([40 * (row % 4) / 127.5 - 1 for row in rows], dtype=torch.float32)
    )
    assert isinstance(said, Tokens)
    assert said.values[0, :, 0].tolist() == word_numbers(f"the cat no {rows[0]} isn't here", 24_000, 6)[:, 0].tolist()
    assert isinstance(sequence, Tokens)
    assert sequence.mask is not None
    assert sequence.mask.sum(dim=1).tolist() == [row % 4 + 1 for row in rows]
    colours = batch.inputs["clip"][0, :, 0, 0, 0] * 0.229 + 0.485  # type: ignore[index]
    assert (colours * 255).round().tolist() == [0, 2, 4]  # of five frames, the middle one of each third


def test_arrays_and_numbers_are_standardised_by_train(tmp_path: Path) -> None:
    path = table(tmp_path, **media(tmp_path, "vector", "sequence"))
    data = opened(path)
    train = data.split("train")
    x = train.batch(torch.arange(len(train))).inputs["x"]
    torch.testing.assert_close(x.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)  # type: ignore[union-attr]
    torch.testing.assert_close(x.std(dim=0, unbiased=False), torch.ones(3), atol=1e-4, rtol=0)  # type: ignore[union-attr]
    assert first(data, "sequence").values.abs().max() == 0  # a feature that does not vary
    raw = opened(path, modalities={"v": {"kind": "array", "column": "vector", "size": [4], "standardise": False}})
    assert set(first(raw, "v", 8).unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}


def test_a_video_is_seen_and_heard(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", np.random.default_rng(0))
    data = opened(table(tmp_path, video=["a.mp4"] * ROWS), modalities={
        "seen": {"kind": "video", "column": "video", "frames": 2, "size": [24, 32]},
        "heard": {"kind": "sound", "column": "video", "seconds": 1, "made": "wave"},
    })  # fmt: skip
    assert first(data, "seen", 2).shape == (2, 2, 3, 24, 32)
    assert first(data, "heard", 2).shape == (2, 16_000)
    guessed = open_table(tmp_path / "t.csv", {})
    assert {"video", "video_sound"} <= set(guessed.modals)


def test_an_array_beside_the_table(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", NUMBERS)
    data = opened(table(tmp_path, x_0=None, x_1=None, x_2=None), arrays={"feature": "f.npy"})
    rows = data.held.splits["test"].rows  # type: ignore[attr-defined]
    x = data.split("test").batch(torch.arange(len(rows))).inputs["feature"]
    assert np.corrcoef(x[:, 0], NUMBERS[rows, 0])[0, 1] > 0.9999  # type: ignore[index]
    np.save(tmp_path / "g.npy", NUMBERS[:-1])
    assert "has 59 rows; expected 60" in refused(tmp_path / "t.csv", arrays={"feature": "g.npy"})


@pytest.mark.parametrize(
    ("labels", "task", "names"),
    [
        ([2, 10, 1] * 20, "class", ["1", "2", "10"]),
        (["a|b", "b", "c"] * 20, "labels", ["a", "b", "c"]),
        (list(NUMBERS[:, 0] + 0.5), "number", ["label"]),
        (["1 0 0", "0 1 1", "0 0 1"] * 20, "segments", ["0", "1"]),
        ([True, False] * 30, "class", ["False", "True"]),
    ],
)
def test_labels_of_each_task(tmp_path: Path, labels: list[Any], task: Any, names: list[str]) -> None:
    path = table(tmp_path, label=labels)
    data = opened(path, task=task if task == "segments" else None)
    assert open_table(path, {"task": task}).targets.kind == task
    assert list(data.class_names) == names
    kinds = {"labels": MultiLabel, "number": Regression, "segments": Segments}
    assert isinstance(data.task, kinds.get(task, object))
    targets = data.split("train").batch(torch.arange(3)).targets
    assert data.task.wrong(targets, len(names)) is None


def test_label_columns_are_several_labels(tmp_path: Path) -> None:
    flags = {"label_red": [0, 1] * 30, "label_blue": [1, 1, 0] * 20}
    data = opened(table(tmp_path, label=None, **flags))
    assert list(data.class_names) == ["red", "blue"]
    assert data.shapes == {"x": (3,)}
    assert "is not a label; expected 0 or 1" in refused(table(tmp_path, label=None, **{**flags, "label_red": [0, 7] * 30}))


def test_lists_of_jsonl_and_parquet_are_labels_or_segments(tmp_path: Path) -> None:
    unlike = [["a"], ["a", "b"], []] * 20
    assert isinstance(opened(table(tmp_path, "a.jsonl", label=unlike)).task, MultiLabel)
    alike = [[0, 1], [1, 1], [2, 0]] * 20
    assert isinstance(opened(table(tmp_path, "a.parquet", label=alike)).task, Segments)


def test_a_folder_of_hugging_face_datasets(tmp_path: Path) -> None:
    for name, count in (("train", 40), ("test", 12)):
        (tmp_path / "hf" / name).mkdir(parents=True)
        numbers = pa.table({"f_1": NUMBERS[:count, 0], "f_2": NUMBERS[:count, 1], "label": [row % 2 for row in range(count)]})
        with pa.ipc.new_stream(tmp_path / "hf" / name / "data-00000-of-00001.arrow", numbers.schema) as file:
            file.write_table(numbers)
        info = {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}
        (tmp_path / "hf" / name / "dataset_info.json").write_text(json.dumps(info))
    (tmp_path / "hf" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    data = opened(tmp_path / "hf")
    assert list(data.class_names) == ["no", "yes"]
    assert {name: len(data.split(name)) for name in SPLITS} == {"train": 32, "dev": 4, "valid": 4, "test": 12}


def test_pictures_and_sounds_inside_the_table(tmp_path: Path) -> None:
    columns = media(tmp_path, "picture", "sound_path")
    inside = {
        name: [
            {"bytes": (tmp_path / cell).read_bytes(), "path": None} if row % 7 else None for row, cell in enumerate(columns[of])
        ]
        for name, of in (("picture", "picture"), ("sound", "sound_path"))
    }
    data = opened(table(tmp_path, "t.parquet", **inside))
    assert data.shapes == {"picture": (1, 6, 8), "sound": (1, 257, 7), "x": (3,)}
    outside = opened(table(tmp_path, picture=columns["picture"], sound=columns["sound_path"]))
    for modality in ("picture", "sound"):
        one, other = (d.split("train").batch(torch.arange(4)) for d in (data, outside))
        there = ~one.absent[modality]
        torch.testing.assert_close(one.inputs[modality][there], other.inputs[modality][there])  # type: ignore[arg-type, index]


def test_files_in_a_folder_beside_and_lists_of_numbers(tmp_path: Path) -> None:
    columns = media(tmp_path, "sound_path")
    names = [cell.removeprefix("snd/") for cell in columns["sound_path"]]
    path = table(tmp_path, sound=names, when=[f"2024-01-{row % 28 + 1:02} 10:{row:02}" for row in range(ROWS)])
    assert open_table(path, {}).settings["modalities"]["sound"]["path"] == "snd/{}"
    assert open_table(path, {}).unused == ["when"]
    assert first(opened(path), "sound").shape == (4, 1, 257, 7)
    given = {"s": {"kind": "sound", "column": "clip", "path": "snd/{}.wav", "seconds": 0.1, "made": "wave"}}
    data = opened(table(tmp_path, clip=[row % 4 for row in range(ROWS)]), modalities=given)
    assert first(data, "s").shape == (4, 1600)
    lists = {"vector": [list(row) for row in NUMBERS], "word": [[[1.0, 2.0]] * (row % 3 + 1) for row in range(ROWS)]}
    data = opened(table(tmp_path, "l.parquet", **lists))
    assert {m: data.shapes[m] for m in ("vector", "word")} == {"vector": (3,), "word": (3, 2)}
    assert isinstance(first(data, "word"), Tokens)


def test_words_of_any_language() -> None:
    assert words("Don't STOP, 3x!") == ["don't", "stop", "3x"]
    assert words("你好 world") == ["你", "好", "world"]
    assert word_numbers("", 100, 5).shape == (0, 1)
    assert 2 <= word_numbers("word", 100, 5)[0, 0] < 100


def test_raw_text_is_what_encoders_with_a_tokenizer_take(tmp_path: Path) -> None:
    texts = [f"naïve {row}, 日本" for row in range(ROWS)]
    path = table(tmp_path, said=texts)
    kinds = {"said": {"column": "said", "kind": "text", "numbers": "bytes", "length": 11}}
    said = opened(path, modalities=kinds).split("train").batch(torch.arange(2)).inputs["said"]
    assert isinstance(said, Tokens)
    assert all(text.startswith("naïve ") for text in texts_of(said))
    assert torch.equal(said.values, utf8(texts_of(said), 11).values)


# splits


def test_shares_keep_groups_whole_and_classes_even() -> None:
    draw = np.random.default_rng(1)
    groups, strata = draw.integers(0, 90, 3000), draw.integers(0, 5, 3000)
    shares = {"train": 0.6, "dev": 0.1, "valid": 0.1, "test": 0.2}
    split = shared(shares, strata, groups, 0)
    assert all(len(set(split[groups == group])) == 1 for group in range(90))
    for name, share in shares.items():
        assert abs((split == name).mean() - share) < 0.04, name
    alone = shared(shares, strata, None, 0)
    for name, share in shares.items():
        for stratum in range(5):
            assert abs((alone[strata == stratum] == name).mean() - share) < 0.01
    assert (shared(shares, strata, None, 1) != alone).any()
    assert (shared(shares, strata, None, 0) == alone).all()
    few = shared(shares, np.arange(10), None, 0)
    assert (few == "train").sum() == 7  # classes of one row go to train, except for one row to each other split
    speakers = shared(shares, np.zeros(240, int), np.arange(240) % 6, 0)
    assert set(speakers) == set(shares)


def test_a_column_of_splits(tmp_path: Path) -> None:
    names = ["Train"] * 30 + ["val"] * 15 + ["TEST "] * 15
    data = opened(table(tmp_path, split=names))
    assert {name: len(data.split(name)) for name in SPLITS} == {"train": 27, "dev": 3, "valid": 15, "test": 15}
    assert "dev is cut from train" in data.held.notes[0]
    data = opened(table(tmp_path, split=["train"] * 40 + ["dev"] * 10 + ["test"] * 10))
    assert (len(data.split("valid")), len(data.split("dev"))) == (10, 4)
    strange = refused(table(tmp_path, split=["train"] * 40 + ["tset"] + ["test"] * 19), split="split")
    assert "row 42, column 'split': 'tset' is not the name of a split; expected train, dev, valid or test" in strange


# every odd row is one line


def with_cell(column: list[Any], row: int, cell: Any) -> list[Any]:
    """A column with one cell replaced; `row` is the number that a spreadsheet shows."""
    return [cell if place + 2 == row else old for place, old in enumerate(column)]


def test_a_missing_file_names_row_and_column(tmp_path: Path) -> None:
    columns = media(tmp_path, "picture")
    picture = with_cell(columns["picture"], 9, "bilder ü/none.png")
    path = table(tmp_path, picture=picture)
    assert "t.csv, row 9, column 'picture': there is no 'bilder ü/none.png'" in (said := refused(path))
    assert "'missing: drop' leaves such rows out" in said
    dropped = opened(path, missing="drop")
    assert "leaves out 1 of 60 rows" in dropped.held.notes[0]
    assert sum(len(dropped.split(name)) for name in SPLITS) == ROWS - 1


def test_an_unreadable_picture_is_found_when_it_is_read(tmp_path: Path) -> None:
    columns = media(tmp_path, "picture")
    (tmp_path / "broken.png").write_bytes(b"no picture at all")
    data = opened(table(tmp_path, picture=with_cell(columns["picture"], 5, "broken.png")))
    wrong = verify(data, lambda done, of: None).wrong["files"]
    assert len(wrong) == 1
    assert "row 5, column 'picture'" in wrong[0]
    assert "broken.png cannot be read as a picture" in wrong[0]


def test_mixed_shapes_are_found_when_they_are_read(tmp_path: Path) -> None:
    columns = media(tmp_path, "vector")
    np.save(tmp_path / "long.npy", np.zeros(5))
    data = opened(table(tmp_path, vector=with_cell(columns["vector"], 7, "long.npy")))
    wrong = verify(data, lambda done, of: None).wrong["files"]
    assert "row 7, column 'vector': 'long.npy' has the shape [5]; expected [4]" in wrong[0]


def test_a_number_that_is_not_finite_in_an_array_is_a_finding(tmp_path: Path) -> None:
    columns = media(tmp_path, "vector")
    np.save(tmp_path / "nan.npy", np.array([1, np.nan, 0, 0]))
    data = opened(table(tmp_path, vector=with_cell(columns["vector"], 8, "nan.npy")))
    wrong = verify(data, lambda done, of: None).wrong["content"]
    assert "vector with numbers that are not finite" in wrong[0]
    assert "row 8" in wrong[0]


def test_an_empty_text_is_odd(tmp_path: Path) -> None:
    path = table(tmp_path, said=with_cell(media(tmp_path, "said")["said"], 4, "   "))
    assert "row 4, column 'said': the text '   ' is empty" in odd(path)
    found = verify(opened(path), lambda done, of: None).odd["content"]
    assert any("said has no token in 1 of" in line and "row 4" in line for line in found)


@pytest.mark.parametrize("cell", [math.nan, math.inf, "lots"])
def test_numbers_that_are_none(tmp_path: Path, cell: Any) -> None:
    path = table(tmp_path, x_1=with_cell(list(NUMBERS[:, 1]), 6, cell))
    said = refused(path, modalities={"x": {"kind": "numbers", "columns": "x_*"}})
    assert "row 6, column 'x_1'" in said
    assert "'missing: drop' leaves such rows out" in said
    assert len(opened(path, missing="drop", modalities={"x": {"kind": "numbers", "columns": "x_*"}}).held.notes) == 2


def test_a_class_that_test_alone_has(tmp_path: Path) -> None:
    labels = with_cell(["cat", "dog"] * 30, 61, "yak")
    path = table(tmp_path, label=labels, split=["train"] * 40 + ["valid"] * 10 + ["test"] * 10)
    assert "the class 'yak' has one row alone" in odd(path)
    assert any("yak" in line for line in verify(opened(path), lambda done, of: None).wrong["classes"])
    assert "row 61, column 'label': the label 'yak' is not one of the stated classes" in refused(path, classes=["cat", "dog"])


def test_a_row_without_a_label(tmp_path: Path) -> None:
    path = table(tmp_path, label=with_cell(["cat", "dog"] * 30, 3, None))
    assert "row 3, column 'label': the row has no label that can be used" in refused(path)


def test_an_id_twice_and_a_group_in_two_splits(tmp_path: Path) -> None:
    ids = with_cell([f"s{row}" for row in range(ROWS)], 12, "s0")
    path = table(tmp_path, id=ids, subject=["a", "b", "c"] * 20, split=["train"] * 40 + ["valid"] * 10 + ["test"] * 10)
    found = odd(path)
    assert "row 2, column 'id': the id 's0' is in several rows (2 such rows, also 12)" in found
    assert "the group 'c' of test is in train too" in found


def test_paths_outside_absolute_and_of_windows(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    columns = media(inside, "picture")
    elsewhere = tmp_path / "other.png"
    Image.new("L", (8, 6)).save(elsewhere)
    picture = with_cell(columns["picture"], 2, "../other.png")
    picture = with_cell(picture, 3, str(elsewhere))
    picture = with_cell(picture, 4, str(inside / "bilder ü" / "no 0.png"))
    picture = with_cell(picture, 5, "bilder ü\\no 1.png")
    path = table(inside, picture=picture)
    assert "row 2, column 'picture': '../other.png' is outside the table's folder" in odd(path)
    assert "2 such rows, also 3" in odd(path)
    assert verify(opened(path), lambda done, of: None).wrong.get("files", []) == []
    path = table(inside, picture=with_cell(picture, 6, "C:\\data\\x.png"))
    assert "row 6, column 'picture': 'C:\\\\data\\\\x.png' is a Windows path with a drive" in refused(path)


def test_other_separators_a_mark_of_order_and_other_encodings(tmp_path: Path) -> None:
    text = table(tmp_path).read_text()
    for name, content in {
        "semicolon.csv": text.replace(",", ";").encode(),
        "comma.csv": text.replace(",", ";").replace(".", ",").encode(),
        "bom.csv": text.encode("utf-8-sig"),
        "tab.tsv": text.replace(",", "\t").encode(),
        "wide.csv": text.encode("utf-16"),
    }.items():
        (tmp_path / name).write_bytes(content)
        data = opened(tmp_path / name)
        assert data.shapes == {"x": (3,)}, name
    assert (
        opened(tmp_path / "comma.csv").held.splits["test"].rows == opened(tmp_path / "bom.csv").held.splits["test"].rows
    ).all()  # type: ignore[attr-defined]
    (tmp_path / "latin.csv").write_bytes(text.replace("cat", "châ").encode("latin-1"))
    assert "latin.csv is not UTF-8" in refused(tmp_path / "latin.csv")
    (tmp_path / "ragged.csv").write_text(text + "1,2,3,4,5,6,7\n")
    assert "Expected 4 fields in line 62, saw 7" in refused(tmp_path / "ragged.csv")
    (tmp_path / "none.csv").write_text("")
    assert "none.csv is empty" in refused(tmp_path / "none.csv")
    (tmp_path / "head.csv").write_text("a,label\n")
    assert "head.csv has no rows" in refused(tmp_path / "head.csv")
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    assert "is not a table that agmbench can read" in refused(tmp_path / "a.xlsx")


def test_settings_that_are_wrong_are_one_line(tmp_path: Path) -> None:
    path = table(tmp_path)
    assert "there is no" in refused(tmp_path / "other.csv")
    assert "has no column 'klass' (setting 'label'): Known: x_0" in refused(path, label="klass")
    assert "should have a kind, one of picture" in refused(path, modalities={"x": {"kind": "image"}})
    assert "has no setting 'sise'; it has" in refused(path, modalities={"x": {"kind": "array", "column": "x_0", "sise": [1]}})
    assert "modality 'x' of kind numbers needs 'columns'" in refused(path, modalities={"x": {"kind": "numbers"}})
    assert "shares should name train, dev, valid, test" in refused(path, shares={"train": 1.0})
    none = table(tmp_path / "none", label=None, kind=["cat", "dog"] * 30)
    assert "no column is called label" in refused(none)
    assert "no column looks like a modality" in refused(table(tmp_path / "bare", x_0=None, x_1=None, x_2=None))


def test_tensors_that_would_run_code_are_refused(tmp_path: Path) -> None:
    torch.save({"a": Path("x")}, tmp_path / "evil.pt")
    columns = {"vector": ["evil.pt:a"] * ROWS}
    assert "none of its first arrays can be read" in refused(table(tmp_path, **columns))
    data = opened(table(tmp_path, **columns), modalities={"v": {"kind": "array", "column": "vector", "size": [4]}})
    with pytest.raises(Unsuitable, match=r"evil\.pt cannot be read as tensors"):
        data.split("train").batch(torch.tensor([0]))


# cells that are empty


def test_an_empty_cell_is_an_absent_modality(tmp_path: Path) -> None:
    columns = media(tmp_path, "picture", "said")
    said = [cell if row % 3 else None for row, cell in enumerate(columns["said"])]
    numbers = {f"x_{place}": np.where(np.arange(ROWS) % 5 == 1, np.nan, NUMBERS[:, place]) for place in range(3)}
    path = table(tmp_path, said=said, picture=columns["picture"], **numbers)
    data = opened(path)
    split = data.split("train")
    batch = split.batch(torch.arange(len(split)))
    rows = data.held.splits["train"].rows  # type: ignore[attr-defined]
    assert set(batch.absent) == {"said", "x"}
    assert batch.absent["said"].tolist() == [row % 3 == 0 for row in rows]
    assert batch.absent["x"].tolist() == [row % 5 == 1 for row in rows]
    verdict = verify(data, lambda done, of: None)
    assert not any(verdict.wrong.values())
    assert not any("said has no token" in line for lines in verdict.odd.values() for line in lines)
    feed = Feed({name: data.split(name) for name in SPLITS}, torch.device("cpu"))
    feed.stand_in = partial(muted, mute=lambda modality, x: torch.full_like(x, 7), known=("x",))
    (seen,) = feed.batches("train", [torch.arange(len(split))])
    x = seen.inputs["x"]
    assert isinstance(x, torch.Tensor)
    assert (x[batch.absent["x"]] == 7).all()
    torch.testing.assert_close(x[~batch.absent["x"]], batch.inputs["x"][~batch.absent["x"]])  # type: ignore[index]
    assert seen.inputs["said"].values.equal(batch.inputs["said"].values)  # type: ignore[union-attr]
    assert "row 2, column 'said': the cell is empty; 'missing: absent' keeps such rows" in refused(path, missing="error")
    assert len(opened(path, missing="drop").held.splits["train"]) < len(split)


def test_methods_that_learn_from_each_modality_by_itself_refuse_absent_ones(tmp_path: Path, line: CommandLine) -> None:
    path = table(
        tmp_path, **{f"y_{place}": np.where(np.arange(ROWS) % 4 == 0, np.nan, NUMBERS[:, place]) for place in range(3)}
    )
    assert line("data", "describe", str(path)).status == 0
    entry = str(path.with_suffix(".yaml"))
    why = "modulator 'mmpareto' learns from each modality by itself, and some samples of train lack y; leave those samples out"
    assert why in line.refused("run", "-d", entry, "-m", "mmpareto")
    assert line("run", "-d", entry, "-m", "mmpareto", "--set", "dataset.missing=drop", "--dry-run").status == 0
    assert line("run", "-d", entry, "-m", "ogm-ge", "--dry-run").status == 0


@pytest.mark.parametrize("muting", [Zeros(), None])
def test_a_sample_without_a_modality_is_answered_as_a_coalition_without_it(tmp_path: Path, muting: Muting | None) -> None:
    numbers = {f"y_{place}": np.where(np.arange(ROWS) % 4 == 0, np.nan, NUMBERS[:, place]) for place in range(3)}
    data = opened(table(tmp_path, **numbers))
    train = data.split("train")
    mean = Mean(train, data.shapes)
    torch.testing.assert_close(mean.get_buffer("mean_y"), torch.zeros(3), atol=1e-5, rtol=0)  # only over samples that have y
    torch.manual_seed(0)
    encoders = {m: MLP(data.shapes[m], hidden=4, layers=1) for m in ("x", "y")}
    model = MultimodalModel(encoders, Concat(dict.fromkeys(encoders, 4), 3), muting=muting or mean).eval()
    batch = train.batch(torch.arange(len(train)))
    shown = muted(batch, model.muting, tuple(model.encoders))
    both, alone = frozenset({"x", "y"}), frozenset({"x"})
    answers = model.coalitions(shown.inputs, [both, alone])
    lacking = batch.absent["y"]
    assert 0 < lacking.sum() < len(lacking)
    torch.testing.assert_close(answers[both].logits[lacking], answers[alone].logits[lacking])
    assert not torch.allclose(answers[both].logits[~lacking], answers[alone].logits[~lacking])


def test_a_row_in_which_everything_is_empty(tmp_path: Path) -> None:
    numbers = {f"x_{place}": with_cell(list(NUMBERS[:, place]), 20, None) for place in range(3)}
    assert "row 20, column 'label': every modality of the row is empty" in refused(table(tmp_path, **numbers))


# from the command line


def test_describe_writes_an_entry_that_verify_and_run_take(line: CommandLine) -> None:
    folder = line.folder
    columns = media(folder, "picture", "said")
    columns["said"][7] = ""
    table(
        folder, "animals.csv", subject=[f"p{row // 4}" for row in range(ROWS)], **{k: columns[k] for k in ("picture", "said")}
    )
    told = line("data", "describe", "animals.csv")
    assert told.status == 0, told
    for text in (
        "60 rows, 7 columns",
        "picture   picture  picture  1x6x8",
        "cat",
        "groups: column subject, 15 groups",
        "wrote animals.yaml",
    ):
        assert text in told.out, told.out
    assert "already exists" in line.refused("data", "describe", "animals.csv")
    again = line("data", "describe", "animals.yaml")
    assert "picture   picture  picture  1x6x8" in again.out
    verified = line("data", "verify", "animals.yaml")
    assert verified.status == 0, verified
    dry = line("run", "--dataset", "animals.yaml", "--dry-run", "--no-strength")
    assert dry.status == 0, dry
    assert "name: animals" in dry.out
    prepared = line("data", "prepare", "animals.yaml", "--jobs", "1")
    assert prepared.status == 0, prepared
    before = Table(0, folder, file="animals.csv")
    assert before.layout.name == "prepared"
    assert "is a table, and an entry is expected" in line.refused("run", "--dataset", "animals.csv")
    assert "there is no file other.yaml" in line.refused("run", "--dataset", "other.yaml")


def test_a_file_that_is_named_stands_beside_a_registry_of_ones_own(line: CommandLine) -> None:
    for name in ("one", "two"):
        table(line.folder, f"{name}.csv")
        assert line("data", "describe", f"{name}.csv").status == 0
    dry = line("run", "--registry", "one.yaml", "--dataset", "two.yaml", "-m", "joint", "--dry-run", "--no-strength")
    assert dry.status == 0, dry
    text = (line.folder / "two.yaml").read_text()
    (line.folder / "both.yaml").write_text(
        text.replace("suites:", "  three: {target: 'agmbench.datasets.table:Table'}\nsuites:")
    )
    assert "both.yaml has 2 datasets (two, three) and should have one" in line.refused("run", "--dataset", "both.yaml")
    (line.folder / "bad.yaml").write_text("datasets: 7\n")
    assert "should be a mapping" in line.refused("run", "--dataset", "bad.yaml")
    (line.folder / "ave.csv").write_text((line.folder / "one.csv").read_text())
    assert "wrote ave.yaml" in line("data", "describe", "ave.csv").out
    assert "ave-table:" in (line.folder / "ave.yaml").read_text()


def test_prepared_arrays_hold_what_the_files_do(tmp_path: Path) -> None:
    columns = media(tmp_path, "picture", "said", "sequence")
    columns["said"] = with_cell(columns["said"], 2, None)
    path = table(tmp_path, **columns)
    data = opened(path)
    before = {name: data.split(name).batch(torch.arange(len(data.split(name)))) for name in SPLITS}
    Table.prepare(tmp_path, tmp_path, lambda done, of: None, 1, file="t.csv")
    ready = opened(path)
    assert (data.layout.name, ready.layout.name) == ("files", "prepared")
    for name, expected in before.items():
        found = ready.split(name).batch(expected.index)
        assert torch.equal(found.targets, expected.targets)
        for modality, x in expected.inputs.items():
            for one, other in zip(
                *((y.tensors() if isinstance(y, Tokens) else [y]) for y in (x, found.inputs[modality])), strict=True
            ):
                torch.testing.assert_close(one, other)
    table(tmp_path, **{**columns, "said": [f"{cell} now" for cell in columns["said"]]})
    assert opened(path).layout.name == "files"  # the table has changed since it was prepared
