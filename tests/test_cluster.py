"""Two folders stand for two machines with one tracking server on PostgreSQL: a job is trained once, also if its machine dies."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PATIENCE, SMALL, CommandLine, Hold
from mlflow import MlflowClient
from mlflow.entities import Run
from test_kills import history
from test_remote import Server
from test_sweep import POSTGRES
from test_sweep import Server as Postgres
from test_ui import free_port

from agmbench.trackers.claims import owner

pytestmark = pytest.mark.long

SUITES = """
suites:
  both:
    seeds: [1]
    jobs: [{dataset: synthetic, modulator: [joint, agm, ogm-ge], set: {training.epochs: 8, dataset.samples: 128}}]
  killed:
    seeds: [3]
    jobs: [{dataset: synthetic, modulator: [joint, agm], set: {training.epochs: 12, dataset.samples: 128, mute: random,
            training.select_by: held}}]
"""
APART = ("unshare", "-rpf", "--mount-proc", "--kill-child")  # gives processes their own number space, as on another machine


def can_be_apart() -> bool:
    return shutil.which(APART[0]) is not None and subprocess.run([*APART, "true"], capture_output=True).returncode == 0


class Machine(CommandLine):
    """A folder with processes of which others cannot see whether they are alive."""

    def __init__(self, folder: Path, server: Server) -> None:
        super().__init__(folder)
        folder.mkdir()
        (folder / "plugins" / "s").mkdir(parents=True)
        (folder / "plugins" / "s" / "registry.yaml").write_text(SUITES)
        self.env = {**server.env, "AGMBENCH_STALE": "10"}

    def starts(self, *words: str, **env: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [*APART, sys.executable, "-m", "agmbench", *words],
            cwd=self.folder,
            env={**os.environ, **self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def log(self, run: Run) -> str:
        """The output of a job on this machine, in its last process."""
        found = list(self.folder.glob(f"runs/suites/*/{run.data.tags['agmbench.digest']}.log"))
        return found[0].read_text() if found else ""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'agmbench[postgresql]'")
    if not POSTGRES:
        pytest.skip("no PostgreSQL server below /usr/lib/postgresql: apt-get install postgresql")
    if not can_be_apart():
        pytest.skip("no namespace for processes (unshare -rpf)")
    postgres = Postgres()
    try:
        server = Server(tmp_path_factory.mktemp("server"), postgres.url())
        yield server
        server.end()
    finally:
        postgres.stop()


@pytest.fixture
def machines(server: Server, tmp_path: Path) -> Iterator[list[Machine]]:
    both = [Machine(tmp_path / name, server) for name in ("one", "other")]
    yield both
    for process in (process for machine in both for process in machine.started):
        if process.poll() is None:
            process.kill()
            process.communicate()


SCRIPT = Path(__file__).parents[1] / "scripts" / "store.sh"


def store(*words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run([SCRIPT, *words], env=env, capture_output=True, text=True, timeout=PATIENCE)


@pytest.fixture
def laboratory() -> Iterator[Path]:
    """A folder for a store that PostgreSQL's user may read."""
    if not POSTGRES:
        pytest.skip("no PostgreSQL server below /usr/lib/postgresql: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'agmbench[postgresql]'")
    folder = Path(tempfile.mkdtemp(prefix="store-"))
    folder.chmod(0o755)
    yield folder
    store("stop", str(folder))
    shutil.rmtree(folder)


