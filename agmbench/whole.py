"""Files and folders that appear whole or not at all."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agmbench import locks

LOCK, EARLIER = ".lock", ".earlier"  # ends of names beside what is made: whose lock its maker has; the folder that is replaced


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Inside, a path at which a file or a folder is to be made; afterwards that is at `path`, in place of what was there.

    Where what is inside raises, `path` is as it was. Each process makes it in a folder of its own beside `path` (`.NAME.*.new`), so
    several may make the same path at once, and the last one's stays. Nobody sees half of a file or of a folder; where a folder replaces
    one, there is none for a moment. What a process left that was killed is removed by the next one, which sees that nobody has its lock
    any more; a folder that was just being replaced is put back. Raises `OSError` as `Path.replace` does, so also where a file would
    replace a folder, or a folder a file.
    """
    _clear(path)
    with _folder_beside(path) as own:
        fresh = own / path.name
        yield fresh
        _put(fresh, path, own / f"{path.name}{EARLIER}")


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """A folder of this process, which has its lock before it has the name by which others know it."""
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
    """Remove what processes left that were killed while they made `path`."""
    left = re.compile(rf"\.{re.escape(path.name)}\.\w{{8}}\.new")
    with suppress(OSError):  # without its folder there is nothing
        for folder in [path.parent / name for name in os.listdir(path.parent) if left.fullmatch(name)]:
            if locks.held(folder / f"{path.name}{LOCK}"):
                continue
            with suppress(OSError):  # there is none, as a rule, or another process has put its own there
                if not path.exists():
                    (folder / f"{path.name}{EARLIER}").rename(path)
            shutil.rmtree(folder, ignore_errors=True)


def _put(fresh: Path, path: Path, earlier: Path) -> None:
    """Rename; a folder that is there is moved away first, and so is one that another process puts there meanwhile."""
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
