"""Rules for every command: options with one value are given once, numbers are in range, and a wrong path gives one line of error."""

import errno
import importlib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from conftest import SMALL, CommandLine

from agmbench.cli import VERBS, module_of
from agmbench.jobs import compose, parse_settings
from agmbench.registry import builtin
from agmbench.suite import plan, read


def commands() -> Iterator[tuple[str, click.Command]]:
    for verb in VERBS:
        command = importlib.import_module(module_of(verb)).command
        for name, inner in command.commands.items() if isinstance(command, click.Group) else [("", command)]:
            yield f"{verb} {name}".strip(), inner


SINGLE = [
    (words, option.opts[-1], option)
    for words, command in commands()
    for option in command.params
    if isinstance(option, click.Option) and not (option.multiple or option.is_flag)
]


def test_there_are_options_to_try() -> None:
    assert {
        ("run", "--seed"),
        ("compare", "--dataset"),
        ("suite run", "--scale"),
        ("ui", "--port"),
        ("list", "--registry"),
    } <= {(words, name) for words, name, _ in SINGLE}


@pytest.mark.bad_input
@pytest.mark.parametrize(("words", "name", "option"), SINGLE, ids=[f"{words} {name}" for words, name, _ in SINGLE])
def test_an_option_of_one_value_is_given_once(words: str, name: str, option: click.Option, line: CommandLine) -> None:
    error = line.refused(*words.split(), *(word for form in (option.opts[0], name) for word in (form, "1")))
    assert error == f"error: {name} is given 2 times; leave all but one out\n"


@pytest.mark.bad_input
def test_an_encoder_of_a_modality_is_given_once(line: CommandLine) -> None:
    assert "--encoder audio is given twice" in line.refused("run", "-e", "audio=mlp", "-e", "audio=conv")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "seed=1", "--set", "seed=2"), "--set seed is given twice; leave all but one out"),
        (
            ("--epochs", "3", "--set", "training.epochs=3"),
            "--set training.epochs and --epochs say the same; leave one of them out",
        ),
    ],
)
def test_a_setting_is_given_once(line: CommandLine, words: tuple[str, ...], said: str) -> None:
    for verb in (("run",), ("sweep", "-m", "agm")):
        assert said in line.refused(*verb, "-d", "synthetic", *words)


def test_options_of_several_values_are_given_again(finished: CommandLine) -> None:
    assert finished("compare", "-m", "joint", "-m", "agm", "--coalitions", "--coalitions").status == 0


# numbers


@pytest.mark.bad_input
@pytest.mark.parametrize("limit", ["0", "-1", "1"])
@pytest.mark.parametrize("words", ["run", "sweep -m agm", "suite run mini", "suite show mini", "suite status mini"])
def test_a_limit_that_leaves_nothing_is_one_line(words: str, limit: str, line: CommandLine) -> None:
    assert "limit" in line.refused(*words.split(), "--limit", limit)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "setting",
    [
        *("training.epochs=10000000000000000000000", "training.accumulate=10000000000000"),
        *("training.batch_size=10000000000000", "training.schedule.step_size=100000000000", "limit=100000000000"),
    ],
)
def test_a_number_beyond_all_jobs_is_one_line(setting: str, line: CommandLine) -> None:
    assert "input should be less than" in line.refused("run", "--set", setting)
    with pytest.raises(Exception, match="less than"):
        compose(builtin(), "synthetic", settings=parse_settings([setting]))


# suites


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{seeds: [], jobs: [{dataset: synthetic, modulator: joint}]}", "'seeds' is []"),
        ("{jobs: []}", "'jobs' is []"),
        ("{jobs: [{dataset: [], modulator: joint}]}", "'jobs.0.dataset' is []"),
        ("{jobs: [{dataset: synthetic, modulator: []}]}", "'jobs.0.modulator' is []"),
        ("{jobs: [{dataset: synthetic, modulator: joint, fusion: []}]}", "'jobs.0.fusion' is []"),
        ("{jobs: [{dataset: synthetic, modulator: joint, set: {training.lr: []}}]}", "'training.lr' has no value"),
        ("{scales: 5, jobs: [{dataset: synthetic, modulator: joint}]}", "'scales' of suite 's' should be a mapping; found 5"),
        ("{summary: [1], jobs: [{dataset: synthetic, modulator: joint}]}", "'summary' of suite 's' should be a text"),
    ],
)
def test_a_suite_of_nothing_is_one_line(content: str, said: str, line: CommandLine) -> None:
    plugin = line.folder / "plugins" / "mine"
    plugin.mkdir(parents=True)
    (plugin / "registry.yaml").write_text(f"suites:\n  s: {content}\n")
    for verb in ("run", "show", "status", "report"):
        error = line.refused("suite", verb, "s")
        assert said in error
        assert "plugins/mine/registry.yaml:2" in error
    assert line("suite", "list").status == 0


def test_the_built_in_suites_have_jobs() -> None:
    for name in builtin().names("suite"):
        assert plan(read(builtin(), name), builtin(), seeds=1)


# folders


def test_a_folder_that_cannot_be_made_is_one_line(line: CommandLine) -> None:
    (line.folder / "runs").mkdir()
    (line.folder / "runs" / "suites").write_text("no folder")
    plugin = line.folder / "plugins" / "mine"
    plugin.mkdir(parents=True)
    (plugin / "registry.yaml").write_text("suites:\n  s: {jobs: [{dataset: synthetic, modulator: joint}]}\n")
    result = line("suite", "run", "s")
    assert result.status == 2
    assert "runs/suites" in result.err
    assert result.err.count("\n") == 1


def closed(folder: Path) -> bool:
    """Whether nobody, not even root, can make a folder in this one."""
    try:
        (folder / "probe").mkdir()
    except OSError as error:
        return error.errno in (errno.EPERM, errno.EACCES, errno.EROFS)
    (folder / "probe").rmdir()
    return False


@pytest.mark.skipif(not closed(Path("/sys")), reason="there is no /sys in which nobody can make a folder")
@pytest.mark.parametrize("words", [("run", *SMALL, "--no-strength"), ("suite", "run", "mini", "--limit", "64"), ("compare",)])
def test_a_folder_that_nobody_can_write_to_is_one_line(words: tuple[str, ...]) -> None:
    result = CommandLine(Path("/sys"))(*words)
    assert result.status == 2, result
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
