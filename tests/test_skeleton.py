"""`agmbench plugin new`: the plugins that it makes work unchanged, and it says what it cannot make."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CommandLine, files

from agmbench.registry import KINDS

RULES = ("--isolated", "--select", "E,F,W,I,B,UP,SIM,RUF,PT,C4,RET")
RUNS = {
    "dataset": ("--dataset", "my-own"),
    "transform": ("--dataset", "synthetic", "--set", "augment.m0=my-own"),
    "encoder": ("--dataset", "synthetic", "--encoder", "*=my-own"),
    "fusion": ("--dataset", "synthetic", "--fusion", "my-own"),
    "modulator": ("--dataset", "synthetic", "--modulator", "my-own"),
    "metric": ("--dataset", "synthetic", "--set", "training.select_by=my-own"),
}


def ruff(folder: Path) -> None:
    for words in (("check", *RULES), ("format", "--isolated", "--check")):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--no-cache", "."], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def pytest_in(folder: Path, *tests: Path, **env: str) -> None:
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *map(str, tests)]
    done = subprocess.run(words, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert f"{len(tests)} passed" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_works_as_it_is(kind: str, line: CommandLine) -> None:
    made = line("plugin", "new", kind, "my-own")
    assert made.status == 0, made.err
    assert made.out.startswith("made plugins/my-own: README.md, my_own.py, registry.yaml, test_my_own.py\nnext:\n")
    assert f"\n  agmbench check {kind}/my-own\n" in made.out
    ruff(line.folder / "plugins" / "my-own")
    checked = line("check", f"{kind}/my-own")
    assert checked.status == 0, checked.out
    assert " 0 failed" in checked.out
    if kind != "launcher":  # the check of a launcher has already run tasks
        ran = line("run", *RUNS[kind], "--epochs", "1", "--limit", "64", "--no-strength")
        assert ran.status == 0, ran.err


@pytest.mark.long
def test_the_tests_that_folders_come_with_pass(line: CommandLine) -> None:
    for kind in KINDS:
        assert line("plugin", "new", kind, f"own-{kind}").status == 0
    plugins = line.folder / "plugins"
    pytest_in(plugins, *(plugins / f"own-{kind}" / f"test_own_{kind}.py" for kind in KINDS))


@pytest.mark.long
def test_packages_work_as_they_are(line: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> None:
    projects, site = [line.folder / f"own-{kind}" for kind in KINDS], tmp_path_factory.mktemp("site")
    for kind, project in zip(KINDS, projects, strict=True):
        made = line("plugin", "new", kind, project.name, "--package")
        assert made.status == 0, made.err
        assert f"python -m pip install --editable {project.name}\n" in made.out
        assert {str(path.relative_to(project)) for path in files(project) if path.is_file()} == {
            *(".github/workflows/ci.yml", "README.md", "pyproject.toml", f"tests/test_own_{kind}.py"),
            *(f"src/own_{kind}/{name}" for name in ("__init__.py", f"{kind}.py", "registry.yaml")),
        }
        ruff(project)
    words = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *words, *map(str, projects)], check=True)
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    listed = line.finish("list", env={"PYTHONPATH": path}).out
    assert all(f"package own-{kind} 0.1.0  " in listed for kind in KINDS)
    pytest_in(
        line.folder,
        *(project / "tests" / f"test_own_{kind}.py" for kind, project in zip(KINDS, projects, strict=True)),
        PYTHONPATH=path,
    )


def test_elsewhere_the_next_commands_name_the_file(line: CommandLine) -> None:
    made = line("plugin", "new", "metric", "mine", "--into", "methods")
    assert "\n  agmbench check metric/mine --registry methods/mine/registry.yaml\n" in made.out
    assert line.finish("show", "metric", "mine", "--registry", "methods/mine/registry.yaml").status == 0


@pytest.mark.bad_input
def test_nothing_is_overwritten(line: CommandLine) -> None:
    (line.folder / "plugins" / "mine").mkdir(parents=True)
    assert "plugins/mine already exists; choose another name, or remove it" in line.refused("plugin", "new", "metric", "mine")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["modulator", "MyMethod"],
            "'MyMethod' cannot be a name: use lower-case letters, digits and dashes, a letter first, such as my-method",
        ),
        (["modulator", "my_method"], "such as my-method"),
        (["modulator", "2d"], "such as d"),
        (["modulator", "../x"], "such as x"),
        (["modulator", "--", "-"], "such as my-method"),
        (["modulator", "import"], "'import' is a Python keyword; choose another name"),
        (["modulator", "agm"], "modulator 'agm' already exists in registry.yaml:"),
        (["fusion", "late"], "fusion 'late' already exists in registry.yaml:"),
        (["modulator", "torch", "--package"], "a module 'torch' is already installed; choose another name"),
        (["modulatr", "mine"], "'modulatr' is not one of"),
        (["metric", "mine", "--into", "/proc/none"], "/proc/none/mine cannot be written ("),
    ],
)
def test_what_cannot_be_made_is_one_line(words: list[str], reason: str, line: CommandLine) -> None:
    assert reason in line.refused("plugin", "new", *words)


# a typo at each step


@pytest.fixture
def mine(line: CommandLine) -> Path:
    """The folder of a new modulator."""
    line("plugin", "new", "modulator", "mine")
    return line.folder / "plugins" / "mine"


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        (
            "registry.yaml",
            "target:",
            "targt:",
            "plugins/mine/registry.yaml:2: modulator 'mine' has an unknown key 'targt': did you",
        ),
        ("registry.yaml", "mine:Mine", "mine:Mien", "(AttributeError: no 'Mien' in 'mine': did you mean 'Mine'? Known: Mine.)"),
        ("registry.yaml", "mine:Mine", "mien:Mine", "nor mien.py in plugins/mine: did you mean 'mine'?"),
        ("registry.yaml", "modulators:", "modulator:", "Not read: plugins/mine/registry.yaml: unknown section 'modulator'"),
        ("registry.yaml", "{alpha:", "{alpha", "Not read: plugins/mine/registry.yaml:"),
        ("mine.py", "def backward(", "def backward((", "plugins/mine/mine.py:"),
        ("mine.py", "import torch", "import trch", "No module named 'trch' at plugins/mine/mine.py:5"),
        (
            "mine.py",
            "float, Ge(0)",
            "flot, Ge(0)",
            "NameError: name 'flot' is not defined at plugins/mine/mine.py:",
        ),
    ],
)
def test_a_typo_is_told_with_its_place(name: str, old: str, new: str, reason: str, mine: Path, line: CommandLine) -> None:
    change(mine / name, old, new)
    error = line.refused("run", "--modulator", "mine", "--dataset", "synthetic")
    assert reason in error
    assert "plugins/mine/registry.yaml" in error
    assert line("run", "--modulator", "joint", "--dataset", "synthetic", "--dry-run").status == 0


@pytest.mark.bad_input
def test_a_typo_in_the_name_is_told(mine: Path, line: CommandLine) -> None:
    for words in (["check", "modulator/mnie"], ["run", "--modulator", "mnie"]):
        assert "unknown modulator 'mnie': did you mean 'mine'?" in line.refused(*words)
    assert "modulator/mine has no parameter 'alhpa': did you mean 'alpha'?" in line.refused(
        "run", "--modulator", "mine", "--set", "modulator.alhpa=2"
    )


def test_a_typo_in_a_step_ends_the_run_failed_and_the_check_tells_it(mine: Path, line: CommandLine) -> None:
    change(mine / "mine.py", "self.alpha *", "self.alhpa *")
    reason = "AttributeError: 'Mine' object has no attribute 'alhpa' at plugins/mine/mine.py:39"
    assert reason in line("check", "modulator/mine").out
    result = line("run", "--modulator", "mine", "--dataset", "synthetic", "--epochs", "1", "--no-strength")
    assert result.status == 1
    assert reason in result.err
    assert result.err.count("\n") == 1
