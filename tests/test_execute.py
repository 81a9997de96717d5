"""A job from the command line to a finished run in a real MLflow store."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import PATIENCE, SMALL, CommandLine
from mlflow import MlflowClient
from mlflow.entities import Run

from agmbench import build, registry
from agmbench.jobs import JobSpec
from agmbench.trackers.mlflow import MlflowTracker

PLAIN = (*SMALL, "--modulator", "joint", "--no-strength")


def client(line: CommandLine) -> MlflowClient:
    return MlflowClient(f"sqlite:///{line.folder / 'runs' / 'mlflow.db'}")


def runs(line: CommandLine) -> list[Run]:
    store = client(line)
    experiments = [experiment.experiment_id for experiment in store.search_experiments()]
    return list(store.search_runs(experiments, order_by=["attributes.start_time ASC"]))


def named(line: CommandLine, name: str) -> Run:
    (found,) = [run for run in runs(line) if run.info.run_name == name]
    return found


@pytest.fixture(scope="module")
def agm(finished: CommandLine) -> Run:
    return named(finished, "agm seed 999 on synthetic concat")


def artifact(finished: CommandLine, run: Run, path: str) -> Path:
    return Path(client(finished).download_artifacts(run.info.run_id, path))


def test_references_are_trained_once_and_shared(finished: CommandLine) -> None:
    names = [run.info.run_name for run in runs(finished)]
    assert names == [
        "concept of m0 seed 999 on synthetic concat",
        "concept of m1 seed 999 on synthetic concat",
        "joint seed 999 on synthetic concat",
        "agm seed 999 on synthetic concat",
    ]
    assert {run.info.status for run in runs(finished)} == {"FINISHED"}


def test_an_experiment_a_data_set(finished: CommandLine, agm: Run) -> None:
    assert client(finished).get_experiment(agm.info.experiment_id).name == "synthetic"


def test_every_parameter_of_the_spec_is_logged(agm: Run) -> None:
    expected = {"dataset": "synthetic", "dataset.samples": "128", "encoder.m0": "mlp", "fusion": "concat", "seed": "999"}
    expected |= {"modulator": "agm", "modulator.alpha": "1.0", "training.epochs": "2", "training.schedule.name": "constant"}
    assert expected.items() <= agm.data.params.items()


def test_tags_tell_digest_versions_device_and_commit(agm: Run) -> None:
    assert {
        "agmbench.digest",
        "agmbench.cell",
        "device",
        "threads",
        "version.torch",
        "version.agmbench",
        "python",
    } <= agm.data.tags.keys()
    if (Path(__file__).parents[1] / ".git").exists():
        assert len(agm.data.tags["mlflow.source.git.commit"]) == 40


def test_metrics_of_the_test_split(agm: Run) -> None:
    values = agm.data.metrics
    for name in (
        "accuracy",
        "macro-f1",
        "loss",
        "response/m0",
        "response/m1",
        "coalition/m0",
        "coalition/m1",
        "coalition/m0:m1",
    ):
        assert f"test/{name}" in values
    assert values["test/accuracy"] == values["test/coalition/m0:m1"]
    for modality in ("m0", "m1"):
        assert 0 < values[f"test/strength/{modality}"] < 2
        assert 0 < values[f"test/concept/{modality}"] <= 1


def test_epochs_and_steps_have_one_point_each(finished: CommandLine, agm: Run) -> None:
    store = client(finished)
    for name, steps in {
        "train/loss": 2,
        "valid/accuracy": 2,
        "valid/response/m1": 2,
        "kappa/m0": 4,
        "score/m1": 4,
        "ratio/m0": 4,
    }.items():
        history = store.get_metric_history(agm.info.run_id, name)
        assert [point.step for point in history] == list(range(steps)), name


def test_costs_are_logged(agm: Run) -> None:
    assert agm.data.metrics["cost/encoder_passes"] == pytest.approx(2 + 2 / 64)  # an mlp makes the same pass in both modes
    for name in ("flops", "samples_per_second", "peak_memory_mib"):
        assert agm.data.metrics[f"cost/{name}"] > 0


def test_the_data_set_is_an_input_of_the_run(agm: Run) -> None:
    (logged,) = agm.inputs.dataset_inputs
    assert logged.dataset.name == "synthetic"
    spec = yaml.safe_load(agm.data.tags["agmbench.spec"])
    assert logged.dataset.digest == build.resolve(JobSpec.model_validate(spec), registry.load()).data.fingerprint
    assert "samples_train" in logged.dataset.profile


def test_job_yaml_is_the_resolved_spec(finished: CommandLine, agm: Run) -> None:
    spec = yaml.safe_load(artifact(finished, agm, "job.yaml").read_text())
    assert spec["modulator"]["name"] == "agm"
    assert spec["modulator"]["params"]["coalitions"] == "exact"
    assert spec["training"]["momentum"] == 0.9


def test_checkpoints_load_safely_and_give_the_predictions(finished: CommandLine, agm: Run) -> None:
    from agmbench import build, registry
    from agmbench.contracts import in_order
    from agmbench.evaluate import evaluate
    from agmbench.jobs import JobSpec

    known = registry.load()
    job = build.resolve(JobSpec.model_validate(yaml.safe_load(artifact(finished, agm, "job.yaml").read_text())), known)
    assert job.digest == agm.data.tags["agmbench.digest"]
    model = build.model(job)
    model.load_state_dict(torch.load(artifact(finished, agm, "checkpoints/best.pt"), weights_only=True)["model"])
    test = evaluate(model, build.modulator(job, model), in_order(job.dataset.split("test")))
    logged = pd.read_parquet(artifact(finished, agm, "predictions.parquet")).query("split == 'test'").sort_values("index")
    assert (logged["target"] == test.targets).all()
    assert np.array_equal(logged[[f"logit/{c}" for c in range(4)]].to_numpy(), test.full)
    assert (logged["prediction"] == logged["target"]).mean() == pytest.approx(agm.data.metrics["test/accuracy"])
    last = torch.load(artifact(finished, agm, "checkpoints/last.pt"), weights_only=True)
    assert last["modulator"]["iterations"] == 4


def test_plots_are_pictures(finished: CommandLine, agm: Run) -> None:
    for name in ("curves", "modalities", "confusion"):
        assert artifact(finished, agm, f"plots/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_done_job_is_not_trained_again(finished: CommandLine) -> None:
    before = len(runs(finished))
    result = finished("run", "--modulator", "joint", *SMALL)
    assert "is done already" in result.err
    assert len(runs(finished)) == before


def test_strength_is_added_to_a_run_made_without_it_and_force_trains_again(line: CommandLine) -> None:
    assert line("run", *PLAIN).status == 0
    assert "test/strength/m0" not in runs(line)[0].data.metrics
    assert "not measured (--no-strength)" in line("compare").out
    result = line("run", "--modulator", "joint", *SMALL)
    assert result.status == 0, result.err
    joint = named(line, "joint seed 999 on synthetic concat")
    measured = joint.data.metrics
    assert {"test/strength/m0", "test/strength/m1", "test/concept/m0"} <= measured.keys()
    assert joint.info.status == "FINISHED"
    assert len(runs(line)) == 3

    assert line("run", "--modulator", "joint", *SMALL, "--force").status == 0
    first, again = (run for run in runs(line) if "joint" in run.info.run_name)
    assert results(first.data.metrics) == results(again.data.metrics) == results(measured)


def results(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics without costs, which differ from one run to the next."""
    return {name: value for name, value in metrics.items() if not name.startswith("cost/")}


