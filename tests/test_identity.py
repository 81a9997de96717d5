"""The identity of a run: edited data and code give other jobs and cells, and jobs of earlier versions are still recognised."""

import json
import re
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CommandLine
from mlflow import MlflowClient

from agmbench import build, fingerprint, registry
from agmbench.contracts import Dataset, Unsuitable
from agmbench.datasets.synthetic import Synthetic
from agmbench.fingerprint import alike, contents
from agmbench.jobs import compose, digest, parse_settings, spec_of
from agmbench.registry.source import source

SENSORS = """
    from pathlib import Path

    import numpy as np
    import torch
    from agmbench.contracts import Dataset, TensorSplit

    import_me = None


    class Sensors(Dataset):
        def __init__(self, seed, *, width: int = 4):
            with np.load(Path(__file__).with_name("sensors.npz")) as file:
                self._x = torch.from_numpy(file["x"])
                self._y = torch.from_numpy(file["y"])
            self._cut = torch.arange(240) % 4
            self.shapes = {"a": (width,), "b": (width,)}
            self.class_names = ["low", "high"]
            self.fingerprint = "that of the file"  # as an author would who thinks of the file alone

        def split(self, name):
            rows = self._cut == ("train", "dev", "valid", "test").index(name)
            x = self._x[rows]
            return TensorSplit({"a": x[:, :4], "b": x[:, 4:]}, self._y[rows])
"""
REGISTRY = """
    datasets:
      sensors:
        target: sensors:Sensors
        job: {encoders: {"*": {name: mlp, params: {hidden: 8, layers: 1}}}, training: {epochs: 2, batch_size: 16, lr: 0.05}}
"""


@pytest.fixture
def sensors(line: CommandLine) -> CommandLine:
    """A plugin data set as a beginner would write it: an array file that code divides into splits."""
    import numpy as np

    folder = line.folder / "plugins" / "sensors"
    folder.mkdir(parents=True)
    drawn = np.random.default_rng(0)
    x = drawn.normal(size=(240, 8)).astype(np.float32)
    np.savez(folder / "sensors.npz", x=x, y=(x[:, 0] + x[:, 5] > 0).astype(np.int64))
    (folder / "sensors.py").write_text(textwrap.dedent(SENSORS))
    (folder / "registry.yaml").write_text(textwrap.dedent(REGISTRY))
    return line


def edit(line: CommandLine, old: str, new: str) -> None:
    path = line.folder / "plugins" / "sensors" / "sensors.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    import sys

    for name in [name for name in sys.modules if name.startswith("agmbench_plugins.sensors")]:
        del sys.modules[name]  # so that it is imported again, as in a new process


def job(line: CommandLine, *settings: str, dataset: str = "sensors", modulator: str = "joint", seed: int = 1) -> build.Job:
    known = registry.load(line.folder / "plugins")
    return build.resolve(compose(known, dataset, modulator, settings=[*parse_settings(settings), ("seed", seed)]), known)


CUT = ("torch.arange(240) % 4", "torch.arange(240) // 60")


def test_an_edited_cut_is_another_job_and_another_cell_and_run_says_so(sensors: CommandLine) -> None:
    words = ("run", "-d", "sensors", "-m", "joint", "--no-strength", "--seed")
    assert sensors(*words, "1").status == 0
    assert "is done already" in sensors(*words, "1").err
    edit(sensors, *CUT)
    renewed = sensors(*words, "1")
    assert renewed.status == 0
    assert re.search(r"dataset/sensors \(plugins/sensors\) has changed since run [0-9a-f]{8}; training anew", renewed.err)
    for seed in ("2", "3"):
        other = sensors(*words, seed)
        assert "has changed" not in other.err
    tables = sensors("compare", "-d", "sensors").out
    assert len(re.findall(r"sensors, fusion concat, data=[0-9a-f]{8}, dataset/sensors=1 [0-9a-f]{12}", tables)) >= 2
    assert sorted(re.findall(r"joint\s+(\d)\s", tables)) == ["1", "3"], "seed 1 of the old cut is in no row of the new one"


