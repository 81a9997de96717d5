"""File locks: to take one, and to see whether one is held. The operating system frees the locks of a process that has ended."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path


def take(path: Path) -> int:
    """Create a file and take its lock; returns a file descriptor. The lock is held until that is closed or this process ends. On a file
    system without locks, no lock is taken."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file, taken by `take` or by `filelock`; also true if this cannot be found out.

    To find out, this takes a shared lock for a moment if the lock is free. Nothing is written.
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