def test_concepts_of_an_early_fusion_are_the_same_architecture(line: CommandLine) -> None:
    small = ("--fusion", "early", "--set", "fusion.hidden=8", "--set", "fusion.out=8")
    assert line("run", "--modulator", "agm", *SMALL, *small).status == 0
    concept = named(line, "concept of m0 seed 999 on synthetic early")
    assert {"encoder.m0", "encoder.m1"} <= concept.data.params.keys()
    assert concept.data.params["present"] == "['m0']"


def test_three_modalities(line: CommandLine) -> None:
    result = line("run", "--modulator", "agm-ge", *SMALL, "--set", "dataset.modalities=3")
    assert result.status == 0, result.err
    assert "d_m2" in result.out


MANY = """
import torch
from agmbench.contracts import Batch, Dataset


class Part:
    def __init__(self, modalities):
        self.modalities = modalities

    def __len__(self):
        return 8

    def batch(self, index):
        torch.manual_seed(0)
        inputs = {m: torch.randn(len(index), 4) for m in self.modalities}
        return Batch(inputs, index % 2, index)


class Many(Dataset):
    class_names = ("a", "b")
    fingerprint = "many"

    def __init__(self, seed, *, modalities: int = 10):
        self.shapes = {f"m{number}": (4,) for number in range(modalities)}

    def split(self, name):
        return Part(self.shapes)
"""


