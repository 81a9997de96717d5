"""The store of runs on this machine: when it is made, how it is addressed, and the messages if it cannot be used."""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from conftest import SMALL, CommandLine, files
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from agmbench.errors import AgmbenchError
from agmbench.records import Heading, Point, Stopped
from agmbench.trackers.mlflow import MlflowTracker

HEADING = Heading(
    name="a job",
    digest="d" * 16,
    cell="c" * 16,
    spec={
        "dataset": {"name": "synthetic", "params": {}},
        "fusion": {"name": "concat", "params": {}},
        "modulator": {"name": "joint", "params": {}},
        "encoders": {},
        "training": {"schedule": {}},
    },
    modalities=("m0", "m1"),
    concept=False,
    fingerprint="f",
    samples={"train": 2},
    tags={},
)
PLAIN = (*SMALL, "--modulator", "joint", "--no-strength")


def test_reading_makes_no_store_that_the_user_named(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{line.folder / 'named.db'}")
    assert "no runs in" in line.refused("compare")
    assert line("run", *PLAIN, "--dry-run").status == 0
    assert not files(line.folder)


def test_a_named_store_half_made_by_a_killed_process_is_made_anew(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{line.folder / 'named.db'}")
    monkeypatch.chdir(line.folder)  # MLflow puts this store's artifacts below the working directory
    left = line.folder / ".named.db.abcdefgh.new"
    left.mkdir()
    (left / "named.db").write_bytes(b"half a database")
    assert line("run", *PLAIN).status == 0
    assert "synthetic, fusion concat" in line("compare").out
    assert not left.exists()


@pytest.mark.parametrize("name", ["why?", "no#1", "100%20"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    line = CommandLine(tmp_path / name)
    line.folder.mkdir()
    assert line("run", *PLAIN).status == 0
    assert "synthetic, fusion concat" in line("compare").out
    assert "'joint seed 999 on synthetic concat' is done already" in line("run", *PLAIN).err
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert sorted(path.name for path in line.folder.iterdir()) == ["runs"]
    tracker = MlflowTracker(line.folder / "runs")
    (record,) = tracker.records()
    with tracker.artifact(record, "checkpoints/best.pt") as path:
        assert path.is_file()
    with sqlite3.connect(line.folder / "runs" / "mlflow.db") as store:
        assert store.execute("select count(*) from logged_models").fetchone() == (1,)


@pytest.mark.parametrize(
    "uri", ["postgresql://someone:secret%21word@127.0.0.1:1/db", "nothing://someone:secret%21word@host/db"]
)
def test_a_password_is_never_shown(tmp_path: Path, uri: str) -> None:
    tracker = MlflowTracker(tmp_path / "runs", uri)
    assert tracker.shown == uri.replace("someone:secret%21word", "***")
    with pytest.raises(AgmbenchError, match="cannot be opened") as raised:
        tracker.records()
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_store_that_cannot_be_written_is_one_short_line(line: CommandLine) -> None:
    file = line.folder / "full.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    result = line.finish("run", *PLAIN, env={"MLFLOW_TRACKING_URI": f"sqlite:///file:{file}?mode=ro&uri=true"})
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert "cannot be written" in result.err
    assert "readonly database" in result.err
    assert len(result.err) < 400


def test_comparing_takes_no_lock(line: CommandLine) -> None:
    assert line("run", *PLAIN).status == 0
    for path in (line.folder / "runs" / "locks").iterdir():
        path.unlink()
    (line.folder / "runs" / "locks").rmdir()
    before = files(line.folder)
    runs = [line.folder / "runs", *(path for path in before if path.is_dir())]
    for folder in runs:
        folder.chmod(0o555)
    try:
        result = line("compare")
    finally:
        for folder in runs:
            folder.chmod(0o755)
    assert result.status == 0, result.err
    assert files(line.folder) == before


@pytest.mark.parametrize("error", [None, ValueError("broken"), KeyboardInterrupt(), Stopped("pruned")], ids=repr)
def test_points_wait_for_one_another_and_are_there_when_the_run_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | None
) -> None:
    calls: list[int] = []
    log_batch = MlflowClient.log_batch
    clock = [1000.0]

    def counted(client: MlflowClient, run_id: str, metrics: Sequence[Metric] = (), **others: Any) -> None:
        calls.append(len(metrics))
        clock[0] += 0.1  # each call is slow, so that the store is called less often
        log_batch(client, run_id, metrics=metrics, **others)

    tracker = MlflowTracker(tmp_path)
    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with nullcontext() if error is None else pytest.raises(type(error)), tracker.start(HEADING) as run:
        calls.clear()  # removes the call that logs the parameters
        for step in range(30):
            run.log_points([Point("valid/accuracy", step / 30, step)])
        assert calls == [1]
        if error is not None:
            raise error
    assert calls == [1, 29]
    (record,) = tracker.records()
    assert tracker.history(record, ["valid/accuracy"]) == {"valid/accuracy": [(step, step / 30) for step in range(30)]}


def test_points_are_written_before_files_that_come_after_them(tmp_path: Path) -> None:
    tracker = MlflowTracker(tmp_path / "runs")
    (tmp_path / "empty").mkdir()
    with tracker.start(HEADING) as run:
        for step in range(3):
            run.log_points([Point("valid/accuracy", 0.5, step)])
        run.log_files(tmp_path / "empty")
        (record,) = tracker.records()
        assert len(tracker.history(record, ["valid/accuracy"])["valid/accuracy"]) == 3


def test_points_that_the_store_refuses_fail_the_run(tmp_path: Path) -> None:
    tracker = MlflowTracker(tmp_path)
    with pytest.raises(MlflowException, match="Invalid"), tracker.start(HEADING) as run:
        run.log_points([Point("what?*", 0.5, 0)])
    (record,) = tracker.records()
    assert record.status == "FAILED"


def test_nothing_is_left_where_temporary_files_are(line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert line("run", *SMALL, "-m", "agm").status == 0
    assert line("run", *SMALL, "-m", "agm").status == 0
    assert line("compare").status == 0
    assert list(temporary.iterdir()) == []


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        ("run", *SMALL, "--seeds", "2", "-m", "joint,agm", "--jobs", "2"),
        ("run", *SMALL, "-m", "agm", "--devices", "2", "--device", "cpu"),
        ("sweep", *SMALL, "-m", "agm", "--trials", "2", "--jobs", "2"),
        ("run", *SMALL, "--set", "training.batch_size=16", "--workers", "2"),
    ],
    ids=["suite", "devices", "sweep", "workers"],
)
def test_no_process_leaves_temporary_files(line: CommandLine, words: tuple[str, ...]) -> None:
    with TemporaryDirectory(prefix="t") as temporary:  # a short path, because names of sockets have at most 107 characters
        result = line.finish(*words, env={"TMPDIR": temporary, "OMP_NUM_THREADS": "1"})
        assert result.status == 0, result.err
        left = [path.name for path in Path(temporary).iterdir()]
    assert [name for name in left if not name.startswith("torchinductor_")] == []  # torch's own cache, one per user


@pytest.mark.long
def test_a_temporary_folder_whose_path_is_too_long_for_sockets_is_one_line(line: CommandLine, tmp_path: Path) -> None:
    temporary = tmp_path / ("t" * 100)
    temporary.mkdir()
    result = line.finish(
        "run", *SMALL, "-m", "joint,agm", "--jobs", "2", env={"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    )
    assert result.status == 2
    assert result.err == (
        f"error: {temporary} is too long a path for the sockets of processes; set TMPDIR to a shorter one, such as /tmp\n"
    )
