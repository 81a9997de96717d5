"""Downloads of data sets, from a server on this machine."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import CommandLine

from agmbench.data import get
from agmbench.errors import RunFailed
from agmbench.registry import builtin

CONTENT = bytes(range(256)) * 400  # 100 kB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """A server of files that supports ranges. It ends each answer after `cut` bytes, and notes the requested `ranges`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents: dict[str, bytes] = {}
        self.ranges: list[str | None] = []
        self.cut: int | None = None

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content = self.server.contents.get(self.path.lstrip("/"))
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if content is None:
            self.send_error(404)
            return
        tag = hashlib.md5(content).hexdigest()
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.headers.get("If-Range") == tag else 0
        self.send_response(206 if begin else 200)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        self.wfile.write(content[begin : self.server.cut])

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def one(server: Server, path: str = "a/digits.gz", **known: Any) -> get.File:
    server.contents.setdefault(path, CONTENT)
    return get.File(path, server.url(path), "MIT", "a test", **known)


def quiet(done: int, total: int) -> None: ...


def test_a_file_comes_whole_and_once(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert get.fetch(one(server, sha256=SHA256), tmp_path, lambda *counts: seen.append(counts))
    assert (tmp_path / "a" / "digits.gz").read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["digits.gz"]
    assert (tmp_path / "SHA256SUMS").read_text() == f"{SHA256}  a/digits.gz\n"
    assert not get.fetch(one(server, sha256=SHA256), tmp_path, quiet)
    assert len(server.ranges) == 1


def test_a_download_that_broke_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.cut = 40_000
    with pytest.raises(RunFailed, match=r"the connection ended after 40,000 of 102,400 bytes; run the same command again"):
        get.fetch(one(server), tmp_path, quiet)
    assert not (tmp_path / "a" / "digits.gz").exists()
    server.cut = None
    assert get.fetch(one(server), tmp_path, quiet)
    assert server.ranges == [None, "bytes=40000-"]
    assert (tmp_path / "a" / "digits.gz").read_bytes() == CONTENT


def test_a_part_of_a_file_that_has_changed_since_is_not_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.cut = 1000
    with pytest.raises(RunFailed):
        get.fetch(one(server), tmp_path, quiet)
    server.cut, server.contents["a/digits.gz"] = None, b"another"
    assert get.fetch(one(server), tmp_path, quiet)
    assert (tmp_path / "a" / "digits.gz").read_bytes() == b"another"


@pytest.mark.parametrize("known", [{"sha256": "0" * 64}, {"md5": "0" * 32}])
def test_a_file_of_another_checksum_is_not_kept(known: dict[str, str], server: Server, tmp_path: Path) -> None:
    with pytest.raises(
        RunFailed, match=r"is not what it should be: its (sha256|md5) is \w+ and should be 0+; it may have changed"
    ):
        get.fetch(one(server, **known), tmp_path, quiet)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_where_no_checksum_is_known_that_of_the_first_download_holds(server: Server, tmp_path: Path) -> None:
    get.fetch(one(server), tmp_path, quiet)
    path = tmp_path / "a" / "digits.gz"
    path.write_bytes(b"changed")
    with pytest.raises(RunFailed, match=rf"should be {SHA256}; move it away"):
        get.fetch(one(server), tmp_path, quiet)
    assert path.read_bytes() == b"changed"
    path.unlink()
    server.contents["a/digits.gz"] = b"another"
    with pytest.raises(RunFailed, match=rf"should be {SHA256}; it may have changed"):
        get.fetch(one(server), tmp_path, quiet)
    assert not path.exists()


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def test_an_archive_becomes_its_folder_and_nothing_beside_it(server: Server, tmp_path: Path) -> None:
    files = {
        "top/recordings/1.wav": b"one",
        "top/recordings/0.wav": b"zero",
        "top/other.py": b"",
        "../recordings/../../x.wav": b"",
    }
    server.contents["f.tar.gz"] = packed(files)
    lines = "".join(f"{hashlib.sha256(files[f'top/recordings/{n}.wav']).hexdigest()}  {n}.wav\n" for n in (0, 1))
    contents = hashlib.sha256(lines.encode()).hexdigest()
    wanted = get.Unpack("top/recordings/*.wav", "fsdd/recordings", contents)
    assert get.fetch(one(server, "f.tar.gz", unpack=wanted), tmp_path, quiet)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == [
        "fsdd/recordings/0.wav",
        "fsdd/recordings/1.wav",
    ]
    assert not get.fetch(one(server, "f.tar.gz", unpack=wanted), tmp_path, quiet)
    (tmp_path / "fsdd" / "recordings" / "0.wav").unlink()
    with pytest.raises(RunFailed, match="the sha256 over its 1 files is"):
        get.fetch(one(server, "f.tar.gz", unpack=wanted), tmp_path, quiet)


def test_clips_are_checked_by_the_pointers_of_git_lfs(server: Server, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,HAP\nb,SAD\n")
    for name in "ab":
        pointer = (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(name.encode()).hexdigest()}\nsize 1\n"
        )
        server.contents |= {f"raw/wav/{name}.wav": pointer.encode(), f"media/wav/{name}.wav": name.encode()}
    wanted = get.Clips(("train.csv",), ("wav/{}.wav",), server.url("raw/"), server.url("media/"), "ODbL", "a test")
    assert get.clips(wanted, tmp_path, quiet) == 2
    assert (tmp_path / "wav" / "b.wav").read_bytes() == b"b"
    count = len(server.ranges)
    assert get.clips(wanted, tmp_path, quiet) == 0
    assert len(server.ranges) == count
    (tmp_path / "wav" / "b.wav").unlink()
    server.contents["media/wav/b.wav"] = b"x"
    with pytest.raises(RunFailed, match="its sha256 is"):
        get.clips(wanted, tmp_path, quiet)


def test_the_command_says_source_licence_and_what_is_next(
    server: Server, line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.contents["train.csv"] = CONTENT
    table = line.folder / "table.yaml"
    entry = f"{{path: train.csv, url: '{server.url('train.csv')}', licence: MIT, source: a test}}"
    table.write_text(f"cremad: {{then: 'look at {{folder}}', files: [{entry}]}}")
    monkeypatch.setattr(get, "TABLE", table)
    (line.folder / "data").mkdir()
    result = line("data", "get", "cremad", "--data-root", "data")
    assert result.status == 0, result.err
    assert "train.csv: a test; MIT" in result.err
    assert "train.csv: downloaded, no checksum is published; that of this file is kept" in result.err
    assert result.out == "'cremad' is in data/cremad; next: look at data/cremad\n"
    assert "here already" in line("data", "get", "cremad", "--data-root", "data").err
    server.contents.clear()
    (line.folder / "data" / "cremad" / "train.csv").unlink()
    failed = line("data", "get", "cremad", "--data-root", "data")
    assert (failed.status, failed.err.count("\n")) == (1, 2)
    assert "train.csv cannot be downloaded (status 404 Not Found)" in failed.err


@pytest.mark.bad_input
def test_what_cannot_be_downloaded_says_where_it_is(line: CommandLine) -> None:
    said = line.refused("data", "get", "mosei")
    assert "agmbench data status mosei says where to get it. Known: avmnist, cremad, kinetics-sound" in said


def test_every_download_is_of_a_data_set_and_says_its_licence() -> None:
    for name, wanted in get.known().items():
        assert name in builtin().names("dataset")
        for file in wanted.files:
            assert file.url.startswith("https://")
            assert file.licence
            assert file.source
            assert file.checked or not (file.sha256 or file.md5)


def test_the_official_lists_and_recordings_have_the_checksums_of_the_table() -> None:
    shared = Path(__file__).parents[2] / "shared" / "data"
    if not shared.is_dir():
        pytest.skip("the official lists are not here")
    copies = {"cremad/train.csv": "cremad/ogm_train.csv", "cremad/test.csv": "cremad/ogm_test.csv"}
    copies |= {f"kinetics-sound/{name}": f"kinetics_sound/{name}" for name in ("my_train.txt", "my_test.txt")}
    for name, wanted in get.known().items():
        for file in wanted.files:
            if (copy := copies.pop(f"{name}/{file.path}", None)) is not None:
                assert hashlib.sha256((shared / copy).read_bytes()).hexdigest() == file.sha256
            if file.unpack:
                get._check_contents(shared / "fsdd" / "recordings", file.unpack)
    assert not copies


def test_status_names_get_and_prepare(line: CommandLine) -> None:
    (line.folder / "none").mkdir()
    out = line("data", "status", "avmnist", "mosei", "--data-root", "none").out
    assert "  download: agmbench data get avmnist\n" in out
    assert "'agmbench data prepare avmnist --from DIR'" in out
    assert "data get mosei" not in out
