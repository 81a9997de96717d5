"""Exact resume: a job that is stopped anywhere and resumed ends with exactly the numbers of one that was not stopped."""

import copy
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PATIENCE, CommandLine
from mlflow import MlflowClient
from test_train import CPU, EARLY, REGISTRY, splits_of, untrained_concepts

from agmbench import build, execute, jobs
from agmbench.checkpoints import BEFORE, NEWEST, Checkpoints, pack, unpack
from agmbench.loading import Feed
from agmbench.measures import of_one_run
from agmbench.model import MultimodalModel
from agmbench.records import Point, Record
from agmbench.trackers.mlflow import MlflowTracker
from agmbench.train import Epoch, train

# settings that use every random generator (dropout, noise of the modulator, random muting) and momentum
DRAWN = {
    "training.epochs": 4,
    "training.batch_size": 32,
    "training.optimizer": "adam",
    "training.schedule.name": "cosine",
    "dataset.samples": 96,
    "encoder.m0.dropout": 0.3,
    "mute": "random",
}


def make(modulator: str, **settings: Any) -> build.Job:
    spec = jobs.compose(REGISTRY, "synthetic", modulator, settings=[*DRAWN.items(), *settings.items()])
    return build.resolve(spec, REGISTRY)


def run(
    job: build.Job, state: dict[str, Any] | None = None, epochs: int | None = None
) -> tuple[MultimodalModel, list[Epoch], Any]:
    """Train from a state or from the beginning, and return the model, the epochs and the state after the last epoch."""
    model = build.model(job)
    modulator = build.modulator(job, model)
    concepts = untrained_concepts(job) if modulator.needs_concepts else {}
    spec, found, last = job.spec, [], state
    all_epochs = train(model, modulator, Feed(splits_of(job), CPU), spec.training, spec.seed, concepts, state)
    for epoch in itertools.islice(all_epochs, epochs):
        found.append(epoch)
        last = epoch.state()
    return model, found, last


@pytest.mark.parametrize("name", REGISTRY.names("modulator"))
@pytest.mark.parametrize("stopped", [1, 3])
def test_every_modulator_goes_on_bit_by_bit(tmp_path: Path, name: str, stopped: int) -> None:
    job = make(name, **EARLY.get(name, {}))
    whole, expected, _ = run(job)
    _, before, state = run(job, epochs=stopped)
    states = Checkpoints(tmp_path, "mine")
    states.save(state)
    torch.rand(7)  # the process may draw other random numbers in between
    model, after, _ = run(job, states.load(CPU))
    assert [*before, *after] == expected
    for key, value in whole.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


