"""A store that others write to at the same time: locks are waited for, lost races are repeated, and a job has one run."""

import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import sqlalchemy
from conftest import PATIENCE, CommandLine
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.dbmodels.models import SqlDataset, SqlExperiment, SqlTag
from sqlalchemy.orm import Session
from test_store import HEADING, PLAIN

from agmbench import interrupts
from agmbench.errors import AgmbenchError, RunFailed
from agmbench.records import FAILED, FINISHED, KILLED, RUNNING, Point
from agmbench.trackers import patience
from agmbench.trackers.mlflow import MlflowTracker

LOCKED = MlflowException("(sqlite3.OperationalError) database is locked")


def runs(folder: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]


def failing(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, times: float) -> list[str]:
    """Let a method of MLflow's client raise an error the first `times` times. Returns a list that grows by each call."""
    calls: list[str] = []
    method = getattr(MlflowClient, name)

    def called(*given: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) <= times:
            raise error
        return method(*given, **named)

    monkeypatch.setattr(MlflowClient, name, called)
    return calls


# locks


@pytest.mark.parametrize(
    "name", ["create_run", "log_batch", "log_inputs", "set_terminated", "search_experiments", "log_artifact"]
)
def test_a_locked_store_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "a.txt").write_text("a")
    whole(MlflowTracker(tmp_path / "runs"), "b" * 16)
    calls = failing(monkeypatch, name, LOCKED, 2)
    tracker = MlflowTracker(tmp_path / "runs")
    with tracker.start(HEADING) as run:
        run.log_points([Point("valid/accuracy", 0.5, 0)])
        run.log_files(tmp_path / "file")
    assert len(calls) >= 3
    assert [run.info.status for run in runs(tmp_path / "runs")] == [FINISHED, FINISHED]


def test_a_store_that_stays_locked_is_one_line_and_the_run_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = MlflowTracker(tmp_path / "runs")
    monkeypatch.setattr(patience, "PATIENCE", 0)
    with monkeypatch.context() as locked:
        run = tracker.start(HEADING)
        failing(locked, "set_terminated", LOCKED, float("inf"))
        with pytest.raises(RunFailed, match="locked by another process") as raised, run:
            run.log_points([Point("valid/accuracy", 0.5, 0)])
        assert str(tracker.shown) in str(raised.value)
        assert "\n" not in str(raised.value)
    assert [run.info.status for run in runs(tmp_path / "runs")] == [RUNNING]
    with tracker.start(HEADING):
        pass
    assert [run.info.status for run in runs(tmp_path / "runs")] == [FINISHED]


def test_an_error_is_not_hidden_by_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = MlflowTracker(tmp_path / "runs")
    monkeypatch.setattr(patience, "PATIENCE", 0)
    run = tracker.start(HEADING)
    failing(monkeypatch, "set_terminated", LOCKED, float("inf"))
    with pytest.raises(ValueError, match="broken"), run:
        raise ValueError("broken")


def test_points_that_are_refused_at_the_end_fail_the_run(tmp_path: Path) -> None:
    tracker = MlflowTracker(tmp_path)
    run = tracker.start(HEADING)
    run._written = float("inf")  # keeps the points back until the `with` block ends
    with pytest.raises(MlflowException, match="Invalid"), run:
        run.log_points([Point("what?*", 0.5, 0)])
    (record,) = tracker.records()
    assert record.status == FAILED


@contextmanager
def locked(file: Path) -> Iterator[Callable[[], None]]:
    """Lock a SQLite file like another writer. Yields the function that releases it."""
    store = sqlite3.connect(file, isolation_level=None)
    store.execute("BEGIN EXCLUSIVE")
    try:
        yield store.rollback
    finally:
        store.close()


@pytest.mark.long
def test_a_store_that_is_locked_for_longer_than_mlflow_waits_fails_nothing(line: CommandLine) -> None:
    assert line("run", *PLAIN).status == 0
    for words in (("compare",), ("run", *PLAIN, "--seed", "1")):
        with locked(line.folder / "runs" / "mlflow.db") as let_go:
            process = line.process(*words)
            with pytest.raises(subprocess.TimeoutExpired):
                process.communicate(timeout=45)
            let_go()
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
    assert {run.info.status for run in runs(line.folder / "runs")} == {FINISHED}


