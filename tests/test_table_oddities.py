"""Oddities in a user's table are reported with row and column, or do no harm."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import CommandLine
from PIL import Image

from agmbench.contracts import Unsuitable
from agmbench.data.describe import classes, remarks
from agmbench.data.verify import verify
from agmbench.datasets.table import Table
from agmbench.datasets.tables.opened import Opened, open_table
from agmbench.datasets.tables.shares import shared

ROWS = 48
DRAW = np.random.default_rng(3)
LABELS = ["kat", "hond", "vis"] * (ROWS // 3)


@pytest.fixture(autouse=True)
def registry_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo after each test what commands add to the registry by AGMBENCH_REGISTRY."""
    monkeypatch.setenv("AGMBENCH_REGISTRY", "")


def table(folder: Path, file: str = "t.csv", **columns: Any) -> Path:
    """Write a table with two modalities of numbers, a label and the given columns."""
    given = {f"{m}_{place}": DRAW.normal(size=ROWS).round(3) for m in "xy" for place in range(2)}
    frame = pd.DataFrame({**given, "label": LABELS, **columns})
    path = folder / file
    {".csv": lambda: frame.to_csv(path, index=False), ".parquet": lambda: frame.to_parquet(path)}[path.suffix]()
    return path


def described(path: Path, **settings: Any) -> Opened:
    return open_table(path, settings, anew=True)


def with_cell(cells: list[Any], place: int, cell: Any) -> list[Any]:
    return [*cells[:place], cell, *cells[place + 1 :]]