def test_a_method_that_needs_more_runs_takes_those_of_the_same_cut(sensors: CommandLine) -> None:
    assert sensors("run", "-d", "sensors", "-m", "joint").status == 0
    edit(sensors, *CUT)
    result = sensors("run", "-d", "sensors", "-m", "agm")
    assert result.status == 0, result.err
    assert "inconsistent numbers of samples" not in result.err


def test_preprocessing_in_code_is_part_of_the_identity(sensors: CommandLine) -> None:
    before = job(sensors)
    edit(sensors, "x = self._x[rows]", "x = 2 * self._x[rows]")
    after = job(sensors)
    assert after.setting == before.setting
    assert (after.digest, after.cell) != (before.digest, before.cell)
    assert after.data.fingerprint != before.data.fingerprint


def test_a_file_that_is_renewed_is_seen_whatever_the_author_says(sensors: CommandLine) -> None:
    import numpy as np

    before = job(sensors)
    path = sensors.folder / "plugins" / "sensors" / "sensors.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["x"][239, 7] += 1e-3
    np.savez(path, **arrays)
    after = job(sensors)
    assert after.components == before.components
    assert after.digest != before.digest
    assert after.cell != before.cell


def test_seeds_and_modulators_share_a_cell_whether_the_data_follow_the_seed_or_not(sensors: CommandLine) -> None:
    for dataset in ("sensors", "synthetic", "avmnist-mini"):
        cells = {
            job(sensors, dataset=dataset, seed=seed, modulator=m).cell for seed, m in ((1, "joint"), (2, "joint"), (1, "agm"))
        }
        assert len(cells) == 1, dataset
    edit(sensors, "self._cut = torch.arange(240) % 4", "self._cut = (torch.arange(240) + seed) % 4")
    one, two = job(sensors, seed=1), job(sensors, seed=2)
    assert one.data.fingerprint != two.data.fingerprint
    assert one.cell == two.cell


