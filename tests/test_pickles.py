"""Untrusted pickles: plain data are read as they were written; a forged or broken pickle gives one line, and the process survives."""

import json
import pickle
import subprocess
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from conftest import PATIENCE, CommandLine

from agmbench.contracts import Unsuitable
from agmbench.datasets.ave import AVE
from agmbench.datasets.mosei import MOSEI
from agmbench.datasets.untrusted import load_pickle
from agmbench.datasets.urfunny import URFunny

CASES = Path(__file__).parents[2] / "shared" / "cases"
SENTI = "mosei_senti_data.pkl"  # the file of the first layout that is a single pickle


# what is read


def same(a: Any, b: Any) -> bool:
    if isinstance(b, np.ndarray | np.generic):
        a = a.astype(a.dtype.newbyteorder("="))
        return (
            a.dtype == b.dtype.newbyteorder("=")
            and a.shape == b.shape
            and all(map(same, a.ravel().tolist(), b.ravel().tolist()))
        )
    if isinstance(b, dict):
        return isinstance(a, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in b)
    if isinstance(b, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


CONTENTS: dict[str, Any] = {
    "numbers": [0, 255, 256, 65535, 65536, -1, -(2**31), 2**40, -(2**63), 2**64 - 1, 0.5, -np.inf, True, False, None, 2 - 1j],
    "text": ["", "a", "é\n'\"\\", "x" * 300, "\U0001f600", b"", b"\x00\xff", b"y" * 300, bytearray(b"z")],
    "containers": {(1, "a"): {1, 2}, b"k": frozenset({"x"}), 3: ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [[], {}])},
    "dictionaries": [OrderedDict(b=1, a=2), defaultdict(list, {1: [2]})],
    "types": [np.arange(12).astype(dtype).reshape(3, 4) for dtype in ("?", "i1", ">i2", "<u4", "i8", "f2", ">f4", "f8", "c16")],
    "words": [np.array([["a", "bcé"]]), np.array([b"x", b"yz"]), np.array(["ab"], dtype=">U3")],
    "orders": [np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1), np.arange(12).reshape(3, 4).T, np.arange(9)[::2]],
    "shapes": [np.array(3.5), np.zeros((0, 80), np.float32), np.arange(2000.0), np.zeros((2, 0, 3))],
    "scalars": [np.float64(3), np.int8(-1), np.bool_(True), np.str_("ab"), np.bytes_(b"c"), np.float32(1)],
    "objects": [np.array(["x", b"y", None, 3], dtype=object), np.array([["x"], [np.arange(2), 1]], dtype=object)],
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", CONTENTS)
def test_data_are_read_as_they_were_written(tmp_path: Path, name: str, protocol: int) -> None:
    (tmp_path / "x.p").write_bytes(pickle.dumps(CONTENTS[name], protocol))
    assert same(load_pickle(tmp_path / "x.p"), CONTENTS[name])


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_both_names_of_numpys_core_are_known(tmp_path: Path, core: bytes) -> None:
    for protocol, name in ((4, b".multiarray"), (5, b".numeric")):
        written = pickle.dumps(np.arange(3.0), protocol)
        before = next(known + name for known in (b"numpy._core", b"numpy.core") if known + name in written)
        after = core + name
        framed = written.replace(bytes([len(before)]) + before, bytes([len(after)]) + after)
        (tmp_path / "x.p").write_bytes(framed)
        assert load_pickle(tmp_path / "x.p").tolist() == [0, 1, 2]


PYTHON_2 = (  # numpy.arange(3.0), as Python 2 wrote it
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x03\x85cnumpy\ndtype\nU\x02f8"
    b"K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x18" + np.arange(3.0).tobytes() + b"tb."
)
PYTHON_2_TEXT = b"(dp0\nS'caf\\xe9'\np1\n(lp2\nI1\naL12L\naI01\nas."


def test_pickles_of_python_2_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.p").write_bytes(PYTHON_2)
    assert same(load_pickle(tmp_path / "x.p"), np.arange(3.0))
    (tmp_path / "x.p").write_bytes(PYTHON_2_TEXT)
    assert load_pickle(tmp_path / "x.p") == {"café": [1, 12, True]}


def test_what_is_shared_stays_shared_and_what_is_read_can_be_written_to(tmp_path: Path) -> None:
    array, row = np.arange(2000.0), ["a"]
    (tmp_path / "x.p").write_bytes(pickle.dumps([array, array, row, row]))
    first, second, one, other = load_pickle(tmp_path / "x.p")
    assert first is second
    assert one is other
    first[0] = 7


# what is refused


def text(word: str) -> bytes:
    return b"X" + len(word).to_bytes(4, "little") + word.encode()


