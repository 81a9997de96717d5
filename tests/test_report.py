"""Tables are made of records, and are written as text in five formats."""

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agmbench import measures, registry
from agmbench.errors import AgmbenchError
from agmbench.outcomes import KINDS, Quantity
from agmbench.records import FAILED, FINISHED, KILLED, RUNNING, Heading, Measurement, Record, Selected, chosen
from agmbench.report import sheets
from agmbench.report.against import against, best, pool, pools
from agmbench.report.html import page
from agmbench.report.published import TABLES, published
from agmbench.report.render import render, save
from agmbench.report.sweeps import Chosen, Tuned, side_by_side
from agmbench.report.tables import Row, Table, compare
from agmbench.report.terminal import show
from agmbench.trackers.tags import described

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
    """A finished run with all metrics. `metrics` replaces some; those whose names begin with `without` are left out."""
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
    assert found.values["accuracy"].mean == pytest.approx(60)
    assert found.values["accuracy"].std == pytest.approx(10)
    assert found.values["accuracy"].values == pytest.approx((50, 60, 70))


def test_values_stand_in_the_order_of_seeds() -> None:
    runs = [record(seed=seed, metrics={"test/accuracy": seed / 10}) for seed in (3, 1, 2)]
    assert row(only(*runs), "joint").values["accuracy"].values == pytest.approx((10, 20, 30))


def test_one_seed_has_no_deviation() -> None:
    value = row(only(record()), "joint").values["accuracy"]
    assert (value.mean, value.std, value.reason) == (50, None, "")


def test_accuracies_are_percent_and_strengths_are_not() -> None:
    values = row(only(record()), "joint").values
    assert {key: value.mean for key, value in values.items()} == {
        "accuracy": 50,
        "response/audio": 25,
        "response/image": 40,
        "strength/audio": 0.125,
        "strength/image": 0.75,
    }


def test_the_concept_row_has_the_accuracy_of_each_modality_alone() -> None:
    runs = [record("agm", seed, metrics={"test/concept/audio": value}) for seed, value in ((1, 0.2), (2, 0.4))]
    table = only(*runs, record("joint", 1, metrics={"test/concept/audio": 0.2}))
    found = row(table, "concept")
    assert table.rows[0] is found
    assert found.seeds == 2
    assert found.values["response/audio"].values == pytest.approx((20, 40))
    assert found.values["response/image"].mean == pytest.approx(45)
    for key in ("accuracy", "strength/audio", "strength/image"):
        assert found.values[key].mean is None
        assert found.values[key].reason == "this row is of unimodal models (concepts), which have no value here"


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
    for key in ("strength/audio", "strength/image"):
        assert (values[key].mean, values[key].reason) == (None, "not measured (--no-strength)")
    assert values["accuracy"].mean == 50


def test_a_measure_that_the_run_does_not_have_says_so() -> None:
    assert row(only(record(without="test/response/audio")), "joint").values["response/audio"].reason == "not in the run"


def test_a_value_of_fewer_seeds_than_its_row_is_noted() -> None:
    table = only(record(seed=1), record(seed=2), record(seed=3, without="test/strength"))
    assert row(table, "joint").seeds == 3
    assert len(row(table, "joint").values["strength/audio"].values) == 2
    assert any("joint" in note and "strength/audio" in note for note in table.notes)


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
    assert row(only(new, old), "agm").values["accuracy"].reason == "FAILED: new trouble"


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
    assert row(table, "joint").values["accuracy"].values == pytest.approx((30,))
    assert table.notes == []


def test_a_seed_counts_once_when_its_modulator_was_renewed() -> None:
    old = record("agm", 1, digest="version 1", started=1, metrics={"test/accuracy": 0.1})
    new = record("agm", 1, digest="version 2", started=2, metrics={"test/accuracy": 0.3})
    found = row(only(new, old), "agm")
    assert found.seeds == 1
    assert found.values["accuracy"].values == pytest.approx((30,))


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
    assert labels(only(*runs)) == ["concept", "agm alpha=1.0 cap=null", "agm alpha=2.0 cap=3.0"]


def test_rows_name_what_their_method_has_otherwise_than_by_default() -> None:
    runs = [
        record("ogm", seed, {"alpha": 0.8, "responses": "shapley"}, departures={"modulator.responses": "shapley"})
        for seed in (1, 2)
    ]
    table = only(*runs, record("agm", 1, {"alpha": 1.0}, departures={}))
    assert labels(table) == ["concept", "agm", "ogm responses=shapley"]
    assert table.title == "digits, fusion concat"


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
    found = [(table.settings["encoder.audio"], table.settings["encoder.audio.hidden"]) for table in tables]
    assert found == [("mlp", 32), ("resnet", "-")]