@pytest.mark.bad_input
def test_more_modalities_than_can_be_computed_are_refused_by_every_command(line: CommandLine) -> None:
    plugin = line.folder / "plugins" / "many"
    plugin.mkdir(parents=True)
    (plugin / "many.py").write_text(MANY)
    (plugin / "registry.yaml").write_text(
        "datasets: {many: {target: 'many:Many', job: {encoders: {'*': mlp}, training: {epochs: 1, batch_size: 8}}}}\n"
        "suites: {many: {jobs: [{dataset: many, modulator: joint, set: {dataset.modalities: 11}}]}}\n"
    )
    said = "data set 'many' has 11 modalities, which would take 2,047 passes over every batch"
    eleven = ("-d", "many", "--set", "dataset.modalities=11")
    for modulator in ("joint", "agm"):
        assert said in line.refused("run", *eleven, "-m", modulator)
    assert said in line.refused("run", *eleven, "--dry-run")
    assert said in line.refused("sweep", *eleven, "-m", "agm")
    assert said in line("suite", "show", "many").out
    assert line("run", "-d", "many", "-m", "joint", "--no-strength", "--set", "dataset.modalities=5").status == 0


def test_a_loss_that_is_not_finite_ends_the_run_failed_and_compare_says_why(line: CommandLine) -> None:
    result = line("run", *PLAIN, "--set", "training.lr=1e30")
    assert result.status == 1
    assert result.err.startswith("error: the loss on train of 'synthetic' is not finite at epoch 0, step 1")
    (run,) = runs(line)
    assert run.info.status == "FAILED"
    assert run.data.tags["agmbench.reason"] in result.err
    assert "FAILED: the loss on train of 'synthetic' is not finite at epoch 0, step 1" in line("compare").out


PLUGIN = """
from agmbench.modulators.joint import Joint
class Broken(Joint):
    def backward(self, model, batch):
        raise KeyError("oops")
"""


def test_a_plugin_that_raises_ends_its_run_failed_with_one_line(line: CommandLine) -> None:
    plugin = line.folder / "plugins" / "broken"
    plugin.mkdir(parents=True)
    (plugin / "registry.yaml").write_text("modulators:\n  broken: {target: code:Broken}\n")
    (plugin / "code.py").write_text(PLUGIN)
    result = line("run", *SMALL, "--no-strength", "--modulator", "broken")
    assert result.status == 1
    assert result.err.startswith("error: KeyError: 'oops'")
    assert "Traceback" not in result.err
    assert runs(line)[0].info.status == "FAILED"
    assert runs(line)[0].data.tags["agmbench.reason"] == "KeyError: 'oops' at plugins/broken/code.py:5"