@pytest.mark.parametrize("stopped", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize(
    ("name", "settings"),
    [("mses", {"modulator.patience": 0, "training.lr": 2.0}), ("reconboost", {"modulator.stage": 2, "modulator.rectify": 1})],
)
def test_what_touches_the_optimizers_state_goes_on_bit_by_bit(stopped: int, name: str, settings: dict[str, Any]) -> None:
    job = make(name, **{"training.epochs": 8, "training.momentum": 0.9}, **settings)
    _, expected, last = run(job)
    _, before, state = run(job, epochs=stopped)
    _, after, _ = run(job, copy.deepcopy(state))
    assert [*before, *after] == expected
    if name == "mses":
        assert last["modulator"]["restored"].any()


@pytest.mark.parametrize(
    "settings",
    [{"training.accumulate": 2}, {"modulator.scores": "dev"}, {"training.precision": "bf16"}, {"training.precision": "fp16"}],
)
def test_agm_goes_on_bit_by_bit_under_its_options(settings: dict[str, Any]) -> None:
    job = make("agm", **settings)
    _, expected, _ = run(job)
    _, before, state = run(job, epochs=2)
    _, after, _ = run(job, state)
    assert [*before, *after] == expected


GAINLESS = {  # settings under which each epoch without a gain has an effect
    "training.lr": 0.2,
    "training.epochs": 12,
    "training.reduction": "sum",
    "training.clip_norm": 2.0,
    "training.schedule.name": "plateau",
    "training.schedule.gamma": 0.5,
    "training.schedule.last": 2,
    "training.schedule.reload": True,
    "training.early_stopping": 2,
}


@pytest.mark.parametrize("name", REGISTRY.names("modulator"))
def test_decays_that_bring_weights_back_and_early_stopping_go_on_bit_by_bit(tmp_path: Path, name: str) -> None:
    job = make(name, **GAINLESS)
    whole, expected, end = run(job)
    trains = build.modulator(job, build.model(job)).promises.trains
    if trains:
        assert end["progress"]["decays"] == 2
    if name == "joint":
        assert len(expected) < 12, "it ends early"
    for stopped in range(1, len(expected) + 1) if name == "agm" else {1, len(expected) // 2, len(expected)} - {0}:
        _, before, state = run(job, epochs=stopped)
        states = Checkpoints(tmp_path, f"after {stopped}")
        states.save(state)
        torch.rand(3)
        model, after, _ = run(job, states.load(CPU))
        assert [*before, *after] == expected, stopped
        for key, value in whole.state_dict().items():
            assert torch.equal(model.state_dict()[key], value), key


# files


def test_states_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = Checkpoints(tmp_path, "mine")
    assert states.load(CPU) is None
    states.save({"number": 1})
    states.save({"number": 2})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        states.save({"number": 3})
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == [BEFORE, NEWEST]
    assert states.load(CPU) == {"number": 2}


def test_a_corrupt_state_is_moved_aside_and_the_one_before_is_taken(tmp_path: Path) -> None:
    states = Checkpoints(tmp_path, "mine")
    states.save({"number": 1})
    states.save({"number": 2})
    (tmp_path / NEWEST).write_bytes((tmp_path / NEWEST).read_bytes()[:100])
    assert states.load(CPU) == {"number": 1}
    (warning,) = states.warnings
    assert f"the checkpoint {tmp_path / NEWEST} cannot be read" in warning
    assert "kept as state.corrupt" in warning
    assert (tmp_path / "state.corrupt").is_file()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "is of no job that it names"),
        ([], "is of no job that it names"),
        (torch.zeros(2), "is of no job that it names"),
        ({"number": 3}, "is of no job that it names"),
        ({"job": 7}, "is of no job that it names"),
        ({"job": "other", "number": 3}, "is of job other"),
    ],
)
def test_a_state_of_another_job_or_of_none_is_moved_aside_and_the_one_before_is_taken(
    tmp_path: Path, wrong: Any, said: str
) -> None:
    states = Checkpoints(tmp_path, "mine")
    states.save({"number": 1})
    states.save({"number": 2})
    torch.save(wrong, tmp_path / NEWEST)
    assert states.load(CPU) == {"number": 1}
    assert states.warnings == [f"the checkpoint {tmp_path / NEWEST} {said}; expected job mine; it is kept as state.corrupt"]
    torch.save(wrong, tmp_path / BEFORE)
    assert states.load(CPU) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-before.corrupt", "state.corrupt"]


def without(name: str, of: str = "training") -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        del state[of][name]

    change.__name__ = f"without {name} of {of}"
    return change


def of_a_wider_model(state: dict[str, Any]) -> None:
    weights = state["training"]["model"]
    name = next(iter(weights))
    weights[name] = torch.cat([weights[name], weights[name]])


def with_best_weights_of_another(state: dict[str, Any]) -> None:
    state["selection"]["weights"]["model"].popitem()


def of_an_epoch_that_there_is_not(state: dict[str, Any]) -> None:
    state["training"]["epoch"] = 10**6


def without_history(state: dict[str, Any]) -> None:
    del state["history"]


WRONG = [
    *(without(name) for name in ("epoch", "meter", "optimizer", "generators")),
    without("weights", "selection"),
    *(of_a_wider_model, with_best_weights_of_another, of_an_epoch_that_there_is_not, without_history),
]


