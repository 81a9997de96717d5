"""Makes the pictures of README and docs: `python scripts/pictures.py [--folder DIR] [NAME ...]`.

It uses the command line as a reader does. In the folder it trains avmnist-mini with three methods and three seeds (ten minutes on two
cores), unless these runs are there already. Then it writes into docs/pictures/: `kappa.svg`, the coefficients of AGM over time;
`report.png`, the HTML report of these runs; `ui.png`, these runs in the MLflow UI. The last two are screenshots by chromium.
"""

import argparse
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from itertools import product
from pathlib import Path

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
MODULATORS, SEEDS = ("joint", "agm", "ogm-ge"), (1, 2, 3)
AGMBENCH = (sys.executable, "-m", "agmbench")


def agmbench(folder: Path, *words: str) -> None:
    """Run a command in the folder, where its store is."""
    subprocess.run([*AGMBENCH, *words], cwd=folder, check=True)


def finished(folder: Path) -> tuple[MlflowClient, Run]:
    """The client of the store, and a finished run of AGM."""
    client = MlflowClient(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("avmnist-mini")
    assert experiment is not None  # main has trained on it
    where = "params.modulator = 'agm' and attributes.status = 'FINISHED'"
    return client, client.search_runs([experiment.experiment_id], where)[0]


def kappa(folder: Path) -> None:
    """Draw kappa of each modality step by step, with a moving mean over sixteen steps."""
    client, run = finished(folder)
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "agmbench", "font.size": 11})
    figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
    for modality, colour in (("audio", "#0072b2"), ("image", "#d55e00")):
        points = sorted(client.get_metric_history(run.info.run_id, f"kappa/{modality}"), key=lambda point: point.step)
        steps, values = np.array([(point.step, point.value) for point in points]).T
        axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.35)
        width = 16
        axes.plot(steps[width - 1 :], np.convolve(values, np.ones(width) / width, "valid"), color=colour, label=modality)
    axes.axhline(1, color="#888888", linewidth=1, linestyle="--", label="1: as in joint training")
    axes.set(xlabel="optimizer step", ylabel="kappa", title="AGM on avmnist-mini: below 1 the gradient of a modality is damped")
    axes.legend(frameon=False, ncols=3, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURES / "kappa.svg", metadata={"Date": None}, facecolor="white")


def report(folder: Path) -> None:
    """Take a screenshot of the top of the HTML report of `agmbench compare`."""
    page = folder / "compare.html"
    agmbench(folder, "compare", "-d", "avmnist-mini", "--format", "html", "-o", str(page))
    screenshot(page.as_uri(), "report.png", folder, (1100, 1240))


def ui(folder: Path) -> None:
    """Take a screenshot of the data set's runs in the MLflow UI that `agmbench ui` opens, without the assistant beside them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    _, run = finished(folder)
    page = f"#/experiments/{run.info.experiment_id}/runs?workflowType=machine_learning"
    words = [*AGMBENCH, "ui", "--port", str(port)]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait(f"http://127.0.0.1:{port}/health", server)
            screenshot(f"http://127.0.0.1:{port}/{page}", "ui.png", folder, (1700, 720), 1262)
        finally:
            server.terminate()


def wait(address: str, server: subprocess.Popen[bytes]) -> None:
    """Wait up to two minutes until the server answers; exit if it does not."""
    deadline = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    sys.exit(f"no answer from {address}: is MLflow installed, and the store of this version?")


def screenshot(address: str, name: str, folder: Path, size: tuple[int, int], kept: int | None = None) -> None:
    """Save a screenshot by chromium of a page in a window of this size. It is cropped to `kept` pixels of width and reduced to 64 colours,
    which is small, but sharp enough for text."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("chromium is not installed (apt-get install chromium): it makes the screenshots")
    taken = folder / name
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={size[0]},{size[1]}"]
    profile = f"--user-data-dir={folder / 'chromium'}"
    words = [chromium, *options, profile, "--virtual-time-budget=20000", f"--screenshot={taken}", address]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)
    with Image.open(taken) as picture:
        picture.crop((0, 0, kept or size[0], size[1])).convert("RGB").quantize(64).save(PICTURES / name, optimize=True)


MAKERS: dict[str, Callable[[Path], None]] = {"kappa": kappa, "report": report, "ui": ui}


def main() -> None:
    parser = argparse.ArgumentParser(description=re.split(r"\n\n", __doc__ or "")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which pictures: {', '.join(MAKERS)} (all, if none is named)")
    parser.add_argument("--folder", type=Path, help="where to run; a temporary folder, unless it is given")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in MAKERS]:
        parser.error(f"unknown picture '{unknown[0]}'; one of {', '.join(MAKERS)}")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for modulator, seed in product(MODULATORS, SEEDS):  # one by one, so that the UI does not fold them below one run
            agmbench(folder, "run", "-d", "avmnist-mini", "-m", modulator, "--seed", str(seed))
        for name in given.names or MAKERS:
            MAKERS[name](folder)


if __name__ == "__main__":
    main()
