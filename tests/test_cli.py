"""The command line as a user meets it."""

import csv
import io
import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from click.shell_completion import ShellComplete
from conftest import SMALL, CommandLine

import agmbench.registry as registry
from agmbench.cli import cli

ENTRIES = registry.builtin().entries()


def test_help_and_list_import_nothing_heavy(line: CommandLine) -> None:
    import subprocess

    code = """
import sys
from agmbench.cli import main
try:
    main({words})
except SystemExit as exit_:
    assert not exit_.code
heavy = {{"torch", "mlflow", "timm", "transformers", "sklearn", "pandas", "matplotlib", "optuna", "pydantic"}} & set(sys.modules)
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    for words in (["--help"], ["list"], ["run", "--help"], ["compare", "--help"]):
        subprocess.run([sys.executable, "-c", code.format(words=words)], cwd=line.folder, check=True, stdout=subprocess.DEVNULL)


def test_without_a_command_it_shows_the_help(line: CommandLine) -> None:
    result = line()
    assert "agmbench run" in result.out
    assert "compare" in result.out


def test_list_names_every_entry_and_its_origin(line: CommandLine) -> None:
    out = line("list").out
    for entry in ENTRIES:
        assert re.search(rf"^{entry.kind}\s+{re.escape(entry.name)}\b.*built-in", out, re.MULTILINE)


def test_list_of_one_kind(line: CommandLine) -> None:
    out = line("list", "fusion").out
    assert re.search(r"concat +built-in +.* \(also: late\)", out)
    assert "agm" not in out


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_show_tells_parameters_defaults_and_paper(entry: registry.Entry, line: CommandLine) -> None:
    from agmbench.parameters import parameters

    result = line("show", entry.kind, entry.name)
    assert result.status == 0, result.err
    assert entry.summary in result.out
    assert entry.paper in result.out
    assert entry.refuses in result.out
    for name in parameters(entry).model_fields:
        assert re.search(rf"^{name}\s", result.out, re.MULTILINE)


def test_show_takes_an_alias(line: CommandLine) -> None:
    assert "fusion/concat" in line("show", "fusion", "late").out


def test_run_prints_the_result_and_where_it_is(finished: CommandLine) -> None:
    result = finished("run", "--modulator", "agm", *SMALL)
    assert result.status == 0
    assert "is done already" in result.err
    assert "agm" in result.out
    assert "Acc_m0" in result.out
    assert "d_m1" in result.out


def test_a_pipe_sees_no_progress_bar(line: CommandLine) -> None:
    result = line.finish("run", "--modulator", "joint", "--no-strength", *SMALL)
    assert result.status == 0, result.err
    assert "\x1b" not in result.out + result.err
    assert "━" not in result.err
    first, *_, last = result.err.splitlines()
    assert re.fullmatch(r"joint seed 999 on synthetic concat: epoch 1 of \d+, valid accuracy 0\.\d{3}, \d+ s left", first)
    assert "trained 'joint seed 999 on synthetic concat'" in result.err
    assert last.startswith("MLflow run ")
    quiet = line("run", "--modulator", "joint", "--no-strength", *SMALL, "--quiet", "--seed", "1")
    assert [words[:10] for words in quiet.err.splitlines()] == ["MLflow run"]


def test_progress_is_json_or_in_full_if_asked_for(line: CommandLine) -> None:
    from agmbench.trackers.mlflow import MlflowTracker

    words = ("run", "--modulator", "joint", "--no-strength", *SMALL)
    told = [json.loads(text) for text in line(*words, "--log-format", "json").err.splitlines()[:-1]]
    assert [one["event"] for one in told] == ["started", "epoch", "epoch", "finished"]
    assert told[1]["epoch"] == 1
    assert 0 <= told[2]["valid"]["accuracy"] <= 1
    assert re.search(r"epoch 1 of 2, valid accuracy 0\.\d{4}, .*loss \d", line(*words, "--seed", "1", "-v").err)
    tracker = MlflowTracker(line.folder / "runs")
    (run,) = [record for record in tracker.records() if record.spec["seed"] == 999]
    with tracker.artifact(run, "log.txt") as path:
        log = path.read_text().splitlines()
    assert len(log) == 4
    assert re.search(r"\d\d:\d\d:\d\d epoch 2 of 2: valid accuracy 0\.\d{4}", log[2])


def test_dry_run_writes_nothing_and_tells_the_digests(line: CommandLine) -> None:
    result = line("run", *SMALL, "--dry-run")
    assert result.status == 0
    assert "name: agm" in result.out
    assert "# this job: digest" in result.out
    assert "# reference of m1: digest" in result.out
    assert list(line.folder.iterdir()) == []


def test_dry_run_of_a_done_job_says_so(finished: CommandLine) -> None:
    assert finished("run", *SMALL, "--dry-run").out.count(", done") == 3


# bad input: one line, status 2, nothing written


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "--modulator", "amg"], "unknown modulator 'amg': did you mean 'agm'?"),
        (["run", "--dataset", "avmnist-mni"], "unknown dataset 'avmnist-mni': did you mean 'avmnist-mini'?"),
        (["run", "--fusion", "lat"], "unknown fusion 'lat': did you mean 'late'?"),
        (["run", "--encoder", "audio=resnt"], "unknown encoder 'resnt': did you mean 'resnet'?"),
        (["run", "--encoder", "adio=mlp"], "has no modality 'adio': did you mean 'audio'?"),
        (["run", "--encoder", "mlp"], "--encoder mlp: should be modality=name"),
        (["run", "--set", "modulator.alhpa=1"], "modulator/agm has no parameter 'alhpa': did you mean 'alpha'?"),
        (["run", "--set", "modulator.alpha=much"], "parameter 'alpha' of modulator/agm is 'much': should be a number >= 0"),
        (["run", "--set", "modulator.alpha=-1"], "should be a number >= 0"),
        (["run", "--set", "modulator.coalitions=fast"], "should be one of exact, shared"),
        (["run", "--set", "training.lr=0"], "'training.lr' is 0"),
        (["run", "--set", "training.epoch=3"], "unknown setting 'training.epoch': did you mean 'epochs'?"),
        (["run", "--set", "modulatr.alpha=3"], "no such setting: did you mean 'modulator.P'?"),
        (["run", "--set", "alpha"], "should be key=value"),
        (["run", "--set", "dataset.split=speaker"], "should be one of speakers, takes"),
        (["run", "--epochs", "0"], "'training.epochs' is 0"),
        (["run", "--epochs", "many"], "'many' is not a valid integer"),
        (["run", "--seed", "-1"], "'seed' is -1"),
        (["run", "--device", "cuda:99"], "no device 'cuda:99'"),
        (["run", "--device", "gpu"], "no device 'gpu'"),
        (["run", "--fusion", "early", "--modulator", "ogm"], "modulator 'ogm' needs a term of each modality's own"),
        (["run", "--dataset", "synthetic", "--set", "dataset.modalities=1"], "modulator 'agm' needs two or more modalities"),
        (["run", "--dataset", "synthetic", "-e", "m0=conv"], "encoder/conv of 'm0': takes an image"),
        (["run", "-e", "image=resnet", "--set", "encoder.image.model=resnet1"], "timm has no model 'resnet1'"),
        (["run", "--set", "encoder.audio.pool=14"], "pool 14 is larger than the input [1, 13, 92]; take one of 13 at most"),
        (["run", "--set", "encoder.image=cnv"], "unknown encoder 'cnv': did you mean 'conv'?"),
        (["run", "--set", "metrics=[accuracy]"], "metrics are not part of a job"),
        (["compare"], "no runs in sqlite:///"),
        (["compare", "--format", "pdf"], "'pdf' is not one of"),
        (["compare", "--dataset", "avmnst-mini"], "unknown dataset 'avmnst-mini'"),
        (["show", "modulator", "AMG"], "unknown modulator 'AMG': did you mean 'agm'?"),
        (
            ["list", "modulatos"],
            "no kind 'modulatos': did you mean 'modulator'? Known: dataset, encoder, fusion, launcher, metric,",
        ),
        (["ui"], "no store at sqlite:///"),
        (["runn"], "no command 'runn': did you mean 'run'?"),
        (["run", "--no-such"], "No such option"),
        (["run", "--lr", "0.1"], "there is no option --lr; set it as in --set training.lr=VALUE"),
        (["run", "--batch-size", "8"], "there is no option --batch-size; set it as in --set training.batch_size=VALUE"),
        (["run", "--set", "lr=0.1"], "--set lr: no such setting: did you mean training.lr?"),
        (["run", "--set", "alpha=2"], "--set alpha: no such setting: did you mean modulator.alpha?"),
        (["run", "--set", "width=2"], "did you mean encoder.audio.width or encoder.image.width?"),
        (["run", "AGM"], "'AGM' is not expected here; to name a modulator: --modulator agm"),
        (["run", "nothing"], "'nothing' is not expected here; see agmbench run --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(words: list[str], expected: str, line: CommandLine) -> None:
    assert expected in line.refused(*words)


@pytest.mark.bad_input
def test_a_plugin_registry_that_does_not_parse_names_file_and_line(line: CommandLine) -> None:
    plugin = line.folder / "plugins" / "mine"
    plugin.mkdir(parents=True)
    (plugin / "registry.yaml").write_text("modulators:\n  mine: {target: a:b\n")
    reason = "plugins/mine/registry.yaml:3 is not YAML"
    assert f"Not read: {reason}" in line.refused("run", "--modulator", "mine")
    assert f"\nBroken entries (other jobs are unaffected):\n  file (plugins/mine): {reason}" in line("list").out
    assert line("run", "--dry-run").status == 0


@pytest.mark.bad_input
def test_a_name_defined_twice_names_both_places(line: CommandLine) -> None:
    plugin = line.folder / "plugins" / "mine"
    plugin.mkdir(parents=True)
    (plugin / "registry.yaml").write_text("modulators:\n  agm: {target: a:b}\n")
    twice = r"modulator 'agm' is defined twice: in registry.yaml:\d+ and in plugins/mine/registry.yaml:2; rename one of them"
    assert re.search(twice, line.refused("run", "--modulator", "agm"))
    out = line("list").out
    assert re.search(rf"\n  modulator/agm \(built-in, plugins/mine\): {twice}", out)
    assert not re.search(r"^modulator +agm ", out, re.MULTILINE)
    assert line("run", "--modulator", "joint", "--dry-run").status == 0


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [("x: Nope = 1", "NameError"), ("x: Foo = 1", "Unable to generate"), ("schema: int = 1", "")],
)
def test_a_plugin_whose_types_cannot_be_read_is_one_line(parameter: str, expected: str, line: CommandLine) -> None:
    plugin = line.folder / "plugins" / "typed"
    plugin.mkdir(parents=True)
    (plugin / "registry.yaml").write_text("modulators:\n  typed: {target: typed_code:Typed}\n")
    code = "from __future__ import annotations\nfrom agmbench.modulators.joint import Joint\nclass Foo: pass\n"
    code += f"class Typed(Joint):\n    def __init__(self, modalities, *, {parameter}):\n        super().__init__(modalities)\n"
    (plugin / "typed_code.py").write_text(code)
    result = line("show", "modulator", "typed")
    assert result.status == (2 if expected else 0)
    assert expected in result.err
    assert result.err.count("\n") == (1 if expected else 0)


def test_a_terminal_without_dashes_gets_others(finished: CommandLine) -> None:
    result = finished.finish("compare", env={"PYTHONIOENCODING": "ascii"})
    assert result.status == 0, result.err
    assert "- [1]" in result.out


@pytest.mark.bad_input
def test_a_store_that_cannot_be_written(line: CommandLine) -> None:
    (line.folder / "runs").write_text("not a folder")
    assert "runs cannot be written" in line.refused("run", *SMALL, "--no-strength")


@pytest.mark.bad_input
@pytest.mark.parametrize("uri", ["sqlite:////no/such/folder/x.db", "nonsense://x"])
def test_a_store_that_cannot_be_opened(uri: str, line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert f"the MLflow store {uri} cannot be opened" in line.refused("run", *SMALL, "--no-strength")


# compare


def test_compare_has_a_row_a_method(finished: CommandLine) -> None:
    out = finished("compare").out
    assert "synthetic, fusion concat" in out
    rows = [text.split()[0] for text in out.splitlines() if re.match(r" \w", text)]
    assert rows == ["method", "concept", "joint", "agm"]


def test_compare_of_a_method_without_runs_is_a_dash_with_a_reason(finished: CommandLine) -> None:
    out = finished("compare", "--modulator", "ogm").out
    assert re.search(r"ogm\s+0\s+– \[2\]", out)
    assert "[2] no run in this setting" in out


def test_compare_shows_costs_when_asked(finished: CommandLine) -> None:
    out = finished("compare", "--cost").out
    assert "encoder passes" in out
    assert "GFLOP per step" in out
    assert "encoder passes" not in finished("compare").out


def test_compare_formats_agree(finished: CommandLine) -> None:
    (table,) = json.loads(finished("compare", "--format", "json").out)["tables"]
    by_json = {(row["method"], key): value["mean"] for row in table["rows"] for key, value in row["values"].items()}
    lines = csv.DictReader(io.StringIO(finished("compare", "--format", "csv").out))
    by_csv = {(row["method"], row["column"]): float(row["mean"]) if row["mean"] else None for row in lines}
    assert by_json == by_csv
    accuracy = f"{by_json['agm', 'accuracy']:.2f}"
    assert accuracy in finished("compare", "--format", "markdown").out
    assert accuracy in finished("compare", "--format", "latex").out
    assert accuracy in finished("compare").out


def test_compare_reads_no_torch(finished: CommandLine, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom agmbench.cli import main\n"
        "try:\n    main(['compare'])\nexcept SystemExit:\n    sys.exit('torch' in sys.modules)\n"
    )
    import subprocess

    subprocess.run([sys.executable, "-c", code], cwd=finished.folder, check=True, stdout=subprocess.DEVNULL)


def test_capital_letters_underscores_and_plurals_are_the_same_name(line: CommandLine) -> None:
    assert yaml.safe_load(line("run", "-m", "OGM_GE", "--dry-run").out)["modulator"]["name"] == "ogm-ge"
    assert line("list", "Modulators").out == line("list", "modulator").out
    assert line("show", "modulators", "AGM").out == line("show", "modulator/agm").out


def test_a_shell_completes_names() -> None:
    for words, begun, expected in (
        (["run", "-m"], "ogm", {"ogm", "ogm-ge", "ogm-ge-ra"}),
        (["compare", "-d"], "avm", {"avmnist", "avmnist-mini"}),
        (["show"], "fusion/f", {"fusion/film"}),
    ):
        found = ShellComplete(cli, {}, "agmbench", "_AGMBENCH_COMPLETE").get_completions(words, begun)
        assert {item.value for item in found} == expected