def test_another_fusion_is_another_table_and_no_difference() -> None:
    early = {"fusion": {"name": "early", "params": {"hidden": 8}}}
    tables = compare([record(cell="b", settings=early), record()])
    assert [table.title for table in tables] == ["digits, fusion concat", "digits, fusion early"]


def test_columns_are_the_modalities_of_the_cell() -> None:
    assert [column.title for column in only(record()).columns] == ["Acc", "Acc_audio", "Acc_image", "d_audio", "d_image"]


# against a baseline


def runs(modulator: str, accuracies: Mapping[int, float] | Sequence[float], **more: Any) -> list[Record]:
    """One run per seed, with these accuracies in percent. If no seeds are given, they are 1, 2, ..."""
    by_seed = accuracies if isinstance(accuracies, Mapping) else dict(enumerate(accuracies, 1))
    return [record(modulator, seed, metrics={"test/accuracy": value / 100}, **more) for seed, value in by_seed.items()]


EARLY: dict[str, Any] = {"cell": "early", "settings": {"fusion": {"name": "early", "params": {}}}}


def test_a_method_is_compared_with_the_baseline_seed_by_seed() -> None:
    (found,) = against(only(*runs("joint", [50, 60, 70]), *runs("agm", [51, 62, 73])), "joint")
    assert (found.label, found.pairs) == ("agm", 3)
    assert found.difference == pytest.approx(2)
    assert found.effect == pytest.approx(2)  # differences 1, 2, 3: mean 2, deviation 1
    assert found.interval == pytest.approx((2 - 4.3026527 / 3**0.5, 2 + 4.3026527 / 3**0.5))
    assert (found.p, found.holm) == (0.25, 0.25)


def test_only_seeds_that_both_have_are_pairs() -> None:
    table = only(*runs("joint", {1: 50, 2: 60, 4: 70}), *runs("agm", {4: 71, 2: 62, 3: 99}), *runs("ogm", {1: 50}))
    (found,) = against(table, "joint")
    assert (found.label, found.pairs, found.difference) == ("agm", 2, pytest.approx(1.5))
    (sheet,) = sheets.of_table(table, "joint")[1:]
    assert "ogm: not compared, only one seed in common with joint" in sheet.notes


def test_differences_that_do_not_vary_have_a_note_beside_their_dashes() -> None:
    table = only(*runs("joint", [50, 60]), *runs("agm", [51, 61]), *runs("ogm", [51, 62]))
    (sheet,) = sheets.of_table(table, "joint")[1:]
    assert [row[3:5].count("–") for row in sheet.body] == [2, 0]
    assert sheet.notes == ["agm: the difference is the same for every seed, so it has no interval and no d_z"]


def test_a_seed_whose_accuracy_is_no_number_is_no_pair() -> None:
    (found,) = against(only(*runs("joint", [50, 60, 70]), *runs("agm", [51, float("nan"), 72])), "joint")
    assert (found.pairs, found.difference) == (2, pytest.approx(1.5))


def test_equal_runs_have_no_effect_size_and_no_interval() -> None:
    (found,) = against(only(*runs("joint", [50, 60]), *runs("agm", [50, 60])), "joint")
    assert (found.difference, found.effect, found.interval, found.p) == (0, None, None, 1)


def test_holm_counts_the_methods_of_the_table() -> None:
    others = {name: runs(name, [50 + place + seed * step for seed in range(5)]) for place, (name, step) in enumerate(OTHERS)}
    table = only(*runs("joint", [50] * 5), *(run for found in others.values() for run in found))
    found = {each.label: each for each in against(table, "joint")}
    assert {label: each.p for label, each in found.items()} == {"agm": 0.0625, "mslr": 0.125, "ogm": 0.0625}
    assert {label: each.holm for label, each in found.items()} == {"agm": 0.1875, "mslr": 0.1875, "ogm": 0.1875}


OTHERS = (("mslr", 1), ("agm", 1), ("ogm", 2))  # mslr: 0 on the first seed


def test_the_comparison_turns_round_with_the_baseline() -> None:
    table = only(*runs("joint", [50, 61, 70, 55]), *runs("agm", [53, 60, 72, 58]))
    (one,), (other,) = against(table, "joint"), against(table, "agm")
    assert (one.label, other.label) == ("agm", "joint")
    assert one.p == other.p
    assert one.difference == pytest.approx(-other.difference)
    assert one.effect == pytest.approx(-(other.effect or 0))


