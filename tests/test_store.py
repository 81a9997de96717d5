"""The store of runs on this machine: when it is made, how it is addressed, and what is said when it cannot be used."""

import sqlite3
from pathlib import Path

import pytest
from conftest import SMALL, CommandLine, files
from mlflow import MlflowClient

from agmbench.errors import AgmbenchError
from agmbench.trackers.mlflow import MlflowTracker

PLAIN = (*SMALL, "--modulator", "joint", "--no-strength")


def test_reading_makes_no_store_that_the_user_named(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{line.folder / 'named.db'}")
    assert "no runs in" in line.refused("compare")
    assert line("run", *PLAIN, "--dry-run").status == 0
    assert not files(line.folder)


def test_a_named_store_half_made_by_a_killed_process_is_made_anew(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{line.folder / 'named.db'}")
    monkeypatch.chdir(line.folder)  # MLflow puts this store's artifacts below the working directory
    (line.folder / "named.db.new").write_bytes(b"half a database")
    assert line("run", *PLAIN).status == 0
    assert "synthetic, fusion concat" in line("compare").out
    assert not (line.folder / "named.db.new").exists()


@pytest.mark.parametrize("name", ["why?", "no#1", "100%20"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    line = CommandLine(tmp_path / name)
    line.folder.mkdir()
    assert line("run", *PLAIN).status == 0
    assert "synthetic, fusion concat" in line("compare").out
    assert "'synthetic concat joint seed 999' is done already" in line("run", *PLAIN).err
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert sorted(path.name for path in line.folder.iterdir()) == ["runs"]
    tracker = MlflowTracker(line.folder / "runs")
    (record,) = tracker.records()
    assert tracker.artifact(record, "checkpoints/best.pt").is_file()
    with sqlite3.connect(line.folder / "runs" / "mlflow.db") as store:
        assert store.execute("select count(*) from logged_models").fetchone() == (1,)


@pytest.mark.parametrize(
    "uri", ["postgresql://someone:secret%21word@127.0.0.1:1/db", "nothing://someone:secret%21word@host/db"]
)
def test_a_password_is_never_shown(tmp_path: Path, uri: str) -> None:
    tracker = MlflowTracker(tmp_path / "runs", uri)
    assert tracker.shown == uri.replace("secret%21word", "***")
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
