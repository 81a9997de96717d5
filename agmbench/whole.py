"""Files and folders that appear complete or not at all."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agmbench import locks

# endings of names beside a new file or folder: of its maker's lock, and of the folder that it replaces
LOCK, EARLIER = ".lock", ".earlier"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path at which the block makes a file or a folder; at the end of the block this replaces what was at `path`.

    If the block raises, `path` stays as it was. Each process works in a folder of its own beside `path` (`.NAME.*.new`), so several may
    make the same path at once; the last result stays. Nobody ever sees half a file or half a folder, but while one folder replaces
    another, there is none for a moment. What a killed process left is removed by the next process, which sees that its lock is free; a
    folder that was just being replaced is put back. Raises `OSError` as `Path.replace` does, for example if a file would replace a folder,
    or a folder a file.
    """
    _clear(path)
    with _folder_beside(path) as own:
        fresh = own / path.name
        yield fresh
        _put(fresh, path, own / f"{path.name}{EARLIER}")


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """A folder of this process beside `path`. Its lock is taken before it gets the name by which other processes recognize it."""
    made = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    own = made.with_name(f"{made.name}.new")
    try:
        lock = locks.take(made / f"{path.name}{LOCK}")
        try:
            made.rename(own)
            yield own
        finally:
            os.close(lock)
    finally:
        for folder in (own, made):
            shutil.rmtree(folder, ignore_errors=True)


def _clear(path: Path) -> None:
    """Remove what processes that were killed while they made `path` left behind."""
    left = re.compile(rf"\.{re.escape(path.name)}\.\w{{8}}\.new")
    with suppress(OSError):  # if the folder of `path` does not exist, there is nothing to remove
        for folder in [path.parent / name for name in os.listdir(path.parent) if left.fullmatch(name)]:
            if locks.is_held(folder / f"{path.name}{LOCK}"):
                continue
            with suppress(OSError):  # usually there is no earlier folder, or another process has already made `path`
                if not path.exists():
                    (folder / f"{path.name}{EARLIER}").rename(path)
            shutil.rmtree(folder, ignore_errors=True)


def _put(fresh: Path, path: Path, earlier: Path) -> None:
    """Rename `fresh` to `path`. A folder at `path` is first moved to `earlier`, and so is one that another process puts there meanwhile."""
    while True:
        try:
            fresh.replace(path)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                with suppress(OSError):
                    earlier.rename(path)
                raise
        shutil.rmtree(earlier, ignore_errors=True)
        with suppress(FileNotFoundError):  # another process has moved it
            path.rename(earlier)