def test_without_the_baseline_nothing_is_compared() -> None:
    table = only(*runs("ogm", [50, 60]), *runs("agm", [51, 62]))
    assert against(table, "joint") == []
    assert len(sheets.of_table(table, "joint")) == 1
    assert [each.label for each in against(table, "ogm")] == ["agm"]


def test_the_caption_says_what_five_seeds_can_and_cannot_show() -> None:
    for count, least, cannot in ((5, "0.0625", True), (6, "0.0312", False)):
        table = only(*runs("joint", [50] * count), *runs("agm", [60 + seed for seed in range(count)]))
        caption = sheets.of_table(table, "joint")[1].caption
        assert f"The smallest p that {count} pairs can give is {least}" in caption
        assert ("so no method can be significant at 0.05 in this table" in caption) is cannot


def two_cells(late: Sequence[float], early: Sequence[float]) -> list[Table]:
    """The tables of two cells in which agm is ahead of joint by these points."""
    return compare(
        [
            *runs("joint", [50] * len(late)),
            *runs("agm", [50 + each for each in late]),
            *runs("joint", [70] * len(early), **EARLY),
            *runs("agm", [70 + each for each in early], **EARLY),
        ]
    )


def test_cells_are_pooled_each_counting_the_same() -> None:
    (found,) = pool(two_cells([1, 2, 3], [7, 9]), "joint")
    assert (found.cells, found.pairs) == (2, 5)
    assert found.difference == pytest.approx((2 + 8) / 2)
    assert found.p == found.holm == pytest.approx(2 / 32)


def test_a_win_needs_the_interval_with_the_pooled_spread_to_exclude_zero() -> None:
    # sums of squares 2 and 2 with 2 + 1 degrees of freedom: spread 1.1547; t(3) = 3.18: half width 2.12 for three pairs, 2.60 for two
    (found,) = pool(two_cells([1, 2, 3], [7, 9]), "joint")
    assert (found.wins, found.ties, found.losses) == (1, 1, 0)
    (found,) = pool(two_cells([-1, -2, -3], [-7, -9]), "joint")
    assert (found.wins, found.ties, found.losses) == (0, 1, 1)


def test_without_spread_every_cell_is_a_tie() -> None:
    (found,) = pool(two_cells([1, 1], [2, 2]), "joint")
    assert (found.wins, found.ties, found.losses) == (0, 2, 0)


def test_ten_pairs_of_two_cells_can_show_what_five_cannot() -> None:
    (found,) = pool(two_cells([1, 2, 3, 2, 1], [2, 1, 2, 3, 4]), "joint")
    assert found.p == pytest.approx(2 / 1024)


def test_one_cell_is_not_pooled() -> None:
    assert pool([only(*runs("joint", [50, 60]), *runs("agm", [51, 62]))], "joint") == []
    assert pool([], "joint") == []


def put(found: Sequence[Record], cell: str, **fields: Any) -> list[Record]:
    """The same runs in another cell."""
    return [replace(one, cell=cell, digest=f"{one.digest} {cell}", **fields) for one in found]


def test_cells_that_are_judged_by_other_numbers_are_not_pooled() -> None:
    audio = [*runs("joint", [50, 60]), *runs("agm", [51, 62])]
    for asked in (["response/audio"], ["response"]):
        (found,) = pools(compare([*audio, *put(audio, "b")], asked=asked), "joint")
        assert (found.figure.key, found.methods[0].cells) == ("response/audio", 2)
    other = put(audio, "b", modalities=("image", "audio"))  # the two cells have different first modalities
    assert pools(compare([*audio, *other], asked=["response"]), "joint") == []
    percent, plain = (Measurement("mine", "1", [Quantity("mine", "mine", "mine", unit)]) for unit in ("%", ""))
    mine = [replace(one, metrics={"test/mine": one.metrics["test/accuracy"]}) for one in audio]
    units = [*put(mine, "a", measurements={"mine": percent}), *put(mine, "b", measurements={"mine": plain})]
    assert len(compare(units, asked=["mine"])) == 2
    assert pools(compare(units, asked=["mine"]), "joint") == []


