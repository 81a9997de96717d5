"""A working directory full of files with the names of libraries: no command executes one of them."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest
from conftest import PATIENCE
from test_ui import free_port

TRAP = "open({folder!r} + __name__, 'w').close()\nraise SystemExit('a file of the working directory was executed')\n"
PLUGIN = """
modulators:
  mine: {target: 'mine_code:Mine', search: {power: {low: 1.0, high: 2.0}}}
suites:
  tiny: {jobs: [{dataset: synthetic, modulator: joint, set: {training.epochs: 1, dataset.samples: 64}}]}
"""
CODE = """
from agmbench.modulators.joint import Joint


class Mine(Joint):
    \"\"\"Joint, with a number.\"\"\"

    def __init__(self, modalities, *, power: float = 1.0):
        super().__init__(modalities)
"""
SMALL = ("-d", "synthetic", "--epochs", "1", "--set", "dataset.samples=64")
LIGHT = [("list", "--imports"), ("show", "modulator/mine"), ("check", "modulator/mine"), ("suite", "run", "tiny")]
COMMANDS = [
    *LIGHT,
    ("plugin", "new", "metric", "other"),
    ("run", *SMALL, "-m", "mine", "--no-strength"),
    ("compare",),
    ("suite", "list"),
    ("suite", "show", "tiny"),
    ("suite", "status", "tiny"),
    ("suite", "report", "tiny"),
    ("sweep", *SMALL, "-m", "mine", "--trials", "2", "--jobs", "2"),
    ("data", "status"),
    ("data", "sample", "avmnist"),
    ("data", "verify", "synthetic"),
    ("ui",),
]
MODULE = ("-m", "agmbench")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with a plugin."""
    plugin = tmp_path / "work" / "plugins" / "own"
    plugin.mkdir(parents=True)
    (plugin / "registry.yaml").write_text(PLUGIN)
    (plugin / "mine_code.py").write_text(CODE)
    return tmp_path / "work"


def traps(folder: Path, but: set[str]) -> Path:
    """Add a file with the name of each installed library and each module of Python. Returns the folder where executed ones leave a mark."""
    marks = folder.with_name("executed")
    marks.mkdir()
    names = {name for name in (*sys.stdlib_module_names, *metadata.packages_distributions()) if name.isidentifier()}
    for name in names - but - {"agmbench"}:
        (folder / f"{name}.py").write_text(TRAP.format(folder=f"{marks}/"))
    return marks


def before_us(tmp_path: Path) -> set[str]:
    """The modules that Python itself imports before it runs a package by `python -m`."""
    probe = tmp_path / "probe"
    probe.mkdir()
    (probe / "__init__.py").touch()
    (probe / "__main__.py").write_text("import sys\nprint(*sys.modules)\n")
    # without PYTHONSAFEPATH, which an earlier test's command may have set in this process for its children
    env = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    found = subprocess.run([sys.executable, "-m", "probe"], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    return set(found.stdout.split())


def call(program: Sequence[str], words: Sequence[str], folder: Path) -> tuple[int | None, str]:
    """Run a command, and return its exit status and its output. The command `ui` is ended once it has answered; its status is then 0."""
    port = str(free_port())
    env = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    env |= {"OMP_NUM_THREADS": "1", "AGMBENCH_DATA": str(folder.with_name("data"))}
    log = folder.with_name("log")
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, *program, *words, *(["--port", port] if words == ("ui",) else [])],
            cwd=folder,
            env=env,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            status = answered(process, port) if words == ("ui",) else process.wait(timeout=PATIENCE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=PATIENCE)
    return status, log.read_text()


def answered(process: "subprocess.Popen[bytes]", port: str) -> int | None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return 0
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.3)
    return process.returncode


@pytest.mark.long
def test_no_command_executes_a_file_of_the_working_directory(folder: Path, tmp_path: Path) -> None:
    marks = traps(folder, before_us(tmp_path))
    for words in COMMANDS:
        status, said = call(MODULE, words, folder)
        assert [path.name for path in marks.iterdir()] == [], (words, said)
        assert status == 0, (words, said)


@pytest.mark.long
def test_the_installed_command_executes_none_and_neither_do_its_children(folder: Path, installed: tuple[str, ...]) -> None:
    marks = traps(folder, set())
    for words in LIGHT:
        status, said = call(installed, words, folder)
        assert [path.name for path in marks.iterdir()] == [], (words, said)
        assert status == 0, (words, said)


def test_a_plugins_own_module_may_be_called_as_a_library_is(folder: Path, installed: tuple[str, ...]) -> None:
    plugin = folder / "plugins" / "own"
    (plugin / "mine_code.py").rename(plugin / "random.py")
    (plugin / "registry.yaml").write_text(PLUGIN.replace("mine_code", "random"))
    status, said = call(installed, ("show", "modulator/mine"), folder)
    assert status == 0, said
    assert "Joint, with a number." in said
