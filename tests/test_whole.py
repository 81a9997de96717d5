"""`whole`: a file or folder is either written completely, or what was there before stays."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import PATIENCE

from agmbench.whole import whole


def put(path: Path, text: str, folder: bool) -> None:
    if folder:
        path.mkdir()
        path /= "inside"
    path.write_text(text)


def stopped(path: Path, folder: bool) -> None:
    with whole(path) as fresh:
        put(fresh, "half", folder)
        raise KeyboardInterrupt


def found(path: Path) -> str:
    return (path / "inside" if path.is_dir() else path).read_text()


WAYS = [(False, None), (True, None), (False, False), (True, True)]


@pytest.mark.parametrize(("folder", "was"), WAYS, ids=["file", "folder", "file-of-file", "folder-of-folder"])
def test_what_was_there_is_replaced_at_the_end_and_nothing_else_is_left(folder: bool, was: bool | None, tmp_path: Path) -> None:
    path = tmp_path / "it"
    if was is not None:
        put(path, "before", was)
    with whole(path) as fresh:
        put(fresh, "after", folder)
        assert was is None or found(path) == "before"
    assert found(path) == "after"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_what_raises_leaves_what_was_there(folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "it"
    put(path, "before", folder)
    with pytest.raises(KeyboardInterrupt):
        stopped(path, folder)
    assert found(path) == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", [False, True], ids=["file-of-folder", "folder-of-file"])
def test_neither_replaces_the_other_kind(folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "it"
    put(path, "before", not folder)
    with pytest.raises(OSError, match="directory"), whole(path) as fresh:
        put(fresh, "after", folder)
    assert found(path) == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_was_not_made_leaves_the_one_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "it"
    put(path, "before", folder=True)
    with pytest.raises(FileNotFoundError), whole(path):
        pass
    assert found(path) == "before"
    assert list(tmp_path.iterdir()) == [path]


MAKER = """
import sys, time
from pathlib import Path
from agmbench.whole import whole

path, folder, text, times = Path(sys.argv[1]), sys.argv[2] == "folder", sys.argv[3], int(sys.argv[4])
for _ in range(times):
    with whole(path) as fresh:
        if folder:
            fresh.mkdir()
        for file in [fresh / "a", fresh / "b"] if folder else [fresh]:
            with file.open("w") as out:
                out.write(text)
                out.flush()
                out.write(text)
        if len(sys.argv) > 5:
            print("here", flush=True)
            time.sleep(1000000)
"""


def maker(path: Path, kind: str, text: str, times: int, *stopping: str) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", MAKER, str(path), kind, text, str(times), *stopping]
    return subprocess.Popen(words, stdout=subprocess.PIPE if stopping else None, text=True)


def contents(path: Path) -> Sequence[str]:
    return [file.read_text() for file in (sorted(path.iterdir()) if path.is_dir() else [path])]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_two_processes_that_make_the_same_path_at_once_never_meet(kind: str, tmp_path: Path) -> None:
    path, texts = tmp_path / "it", ["one" * 3000, "two" * 3000]
    makers = [maker(path, kind, text, 150) for text in texts]
    seen, deadline = 0, time.monotonic() + PATIENCE
    while any(process.poll() is None for process in makers):
        assert time.monotonic() < deadline
        if kind == "file" and path.exists():  # once a file exists, it always exists
            assert contents(path) in [[text * 2] for text in texts]
            seen += 1
    assert [process.wait() for process in makers] == [0, 0]
    assert seen or kind == "folder"
    assert contents(path) in [[text * 2] * (1 if kind == "file" else 2) for text in texts]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_makes_is_not(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "it"
    killed, living = (maker(path, kind, text, 1, "stopping") for text in ("killed", "living"))
    for process in (killed, living):
        assert process.stdout
        assert process.stdout.readline() == "here\n"
    (tmp_path / ".it.b.abcdefgh.new").mkdir()  # belongs to another path, `it.b`
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    with whole(path) as fresh:
        put(fresh, "after", kind == "folder")
        makers = [one for one in tmp_path.glob(".it.????????.new") if one != fresh.parent]
        assert [(one / "it").exists() for one in makers] == [True], "one is left, of the living"
    assert found(path) == "after"
    living.kill()
    living.communicate()


def test_a_folder_that_was_just_being_replaced_is_put_back(tmp_path: Path) -> None:
    left = tmp_path / ".it.abcdefgh.new"
    left.mkdir()
    put(left / "it.earlier", "before", folder=True)
    with pytest.raises(KeyboardInterrupt):
        stopped(tmp_path / "it", folder=True)
    assert found(tmp_path / "it") == "before"
    assert list(tmp_path.iterdir()) == [tmp_path / "it"]


@pytest.mark.parametrize("name", ["it.lock", "it.earlier", ".lock"])
def test_a_path_may_have_any_name(name: str, tmp_path: Path) -> None:
    for text in ("before", "after"):
        with whole(tmp_path / name) as fresh:
            put(fresh, text, folder=True)
    assert found(tmp_path / name) == "after"
    assert list(tmp_path.iterdir()) == [tmp_path / name]
