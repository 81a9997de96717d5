"""`agmbench data` and its options, on a small data set in a plugin folder."""

import os
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL, CommandLine

TOY = '''
from pathlib import Path
import numpy as np, torch
from agmbench.contracts import Unsuitable
from agmbench.datasets import prepared
from agmbench.datasets.arrays import check_lengths
from agmbench.datasets.files import FileDataset, Held, Layout, Source
from agmbench.datasets.prepared import Plan, Store
from agmbench.datasets.stored import Stored, StoredSplit
from agmbench.datasets.untrusted import load_npy

SIZES = {"train": 40, "dev": 8, "valid": 8, "test": 8}

class Pack(Layout):
    name = "pack"
    signs = ("a.npy", "labels.npy")

    def read(self, root, *, scale=1.0):
        a, labels = load_npy(root / "a.npy", (None, 3)), load_npy(root / "labels.npy", (None,))
        check_lengths({"a.npy": len(a), "labels.npy": len(labels)})
        splits, start = {}, 0
        for name, size in SIZES.items():
            rows = np.arange(start, start + size)
            targets = torch.from_numpy(np.asarray(labels)[rows])
            splits[name] = StoredSplit({"a": Stored(a, lambda x: x.float() * scale), "b": Stored(a)}, targets, rows)
            start += size
        people = {name: [f"p{row % 50}" for row in split.rows] for name, split in splits.items()}
        return Held(splits, {"a": (3,), "b": (3,)}, [root / "a.npy", root / "labels.npy"], {"person": people}, ["a note"])

    def write_sample(self, root):
        numbers = np.random.default_rng(0)
        np.save(root / "a.npy", numbers.standard_normal((64, 3)).astype(np.float32))
        np.save(root / "labels.npy", np.arange(64) % 2)

class Ready(Layout):
    name = "prepared"
    signs = ("prepared-*/manifest.json",)

    def read(self, root, *, scale=1.0):
        made = prepared.read(root, "toy")
        x = made.array("train", "x")
        inputs, rows = {"a": Stored(x), "b": Stored(x)}, {name: np.arange(k, len(x), 4) for k, name in enumerate(SIZES)}
        parts = {name: StoredSplit(inputs, torch.zeros(len(mine), dtype=torch.long), mine) for name, mine in rows.items()}
        return Held(parts, {"a": (3,), "b": (3,)}, made.files, checksums=made.checksums)

    def write_sample(self, root):
        Toy.prepare(root, root, lambda done, total: None, 1)

def work(number):
    if number == 13:
        raise Unsuitable("clip 13 cannot be read")
    return {"x": np.full(3, number, dtype=np.float32)}

class Toy(FileDataset):
    """A toy. scale: of a."""
    name = "toy"
    source = Source("https://example.org/toy", "MIT", "1 kB", "put a.npy and labels.npy there")
    layouts = (Pack(), Ready())
    class_names = ["even", "odd"]

    def __init__(self, seed, *, scale: float = 1.0):
        self.hold(scale=scale)

    @classmethod
    def prepare(cls, source, target, progress, jobs, *, count: int = 10):
        store = Store(target, Plan("toy", {"count": count}, {}, {"train": {"x": ((count, 3), "<f4")}}, {}))
        prepared.fill(store, [("train", row, row) for row in range(count)], work, progress, 1)
'''
REGISTRY = """
datasets:
  toy:
    target: toy:Toy
    summary: a toy
    job: {encoders: {"*": {name: mlp, params: {hidden: 8, layers: 1}}}, training: {epochs: 1, lr: 0.1, batch_size: 8}}
"""


