"""`agmbench ui`: a real MLflow server on this store."""

import json
import os
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
from conftest import CommandLine
from mlflow import MlflowClient

pytestmark = pytest.mark.long
CHROMIUM = shutil.which("chromium")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def port(finished: CommandLine) -> Iterator[int]:
    """The port at which `agmbench ui` serves a finished store."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "agmbench", "ui", "--port", str(port)],
        cwd=finished.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
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
        process.wait(timeout=60)


def test_the_ui_serves_the_runs_of_this_store_to_this_machine(port: int) -> None:
    assert "synthetic" in [found["name"] for found in experiments(port)]


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")
def test_a_browser_shows_runs_metrics_plots_and_models(finished: CommandLine, port: int, tmp_path: Path) -> None:
    client = MlflowClient(f"sqlite:///{finished.folder / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("synthetic")
    (run,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'synthetic concat agm seed 999'")
    pages = f"http://127.0.0.1:{port}/#/experiments/{experiment.experiment_id}"
    page = f"{pages}/runs/{run.info.run_id}"
    names = ["synthetic concat agm seed 999", "synthetic concat joint seed 999", "synthetic concat concept of m0 seed 999"]
    seen(f"{pages}/runs", names, tmp_path)
    seen(page, ["test/accuracy", f"{run.data.metrics['test/accuracy']:.4f}"[:5], "modulator.alpha"], tmp_path)
    seen(f"{page}/artifacts", ["plots", "predictions.parquet", "job.yaml", "checkpoints"], tmp_path)
    (model,) = run.outputs.model_outputs
    seen(f"{pages}/models/{model.model_id}", ["model", model.model_id, "synthetic concat agm seed 999"], tmp_path)


def seen(page: str, words: list[str], folder: Path) -> None:
    """The words are in the document that the browser makes of a page, and the picture of it is not blank."""
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
    return subprocess.run([str(CHROMIUM), *options, *words, page], capture_output=True, text=True, timeout=120).stdout


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
        error = finished.refused("ui", "--port", str(taken.getsockname()[1]))
    assert "cannot be used (Address already in use); choose another with --port" in error