def test_cells_chosen_on_test_are_pooled_apart_and_both_say_so() -> None:
    audio = [*runs("joint", [50, 60]), *runs("agm", [51, 62])]
    on: list[tuple[str, Selected]] = [("a", "valid"), ("b", "valid"), ("c", "test"), ("d", "test")]
    tables = compare([one for cell, selected in on for one in put(audio, cell, selected=selected)])
    assert [found.methods[0].cells for found in pools(tables, "joint")] == [2, 2]
    captions = [sheet.caption for sheet in sheets.of_all(tables, "joint")]
    assert ["ON TEST" in caption for caption in captions] == [False, True]
    assert ["chosen on valid" in caption for caption in captions] == [True, False]
    lines = [line for line in csv.DictReader(io.StringIO(render(tables, "csv"))) if line["dataset"] == "all"]
    assert {line["chosen"] for line in lines} == {table.chosen for table in tables}
    assert page(tables, lambda *_: {}, "joint").count('id="all"') == 1
    pooled = json.loads(render(tables, "json"))["pooled"]["accuracy"]
    assert {one["chosen"] for one in pooled} == {table.chosen for table in tables}


def test_nothing_is_won_where_neither_more_nor_less_is_better() -> None:
    share = Measurement("share", "1", [Quantity("share", "share", "a share", better="neither")])
    both = (*runs("joint", [50, 51, 52]), *runs("agm", [60, 61, 62.5]))
    measured = [
        replace(one, measurements={"share": share}, metrics={"test/share": one.metrics["test/accuracy"]}) for one in both
    ]
    found = [*put(measured, "a"), *put(measured, "b")]
    tables = compare(found, asked=["share"])
    (pooled,) = pools(tables, "joint")
    assert (pooled.methods[0].wins, pooled.methods[0].ties, pooled.methods[0].losses) == (None, None, None)
    (sheet,) = sheets.of_all(tables, "joint")
    assert "wins" not in " ".join(sheet.header)
    assert "won" not in sheet.caption
    names = {line["column"] for line in csv.DictReader(io.StringIO(render(tables, "csv"))) if line["dataset"] == "all"}
    assert names == {"difference joint", "p joint", "p_holm joint"}


def test_differences_of_a_percentage_of_which_less_is_better_say_so() -> None:
    ece = Measurement("ece", "1", [Quantity("ece", "ECE", "an error", "%", better="lower")])
    both = (*runs("joint", [50, 51]), *runs("agm", [60, 62]))
    measured = [replace(one, measurements={"ece": ece}, metrics={"test/ece": one.metrics["test/accuracy"]}) for one in both]
    found = [*put(measured, "a"), *put(measured, "b")]
    tables = compare(found, asked=["ece"])
    for sheet in (sheets.of_table(tables[0], "joint")[1], *sheets.of_all(tables, "joint")):
        assert "Differences in points (lower is better)" in sheet.caption


# columns that some cells do not have

KNOWN = {
    "mine": Measurement("mine", "1", [Quantity("mine", "mine", "mine", tasks=("classification",))]),
    "gap": Measurement("gap", "1", [Quantity("gap", "gap_{}", "a gap", per="modality")], "not measured (--no-strength)"),
}


def regression(**fields: Any) -> Record:
    metrics = {"test/mae": 0.5, "test/r2": 0.25, "test/accuracy": 0.1}  # earlier versions called R2 accuracy
    return record(cell="line", task="regression", metrics=metrics, settings={"fusion": {"name": "sum", "params": {}}}, **fields)


def test_a_column_that_is_for_another_task_is_dashes_with_the_reason() -> None:
    classes, line = compare([record(), regression()], asked=["accuracy", "mae"])
    assert row(classes, "joint").values["accuracy"].mean == 50
    assert row(classes, "joint").values["mae"].reason == "not for classification"
    assert row(line, "joint").values["mae"].mean == 0.5
    assert row(line, "joint").values["accuracy"].reason == "not for regression"
    for form in ("markdown", "latex", "csv", "json"):
        assert "not for regression" in render([classes, line], form)


def test_a_cell_with_nothing_but_a_failed_run_has_the_columns_of_the_others() -> None:
    mine = {"mine": Measurement("mine", "1", KNOWN["mine"].quantities, values={"mine": 1.5})}
    done = record(metrics={"test/mine": 1.5}, measurements=mine)
    failed = unfinished(FAILED, "joint", "out of memory", cell="b", settings={"training": {"epochs": 3}})
    tables = compare([done, failed], asked=["accuracy", "mine"])
    found = {table.settings["training.epochs"]: row(table, "joint").values["mine"] for table in tables}
    assert found[10].mean == 1.5
    assert found[3].reason == "FAILED: out of memory"


