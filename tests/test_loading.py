"""Reading ahead: any number of processes gives the same bits, however they are started; little is sent; errors are reported."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import PATIENCE, SMALL, CommandLine, children
from test_layouts import LAYOUTS, NETWORKS, network
from test_layouts import SMALL as TINY

from agmbench import build, registry
from agmbench.contracts import SPLITS, Batch, Change, Context, Split, SplitName, TensorSplit, Tokens, finished, read
from agmbench.datasets.files import FileDataset
from agmbench.datasets.stored import StoredSplit
from agmbench.errors import RunFailed
from agmbench.loading import Feed, workers
from agmbench.records import Record
from agmbench.registry import Entry
from agmbench.trackers.mlflow import MlflowTracker

CPU = torch.device("cpu")
IN_MEMORY = ("umons", "mult", "mult-noalign", "mult-raw", "mmsa", "mmsa-unaligned", "pack", "official")  # layouts of sequences
VIDEOS = (("ave", "official"), ("cremad", "official"), ("urfunny", "clips"))
READ_AHEAD = [one for one in LAYOUTS if one[0].name not in ("mosei", "urfunny") or one[1] not in IN_MEMORY]
CREMAD = ("-d", "cremad", "--no-strength", "--epochs", "2", "--set", "training.batch_size=8", *NETWORKS["cremad"])


def splits_of(name: str) -> dict[SplitName, Split]:
    dataset = build.opened(registry.load(), name, {})
    return {split: dataset.split(split) for split in SPLITS}


def written(entry: Entry, layout: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[SplitName, Split]:
    """Write a random pack in a layout, and return its splits."""
    monkeypatch.setenv("AGMBENCH_DATA", str(folder))
    target = entry.load()
    assert issubclass(target, FileDataset)
    next(one for one in target.layouts if one.name == layout).write_sample(folder)
    return splits_of(entry.name)


def read_through(splits: Mapping[SplitName, Split], count: int, start: str | None = None) -> list[Batch]:
    """Read two epochs of train, each followed by valid, and return all batches."""
    draw = torch.Generator().manual_seed(0)
    with Feed(splits, CPU, count, start=start) as feed:
        found: list[Batch] = []
        for epoch in range(2):
            order = torch.randperm(len(splits["train"]), generator=draw)
            found += feed.batches("train", order.split(5), epoch)
            found += feed.in_order("valid")
        return found


def same(one: Sequence[Batch], other: Sequence[Batch]) -> bool:
    return all(
        a.dtype == b.dtype and torch.equal(a, b)
        for x, y in zip(one, other, strict=True)
        for a, b in zip(x.tensors(), y.tensors(), strict=True)
    )


@pytest.mark.parametrize(("entry", "layout"), LAYOUTS, ids=[f"{entry.name}-{layout}" for entry, layout in LAYOUTS])
def test_little_travels_to_another_process_and_opens_there_as_it_is(
    entry: Entry, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in written(entry, layout, tmp_path, monkeypatch).values():
        content = pickle.dumps(split)
        assert len(content) < 1000
        index = torch.arange(min(3, len(split)))
        assert same([pickle.loads(content).batch(index)], [split.batch(index)])
        assert same([finished(split, read(split, index))], [split.batch(index)])


@pytest.mark.long
@pytest.mark.parametrize("start", ["forkserver", "spawn"])
@pytest.mark.parametrize(("entry", "layout"), LAYOUTS, ids=[f"{entry.name}-{layout}" for entry, layout in LAYOUTS])
def test_batches_are_the_same_bits_by_any_number_of_processes(
    entry: Entry, layout: str, start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = written(entry, layout, tmp_path, monkeypatch)
    assert same(read_through(splits, 2, start), read_through(splits, 0))


FORKED = """
import sys
from test_loading import read_through, same, splits_of

