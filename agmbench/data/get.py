"""Downloads data sets that `downloads.yaml` lists. A file is either downloaded completely and checked, or not kept.

It uses urllib because pooch, the usual library, does not resume a partial download.
"""

import csv
import fnmatch
import hashlib
import re
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

import yaml
from filelock import FileLock, Timeout

from agmbench.errors import AgmbenchError, RunFailed
from agmbench.whole import whole

if TYPE_CHECKING:
    from agmbench.datasets.files import Progress  # called with the bytes (or files) that are here, and their total

TABLE = Path(__file__).with_name("downloads.yaml")
SUMS = "SHA256SUMS"  # beside the files, as `sha256sum -c` reads it
CHUNK = 1 << 20
PATIENCE = 60  # seconds to wait for a server that sends nothing
AGAIN = "run the same command again to resume"


@dataclass(frozen=True)
class Unpack:
    """How to unpack an archive: the members that match the pattern `members` become files of the folder `to`. `contents` is the sha256
    of the lines "SHA256  NAME" of these files."""

    members: str
    to: str
    contents: str = ""


@dataclass(frozen=True)
class File:
    """One file to download: its URL, its path in the folder, its licence and source, and its checksums as far as they are known."""

    path: str
    url: str
    licence: str
    source: str
    sha256: str = ""
    md5: str = ""
    checked: str = ""
    unpack: Unpack | None = None


@dataclass(frozen=True)
class Clips:
    """Files that a repository stores by Git LFS. The first column of the lists `names` has the clips; each clip has one file per pattern
    in `paths`."""

    names: tuple[str, ...]
    paths: tuple[str, ...]
    pointer: str
    media: str
    licence: str
    source: str


@dataclass(frozen=True)
class Downloads:
    """Everything that is downloaded for one data set, and `then`, what the user should do next."""

    files: tuple[File, ...]
    then: str
    into: str = "."
    clips: Clips | None = None


def known() -> dict[str, Downloads]:
    """The downloads of each data set that has any, by its name."""
    return {name: _downloads(content) for name, content in yaml.safe_load(TABLE.read_text(encoding="utf-8")).items()}


def _downloads(content: Mapping[str, Any]) -> Downloads:
    files = tuple(File(**{**one, "unpack": Unpack(**one["unpack"]) if "unpack" in one else None}) for one in content["files"])
    clips = content.get("clips")
    of_lfs = Clips(**{**clips, "names": tuple(clips["names"]), "paths": tuple(clips["paths"])}) if clips else None
    return Downloads(files, content["then"], content.get("into", "."), of_lfs)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Create the folder and lock it, so that no other process downloads to it inside the `with` block. Raises `AgmbenchError` if it is
    locked already or cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".get.lock", timeout=0):
            yield
    except Timeout as error:
        raise AgmbenchError(f"another process is downloading to {folder}; wait until it has ended") from error
    except OSError as error:
        said = f"{error.filename or folder} cannot be written ({error.strerror}); name another folder with --data-root"
        raise AgmbenchError(said) from error


def fetch(file: File, folder: Path, progress: "Progress") -> bool:
    """Make sure that a file is in the folder and is right. Returns whether it had to be downloaded. Raises `RunFailed` if a checksum
    differs; a wrong file that was already there is not deleted."""
    target = folder / file.path
    kept = _sums(folder).get(file.path, "")
    if file.unpack and (folder / file.unpack.to).is_dir():
        _check_contents(folder / file.unpack.to, file.unpack)
        return False
    if target.exists():
        _check(target, file, kept, f"{target} is not what it should be: {{}}; move it away and {AGAIN}")
        _remember(folder, file.path, kept, _hash(target, "sha256"))
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    _download(file.url, part, progress)
    try:
        _check(part, file, kept, f"{file.url} is not what it should be: {{}}; it may have changed, and nothing was kept")
    except RunFailed:
        _forget(part)
        raise
    if file.unpack:
        _unpack(part, folder / file.unpack.to, file.unpack)
        _forget(part)
    else:
        _remember(folder, file.path, kept, _hash(part, "sha256"))
        part.replace(target)
        _forget(part)
    return True


def clips(wanted: Clips, folder: Path, progress: "Progress") -> int:
    """Make sure that every clip is in the folder. Returns how many were downloaded. A clip that is there and in the list of checksums is
    not checked again."""
    names = [row[0] for path in wanted.names for row in csv.reader((folder / path).read_text("utf-8-sig").splitlines()) if row]
    paths = [path.format(name) for name in names for path in wanted.paths]
    sums, count = _sums(folder), 0
    for number, path in enumerate(paths, 1):
        if path not in sums or not (folder / path).exists():
            sha256 = _pointed(f"{wanted.pointer}{path}")
            count += fetch(File(path, f"{wanted.media}{path}", wanted.licence, wanted.source, sha256), folder, _silent)
        progress(number, len(paths))
    return count