def test_what_no_run_has_is_known_from_the_registry() -> None:
    (table,) = compare([record(without="test/concept")], asked=["accuracy", "mine", "gap", "concept"], metrics=KNOWN)
    found = {key: value.reason for key, value in row(table, "joint").values.items()}
    assert found == {
        "accuracy": "",
        "mine": "not measured (agmbench measure)",
        **dict.fromkeys(("gap/audio", "gap/image", "concept/audio", "concept/image"), "not measured (--no-strength)"),
    }


def test_one_number_of_a_quantity_is_a_column() -> None:
    other = record(cell="b", modalities=("text", "image"), settings={"fusion": {"name": "sum", "params": {}}})
    first, second = compare([record(), other], asked=["response/audio", "accuracy", "response"])
    assert [column.key for column in first.columns] == ["response/audio", "accuracy", "response/image"]
    assert row(first, "joint").values["response/audio"].mean == 25
    assert row(second, "joint").values["response/audio"].reason == "no audio here"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("acuracy", "--columns acuracy: there is no such quantity for classification or regression: did you mean"),
        ("response/adio", "--columns response/adio: .* did you mean 'response/audio'?"),
        ("accuracy/audio", "--columns accuracy/audio: there is no such quantity"),
        ("map", "--columns map: there is no such quantity for classification or regression"),
    ],
)
def test_a_word_that_no_cell_knows_is_an_error(word: str, said: str) -> None:
    with pytest.raises(AgmbenchError, match=said):
        compare([record(), regression()], asked=["accuracy", word])


def test_coalitions_of_a_cell_without_a_finished_run_are_dashes() -> None:
    table = compare([unfinished(FAILED, reason="out of memory")], asked=["coalition"])[0]
    assert [column.title for column in table.columns] == ["audio", "image", "audio + image"]
    assert {value.reason for value in row(table, "joint").values.values()} == {"FAILED: out of memory"}
    assert "out of memory" in render([table], "markdown")
    assert "out of memory" in page([table], lambda *_: {}, "joint")


def test_no_two_built_in_columns_of_a_task_have_one_title() -> None:
    known = measures.measures(registry.builtin())
    for kind in KINDS:
        titles = [quantity.title for one in known for quantity in one.quantities(kind)]
        assert len(set(titles)) == len(titles)


def test_numbers_of_another_version_than_the_present_one_are_told() -> None:
    quantities = [Quantity("mine", "mine", "mine")]
    old = [
        record(seed=seed, metrics={"test/mine": 1.0}, measurements={"mine": Measurement("mine", "1", quantities)})
        for seed in (1, 2)
    ]
    (table,) = compare(old, asked=["mine"], metrics={"mine": Measurement("mine", "2", quantities)})
    assert table.notes == [
        "joint: measured by version 1 of mine, whose present version is 2; measure all again with: agmbench measure mine"
    ]
    agm = replace(old[0], digest="agm", spec={**old[0].spec, "modulator": {"name": "agm", "params": {}}})
    (both,) = compare([*old, agm], asked=["mine"], metrics={"mine": Measurement("mine", "2", quantities)})
    assert [note.partition(":")[0] for note in both.notes] == ["joint, agm"]
    assert compare(old, asked=["mine"], metrics={"mine": Measurement("mine", "1", quantities)})[0].notes == []
    assert compare(old, asked=["accuracy"], metrics={"mine": Measurement("mine", "2", quantities)})[0].notes == []


# the protocol


def test_as_in_the_paper_is_said_of_the_papers_protocol_alone() -> None:
    on = "The epoch is chosen ON TEST"
    paper = {"dataset": {"name": "avmnist", "params": {"protocol": "paper"}}, "training": {}}
    own = {"dataset": {"name": "mine", "params": {}}, "training": {}}
    assert chosen("test", paper) == f"{on}, as in the paper, so figures are those of the best epoch there"
    assert chosen("test", own) == f"{on}, so figures are those of the best epoch there"


def test_a_random_sample_is_said_wherever_departures_are() -> None:
    found = record(tags={"agmbench.sample": "true"}, departures={"limit": 64})
    tables = compare([found])
    for form in ("markdown", "latex", "csv"):
        assert re.search(r"limit=64,? RANDOM SAMPLE", render(tables, form)), form
    assert json.loads(render(tables, "json"))["tables"][0]["sample"] is True
    known = {
        key: getattr(found, key) for key in ("name", "digest", "cell", "spec", "modalities", "concept", "tags", "departures")
    }
    assert "data set: limit=64, RANDOM SAMPLE." in described(Heading(**known, fingerprint="", samples={}))