def test_a_plugin_that_exits_ends_its_run_failed(line: CommandLine) -> None:
    plugin = line.folder / "plugins" / "exits"
    plugin.mkdir(parents=True)
    (plugin / "registry.yaml").write_text("modulators:\n  exits: {target: code_exits:Broken}\n")
    (plugin / "code_exits.py").write_text(PLUGIN.replace('raise KeyError("oops")', "raise SystemExit(0)"))
    result = line("run", *SMALL, "--no-strength", "--modulator", "exits")
    assert result.status == 1
    assert "a component of the job ended the process (SystemExit: 0 at plugins/exits/code_exits.py:5)" in result.err
    assert runs(line)[0].info.status == "FAILED"


def test_a_store_half_made_by_a_killed_process_is_made_anew(line: CommandLine) -> None:
    left = line.folder / "runs" / ".mlflow.db.abcdefgh.new"
    left.mkdir(parents=True)
    (left / "mlflow.db").write_bytes(b"half a database")
    assert line("run", *PLAIN).status == 0
    assert [run.info.status for run in runs(line)] == ["FINISHED"]
    assert not left.exists()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_an_interrupted_run_is_killed_and_can_be_run_again(number: int, line: CommandLine) -> None:
    endless = [word if word != "2" else "100000" for word in PLAIN]  # changes the number of epochs
    process = line.process("run", "--quiet", *endless)
    deadline = time.monotonic() + PATIENCE
    database = line.folder / "runs" / "mlflow.db"
    while not (database.is_file() and database.stat().st_size > 10_000 and started(line)):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert err.strip() == "error: interrupted"
    (run,) = runs(line)
    assert run.info.status == "KILLED"
    assert "KILLED" in line("compare").out
    assert line("run", *PLAIN).status == 0


def started(line: CommandLine) -> bool:
    import sqlite3

    with sqlite3.connect(f"file:{line.folder / 'runs' / 'mlflow.db'}?mode=ro", uri=True) as database:
        try:
            return bool(database.execute("select count(*) from metrics").fetchone()[0])
        except sqlite3.OperationalError:
            return False


@pytest.mark.long
def test_two_processes_at_once_train_each_job_once(line: CommandLine) -> None:
    first = line.process("run", "--modulator", "joint", *SMALL)
    second = line.process("run", "--modulator", "agm", *SMALL)
    for process in (first, second):
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
    assert sorted(run.info.run_name for run in runs(line)) == [
        "agm seed 999 on synthetic concat",
        "concept of m0 seed 999 on synthetic concat",
        "concept of m1 seed 999 on synthetic concat",
        "joint seed 999 on synthetic concat",
    ]


def test_the_tracking_uri_of_the_environment_wins(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = line.folder / "elsewhere.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}")
    monkeypatch.chdir(line.folder)  # MLflow puts this store's artifacts below the working directory
    assert line("run", *PLAIN).status == 0
    assert elsewhere.is_file()
    assert not (line.folder / "runs" / "mlflow.db").exists()


def test_a_lost_artifact_is_one_line(line: CommandLine) -> None:
    assert line("run", *PLAIN).status == 0
    record = MlflowTracker(line.folder / "runs").records()[0]
    for path in (line.folder / "runs" / "artifacts").rglob("outcomes.npz"):
        path.unlink()
    result = line("run", "--modulator", "joint", *SMALL)
    assert result.status == 2
    assert f"run {record.run_id}" in result.err
    assert "--force" in result.err
    assert result.err.splitlines()[-1].startswith("error: ")


def test_avmnist_mini_runs_by_default(line: CommandLine) -> None:
    """The main job in a separate process: real data, and no options except a short training."""
    result = line.finish("run", "--epochs", "1")
    assert result.status == 0, result.err
    assert "avmnist-mini, fusion concat" in result.out
    assert {run.info.status for run in runs(line)} == {"FINISHED"}
    assert len(runs(line)) == 3
