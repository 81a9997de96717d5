"""Weights of samples: as a column of a table, their effect on the loss, and the methods that refuse them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CommandLine

import agmbench.registry as registry
from agmbench import build
from agmbench.contracts import SPLITS, Batch, TensorSplit, Unsuitable
from agmbench.data.describe import entry
from agmbench.datasets.table import Table
from agmbench.datasets.tables.opened import open_table
from agmbench.encoders.mlp import MLP
from agmbench.errors import AgmbenchError
from agmbench.fusions.concat import Concat
from agmbench.jobs import compose
from agmbench.model import MultimodalModel
from agmbench.modulators.joint import Joint
from agmbench.tasks import Regression, SingleLabel, Task

ROWS = 60
DRAW = np.random.default_rng(0)
NUMBERS = {f"{m}_{place}": DRAW.normal(size=ROWS).round(4) for m in "xy" for place in range(3)}


@pytest.fixture(autouse=True)
def registry_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo after each test what commands add to the registry by AGMBENCH_REGISTRY."""
    monkeypatch.setenv("AGMBENCH_REGISTRY", "")


def table(folder: Path, **columns: Any) -> Path:
    """Write a table with two modalities of three numbers each, a label and the given columns."""
    path = folder / "t.csv"
    pd.DataFrame({**NUMBERS, "label": ["cat", "dog", "emu"] * (ROWS // 3), **columns}).to_csv(path, index=False)
    return path


def opened(path: Path, **settings: Any) -> Table:
    return Table(0, path.parent, file=path.name, **settings)


def whole(data: Table, name: Any) -> Batch:
    return data.split(name).batch(torch.arange(len(data.split(name))))


# in a table


def test_weights_of_train_are_one_on_average_and_other_splits_have_none(tmp_path: Path) -> None:
    weights = [1, 2, 3] * (ROWS // 3)
    path = table(tmp_path, weight=weights)
    data = opened(path, weight="weight")
    found = whole(data, "train").weights
    assert found is not None
    rows = data.held.splits["train"].rows  # type: ignore[attr-defined]
    own = torch.tensor(weights)[torch.from_numpy(rows)].double()
    torch.testing.assert_close(found.double(), own / own.mean(), atol=1e-6, rtol=0)
    assert [whole(data, name).weights for name in SPLITS if name != "train"] == [None] * 3
    assert "weight" not in data.shapes
    plain = opened(path)
    assert whole(plain, "train").weights is None  # without the setting in the entry, there are no weights
    assert plain.fingerprint != data.fingerprint


@pytest.mark.parametrize("cell", [-1, "inf", "", "much"])
def test_a_bad_weight_is_one_line_with_row_and_column(tmp_path: Path, cell: Any) -> None:
    path = table(tmp_path, w=[cell if row == 4 else "1.5" for row in range(ROWS)])
    with pytest.raises(Unsuitable, match=r"row 6, column 'w': .* is not a weight; expected a finite number of 0 or more"):
        opened(path, weight="w")
    assert len(opened(path, weight="w", missing="drop").held.splits["train"]) > 0
    with pytest.raises(Unsuitable, match="has no column 'v'"):
        opened(path, weight="v")


def test_weights_that_are_all_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsuitable, match="column 'w': the weight of each row of train is 0; expected one above 0"):
        opened(table(tmp_path, w=[0] * ROWS), weight="w")


def test_describe_finds_a_column_of_weights_and_its_entry_says_so(line: CommandLine) -> None:
    table(line.folder, weight=[0.5, 1.5] * (ROWS // 2))
    told = line("data", "describe", "t.csv")
    assert "weights: column weight, 0.5 to 1.5 in train" in told.out, told
    assert "weight: weight\n" in (line.folder / "t.yaml").read_text()
    why = "modulator 'umt' has losses in which all samples count the same, and the samples of train have weights"
    assert why in line.refused("run", "-d", "t.yaml", "-m", "umt")
    assert "training.mixup: the samples have weights" in line.refused(
        "run", "-d", "t.yaml", "-m", "joint", "--set", "training.mixup=0.2"
    )
    table(line.folder, weight=[-3, 70.5] * (ROWS // 2))  # negative numbers cannot be weights
    assert "weights:" not in line("data", "describe", "t.csv", "--force").out


def test_a_job_on_a_table_without_weights_has_the_identity_that_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = on_table(table(tmp_path), monkeypatch)
    assert job.spec.dataset.params["weight"] is None
    assert "weight" not in job.spec.identity()["dataset"]["params"]


def on_table(path: Path, monkeypatch: pytest.MonkeyPatch) -> build.Job:
    """A job of joint training on a table, with the entry that `describe` writes."""
    file = path.with_suffix(".yaml")
    file.write_text(entry(open_table(path, {}, anew=True), "t", path.parent))
    monkeypatch.setenv("AGMBENCH_REGISTRY", str(file))
    known = registry.load(Path("no plugins"))
    return build.resolve(compose(known, "t"), known)


# in the loss


def net(task: Task, classes: int) -> MultimodalModel:
    torch.manual_seed(0)
    encoders = {m: MLP((3,), hidden=8, layers=1) for m in ("a", "b")}
    return MultimodalModel(encoders, Concat({m: encoder.out_features for m, encoder in encoders.items()}, classes), task=task)


def gradients(task: Task, classes: int, split: TensorSplit, rows: Sequence[int]) -> dict[str, torch.Tensor]:
    model, method = net(task, classes), Joint(("a", "b"))
    method.step(model, [split.batch(torch.tensor(rows))])
    return {name: tensor.grad for name, tensor in model.named_parameters() if tensor.grad is not None}


@pytest.mark.parametrize(("task", "classes"), [(SingleLabel(), 3), (Regression(1.0), 1)])
def test_a_weight_of_two_is_a_sample_that_is_there_twice(task: Task, classes: int) -> None:
    inputs = {m: torch.randn(6, 3, generator=torch.Generator().manual_seed(1)) for m in ("a", "b")}
    targets = torch.tensor([0, 1, 2, 0, 1, 2])
    targets = targets.float() if classes == 1 else targets
    plain = TensorSplit(inputs, targets)
    weights = torch.tensor([2.0, 1, 1, 2, 1, 0])
    weighed = gradients(task, classes, TensorSplit(inputs, targets, weights / weights.mean()), range(6))
    doubled = gradients(task, classes, plain, [0, 0, 1, 2, 3, 3, 4])
    assert weighed.keys() == doubled.keys()
    for name, gradient in weighed.items():
        torch.testing.assert_close(gradient, doubled[name], atol=1e-6, rtol=1e-5)
    ones, none = (
        gradients(task, classes, TensorSplit(inputs, targets, torch.ones(6)), range(6)),
        gradients(task, classes, plain, range(6)),
    )
    assert all(torch.equal(ones[name], none[name]) for name in none)


def test_every_method_takes_weights_or_refuses_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path, weight=[0.5, 1.5] * (ROWS // 2))
    first = on_table(path, monkeypatch)
    promised = {True: 0, False: 0}
    for name in first.registry.names("modulator"):
        job = build.resolve(compose(first.registry, "t", name), first.registry, first.data)
        promise = first.registry.get("modulator", name).load().promises.weights
        promised[promise] += 1
        if promise:
            build.modulator(job, build.model(job))
        else:
            with pytest.raises(AgmbenchError, match="losses in which all samples count the same"):
                build.modulator(job, build.model(job))
    assert promised[True] > 20
    assert promised[False] > 5