class Watching:
    """A display that notes what a job reports."""

    def __init__(self) -> None:
        self.done, self.warnings = -1, list[str]()

    def started(self, name: str, epochs: int, done: int) -> None:
        self.done = done

    def warned(self, text: str) -> None:
        self.warnings.append(text)

    def epoch(self, epoch: Epoch) -> None:
        pass

    def finished(self, record: Record, trained: bool) -> None:
        pass


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The states of a job that was stopped in its third epoch: those after two epochs and after one."""
    folder = tmp_path_factory.mktemp("stopped")
    spec = make("joint").spec
    with chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "due", lambda self: True)
        with pytest.raises(Stopped):
            execute.execute(spec, REGISTRY, MlflowTracker(), CPU, Stopping(3), of_one_run(REGISTRY))
    return folder


class Stopped(Exception):
    pass


class Stopping(Watching):
    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def epoch(self, epoch: Epoch) -> None:
        if epoch.number + 1 == self.after:
            raise Stopped


@pytest.mark.parametrize("change", WRONG, ids=lambda change: change.__name__)
def test_a_job_goes_on_from_the_state_before_one_that_does_not_fit(
    tmp_path: Path, stopped: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    (newest,) = tmp_path.glob(f"runs/unfinished/*/{NEWEST}")
    state = torch.load(newest, weights_only=True)
    done = state["training"]["epoch"]  # the number of epochs that the state before has
    change(state)
    torch.save(state, newest)
    watching = Watching()
    with chdir(tmp_path):
        record = execute.execute(make("joint").spec, REGISTRY, MlflowTracker(), CPU, watching, of_one_run(REGISTRY))
    assert record.status == "FINISHED"
    assert watching.done == done == 2
    (warning,) = watching.warnings
    assert f"{NEWEST} does not fit its job (" in warning
    assert warning.endswith("); it is kept as state.corrupt")


def test_a_job_begins_anew_where_no_state_fits(tmp_path: Path, stopped: Path) -> None:
    shutil.copytree(stopped, tmp_path / "wrong")
    for path in tmp_path.glob("wrong/runs/unfinished/*/state*.pt"):
        state = torch.load(path, weights_only=True)
        without("optimizer")(state)
        torch.save(state, path)
    (tmp_path / "whole").mkdir()
    found = {}
    for name in ("wrong", "whole"):
        watching = Watching()
        with chdir(tmp_path / name):
            found[name] = execute.execute(make("joint").spec, REGISTRY, MlflowTracker(), CPU, watching, of_one_run(REGISTRY))
        assert watching.done == 0
        assert len(watching.warnings) == (2 if name == "wrong" else 0)
    measured = [{n: v for n, v in record.metrics.items() if not n.startswith("cost/")} for record in found.values()]
    assert measured[0] == measured[1]


def test_a_state_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'stolen'}",)

    torch.save({"x": Evil()}, tmp_path / NEWEST)
    assert Checkpoints(tmp_path, "mine").load(CPU) is None
    assert not (tmp_path / "stolen").exists()


def test_points_survive_packing() -> None:
    points = [Point("loss", 0.1, 0), Point("kappa/a", 1 / 3, 7), Point("loss", float("inf"), 1)]
    assert unpack(pack(points)) == points
    assert unpack(pack([])) == []


def test_writing_takes_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)  # the clock stands still
    states = Checkpoints(tmp_path, "mine")
    assert states.due()
    states._took, states._written = 1.0, time.monotonic() - 5
    assert not states.due()
    states._written -= 16
    assert states.due()


# processes


JOB = (
    "run",
    "-d",
    "synthetic",
    "-m",
    "agm",
    "--no-strength",
    "--epochs",
    "80",
    "--set",
    "dataset.samples=512",
    "--set",
    "mute=random",
)


AFTER_STATES = """
import os, sys
from agmbench.checkpoints import Checkpoints
from agmbench.cli import main

after, number, *words = sys.argv[1:]
save, saved = Checkpoints.save, []


def then_killed(states, state):
    save(states, state)
    saved.append(state)
    if len(saved) == int(after):
        os.kill(os.getpid(), int(number))


