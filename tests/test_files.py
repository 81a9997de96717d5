"""Shared code of data sets on disk: safe reading of untrusted files, recognition of layouts, and complete prepared folders or none."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from agmbench.contracts import Tokens, Unsuitable
from agmbench.datasets import prepared
from agmbench.datasets.arrays import check_labels, check_lengths, take
from agmbench.datasets.checksums import checksum, fingerprint
from agmbench.datasets.files import Held, Layout, NotHere, folder, found
from agmbench.datasets.stored import Stored, StoredSplit
from agmbench.datasets.untrusted import h5_file, load_npy, load_pickle, open_h5


def one_line(error: pytest.ExceptionInfo[Unsuitable]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# pickles


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch stolen",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_arrays_and_containers_are_read(tmp_path: Path, protocol: int) -> None:
    content = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "list": [1, 2.5, "text", b"bytes", None, True],
        "objects": np.array([["x"], [np.arange(2), 1]], dtype=object),
        "scalar": np.float64(3),
        "ordered": OrderedDict(b=1),
        "set": {1, 2},
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol))
    back = load_pickle(tmp_path / "x.pkl")
    np.testing.assert_array_equal(back["a"], content["a"])
    assert back["list"] == content["list"]
    assert back["ordered"] == content["ordered"]
    assert back["scalar"] == 3
    assert back["set"] == {1, 2}


@pytest.mark.parametrize(
    "thing",
    [Evil(), print, Path("x"), re.compile("x"), subprocess.Popen, [1, {"deep": [eval]}]],
    ids=lambda t: type(t).__name__,
)
def test_a_pickle_that_asks_for_more_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thing: object
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.pkl").write_bytes(pickle.dumps(thing))
    with pytest.raises(Unsuitable, match="only numpy arrays and builtin containers are read") as error:
        load_pickle(tmp_path / "x.pkl")
    assert "x.pkl cannot be read as a pickle" in one_line(error)
    assert not Path("stolen").exists()


def test_a_pickle_that_reaches_through_numpy_is_refused(tmp_path: Path) -> None:
    # numpy.core.multiarray._reconstruct is allowed, but not dotted names that reach through a module
    for module, name in (("numpy", "os.system"), ("numpy.testing._private.utils", "runstring"), ("builtins", "getattr")):
        (tmp_path / "x.pkl").write_bytes(
            b"\x80\x04\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93."
        )
        with pytest.raises(Unsuitable, match="only numpy arrays"):
            load_pickle(tmp_path / "x.pkl")


def test_broken_and_missing_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "cut.pkl").write_bytes(pickle.dumps({"a": np.zeros(1000)})[:500])
    np.save(tmp_path / "whole.npy", np.zeros((4, 5)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-9])
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 50)
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file["other"] = np.zeros(3)
    for call, said in (
        (lambda: load_pickle(tmp_path / "cut.pkl"), "cannot be read as a pickle: "),
        (lambda: load_pickle(tmp_path / "none.pkl"), "none.pkl is missing"),
        (lambda: load_npy(tmp_path / "cut.npy"), "cannot be read as an array: "),
        (lambda: load_npy(tmp_path / "none.npy"), "none.npy is missing"),
        (lambda: load_npy(tmp_path / "whole.npy", (None, 7)), "whole.npy has the shape [4, 5]; expected [N, 7]"),
        (lambda: open_h5(tmp_path / "cut.h5", "a"), "cannot be read as HDF5: "),
        (lambda: open_h5(tmp_path / "none.h5", "a"), "none.h5 is missing"),
        (lambda: open_h5(tmp_path / "whole.h5", "mine"), "has no key 'mine'; it has other"),
        (lambda: open_h5(tmp_path / "whole.h5", "other", (None, 2)), "'other' has the shape [3]; expected [N, 2]"),
        (lambda: check_lengths({"audio": 3, "labels": 4}), "lengths disagree: audio has 3, labels has 4"),
        (lambda: check_labels("labels.npy", np.array([0, 9, 3]), 5), "labels.npy has the label 9; expected 0 to 4"),
    ):
        with pytest.raises(Unsuitable) as error:
            call()
        assert said in one_line(error)


@pytest.mark.parametrize("what", ["pipe", "device", "folder"])
def test_only_a_regular_file_is_opened(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x.npy"
    {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda path: os.symlink("/dev/zero", path)}[what](path)
    reads: list[Callable[[Path], object]] = [load_pickle, load_npy, h5_file, checksum]
    for read in reads:
        with pytest.raises(Unsuitable) as error:
            read(path)
        assert one_line(error) == f"{path} cannot be read: it is a {what}; expected a file"


def linked(path: Path, other: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = h5py.ExternalLink(other, "x")


def linked_below(path: Path, other: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = h5py.SoftLink("/far/away")
        file.create_group("far")["away"] = h5py.ExternalLink(other, "x")


def stored_outside(path: Path, other: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (4,), "f8", external=[(str(other), 0, 32)])


def put_together(path: Path, other: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource(str(other), "x", (4,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("x", layout)


@pytest.mark.parametrize("write", [linked, linked_below, stored_outside, put_together])
@pytest.mark.parametrize("inside", [True, False])
def test_hdf5_that_leads_to_another_file_is_refused(tmp_path: Path, write: Callable[[Path, Path], None], inside: bool) -> None:
    """Numbers in another file would not enter the fingerprint, wherever that file is."""
    (tmp_path / "data").mkdir()
    other = tmp_path / "data" / "other.h5" if inside else tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = np.arange(4.0)
    write(tmp_path / "data" / "x.h5", other)
    with pytest.raises(Unsuitable, match=r"x\.h5 '(x|far/away)' .*expected the data themselves$") as error:
        open_h5(tmp_path / "data" / "x.h5", "x")
    one_line(error)


def test_a_link_within_a_file_of_hdf5_is_followed_and_a_group_is_no_array(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["y"] = np.arange(4.0)
        file["x"] = h5py.SoftLink("/y")
        file["z"] = file["y"]
        file.create_group("g")
    assert open_h5(tmp_path / "x.h5", "x")[:].tolist() == open_h5(tmp_path / "x.h5", "z")[:].tolist() == [0, 1, 2, 3]
    with pytest.raises(Unsuitable, match=r"x\.h5 'g' is of type Group; expected an array"):
        open_h5(tmp_path / "x.h5", "g")


# splits


def test_rows_in_any_order_from_memory_a_map_and_hdf5(tmp_path: Path) -> None:
    values = np.arange(20, dtype=np.uint8).reshape(10, 2)
    np.save(tmp_path / "x.npy", values)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = values
    rows = np.array([7, 2, 2, 9, 0])
    for array in (values, load_npy(tmp_path / "x.npy"), open_h5(tmp_path / "x.h5", "x")):
        np.testing.assert_array_equal(take(array, rows), values[rows])


def test_a_stored_split_converts_what_it_reads_and_masks_sequences() -> None:
    values = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    lengths = np.array([3, 1, 0, 2])
    front = Stored(values, lambda x: x / 255, lengths, in_front=True)
    behind = Stored(values, lambda x: x / 255, lengths)
    split = StoredSplit({"front": front, "behind": behind}, torch.tensor([5, 6, 7]), np.array([3, 0, 1]))
    batch = split.batch(torch.tensor([2, 0]))
    assert batch.targets.tolist() == [7, 5]
    tokens, back = batch.inputs["front"], batch.inputs["behind"]
    assert isinstance(tokens, Tokens)
    assert isinstance(back, Tokens)
    torch.testing.assert_close(tokens.values, torch.from_numpy(values[[1, 3]]) / 255)
    assert tokens.mask is not None
    assert back.mask is not None
    assert tokens.mask.tolist() == [[False, False, True], [False, True, True]]
    assert back.mask.tolist() == [[True, False, False], [True, True, False]]


# the folder of a data set, and its layout


def test_the_folder_of_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGMBENCH_DATA", raising=False)
    assert folder("ave") == Path("~/.cache/agmbench/data/ave").expanduser()
    monkeypatch.setenv("AGMBENCH_DATA", str(tmp_path))
    assert folder("ave") == tmp_path
    (tmp_path / "ave").mkdir()
    assert folder("ave") == tmp_path / "ave"


class Two(Layout):
    name = "two"
    signs = ("a.npy", "clips/*.wav")

    def read(self, root: Path, **options: Any) -> Held:
        raise NotImplementedError

    def write_sample(self, root: Path) -> None:
        raise NotImplementedError


class One(Two):
    name = "one"
    signs = ("b.npy",)


def test_layouts_are_told_apart_by_what_is_there(tmp_path: Path) -> None:
    layouts = [Two(), One()]
    with pytest.raises(
        NotHere, match=r"there is no folder .*; known layouts: two, one\. 'agmbench data status x' says"
    ) as absent:
        found("x", tmp_path / "none", layouts)
    assert absent.value.layouts == ("two: a.npy, clips/*.wav", "one: b.npy")
    with pytest.raises(Unsuitable, match="there is no data in"):
        found("x", tmp_path, layouts)
    (tmp_path / "a.npy").touch()
    with pytest.raises(Unsuitable, match=r"the layout 'two' misses clips/\*\.wav \(found a\.npy\)"):
        found("x", tmp_path, layouts)
    (tmp_path / "b.npy").touch()
    assert found("x", tmp_path, layouts).name == "one"
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "1.wav").touch()
    assert found("x", tmp_path, layouts).name == "two"


def test_the_fingerprint_is_that_of_the_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for root in (one, two):
        root.mkdir()
        (root / "x").write_bytes(b"some bytes")
    same = fingerprint(one, [one / "x"], ["a"])
    assert fingerprint(two, [two / "x"], ["a"]) == same
    assert fingerprint(two, [two / "x"], ["b"]) != same
    (two / "x").write_bytes(b"some other bytes")
    assert fingerprint(two, [two / "x"], ["a"]) != same

    monkeypatch.setattr("agmbench.datasets.checksums.WHOLE", 100)
    monkeypatch.setattr("agmbench.datasets.checksums.PIECE", 10)
    large = tmp_path / "large"
    large.write_bytes(bytes(1000))
    pieces, whole = checksum(large, whole=False), checksum(large)
    for place in (3, 505, 995, 300):
        content = bytearray(1000)
        content[place] = 1
        large.write_bytes(content)
        assert (checksum(large, whole=False) == pieces) == (place == 300), "between the pieces nothing is read"
        assert checksum(large) != whole


# prepared folders


def plan(**parameters: object) -> prepared.Plan:
    arrays = {
        "train": {"x": ((20, 3), "<f4"), "targets": ((20,), "<i8")},
        "test": {"x": ((4, 3), "<f4"), "targets": ((4,), "<i8")},
    }
    return prepared.Plan("toy", parameters, {"raw": "123"}, arrays, {"classes": ["a"]})


ITEMS: list[prepared.Item] = [("train", row, row) for row in range(20)] + [("test", row, 100 + row) for row in range(4)]


def work(number: int) -> dict[str, Any]:
    return {"x": np.full(3, number, dtype=np.float32), "targets": np.int64(number)}


def tenth_is_slow(number: int) -> dict[str, Any]:
    time.sleep(600 if number == 10 else 0)  # the test kills the process meanwhile
    return work(number)


def last_is_slow(number: int) -> dict[str, Any]:
    while number == 103 and not Path(os.environ["LET_GO"]).exists():  # the test interrupts the process meanwhile
        time.sleep(0.02)
    return work(number)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def quiet(done: int, total: int) -> None:
    assert done <= total


@pytest.mark.parametrize("jobs", [1, 2])
def test_prepared_arrays_are_read_as_they_were_made(tmp_path: Path, jobs: int) -> None:
    store = prepared.Store(tmp_path, plan())
    prepared.fill(store, ITEMS, work, quiet, jobs)
    assert store.whole
    made = prepared.read(tmp_path, "toy")
    np.testing.assert_array_equal(made.array("train", "x"), np.arange(20)[:, None].repeat(3, 1))
    np.testing.assert_array_equal(made.array("test", "targets"), [100, 101, 102, 103])
    assert made.manifest["facts"] == {"classes": ["a"]}
    assert [path.name for path in tmp_path.iterdir()] == [store.final.name]
    assert all(checksum(path) == value for path, value in made.checksums.items())
    assert len(made.checksums) == 4


def test_other_parameters_make_another_folder_and_are_asked_for_by_them(tmp_path: Path) -> None:
    for frames in (1, 3):
        prepared.fill(prepared.Store(tmp_path, plan(frames=frames)), ITEMS, work, quiet, 1)
    assert len(list(tmp_path.iterdir())) == 2
    assert prepared.read(tmp_path, "toy", {"frames": 3}).manifest["parameters"] == {"frames": 3}
    with pytest.raises(
        Unsuitable, match="should have one prepared folder of 'toy' with any parameters; found prepared-"
    ) as error:
        prepared.read(tmp_path, "toy")
    one_line(error)


def test_two_processes_do_not_write_into_one_folder(tmp_path: Path) -> None:
    first, second = prepared.Store(tmp_path, plan()), prepared.Store(tmp_path, plan())
    first.open()
    with pytest.raises(Unsuitable, match="another process is preparing") as error:
        prepared.fill(second, ITEMS, work, quiet, 1)
    one_line(error)
    prepared.fill(first, ITEMS, work, quiet, 1)
    assert [path.name for path in tmp_path.iterdir()] == [first.final.name]
    assert not list(first.final.rglob("lock"))


def test_a_disk_that_is_too_small_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 20 * 3 * 4 + 20 * 8 + 4 * 3 * 4 + 4 * 8
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, needed - 1))  # type: ignore[attr-defined]
    with pytest.raises(Unsuitable, match=r"\.part needs 0\.0 GB more, and only 0\.0 GB are free there") as error:
        prepared.fill(prepared.Store(tmp_path, plan()), ITEMS, work, quiet, 1)
    one_line(error)
    assert not list(tmp_path.rglob("*.npy"))


def test_what_was_prepared_for_another_data_set_is_refused(tmp_path: Path) -> None:
    prepared.fill(prepared.Store(tmp_path, plan()), ITEMS, work, quiet, 1)
    with pytest.raises(Unsuitable, match=r"manifest\.json is of the data set 'toy'; expected 'ave'") as error:
        prepared.read(tmp_path, "ave")
    one_line(error)


class Stopped(Exception):
    pass


def test_an_interrupted_preparation_is_gone_on_with(tmp_path: Path) -> None:
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        if done == 7:
            raise Stopped

    def counted(number: int) -> dict[str, Any]:
        seen.append(number)
        return work(number)

    store = prepared.Store(tmp_path / "stopped", plan())
    with pytest.raises(Stopped):
        prepared.fill(store, ITEMS, counted, stop, 1)
    assert not store.whole
    with pytest.raises(Unsuitable, match="found none"):
        prepared.read(tmp_path / "stopped", "toy")
    prepared.fill(prepared.Store(tmp_path / "stopped", plan()), ITEMS, counted, quiet, 1)
    assert sorted(seen) == sorted(number for _, _, number in ITEMS), "an item was worked on twice"
    prepared.fill(prepared.Store(tmp_path / "whole", plan()), ITEMS, work, quiet, 1)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_files import ITEMS, plan, tenth_is_slow
from agmbench.datasets import prepared
prepared.fill(prepared.Store(Path({target!r}), plan()), ITEMS, tenth_is_slow, lambda done, total: print(done, flush=True), 1)
"""


