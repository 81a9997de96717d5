"""`agmbench ui`: a real MLflow server on this store."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PATIENCE, CommandLine
from mlflow import MlflowClient

pytestmark = pytest.mark.long
CHROMIUM = shutil.which("chromium")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with the output of the server when it starts."""
    return tmp_path_factory.mktemp("ui") / "said"


@pytest.fixture(scope="module")
def port(finished: CommandLine, said: Path) -> Iterator[int]:
    """The port at which `agmbench ui` serves a finished store."""
    port = free_port()
    with said.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "agmbench", "ui", "--port", str(port)],
            cwd=finished.folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline
            try:
                experiments(port)
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=PATIENCE)


def test_the_ui_serves_the_runs_of_this_store_to_this_machine(port: int) -> None:
    assert "synthetic" in [found["name"] for found in experiments(port)]


def test_it_says_its_addresses_and_nothing_else(finished: CommandLine, port: int, said: Path) -> None:
    client = MlflowClient(f"sqlite:///{finished.folder / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("synthetic")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    first, second = said.read_text().splitlines()
    assert first == f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning (press Ctrl-C to stop)"
    where = f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    assert second == f"  synthetic: http://127.0.0.1:{port}/{where}"


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")
def test_a_browser_shows_runs_metrics_plots_and_models(finished: CommandLine, port: int, tmp_path: Path) -> None:
    client = MlflowClient(f"sqlite:///{finished.folder / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("synthetic")
    (run,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'agm seed 999 on synthetic concat'")
    pages = f"http://127.0.0.1:{port}/#/experiments/{experiment.experiment_id}"
    page = f"{pages}/runs/{run.info.run_id}"
    names = [
        "agm seed 999 on synthetic concat",
        "joint seed 999 on synthetic concat",
        "concept of m0 seed 999 on synthetic concat",
    ]
    seen(f"{pages}/runs?workflowType=machine_learning", [*names, "Model registry"], tmp_path)
    seen(page, ["test/accuracy", f"{run.data.metrics['test/accuracy']:.4f}"[:5], "modulator.alpha"], tmp_path)
    seen(f"{page}/artifacts", ["plots", "predictions.parquet", "job.yaml", "checkpoints"], tmp_path)
    (model,) = run.outputs.model_outputs
    seen(f"{pages}/models/{model.model_id}", ["model", model.model_id, "agm seed 999 on synthetic concat"], tmp_path)


def seen(page: str, words: list[str], folder: Path) -> None:
    """Fail unless the words are in the document that the browser makes of a page, and a screenshot of it is not blank."""
    text = ""
    for budget in (8_000, 20_000):  # milliseconds of the page's own clock
        text = chromium(page, folder, f"--virtual-time-budget={budget}", "--dump-dom")
        if all(word in text for word in words):
            break
    assert [word for word in words if word not in text] == []
    chromium(page, folder, "--virtual-time-budget=8000", f"--screenshot={folder / 'page.png'}")
    assert (folder / "page.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "page.png").stat().st_size > 20_000


def chromium(page: str, folder: Path, *words: str) -> str:
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1600,1000",
        f"--user-data-dir={folder / 'profile'}",
    ]
    return subprocess.run([str(CHROMIUM), *options, *words, page], capture_output=True, text=True, timeout=PATIENCE).stdout


def experiments(port: int) -> list[dict[str, str]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search",
        data=json.dumps({"max_results": 10}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: list[dict[str, str]] = json.load(answer)["experiments"]
        return found


def test_a_port_that_is_taken_is_one_line(finished: CommandLine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        error = finished.refused("ui", "--port", str(port))
    found = re.search(r"cannot be used \(Address already in use\); --port (\d+) is free", error)
    assert found
    assert port < int(found[1]) <= port + 100
    with socket.socket() as free:
        free.bind(("127.0.0.1", int(found[1])))