def name(module: str, attribute: str) -> bytes:
    return b"c" + f"{module}\n{attribute}\n".encode()


def dtype(code: str, state: bytes = b"") -> bytes:
    return name("numpy", "dtype") + text(code) + b"\x89\x88\x87R" + state


def state(order: str = "|", fields: bytes = b"NNN", size: int = -1, flags: int = 0) -> bytes:
    sizes = b"J" + size.to_bytes(4, "little", signed=True) + b"J\xff\xff\xff\xff"
    return b"(K\x03" + text(order) + fields + sizes + b"K" + bytes([flags]) + b"tb"


def array(shape: bytes, type_: bytes, raw: bytes) -> bytes:
    blank = name("numpy._core.multiarray", "_reconstruct") + name("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
    return blank + b"(K\x01" + shape + type_ + b"\x89" + raw + b"tb"


def number(n: int) -> bytes:
    return b"\x8a\x09" + n.to_bytes(9, "little", signed=True)


POINTERS = b"C\x20" + b"A" * 32
OBJECTS = dtype("O8", state(flags=63))
FIELDS = state(fields=b"N(" + text("a") + b"t}" + text("a") + dtype("O8") + b"K\x00\x86s", size=8, flags=63)


def laughs(levels: int) -> bytes:
    """A list that contains another list ten times, and so on for several levels; each list is written only once."""
    made = b"](" + b"K\x01" * 10 + b"eq\x00"
    for level in range(levels):
        made += b"](" + (b"h" + bytes([level])) * 10 + b"eq" + bytes([level + 1])
    return made


def nested(levels: int) -> bytes:
    """An array of objects within another, for many levels. Numpy would free them recursively."""
    known = (name("numpy._core.multiarray", "_reconstruct"), name("numpy", "ndarray"), OBJECTS)
    begin = b"".join(what + b"q" + bytes([place]) + b"0" for place, what in enumerate(known))
    return begin + b"h\x00h\x01K\x00\x85C\x01b\x87R(K\x01K\x01\x85h\x02\x89]" * levels + b"N" + b"atb" * levels


FORGED: dict[str, bytes] = {
    "an array over bytes": name("numpy", "ndarray") + b"K\x04\x85" + OBJECTS + POINTERS + b"\x87R",
    "objects of bytes": array(b"K\x04\x85", OBJECTS, POINTERS),
    "objects of too few": array(b"K\x04\x85", OBJECTS, b"](K\x01K\x02e"),
    "a scalar of a pointer": name("numpy._core.multiarray", "scalar") + OBJECTS + b"C\x08AAAAAAAA\x86R",
    "a buffer of pointers": name("numpy._core.numeric", "_frombuffer") + b"(" + POINTERS + OBJECTS + b"K\x04\x85" + text("C") + b"tR",
    "fields of pointers": array(b"K\x04\x85", dtype("V8", FIELDS), POINTERS),
    "numbers with fields": array(b"K\x04\x85", dtype("f8", FIELDS), POINTERS),
    "numbers with flags of objects": array(b"K\x04\x85", dtype("f4", state(flags=63)), POINTERS),
    "text of another size": array(b"K\x01\x85", dtype("U8", state(size=2**31 - 1)), POINTERS),
    "letters that there are not": array(b"K\x08\x85", dtype("U1"), b"C\x20" + b"\xff" * 32),
    "an array of dates": array(b"K\x04\x85", dtype("M8"), POINTERS),
    "too few bytes": array(b"K\x05\x85", dtype("f8"), POINTERS),
    "six gigabytes of zeros": name("builtins", "bytearray") + number(6 << 30) + b"\x85R",
    "six gigabytes of bytes": name("builtins", "bytes") + number(6 << 30) + b"\x85R",
    "a length of six gigabytes": b"\x96" + (6 << 30).to_bytes(8, "little"),
    "bytes of six gigabytes": b"\x8e" + (6 << 30).to_bytes(8, "little"),
    "an array of no width and great length": array(number(2**40) + b"K\x00\x86", dtype("f8"), b"C\x00"),
    "a type of great width": array(b"K\x00\x85", dtype("U2147483647"), b"C\x00"),
    "a shape of a hundred thousand": array(b"(" + b"K\x01" * 100_000 + b"t", dtype("b1"), b"C\x01a"),
    "a negative shape": array(b"J\xff\xff\xff\xff\x85", dtype("f8"), b"C\x00"),
    "lists in lists, written once": laughs(9),
    "an array a hundred thousand times": array(b"M\xe8\x03\x85", dtype("f8"), b"B" + (8000).to_bytes(4, "little") + bytes(8000))
    + b"q\x000](" + b"h\x00" * 100_000 + b"e",
    "text a hundred thousand times": text("x" * 60_000) + b"q\x000](" + b"h\x00" * 100_000 + b"e",
    "a list in itself": b"]q\x00h\x00a",
    "an array in itself": array(b"K\x01\x85", OBJECTS, b"]h\x00a").replace(b"\x87R(", b"\x87Rq\x00(", 1),
    "arrays in arrays": nested(100_000),
    "a deep key": b"})" + b"\x85" * 1_000_000 + b"K\x01s",
    "a key that doubles": b"}K\x01" + b"2\x86" * 60 + b"K\x01s",
    "a deep set": b"\x8f()" + b"\x85" * 1_000_000 + b"\x90",
    "a number without end": b"\x8b" + (10**6).to_bytes(4, "little") + b"\x7f" * 10**6,
    "a package of numpy": name("numpy.f2py.__main__", "main") + b")R",
    "what ends the process": name("builtins", "exit") + b")R",
    "what ends the process at once": name("os", "_exit") + b"K\x00\x85R",
    "an attribute of a name": name("numpy", "ndarray.__reduce__") + b")R",
    "a codec": name("_codecs", "encode") + text("x") + text("zlib") + b"\x86R",
    "an object": name("collections", "OrderedDict") + b")\x81",
    "an old object": b"(icollections\nOrderedDict\n",
    "an extension": b"\x82\x01",
    "a thing outside": b"Pthere\n",
    "attributes of a function": name("numpy", "dtype") + b"N}" + text("__defaults__") + b"Ns\x86b",
    "nothing": b"",
    "no end": b"(((",
    "a memo that is not there": b"h\x07",
    "an odd dictionary": b"(K\x01d",
}  # fmt: skip


IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from agmbench.contracts import Unsuitable
from agmbench.datasets.untrusted import load_pickle

taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (512 << 20),) * 2)
"""
READ_EACH = (
    IN_LITTLE_MEMORY
    + """