@pytest.fixture
def toy(line: CommandLine, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the plugin into the command line's folder, and return an empty folder for its data."""
    plugin = line.folder / "plugins" / "toy"
    plugin.mkdir(parents=True)
    (plugin / "toy.py").write_text(TOY)
    (plugin / "registry.yaml").write_text(REGISTRY)
    root = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("AGMBENCH_DATA", str(root))
    return root


def test_status_tells_what_is_there_and_where_to_get_the_rest(line: CommandLine, toy: Path) -> None:
    result = line("data", "status", "toy", "synthetic")
    assert result.status == 0
    assert "toy        not here  -" in result.out
    assert "synthetic  built in  1024   256  256    256" in result.out
    assert f"there is no data in {toy}" in result.out
    assert "get it: https://example.org/toy\n  licence: MIT\n  size: 1 kB\n" in result.out
    assert "then: put a.npy and labels.npy there" in result.out
    assert line("data", "sample", "toy").status == 0
    again = line("data", "status", "toy").out
    assert f"pack in {toy}/toy" in again
    assert "40     8    8      8" in again
    assert "toy: a random sample, no real data" in again
    assert "toy: a note" in again


def test_status_of_all_data_sets_names_every_one(line: CommandLine, toy: Path) -> None:
    out = line("data", "status").out
    from agmbench import registry

    for entry in registry.load().entries("dataset"):
        assert f"\n{entry.name} " in out, entry.name


@pytest.mark.bad_input
def test_a_job_without_its_data_says_what_to_do(line: CommandLine, toy: Path) -> None:
    error = line.refused("run", "--dataset", "toy")
    assert f"dataset/toy: there is no data in {toy}; known layouts: pack, prepared. 'agmbench data status toy' says" in error
    assert "  recognised as pack: a.npy, labels.npy\n" in line("data", "status", "toy").out


def test_a_sound_data_set_is_verified_and_its_leaks_told(line: CommandLine, toy: Path) -> None:
    line("data", "sample", "toy")
    result = line("data", "verify", "toy")
    assert result.status == 0, result.err
    assert "'toy' is sound" in result.out
    assert "shared: 8 of the 8 persons of test are also in train, such as p0" not in result.out
    assert "shared: 6 of the 8 persons of valid are also in train, such as p0" in result.out
    doubled = line("data", "verify", "toy", "--set", "scale=2").out
    assert doubled != result.out


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda a, y: (np.where(np.arange(64)[:, None] == 50, np.nan, a), y),
            "valid: a with numbers that are not finite in 1 of 8 samples (2 (person p0)); expected finite numbers",
        ),
        (
            lambda a, y: (a, np.where(np.arange(64) == 3, 7, y)),
            "train: targets out of range, such as 7, in 1 of 40 samples (3 (person p3)); expected torch.int64 [N], class numbers 0 to 1",
        ),
    ],
)
def test_data_that_are_not_sound(line: CommandLine, toy: Path, spoil, said: str) -> None:  # type: ignore[no-untyped-def]
    line("data", "sample", "toy")
    a, labels = spoil(np.load(toy / "toy/a.npy"), np.load(toy / "toy/labels.npy"))
    np.save(toy / "toy/a.npy", a.astype(np.float32))
    np.save(toy / "toy/labels.npy", labels)
    result = line("data", "verify", "toy")
    assert result.status == 2
    assert said in result.err
    assert result.err.count("\n") == 1


def test_prepare_writes_a_whole_folder_or_says_why_not(line: CommandLine, toy: Path) -> None:
    assert line("data", "prepare", "toy", "--from", ".").status == 0
    ready = next((toy / "toy").glob("prepared-*"))
    assert line("data", "verify", "toy").status == 0
    values = np.load(ready / "train/x.npy")
    values[0] = 5
    np.save(ready / "train/x.npy", values)
    spoiled = line("data", "verify", "toy")
    assert spoiled.status == 2
    assert "is not the file that was prepared: its checksum differs" in spoiled.err

    broken = line("data", "prepare", "toy", "--from", ".", "--set", "count=20")
    assert broken.status == 2
    assert broken.err == "error: dataset/toy: clip 13 cannot be read\n"
    assert not (toy / "toy" / "prepared-20").exists()
    assert line("data", "status", "toy").out.count("prepared in") == 1

    unknown = line("data", "prepare", "toy", "--from", ".", "--set", "colour=1")
    assert unknown.err == "error: preparation/toy has no parameter 'colour': did you mean 'count'? Known: count.\n"
    assert "there is no such folder" in line.refused("data", "prepare", "toy", "--from", "nowhere")


