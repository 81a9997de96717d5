"""Locks of the file system, which gives back what a process has that is gone: taken, and looked at."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path


def take(path: Path) -> int:
    """Make a file and take its lock, until what is returned is closed or this process is gone. A file system without locks has none."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def held(path: Path) -> bool:
    """Whether a process has the lock of a file, by `take` or by `filelock`; also where that cannot be found out.

    Whoever looks shares a lock that is free for a moment, and writes nothing.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        return error.errno != errno.ENOENT
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False
