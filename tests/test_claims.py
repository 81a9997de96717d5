"""Claims in the store: a job belongs to one process at a time, whatever machine it runs on."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
from conftest import PATIENCE
from mlflow import MlflowClient
from mlflow.entities import ViewType
from test_remote import Server
from test_store import HEADING

from agmbench.errors import AgmbenchError, Taken
from agmbench.records import FAILED, FINISHED, RUNNING, Point
from agmbench.trackers import claims
from agmbench.trackers.claims import Claim, ClaimState, Owner, Place, Watch, left_behind, me, owner
from agmbench.trackers.mlflow import MlflowTracker
from agmbench.trackers.places import Named, OnRun


class Shelf:
    """A place for claims that keeps them in this process."""

    def __init__(self) -> None:
        self.owners: list[Owner] = []
        self.beats: dict[int, str] = {}

    def state(self) -> ClaimState:
        number = len(self.owners)
        beat = self.beats.get(number, "")
        return ClaimState(number, self.owners[-1] if self.owners else None, beat, not number or beat == "given back")

    def take(self, number: int, owner: Owner) -> bool:
        if number != len(self.owners) + 1:
            return False
        self.owners.append(owner)
        return True

    def beat(self, number: int, text: str) -> None:
        self.beats[number] = text

    def give_back(self, number: int) -> None:
        self.beats[number] = "given back"


def refusing(state: ClaimState) -> None:
    raise Taken(state.description)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """A clock that a test moves by hand; each `sleep` moves it as well."""
    at = [1000.0]

    def on(seconds: float) -> None:
        at[0] += seconds

    monkeypatch.setattr(claims, "now", lambda: at[0])
    monkeypatch.setattr(claims.time, "sleep", on)
    return on


def elsewhere(**known: object) -> Owner:
    return replace(me(), **{"machine": "another", "token": "t", "host": "node7", "pid": 12, **known})


def test_one_at_a_time_and_the_next_when_it_is_given_back() -> None:
    shelf = Shelf()
    with Claim(shelf, refusing) as first:
        with pytest.raises(Taken, match=f"process {os.getpid()} on .*; it has given no heartbeat yet"), Claim(shelf, refusing):
            pass
        first.check()
    with Claim(shelf, refusing) as second:
        assert (first.number, second.number) == (1, 2)


def test_a_silent_owner_elsewhere_is_robbed_after_the_time_that_it_said(clock: Callable[[float], None]) -> None:
    shelf, told = Shelf(), list[str]()
    shelf.take(1, elsewhere(stale=30.0))
    shelf.beat(1, "4 at noon")
    begun = claims.now()
    with Claim(shelf, lambda state: told.append(state.description)) as claim:
        assert claim.number == 2
    assert 30 <= claims.now() - begun < 33
    assert told == ["process 12 on node7; its last heartbeat is number 4 at noon"]


def test_one_that_is_heard_is_waited_for(clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    shelf.take(1, elsewhere(stale=30.0))
    looks = [0]
    state = shelf.state

    def beating() -> ClaimState:
        looks[0] += 1
        if looks[0] % 20 == 0:
            shelf.beat(1, f"{looks[0]}")
        if looks[0] == 200:
            shelf.give_back(1)
        return state()

    monkeypatch.setattr(shelf, "state", beating)
    with Claim(shelf, lambda _: None):
        assert looks[0] == 200


def test_time_in_which_the_store_was_not_reached_does_not_count(clock: Callable[[float], None]) -> None:
    watch, state = Watch(), ClaimState(1, elsewhere(), "1", free=False)
    watch.silent(state, 1.0)
    clock(3600)
    assert watch.silent(state, 1.0) == 3.0
    assert watch.silent(state._replace(beat="2"), 1.0) == 0.0


def test_whoever_looks_finds_those_that_would_be_taken_over(
    clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["never taken", "given back", "silent", "silent for ever", "heard", "recent"]
    shelves, told = {name: Shelf() for name in names}, list[float]()
    for name in names[1:]:
        shelves[name].take(1, elsewhere(stale=300.0 if name == "silent for ever" else 30.0))
    shelves["given back"].give_back(1)
    shelves["silent"].beat(1, "4 at 2020-01-01 00:00:00 UTC")
    shelves["recent"].beat(1, f"4 at {time.strftime(claims.STAMP, time.gmtime())}")
    owners, begun = {name: len(shelf.owners) for name, shelf in shelves.items()}, claims.now()
    looks, state = [0], shelves["heard"].state

    def beating() -> ClaimState:
        looks[0] += 1
        if looks[0] == 10:
            shelves["heard"].beat(1, "5")
        return state()

    monkeypatch.setattr(shelves["heard"], "state", beating)
    assert left_behind(shelves, told.append) == {"never taken", "given back", "silent", "silent for ever"}
    assert (told, looks) == ([300.0], [10])
    assert 300 <= claims.now() - begun < 303
    assert owners == {name: len(shelf.owners) for name, shelf in shelves.items()}, "nobody has taken anything"
    assert left_behind({"recent": shelves["recent"]}, told.append) == set()
    assert len(told) == 1, "it is not watched"


def test_the_robbed_one_stops_before_it_writes(clock: Callable[[float], None]) -> None:
    shelf = Shelf()
    with Claim(shelf, refusing) as claim:
        clock(44)
        claim.check()
        clock(100)  # the process slept, and no other took the job
        claim.check()
        assert claim.number == 2
        clock(100)
        shelf.take(3, elsewhere())
        for _ in range(2):
            with pytest.raises(
                Taken, match="process 12 on node7 took it over, because this process gave no sign of life for 60 seconds"
            ):
                claim.check()
    assert shelf.beats.get(3) is None, "what is another's is not given back"


def test_the_dead_are_known_on_their_machine() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000000)"])
    there = replace(me(), pid=child.pid, begun=claims._begun(child.pid))
    assert not there.dead
    child.kill()
    deadline = time.monotonic() + PATIENCE
    while not there.dead:  # a process counts as dead even before its parent has waited for it
        assert time.monotonic() < deadline
    child.wait()
    assert there.dead
    assert not replace(there, machine="another").dead, "of other machines nothing is known"
    assert replace(me(), begun="1").dead, "another process has its number now"
    assert owner(there.text) == there
    assert owner("nonsense") is None


def test_a_process_at_a_place_that_is_gone_is_dead() -> None:
    shelf = Shelf()
    shelf.take(1, elsewhere(place="slurm 17"))
    with pytest.raises(Taken), Claim(shelf, refusing, gone="slurm 16"):
        pass
    with Claim(shelf, refusing, gone="slurm 17") as claim:
        assert claim.number == 2


@pytest.mark.parametrize("text", ["soon", "0", "nan", "inf"])
def test_a_stale_time_that_is_none_is_one_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGMBENCH_STALE", text)
    with pytest.raises(AgmbenchError, match=f"AGMBENCH_STALE={text} should be a number of seconds, 1 or more"):
        me()


# remains of a killed process, in a store that is a file


def test_a_forced_run_that_was_killed_is_not_left_running(tmp_path: Path) -> None:
    tracker = MlflowTracker(tmp_path)
    with tracker.start(HEADING):
        pass
    tracker.start(HEADING)  # as a process with --force that is then killed
    (tmp_path / "unfinished" / HEADING.digest).mkdir(parents=True)
    assert tracker.unsettled() == {HEADING.digest}
    with tracker.claim(HEADING, lambda _: None):
        MlflowTracker(tmp_path).tidy(HEADING.digest)
        assert len(tracker.unsettled()) == 1, "while another works on it, it is left alone"
    tracker.tidy(HEADING.digest)
    assert not tracker.unsettled()
    assert [record.status for record in sorted(tracker.records(), key=lambda r: r.order)] == [FINISHED, FAILED]
    assert not (tmp_path / "unfinished" / HEADING.digest).exists()


def test_of_two_runs_left_running_the_last_is_taken_over_and_the_other_ends(tmp_path: Path) -> None:
    tracker = MlflowTracker(tmp_path)
    first, second = (tracker._make_run(tracker._experiment("synthetic"), HEADING, number, lambda: None) for number in (1, 2))
    with tracker.start(HEADING) as run:
        assert run.id == second
    assert {record.run_id: record.status for record in tracker.records()} == {first: FAILED, second: FINISHED}


def test_a_claim_costs_few_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MlflowTracker, "_served", True)
    tracker, calls = MlflowTracker(tmp_path), list[str]()
    tracker._experiment("synthetic")
    client = tracker._client

    class Counted:
        def __getattr__(self, name: str) -> object:
            calls.append(name)
            return getattr(client, name)

    monkeypatch.setattr(tracker, "_client", Counted())
    for count in (10, 5):
        calls.clear()
        with tracker.claim(HEADING, lambda _: None):
            pass
        assert len(calls) == count, calls


# in real stores


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("claimed"))
    yield server
    server.end()


def store(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}" if where == "sqlite" else str(request.getfixturevalue("server").uri)


@pytest.mark.long
@pytest.mark.parametrize("where", ["sqlite", "http"])
@pytest.mark.parametrize("kind", ["run", "name"])
def test_of_six_claimants_one_wins_in_each_of_twenty_rounds(
    where: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    tracker = MlflowTracker(tmp_path / "runs", store(where, tmp_path, request))
    experiment = tracker._experiment(f"claims of a {kind}")
    run_id = tracker._client.create_run(experiment).info.run_id
    clients = [MlflowTracker(tmp_path / "runs", tracker.uri)._client for _ in range(6)]
    places = [OnRun(client, run_id) if kind == "run" else Named(client, "x") for client in clients]
    together = Barrier(6)

    def claimed(place: Place) -> int:
        claim = Claim(place, refusing)
        claim._beat_on = lambda: None  # type: ignore[method-assign]
        together.wait()
        with suppress(Taken):
            return claim.__enter__().number
        return 0

    with ThreadPoolExecutor(6) as pool:
        for number in range(1, 21):
            found = list(pool.map(claimed, places))
            assert sorted(found) == [0] * 5 + [number]
            places[found.index(number)].give_back(number)


@pytest.mark.long
def test_six_that_find_no_run_make_one(server: Server, tmp_path: Path) -> None:
    trackers = [MlflowTracker(tmp_path / f"{n}", server.uri) for n in range(6)]
    together = Barrier(6)

    def first(tracker: MlflowTracker, heading: object) -> tuple[str, str]:
        together.wait()
        group = tracker.group("firsts", "suite s", {"agmbench.suite": heading.digest})  # type: ignore[attr-defined]
        return tracker._first(heading), group.id  # type: ignore[arg-type]

    with ThreadPoolExecutor(6) as pool:
        for number in range(3):
            spec = {**HEADING.spec, "dataset": {"name": f"firsts{number}", "params": {}}}
            heading = replace(HEADING, digest=f"{number}" * 16, spec=spec)
            assert len(set(pool.map(lambda tracker: first(tracker, heading), trackers))) == 1  # noqa: B023
    client = MlflowClient(server.uri)
    assert not client.search_experiments(filter_string="name LIKE 'agmbench.%'"), "nothing of it is seen"
    assert client.search_experiments(ViewType.DELETED_ONLY, filter_string="name LIKE 'agmbench.%'")


@pytest.mark.long
def test_a_run_of_a_served_store_is_taken_over_when_its_owner_is_silent(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGMBENCH_STALE", "2")
    mine, other = (MlflowTracker(tmp_path / name, server.uri) for name in ("mine", "other"))
    heading, told = replace(HEADING, digest="e" * 16), list[str]()
    with monkeypatch.context() as silent:
        silent.setattr(Claim, "_beat_on", lambda self: None)
        claim = mine.claim(heading, lambda _: None)
        claim.__enter__()
        run = mine.start(heading)
        run.log_points([Point("valid/accuracy", 0.1, 0)])
    with other.claim(heading, told.append), other.start(heading) as taken:
        assert taken.id == run.id
        taken.log_points([Point("valid/accuracy", 0.1, 0), Point("valid/accuracy", 0.2, 1)])
        run._written = float("inf")  # keeps its points back until the `with` block ends
        with pytest.raises(Taken, match="took it over"), run:
            run.log_points([Point("valid/accuracy", 0.2, 1)])
        (record,) = [found for found in other.records() if found.digest == heading.digest]
        assert record.status == RUNNING
    claim.__exit__(None, None, None)
    assert len(told) == 1
    (record,) = [found for found in mine.records() if found.digest == heading.digest]
    assert record.status == FINISHED
    points = MlflowClient(server.uri).get_metric_history(record.run_id, "valid/accuracy")
    assert sorted((point.step, point.value) for point in points) == [(0, 0.1), (1, 0.2)]
    assert not any(name.startswith("claim.") for name in record.spec)


@pytest.mark.long
def test_who_is_lost_is_told_by_whoever_gave_the_place(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker, heading = MlflowTracker(tmp_path, server.uri), replace(HEADING, digest="f" * 16)
    run_id = tracker._first(heading)
    assert OnRun(tracker._client, run_id).take(1, elsewhere(place="slurm 17"))
    for place, status in (("", RUNNING), ("slurm 16", RUNNING), ("slurm 17", FAILED)):
        tracker.mark_lost(heading.digest, "cancelled", place)
        (record,) = [found for found in tracker.records() if found.digest == heading.digest]
        assert record.status == status
    assert record.reason == "cancelled"
