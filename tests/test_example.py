"""The example package as users have it: a wheel that is installed beside agmbench and used from a folder outside the repository."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from conftest import files

from agmbench.trackers.mlflow import MlflowTracker

pytestmark = pytest.mark.long  # builds a wheel and a virtual environment

EXAMPLE = Path(__file__).parents[1] / "examples" / "agmbench-example"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh virtual environment with the wheel, which also sees the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    before = files(EXAMPLE)
    run = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    words = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(EXAMPLE)]
    subprocess.run([*run, "wheel", *words], check=True)
    assert files(EXAMPLE) == before
    venv.create(folder / "venv", symlinks=True)
    (site,) = (folder / "venv" / "lib").glob("*/site-packages")
    (site / "beside.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    made = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*run, "--python", str(made), "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    return made


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where the user works."""
    return tmp_path_factory.mktemp("outside")


def agmbench(python: Path, folder: Path, *words: str) -> str:
    done = subprocess.run([python, "-m", "agmbench", *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_entries_are_listed_with_their_origin(python: Path, outside: Path) -> None:
    out = agmbench(python, outside, "list", "--imports")
    assert re.search(r"^modulator +moddrop +package agmbench-example 0\.1\.0 +each modality of each sample is muted", out, re.M)
    assert re.search(r"^dataset +digits-halves +package agmbench-example 0\.1\.0 +handwritten digits cut into", out, re.M)
    assert "Broken" not in out
    assert re.search(r"^digits +joint training and ModDrop", agmbench(python, outside, "suite", "list"), re.M)
    shown = agmbench(python, outside, "show", "modulator", "moddrop")
    assert (
        "defined in: agmbench-example: agmbench_example/registry.yaml:3 (agmbench_example.moddrop:ModDrop, version 0.1.0)"
        in shown
    )


@pytest.mark.parametrize("component", ["modulator/moddrop", "dataset/digits-halves"])
def test_it_keeps_what_it_promises(component: str, python: Path, outside: Path) -> None:
    assert " 0 failed" in agmbench(python, outside, "check", component)


def test_it_runs_is_compared_and_the_run_knows_where_its_components_came_from(python: Path, outside: Path) -> None:
    for modulator in ("joint", "moddrop"):
        agmbench(python, outside, "run", "--dataset", "digits-halves", "--modulator", modulator, "--epochs", "3")
    out = agmbench(python, outside, "compare", "--dataset", "digits-halves")
    (accuracy,) = re.findall(r"^ moddrop +1 +(\d+\.\d+)", out, re.MULTILINE)
    assert float(accuracy) > 70  # percent, on ten classes
    assert re.search(r"^ joint +1 +\d", out, re.MULTILINE)
    (record,) = [one for one in MlflowTracker(outside / "runs").records() if one.spec["modulator"]["name"] == "moddrop"]
    origins = {name: text for name, text in record.tags.items() if name.startswith("agmbench.origin")}
    assert origins == dict.fromkeys(
        ["agmbench.origin.modulator/moddrop", "agmbench.origin.dataset/digits-halves"],
        "package agmbench-example 0.1.0, version 0.1.0",
    )


def test_its_own_tests_pass(python: Path, tmp_path: Path) -> None:
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(EXAMPLE / "tests")]
    done = subprocess.run(
        [python, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