@pytest.mark.parametrize(
    ("selected", "on_test", "said", "unsaid"),
    [
        ("valid", False, ["best on valid", "The epoch is chosen on valid"], "ON TEST"),
        ("test", True, ["the trial that is best ON TEST", "The epoch is chosen ON TEST"], "Test was read"),
        ("last", True, ["the trial that is best ON TEST", "The last epoch is taken."], "read"),
    ],
)
def test_a_sweep_says_where_its_trials_and_epochs_were_chosen(
    selected: Selected, on_test: bool, said: list[str], unsaid: str
) -> None:
    job = Chosen({}, 0.5, 0.5)
    spec = {"dataset": {"name": "mine", "params": {}}, "training": {}}
    note = side_by_side("mine", [Tuned("agm", {}, [], job, job, spec=spec, selected=selected, on_test=on_test)]).caption
    assert all(words in note for words in said), note
    assert unsaid not in note


# which method is bold


def test_five_seeds_make_nobody_bold() -> None:
    table = only(*runs("joint", [50, 51, 52, 53, 54]), *runs("agm", [90, 91, 92, 93, 94]))
    assert best(table) is None
    assert sheets.of_table(table, "joint")[0].bold == frozenset()


SIX = [50.0, 51, 52, 53, 54, 55]


def test_the_best_of_six_seeds_is_bold_if_it_beats_every_other() -> None:
    table = only(*runs("joint", SIX), *runs("agm", [each + 5 for each in SIX]))
    assert best(table) == "agm"
    assert "| agm | 6 | **57.50 ± 1.87** |" in render([table], "markdown")
    assert "agm & 6 & \\textbf{57.50 $\\pm$ 1.87} &" in render([table], "latex")
    assert render([table], "markdown").count("**57.50") == 1


def test_inside_the_noise_nobody_is_bold() -> None:
    joint, agm = runs("joint", SIX), runs("agm", [60.0, 60, 60, 60, 60, 54.9])
    assert best(only(*joint, *agm)) is None
    near = runs("ogm", [each + 4.9 + (seed % 2) * 0.2 for seed, each in enumerate(SIX)])
    assert best(only(*joint, *runs("agm", [each + 5 for each in SIX]), *near)) is None


def test_holm_makes_it_harder_to_be_bold() -> None:
    far = [runs(name, [each - shift for each in SIX]) for shift, name in ((10, "agm"), (20, "ogm"))]
    assert best(only(*runs("joint", SIX), *far[0])) == "joint"
    assert best(only(*runs("joint", SIX), *far[0], *far[1])) is None  # 2 * 2 / 64 is more than .05


def test_a_rival_on_other_seeds_leaves_nobody_bold() -> None:
    table = only(*runs("joint", SIX), *runs("agm", dict.fromkeys(range(20, 26), 10)))
    assert best(table) is None


def test_who_stands_alone_is_not_bold() -> None:
    assert best(only(*runs("joint", SIX), unfinished(FAILED, "agm"))) is None


# absent modalities, cost, published figures


def test_coalitions_are_columns_smallest_first() -> None:
    measured = {"test/coalition/audio:image": 0.5, "test/coalition/image": 0.4, "test/coalition/audio": 0.25}
    (table,) = compare([record(metrics=measured)], coalitions=True)
    sheet = sheets.of_table(table, "joint")[1]
    assert sheet.title == "digits, fusion concat: only these modalities present"
    assert sheet.header == ["method", "n", "audio", "image", "audio + image"]
    assert sheet.body == [["joint", "1", "25.00", "40.00", "50.00"]]


def test_published_figures_are_by_data_set_and_fusion() -> None:
    found = published("kinetics-sound", "concat")
    assert [(each.method, each.source) for each in found] == [(name, "table 7") for name in ("concept", "joint", "agm")]
    assert found[0].figures == {"response/audio": 42.06, "response/visual": 49.23}
    assert found[2].figures["accuracy"] == 56.93
    assert {"response/image", "strength/image"} < published("avmnist", "early")[1].figures.keys()
    assert {each.variant for each in published("avmnist", "concat")} == {"concept_seed=99", "concept_seed=999", ""}
    assert {each.table for each in published("avmnist", "concat", [8])} == {"8"}
    assert published("digits", "concat") == []


