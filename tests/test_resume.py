"""Exact resume: a job stopped anywhere goes on to the very numbers of one that was not."""

import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CommandLine
from mlflow import MlflowClient
from test_train import CPU, REGISTRY, splits_of, untrained_concepts

from agmbench import build, jobs
from agmbench.checkpoints import BEFORE, NEWEST, Checkpoints, pack, unpack
from agmbench.model import MultimodalModel
from agmbench.records import Point
from agmbench.train import Epoch, train

# every generator at work: dropout, noise of the modulator, random muting; and momentum
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
    """The model after training from a state, or from the beginning, and the state after the last epoch."""
    model = build.model(job)
    modulator = build.modulator(job, model)
    concepts = untrained_concepts(job) if modulator.needs_concepts else {}
    spec, found, last = job.spec, [], state
    all_epochs = train(model, modulator, splits_of(job), spec.training, build.metrics(job), spec.seed, CPU, concepts, state)
    for epoch in itertools.islice(all_epochs, epochs):
        found.append(epoch)
        last = epoch.state()
    return model, found, last


@pytest.mark.parametrize("name", REGISTRY.names("modulator"))
@pytest.mark.parametrize("stopped", [1, 3])
def test_every_modulator_goes_on_bit_by_bit(tmp_path: Path, name: str, stopped: int) -> None:
    job = make(name, **({"modulator.patience": 1} if name == "mses" else {}))
    whole, expected, _ = run(job)
    _, before, state = run(job, epochs=stopped)
    states = Checkpoints(tmp_path)
    states.save(state)
    torch.rand(7)  # whatever else the process does
    model, after, _ = run(job, states.load(CPU))
    assert [*before, *after] == expected
    for key, value in whole.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


@pytest.mark.parametrize("settings", [{"training.accumulate": 2}, {"modulator.scores": "dev"}, {"training.precision": "bf16"}])
def test_agm_goes_on_bit_by_bit_under_its_options(settings: dict[str, Any]) -> None:
    job = make("agm", **settings)
    _, expected, _ = run(job)
    _, before, state = run(job, epochs=2)
    _, after, _ = run(job, state)
    assert [*before, *after] == expected


# files


def test_states_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = Checkpoints(tmp_path)
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
    states = Checkpoints(tmp_path)
    states.save({"number": 1})
    states.save({"number": 2})
    (tmp_path / NEWEST).write_bytes((tmp_path / NEWEST).read_bytes()[:100])
    assert states.load(CPU) == {"number": 1}
    (warning,) = states.warnings
    assert f"the checkpoint {tmp_path / NEWEST} cannot be read" in warning
    assert "kept as state.corrupt" in warning
    assert (tmp_path / "state.corrupt").is_file()


def test_a_state_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'stolen'}",)

    torch.save({"x": Evil()}, tmp_path / NEWEST)
    assert Checkpoints(tmp_path).load(CPU) is None
    assert not (tmp_path / "stolen").exists()


def test_points_survive_packing() -> None:
    points = [Point("loss", 0.1, 0), Point("kappa/a", 1 / 3, 7), Point("loss", float("inf"), 1)]
    assert unpack(pack(points)) == points
    assert unpack(pack([])) == []


def test_writing_takes_a_small_share_of_the_time(tmp_path: Path) -> None:
    states = Checkpoints(tmp_path)
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


def killed(line: CommandLine, after: int, number: int = signal.SIGKILL) -> None:
    """Start the job and kill it when so many states were written, or when the first is, and a little later."""
    process = line.process(*JOB, env={"OMP_NUM_THREADS": "1"})
    seen, deadline = set(), time.monotonic() + 120
    while len(seen) < after:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        for path in (line.folder / "runs" / "unfinished").glob(f"*/{NEWEST}"):
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.005)
    time.sleep(0.013 * after)
    os.kill(process.pid, number)
    process.communicate()


def results(line: CommandLine) -> tuple[dict[str, Any], dict[str, list[tuple[int, float]]], str]:
    client = MlflowClient(f"sqlite:///{line.folder / 'runs' / 'mlflow.db'}")
    (run,) = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
    history = {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
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
    weights, history, status = results(line)  # one run, taken over each time
    expected, whole, _ = undisturbed
    assert status == "FINISHED"
    assert {name: sorted(points) for name, points in history.items()} == {name: sorted(p) for name, p in whole.items()}
    for part in ("model", "modulator"):
        assert weights[part].keys() == expected[part].keys()
        for name, value in expected[part].items():
            assert torch.equal(weights[part][name], value), name
    assert not any((line.folder / "runs" / "unfinished").iterdir())


def test_force_begins_anew(line: CommandLine) -> None:
    killed(line, 2)
    result = line.finish(
        *JOB[:-4], "--set", "dataset.samples=512", "--set", "mute=random", "--force", env={"OMP_NUM_THREADS": "1"}
    )
    assert result.status == 0, result.err
    assert "goes on" not in result.err


def test_a_job_goes_on_from_the_state_before_a_corrupt_one(line: CommandLine) -> None:
    killed(line, 3)
    (newest,) = (line.folder / "runs" / "unfinished").glob(f"*/{NEWEST}")
    newest.write_bytes(b"no checkpoint")
    result = line.finish(*JOB, env={"OMP_NUM_THREADS": "1"})
    assert result.status == 0, result.err
    assert "warning: the checkpoint" in result.err
    assert "goes on after epoch" in result.err