splits = splits_of(sys.argv[1])
forked = read_through(splits, 2, "fork")
assert same(forked, read_through(splits, 0))
"""


@pytest.mark.long
@pytest.mark.parametrize(("entry", "layout"), LAYOUTS, ids=[f"{entry.name}-{layout}" for entry, layout in LAYOUTS])
def test_batches_are_the_same_bits_where_processes_are_forked(
    entry: Entry, layout: str, line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Videos are left out, because their decoder hangs in a process that is forked from one that has used it."""
    if (entry.name, layout) in VIDEOS:
        pytest.skip("PyAV hangs where it is forked")
    written(entry, layout, line.folder, monkeypatch)
    places = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", FORKED, entry.name],
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_layout_that_decodes_gives_the_same_bits_by_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registry.load().get("dataset", "cremad")
    splits = written(entry, "official", tmp_path, monkeypatch)
    before = torch.get_rng_state()
    assert same(read_through(splits, 2), read_through(splits, 0))
    assert torch.equal(torch.get_rng_state(), before)


def test_frames_travel_as_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = written(registry.load().get("dataset", "cremad"), "prepared", tmp_path, monkeypatch)
    assert read(splits["train"], torch.tensor([0])).inputs["visual"].dtype == torch.uint8  # type: ignore[union-attr]


@dataclass(frozen=True)
class Changed:
    """A change that adds a number which depends on the epoch and on the number of the sample."""

    epoch: int
    any_size = False

    def __call__(self, number: int, x: torch.Tensor | Tokens) -> torch.Tensor | Tokens:
        assert isinstance(x, torch.Tensor)
        return x + 100 * self.epoch + number


def changed(epoch: int | None) -> Change:
    """The changes of all modalities in an epoch of training; none if `epoch` is `None`."""
    return {} if epoch is None else dict.fromkeys(("a", "audio", "visual"), Changed(epoch))


def test_training_batches_of_an_epoch_are_changed_and_no_others() -> None:
    split = TensorSplit({"a": torch.zeros(6, 2)}, torch.zeros(6, dtype=torch.long))
    with Feed({"train": split, "valid": split}, CPU, change=changed) as feed:
        (batch,) = feed.batches("train", [torch.tensor([4, 1])], epoch=3)
        assert torch.equal(batch.inputs["a"], torch.tensor([[304.0, 304.0], [301.0, 301.0]]))  # type: ignore[arg-type]
        (batch,) = feed.batches("train", [torch.tensor([4, 1])])
        assert not batch.inputs["a"].any()  # type: ignore[union-attr]
        (batch,) = feed.in_order("valid")
        assert not batch.inputs["a"].any()  # type: ignore[union-attr]


def test_changes_are_the_same_by_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = written(registry.load().get("dataset", "ave"), "features", tmp_path, monkeypatch)
    order = torch.randperm(len(splits["train"]))
    found = []
    for count in (0, 2):
        with Feed(splits, CPU, count, change=changed) as feed:
            found.append(list(feed.batches("train", order.split(3), epoch=1)))
    assert same(*found)
    assert not same(found[0], [splits["train"].batch(index) for index in order.split(3)])


def test_a_row_of_batches_that_begins_within_another_is_read_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = written(registry.load().get("dataset", "ave"), "features", tmp_path, monkeypatch)
    index = torch.arange(len(splits["train"]))
    with Feed(splits, CPU, 1) as feed:
        outer = feed.batches("train", index.split(2))
        first = next(outer)
        assert same(list(feed.in_order("valid")), [splits["valid"].batch(torch.arange(len(splits["valid"])))])
        assert same([first, *outer], [splits["train"].batch(part) for part in index.split(2)])
        abandoned = feed.batches("train", index.split(2))
        next(abandoned)
        del abandoned
        assert same(list(feed.batches("train", index.split(4))), [splits["train"].batch(part) for part in index.split(4)])


def test_a_modulator_reads_every_split_but_test() -> None:
    split = TensorSplit({"a": torch.zeros(6, 2)}, torch.zeros(6, dtype=torch.long))
    known: dict[SplitName, Split] = {"train": split}
    context = Context(0, 1, 1, known, torch.Generator(), None, reads=Feed({**known, "test": split}, CPU).batches)  # type: ignore[arg-type]
    (batch,) = context.batches("train", [torch.tensor([2])])
    assert batch.index.tolist() == [2]
    with pytest.raises(KeyError):
        context.batches("test", [torch.tensor([2])])


def test_how_many_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGMBENCH_WORKERS", raising=False)
    assert workers(CPU) == 0
    assert 1 <= workers(torch.device("cuda")) <= 8
    monkeypatch.setenv("AGMBENCH_WORKERS", "3")
    assert workers(CPU) == 3


