"""Fixtures that many tests share, above all the command line, called in this process in a separate folder."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest

os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ.pop("COLUMNS", None)  # tables that go to a pipe would take their width from it
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, and more threads only slow down small models

PATIENCE = 1500.0  # the most seconds that a test waits for something; after that it counts as hanging, even on a busy machine
SMALL = ("--dataset", "synthetic", "--epochs", "2", "--set", "dataset.samples=128")


class Result(NamedTuple):
    status: int
    out: str
    err: str


class CommandLine:
    """`agmbench` in one folder. `line("run", ...)` runs it in this process, `line.process(...)` in a separate one."""

    refusals = 0  # calls of `refused`, of all instances together

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def __call__(self, *words: str) -> Result:
        from agmbench.cli import main

        out, err = StringIO(), StringIO()
        with chdir(self.folder), redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as exit_:
            main(list(words))
        code = exit_.value.code
        return Result(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())

    def process(self, *words: str, env: dict[str, str] | None = None) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "agmbench", *words],
            cwd=self.folder,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs of a shell ignore SIGINT
        )
        self.started.append(process)
        return process

    def finish(self, *words: str, env: dict[str, str] | None = None) -> Result:
        process = self.process(*words, env=env)
        out, err = process.communicate(timeout=PATIENCE)
        return Result(process.returncode, out, err)

    def refused(self, *words: str) -> str:
        """Run a command that must be refused with exit status 2, one line, no traceback and nothing written; return that line."""
        before = files(self.folder)
        result = self(*words)
        assert result.status == 2, result
        assert result.out == ""
        assert result.err.startswith("error: ")
        assert result.err.count("\n") == 1
        assert "Traceback" not in result.err
        assert files(self.folder) == before
        CommandLine.refusals += 1
        return result.err


HELD = """
import os
import time
from pathlib import Path

from agmbench.metrics.accuracy import Accuracy
from agmbench.outcomes import Quantity

calls = 0


class Held(Accuracy):
    quantities = (Quantity("held", "held", "accuracy, measured slowly", tasks=("classification",)),)

    def of(self, outcome, logits):
        global calls
        calls += 1
        if f"{calls}" == os.environ.get("HOLD_AT") and Path("held").exists():
            Path("held", f"{os.getpid()}").touch()
            while Path("held").exists():
                time.sleep(0.02)
        return super().of(outcome, logits)
"""


class Hold:
    """A plugin with the metric `held`, by which epochs are chosen. In the epoch HOLD_AT the metric waits until the test lets the job go.

    So a test can stop a job in the middle, however fast the machine is.
    """

    settings = ("--set", "training.select_by=held")

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "held"
        self.folder.mkdir()
        plugin = folder / "plugins" / "held"
        plugin.mkdir(parents=True)
        (plugin / "held.py").write_text(HELD)
        (plugin / "registry.yaml").write_text("metrics: {held: {target: 'held:Held'}}\n")

    def wait(self, jobs: int = 1, seconds: float = PATIENCE) -> None:
        """Wait until so many jobs are held."""
        deadline = time.monotonic() + seconds
        while len(list(self.folder.iterdir())) < jobs:
            assert time.monotonic() < deadline, "no job came so far"
            time.sleep(0.02)

    def let_go(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()


def files(folder: Path) -> Sequence[Path]:
    return sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)  # which importing a plugin makes


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that is marked `bad_input` if it did not use `refused`."""
    before = CommandLine.refusals
    yield
    if item.get_closest_marker("bad_input") and CommandLine.refusals == before:
        pytest.fail("it is marked bad_input, and nothing in it was refused")


@pytest.fixture
def line(tmp_path: Path) -> Iterator[CommandLine]:
    """The command line in an empty folder. Processes that a failed test leaves running are killed."""
    line = CommandLine(tmp_path)
    yield line
    for process in line.started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def installed(tmp_path: Path) -> tuple[str, ...]:
    """The words that start the script `agmbench`, as pip installs it."""
    script = tmp_path / "bin" / "agmbench"
    script.parent.mkdir()
    script.write_text("from agmbench.cli import main\n\nif __name__ == '__main__':\n    main()\n")
    return (str(script),)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A store with runs of joint and agm on a small synthetic data set, and their reference runs. Tests must not add to it."""
    line = CommandLine(tmp_path_factory.mktemp("finished"))
    for modulator in ("joint", "agm"):
        result = line("run", "--modulator", modulator, *SMALL)
        assert result.status == 0, result.err
    return line


def children(pid: int) -> set[int]:
    """All descendants of a process."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            if parent == pid:
                found |= {int(entry.name)} | children(int(entry.name))
    return found
