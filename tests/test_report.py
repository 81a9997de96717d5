"""Records become tables, and tables text in five forms."""

import csv
import io
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from agmbench.records import FAILED, FINISHED, KILLED, RUNNING, Record
from agmbench.report.render import render, show
from agmbench.report.tables import Row, Table, compare

MEASURED = {
    "test/accuracy": 0.5,
    "test/response/audio": 0.25,
    "test/response/image": 0.4,
    "test/strength/audio": 0.125,
    "test/strength/image": 0.75,
    "test/concept/audio": 0.3,
    "test/concept/image": 0.45,
}


def record(
    modulator: str = "joint",
    seed: int = 1,
    params: Mapping[str, Any] | None = None,
    cell: str = "cell",
    settings: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    without: str = "no such",
    reason: str = "",
    **fields: Any,
) -> Record:
    """A finished run with all measures; `metrics` replaces some, `without` leaves out those that begin so."""
    spec = {
        "dataset": {"name": "digits", "params": {"noise": 1.0}},
        "encoders": {m: {"name": "mlp", "params": {"hidden": 32}} for m in ("audio", "image")},
        "fusion": {"name": "concat", "params": {}},
        "modulator": {"name": modulator, "params": dict(params or {})},
        "training": {"epochs": 10, "schedule": {"name": "constant"}},
        "seed": seed,
        **(settings or {}),
    }
    known: dict[str, Any] = {
        "run_id": "run",
        "name": f"digits {modulator} {seed}",
        "status": FINISHED,
        "digest": f"{modulator} {seed} {params} {cell}",
        "cell": cell,
        "spec": spec,
        "modalities": ("audio", "image"),
        "concept": False,
        "metrics": {k: v for k, v in {**MEASURED, **(metrics or {})}.items() if not k.startswith(without)},
        "tags": {"agmbench.reason": reason} if reason else {},
    }
    return Record(**{**known, **fields})


def unfinished(status: str, modulator: str = "joint", reason: str = "", **fields: Any) -> Record:
    return record(modulator, metrics={}, without="test/", status=status, reason=reason, **fields)


def only(*records: Record, modulators: tuple[str, ...] = ()) -> Table:
    (table,) = compare(records, modulators)
    return table


def row(table: Table, label: str) -> Row:
    (found,) = (row for row in table.rows if row.label == label)
    return found


def labels(table: Table) -> list[str]:
    return [row.label for row in table.rows]


# numbers


def test_a_value_is_mean_and_sample_deviation_over_seeds() -> None:
    runs = [record(seed=seed, metrics={"test/accuracy": value}) for seed, value in ((1, 0.5), (2, 0.6), (3, 0.7))]
    found = row(only(*runs), "joint")
    assert found.seeds == 3
    assert found.values["acc"].mean == pytest.approx(60)
    assert found.values["acc"].std == pytest.approx(10)
    assert found.values["acc"].values == pytest.approx((50, 60, 70))


def test_values_stand_in_the_order_of_seeds() -> None:
    runs = [record(seed=seed, metrics={"test/accuracy": seed / 10}) for seed in (3, 1, 2)]
    assert row(only(*runs), "joint").values["acc"].values == pytest.approx((10, 20, 30))


def test_one_seed_has_no_deviation() -> None:
    value = row(only(record()), "joint").values["acc"]
    assert (value.mean, value.std, value.reason) == (50, None, "")


def test_accuracies_are_percent_and_strengths_are_not() -> None:
    values = row(only(record()), "joint").values
    assert {key: value.mean for key, value in values.items()} == {
        "acc": 50,
        "acc_audio": 25,
        "acc_image": 40,
        "d_audio": 0.125,
        "d_image": 0.75,
    }


def test_the_concept_row_has_the_accuracy_of_each_modality_alone() -> None:
    runs = [record("agm", seed, metrics={"test/concept/audio": value}) for seed, value in ((1, 0.2), (2, 0.4))]
    table = only(*runs, record("joint", 1, metrics={"test/concept/audio": 0.2}))
    found = row(table, "concept")
    assert table.rows[0] is found
    assert found.seeds == 2
    assert found.values["acc_audio"].values == pytest.approx((20, 40))
    assert found.values["acc_image"].mean == pytest.approx(45)
    for key in ("acc", "d_audio", "d_image"):
        assert found.values[key].mean is None
        assert found.values[key].reason == "a concept is one modality alone"


def test_without_concepts_there_is_no_concept_row() -> None:
    assert labels(only(record(without="test/concept"))) == ["joint"]


def test_concept_runs_are_no_rows() -> None:
    assert compare([record(concept=True)]) == []
    assert labels(only(record(), record("joint", 2, concept=True))) == ["concept", "joint"]


