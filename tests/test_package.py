"""The wheel that users install contains registry, data and licences, and works in any folder."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    words = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([sys.executable, *words], check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_carries_registry_data_and_licences(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "agmbench/registry.yaml" in names
    assert "agmbench/datasets/avmnist_mini.npz" in names
    assert "agmbench/datasets/avmnist_mini.LICENSE.md" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "agmbench/py.typed" in names
    for template in (ROOT / "agmbench" / "templates").rglob("*.in"):
        assert str(template.relative_to(ROOT)) in names
    assert not [name for name in names if name.startswith(("tests/", "runs/", "plugins/", "examples/"))]


def test_the_unpacked_wheel_resolves_a_job_in_another_folder(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import agmbench, sys; print(agmbench.__file__); from agmbench.cli import main; main(['run', '--dry-run'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "site") in done.stdout
    assert "name: avmnist-mini" in done.stdout


@pytest.mark.long
def test_from_the_wheel_a_new_method_gets_into_the_table(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    folder = tmp_path / "outside"
    folder.mkdir()

    def agmbench(*words: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
        command = [sys.executable, "-m", "agmbench", *words]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    agmbench("plugin", "new", "modulator", "mine")
    code = folder / "plugins" / "mine" / "mine.py"
    code.write_text(code.read_text().replace("= 0.5,", "= 0.25,"))
    assert " 0 failed" in agmbench("check", "modulator/mine")
    for modulator in ("joint", "mine"):
        agmbench("run", "--dataset", "synthetic", "--modulator", modulator, "--epochs", "1", "--no-strength")
    assert re.search(r"^ mine +1 +\d+\.\d", agmbench("compare"), re.MULTILINE)
    assert re.search(r"^alpha .* 0\.25 ", agmbench("show", "modulator", "mine"), re.MULTILINE)


def test_no_path_of_a_machine_stands_in_the_repository() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    folders = [f"/{name}/" for name in ("home", "root", "work", "farm")]
    for name in listed.stdout.split():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".yaml", ".toml", ".csv", ""} and path.is_file():
            text = path.read_text(encoding="utf-8")
            assert not [folder for folder in folders if folder in text], name