for path in sys.argv[1:]:
    try:
        print("read", type(load_pickle(Path(path))).__name__, flush=True)
    except Unsuitable as error:
        print(error, flush=True)
"""
)


def in_a_process(code: str, *words: str) -> list[str]:
    """The lines that a process prints which may take half a gigabyte. Fails unless it ends with status 0."""
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, (done.returncode, done.stdout[-300:], done.stderr[-2000:])
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The message about each forged pickle; all are read in one process."""
    folder = tmp_path_factory.mktemp("forged")
    paths = [folder / f"{number}.p" for number in range(len(FORGED))]
    for path, content in zip(paths, FORGED.values(), strict=True):
        path.write_bytes(b"\x80\x04" + content + b"." if content else b"")
    return dict(zip(FORGED, in_a_process(READ_EACH, *map(str, paths)), strict=True))


@pytest.mark.parametrize("name", FORGED)
def test_what_is_forged_is_refused_in_one_line(told: dict[str, str], name: str) -> None:
    assert ".p cannot be read as a pickle: " in told[name]
    assert len(told[name]) < 400


def test_a_place_of_a_memo_takes_no_memory_for_those_before_it(tmp_path: Path) -> None:
    (tmp_path / "x.p").write_bytes(b"\x80\x04N" + b"r\xff\xff\xff\xff" + b".")
    assert in_a_process(READ_EACH, str(tmp_path / "x.p")) == ["read NoneType"]


def test_anything_that_reading_raises_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.p").write_bytes(pickle.dumps([1]))
    for raised in (MemoryError(), RecursionError("too\ndeep"), SystemExit(3)):

        def read(file: Any, size: int, raised: BaseException = raised) -> None:
            raise raised

        monkeypatch.setattr("agmbench.datasets.pickles.read", read)
        with pytest.raises(Unsuitable, match=r"x\.p cannot be read as a pickle: .+"):
            load_pickle(tmp_path / "x.p")


@pytest.mark.parametrize("command", [("data", "verify", "mosei"), ("run", "-d", "mosei", "--dry-run")])
@pytest.mark.parametrize("forged", ["an array over bytes", "six gigabytes of zeros"])
def test_a_pack_that_is_forged_ends_no_command_by_a_signal(line: CommandLine, command: tuple[str, ...], forged: str) -> None:
    (line.folder / "data").mkdir()
    (line.folder / "data" / SENTI).write_bytes(b"\x80\x04}" + text("train") + FORGED[forged] + b"s.")
    result = line.finish(*command, env={"AGMBENCH_DATA": str(line.folder / "data")})
    assert result.status == 2, result
    assert result.err.startswith("error: dataset/mosei: ")
    assert f"{SENTI} cannot be read as a pickle: " in result.err
    assert result.err.count("\n") == 1


@pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases, which a user does not have")
def test_the_cases_are_refused() -> None:
    paths = [CASES / "forged_objects.p", CASES / "six_gigabytes.p"]
    for path, said in zip(paths, in_a_process(READ_EACH, *map(str, paths)), strict=True):
        assert said.startswith(f"{path} cannot be read as a pickle: ")


# mutations of packs in the real layouts


def small(value: Any) -> Any:
    """A smaller version of a pack's content, with the same structure."""
    if isinstance(value, np.ndarray):
        return value[tuple(slice(3) for _ in value.shape)].copy()
    if isinstance(value, dict):
        return {key: small(part) for key, part in [*value.items()][:8]}
    return [small(part) for part in value[:3]] if isinstance(value, list) else value


def packs(root: Path) -> Iterator[bytes]:
    """The pickles of every layout that has some, in every protocol of pickle."""
    for kind in (AVE, MOSEI, URFunny):
        for layout in kind.layouts:
            folder = root / kind.name / layout.name
            folder.mkdir(parents=True)
            layout.write_sample(folder)
            for path in sorted({*folder.rglob("*.p"), *folder.rglob("*.pkl")})[:9]:
                content = small(pickle.loads(path.read_bytes()))
                yield from {pickle.dumps(content, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)}


CODES = b"(.012FIJKLMNPQRSTUVXabcdeghijlopqrstu)}]" + bytes(range(0x80, 0x99))


def mutated(draw: Random, pack: bytes, other: bytes) -> bytes:
    """A pack with one to four random changes: of a byte, an instruction or a length, or a piece repeated, removed or taken from another."""
    content = bytearray(pack)
    for _ in range(draw.randint(1, 4)):
        place, length = draw.randrange(len(content) + 1), draw.choice((1, 2, 4, 8, draw.randint(1, 200)))
        piece = content[place : place + length]
        start = draw.randrange(len(other))
        extreme = draw.choice((0, 255, 2**31 - 1, 2**31, 2**32 - 1, 6 << 30, 2**63)).to_bytes(8, "little")
        content[place : place + draw.choice((0, length))] = draw.choice(
            (
                bytes([draw.randrange(256)]),
                bytes([draw.choice(CODES)]),
                bytes([draw.choice(b"2hqj"), draw.randrange(12)]) * draw.randint(1, 50),
                extreme[: draw.choice((1, 4, 8))],
                piece * draw.randint(2, 60),
                b"",
                other[start : start + length],
            )
        )
    return bytes(content)


MUTATE = (
    IN_LITTLE_MEMORY
    + """
import json, os, pickle
from random import Random
sys.path.insert(0, {tests!r})
from test_pickles import mutated
from agmbench.datasets.mosei import UMONS
from agmbench.datasets.urfunny import Official

root, count = Path(sys.argv[1]), int(sys.argv[2])
packs = pickle.loads((root / "packs").read_bytes())
layouts = [(UMONS(), root / "umons", dict(kind="binary", length=60)), (Official(), root / "official", dict(length=50, context=True))]
draw, found = Random(0), {{"read": 0, "refused": 0, "opened": 0}}
path = root / "mutated.p"
for number in range(count):
    content = mutated(draw, draw.choice(packs), draw.choice(packs))
    path.write_bytes(content)  # where the process ends, it is kept
    try:
        load_pickle(path)
        found["read"] += 1
    except Unsuitable as error:
        assert str(error).startswith(f"{{path}} cannot be read as a pickle: "), error
        assert "\\n" not in str(error)
        found["refused"] += 1
    if number % 20 == 0:
        layout, folder, options = draw.choice(layouts)
        changed = draw.choice(sorted(folder.iterdir()))
        kept = changed.read_bytes()
        changed.write_bytes(mutated(draw, kept, draw.choice(packs)))
        try:
            layout.read(folder, protocol="agmbench", **options)
        except Exception:  # one line of the command line, whatever it is
            pass
        changed.write_bytes(kept)
        found["opened"] += 1
print(json.dumps(found))
"""
)


@pytest.mark.parametrize("count", [400, pytest.param(20_000, marks=pytest.mark.long)])
def test_no_mutation_of_a_pack_ends_the_process(tmp_path: Path, count: int) -> None:
    (tmp_path / "packs").write_bytes(pickle.dumps([*packs(tmp_path / "layouts")]))
    (tmp_path / "umons").symlink_to(tmp_path / "layouts" / "mosei" / "umons")
    (tmp_path / "official").symlink_to(tmp_path / "layouts" / "urfunny" / "official")
    (said,) = in_a_process(MUTATE.format(tests=str(Path(__file__).parent)), str(tmp_path), str(count))
    found = json.loads(said)
    assert found["read"] + found["refused"] == count
    assert found["read"] > count / 100
    assert found["refused"] > count / 10