def test_no_records_are_no_tables() -> None:
    assert compare([]) == []


# what is missing has a reason


def test_a_strength_that_was_not_measured_says_so() -> None:
    values = row(only(record(without="test/strength")), "joint").values
    for key in ("d_audio", "d_image"):
        assert (values[key].mean, values[key].reason) == (None, "not measured (--no-strength)")
    assert values["acc"].mean == 50


def test_a_measure_that_the_run_does_not_have_says_so() -> None:
    assert row(only(record(without="test/response/audio")), "joint").values["acc_audio"].reason == "not in the run"


def test_a_value_of_fewer_seeds_than_its_row_is_noted() -> None:
    table = only(record(seed=1), record(seed=2), record(seed=3, without="test/strength"))
    assert row(table, "joint").seeds == 3
    assert len(row(table, "joint").values["d_audio"].values) == 2
    assert any("joint" in note and "d_audio" in note for note in table.notes)


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (FAILED, "loss is not finite", "FAILED: loss is not finite"),
        (KILLED, "", "KILLED"),
        (RUNNING, "", "RUNNING"),
    ],
)
def test_a_method_without_a_finished_run_is_dashes_with_the_reason(status: str, reason: str, expected: str) -> None:
    table = only(record(), unfinished(status, "agm", reason))
    found = row(table, "agm")
    assert found.seeds == 0
    assert {(value.mean, value.reason) for value in found.values.values()} == {(None, expected)}
    assert table.notes == []


def test_of_several_unfinished_runs_the_newest_gives_the_reason() -> None:
    old = unfinished(FAILED, "agm", "old trouble", seed=1, started=1)
    new = unfinished(FAILED, "agm", "new trouble", seed=2, started=2)
    assert row(only(new, old), "agm").values["acc"].reason == "FAILED: new trouble"


def test_one_failed_seed_among_finished_ones_is_a_note() -> None:
    table = only(record("agm", 1), unfinished(FAILED, "agm", "out of memory", seed=2))
    assert row(table, "agm").seeds == 1
    assert table.notes == ["agm, seed 2: FAILED: out of memory"]


def test_a_modulator_asked_for_and_not_run_is_a_row_of_dashes() -> None:
    table = only(record("joint"), modulators=("joint", "ogm"))
    assert {value.reason for value in row(table, "ogm").values.values()} == {"no run in this setting"}
    assert row(table, "ogm").seeds == 0


def test_only_the_modulators_asked_for_are_rows() -> None:
    assert labels(only(record("joint"), record("agm"), record("ogm"), modulators=("agm",))) == ["concept", "agm"]


# which run counts


def test_the_newest_finished_run_of_a_job_counts() -> None:
    runs = [
        record(digest="job", started=1, metrics={"test/accuracy": 0.1}),
        record(digest="job", started=3, metrics={"test/accuracy": 0.3}),
        record(digest="job", started=2, metrics={"test/accuracy": 0.2}),
        unfinished(FAILED, digest="job", started=4),
        unfinished(RUNNING, digest="job", started=5),
    ]
    table = only(*runs)
    assert row(table, "joint").values["acc"].values == pytest.approx((30,))
    assert table.notes == []


def test_a_seed_counts_once_when_its_modulator_was_renewed() -> None:
    old = record("agm", 1, digest="version 1", started=1, metrics={"test/accuracy": 0.1})
    new = record("agm", 1, digest="version 2", started=2, metrics={"test/accuracy": 0.3})
    found = row(only(new, old), "agm")
    assert found.seeds == 1
    assert found.values["acc"].values == pytest.approx((30,))


# rows and tables


def test_the_baseline_comes_first_then_names() -> None:
    runs = [record(name) for name in ("ogm", "agm-ge", "joint", "agm")]
    assert labels(only(*runs)) == ["concept", "joint", "agm", "agm-ge", "ogm"]


def test_rows_name_the_parameters_in_which_their_runs_differ() -> None:
    runs = [record("agm", seed, {"alpha": alpha, "cap": None}) for alpha in (1.0, 2.5) for seed in (1, 2)]
    table = only(*runs, record("ogm", 1, {"alpha": 0.8}))
    assert labels(table) == ["concept", "agm alpha=1.0", "agm alpha=2.5", "ogm"]
    assert row(table, "agm alpha=1.0").seeds == 2


def test_rows_that_differ_in_two_parameters_name_both() -> None:
    runs = [record("agm", 1, {"alpha": 1.0, "cap": None}), record("agm", 1, {"alpha": 2.0, "cap": 3.0})]
    assert labels(only(*runs)) == ["concept", "agm alpha=1.0 cap=None", "agm alpha=2.0 cap=3.0"]


