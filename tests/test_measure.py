"""Results: metrics are measured when they are asked for, protocols are stated, and numbers that are not finite never become results."""

import csv
import io
import json
import re
import textwrap
from pathlib import Path

import pytest
from conftest import CommandLine
from mlflow import MlflowClient
from mlflow.entities import Run

from agmbench import build, measures, registry
from agmbench.contracts import Context
from agmbench.errors import AgmbenchError
from agmbench.jobs import compose, parse_settings
from agmbench.modulators.unimodal import Unimodal
from agmbench.report import plots
from agmbench.trackers.mlflow import MlflowTracker

SMALL = ("-d", "synthetic", "-m", "joint", "--epochs", "1", "--set", "dataset.samples=64")


def runs(line: CommandLine) -> list[Run]:
    store = MlflowClient(f"sqlite:///{line.folder / 'runs' / 'mlflow.db'}")
    return [run for e in store.search_experiments() for run in store.search_runs([e.experiment_id])]


def plugin(line: CommandLine, name: str, code: str, entries: str) -> Path:
    folder = line.folder / "plugins" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(textwrap.dedent(code))
    (folder / "registry.yaml").write_text(textwrap.dedent(entries))
    return folder / f"{name}.py"


# metrics that were added later


def test_a_metric_of_one_file_is_shown_for_runs_that_are_done_and_nothing_is_trained(line: CommandLine) -> None:
    for seed in range(1, 6):
        assert line("run", *SMALL, "--no-strength", "--seed", str(seed)).status == 0
    before = len(runs(line))
    assert line("plugin", "new", "metric", "mine").status == 0
    shown = line("compare", "--columns", "accuracy,mine")
    assert shown.status == 0, shown.err
    assert re.search(r"joint\s+5\s+\d+\.\d+ ± \d+\.\d+\s+\[[^]]*\]\s+\d+\.\d+ ± \d+\.\d+", shown.out), shown.out
    assert "mine: share of samples whose class is among the two largest logits on test, %" in shown.out
    assert "5 runs were measured for this table; to keep the numbers: agmbench measure accuracy mine" in shown.err
    assert len(runs(line)) == before
    assert all("test/mine" not in run.data.metrics for run in runs(line)), "a table keeps nothing"
    assert line("measure", "mine").out.startswith("measured 5 of 5 finished runs by mine; 0 were measured before")
    assert all("test/mine" in run.data.metrics for run in runs(line))
    assert line("measure", "mine").out.startswith("measured 0 of 5 finished runs by mine; 5 were measured before")


HALF = """
    from agmbench.outcomes import OfAnswers, Quantity


    class Half(OfAnswers):
        quantities = (Quantity("half", "half", "a half", tasks=("classification",)),)

        def of(self, outcome, logits):
            return 0.5
"""


@pytest.mark.long
def test_an_edited_metric_is_measured_anew(line: CommandLine) -> None:
    path = plugin(line, "half", HALF, "metrics: {half: {target: 'half:Half'}}\n")
    assert line.finish("run", *SMALL, "--no-strength").status == 0
    assert [run.data.metrics["test/half"] for run in runs(line)] == [0.5]
    path.write_text(path.read_text().replace("return 0.5", "return 0.25"))
    assert re.search(r"joint\s+1\s+\d+\.\d+\s+0\.2500", line.finish("compare", "--columns", "accuracy,half").out)
    assert line.finish("measure", "half").status == 0
    assert [run.data.metrics["test/half"] for run in runs(line)] == [0.25]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("return float('nan')", "half is not a finite number"),
        ("raise RuntimeError('no luck')", "metric/half failed (RuntimeError: no luck at "),
        ("return {'a': 1}", "metric/half failed (TypeError: "),
    ],
)
def test_a_broken_metric_is_a_dash_with_its_reason_and_fails_no_run(line: CommandLine, edit: str, said: str) -> None:
    plugin(line, "half", HALF.replace("return 0.5", edit), "metrics: {half: {target: 'half:Half'}}\n")
    result = line("run", *SMALL, "--no-strength")
    assert result.status == 0, result.err
    assert said in line("compare", "--columns", "accuracy,half").out
    assert [run.info.status for run in runs(line)] == ["FINISHED"]


