"""The logged model: loaded by MLflow in a fresh process, it gives the predictions of its run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import SMALL, CommandLine
from mlflow import MlflowClient
from mlflow.entities import Run

from agmbench.errors import AgmbenchError
from agmbench.served import _load_pyfunc

# arguments: the addresses of the store and of a model, and the files with its run's predictions and job; the data only serve as inputs
FRESH = """
import sys, numpy as np, pandas as pd, torch, mlflow, yaml
from agmbench.datasets import synthetic
made = synthetic.Synthetic.__init__
def refuse(*_, **__):
    raise AssertionError("the data set was opened")
synthetic.Synthetic.__init__ = refuse
store, uri, parquet, job = sys.argv[1:]
mlflow.set_tracking_uri(store)
model = mlflow.pyfunc.load_model(uri)
synthetic.Synthetic.__init__ = made

from agmbench import build, jobs, registry
from agmbench.served import _arrays
spec = jobs.JobSpec.model_validate(yaml.safe_load(open(job)))
split = build.resolve(spec, registry.load()).dataset.split("test")
whole = split.batch(torch.arange(len(split)))
said = model.predict(_arrays({m: whole.inputs[m] for m in spec.encoders}))
table = pd.read_parquet(parquet).query("split == 'test'").sort_values("index")
columns = [name for name in table if name.startswith("logit/")]
assert len(said) == len(table) > 0
assert np.array_equal(said[columns].to_numpy(), table[columns].to_numpy())
assert list(said["prediction"]) == [f"class {number}" for number in table["prediction"]]
print(len(said))
"""


def runs(line: CommandLine) -> dict[str, Run]:
    store = MlflowClient(address(line))
    return {run.info.run_name or "": run for e in store.search_experiments() for run in store.search_runs([e.experiment_id])}


def address(line: CommandLine) -> str:
    return f"sqlite:///{line.folder / 'runs' / 'mlflow.db'}"


def fresh(line: CommandLine, run: Run) -> int:
    """The number of test samples for which a fresh process gives the logits and predictions of the run. It loads the model before the
    data set."""
    (output,) = run.outputs.model_outputs
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    words = (address(line), f"models:/{output.model_id}", str(folder / "predictions.parquet"), str(folder / "job.yaml"))
    result = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", FRESH, *words], capture_output=True, text=True, cwd=line.folder
    )
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


@pytest.mark.parametrize("name", ["agm seed 999 on synthetic concat", "concept of m1 seed 999 on synthetic concat"])
def test_a_fresh_process_gives_the_predictions_of_the_run(finished: CommandLine, name: str) -> None:
    assert fresh(finished, runs(finished)[name]) == 64


@pytest.mark.long
def test_a_method_whose_answer_is_not_the_models_is_served_too(line: CommandLine) -> None:
    assert line("run", "--modulator", "ensemble", *SMALL, "--set", "mute=mean").status == 0
    assert fresh(line, runs(line)["ensemble seed 999 on synthetic concat"]) == 64


def test_a_concept_whose_other_modality_is_drawn_is_served_with_the_same_draws(line: CommandLine) -> None:
    small = ("--fusion", "early", "--set", "fusion.hidden=8", "--set", "fusion.out=8", "--set", "mute=random")
    words = ("--dataset", "synthetic", "--epochs", "2", "--set", "dataset.samples=2000")
    assert line("run", "--modulator", "joint", *words, *small).status == 0
    assert fresh(line, runs(line)["concept of m0 seed 999 on synthetic early"]) == 500


def test_the_model_is_an_output_of_its_run_with_signature_example_and_requirement(
    finished: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address(finished))  # where MLflow looks a model up by its number
    run = runs(finished)["agm seed 999 on synthetic concat"]
    (output,) = run.outputs.model_outputs
    model = MlflowClient(address(finished)).get_logged_model(output.model_id)
    assert (model.name, str(model.status), model.source_run_id) == ("model", "READY", run.info.run_id)
    folder = Path(model.artifact_location.removeprefix("file://"))
    info = mlflow.models.get_model_info(str(folder))
    assert (info.run_id, info.model_id) == (run.info.run_id, model.model_id)
    assert info.signature.inputs.input_names() == ["m0", "m1"]
    assert info.signature.outputs.input_names() == ["prediction", *(f"logit/{number}" for number in range(4))]
    assert "agmbench==" in (folder / "requirements.txt").read_text()
    example = json.loads((folder / "input_example.json").read_text())
    assert {name: np.shape(values) for name, values in example.items()} == {"m0": (1, 16), "m1": (1, 16)}
    said = mlflow.pyfunc.load_model(str(folder)).predict({m: np.float32(x) for m, x in example.items()})
    assert len(said) == 1


def test_an_input_of_another_shape_is_refused_by_the_signature(finished: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address(finished))  # where MLflow looks a model up by its number
    (output,) = runs(finished)["agm seed 999 on synthetic concat"].outputs.model_outputs
    location = MlflowClient(address(finished)).get_logged_model(output.model_id).artifact_location
    with pytest.raises(mlflow.MlflowException, match=r"\(2, 3\) does not match expected shape \(-1, 16\)"):
        mlflow.pyfunc.load_model(location.removeprefix("file://")).predict(
            {m: np.zeros((2, 3), np.float32) for m in ("m0", "m1")}
        )


OWN = """
import torch
from agmbench.contracts import Dataset, TensorSplit
from agmbench.tasks import SingleLabel