def test_one_cell_has_a_plain_title() -> None:
    table = only(record(seed=1), record("agm", seed=2, params={"alpha": 1}))
    assert (table.title, table.settings) == ("digits, fusion concat", {})


def test_cells_that_differ_say_in_what() -> None:
    longer = {"training": {"epochs": 20, "schedule": {"name": "constant"}}}
    noisier = {"dataset": {"name": "digits", "params": {"noise": 2.0}}}
    tables = compare([record(), record(cell="b", settings=longer), record(cell="c", settings=noisier)])
    assert [table.title for table in tables] == [
        "digits, fusion concat, dataset.noise=1.0, training.epochs=10",
        "digits, fusion concat, dataset.noise=1.0, training.epochs=20",
        "digits, fusion concat, dataset.noise=2.0, training.epochs=10",
    ]


def test_a_setting_that_one_cell_does_not_have_is_a_dash_there() -> None:
    resnet = {m: {"name": "resnet", "params": {}} for m in ("audio", "image")}
    tables = compare([record(), record(cell="b", settings={"encoders": resnet})])
    found = [{key.removeprefix("encoders.audio."): value for key, value in table.settings.items()} for table in tables]
    assert [(each["name"], each["hidden"]) for each in found] == [("resnet", "-"), ("mlp", 32)]


def test_another_fusion_is_another_table_and_no_difference() -> None:
    early = {"fusion": {"name": "early", "params": {"hidden": 8}}}
    tables = compare([record(cell="b", settings=early), record()])
    assert [table.title for table in tables] == ["digits, fusion concat", "digits, fusion early"]


def test_columns_are_the_modalities_of_the_cell() -> None:
    assert [column.title for column in only(record()).columns] == ["Acc", "Acc_audio", "Acc_image", "d_audio", "d_image"]


# text


def some() -> list[Table]:
    """Two tables with a mean, a single value, a dash and a note."""
    return compare(
        [
            record("joint", 1, metrics={"test/accuracy": 0.5}),
            record("joint", 2, metrics={"test/accuracy": 0.75}),
            record("agm", 1, without="test/strength"),
            unfinished(FAILED, "agm", "50% of_it", seed=2),
            unfinished(FAILED, "ogm", "out of memory"),
            record("joint", 1, cell="early", settings={"fusion": {"name": "early", "params": {}}}),
        ]
    )


def test_json_has_every_number() -> None:
    concat, early = json.loads(render(some(), "json"))
    assert (concat["dataset"], concat["fusion"], early["fusion"]) == ("digits", "concat", "early")
    rows = {row["method"]: row for row in concat["rows"]}
    assert list(rows) == ["concept", "joint", "agm", "ogm"]
    joint = rows["joint"]["values"]["acc"]
    assert joint == {"mean": 62.5, "std": pytest.approx(17.67767), "n": 2, "values": [50, 75], "reason": ""}
    assert rows["agm"]["values"]["d_audio"]["reason"] == "not measured (--no-strength)"
    assert rows["ogm"]["values"]["acc"] == {"mean": None, "std": None, "n": 0, "values": [], "reason": "FAILED: out of memory"}
    assert concat["notes"] == ["agm, seed 2: FAILED: 50% of_it"]


def test_json_of_a_number_that_is_none_is_json() -> None:
    text = render(compare([record(metrics={"test/strength/audio": float("nan")})]), "json")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_csv_has_a_line_a_number() -> None:
    lines = list(csv.DictReader(io.StringIO(render(some(), "csv"))))
    assert len(lines) == (4 + 2) * 5
    found = {(line["fusion"], line["method"], line["column"]): line for line in lines}
    joint = found["concat", "joint", "acc"]
    assert (float(joint["mean"]), joint["n"], joint["reason"]) == (62.5, "2", "")
    assert float(joint["std"]) == pytest.approx(17.67767)
    assert found["early", "joint", "acc"]["std"] == ""
    dash = found["concat", "ogm", "d_image"]
    assert (dash["mean"], dash["std"], dash["n"], dash["reason"]) == ("", "", "0", "FAILED: out of memory")


def test_csv_of_settings_and_reasons_with_commas_parses_back() -> None:
    strange = {"dataset": {"name": "digits", "params": {"noise": [1.0, 2.0]}}}
    tables = compare([record(), record(cell="b", settings=strange), unfinished(FAILED, "agm", 'a "quoted", reason')])
    lines = list(csv.DictReader(io.StringIO(render(tables, "csv"))))
    assert {line["settings"] for line in lines} == {"dataset.noise=1.0", "dataset.noise=[1.0, 2.0]"}
    assert {line["reason"] for line in lines if line["method"] == "agm"} == {'FAILED: a "quoted", reason'}