@pytest.mark.bad_input
def test_a_metric_of_the_old_kind_is_told_how_to_become_a_new_one(line: CommandLine) -> None:
    plugin(line, "old", "def old(logits, targets):\n    return 1.0\n", "metrics: {old: {target: 'old:old'}}\n")
    assert "metric/old should be a class that derives from agmbench.outcomes.Metric" in line.refused("measure", "old")


def test_no_metric_takes_the_quantity_of_another(line: CommandLine) -> None:
    variant = "ece-10: {target: 'agmbench.metrics.calibration_error:CalibrationError', params: {bins: 10}}"
    plugin(
        line,
        "half",
        HALF.replace('"half", "half"', '"accuracy", "accuracy"'),
        f"metrics: {{half: {{target: 'half:Half'}}, {variant}}}\n",
    )
    result = line("run", *SMALL, "--no-strength")
    assert result.status == 0, result.err
    (run,) = runs(line)
    assert run.data.metrics["test/accuracy"] != 0.5
    assert "metric/half gives 'accuracy', which metric/accuracy gives already; rename it" in line.refused("measure", "half")
    assert "metric/ece-10 gives 'ece', which metric/calibration-error gives already" in line.refused("measure", "ece-10")


def test_parameters_of_a_metric_are_part_of_its_version(line: CommandLine) -> None:
    code = HALF.replace(
        "        def of", "        def __init__(self, *, value: float = 0.5):\n            self.value = value\n\n        def of"
    )
    entry = "metrics: {half: {target: 'half:Half', params: {value: VALUE}}}\n"
    plugin(line, "half", code.replace("return 0.5", "return self.value"), entry.replace("VALUE", "0.5"))
    assert line("run", *SMALL, "--no-strength").status == 0
    plugin(line, "half", code.replace("return 0.5", "return self.value"), entry.replace("VALUE", "0.75"))
    assert "0.7500" in line("compare", "--columns", "accuracy,half").out


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("Quantity('top-5 (%)', 'top', 'of five')", "a name should be letters, digits"),
        ("Quantity('top', 'top', '')", "the meaning of quantity 'top' should be a text"),
        ("Quantity('top', 'top', 'x' * 12_000)", "the meaning of quantity 'top' should be a text of at most 300 letters"),
        ("Quantity('top', 'top', 'of five', tasks=('classification'))", "tasks should be a tuple of classification"),
        ("Quantity('top', 'top', 'of five', better='more')", "better should be 'higher', 'lower' or 'neither'"),
        ("Quantity('top', 'top', 'of five', per='modality')", "should contain {} if it has a value per modality or coalition"),
    ],
)
def test_a_quantity_that_cannot_be_is_told_and_stops_nobody(line: CommandLine, wrong: str, said: str) -> None:
    import agmbench.outcomes

    with pytest.raises(ValueError, match=re.escape(said)):
        eval(wrong, {"Quantity": agmbench.outcomes.Quantity})
    plugin(
        line,
        "half",
        HALF.replace('Quantity("half", "half", "a half", tasks=("classification",))', wrong),
        "metrics: {half: {target: 'half:Half'}}\n",
    )
    known = measures.measures(registry.load(line.folder / "plugins"))
    assert "accuracy" in {one.name for one in known}
    assert "half" not in {one.name for one in known}


def test_a_metric_without_quantities_stops_nobody(line: CommandLine) -> None:
    plugin(line, "half", HALF.replace("quantities = (", "others = ("), "metrics: {half: {target: 'half:Half'}}\n")
    known = registry.load(line.folder / "plugins")
    assert "half" not in {one.name for one in measures.measures(known)}
    with pytest.raises(AgmbenchError, match="metric/half cannot be made"):
        measures.measures(known, ["half"])