def _silent(done: int, total: int) -> None: ...


def _pointed(url: str) -> str:
    """The sha256 of a file that Git LFS stores elsewhere, read from the pointer at `url`."""
    with _opened(urllib.request.Request(url)) as answer:
        text = answer.read(1024).decode("utf-8", "replace")
    if (found := re.search(r"^oid sha256:([0-9a-f]{64})$", text, re.MULTILINE)) is None:
        raise RunFailed(f"{url} is not a pointer of Git LFS; expected one, with the checksum of the file; try again later")
    return found[1]


def _download(url: str, part: Path, progress: "Progress") -> None:
    """Download a whole file to `part`. An earlier partial download is resumed if the server still has the same file."""
    tag = part.with_name(f"{part.name}.etag")
    have = part.stat().st_size if part.exists() and tag.exists() else 0
    rest = {"Range": f"bytes={have}-", "If-Range": tag.read_text()} if have else {}
    with _opened(urllib.request.Request(url, headers={"User-Agent": "agmbench", **rest})) as answer:
        if answer.status != 206:
            have = 0
        total = have + int(answer.headers.get("Content-Length") or 0)
        if etag := answer.headers.get("ETag"):
            tag.write_text(etag)
        with part.open("ab" if have else "wb") as out:
            while chunk := answer.read(CHUNK):
                out.write(chunk)
                have += len(chunk)
                progress(have, max(total, have))
    if have < total:
        raise RunFailed(f"{url}: the connection ended after {have:,} of {total:,} bytes; {AGAIN}")


@contextmanager
def _opened(request: urllib.request.Request) -> Iterator[Any]:
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        raise RunFailed(f"{request.full_url} cannot be downloaded (status {error.code} {error.reason})") from error
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        said = getattr(error, "reason", "") or str(error) or type(error).__name__
        raise RunFailed(f"{request.full_url} cannot be downloaded ({said}); {AGAIN}") from error


def _check(path: Path, file: File, kept: str, wrong: str) -> None:
    """Raise `RunFailed` with the text `wrong` unless the file has the known checksums: those of the table, else that of its first
    download, `kept`."""
    for kind, expected in (("sha256", file.sha256), ("md5", file.md5), ("sha256", "" if file.sha256 or file.md5 else kept)):
        if expected and (found := _hash(path, kind)) != expected:
            raise RunFailed(wrong.format(f"its {kind} is {found} and should be {expected}"))


def _hash(path: Path, kind: str) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def _unpack(archive: Path, target: Path, wanted: Unpack) -> None:
    """Unpack the wanted members of an archive into the folder `target`, without their own folders. On an error `target` is not made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole(target) as fresh:
        fresh.mkdir()
        try:
            with tarfile.open(archive) as packed:
                for name, content in _members(packed, wanted.members):
                    with (fresh / name).open("wb") as out:
                        shutil.copyfileobj(content, out)
        except (tarfile.TarError, EOFError, OSError) as error:
            _forget(archive)
            raise RunFailed(f"{archive} cannot be unpacked ({error}); {AGAIN}") from error
        _check_contents(fresh, wanted)


def _members(packed: tarfile.TarFile, pattern: str) -> Iterator[tuple[str, IO[bytes]]]:
    for member in packed:
        if member.isreg() and fnmatch.fnmatch(member.name, pattern):
            content = packed.extractfile(member)
            assert content is not None, "a regular member has content"
            yield PurePosixPath(member.name).name, content


def _check_contents(folder: Path, wanted: Unpack) -> None:
    names = sorted(path.name for path in folder.iterdir())
    lines = "".join(f"{_hash(folder / name, 'sha256')}  {name}\n" for name in names)
    found = hashlib.sha256(lines.encode()).hexdigest()
    if wanted.contents and found != wanted.contents:
        raise RunFailed(
            f"{folder} is not what it should be: the sha256 over its {len(names)} files is {found}; expected {wanted.contents}; move it "
            f"away and {AGAIN}"
        )


def _sums(folder: Path) -> dict[str, str]:
    """The checksums in the folder's `SHA256SUMS`, by path."""
    path = folder / SUMS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {name: sha256 for line in lines for sha256, _, name in [line.partition("  ")]}


def _remember(folder: Path, path: str, kept: str, sha256: str) -> None:
    if sha256 != kept:
        with (folder / SUMS).open("a", encoding="utf-8") as out:
            out.write(f"{sha256}  {path}\n")


def _forget(part: Path) -> None:
    for path in (part, part.with_name(f"{part.name}.etag")):
        path.unlink(missing_ok=True)