def test_the_store_for_a_laboratory_starts_stops_and_goes_on(laboratory: Path, line: CommandLine) -> None:
    words = ("--port", str(free_port()), "--database-port", str(free_port()), "--workers", "1")
    job = ("run", *SMALL, "--modulator", "joint", "--no-strength")
    for said in ("trained", "is done already"):
        started = store("start", str(laboratory), *words)
        assert started.returncode == 0, started.stderr
        given = dict(text.removeprefix("export ").split("=", 1) for text in started.stdout.splitlines() if "export" in text)
        assert given["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{words[1]}"
        result = line.finish(*job, env=given)
        assert result.status == 0, result.err
        assert said in result.err
        assert "is process" in store("status", str(laboratory)).stdout
        assert store("stop", str(laboratory)).returncode == 0
    assert "is not running" in store("status", str(laboratory)).stdout
    assert Path(given["PGPASSFILE"]).stat().st_mode & 0o077 == 0
    assert (laboratory / "artifacts").is_dir()


def test_the_store_opens_to_others_only_when_it_is_said_who_they_are(laboratory: Path) -> None:
    refused = store("start", str(laboratory), "--host", "10.0.0.5")
    assert refused.returncode == 2
    assert "--host 10.0.0.5 opens the store to others: say --auth (they need a password) or --open" in refused.stderr
    assert store("start", str(laboratory), "--what").stderr.startswith("error: no option '--what'; there are --host")
    assert not list(laboratory.iterdir())


def jobs(client: MlflowClient, seeds: set[str]) -> dict[str, Run]:
    """The runs of these seeds by name. Fails unless each is FINISHED, is the only run of its job, and has no point twice."""
    (experiment,) = [found for found in client.search_experiments() if found.name == "synthetic"]
    found = [run for run in client.search_runs([experiment.experiment_id]) if run.data.params.get("seed") in seeds]
    runs = {str(run.info.run_name): run for run in found}
    assert len(runs) == len(found), "a job has one run"
    assert {run.info.status for run in found} == {"FINISHED"}
    return runs


def owners(run: Run) -> list[str]:
    taken = sorted((name, text) for name, text in run.data.params.items() if name.startswith("claim."))
    return [found.machine for _, text in taken if (found := owner(text))]


def test_two_machines_train_each_job_of_a_suite_once(server: Server, machines: list[Machine]) -> None:
    processes = [machine.starts("suite", "run", "both") for machine in machines]
    for process in processes:
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        assert "suite 'both': 3 done, 0 failed, 0 missing" in out
    client = MlflowClient(server.uri)
    runs = jobs(client, {"1"})
    assert len(runs) == 5, "with the concepts"
    for run in runs.values():
        assert len(history(client, run)["valid/accuracy"]) == 8
        trained = [machine for machine in machines if f"{run.info.run_name}: epochs 0 to 8" in machine.log(run)]
        assert len(trained) == 1
    assert len({machine for run in runs.values() for machine in owners(run)}) == 2
    (group,) = client.search_runs([run.info.experiment_id], "tags.`agmbench.suite` = 'both'")
    assert group.info.status == "FINISHED"
    assert not any(experiment.name.startswith("agmbench.") for experiment in client.search_experiments())


def test_a_machine_that_dies_has_its_job_finished_by_the_other(server: Server, machines: list[Machine], tmp_path: Path) -> None:
    holds = [Hold(machine.folder) for machine in machines]
    one, other = machines
    dying = one.starts("suite", "run", "killed", HOLD_AT="4")
    holds[0].wait(seconds=900)
    process = other.starts("suite", "run", "killed")
    client = MlflowClient(server.uri)
    held = next(run for run in server.runs() if run.data.params.get("seed") == "3")
    dying.kill()
    dying.communicate()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    runs = jobs(client, {"3"})
    assert len(runs) == 4
    found = runs[held.info.run_name]
    assert len(set(owners(found))) == 2
    assert "is being worked on by process" in other.log(found)
    assert f"{found.info.run_name}: epochs 0 to 12" not in other.log(found), "it goes on from the other machine's last state"
    whole = CommandLine(tmp_path / "whole")
    shutil.copytree(other.folder / "plugins", whole.folder / "plugins")
    assert whole.finish("suite", "run", "killed").status == 0
    undisturbed = MlflowClient(f"sqlite:///{whole.folder / 'runs' / 'mlflow.db'}")
    for name, run in jobs(undisturbed, {"3"}).items():
        assert history(client, runs[name]) == history(undisturbed, run), name
    files = {file.path for file in client.list_artifacts(found.info.run_id)}
    assert "unfinished" not in files, "no state is left"
