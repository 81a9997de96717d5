"""A real tracking server over HTTP, with a SQLite file and its own artifacts, and times at which it does not run."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PATIENCE, SMALL, CommandLine, Hold, Result
from mlflow import MlflowClient
from mlflow.entities import Run
from test_ui import free_port

pytestmark = pytest.mark.long

LONG = (
    "run",
    "-d",
    "synthetic",
    "-m",
    "agm",
    "--no-strength",
    "--epochs",
    "60",
    "--set",
    "dataset.samples=512",
    *Hold.settings,
)


class Server:
    """`mlflow server` with one worker in its own folder. It can be ended and started again at the same address."""

    def __init__(self, folder: Path, backend: str = "") -> None:
        self.folder, self.port = folder, free_port()
        self.backend = backend or f"sqlite:///{folder / 'server.db'}"
        self.uri = f"http://127.0.0.1:{self.port}"
        self.env = {"MLFLOW_TRACKING_URI": self.uri, "OMP_NUM_THREADS": "1"}
        self.start()

    def start(self) -> None:
        words = ["--backend-store-uri", self.backend, "--port", str(self.port), "--workers", "1"]
        words += ["--host", "127.0.0.1", "--serve-artifacts", "--artifacts-destination", str(self.folder / "artifacts")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            cwd=self.folder,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.3)

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=PATIENCE)

    def runs(self) -> list[Run]:
        client = MlflowClient(self.uri)
        return [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.end()


@pytest.fixture(scope="module")
def done(server: Server, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A folder from which two jobs and their reference runs were sent to the server."""
    line = CommandLine(tmp_path_factory.mktemp("worker"))
    for modulator in ("joint", "agm"):
        result = line.finish("run", "--modulator", modulator, *SMALL, env=server.env)
        assert result.status == 0, result.err
        assert server.uri in result.err
    return line


def started(line: CommandLine, server: Server) -> tuple[subprocess.Popen[str], Hold]:
    """Start the long job, and wait until it is held after it has written states."""
    hold = Hold(line.folder)
    process = line.process(*LONG, env={**server.env, "HOLD_AT": "3"})
    hold.wait()
    return process, hold


def one_line(result: Result) -> str:
    assert "Traceback" not in result.err
    (found,) = [text for text in result.err.splitlines() if text.startswith("error: ")]
    assert result.err.splitlines()[-1] == found
    return found


def test_nothing_but_locks_stays_on_the_worker(done: CommandLine, server: Server) -> None:
    assert [run.info.status for run in server.runs()] == ["FINISHED"] * 4
    assert {path.name for path in (done.folder / "runs").iterdir()} <= {"locks", "unfinished"}
    assert not any((done.folder / "runs" / "unfinished").glob("*"))


def test_another_machine_finds_the_runs_and_compares_them(done: CommandLine, server: Server, line: CommandLine) -> None:
    result = line.finish("compare", "--format", "csv", env=server.env)
    assert result.status == 0, result.err
    for method in ("concept", "joint", "agm"):
        assert f",{method}," in result.out
    assert "is done already" in line.finish("run", "--modulator", "agm", *SMALL, env=server.env).err


def test_the_model_is_loaded_from_the_server(done: CommandLine, server: Server) -> None:
    run = next(run for run in server.runs() if run.info.run_name == "agm seed 999 on synthetic concat")
    (output,) = run.outputs.model_outputs
    program = """
import sys, mlflow, numpy as np
for uri in sys.argv[1:]:
    model = mlflow.pyfunc.load_model(uri)
    print(len(model.predict({m: np.zeros((3, 16), np.float32) for m in ("m0", "m1")})))
"""
    words = [f"models:/{output.model_id}", f"runs:/{run.info.run_id}/model"]
    result = subprocess.run(
        [sys.executable, "-c", program, *words], env={**os.environ, **server.env}, capture_output=True, text=True
    )
    assert result.stdout.split() == ["3", "3"], result.stderr


def test_a_killed_run_is_taken_over(server: Server, line: CommandLine) -> None:
    process, hold = started(line, server)
    process.kill()
    process.communicate()
    hold.let_go()
    result = line.finish(*LONG, env=server.env)
    assert result.status == 0, result.err
    assert "goes on after epoch" in result.err
    (run,) = [run for run in server.runs() if run.data.params["training.epochs"] == "60"]
    assert run.info.status == "FINISHED"
    history = MlflowClient(server.uri).get_metric_history(run.info.run_id, "valid/accuracy")
    assert sorted(point.step for point in history) == list(range(60))


def test_a_server_that_is_not_there_is_one_line(line: CommandLine) -> None:
    result = line.finish("compare", env={"MLFLOW_TRACKING_URI": f"http://someone:hidden%21word@127.0.0.1:{free_port()}"})
    assert result.status == 2
    message = one_line(result)
    assert "the MLflow store http://***@127.0.0.1" in message
    assert "hidden" not in message


def test_a_server_that_goes_down_meanwhile_is_one_line_and_the_job_goes_on_when_it_is_back(
    tmp_path: Path, line: CommandLine
) -> None:
    (tmp_path / "own").mkdir()
    server = Server(tmp_path / "own")
    try:
        process, hold = started(line, server)
        server.end()
        hold.let_go()
        out, err = process.communicate(timeout=PATIENCE)
        result = Result(process.returncode, out, err)
        assert result.status == 1
        assert f"the tracking server {server.uri} no longer answers" in one_line(result)
        server.start()
        result = line.finish(*LONG, env=server.env)
        assert result.status == 0, result.err
        assert "goes on after epoch" in result.err
        assert [run.info.status for run in server.runs()] == ["FINISHED"]
    finally:
        server.end()
