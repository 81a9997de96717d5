"""Hashes of the contents of files: of one file, of several, and of all files that a data set was read from."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agmbench.datasets.threads import several
from agmbench.datasets.untrusted import regular

WHOLE = 64 << 20  # bytes; of a larger file only the size, beginning, middle and end enter the fingerprint
PIECE = 4 << 20


def fingerprint(root: Path, files: Iterable[Path], settings: Any) -> str:
    """A hash of the paths and contents of files, and of `settings`. A file above 64 MiB counts by its size and three pieces of 4 MiB."""
    total = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in sorted(set(files)):
        total.update(f"{path.relative_to(root)} {checksum(path, whole=False)}\n".encode())
    return total.hexdigest()[:16]


def checksum(path: Path, whole: bool = True) -> str:
    """The sha256 of the contents of a file; unless `whole`, only of the size and three pieces of a large file."""
    size = regular(path).stat().st_size
    with path.open("rb") as file:
        if whole or size <= WHOLE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(str(size).encode())
        for start in (0, size // 2, size - PIECE):
            file.seek(start)
            digest.update(file.read(PIECE))
    return digest.hexdigest()


def checksums(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    """The checksum of each file, by its path below `root`. Several files are read at the same time."""
    rising = sorted(set(paths))
    return {str(path.relative_to(root)): said for path, said in zip(rising, several(checksum, rising), strict=True)}