def test_runs_on_a_sample_stay_out_of_compare_unless_asked(line: CommandLine, toy: Path) -> None:
    line("data", "sample", "toy")
    assert line("run", "--dataset", "toy", "--modulator", "joint", "--no-strength").status == 0
    assert "no runs" in line("compare").err
    shown = line("compare", "--samples")
    assert shown.status == 0
    assert "joint" in shown.out


def test_a_sample_never_overwrites(line: CommandLine, toy: Path) -> None:
    assert line("data", "sample", "toy", "--layout", "prepared").status == 0
    assert "is not empty; name another place with --data-root" in line("data", "sample", "toy").err
    assert "has no layout 'packed': did you mean 'pack'?" in line("data", "sample", "toy", "--layout", "packed").err


@pytest.mark.bad_input
@pytest.mark.parametrize("root", ["a-file", "/proc"])
def test_a_sample_that_cannot_be_written_is_one_line(
    line: CommandLine, toy: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.setenv("AGMBENCH_DATA", str(toy / root))
    (toy / "a-file").touch()
    assert "toy cannot be written (" in line.refused("data", "sample", "toy")


def test_a_sample_is_whole_or_not_there(line: CommandLine, toy: Path) -> None:
    broken = TOY.replace('np.save(root / "labels.npy", np.arange(64) % 2)', "raise RuntimeError(list(root.iterdir()))")
    (line.folder / "plugins" / "toy" / "toy.py").write_text(broken)
    result = line("data", "sample", "toy")
    assert result.status == 1
    assert "a.npy" in result.err
    assert not list(toy.iterdir())


def test_data_root_is_an_option_too(line: CommandLine, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    before = os.environ["AGMBENCH_DATA"]
    try:
        assert line("data", "sample", "toy", "--data-root", str(other)).status == 0
        assert (other / "toy" / "a.npy").is_file()
        assert line("run", "-d", "toy", "-m", "joint", "--dry-run", "--data-root", str(other)).status == 0
    finally:
        os.environ["AGMBENCH_DATA"] = before
    assert "there is no such folder" in line.refused("run", "-d", "toy", "--data-root", "nowhere")


@pytest.mark.bad_input
def test_what_is_not_on_disk_has_nothing_to_prepare(line: CommandLine) -> None:
    for words in (("prepare", "synthetic", "--from", "."), ("sample", "avmnist-mini")):
        assert "is not read from files, so there is nothing to prepare" in line.refused("data", *words)


def test_limit_takes_samples_spread_over_each_split(line: CommandLine) -> None:
    from agmbench import build, jobs, registry

    known = registry.load()
    whole = build.resolve(jobs.compose(known, "synthetic"), known)
    part = build.resolve(jobs.compose(known, "synthetic", settings=[("limit", 100)]), known)
    assert part.digest != whole.digest
    assert {len(part.dataset.split(name)) for name in ("train", "dev", "valid", "test")} == {100}  # type: ignore[arg-type]
    import torch

    index = torch.tensor([0, 50, 99])
    batch = part.dataset.split("train").batch(index)
    expected = whole.dataset.split("train").batch(index * 1024 // 100)
    assert torch.equal(batch.index, index)
    assert torch.equal(batch.inputs["m0"], expected.inputs["m0"])  # type: ignore[arg-type]
    assert line("run", "--modulator", "joint", "--no-strength", "--limit", "70", *SMALL).status == 0
    assert "'limit' is 1: input should be greater than or equal to 2" in line.refused("run", "--limit", "1")