def test_markdown_is_one_table_a_setting() -> None:
    text = render(some(), "markdown")
    assert "**digits, fusion concat**" in text
    assert "| method | n | Acc | Acc_audio | Acc_image | d_audio | d_image |" in text
    assert "| joint | 2 | 62.50 ± 17.68 | 25.00 ± 0.00 |" in text
    assert "| agm | 1 | 50.00 | 25.00 | 40.00 | – [2] | – [2] |" in text
    assert "\n[2] not measured (--no-strength)\n" in text
    assert "agm, seed 2: FAILED: 50% of_it" in text
    bars = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert set(bars) == {8}


def test_markdown_keeps_a_bar_inside_its_cell() -> None:
    tables = compare([record("agm", 1, {"mute": "a|b"}), record("agm", 1, {"mute": "zeros"})])
    (line,) = (line for line in render(tables, "markdown").splitlines() if "mute=a" in line)
    assert len(re.findall(r"(?<!\\)\|", line)) == 8


def test_latex_is_a_booktabs_table() -> None:
    text = render(some(), "latex")
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 2
    assert "\\begin{tabular}{lrrrrrr}" in text
    assert "method & n & Acc & Acc\\_audio & Acc\\_image & d\\_audio & d\\_image \\\\" in text
    assert "joint & 2 & 62.50 $\\pm$ 17.68 & 25.00 $\\pm$ 0.00 &" in text
    assert "agm & 1 & 50.00 & 25.00 & 40.00 & -- [2] & -- [2] \\\\" in text
    for rule in ("\\toprule", "\\midrule", "\\bottomrule"):
        assert text.count(rule) == 2
    assert "+-" not in text


def test_latex_escapes_what_it_would_read_as_commands() -> None:
    reason = "50% of $x_1 & #2 {a} ~b ^c \\d"
    tables = compare([record("agm", 1), unfinished(FAILED, "agm", reason, seed=2)])
    caption = re.search(r"\\caption\{(.*)\}", render(tables, "latex"))
    assert caption is not None
    expected = r"50\% of \$x\_1 \& \#2 \{a\} \textasciitilde{}b \textasciicircum{}c \textbackslash{}d"
    assert expected in caption[1]


def test_latex_escapes_titles_and_labels() -> None:
    runs = [record("my_agm", 1, {"the_alpha": 1}), record("my_agm", 1, {"the_alpha": 2})]
    other = record(cell="b", settings={"training": {"batch_size": 3}})
    text = render(compare([*runs, other]), "latex")
    assert "my\\_agm the\\_alpha=1 & 1 &" in text
    assert "training.batch\\_size=3" in text
    assert not re.search(r"(?<!\\)_", text)


def test_the_terminal_shows_numbers_dashes_and_their_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    for table in some():
        show(table)
    out = capsys.readouterr().out
    assert "digits, fusion concat" in out
    assert "digits, fusion early" in out
    assert re.search(r"joint\s+2\s+62\.50 ± 17\.68\s+25\.00 ± 0\.00", out)
    assert re.search(r"ogm\s+0\s+– \[3\]", out)
    assert "[3] FAILED: out of memory" in out
    assert "agm, seed 2: FAILED: 50% of_it" in out
    assert "+-" not in out


def test_a_pipe_sees_no_folded_cell_and_no_folded_title(capsys: pytest.CaptureFixture[str]) -> None:
    long = {"dataset": {"name": "digits", "params": {"a_parameter_with_a_long_name": "and a value that is long as well " * 3}}}
    tables = compare([record("a-method-with-a-long-name", seed, cell="b", settings=long) for seed in (1, 2)] + [record()])
    for table in tables:
        show(table)
        out = capsys.readouterr().out
        assert table.title in out
        assert len([line for line in out.splitlines() if re.match(r" \w", line)]) == len(table.rows) + 1


def test_the_terminal_shows_text_in_brackets_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    strange = {"dataset": {"name": "digits", "params": {"noise": "[bold]"}}}
    for table in compare([record(), record(cell="b", settings=strange)]):
        show(table)
    assert "dataset.noise=[bold]" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["json", "csv", "markdown", "latex"])
def test_every_form_says_what_the_numbers_are_of(form: str) -> None:
    text = render(some(), form)
    for word in ("digits", "concat", "early", "joint", "agm", "ogm"):
        assert word in text


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_written_tables_explain_their_columns(form: str) -> None:
    text = render(some(), form)
    for words in ("accuracy on test, ", "competition strength", "sample standard deviation over n seeds"):
        assert words in text