@pytest.mark.parametrize(
    "text",
    [
        "from .helper import x",
        "from . import helper",
        "def late():\n    from .helper import x\n\n\nlate()",
        "from .sub import deep",
        "from .sub.deep import x",
    ],
)
def test_what_a_plugin_imports_from_beside_it_is_part_of_its_source(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "plugins" / "mine"
    (folder / "sub").mkdir(parents=True)
    (folder / "registry.yaml").write_text("modulators: {mine: {target: 'mine:Mine'}}\n")
    (folder / "mine.py").write_text(f"import os, torch\n{text}\n\n\nclass Mine: pass\n")
    (folder / "sub" / "__init__.py").write_text("")
    (folder / "sub" / "deep.py").write_text("from ..helper import x\n")
    (folder / "helper.py").write_text("x = 1\n")
    (folder / "test_mine.py").write_text("y = 1\n")
    entry = registry.load(tmp_path / "plugins").get("modulator", "mine")
    assert entry.load().__name__ == "Mine", "these imports work"
    before = source(entry)
    (folder / "test_mine.py").write_text("y = 2\n")
    assert source(entry) == before, "nobody imports the test"
    (folder / "helper.py").write_text("x = 2\n")
    assert source(entry) != before


def test_relative_imports_of_a_package_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "theirs_to_hash"
    (package / "parts").mkdir(parents=True)
    for path, text in {
        "__init__.py": "",
        "parts/__init__.py": "",
        "parts/method.py": "from ..shared import x\nfrom . import near\n",
        "shared.py": "x = 1\n",
        "parts/near.py": "y = 1\n",
        "parts/other.py": "z = 1\n",
    }.items():
        (package / path).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    entry = registry.Entry("modulator", "theirs", "theirs_to_hash.parts.method:M", "there", origin="package theirs 1")
    found = [source(entry)]
    for path in ("shared.py", "parts/near.py", "parts/__init__.py", "__init__.py"):
        (package / path).write_text((package / path).read_text() + "# edited\n")
        found.append(source(entry))
    assert len(set(found)) == 5
    (package / "parts" / "other.py").write_text("z = 2\n")
    assert source(entry) == found[-1]
    near = tmp_path / "near_to_hash.py"  # a module that it imports, but that is not part of the package
    near.write_text("a = 1\n")
    (package / "shared.py").write_text("import near_to_hash, agmbench.tasks\nfrom theirs_to_hash.parts import other\n")
    before = source(entry)
    near.write_text("a = 2\n")
    assert source(entry) == before
    (package / "parts" / "other.py").write_text("z = 3\n")
    assert source(entry) != before


def test_runs_of_an_edited_modulator_are_a_row_of_their_own(line: CommandLine) -> None:
    made = line("plugin", "new", "modulator", "mine")
    assert made.status == 0
    words = ("run", "-d", "synthetic", "-m", "mine", "--no-strength", "--epochs", "1", "--set", "dataset.samples=64", "--seed")
    assert line(*words, "1").status == 0
    path = line.folder / "plugins" / "mine" / "mine.py"
    path.write_text(path.read_text() + "\n# another idea\n")
    again = line(*words, "1")
    assert "modulator/mine (plugins/mine) has changed since run" in again.err
    assert line(*words, "2").status == 0
    rows = re.findall(r"mine \(version 1 [0-9a-f]{12}\)\s+(\d)", line("compare").out)
    assert sorted(rows) == ["1", "2"]


def test_failed_runs_on_other_data_stand_in_no_table(sensors: CommandLine) -> None:
    edit(sensors, "return TensorSplit({", "x[0, 0] = float('nan')\n        return TensorSplit({")
    words = ("run", "-d", "sensors", "-m", "joint", "--no-strength")
    assert sensors(*words).status == 1
    edit(sensors, "x[0, 0] = float('nan')\n        ", "")
    assert sensors(*words).status == 0
    shown = sensors("compare", "-d", "sensors").out
    assert "FAILED:" not in shown
    assert "left out: 1 run (FAILED) on other data or with other code" in shown


# contents


def test_contents_are_those_of_every_split() -> None:
    assert contents(Synthetic(0)) == contents(Synthetic(0)) != contents(Synthetic(1))
    changed = Synthetic(0)
    split = changed.split("dev")
    split.targets[3] = 0  # type: ignore[attr-defined]
    whole: Callable[[Any], Any] = Synthetic(0).split
    changed.split = lambda name: split if name == "dev" else whole(name)  # type: ignore[method-assign]
    assert contents(changed) != contents(Synthetic(0))


class Lazy(Dataset):
    """A data set whose splits are not in memory."""

    def __init__(self, seed: int, stated: str = "") -> None:
        self._data = Synthetic(seed)
        self.shapes, self.class_names, self.fingerprint = self._data.shapes, self._data.class_names, stated

    def split(self, name: Any) -> Any:
        inner = self._data.split(name)

        class Read:
            def __len__(self) -> int:
                return len(inner)

            def batch(self, index: Any) -> Any:
                return inner.batch(index)

        return Read()


def test_a_split_that_is_read_when_asked_is_read_as_far_as_64_mib_go(monkeypatch: pytest.MonkeyPatch) -> None:
    assert contents(Lazy(0)) == contents(Lazy(0)) != contents(Lazy(1))
    assert contents(Lazy(0, "file 1")) != contents(Lazy(0, "file 2"))
    asked: list[int] = []
    inner = Synthetic.split
    monkeypatch.setattr(fingerprint, "READ", 100 * (2 * 16 * 4 + 8))  # the bytes of 100 of train's 1,024 samples

    class Counted:
        def __init__(self, split: Any) -> None:
            self.split = split

        def __len__(self) -> int:
            return len(self.split)

        def batch(self, index: Any) -> Any:
            asked.append(len(index))
            return self.split.batch(index)

    monkeypatch.setattr(Synthetic, "split", lambda self, name: Counted(inner(self, name)))
    contents(Synthetic(0))
    assert sum(asked) == 4 * (100 + 2)


def test_a_target_of_any_sample_counts() -> None:
    one, other = Lazy(0), Lazy(0)
    split = other._data.split("valid")
    split.targets[77] = (split.targets[77] + 1) % 4  # type: ignore[attr-defined]
    whole = other._data.split
    other._data.split = lambda name: split if name == "valid" else whole(name)  # type: ignore[method-assign]
    assert contents(one) != contents(other)


def test_data_that_are_drawn_anew_need_a_fingerprint() -> None:
    def drawn(stated: str) -> Lazy:
        data = Lazy(0, stated)
        whole = data.split

        def split(name: Any) -> Any:
            inner = whole(name)
            ask = type(inner).batch

            def batch(self: Any, index: Any) -> Any:
                found = ask(self, index)
                noisy = {m: x + torch.randn(x.shape) for m, x in found.inputs.items()}
                return replace(found, inputs=noisy)

            type(inner).batch = batch
            return inner

        data.split = split  # type: ignore[method-assign]
        return data

    with pytest.raises(Unsuitable, match="train gives different numbers each time for the same sample"):
        contents(drawn(""))
    assert contents(drawn("mine")) == contents(drawn("mine")) != contents(drawn("yours"))


def test_rows_may_be_texts() -> None:
    def named(names: list[str]) -> Lazy:
        data = Lazy(0)
        whole = data.split

        def split(name: Any) -> Any:
            inner = whole(name)
            inner.rows = names
            return inner

        data.split = split  # type: ignore[method-assign]
        return data

    assert contents(named(["a", "b"])) == contents(named(["a", "b"])) != contents(named(["a", "c"]))


def test_splits_are_alike_if_they_hold_the_same_samples() -> None:
    data, other = Synthetic(0), Synthetic(1)
    assert alike(data.split("valid"), data.split("valid"))
    assert not alike(data.split("valid"), data.split("test"))
    assert not alike(data.split("valid"), other.split("valid"))


# jobs of earlier versions

MINI_OF_BEFORE = ("dataset.split=speakers", "dataset.energy=0.25", "dataset.pairing=exact")  # avmnist-mini's former defaults


@pytest.mark.parametrize(
    ("expected", "dataset", "modulator", "settings"),
    [
        ("b44af274fd6039ee", "synthetic", "joint", ["training.epochs=2", "dataset.samples=128", "seed=1"]),
        ("d14cc376a268a58f", "avmnist-mini", "joint", ["training.epochs=1", "limit=200", *MINI_OF_BEFORE]),
    ],
)
def test_a_job_of_before_has_the_digest_that_it_had(expected: str, dataset: str, modulator: str, settings: list[str]) -> None:
    known = registry.builtin()
    assert build.resolve(compose(known, dataset, modulator, settings=parse_settings(settings)), known).digest == expected


def test_a_file_of_a_job_of_before_has_the_pairs_of_then() -> None:
    known = registry.builtin()
    content = build.resolve(compose(known, "avmnist-mini", settings=parse_settings(MINI_OF_BEFORE)), known).spec.canonical()
    expected = spec_of(content)
    for later in ("pairing", "components"):
        del content["dataset"]["params"][later]
    assert spec_of(content) == expected
    unsaid = {**content, "dataset": {"name": "avmnist-mini"}}
    assert build.resolve(spec_of(unsaid), known).spec.dataset.params["pairing"] == "pack"


def test_what_half_precision_made_otherwise_alone_has_another_identity() -> None:
    def identity(modulator: str, precision: str) -> dict[str, Any]:
        return compose(registry.builtin(), "synthetic", modulator, settings=[("training.precision", precision)]).identity()

    assert identity("mla", "bf16")["modulator"] != identity("mla", "fp32")["modulator"]
    assert identity("mla", "bf16")["training"] == identity("agm", "bf16")["training"], "one table holds both"
    assert identity("agm", "bf16")["modulator"] == identity("agm", "fp32")["modulator"]


def of_before(line: CommandLine) -> None:
    """Change the runs of a store to what an earlier version would have written: other tags, cells without the data, no outcomes."""
    store = MlflowClient(f"sqlite:///{line.folder / 'runs' / 'mlflow.db'}")
    known = registry.builtin()
    for experiment in store.search_experiments():
        for run in store.search_runs([experiment.experiment_id], "tags.`agmbench.digest` != ''"):
            spec = spec_of(json.loads(run.data.tags["agmbench.spec"]))
            full = spec.identity()
            versions = {"core": "1", **{str(entry): "1" for entry in build.entries(spec, known)}}
            versions |= {f"metric/{name}": "1" for name in full["metrics"]}
            cell = {name: version for name, version in versions.items() if not name.startswith("modulator/")}
            store.set_tag(run.info.run_id, "agmbench.cell", digest([{**full, "modulator": None, "seed": None}, cell]))
            kept = ("digest", "cell", "concept", "modalities", "spec", "sample", "reason")
            for tag in run.data.tags:
                if tag.startswith("agmbench.") and tag.removeprefix("agmbench.") not in kept:
                    store.delete_tag(run.info.run_id, tag)
            Path(run.info.artifact_uri.removeprefix("file://"), "outcomes.npz").unlink()


@pytest.mark.long
def test_a_store_of_before_is_read_and_measured(line: CommandLine) -> None:
    words = ("run", "-d", "synthetic", "--epochs", "2", "--set", "dataset.samples=128")
    for modulator, seed in (("joint", "1"), ("agm", "1"), ("joint", "2")):
        assert line(*words, "-m", modulator, "--seed", seed).status == 0
    before = line("compare", "--format", "csv", "--columns", "accuracy,response,strength,ece,term,imbalance").out
    of_before(line)
    shown = line("compare")
    assert shown.status == 0, shown.err
    assert "synthetic, fusion concat, dataset.samples=128, training.epochs=2" in shown.out
    assert re.search(r"joint\s+2\s+\d", shown.out)
    assert "is done already" in line(*words, "-m", "joint", "--seed", "1").err
    assert line(*words, "-m", "joint", "--seed", "3").status == 0
    assert re.search(r"joint\s+3\s+\d", line("compare").out), "old runs and new ones are one row"
    # what can be computed from the kept predictions is measured at once; the rest is a dash with a reason until checkpoints are evaluated
    shown = line("compare", "--columns", "accuracy,ece,imbalance", "--seed", "1")
    assert re.search(r"joint\s+1\s+\d+\.\d+\s+\d+\.\d+\s*\n", shown.out), shown.out
    assert "No numbers for imbalance: the run kept only the predictions with all modalities present" in shown.out
    measured = line("measure")
    assert measured.status == 0, measured.err
    after = line("compare", "--format", "csv", "--columns", "accuracy,response,strength,ece,term,imbalance")
    assert "measured for this table" not in after.err

    def numbers(text: str, seed: str) -> dict[str, str]:
        import csv
        import io

        lines = [one for one in csv.DictReader(io.StringIO(text)) if one["source"] == "run" and one["seed"] == seed]
        return {f"{one['method']} {one['column']}": one["mean"] for one in lines}

    for seed in ("1", "2"):
        assert len(numbers(before, seed)) >= 9
        assert numbers(after.out, seed) == numbers(before, seed)


# which run is the latest


def test_a_run_that_the_clock_puts_before_another_is_still_the_last(line: CommandLine) -> None:
    import sqlite3

    words = ("run", "-d", "synthetic", "-m", "joint", "--no-strength", "--epochs", "1", "--set", "dataset.samples=64")
    assert line(*words).status == 0
    with sqlite3.connect(line.folder / "runs" / "mlflow.db") as store:  # as if the first machine's clock were ahead
        store.execute("UPDATE runs SET start_time = start_time + 86400000, end_time = end_time + 86400000")
        ((first,),) = store.execute("SELECT run_uuid FROM runs")
    forced = line(*words, "--force")
    assert forced.status == 0
    (second,) = re.findall(r"MLflow run ([0-9a-f]{32})", forced.err)
    assert second != first
    assert f"MLflow run {second}" in line(*words).err