# races

Meanwhile = Callable[[type, Callable[[], object]], list[str]]


@pytest.fixture
def meanwhile() -> Iterator[Meanwhile]:
    """A function that makes another process write between a look that finds nothing and the insertion that follows."""
    listeners: list[Callable[..., None]] = []

    def meanwhile(table: type, other: Callable[[], object]) -> list[str]:
        happened: list[str] = []

        def before_flush(session: Session, *_: object) -> None:
            if not happened and any(isinstance(row, table) for row in session.new):
                happened.append(table.__name__)
                thread = Thread(target=other)
                thread.start()
                thread.join()

        sqlalchemy.event.listen(Session, "before_flush", before_flush)
        listeners.append(before_flush)
        return happened

    yield meanwhile
    for listener in listeners:
        sqlalchemy.event.remove(Session, "before_flush", listener)


def whole(tracker: MlflowTracker, digest: str) -> None:
    with tracker.start(replace(HEADING, digest=digest)):
        pass


@pytest.mark.parametrize("table", [SqlExperiment, SqlDataset], ids=lambda table: table.__name__)
def test_first_jobs_of_a_data_set_at_once(tmp_path: Path, meanwhile: Meanwhile, table: type) -> None:
    tracker = MlflowTracker(tmp_path)
    tracker._client.search_experiments()
    happened = meanwhile(table, lambda: whole(MlflowTracker(tmp_path), "b" * 16))
    whole(tracker, "a" * 16)
    assert happened
    assert [run.info.status for run in runs(tmp_path)] == [FINISHED, FINISHED]
    assert len({run.info.experiment_id for run in runs(tmp_path)}) == 1
    assert all(len(run.inputs.dataset_inputs) == 1 for run in runs(tmp_path))


def test_two_commands_write_to_one_group_at_once(tmp_path: Path, meanwhile: Meanwhile) -> None:
    tracker = MlflowTracker(tmp_path)
    tags = {"agmbench.suite": "s"}
    with tracker.group("synthetic", "suite s", tags):
        pass
    happened = meanwhile(SqlTag, lambda: MlflowTracker(tmp_path).group("synthetic", "suite s", tags))
    with tracker.group("synthetic", "suite s", tags):
        pass
    assert happened
    assert [run.info.status for run in runs(tmp_path)] == [FINISHED]


def test_a_call_that_always_collides_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.name")
    calls = failing(monkeypatch, "log_inputs", error, float("inf"))
    with pytest.raises(AgmbenchError, match="UNIQUE constraint failed"):
        MlflowTracker(tmp_path).start(HEADING)
    assert len(calls) == patience.RACES + 1


# one run per job


@pytest.fixture
def listening() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    interrupts.listen()
    yield
    interrupts.listen()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["log_batch", "log_inputs"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_job_that_was_stopped_before_its_run_was_described_has_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: type[BaseException]
) -> None:
    tracker = MlflowTracker(tmp_path)
    with monkeypatch.context() as stopped:
        failing(stopped, name, error(), 1)
        with pytest.raises(error):
            tracker.start(HEADING)
    assert [run.info.status for run in runs(tmp_path)] == [KILLED]
    whole(tracker, HEADING.digest)
    (run,) = runs(tmp_path)
    assert run.info.status == FINISHED
    assert run.data.params["modulator"] == "joint"
    assert len(run.inputs.dataset_inputs) == 1


def callback_of_c_code() -> None:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt as error:
        raise SystemError("returned a result with an exception set") from error


def test_an_interrupt_that_leaves_as_another_error_is_one(tmp_path: Path, listening: None) -> None:
    tracker = MlflowTracker(tmp_path)
    with pytest.raises(SystemError), tracker.start(HEADING):
        callback_of_c_code()
    assert [run.info.status for run in runs(tmp_path)] == [KILLED]
    interrupts.listen()
    whole(tracker, HEADING.digest)
    assert [run.info.status for run in runs(tmp_path)] == [FINISHED]