class Steep(SingleLabel):
    \"\"\"One class a sample, of which the logits count more.\"\"\"

    def __init__(self, factor):
        self.factor = factor

    def losses(self, logits, targets):
        return super().losses(self.factor * logits, targets)


class Own(Dataset):
    def __init__(self, seed):
        self.shapes, self.class_names, self.fingerprint = {"a": (4,), "b": (4,)}, ["x", "y"], "own"
        self.task = Steep(2.0)

    def split(self, name):
        return TensorSplit({m: torch.ones(8, 4) for m in self.shapes}, torch.arange(8) % 2)
"""


def loaded(folder: Path, where: Path) -> "subprocess.CompletedProcess[str]":
    code = "import sys\nfrom agmbench.served import _load_pyfunc\nprint(type(_load_pyfunc(sys.argv[1]).data.task).__name__)"
    return subprocess.run([sys.executable, "-c", code, str(folder / "data")], capture_output=True, text=True, cwd=where)


@pytest.mark.long
def test_a_task_of_the_data_sets_own_is_found_where_its_entry_is(line: CommandLine, tmp_path: Path) -> None:
    plugin = line.folder / "plugins" / "own"
    plugin.mkdir(parents=True)
    (plugin / "own_data.py").write_text(OWN)
    (plugin / "registry.yaml").write_text(
        "datasets:\n  own: {target: 'own_data:Own', job: {encoders: {'*': mlp}, training: {epochs: 1, batch_size: 4}}}\n"
    )
    result = line("run", "-d", "own", "-m", "joint", "--no-strength")
    assert result.status == 0, result.err
    (model,) = [path.parent for path in line.folder.rglob("MLmodel")]
    assert loaded(model, line.folder).stdout == "Steep\n"
    (tmp_path / "elsewhere").mkdir()
    assert "unknown dataset 'own'" in loaded(model, tmp_path / "elsewhere").stderr


@pytest.mark.parametrize("task", ["os:mkdir", "agmbench.tasks:torch", "agmbench.tasks:Task", "evil:Task", "SingleLabel", ""])
def test_a_model_names_no_task_but_one_that_is_here(
    finished: CommandLine, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    model = next(path.parent for path in finished.folder.rglob("MLmodel"))
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "evil.py").write_text("open('executed', 'w').close()\nfrom agmbench.tasks import SingleLabel as Task\n")
    about = json.loads((model / "data" / "data.json").read_text())
    about["task"] = {"class": task, "with": {"path": "executed"} if task == "os:mkdir" else {}}
    (tmp_path / "model" / "data" / "data.json").write_text(json.dumps(about))
    with pytest.raises(AgmbenchError, match=f"the model's task {task!r} is none of agmbench.tasks, nor its data set's"):
        _load_pyfunc(str(tmp_path / "model" / "data"))
    assert not (tmp_path / "executed").exists()


def test_a_model_names_no_type_of_numbers_but_torchs(finished: CommandLine, tmp_path: Path) -> None:
    model = next(path.parent for path in finished.folder.rglob("MLmodel"))
    shutil.copytree(model, tmp_path / "model")
    about = json.loads((model / "data" / "data.json").read_text())
    about["targets"]["dtype"] = "load"
    (tmp_path / "model" / "data" / "data.json").write_text(json.dumps(about))
    with pytest.raises(AgmbenchError, match="the model's data have a type that torch does not know: 'load'"):
        _load_pyfunc(str(tmp_path / "model" / "data"))
