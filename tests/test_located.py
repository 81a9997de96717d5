"""The reader of YAML, at every place where untrusted text comes in: its work is limited, and errors are one line with exit status 2."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import CommandLine

from agmbench.errors import AgmbenchError
from agmbench.registry.located import BYTES, NODES, parse, parsed

BOMB = (
    "x: [&a0 [x, x, x, x, x, x, x, x, x, x]" + "".join(f", &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(11)) + "]\n"
)
DEEP = f"x: {'[' * 200}{']' * 200}\n"
BLOCKS = f"x:\n  {'- ' * 2000}x\n"
TWICE = "x: {a: 1, b: 2, a: 3}\n"
ITSELF = "x: &a [1, *a]\n"
LONG = f"x: 1{'0' * 5000}\n"
BYTES_NOT_TEXT = b"x: \xff\xfe\n"

TEXTS = {
    "aliases": (BOMB, f"with its aliases expanded, the text has more than {NODES:,} values"),
    "brackets": (DEEP, "nests lists and mappings more than 50 deep"),
    "blocks": (BLOCKS, "nests lists and mappings more than 50 deep"),
    "twice": (TWICE, "'a' is defined twice"),
    "itself": (ITSELF, "the alias 'a' is used before its value is complete, or has no value"),
    "number": (LONG, "a number of more than 100 digits"),
    "date": ("x: 2026-99-99\n", "is not YAML (ValueError: month must be in 1..12)"),
    "tag": ("x: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
    "kind": ("x: !!timestamp x\n", "is not YAML (AttributeError"),
    "open": ("x: [1\n", "is not YAML"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize(("text", "said"), TEXTS.values(), ids=TEXTS)
def test_a_setting_is_read_with_bounds(text: str, said: str, line: CommandLine) -> None:
    value = text.removeprefix("x:").strip()
    error = line.refused("run", "--set", f"modulator.alpha={value}")
    assert "--set modulator.alpha: the value" in error
    assert said in error


@pytest.mark.bad_input
@pytest.mark.parametrize(("text", "said"), TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("door", ["--job", "--registry", "include", "suite"])
def test_a_file_is_read_with_bounds(text: str, said: str, door: str, line: CommandLine) -> None:
    file = line.folder / "file.yaml"
    file.write_text(
        f"suites:\n  s:\n    jobs: []\n    set: {{{text.strip()}}}\n" if door == "suite" and "\n " not in text else text
    )
    (line.folder / "own.yaml").write_text("include: [file.yaml]\n")
    words = ["run", "--job", "file.yaml"] if door == "--job" else ["list", "--registry", str(file)]
    if door == "include":
        words = ["list", "--registry", "own.yaml"]
    try:
        error = line.refused(*words)
    finally:
        os.environ.pop("AGMBENCH_REGISTRY", None)
    assert "file.yaml" in error
    assert said in error


@pytest.mark.parametrize(("text", "said"), TEXTS.values(), ids=TEXTS)
def test_a_plugin_folder_is_read_with_bounds_and_is_broken_alone(text: str, said: str, line: CommandLine) -> None:
    plugin = line.folder / "plugins" / "mine"
    plugin.mkdir(parents=True)
    (plugin / "registry.yaml").write_text(text)
    result = line("list")
    assert result.status == 0
    assert "  file (plugins/mine): " in result.out
    assert said in result.out
    assert line("run", "--dry-run", "-d", "synthetic").status == 0


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def large(path: Path) -> None:
    path.write_text("#" * (BYTES + 1))


def letters(path: Path) -> None:
    path.write_bytes(BYTES_NOT_TEXT)


FILES: list[tuple[Callable[[Path], None], str]] = [
    (pipe, "it is not a regular file"),
    (endless, "it is not a regular file"),
    (Path.mkdir, "IsADirectoryError"),
    (large, "it is larger than 4 MiB"),
    (letters, "UnicodeDecodeError"),
]


@pytest.mark.bad_input
@pytest.mark.parametrize(("make", "said"), FILES, ids=[make.__name__ for make, _ in FILES])
def test_what_is_no_file_of_text_is_not_waited_for(make: Callable[[Path], None], said: str, line: CommandLine) -> None:
    make(line.folder / "file.yaml")
    try:
        for words in (["run", "--job", "file.yaml"], ["list", "--registry", "file.yaml"]):
            assert f"file.yaml cannot be read ({said}" in line.refused(*words).replace("ValueError: ", "")
    finally:
        os.environ.pop("AGMBENCH_REGISTRY", None)
    plugin = line.folder / "plugins" / "mine"
    plugin.mkdir(parents=True)
    make(plugin / "registry.yaml")
    assert f"plugins/mine/registry.yaml cannot be read ({said}" in line("list").out.replace("ValueError: ", "")


@pytest.mark.bad_input
@pytest.mark.parametrize("words", [("run", "--job"), ("list", "--registry"), ("data", "status", "--data-root"), ("plugin",)])
def test_a_path_of_5000_letters_is_one_line(words: tuple[str, ...], line: CommandLine) -> None:
    path = "x" * 5000
    given = ("plugin", "new", "metric", "mine", "--into", path) if words == ("plugin",) else (*words, path)
    try:
        assert len(line.refused(*given)) < 5000
    finally:
        os.environ.pop("AGMBENCH_REGISTRY", None)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "text", ["[1, 2]", "text", "", "spec: [1]", "spec: text", "parent: [1]\nspec: {}", "{spec: {dataset: 1}}"]
)
def test_a_file_that_is_no_job_is_one_line(text: str, line: CommandLine) -> None:
    (line.folder / "job.yaml").write_text(text)
    assert "job.yaml" in line.refused("run", "--job", "job.yaml")


@pytest.mark.parametrize(
    "text",
    ["a: &x [1, {b: 2}]\nc: *x\nd: [*x, *x]\n", "- 1\n- [a, 0x1f, 1.5, true, null, 'x']\n", "&a {x: &b y, z: *b}\n", "", "a"],
)
def test_within_its_bounds_it_reads_what_yaml_says(text: str) -> None:
    assert parsed(text, "here") == yaml.safe_load(text)


def test_what_is_written_out_is_counted_and_not_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "many.yaml").write_text(f"[{', '.join(['x'] * (NODES - 1))}]")
    assert len(parse(tmp_path / "many.yaml", "many")) == NODES - 1
    (tmp_path / "many.yaml").write_text(f"[{', '.join(['x'] * NODES)}]")
    with pytest.raises(AgmbenchError, match="many:1: with its aliases expanded"):
        parse(tmp_path / "many.yaml", "many")
