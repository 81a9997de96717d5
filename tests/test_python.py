"""agmbench from Python: data as arrays, results as a record and a data frame, and the notebook."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import PATIENCE
from torch import Tensor
from torch.utils.data import Dataset

import agmbench
from agmbench import given
from agmbench.contracts import SPLITS, Batch
from agmbench.errors import AgmbenchError
from agmbench.fingerprint import contents
from agmbench.tasks import MultiLabel, Regression, Segments, SingleLabel

ROOT = Path(__file__).parents[1]


def pair(count: int, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 3, (count,), generator=drawn)
    vectors = torch.nn.functional.one_hot(targets, 3) + torch.randn(count, 3, generator=drawn)
    return {"sound": vectors, "image": torch.randn(count, 1, 8, 8, generator=drawn)}, targets


class Items(Dataset[Any]):
    def __init__(self, count: int, seed: int = 0) -> None:
        self.inputs, self.labels = pair(count, seed)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        return {m: x[index] for m, x in self.inputs.items()}, self.labels[index]


def three(kind: Any = pair) -> dict[str, Any]:
    return {"train": kind(60, 1), "valid": kind(30, 2), "test": kind(30, 3)}


def test_importing_agmbench_imports_nothing_heavy() -> None:
    code = "import sys, agmbench; agmbench.__version__; sys.exit(any(m in sys.modules for m in ('torch', 'mlflow', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert agmbench.__version__
    assert {"run", "compare", "__version__"} <= {*dir(agmbench)}
    with pytest.raises(AttributeError, match="no attribute 'train_all'"):
        agmbench.train_all  # noqa: B018


def test_tensors_and_a_torch_dataset_of_the_same_samples_are_the_same_data() -> None:
    tensors, items = (given.entry(three(kind)).load()(0) for kind in (pair, Items))
    assert tensors.shapes == items.shapes == {"sound": (3,), "image": (1, 8, 8)}
    for name in SPLITS:
        index = torch.tensor([1, 0])
        one, other = (data.split(name).batch(index) for data in (tensors, items))
        assert isinstance(one, Batch)
        assert all(torch.equal(one.inputs[m], other.inputs[m]) for m in one.inputs)
        assert torch.equal(one.targets, other.targets)
    assert (len(tensors.split("train")), len(tensors.split("dev"))) == (54, 6)
    assert len({contents(tensors), contents(given.entry({**three(), "test": pair(30, 4)}).load()(0))}) == 2
    assert given.entry(three()).job["encoders"] == {"sound": "mlp", "image": "conv"}


def test_targets_say_what_the_task_is() -> None:
    def task(targets: Any) -> Any:
        split = ({"a": np.zeros((6, 2))}, targets)
        return given.InMemory(dict.fromkeys(("train", "valid", "test"), split)).task

    assert isinstance(task(torch.arange(6)), SingleLabel)
    assert isinstance(task(torch.zeros(6, 4, dtype=torch.long)), Segments)
    assert isinstance(task(torch.zeros(6, 4)), MultiLabel)
    regression = task(np.arange(6.0))
    assert isinstance(regression, Regression)
    assert regression.variance == 3.5


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"train": pair(8)}, "no split valid, test"),
        (5, "found a int; expected a name, a mapping"),
        (
            {**three(), "test": (pair(8)[0], pair(7)[1])},
            "test has 8 samples of sound and 7 targets; expected as many targets as samples",
        ),
        ({**three(), "tset": pair(8)}, "no split is called 'tset': did you mean 'test'"),
        ({**three(), "train": pair(8)[0]}, "train is a dict"),
        ({**three(), "train": ({"sound": ["a"]}, [1])}, "train: sound is a list"),
        ({**three(), "test": [(torch.zeros(2), 1)]}, "test is a list"),
    ],
)
def test_data_that_cannot_be_are_one_line(data: dict[str, Any], said: str) -> None:
    with pytest.raises(AgmbenchError, match=said) as raised:
        given.entry(data)
    assert "\n" not in str(raised.value)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with chdir(tmp_path):
        yield tmp_path


@pytest.mark.long
def test_a_job_is_that_of_the_command_line(finished: Any) -> None:
    """The job is found in the store of the command line, and is not trained again."""
    with chdir(finished.folder):
        record = agmbench.run("synthetic", "agm", epochs=2, set={"dataset.samples": 128}, quiet=True)
        frame = agmbench.compare("synthetic", ["agm", "joint"])
        runs = agmbench.compare("synthetic", runs=True)
    assert [*frame["method"]] == ["concept", "joint", "agm"]
    assert frame.set_index("method").loc["agm", "accuracy"] == pytest.approx(100 * record.metrics["test/accuracy"])
    assert record.run_id in set(runs["run"])
    assert frame.attrs["quantities"]["accuracy"] == {"unit": "%", "better": "higher"}
    assert not any(name in os.environ for name in ("AGMBENCH_DATA", "AGMBENCH_WORKERS"))


@pytest.mark.long
def test_own_data_are_trained_compared_and_served(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = agmbench.run(three(), "agm", name="mine", classes=["a", "b", "c"], epochs=1)
    again = agmbench.run(three(), "agm", name="mine", classes=["a", "b", "c"], epochs=1)
    other = agmbench.run(three(Items), "joint", name="mine", classes=["a", "b", "c"], epochs=1, strength=False, quiet=True)
    assert first.run_id == again.run_id
    assert {"test/accuracy", "test/strength/sound"} <= first.metrics.keys()
    assert len(agmbench.compare("mine")) == len({first.cell, other.cell}) + 1  # and one row of the unimodal models
    assert "trained 'agm seed 999 on mine concat'" in capsys.readouterr().err
    for wrong, said in [({"name": "synthetic"}, "is defined twice"), ({"classes": ["a"]}, "targets out of range")]:
        with pytest.raises(AgmbenchError, match=said):
            agmbench.run(three(), **{"name": "mine", **wrong})
    with pytest.raises(AgmbenchError, match="name and classes describe data given from Python"):
        agmbench.run("synthetic", name="mine")
    with pytest.raises(AgmbenchError, match=r"training\.epochs and --epochs say the same"):
        agmbench.run(epochs=1, set={"training.epochs": 2})


@pytest.mark.long
def test_the_notebook_runs(folder: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "examples" / "python.ipynb", as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(
        notebook, timeout=PATIENCE, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    printed = [output.text for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "stream"]
    assert any("did you mean 'agm'" in text for text in printed)


@pytest.mark.long
def test_a_data_set_whose_class_stands_in_the_script_itself(folder: Path) -> None:
    script = """
import torch
import agmbench
from agmbench.contracts import Dataset, TensorSplit
from agmbench.errors import AgmbenchError

class Mine(Dataset):
    follows_seed = False
    shapes = {"sound": (5,), "image": (4,)}
    class_names = ["no", "yes"]

    def __init__(self):
        pass

    def split(self, name):
        draw = torch.Generator().manual_seed(len(name))
        inputs = {m: torch.randn(16, *shape, generator=draw) for m, shape in self.shapes.items()}
        return TensorSplit(inputs, torch.arange(16) % 2, torch.linspace(0, 2, 16) if name == "train" else None)

if __name__ == "__main__":
    print(agmbench.run(Mine(), "agm", epochs=1, strength=False, quiet=True).status)
    try:
        agmbench.run(Mine(), "umt", epochs=1, quiet=True)
    except AgmbenchError as error:
        print(error)
"""
    (folder / "mine.py").write_text(script)
    told = subprocess.run([sys.executable, "mine.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert told.stdout.startswith("FINISHED\nmodulator 'umt' has losses in which all samples count the same"), told
