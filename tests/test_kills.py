"""Commands that are killed at random moments, again and again, end with the same results as undisturbed ones."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import optuna
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import TrialState

pytestmark = [pytest.mark.long, pytest.mark.faults]

SUITE = """
suites:
  s:
    jobs: [{dataset: synthetic, modulator: [joint, agm], set: {training.epochs: 20, dataset.samples: 256, mute: random}}]
"""
JOB = ("-d", "synthetic", "-m", "agm", "--set", "dataset.samples=256")
COMMANDS = {
    "run": ("run", *JOB, "--epochs", "40", "--set", "mute=random"),
    "suite": ("suite", "run", "s", "--jobs", "2"),
    "sweep": ("sweep", *JOB, "--epochs", "12", "--trials", "4", "--sampler", "grid", "--pruner", "none"),
}
PROGRAM = """
import sys
from agmbench.sweep import study
from agmbench.cli import main

study.HEARTBEAT, study.GRACE = 1, 3  # nobody waits half a minute for each trial that was killed
main(sys.argv[1:])
"""
ROUNDS, KILLS = 4, 4  # rounds per command and kills per round: 48 kills in all


def started(folder: Path, command: str) -> "subprocess.Popen[str]":
    """Start a command in a new session, so that all of its processes can be killed at once."""
    plugin = folder / "plugins" / "s" / "registry.yaml"
    plugin.parent.mkdir(parents=True, exist_ok=True)
    plugin.write_text(SUITE)
    program = ["-c", PROGRAM] if command == "sweep" else ["-m", "agmbench"]  # only a sweep needs the shorter waits of PROGRAM
    return subprocess.Popen(
        [sys.executable, *program, *COMMANDS[command]],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill(process: "subprocess.Popen[str]", everybody: bool) -> None:
    """Kill the command's own process or, with `everybody`, its children too, as if the machine lost power."""
    with suppress(ProcessLookupError):
        (os.killpg if everybody else os.kill)(process.pid, signal.SIGKILL)
    process.communicate()


class Ended(NamedTuple):
    """The results of a command: the history and the last weights of each run by name, and for a sweep the values by parameters."""

    history: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]
    weights: Mapping[str, Any]
    values: Mapping[str, float | None]


def ended(folder: Path) -> Ended:
    """The results in a folder. Fails unless each job has one FINISHED run, no point is there twice, and no states or running trials are
    left."""
    client = MlflowClient(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    found = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
    runs = {f"{run.info.run_name} {run.data.params.get('modulator.alpha')}": run for run in found}
    assert len(runs) == len(found), "a job has one run"
    assert {run.info.status for run in found} == {"FINISHED"}
    assert not any((folder / "runs" / "unfinished").glob("*"))
    histories = {name: history(client, run) for name, run in runs.items()}
    weights = {name: torch.load(path, weights_only=True) for name, run in runs.items() if (path := last(run)).is_file()}
    values: dict[str, float | None] = {}
    if (folder / "runs" / "optuna.db").exists():
        storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'runs' / 'optuna.db'}")
        (study,) = optuna.get_all_study_names(storage)
        trials = optuna.load_study(study_name=study, storage=storage).get_trials()
        storage.engine.dispose()
        done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        values = {str(trial.params): trial.value for trial in done}
        assert len(values) == len(done), "no point of the grid is tried twice"
        assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    return Ended(histories, weights, values)


def history(client: MlflowClient, run: Run) -> dict[str, list[tuple[int, float]]]:
    found = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    for name, points in found.items():
        steps = [point.step for point in points]
        assert len(steps) == len(set(steps)), f"{name} has a step twice"
    return {name: sorted((p.step, p.value) for p in points) for name, points in found.items() if not name.startswith("cost/")}


def last(run: Run) -> Path:
    return Path(unquote(run.info.artifact_uri.removeprefix("file://"))) / "checkpoints" / "last.pt"


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


@pytest.fixture(scope="module", params=COMMANDS)
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, float, Ended]:
    """A command, how many seconds it takes if nothing happens, and its results."""
    folder, begun = tmp_path_factory.mktemp("whole"), time.monotonic()
    process = started(folder, request.param)
    _, err = process.communicate()
    assert process.returncode == 0, err
    return request.param, time.monotonic() - begun, ended(folder)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_killed_at_random_moments_it_ends_the_same(tmp_path: Path, undisturbed: tuple[str, float, Ended], seed: int) -> None:
    command, seconds, expected = undisturbed
    draw, kills, folders = random.Random(f"{command} {seed}"), 0, map(tmp_path.joinpath, map(str, count()))
    while kills < KILLS:
        folder = next(folders)
        for _ in range(KILLS):
            process = started(folder, command)
            with suppress(subprocess.TimeoutExpired):  # on a fast machine the command may end before it is killed
                process.wait(draw.uniform(0.2, 0.8) * seconds)
            kills += process.poll() is None
            kill(process, everybody=draw.random() < 0.5)
        process = started(folder, command)
        _, err = process.communicate()
        assert process.returncode == 0, err
        found = ended(folder)
        assert found.history == expected.history
        assert same(found.weights, expected.weights)
        assert found.values == expected.values