@pytest.mark.bad_input
@pytest.mark.parametrize("said", ["-1", "two", "1.5", "257", "²"])
def test_a_wrong_number_of_workers_is_one_line(line: CommandLine, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGMBENCH_WORKERS", "0")  # the option replaces it; monkeypatch restores it at the end
    expected = f"--workers (or AGMBENCH_WORKERS) is '{said}'; expected auto, or a number of processes from 0 to 256"
    assert expected in line.refused("run", *SMALL, f"--workers={said}")


class Fatal(Exception):
    """An error that cannot be sent to another process."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__("it is over")


@dataclass(frozen=True)
class Breaking:
    """A split that fails at one sample: it raises an error, or ends the process that reads it."""

    trainer: int
    error: str
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, index: torch.Tensor) -> Batch:
        if 7 in index:
            if self.error == "killed" and os.getpid() != self.trainer:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.error == "fatal":
                raise Fatal(1, 2)
            raise KeyError(self.error)
        return Batch({"a": torch.zeros(len(index), 2)}, self.targets[index], index)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        ("a file", KeyError, "a file"),
        ("fatal", RunFailed, "a split cannot be read: Fatal: it is over"),
        ("killed", RunFailed, "a process that reads the data ahead has ended ("),
    ],
)
def test_what_breaks_in_a_worker_is_told_by_the_process_that_trains(error: str, kind: type[Exception], said: str) -> None:
    split = Breaking(os.getpid(), error, torch.zeros(9, dtype=torch.long))
    with Feed({"train": split}, CPU, 1) as feed:
        with pytest.raises(kind) as caught:
            list(feed.batches("train", torch.arange(9).split(3)))
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(list(feed.batches("train", torch.arange(6).split(3)))) == 2  # if a process has died, a new one reads


def test_what_cannot_be_sent_is_told() -> None:
    split = Breaking(0, "", torch.zeros(9, dtype=torch.long))
    object.__setattr__(split, "lock", pytest)  # a module cannot be pickled
    with pytest.raises(RunFailed, match=r"^the data set cannot be sent to the processes that read ahead \(.*\); --workers 0"):
        list(Feed({"train": split}, CPU, 1).batches("train", [torch.tensor([1])]))


# commands


@pytest.fixture
def clips(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A folder with a random pack of CREMA-D as jpg and wav."""
    monkeypatch.setenv("AGMBENCH_DATA", str(line.folder / "data"))
    monkeypatch.setenv("AGMBENCH_WORKERS", "0")
    assert line("data", "sample", "cremad", "--layout", "ogm-ge").status == 0
    return line


def records(line: CommandLine, name: str) -> list[Record]:
    with chdir(line.folder):
        return MlflowTracker().records(name)


def numbers_of(record: Record) -> dict[str, float]:
    return {name: value for name, value in record.metrics.items() if not name.startswith("cost/")}


@pytest.mark.long
def test_runs_are_the_same_bits_with_workers_and_say_how_long_they_waited(clips: CommandLine) -> None:
    for count in ("0", "2"):
        result = clips("run", *CREMAD, "-m", "pmr", "--workers", count, "--force")
        assert result.status == 0, result.err
    one, other = records(clips, "cremad")
    assert numbers_of(one) == numbers_of(other)
    assert one.digest == other.digest
    for record in (one, other):
        assert 0 < record.metrics["cost/waiting_share"] <= 1
        assert record.metrics["cost/samples_per_second_beside_waiting"] > record.metrics["cost/samples_per_second"]


def test_a_file_that_is_broken_is_the_same_line_with_workers(clips: CommandLine) -> None:
    train = splits_of("cremad")["train"]
    assert isinstance(train, StoredSplit)
    (picture,) = train.inputs["visual"].array.things[train.rows[5]]
    picture.write_bytes(picture.read_bytes()[:200])
    said = []
    for count in ("0", "1"):
        result = clips("run", *CREMAD, "-m", "joint", "--workers", count)
        assert result.status != 0
        said.append([text for text in result.err.splitlines() if text.startswith("error: ")])
    assert said[0] == said[1]
    assert "cannot be read as a picture" in said[0][0]


@pytest.mark.long
@pytest.mark.parametrize(("entry", "layout"), READ_AHEAD, ids=[f"{entry.name}-{layout}" for entry, layout in READ_AHEAD])
def test_a_whole_run_is_the_same_bits_by_any_number_of_processes(
    entry: Entry, layout: str, line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGMBENCH_DATA", str(line.folder / "data"))
    monkeypatch.setenv("AGMBENCH_WORKERS", "0")
    assert line("data", "sample", entry.name, "--layout", layout).status == 0
    for count in ("0", "2"):
        result = line("run", "-d", entry.name, "-m", "agm", *TINY, *network(entry, layout), "--workers", count, "--force")
        assert result.status == 0, result.err
    one, other = records(line, entry.name)
    assert numbers_of(one) == numbers_of(other)


PLUGIN = """
import torch
from agmbench.contracts import Batch, Dataset
from .numbers import LOW


class Split:
    def __init__(self, count):
        self.targets = torch.arange(count) % 2

    def __len__(self):
        return len(self.targets)

    def batch(self, index):
        x = self.targets[index].float().unsqueeze(1) + LOW
        return Batch({"a": x.expand(-1, 3).clone(), "b": -x.expand(-1, 2)}, self.targets[index], index)


class Own(Dataset):
    follows_seed = False
    shapes = {"a": (3,), "b": (2,)}
    class_names = ("x", "y")

    def __init__(self, seed: int) -> None:
        pass

    def split(self, name):
        return Split({"train": 40, "dev": 8, "valid": 10, "test": 12}[name])
"""


def test_a_data_set_of_a_plugin_folder_is_read_ahead(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGMBENCH_WORKERS", "0")
    folder = line.folder / "plugins" / "own"
    folder.mkdir(parents=True)
    (folder / "own.py").write_text(PLUGIN)
    (folder / "numbers.py").write_text("LOW = -0.5\n")
    job = "job: {encoders: {'*': {name: mlp}}, training: {epochs: 2, batch_size: 8, lr: 0.1}}"
    (folder / "registry.yaml").write_text(f"datasets:\n  own:\n    target: own:Own\n    {job}\n")
    for count in ("0", "2"):
        result = line("run", "-d", "own", "-m", "agm", "--no-strength", "--workers", count, "--force")
        assert result.status == 0, result.err
    one, other = records(line, "own")
    assert numbers_of(one) == numbers_of(other)


def test_a_profile_is_kept_with_the_run_and_its_largest_parts_are_shown(line: CommandLine) -> None:
    result = line("run", *SMALL, "--no-strength", "--profile", "--set", "training.batch_size=8")
    assert result.status == 0, result.err
    assert "largest parts of the CPU's time in up to 16 batches of training:" in result.err
    assert len([text for text in result.err.splitlines() if "% aten::" in text or " calls" in text]) == 5
    (record,) = records(line, "synthetic")
    with chdir(line.folder), MlflowTracker().artifact(record, "profile/trace.json.gz") as path:
        assert path.stat().st_size > 1000
    again = line("run", *SMALL, "--no-strength", "--profile", "--set", "training.batch_size=8")
    assert "there is no training to profile; add --force" in again.err


@pytest.mark.long
def test_a_killed_run_leaves_no_reader_and_goes_on_to_the_same_numbers(clips: CommandLine) -> None:
    words = ("run", *(word if word != "2" else "12" for word in CREMAD), "-m", "agm")
    process = clips.process(*words, "--workers", "2")
    states = clips.folder / "runs" / "unfinished"
    deadline = time.monotonic() + PATIENCE
    while not list(states.rglob("state.pt")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    readers = children(process.pid)
    process.kill()
    process.wait()
    assert len(readers) >= 3  # the fork server and two readers
    deadline = time.monotonic() + PATIENCE
    while alive := [pid for pid in readers if Path(f"/proc/{pid}").exists() and "Z" not in state(pid)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)
    process.communicate()
    result = clips.finish(*words, "--workers", "1")
    assert result.status == 0, result.err
    assert "goes on after epoch" in result.err
    assert clips.finish(*words, "--workers", "0", "--force").status == 0
    one, other = (record for record in records(clips, "cremad") if record.status == "FINISHED")
    assert numbers_of(one) == numbers_of(other)


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return "Z"