def test_a_killed_preparation_ends_with_the_same_bytes(tmp_path: Path) -> None:
    code = KILLED.format(tests=str(Path(__file__).parent), target=str(tmp_path / "killed"))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while int(process.stdout.readline()) < 5:
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not prepared.Store(tmp_path / "killed", plan()).whole
    prepared.fill(prepared.Store(tmp_path / "killed", plan()), ITEMS, work, quiet, 1)
    prepared.fill(prepared.Store(tmp_path / "whole", plan()), ITEMS, work, quiet, 1)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


INTERRUPTED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_files import ITEMS, last_is_slow, plan
from agmbench.datasets import prepared
try:
    prepared.fill(prepared.Store(Path({target!r}), plan()), ITEMS, last_is_slow, lambda done, total: print(done, flush=True), 2)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interruption_at_the_terminal_is_told_once(tmp_path: Path) -> None:
    """The signal also reaches the worker processes, both busy and waiting ones, but only the first process reports it."""
    code = INTERRUPTED.format(tests=str(Path(__file__).parent), target=str(tmp_path / "stopped"))
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LET_GO": str(tmp_path / "let go")},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    while int(process.stdout.readline()) < len(ITEMS) - 1:
        pass
    os.killpg(process.pid, signal.SIGINT)
    (tmp_path / "let go").touch()
    out, err = process.communicate()
    assert out.endswith("interrupted\n")
    assert err == ""
    assert not prepared.Store(tmp_path / "stopped", plan()).whole
    prepared.fill(prepared.Store(tmp_path / "stopped", plan()), ITEMS, work, quiet, 2)
    prepared.fill(prepared.Store(tmp_path / "whole", plan()), ITEMS, work, quiet, 1)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


@pytest.mark.parametrize("text", ["{", "{}", "3", json.dumps({"format": 99})])
def test_a_broken_manifest_is_one_line(tmp_path: Path, text: str) -> None:
    prepared.fill(prepared.Store(tmp_path, plan()), ITEMS, work, quiet, 1)
    manifest = next(tmp_path.glob("prepared-*/manifest.json"))
    manifest.write_text(text)
    with pytest.raises(Unsuitable, match=re.escape(str(manifest))) as error:
        prepared.read(tmp_path, "toy")
    one_line(error)
