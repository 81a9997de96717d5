"""What the tests share: the command line called in this process, in a folder of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest

os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, and threads of small models only wait for one another

SMALL = ("--dataset", "synthetic", "--epochs", "2", "--set", "dataset.samples=128")


class Result(NamedTuple):
    status: int
    out: str
    err: str


class CommandLine:
    """`agmbench` in one folder: `line("run", ...)` in this process, `line.process(...)` in one of its own."""

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
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background starts with it ignored
        )
        self.started.append(process)
        return process

    def finish(self, *words: str, env: dict[str, str] | None = None) -> Result:
        process = self.process(*words, env=env)
        out, err = process.communicate(timeout=300)
        return Result(process.returncode, out, err)

    def refused(self, *words: str) -> str:
        """The one line of an error: exit status 2, no traceback, and nothing written."""
        before = files(self.folder)
        result = self(*words)
        assert result.status == 2, result
        assert result.out == ""
        assert result.err.startswith("error: ")
        assert result.err.count("\n") == 1
        assert "Traceback" not in result.err
        assert files(self.folder) == before
        return result.err


def files(folder: Path) -> Sequence[Path]:
    return sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)  # of a plugin's modules


@pytest.fixture
def line(tmp_path: Path) -> Iterator[CommandLine]:
    """The command line in an empty folder; what a failed test leaves running is ended."""
    line = CommandLine(tmp_path)
    yield line
    for process in line.started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A store that holds joint and agm on a small synthetic data set, with references; read it, add nothing."""
    line = CommandLine(tmp_path_factory.mktemp("finished"))
    for modulator in ("joint", "agm"):
        result = line("run", "--modulator", modulator, *SMALL)
        assert result.status == 0, result.err
    return line
