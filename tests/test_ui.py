"""`agmbench ui`: a real MLflow server on this store."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from conftest import CommandLine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_ui_serves_the_runs_of_this_store_to_this_machine(finished: CommandLine) -> None:
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
                names = [found["name"] for found in experiments(port)]
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
        assert "synthetic" in names
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def experiments(port: int) -> list[dict[str, str]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search",
        data=json.dumps({"max_results": 10}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: list[dict[str, str]] = json.load(answer)["experiments"]
        return found