Checkpoints.due = lambda states: True  # however slow the disk is
Checkpoints.save = then_killed
main(words)
"""


def killed(line: CommandLine, after: int, number: int = signal.SIGKILL) -> None:
    """Start the job, and kill it when it has written `after` states."""
    words = (str(after), str(int(number)), *JOB)
    result = subprocess.run([sys.executable, "-c", AFTER_STATES, *words], cwd=line.folder, capture_output=True, text=True)
    assert result.returncode == (-number if number == signal.SIGKILL else 130), result.stderr


def results(line: CommandLine) -> tuple[dict[str, Any], dict[str, list[tuple[int, float]]], str]:
    client = MlflowClient(f"sqlite:///{line.folder / 'runs' / 'mlflow.db'}")
    (run,) = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
    history = {
        name: sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
        if not name.startswith("cost/")
    }
    (path,) = (line.folder / "runs" / "artifacts").rglob("last.pt")
    return torch.load(path, weights_only=True), history, run.info.status


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, str]:
    line = CommandLine(tmp_path_factory.mktemp("whole"))
    assert line.finish(*JOB, env={"OMP_NUM_THREADS": "1"}).status == 0
    return results(line)


@pytest.mark.long
@pytest.mark.parametrize(
    "kills", [[(1, signal.SIGKILL), (2, signal.SIGKILL), (1, signal.SIGTERM)], [(3, signal.SIGKILL)]], ids=["often", "late"]
)
def test_a_killed_run_is_taken_over_and_ends_the_same(
    line: CommandLine, undisturbed: tuple[Any, Any, str], kills: list[tuple[int, int]]
) -> None:
    for after, number in kills:
        killed(line, after, number)
    result = line.finish(*JOB, env={"OMP_NUM_THREADS": "1"})
    assert result.status == 0, result.err
    assert "goes on after epoch" in result.err
    weights, history, status = results(line)  # there is one run, which each process took over
    expected, whole, _ = undisturbed
    assert status == "FINISHED"
    assert history == whole
    for part in ("model", "modulator"):
        assert weights[part].keys() == expected[part].keys()
        for name, value in expected[part].items():
            assert torch.equal(weights[part][name], value), name
    assert not any((line.folder / "runs" / "unfinished").iterdir())


FATAL = """
import os, signal
from collections import Counter
from pathlib import Path
from mlflow import MlflowClient
import agmbench.train
from agmbench.modulators.agm import AGM

counts = Counter()


def reached(place):
    counts[place] += 1
    if os.environ.get("KILL_AT") == f"{place} {counts[place]}":
        os.kill(os.getpid(), signal.SIGKILL)


def killing(place, function):
    def called(*given, **named):
        reached(place)
        return function(*given, **named)
    return called


class Fatal(AGM):
    backward = killing("step", AGM.backward)


agmbench.train.measure = killing("measure", agmbench.train.measure)
os.fsync = killing("fsync", os.fsync)
Path.replace = killing("rename", Path.replace)
MlflowClient.log_batch = killing("points", MlflowClient.log_batch)
MlflowClient.log_artifacts = killing("artifacts", MlflowClient.log_artifacts)
"""
# where the job is killed: within an epoch; after a state is renamed, while the next is written, or between its two renames; while valid
# is measured; while points wait to be written; when half of the artifacts are written
PLACES = ("step 2", "step 11", "fsync 2", "fsync 1", "rename 2", "measure 3", "step 1", "points 2", "artifacts 2")


@pytest.mark.long
def test_killed_at_every_kind_of_place_it_ends_the_same(tmp_path: Path) -> None:
    job = ("run", "-d", "synthetic", "-m", "fatal", "--no-strength", "--epochs", "20")
    job = (*job, "--set", "dataset.samples=256", "--set", "mute=random")
    whole, killed = (CommandLine(tmp_path / name) for name in ("whole", "killed"))
    for line in (whole, killed):
        plugin = line.folder / "plugins" / "fatal"
        plugin.mkdir(parents=True)
        (plugin / "fatal.py").write_text(FATAL)
        (plugin / "registry.yaml").write_text("modulators: {fatal: {target: 'fatal:Fatal'}}\n")
    assert whole.finish(*job, env={"OMP_NUM_THREADS": "1"}).status == 0
    for place in PLACES:
        assert killed.finish(*job, env={"OMP_NUM_THREADS": "1", "KILL_AT": place}).status == -signal.SIGKILL, place
    assert killed.finish(*job, env={"OMP_NUM_THREADS": "1"}).status == 0
    expected, found = results(whole), results(killed)
    assert found[1:] == expected[1:], "every step once"
    for part in ("model", "modulator"):
        for name, value in expected[0][part].items():
            assert torch.equal(found[0][part][name], value), name


ONCE_FINISHED = """
import os, signal, sys
from agmbench.checkpoints import Checkpoints
from agmbench.cli import main

Checkpoints.clear = lambda _: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


