"""Files and folders that appear whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Inside, a path beside `path` at which a file or a folder is to be made; afterwards that is at `path`, in place of what was there.

    Where what is inside raises, `path` is as it was, and the other is removed. A process that is killed leaves `path` as it was too,
    but between the two renames of a folder that replaces one (the earlier folder is `.NAME.old` then); the next process removes what it
    left. One process at a time may make the same path. Raises `OSError` as `Path.replace` does, so also where a file would replace a
    folder, or a folder a file.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        _remove(fresh)
        yield fresh
        _put(fresh, path)
    except BaseException:
        with suppress(OSError):
            _remove(fresh)
        raise


def _put(fresh: Path, path: Path) -> None:
    if not (path.is_dir() and fresh.is_dir()) or path.is_symlink():
        fresh.replace(path)
        return
    old = path.with_name(f".{path.name}.old")
    _remove(old)
    path.replace(old)
    try:
        fresh.replace(path)
    except OSError:
        old.replace(path)
        raise
    with suppress(OSError):
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