def test_a_published_accuracy_of_a_modality_is_by_the_definition_that_it_used() -> None:
    late = {each.method: each.figures for each in published("avmnist", "concat")}
    assert (late["joint"]["term/audio"], late["ogm-ge-ra"]["term/image"], late["agm-1"]["response/audio"]) == (
        16.05,
        55.87,
        38.35,
    )
    assert "response/audio" not in late["joint"]
    early = {each.method: each.figures for each in published("avmnist", "early")}
    assert early["joint"]["response/audio"] == 24.28, "no fusion but an additive one has terms of a modality's own"

    settings = {"dataset": {"name": "avmnist", "params": {}}}
    measured = {"test/term/audio": 0.115, "test/term/image": 0.577, "test/response/audio": 0.236}
    records = [record(name, settings=settings, metrics=measured) for name in ("joint", "agm-1")]
    (table,) = compare(records, beside=TABLES)
    (sheet,) = (sheet for sheet in sheets.of_table(table, "joint") if "published" in sheet.title)
    shown = {tuple(row[:2]): dict(zip(sheet.header, row, strict=True)) for row in sheet.body}
    printed, ours = shown["joint", "table 5, concept_seed=99"], shown["joint", "ours, n = 1"]
    assert (printed["Acc_audio (head)"], ours["Acc_audio (head)"]) == ("16.05", "11.50")
    assert (printed["Acc_audio"], ours["Acc_audio"]) == ("–", "23.60")
    assert (shown["agm-1", "table 8"]["Acc_audio"], shown["agm-1", "ours, n = 1"]["Acc_audio"]) == ("38.35", "23.60")
    assert "term/audio" not in only(*records).rows[0].values, "nobody asked"


def test_a_table_of_other_concepts_has_the_published_figures_of_these() -> None:
    settings = {"dataset": {"name": "avmnist", "params": {}}, "concept_seed": 99}
    (table,) = compare([record(settings=settings, departures={"concept_seed": 99})], beside=TABLES)
    assert table.title == "avmnist, fusion concat, concept_seed=99"
    assert {each.variant for each in table.published or ()} == {"concept_seed=99", ""}


def test_models_that_are_compared_with_several_concepts_are_pooled_once() -> None:
    def cell(name: str, better: float, **settings: Any) -> list[Record]:
        return [
            record(
                method,
                seed,
                cell=name,
                settings=settings,
                training=f"{settings.get('fusion')} {method} {seed}",
                metrics={"test/accuracy": (50 + seed + (better if method == "agm" else 0)) / 100},
            )
            for method in ("joint", "agm")
            for seed in (1, 2, 3)
        ]

    early = {"fusion": {"name": "early", "params": {}}}
    once = compare([*cell("own", 1), *cell("early", 2, **early)])
    twice = compare([*cell("own", 1), *cell("other", 1, concept_seed=99), *cell("early", 2, **early)])
    assert len(twice) == 3
    assert pools(twice, "joint") == pools(once, "joint")
    assert pools(once, "joint")[0].methods[0].cells == 2


def test_published_figures_stand_beside_ours() -> None:
    settings = {"dataset": {"name": "avmnist", "params": {}}}
    (table,) = compare(runs("joint", [70, 72], settings=settings), beside=TABLES)
    (sheet,) = (sheet for sheet in sheets.of_table(table, "joint") if "published" in sheet.title)
    rows = [tuple(row[:3]) for row in sheet.body]
    assert ("joint", "table 5, concept_seed=99", "69.77") in rows
    assert ("joint", "ours, n = 2", "71.00 ± 1.41") in rows
    assert ("agm-1", "ours: no run", "–") in rows
    lines = list(csv.DictReader(io.StringIO(render([table], "csv"))))
    assert {line["source"] for line in lines if line["method"] == "agm-ge"} == {"table 8"}
    assert len(json.loads(render([table], "json"))["tables"][0]["published"]) == 7


def test_what_was_never_published_is_a_note() -> None:
    (table,) = compare([record()], beside=TABLES)
    first, *others = sheets.of_table(table, "joint")
    assert others == []
    assert any("no figures of digits under fusion concat" in note for note in first.notes)