def test_a_column_twice_is_refused_in_a_csv_too(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x_0,x_0,label\n1,2,a\n3,4,b\n")
    with pytest.raises(Unsuitable, match="has the column 'x_0' twice; rename one of them"):
        described(tmp_path / "t.csv")


def test_a_column_of_numbers_with_a_word_in_it_is_no_less_one_of_numbers(tmp_path: Path) -> None:
    cells = with_cell([f"{place}.5" for place in range(ROWS)], 9, "?")
    found = described(table(tmp_path, z_0=cells, z_1=DRAW.normal(size=ROWS)))
    assert found.modals["z"].kind.columns == "z_*"
    assert found.wrong == [f"{tmp_path / 't.csv'}, row 11, column 'z_0': '?' is not a number; expected one, or an empty cell; "
                           "'missing: drop' leaves such rows out"]  # fmt: skip


def test_a_column_of_splits_with_a_slip_in_it_is_no_less_one_of_splits(tmp_path: Path) -> None:
    names = ["train"] * 32 + ["valid"] * 8 + ["test"] * 7
    assert (
        "row 49, column 'split': 'tset' is not the name of a split"
        in described(table(tmp_path, split=[*names, "tset"])).wrong[0]
    )
    assert "row 49, column 'split': an empty cell is not the name" in described(table(tmp_path, split=[*names, None])).wrong[0]
    folds = described(table(tmp_path, fold=[1, 2, 3, 4] * 12))
    assert (folds.settings["split"], folds.unused) == (None, ["fold"])


def test_a_label_that_is_an_input_too_is_odd(tmp_path: Path) -> None:
    path = table(tmp_path, label=[0.0, 1.0] * (ROWS // 2))
    told = described(path, modalities={"x": {"kind": "numbers", "columns": ["x_0", "label"]}}).odd
    assert told == [f"{path}: column 'label' is the label and also an input of 'x', so the input gives the answer away"]


def test_a_file_that_changed_since_it_was_prepared_is_found(line: CommandLine) -> None:
    for number in range(ROWS):
        Image.new("L", (8, 6), number).save(line.folder / f"{number}.png")
    table(line.folder, picture=[f"{number}.png" for number in range(ROWS)])
    assert line("data", "describe", "t.csv").status == 0
    assert line("data", "prepare", "t.yaml", "--jobs", "1").status == 0
    assert line("data", "verify", "t.yaml").status == 0
    Image.new("L", (8, 6), 99).save(line.folder / "7.png")
    found = line("data", "verify", "t.yaml")
    assert (found.status, "7.png is not the file that was prepared" in found.err) == (2, True), found


def test_decimals_and_truths_are_numbers_and_lists_of_words_are_left_out(tmp_path: Path) -> None:
    columns: dict[str, Any] = {f"z_{place}": [Decimal("1.50"), Decimal("-2.25")] * (ROWS // 2) for place in range(2)}
    columns |= {f"w_{place}": [True, False] * (ROWS // 2) for place in range(2)}
    found = described(table(tmp_path, "t.parquet", **columns, tags=[["a", "b"], ["c"]] * (ROWS // 2)))
    assert set(found.modals) == {"x", "y", "z", "w"}
    assert found.unused == ["tags"]
    assert np.unique(found.modals["z"].stored.array).tolist() == [-2.25, 1.5]


def test_a_line_of_jsonl_that_cannot_be_read_is_named_as_an_editor_counts(tmp_path: Path) -> None:
    lines = [json.dumps({"x": 1.5, "label": "a"}), json.dumps({"x": "one", "label": "b"})]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    with pytest.raises(
        Unsuitable,
        match=r"from number to string in row 2; expected one row per line, as in {\"x\": 1.5, .*, with values of one",
    ):
        described(tmp_path / "t.jsonl")


def test_why_no_array_of_a_column_can_be_read_is_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", a=np.zeros(3), b=np.ones(2))
    with pytest.raises(
        Unsuitable, match=r"column 'f': none of its first arrays can be read, .*: .*f.npz holds a, b; say which, as in f.npz:a"
    ):
        described(table(tmp_path, f=["f.npz"] * ROWS))


def test_a_picture_that_is_too_large_to_open_is_told_where_it_is_read(tmp_path: Path) -> None:
    for number in range(ROWS):
        Image.new("L", (8, 6), number).save(tmp_path / f"{number}.png")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "5.png")
    path = table(tmp_path, picture=[f"{number}.png" for number in range(ROWS)])
    assert described(path).modals["picture"].shape == (1, 6, 8)
    wrong = [line for lines in verify(Table(0, tmp_path, file="t.csv"), lambda done, of: None).wrong.values() for line in lines]
    assert any("row 7, column 'picture'" in line and "exceeds limit" in line for line in wrong)


def test_an_array_that_cannot_be_read_leaves_the_others_their_mean(tmp_path: Path) -> None:
    for number in range(ROWS):
        np.save(tmp_path / f"{number}.npy", DRAW.normal(size=3))
    (tmp_path / "30.npy").write_bytes(b"junk")
    data = Table(0, tmp_path, file=table(tmp_path, vector=[f"{number}.npy" for number in range(ROWS)]).name)
    wrong = [line for lines in verify(data, lambda done, of: None).wrong.values() for line in lines]
    assert len(wrong) == 1
    assert "row 32, column 'vector'" in wrong[0]
    assert wrong[0].endswith("it holds objects and no numbers, or is not a file of NumPy")


def test_an_encoder_of_raw_text_refuses_numbers_of_words_before_it_runs(line: CommandLine) -> None:
    table(line.folder, said=[f"this is the number {place}" for place in range(ROWS)])
    assert line("data", "describe", "t.csv").status == 0
    config = "encoder.said.config={model_type: bert, hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 1}"
    words = ("run", "-d", "t.yaml", "-m", "joint", "--encoder", "said=hf-text", "--set", config)
    assert "encoder/hf-text of 'said': takes raw text" in (why := line.refused(*words, "--set", "encoder.said.tokenizer=bytes"))
    assert "set 'numbers: bytes' for this modality" in why


def test_a_folder_of_hugging_face_whose_index_is_none(tmp_path: Path) -> None:
    for content in ("{}", "[]", "junk"):
        (tmp_path / "dataset_dict.json").write_text(content)
        with pytest.raises(Unsuitable, match=r"dataset_dict.json names no splits; expected what save_to_disk"):
            described(tmp_path)


def test_rows_without_a_group_or_an_id_share_none(tmp_path: Path) -> None:
    path = table(tmp_path, subject=[f"p{place // 4}" if place % 5 else None for place in range(ROWS)])
    groups = Table(0, tmp_path, file=path.name, group="subject").held.groups["group"]
    assert not set(groups["train"]) & set(groups["test"])
    assert any(name.startswith("row ") for names in groups.values() for name in names)


def test_a_class_is_in_each_split_whose_share_of_it_is_a_whole_row() -> None:
    shares = {"train": 0.7, "dev": 0.1, "valid": 0.1, "test": 0.1}
    for seed in range(20):
        strata = np.arange(48) % 3
        split = shared(shares, strata, None, seed)
        assert all(set(split[strata == stratum]) == set(shares) for stratum in range(3))
        assert (split == "train").sum() >= 31


@pytest.mark.parametrize("kind", ["class", "labels", "segments"])
def test_a_class_that_a_split_lacks_is_told_with_what_follows(kind: str, tmp_path: Path) -> None:
    """One that is in train alone, one that is in test alone, and a stated one that no row has."""
    cells = with_cell(with_cell(LABELS, 4, "uil"), 46, "pad")
    if kind == "class":
        labels: list[Any] = cells
    elif kind == "labels":
        labels = [f"kat|{cell}" if cell != "kat" else cell for cell in cells]
    else:
        labels = [[cell, "kat"] for cell in cells]
    path = tmp_path / "t.parquet" if kind == "segments" else tmp_path / "t.csv"
    table(tmp_path, path.name, label=labels, split=["train"] * 30 + ["dev"] * 6 + ["valid"] * 6 + ["test"] * 6)
    found = described(path, classes=["kat", "hond", "vis", "uil", "pad", "mus"])
    first = 1 if kind == "segments" else 2
    alone, said = f"; train has it once (row {4 + first}), so ", list(remarks(found, classes(found)))
    assert [line for line in said if " classes do" in line] == [
        "odd: 1 of 6 classes does not occur ('mus') in any split",
        f"odd: dev: 1 of 6 classes does not occur ('uil'){alone}what is fitted on dev, such as competition strength, does not know it",
        f"odd: valid: 1 of 6 classes does not occur ('uil'){alone}the epoch is chosen without it",
        f"odd: test: 1 of 6 classes does not occur ('uil'){alone}the results on test say nothing about it",
        f"wrong: train: 1 of 6 classes does not occur ('pad'); test has it once (row {46 + first}), so the model cannot learn it",
    ]


def test_a_column_that_is_not_there_is_told_before_an_entry_that_is(line: CommandLine) -> None:
    columns: dict[str, Any] = {f"z_{place}": place for place in range(20)}
    table(line.folder, **columns)
    words = ("data", "describe", "t.csv")
    assert line(*words).status == 0
    assert "t.yaml already exists; describe t.yaml itself" in line.refused(*words)
    said = line.refused(*words, "--label", "Lable")
    assert "t.csv has no column 'Lable' (setting 'label'): did you mean 'label'? Known: x_0, x_1, " in said
    assert said.endswith(", and 5 more.\n")
    for option in (
        ("--group", "x"),
        ("--split", "x"),
        ("--set", "id=x"),
        ("--set", "weight=x"),
        ("--label", "x_0", "--label", "x"),
    ):
        assert "t.csv has no column 'x' (setting " in line.refused(*words, *option)
        assert "t.csv has no column 'x' (setting " in line.refused("data", "describe", "t.yaml", *option)
    (line.folder / "t.csv").unlink()
    assert "t.csv is missing" in line.refused(*words)


def test_describe_refuses_names_that_nobody_could_use_and_quotes_its_next_step(line: CommandLine) -> None:
    table(line.folder, "my täble (1).csv", label=["a" * 200, "b", "c\nd"] * (ROWS // 3))
    told = line("data", "describe", "my täble (1).csv")
    assert "wrong: class 0 is called 'aaaaaaaaaaaa...aaaaaaaaaaaaa'; a name should be one line" in told.out
    assert "next: correct what is wrong, then: agmbench data verify 'my täble (1).yaml'" in told.out
    table(line.folder, label_a=[0, 2] * (ROWS // 2), label_b=1, label=None)
    assert "row 3, column 'label_a': 2 is not a label; expected 0 or 1" in line.refused(
        "data", "describe", "t.csv", "--label", "label_a", "--label", "label_b"
    )
    pd.DataFrame({"age": [1, 2], "size": [3, 4], "label": ["a", "b"]}).to_csv(line.folder / "u.csv", index=False)
    assert "'/' is not a table; expected a file, or a folder" in line.refused("data", "describe", "/")
    assert "name them, as in --set 'modalities={NAME: {kind: numbers, columns" in line.refused("data", "describe", "u.csv")
