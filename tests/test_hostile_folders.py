"""Hostile working directories: each command gives its result or one line of error, and executes and damages nothing."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import CommandLine, files
from test_folder import SMALL, TRAP, call

from agmbench.registry.located import BYTES

ESCAPES = "\x1b]0;owned\x07\x1b[31m"
MANY = 2000
QUICK = {
    "list": ("list",),
    "suite list": ("suite", "list"),
    "plugin new": ("plugin", "new", "metric", "other"),
}
SLOW = {
    "run": ("run", *SMALL, "-m", "joint", "--no-strength"),
    "compare": ("compare",),
    "sweep": ("sweep", *SMALL, "-m", "agm", "--trials", "1"),
}


class Case(NamedTuple):
    """What is put into a folder, the name of the folder, and what commands print. Commands that are not in `refused` succeed."""

    make: Callable[[Path], object] = lambda folder: None
    name: str = "work"
    listed: str = "modulator"
    refused: Mapping[str, str] = {}


def trap(paths: Iterable[str]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for path in map(folder.joinpath, paths):
            path.parent.mkdir(exist_ok=True)
            path.write_text(TRAP.format(folder=f"{folder.with_name('executed')}/"))

    return make


def below(place: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """A function that makes something at a place in a folder."""

    def made(folder: Path) -> None:
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)

    return made


def itself(path: Path) -> None:
    path.symlink_to(path.name)


def text(path: Path) -> None:
    path.write_text("no such thing\n" * 1000)


def large(path: Path) -> None:
    path.touch()
    os.truncate(path, 100 << 20)


def escapes(folder: Path) -> None:
    plugin = folder / "plugins" / ESCAPES
    plugin.mkdir(parents=True)
    (plugin / "registry.yaml").write_text("metrics: {good: {target: 'code:good'}, bad: [1]}\n")


def many(folder: Path) -> None:
    for number in range(MANY):
        plugin = folder / "plugins" / f"p{number}"
        plugin.mkdir(parents=True)
        (plugin / "registry.yaml").write_text(f"metrics: {{mine-{number}: {{target: 'code:X'}}}}\n")


def closed(folder: Path) -> None:
    folder.chmod(0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("who runs the tests may write to every folder")


def matplotlibrc(folder: Path) -> None:
    (folder / "matplotlibrc").write_text("backend: module://evil\ntext.usetex: True\nno setting\n")
    trap(["evil.py"])(folder)


PYTHONS = [f"{name}.py" for name in sys.stdlib_module_names]
LIBRARIES = [f"{name}.py" for name in metadata.packages_distributions() if name.isidentifier() and name != "agmbench"]
NO_RUNS = {"run": "runs cannot be written", "compare": "no runs in", "sweep": "runs cannot be written"}
NO_STORE = dict.fromkeys(SLOW, "runs/mlflow.db cannot be opened")
UNREAD = "plugins/x/registry.yaml cannot be read"

CASES = {
    "modules called as Python's": Case(trap(PYTHONS)),
    "modules called as libraries": Case(trap(LIBRARIES)),
    "agmbench.py": Case(trap(["agmbench.py"])),
    "a package agmbench": Case(trap(["agmbench/__init__.py", "agmbench/__main__.py", "agmbench/cli.py"])),
    "sitecustomize.py": Case(trap(["sitecustomize.py", "usercustomize.py"])),
    "matplotlibrc": Case(matplotlibrc),
    "plugins is a file": Case(below("plugins", text), refused={"plugin new": "plugins/other cannot be written"}),
    "plugins is a link to itself": Case(below("plugins", itself), refused={"plugin new": "plugins/other cannot be written"}),
    "a registry is a pipe": Case(
        below("plugins/x/registry.yaml", os.mkfifo), listed=f"{UNREAD} (ValueError: it is not a regular"
    ),
    "a registry is a folder": Case(below("plugins/x/registry.yaml", Path.mkdir), listed=f"{UNREAD} (IsADirectoryError"),
    "a registry is a link to itself": Case(below("plugins/x/registry.yaml", itself), listed=f"{UNREAD} (OSError"),
    "a registry of 100 MB": Case(below("plugins/x/registry.yaml", large), listed=f"larger than {BYTES >> 20} MiB"),
    "a plugin called in escapes": Case(escapes, listed=r"plugins/\x1b]0;owned\x07\x1b[31m"),
    "many plugins": Case(many, listed=f"mine-{MANY - 1} "),
    "runs is a file": Case(below("runs", text), refused=NO_RUNS),
    "runs is a link to itself": Case(below("runs", itself), refused=NO_RUNS),
    "the store is a text": Case(below("runs/mlflow.db", text), refused=NO_STORE),
    "the store is a folder": Case(below("runs/mlflow.db", Path.mkdir), refused=NO_STORE),
    "the store is a pipe": Case(below("runs/mlflow.db", os.mkfifo), refused=NO_STORE),
    "the store is a link to itself": Case(below("runs/mlflow.db", itself), refused=NO_STORE),
    "nobody may write": Case(closed, refused={**NO_RUNS, "plugin new": "cannot be written"}),
    "a path of two lines": Case(name="a\nb"),
    "a path with %, ? and #": Case(name="a%20b%s?c=d#e"),
    "a path with quotes": Case(name='a\'b "c" :d'),
    "a path with escapes": Case(name=ESCAPES),
    "a path that is no text": Case(name=os.fsdecode(b"\xff"), refused=dict.fromkeys(SLOW, "has a name that is not UTF-8 text")),
}


@pytest.fixture
def executed(tmp_path: Path) -> Path:
    """The folder in which executed files leave a mark."""
    (tmp_path / "executed").mkdir()
    return tmp_path / "executed"


def hold(case: Case, commands: Mapping[str, tuple[str, ...]], program: tuple[str, ...], executed: Path) -> None:
    folder = executed.with_name(case.name)
    folder.mkdir()
    case.make(folder)
    for verb, words in commands.items():
        before = files(folder)
        status, said = call(program, words, folder)
        assert [path.name for path in executed.iterdir()] == [], (verb, said)
        assert status == (2 if verb in case.refused else 0), (verb, said)
        assert "Traceback" not in said, verb
        assert "\x1b" not in said, verb
        if verb == "list":
            assert case.listed in said
        if verb in case.refused:
            assert said.startswith("error: ")
            assert said.count("\n") == 1
            assert case.refused[verb] in said
            assert files(folder) == before, verb


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_in_every_folder_what_is_quick_gives_its_result_or_one_line(
    case: Case,
    installed: tuple[str, ...],
    executed: Path,
) -> None:
    hold(case, QUICK, installed, executed)


@pytest.mark.long
@pytest.mark.faults
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_in_every_folder_what_trains_gives_its_result_or_one_line(
    case: Case,
    installed: tuple[str, ...],
    executed: Path,
) -> None:
    hold(case, SLOW, installed, executed)


GONE = "import os, sys; os.rmdir(os.getcwd()); from agmbench.cli import main; main(sys.argv[1:])"


@pytest.mark.parametrize("command", [*QUICK, *SLOW])
def test_a_folder_that_is_gone_is_one_line(command: str, line: CommandLine) -> None:
    (line.folder / "work").mkdir()
    words = [sys.executable, "-P", "-c", GONE, *{**QUICK, **SLOW}[command]]
    done = subprocess.run(words, cwd=line.folder / "work", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "error: the working directory cannot be used (No such file or directory); change to a directory that exists\n"
    )