def test_units_but_percent_and_points_are_shown_as_they_are() -> None:
    from agmbench.outcomes import Quantity

    scales = {unit: Quantity("x", "x", "x", unit).scale for unit in ("%", "points", "nats", "")}
    assert scales == {"%": 100, "points": 100, "nats": 1, "": 1}


@pytest.mark.bad_input
def test_a_column_that_nobody_knows_is_one_line(line: CommandLine) -> None:
    assert line("run", *SMALL, "--no-strength").status == 0
    assert "--columns acuracy: there is no such quantity for classification: did you mean 'accuracy'?" in line.refused(
        "compare", "--columns", "acuracy"
    )


def test_a_table_looks_unimodal_models_up_in_the_runs_that_it_has_read(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in ("1", "2"):
        assert line("run", *SMALL, "--seed", seed).status == 0
    plugin(
        line,
        "ahead",
        """
        from agmbench.outcomes import Metric, Quantity


        class Ahead(Metric):
            compares = True
            quantities = (Quantity("ahead", "ahead", "samples of all unimodal models", decimals=0),)

            def __call__(self, outcomes, references):
                return {"ahead": sum(len(one.judged.targets) for one in references.values())}
        """,
        "metrics: {ahead: {target: 'ahead:Ahead'}}\n",
    )
    monkeypatch.setattr(MlflowTracker, "find", lambda *_: pytest.fail("a search of the store"))
    shown = line("compare", "--columns", "accuracy, ahead,")
    assert shown.status == 0, shown.err
    assert re.search(r"joint\s+2\s+.* 128 ± 0", shown.out), shown.out


def test_strength_is_measured_when_its_unimodal_models_are_there(line: CommandLine) -> None:
    assert line("run", *SMALL, "--no-strength").status == 0
    assert "not measured (--no-strength)" in line("compare").out
    assert line("run", *SMALL[:2], "-m", "agm", *SMALL[4:]).status == 0
    assert line("measure", "competition-strength").status == 0
    (joint,) = [run for run in runs(line) if "joint seed" in (run.info.run_name or "")]
    assert {"test/strength/m0", "test/strength/m1"} < joint.data.metrics.keys()
    protocol, final = joint.data.tags["mlflow.note.content"].split("\n\n")  # an earlier table is replaced
    assert protocol.startswith("The epoch is chosen")
    rows = dict(row.strip("| ").split(" | ") for row in final.splitlines()[2:])
    shown = {f"test/{name}": float(value) for name, value in rows.items()}
    assert shown == pytest.approx({name: value for name, value in joint.data.metrics.items() if name in shown}, rel=1e-3)
    assert {"test/accuracy", "test/strength/m0"} < shown.keys()


# regression


def test_a_regression_is_shown_as_one(line: CommandLine) -> None:
    plugin(
        line,
        "line_up",
        """
        import torch
        from agmbench.contracts import Dataset, TensorSplit
        from agmbench.tasks import Regression


        class LineUp(Dataset):
            follows_seed = False
            task = Regression(5.0)

            def __init__(self, seed):
                self.shapes, self.class_names = {"a": (3,), "b": (3,)}, ["height"]

            def split(self, name):
                drawn = torch.Generator().manual_seed(("train", "dev", "valid", "test").index(name))
                x = {m: torch.randn(64, 3, generator=drawn) for m in self.shapes}
                return TensorSplit(x, x["a"][:, 0] + 2 * x["b"][:, 0])
        """,
        "datasets: {line-up: {target: 'line_up:LineUp', job: {encoders: {'*': {name: mlp, params: {hidden: 8}}}, "
        "training: {epochs: 5, batch_size: 16, lr: 0.02}}}}\n",
    )
    for seed in ("1", "2"):
        for modulator in ("joint", "agm"):
            result = line("run", "-d", "line-up", "-m", modulator, "--seed", seed)
            assert result.status == 0, result.err
            assert "accuracy" not in result.err
    shown = line("compare").out
    header = next(text for text in shown.splitlines() if text.strip().startswith("method"))
    assert re.split(r"\s{2,}", header.strip())[:6] == ["method", "n", "MAE", "95 % interval", "Pearson", "R2"]
    assert "R2_a" in header
    assert "Acc" not in shown
    assert "MAE: mean absolute error on test, lower is better." in shown
    assert "accuracy" not in shown
    logged = next(run for run in runs(line) if "joint seed" in (run.info.run_name or "")).data.metrics
    assert {"test/r2", "test/mae", "valid/r2", "valid/response-r2/a", "test/concept-r2/a"} < logged.keys()
    assert not any("accuracy" in name for name in logged)
    lines = [one for one in csv.DictReader(io.StringIO(line("compare", "--format", "csv").out)) if one["source"] == "runs"]
    assert {one["column"]: one["better"] for one in lines}["mae"] == "lower"
    page = line("compare", "--format", "html")
    assert page.status == 0, page.err
    assert "MAE on test" in (line.folder / "compare.html").read_text()


# the protocol


def test_what_departs_is_always_told(line: CommandLine) -> None:
    words = ("run", "-d", "avmnist-mini", "-m", "joint", "--no-strength", "--limit", "64", "--epochs", "1")
    words = (*words, "--set", "training.lr=0.01", "--set", "mute=mean", "--set", "dataset.split=speakers")
    assert line(*words).status == 0
    title = "avmnist-mini, fusion concat, dataset.split=speakers, limit=64, mute=mean, training.epochs=1, training.lr=0.01"
    assert title in line("compare").out
    for form in ("markdown", "latex", "json", "csv"):
        written = line("compare", "--format", form).out.replace("\\_", "_")
        assert "dataset.split" in written, form
        assert "training.lr" in written, form
    assert line("compare", "--format", "html").status == 0
    assert title in (line.folder / "compare.html").read_text()
    (run,) = runs(line)
    assert run.data.params["limit"] == "64"
    departs = {"dataset.split": "speakers", "limit": 64, "mute": "mean", "training.epochs": 1, "training.lr": 0.01}
    assert json.loads(run.data.tags["agmbench.departures"]) == departs
    assert "training.lr=0.01" in run.data.tags["mlflow.note.content"]


def test_what_a_data_set_publishes_departs_from_nothing() -> None:
    from agmbench.protocol import departures

    known = registry.builtin()
    for dataset, modulator in (("synthetic", "agm"), ("avmnist-mini", "agm"), ("avmnist-mini", "mslr")):
        assert departures(build.resolve(compose(known, dataset, modulator), known).spec, known) == {}
    spec = compose(known, "avmnist-mini", "agm", "film", {"image": "mlp"}, parse_settings(["modulator.alpha=1"]))
    assert departures(build.resolve(spec, known).spec, known) == {"encoder.image": "mlp", "modulator.alpha": 1.0}


def test_a_caption_says_that_the_epoch_was_chosen_on_test(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    root = line.folder / "data"
    root.mkdir()
    assert line("data", "sample", "avmnist", "--data-root", str(root)).status == 0
    words = ("run", "-d", "avmnist", "--data-root", str(root), "-m", "joint", "--no-strength", "--epochs", "1", "-e", "*=mlp")
    titles: list[str] = []
    monkeypatch.setattr(plots, "save", lambda *given: titles.append(given[3]))
    assert line(*words, "--set", "dataset.protocol=paper").status == 0
    assert line(*words).status == 0
    shown = line("compare", "--samples").out
    assert re.search(r"avmnist, fusion concat, dataset\.protocol=paper, .*RANDOM SAMPLE", shown)
    assert "The epoch is chosen ON TEST, as in the paper" in shown
    assert "The epoch is chosen on valid, and test is read once" in shown
    assert {run.data.tags["agmbench.selected"] for run in runs(line)} == {"test", "valid"}
    assert len(titles) == 2
    assert all("RANDOM SAMPLE" in text for text in (*titles, *(run.data.tags["mlflow.note.content"] for run in runs(line))))
    lines = csv.DictReader(io.StringIO(line("compare", "--samples", "--format", "csv").out))
    assert all("RANDOM SAMPLE" in one["settings"] for one in lines)


def test_a_sweep_whose_valid_is_test_says_so(line: CommandLine) -> None:
    plugin(
        line,
        "twin",
        """
        from agmbench.datasets.synthetic import Synthetic


        class Twin(Synthetic):
            def split(self, name):
                return super().split("test" if name == "valid" else name)
        """,
        "datasets: {twin: {target: 'twin:Twin', job: {encoders: {'*': {name: mlp, params: {hidden: 8}}}, training: {epochs: 1}}}}\n",
    )
    result = line("sweep", "-d", "twin", "-m", "agm", "--trials", "1", "--set", "dataset.samples=64")
    assert result.status == 0, result.err
    said = " ".join(result.out.split())
    assert "the trial that is best ON TEST" in said
    assert "The epoch is chosen ON TEST, so figures are those of the best epoch there." in said
    assert "Test was read" not in said


def test_what_departs_is_told_of_runs_that_did_not_note_it(line: CommandLine) -> None:
    assert line("run", *SMALL).status == 0
    store = MlflowClient(f"sqlite:///{line.folder / 'runs' / 'mlflow.db'}")
    for run in runs(line):
        for tag in ("agmbench.fingerprint", "agmbench.departures"):  # runs of earlier versions do not have these tags
            store.delete_tag(run.info.run_id, tag)
    title = "synthetic, fusion concat, dataset.samples=64, training.epochs=1"
    again = line("run", *SMALL)
    assert "is done already" in again.err
    assert title in again.out
    assert title in line("compare").out
    suite = "{seeds: [999], jobs: [{dataset: synthetic, modulator: joint, set: {training.epochs: 1, dataset.samples: 64}}]}"
    plugin(line, "suites", "", f"suites: {{s: {suite}}}\n")
    result = line("suite", "report", "s")
    assert result.status == 0, result.err
    assert title in (line.folder / "s.html").read_text()


def test_exports_say_where_they_come_from(line: CommandLine) -> None:
    assert line("run", *SMALL, "--no-strength").status == 0
    (run,) = runs(line)
    found = json.loads(line("compare", "--format", "json").out)
    assert found["origin"]["runs"] == [run.info.run_id]
    assert found["origin"]["store"].endswith("mlflow.db")
    assert found["origin"].keys() == {"store", "date", "version", "commit", "runs"}
    (row,) = found["tables"][0]["rows"]
    assert row["runs"][0]["run"] == run.info.run_id
    assert row["runs"][0]["values"]["accuracy"] == row["values"]["accuracy"]["mean"]
    lines = list(csv.DictReader(io.StringIO(line("compare", "--format", "csv").out)))
    assert {one["run"] for one in lines} == {"", run.info.run_id}
    assert all(one["date"] and one["version"] and one["store"] for one in lines)
    for form in ("markdown", "latex"):
        written = line("compare", "--format", form).out
        assert re.search(r"Exported on 20\d\d-\d\d-\d\d .* by agmbench \d", written), form
        assert run.info.run_id in written, form


# the quantity by which epochs are chosen


def test_epochs_are_chosen_by_any_quantity(line: CommandLine) -> None:
    words = ("run", "-d", "synthetic", "-m", "joint", "--no-strength", "--epochs", "6", "--set", "dataset.samples=64")
    store = MlflowClient(f"sqlite:///{line.folder / 'runs' / 'mlflow.db'}")
    for by, sign in (("macro-f1", 1), ("log-loss", -1), ("response/m1", 1)):
        result = line(*words, "--set", f"training.select_by={by}")
        assert result.status == 0, result.err
        run = next(run for run in runs(line) if run.data.params["training.select_by"] == by)
        history = {each.step: sign * each.value for each in store.get_metric_history(run.info.run_id, f"valid/{by}")}
        best = run.data.metrics["best/epoch"]
        assert history[int(best)] == max(history.values())
    assert "training.select_by=response/m1" in line("compare").out


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("acuracy", "training.select_by=acuracy: no metric gives 'acuracy' of a classification: did you mean 'accuracy'?"),
        ("mae", "training.select_by=mae: no metric gives 'mae' of a classification"),
        ("response", "training.select_by=response should be 'response/MODALITY'"),
        ("response/m7", "training.select_by=response/m7 should be 'response/MODALITY': did you mean 'm"),
        ("contribution/m0", "neither a higher nor a lower value of it is better"),
    ],
)
def test_what_epochs_cannot_be_chosen_by_is_one_line(line: CommandLine, by: str, said: str) -> None:
    assert said in line.refused("run", *SMALL, "--set", f"training.select_by={by}")


