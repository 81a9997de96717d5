"""`whole`: a file or a folder is there in full, or what was there before is."""

from pathlib import Path

import pytest

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
    put(tmp_path / ".it.new", "left by a killed process", not folder)
    if was:
        put(tmp_path / ".it.old", "left as well", folder)
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