def test_states_of_a_job_that_was_killed_when_it_was_finished_are_cleared_by_the_next_start(line: CommandLine) -> None:
    job = ("run", "-d", "synthetic", "-m", "joint", "--no-strength", "--epochs", "1", "--set", "dataset.samples=64")
    killed = subprocess.run([sys.executable, "-c", ONCE_FINISHED, *job], cwd=line.folder, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (left,) = (line.folder / "runs" / "unfinished").iterdir()
    assert results(line)[2] == "FINISHED"
    result = line(*job)
    assert result.status == 0, result.err
    assert "is done already" in result.err
    assert not left.exists()
    assert results(line)[2] == "FINISHED"


@pytest.mark.long
def test_force_begins_anew(line: CommandLine) -> None:
    killed(line, 2)
    result = line.finish(
        *JOB[:-4], "--set", "dataset.samples=512", "--set", "mute=random", "--force", env={"OMP_NUM_THREADS": "1"}
    )
    assert result.status == 0, result.err
    assert "goes on" not in result.err


@pytest.mark.long
def test_a_job_goes_on_from_the_state_before_a_corrupt_one(line: CommandLine) -> None:
    killed(line, 3)
    (newest,) = (line.folder / "runs" / "unfinished").glob(f"*/{NEWEST}")
    newest.write_bytes(b"no checkpoint")
    result = line.finish(*JOB, env={"OMP_NUM_THREADS": "1"})
    assert result.status == 0, result.err
    assert "warning: the checkpoint" in result.err
    assert "goes on after epoch" in result.err


# a full disk: a small file system in memory, mounted in a separate namespace

ON_A_FULL_DISK = r"""
mkdir -p runs/"$1"; mount -t tmpfs -o size=64m tmpfs runs/"$1"
$AGMBENCH run -d synthetic -m joint --no-strength --epochs 1 --set dataset.samples=64 || exit 3
head -c $(( $(df --output=avail -B1 runs/"$1" | tail -1) - $2 )) /dev/zero > runs/"$1"/filler
"${@:3}"; echo "status $?"
find runs/unfinished -name 'state*.pt' | sort
rm runs/"$1"/filler
"${@:3}"; echo "status $?"
cp -r runs/. whole
"""


def can_mount() -> bool:
    words = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return shutil.which("unshare") is not None and subprocess.run(words, capture_output=True).returncode == 0


@pytest.mark.long
@pytest.mark.skipif(not can_mount(), reason="no namespace in which a disk can be mounted (unshare -rm)")
@pytest.mark.parametrize(("where", "left"), [("artifacts", 60_000), ("unfinished", 100_000), (".", 300_000)])
def test_on_a_full_disk_the_run_fails_and_goes_on_when_there_is_room(
    line: CommandLine, undisturbed: tuple[Any, Any, str], where: str, left: int
) -> None:
    agmbench = [sys.executable, "-m", "agmbench"]
    result = subprocess.run(
        ["unshare", "-rm", "bash", "-c", ON_A_FULL_DISK, "bash", where, str(left), *agmbench, *JOB],
        cwd=line.folder, env={**os.environ, "AGMBENCH": " ".join(agmbench), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    statuses = [text for text in result.stdout.splitlines() if text.startswith("status")]
    assert statuses == ["status 1", "status 0"], result.stderr
    (error,) = [text for text in result.stderr.splitlines() if text.startswith("error: ")]
    assert "the disk is full; make room and run the same command again: the job goes on from its last state (" in error
    assert f"/{NEWEST}" in result.stdout, "the states so far are intact"
    assert "goes on after epoch" in result.stderr
    client = MlflowClient(f"sqlite:///{line.folder / 'whole' / 'mlflow.db'}")
    (experiment,) = [found for found in client.search_experiments() if found.name == "synthetic"]
    last, *before = client.search_runs([experiment.experiment_id], "attributes.run_name LIKE '%agm%'")
    assert last.info.status == "FINISHED"
    assert [run.info.status for run in before] in ([], ["FAILED"])  # none if not even the failure could be written
    assert all("the disk is full" in run.data.tags["agmbench.reason"] for run in before)
    _, whole, _ = undisturbed
    history = {
        name: sorted((point.step, point.value) for point in client.get_metric_history(last.info.run_id, name)) for name in whole
    }
    assert history == whole