def test_epochs_may_be_chosen_by_competition_strength(line: CommandLine) -> None:
    result = line("run", *SMALL[:4], "--epochs", "2", *SMALL[6:], "--set", "training.select_by=strength/m0")
    assert result.status == 0, result.err
    run = next(run for run in runs(line) if "joint seed" in (run.info.run_name or ""))
    assert run.data.metrics["valid/strength/m0"] > 0


def test_unimodal_takes_the_concept_that_ranks_first_and_not_the_one_of_least_loss() -> None:
    from toys import context, model

    concepts = {m: model({m: [1.0, 0.0]}, [[1.0, 0.0], [0.0, 1.0]]) for m in ("a", "v")}
    ranks = {"a": (0.55, -9.0), "v": (0.29, -0.1)}  # accuracy, and minus the loss
    made = Unimodal(("a", "v"))
    around = context(concepts["a"], concepts=concepts)
    made.prepare(Context(**{**vars(around), "rank": lambda concept: ranks[concept.modalities[0]]}))
    assert made.members() == ("a",)


# numbers that are not finite never become results


@pytest.mark.parametrize(
    ("split", "part"), [("dev", "input"), ("valid", "input"), ("test", "input"), ("train", "input"), ("test", "targets")]
)
def test_what_is_not_finite_ends_the_run_failed(line: CommandLine, split: str, part: str) -> None:
    plugin(
        line,
        "spoilt",
        f"""
        import torch
        from agmbench.contracts import TensorSplit
        from agmbench.datasets.synthetic import Synthetic
        from agmbench.tasks import Regression


        class Spoilt(Synthetic):
            task = Regression(1.0)

            def split(self, name):
                whole = super().split(name)
                targets = whole.targets.float()
                if name == "{split}":
                    (whole.inputs["m1"] if "{part}" == "input" else targets.unsqueeze(1))[5, 0] = float("nan")
                return TensorSplit(whole.inputs, targets)
        """,
        "datasets: {spoilt: {target: 'spoilt:Spoilt', job: {encoders: {'*': mlp}, training: {epochs: 1}}}}\n",
    )
    result = line("run", "-d", "spoilt", "-m", "joint", "--no-strength", "--quiet", "--set", "dataset.samples=64")
    assert result.status in (1, 2), result.err
    assert result.err.count("\n") == 1
    assert split in result.err
    assert "'spoilt'" in result.err
    assert not any(
        run.info.status == "FINISHED" for run in (runs(line) if (line.folder / "runs" / "mlflow.db").exists() else [])
    )