def test_csv_and_json_have_the_comparisons() -> None:
    tables = two_cells([1, 2, 3], [7, 9])
    found = {(x["fusion"], x["method"], x["column"]): x for x in csv.DictReader(io.StringIO(render(tables, "csv")))}
    assert float(found["concat", "agm", "difference joint"]["mean"]) == pytest.approx(2)
    assert found["concat", "agm", "p joint"]["n"] == "3"
    assert float(found["all", "agm", "p joint"]["mean"]) == pytest.approx(2 / 32)
    found_json = json.loads(render(tables, "json"))
    assert found_json["tables"][0]["against"][0]["difference"] == pytest.approx(2)
    assert found_json["pooled"]["accuracy"][0]["wins"] == 1


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    save("text", tmp_path / "a.md")
    assert (tmp_path / "a.md").read_text() == "text"
    with pytest.raises(AgmbenchError, match="cannot be written"):
        save("text", tmp_path / "no such" / "a.md")
    (tmp_path / "folder").mkdir()
    with pytest.raises(AgmbenchError, match="cannot be written"):
        save("text", tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.md", "folder"]


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
    concat, early = json.loads(render(some(), "json"))["tables"]
    assert (concat["dataset"], concat["fusion"], early["fusion"]) == ("digits", "concat", "early")
    rows = {row["method"]: row for row in concat["rows"]}
    assert list(rows) == ["concept", "joint", "agm", "ogm"]
    joint = rows["joint"]["values"]["accuracy"]
    reach = 12.7062047 * 0.125 / (0.625 * 0.375)  # t(1) = 12.706, on the logit scale
    low, high = (100 / (1 + 0.375 / 0.625 * math.exp(sign * reach)) for sign in (1, -1))
    assert joint.pop("interval") == pytest.approx([low, high])
    assert joint == {"mean": 62.5, "std": pytest.approx(17.67767), "n": 2, "values": [50, 75], "seeds": [1, 2], "reason": ""}
    assert rows["agm"]["values"]["strength/audio"]["reason"] == "not measured (--no-strength)"
    nothing = {"mean": None, "std": None, "interval": None, "n": 0, "values": [], "seeds": []}
    assert rows["ogm"]["values"]["accuracy"] == {**nothing, "reason": "FAILED: out of memory"}
    assert concat["notes"] == ["agm, seed 2: FAILED: 50% of_it"]


def test_json_of_a_number_that_is_none_is_json() -> None:
    text = render(compare([record(metrics={"test/strength/audio": float("nan")})]), "json")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_csv_has_a_line_a_number() -> None:
    everything = list(csv.DictReader(io.StringIO(render(some(), "csv"))))
    lines = [line for line in everything if line["source"] == "runs"]
    assert len(lines) == (4 + 2) * 5
    found = {(line["fusion"], line["method"], line["column"]): line for line in lines}
    joint = found["concat", "joint", "accuracy"]
    assert (float(joint["mean"]), joint["n"], joint["reason"]) == (62.5, "2", "")
    assert float(joint["std"]) == pytest.approx(17.67767)
    assert found["early", "joint", "accuracy"]["std"] == ""
    dash = found["concat", "ogm", "strength/image"]
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
    assert "| method | n | Acc | 95 % interval | Acc_audio | Acc_image | d_audio | d_image |" in text
    assert "| joint | 2 | 62.50 ± 17.68 | [0.19, 99.93] | 25.00 ± 0.00 |" in text
    assert "| agm | 1 | 50.00 | – | 25.00 | 40.00 | – [2] | – [2] |" in text
    assert "\n[2] not measured (--no-strength)\n" in text
    assert "agm, seed 2: FAILED: 50% of_it" in text
    bars = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert set(bars) == {8, 9}


def test_markdown_keeps_a_bar_inside_its_cell() -> None:
    tables = compare([record("agm", 1, {"mute": "a|b"}), record("agm", 1, {"mute": "zeros"})])
    (line,) = (line for line in render(tables, "markdown").splitlines() if "mute=a" in line)
    assert len(re.findall(r"(?<!\\)\|", line)) == 8


def test_latex_is_a_booktabs_table() -> None:
    text = render(some(), "latex")
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 2
    assert "\\begin{tabular}{lrrrrrrr}" in text
    assert "method & n & Acc & 95 \\% interval & Acc\\_audio & Acc\\_image & d\\_audio & d\\_image \\\\" in text
    assert "joint & 2 & 62.50 $\\pm$ 17.68 & [0.19, 99.93] & 25.00 $\\pm$ 0.00 &" in text
    assert "agm & 1 & 50.00 & -- & 25.00 & 40.00 & -- [2] & -- [2] \\\\" in text
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


def test_rows_are_called_by_rounded_numbers_unless_two_would_be_the_same() -> None:
    assert labels(only(*(record("agm", 1, {"alpha": alpha}) for alpha in (0.80512345, 0.25))))[1:] == [
        "agm alpha=0.25",
        "agm alpha=0.8051",
    ]
    near = [0.80512345, 0.80512346, 1e-05]
    assert labels(only(*(record("agm", 1, {"alpha": alpha}) for alpha in near)))[1:] == [
        "agm alpha=0.80512345",
        "agm alpha=0.80512346",
        "agm alpha=1e-05",
    ]


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
    assert re.search(r"joint\s+2\s+62\.50 ± 17\.68\s+\[0\.19, 99\.93\]\s+25\.00 ± 0\.00", out)
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
