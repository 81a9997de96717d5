"""A job can be resumed on another machine: its states are in a shared folder, or are artifacts of the run if a server has the store."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, CommandLine
from mlflow import MlflowClient
from test_resume import REGISTRY, Stopped, Stopping, Watching, make
from test_train import CPU

from agmbench import execute
from agmbench.checkpoints import NEWEST, Checkpoints
from agmbench.measures import of_one_run
from agmbench.records import Record
from agmbench.trackers.mlflow import MlflowTracker

Machine = Callable[[str], MlflowTracker]


@pytest.fixture(params=["in the store", "in a shared folder"])
def machine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A function that makes trackers in separate folders on one store, which is treated as a server's."""
    monkeypatch.setattr(Checkpoints, "due", lambda self: True)
    monkeypatch.setattr(MlflowTracker, "_served", True)
    if request.param == "in a shared folder":
        (tmp_path / "shared").mkdir()
        monkeypatch.setenv("AGMBENCH_STATES", str(tmp_path / "shared"))
    monkeypatch.chdir(tmp_path)  # MLflow puts this store's artifacts below the working directory
    return lambda name: MlflowTracker(tmp_path / name, f"sqlite:///{tmp_path / 'store.db'}")


def trained(tracker: MlflowTracker, watching: Watching) -> Record:
    return execute.execute(make("agm").spec, REGISTRY, tracker, CPU, watching, of_one_run(REGISTRY))


def stopped(tracker: MlflowTracker, after: int) -> None:
    with pytest.raises(Stopped):
        trained(tracker, Stopping(after))


def history(tracker: MlflowTracker, record: Record) -> dict[str, list[tuple[int, float]]]:
    names = [name for name in record.metrics if not name.startswith("cost/")]
    return tracker.history(record, names)


@pytest.mark.long
def test_another_machine_goes_on_and_ends_the_same(machine: Machine, tmp_path: Path) -> None:
    one, other, watching = machine("one"), machine("other"), Watching()
    stopped(one, 1)
    stopped(one, 3)  # leaves the state after the second epoch, because a state is written before its epoch is reported
    assert make("agm").digest in other.unsettled()
    record = trained(other, watching)
    assert watching.done == 3
    assert not watching.warnings
    assert record.attempt == 3
    whole = MlflowTracker(tmp_path / "alone", f"sqlite:///{tmp_path / 'alone.db'}")
    expected = trained(whole, Watching())
    last = [record for record in other.records() if record.status == "FINISHED"]
    assert history(other, last[0])["test/accuracy"] == history(whole, expected)["test/accuracy"]
    weights = []
    for tracker, one in ((other, record), (whole, expected)):
        with tracker.artifact(one, "checkpoints/last.pt") as path:
            weights.append(torch.load(path, weights_only=True))
    for name, value in weights[1]["model"].items():
        assert torch.equal(weights[0]["model"][name], value), name


@pytest.mark.long
def test_none_is_left_when_it_is_done(machine: Machine, tmp_path: Path) -> None:
    one, other = machine("one"), machine("other")
    stopped(one, 2)
    record = trained(other, Watching())
    client = MlflowClient(other.uri)
    runs = client.search_runs([other._experiment("synthetic")])
    assert not [file for run in runs for file in client.list_artifacts(run.info.run_id) if file.path == "unfinished"]
    assert not [path for path in tmp_path.rglob("state*.pt") if tmp_path / "one" not in path.parents]
    watching = Watching()
    assert trained(one, watching).run_id == record.run_id
    assert not list(tmp_path.rglob("state*.pt")), "what is left on the first machine goes when it hears that the job is done"


@pytest.mark.long
def test_a_machine_that_has_the_newest_state_asks_for_none(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, watching = machine("one"), Watching()
    stopped(one, 2)
    monkeypatch.setattr(MlflowClient, "download_artifacts", lambda *_: pytest.fail("it has what it wants"))
    trained(one, watching)
    assert watching.done == 2


@pytest.mark.long
def test_a_state_that_is_lost_begins_the_job_anew(machine: Machine, tmp_path: Path) -> None:
    one, other, watching = machine("one"), machine("other"), Watching()
    stopped(one, 2)
    for path in tmp_path.rglob(NEWEST):
        if tmp_path / "one" not in path.parents:
            path.unlink()
    for path in tmp_path.rglob("state-before.pt"):
        path.unlink()
    assert trained(other, watching).status == "FINISHED"
    assert watching.done == 0


@pytest.mark.bad_input
def test_a_folder_for_states_that_is_not_there_is_one_line(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    job = ("run", *SMALL, "--modulator", "joint", "--no-strength")
    assert "--states nowhere: there is no such folder" in line.refused(*job, "--states", "nowhere")
    monkeypatch.setenv("AGMBENCH_STATES", "nowhere")
    assert "AGMBENCH_STATES=nowhere: there is no such folder; make it" in line.refused(*job)
    (line.folder / "locked").mkdir()
    access = os.access  # replaced below, because root may write everywhere except on a read-only file system
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked" and access(path, mode))
    monkeypatch.setenv("AGMBENCH_STATES", "locked")
    assert "AGMBENCH_STATES=locked: this folder is not writable; name another" in line.refused(*job)
    assert "--states locked: this folder is not writable" in line.refused(*job, "--states", "locked")
