"""Sweeps: search spaces from entries, exact budgets, trials as runs, interruptions of every kind, on SQLite and on PostgreSQL."""

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import PATIENCE, CommandLine, Hold
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from agmbench.errors import AgmbenchError
from agmbench.jobs import compose
from agmbench.registry import Registry, load
from agmbench.report.sweeps import Chosen, Tuned, sensitivity
from agmbench.sweep import study as study_of
from agmbench.sweep import trials as sweep_trials
from agmbench.sweep.space import grid, search_space
from agmbench.sweep.study import SAMPLERS, Numbered
from agmbench.sweep.trials import best_of

BUILT_IN = load(Path("none"))
SYNTHETIC = ("sweep", "--dataset", "synthetic", "--epochs", "2", "--set", "dataset.samples=256")
FAIR = (*SYNTHETIC, "--fair", "agm", "--trials", "9", "--sampler", "grid")
LONG = (
    "sweep",
    "-d",
    "synthetic",
    "-m",
    "agm",
    "--trials",
    "2",
    "--epochs",
    "6",
    "--set",
    "dataset.samples=512",
    *Hold.settings,
)


def space(search: dict[str, Any], kind: str = "modulator", name: str = "agm") -> Any:
    """The search space of agm on synthetic if an entry has these ranges."""
    entries = [
        replace(entry, search=search) if (entry.kind, entry.name) == (kind, name) else entry for entry in BUILT_IN.entries()
    ]
    registry = Registry(entries)
    return search_space(registry, compose(registry, "synthetic", "agm"), [], fair=False)


def studies(line: CommandLine, url: str = "") -> dict[str, list[FrozenTrial]]:
    storage = optuna.storages.RDBStorage(url or f"sqlite:///{line.folder / 'runs' / 'optuna.db'}")
    try:
        names = optuna.get_all_study_names(storage)
        return {name: optuna.load_study(study_name=name, storage=storage).get_trials() for name in names}
    finally:
        storage.remove_session()
        storage.engine.dispose()


def done(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]


def runs(line: CommandLine, condition: str = "") -> list[Run]:
    client = MlflowClient(f"sqlite:///{line.folder / 'runs' / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, condition))


# spaces


def test_ranges_take_the_type_of_their_parameter() -> None:
    found = space(
        {"alpha": {"low": 0.5, "high": 2, "log": True}, "starts": {"low": 0, "high": 3}, "cap": {"choices": [None, 7]}}
    )
    assert found == {
        "modulator.alpha": FloatDistribution(0.5, 2, log=True),
        "modulator.starts": IntDistribution(0, 3),
        "modulator.cap": CategoricalDistribution([None, 7]),
    }


def test_a_whole_number_that_may_be_absent_is_one() -> None:
    assert space({"ends": {"low": 1, "high": 3}}) == {"modulator.ends": IntDistribution(1, 3)}


def test_every_entry_of_the_registry_has_a_space_that_can_be_read() -> None:
    for entry in BUILT_IN.entries("modulator"):
        spec = compose(BUILT_IN, "synthetic", entry.name)
        assert search_space(BUILT_IN, spec, [], fair=True).keys() == {
            "training.lr",
            *(f"modulator.{name}" for name in entry.search),
        }


def test_a_fair_space_has_ten_times_and_a_tenth_of_the_recipes_rate() -> None:
    spec = compose(BUILT_IN, "synthetic", "joint", settings=[("training.lr", 0.02)])
    assert search_space(BUILT_IN, spec, [], fair=True) == {"training.lr": FloatDistribution(0.002, 0.2, log=True)}


def test_what_is_set_is_not_searched() -> None:
    spec = compose(BUILT_IN, "synthetic", "agm")
    assert list(search_space(BUILT_IN, spec, ["modulator.alpha"], fair=True)) == ["training.lr"]


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"alpha": {"low": 2, "high": 1}}, "'high' is 1: high should be above low, 2"),
        ({"alpha": {"low": 0, "high": 1, "log": True}}, "a logarithmic range begins above 0; low is 0"),
        ({"alpha": {"low": 0, "high": 1, "log": "yes"}}, "'log' is 'yes': input should be a valid boolean"),
        ({"alpha": {"low": -1, "high": 1}}, "should be a number >= 0"),
        ({"alpha": {"low": "a", "high": 1}}, "'low' is 'a': input should be a valid number"),
        ({"alpha": {"low": 0, "high": float("inf")}}, "'high' is inf: input should be a finite number"),
        ({"alpha": {"low": True, "high": 2}}, "'low' is True: input should be a valid number"),
        ({"alpha": {"low": 1}}, "needs 'high'; a range has low and high, with log: true if wanted, or choices alone"),
        ({"alpha": {"low": 1, "high": 2, "step": 1}}, "unknown key 'step'"),
        ({"alpha": {"choices": [1], "low": 1}}, "unknown key 'low'"),
        ({"alpha": {"choices": []}}, "'choices' is []: "),
        ({"alpha": {"choices": [[1]]}}, "'choices.0' is [1]: a choice should be a text, a number, true, false or null"),
        ({"alpha": {"choices": [1, "much"]}}, "'much'"),
        ({"starts": {"low": 0.5, "high": 2}}, "'low' is 0.5: input should be a valid integer"),
        ({"alpah": {"low": 1, "high": 2}}, "did you mean 'alpha'"),
    ],
)
def test_a_wrong_range_is_one_line_that_names_its_place(search: dict[str, Any], words: str) -> None:
    with pytest.raises(AgmbenchError, match=re.escape(words)) as raised:
        space(search)
    assert re.match(r"registry\.yaml:\d+: search of 'alp|registry\.yaml:\d+: search of 'starts", str(raised.value))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"training.momentum": {"low": 0, "high": 0.9}}, "may only search training.lr"),
        ({"training.lr": {"low": 0, "high": 1}}, "'low' is 0: input should be greater than 0"),
        ({"training.lr": {"choices": [0.1, -1]}}, "'choices.1' is -1: input should be greater than 0"),
    ],
)
def test_a_data_set_may_name_the_rate_alone(search: dict[str, Any], words: str) -> None:
    with pytest.raises(AgmbenchError, match=re.escape(words)):
        space(search, "dataset", "synthetic")


def test_a_data_set_names_the_range_of_the_rate() -> None:
    found = space({"training.lr": {"low": 0.1, "high": 1}}, "dataset", "synthetic")
    assert found["training.lr"] == FloatDistribution(0.1, 1)


# grids

ALPHA: dict[str, BaseDistribution] = {"alpha": FloatDistribution(0.1, 10, log=True)}


def test_a_grid_has_its_ends_and_even_steps() -> None:
    assert [point["alpha"] for point in grid(ALPHA, 3)] == pytest.approx([0.1, 1, 10])


def test_a_grid_of_whole_numbers_names_none_twice() -> None:
    points = [point["p"] for point in grid({"p": IntDistribution(1, 20, log=True)}, 8)]
    assert len(set(points)) == 8
    assert (points[0], points[-1]) == (1, 20)


def test_a_grid_has_every_choice_with_every_value() -> None:
    points = grid({**ALPHA, "c": CategoricalDistribution(["a", "b"])}, 6)
    assert Counter(point["c"] for point in points) == {"a": 3, "b": 3}


@pytest.mark.parametrize(("trials", "words"), [(8, "take 4 or 9"), (1, "take 4 or 9")])
def test_a_number_that_makes_no_grid_is_refused(trials: int, words: str) -> None:
    with pytest.raises(AgmbenchError, match=words):
        grid({**ALPHA, "lr": FloatDistribution(0.1, 1)}, trials)


# reports


def test_many_values_are_shown_by_ranges() -> None:
    values = [0.1 * 80 ** (n / 19) for n in range(20)]
    trials = [
        optuna.create_trial(params={"modulator.alpha": min(value, 8.0)}, distributions={"modulator.alpha": DIST}, value=n / 100)
        for n, value in enumerate(values)
    ]
    chosen = Chosen({"modulator.alpha": 1.0}, 0.5, 0.5)
    sheet = sensitivity(Tuned("agm", {"modulator.alpha": DIST}, trials, chosen, chosen), "modulator.alpha")
    assert len(sheet.body) == 8
    assert sum(int(row[1]) for row in sheet.body) == 20
    assert sheet.body[-1][3] == "19.00"


DIST = FloatDistribution(0.1, 8.0, log=True)


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_a_draw_follows_from_the_number_of_its_trial_alone(name: str) -> None:
    def drawn(study: optuna.Study) -> float:
        return study.ask().suggest_float("alpha", 0.1, 8)

    alone = optuna.create_study(sampler=Numbered(SAMPLERS[name], 999))
    first, second = drawn(alone), drawn(alone)
    storage = optuna.storages.InMemoryStorage()
    workers = [
        optuna.create_study(storage=storage, study_name="s", load_if_exists=True, sampler=Numbered(SAMPLERS[name], 999))
        for _ in range(2)
    ]
    assert [drawn(worker) for worker in workers] == [first, second]
    assert first != second
    assert drawn(optuna.create_study(sampler=Numbered(SAMPLERS[name], 1))) != first


# a sweep


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[CommandLine, str]:
    """The folder of a finished fair sweep of agm (which includes joint), and its report."""
    line = CommandLine(tmp_path_factory.mktemp("swept"))
    result = line(*FAIR)
    assert result.status == 0, result.err
    return line, result.out


def test_every_modulator_has_the_same_number_of_trials(swept: tuple[CommandLine, str]) -> None:
    found = studies(swept[0])
    assert {len(done(trials)) for trials in found.values()} == {9}
    assert len(found) == 2


def test_trials_are_runs_below_their_study_and_know_no_test(swept: tuple[CommandLine, str]) -> None:
    line, _ = swept
    parents = runs(line, "tags.`agmbench.sweep` != ''")
    children = runs(line, "tags.`agmbench.trial` != ''")
    assert {parent.info.status for parent in parents} == {"FINISHED"}
    below = Counter(child.data.tags["mlflow.parentRunId"] for child in children)
    assert below == {parent.info.run_id: 9 for parent in parents}
    assert all("valid/accuracy" in child.data.metrics for child in children)
    assert not [name for child in children for name in child.data.metrics if name.startswith("test/")]


def test_trials_of_a_method_with_teachers_share_them(line: CommandLine) -> None:
    result = line(*SYNTHETIC, "-m", "umt", "--trials", "2")
    assert result.status == 0, result.err
    assert "the method needs" in result.out + result.err
    (trials,) = studies(line).values()
    assert len(done(trials)) == 2
    concepts = runs(line, "tags.`agmbench.concept` = 'true'")
    assert len(concepts) == 2  # one for each modality, whatever `weight` a trial has


def test_a_trials_value_is_that_of_its_best_epoch(swept: tuple[CommandLine, str]) -> None:
    line, _ = swept
    client = MlflowClient(f"sqlite:///{line.folder / 'runs' / 'mlflow.db'}")
    for name, trials in studies(line).items():
        for trial in trials:
            (run,) = runs(line, f"tags.`agmbench.study` = '{name}' and tags.`agmbench.trial` = '{trial.number}'")
            history = [metric.value for metric in client.get_metric_history(run.info.run_id, "valid/accuracy")]
            assert list(trial.intermediate_values.values()) == history
            if trial.state == TrialState.COMPLETE:
                assert trial.value == max(history)


def test_pruned_trials_end_killed_with_the_reason(swept: tuple[CommandLine, str]) -> None:
    line, _ = swept
    pruned = [trial for trials in studies(line).values() for trial in trials if trial.state == TrialState.PRUNED]
    assert pruned, "the grid's corners with a tenth of the rate are below the median"
    reasons = [run.data.tags["agmbench.reason"] for run in runs(line, "attributes.status = 'KILLED'")]
    assert reasons == ["pruned"] * len(pruned)


def test_only_the_chosen_jobs_are_compared(swept: tuple[CommandLine, str]) -> None:
    line, out = swept
    jobs = runs(line, "tags.`agmbench.digest` != '' and attributes.status = 'FINISHED'")
    jobs = [run for run in jobs if "agmbench.trial" not in run.data.tags]
    assert len(jobs) <= 4
    tests = {f"{100 * run.data.metrics['test/accuracy']:.2f}" for run in jobs}
    rows = [row.split() for row in out.splitlines() if re.match(r" (joint|agm) ", row)]
    assert {row[place] for row in rows for place in (4, 6)} == tests
    compared = line("compare", "--format", "csv").out.splitlines()
    assert len({row.split(",")[3] + row.split(",")[2] for row in compared[1:]}) <= len(jobs)


def test_the_tuned_is_the_best_trial_again(swept: tuple[CommandLine, str]) -> None:
    line, out = swept
    for name, trials in studies(line).items():
        best = max(trial.value for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None)
        modulator = name.split("-")[2]
        (row,) = (row.split() for row in out.splitlines() if re.match(rf" {modulator} +9 ", row))
        assert row[5] == f"{100 * best:.2f}"


def test_plots_and_tables_are_artifacts_of_the_study(swept: tuple[CommandLine, str]) -> None:
    line, _ = swept
    (agm,) = (run for run in runs(line, "tags.`agmbench.sweep` != ''") if "-agm-" in (run.info.run_name or ""))
    folder = Path(agm.info.artifact_uri.removeprefix("file://"))
    plots = {path.name for path in (folder / "plots").iterdir()}
    assert plots == {"history.png", "importances.png", "sensitivity-alpha.png"}
    assert "sensitivity of modulator.alpha" in (folder / "report.md").read_text()
    assert len((folder / "trials.csv").read_text().splitlines()) == 10
    assert agm.data.metrics.keys() == {"default/valid", "default/test", "tuned/valid", "tuned/test"}


def test_the_same_command_again_trains_nothing(swept: tuple[CommandLine, str]) -> None:
    line, out = swept
    before = [run.info.run_id for run in runs(line)]
    result = line(*FAIR)
    assert (result.status, result.out) == (0, out)
    assert [run.info.run_id for run in runs(line)] == before


@pytest.mark.bad_input
def test_a_named_study_takes_no_other_sweep(line: CommandLine) -> None:
    words = (*SYNTHETIC, "--modulator", "agm", "--trials", "1", "--study", "mine")
    assert line(*words).status == 0
    error = line.refused(*words, "--seed", "3")
    assert "study 'mine'" in error
    assert "--study" in error


def test_training_that_fails_counts_as_a_trial(line: CommandLine) -> None:
    plugin = line.folder / "plugins" / "wild" / "registry.yaml"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(
        "datasets:\n  wild:\n    target: agmbench.datasets.synthetic:Synthetic\n    params: {samples: 256}\n"
        "    search: {training.lr: {low: 0.05, high: 1.0e+30, log: true}}\n"
        "    job: {encoders: {'*': mlp}, training: {epochs: 2, lr: 0.05}}\n"
    )
    result = line("sweep", "-d", "wild", "-m", "joint", "--sampler", "grid", "--trials", "2")
    assert result.status == 0, result.err
    (trials,) = studies(line).values()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert "not finite" in trials[1].user_attrs["reason"]
    assert [run.info.status for run in runs(line, "tags.`agmbench.trial` = '1'")] == ["FAILED"]


# stopped and resumed


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_trial_is_tried_again(line: CommandLine, how: signal.Signals) -> None:
    hold = Hold(line.folder)
    process = line.process(*LONG, env={"HOLD_AT": "4"})
    hold.wait()
    (stopped,) = (t for trials in studies(line).values() for t in trials if t.state == TrialState.RUNNING)
    process.send_signal(how)
    process.communicate(timeout=PATIENCE)
    hold.let_go()
    (states,) = ([trial.state for trial in trials] for trials in studies(line).values())
    if how == signal.SIGKILL:
        assert states[stopped.number] == TrialState.RUNNING
        with closing(sqlite3.connect(line.folder / "runs" / "optuna.db")) as store, store:  # as if half a minute had passed
            store.execute("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-31 seconds')")
    else:
        assert process.returncode == 130
        assert [run.data.tags["agmbench.reason"] for run in runs(line, "attributes.status = 'KILLED'")] == ["interrupted"] * 2
        assert TrialState.RUNNING not in states
    result = line(*LONG)
    assert result.status == 0, result.err
    (trials,) = studies(line).values()
    assert len(done(trials)) == 2
    (again,) = (trial for trial in trials if "failed_trial" in trial.system_attrs)
    assert (again.params, again.state) == (stopped.params, TrialState.COMPLETE)
    statuses = Counter(run.info.status for run in runs(line, "tags.`agmbench.trial` != ''"))
    assert statuses == {"FINISHED": 2}, "the run of the stopped trial went on as its own"


BEFORE_ITS_FIRST_HEARTBEAT = """
import os, signal, sys
from optuna.storages import RDBStorage
from agmbench.cli import main

RDBStorage.record_heartbeat = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


def test_of_equal_trials_the_first_is_the_best_even_if_it_was_made_anew() -> None:
    again = {"failed_trial": 0, "retry_history": [0]}
    made = [
        create_trial(params={"a": a}, distributions={"a": FloatDistribution(0, 9)}, value=value, system_attrs=attrs)
        for a, value, attrs in ((1.0, 0.5, {}), (2.0, 0.7, {}), (3.0, 0.6, {}), (0.0, 0.7, again))
    ]
    for number, trial in enumerate(made, 1):
        trial.number = number
    assert best_of(made, higher=True).params == {"a": 0.0}
    assert best_of(made, higher=False).params == {"a": 1.0}


@pytest.mark.long
def test_a_trial_killed_before_its_first_heartbeat_is_tried_again(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (*SYNTHETIC, "-m", "agm", "--trials", "3", "--sampler", "grid")
    killed = subprocess.run([sys.executable, "-c", BEFORE_ITS_FIRST_HEARTBEAT, *words], cwd=line.folder, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (trials,) = studies(line).values()
    assert [trial.state for trial in trials].count(TrialState.RUNNING) == 1
    monkeypatch.setattr("agmbench.sweep.study.HEARTBEAT", 1)
    monkeypatch.setattr("agmbench.sweep.study.GRACE", 2)
    result = line(*words)
    assert result.status == 0, result.err
    (trials,) = studies(line).values()
    assert len(done(trials)) == 3
    assert len({trial.params["modulator.alpha"] for trial in done(trials)}) == 3
    assert TrialState.RUNNING not in {trial.state for trial in trials}


# several workers


@pytest.mark.long
def test_two_commands_that_end_at_once_write_the_summary_once(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (*SYNTHETIC, "-m", "agm", "--trials", "2", "--sampler", "random")
    work, others = sweep_trials.work, []

    def both(*given: Any) -> None:
        work(*given)
        if not others:  # while this command's run of the study is open, another command runs to its end
            others.append(line.finish(*words))

    monkeypatch.setattr(sweep_trials, "work", both)
    assert line(*words).status == 0
    assert [other.status for other in others] == [0], others
    (study,) = runs(line, "tags.`agmbench.sweep` != ''")
    client = MlflowClient(f"sqlite:///{line.folder / 'runs' / 'mlflow.db'}")
    assert study.info.status == "FINISHED"
    assert {name: len(client.get_metric_history(study.info.run_id, name)) for name in study.data.metrics} == {
        f"{which}/{split}": 1 for which in ("default", "tuned") for split in ("valid", "test")
    }


@pytest.mark.long
def test_two_commands_on_one_study_stay_within_its_budget(line: CommandLine) -> None:
    words = (*SYNTHETIC, "-m", "agm", "--trials", "5", "--sampler", "random")
    both = [line.process(*words), line.process(*words)]
    for process in both:
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        assert re.search(r"agm +5 ", out)
    (trials,) = studies(line).values()
    assert len(done(trials)) == 5
    assert len({trial.params["modulator.alpha"] for trial in done(trials)}) == 5


POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


class Server:
    """A new PostgreSQL server on a free port with a password, run by an unprivileged user."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        (self.folder / "password").write_text("hush-hush")
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
            shutil.chown(self.folder / "password", "postgres")
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port = free.getsockname()[1]
        words = ("-A", "scram-sha-256", "-U", "sweeper", "--pwfile", str(self.folder / "password"), "--no-sync")
        self.run("initdb", "-D", str(self.folder / "data"), *words)
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder}"
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-o", options, "-l", str(self.folder / "log"), "-w", "start")

    def run(self, program: str, *words: str) -> None:
        as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*as_user, str(POSTGRES[-1].parent / program), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=60)

    def stop(self) -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self.folder)

    def url(self, password: str = "hush-hush") -> str:
        return f"postgresql+psycopg://sweeper:{password}@127.0.0.1:{self.port}/postgres"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'agmbench[postgresql]'")
    if not POSTGRES:
        pytest.skip("no PostgreSQL server below /usr/lib/postgresql: apt-get install postgresql")
    server = Server()
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.long
def test_processes_share_a_study_in_postgresql(line: CommandLine, server: Server) -> None:
    result = line.finish(*SYNTHETIC, "-m", "agm", "--trials", "5", "--jobs", "2", "--storage", server.url())
    assert result.status == 0, result.err
    (trials,) = studies(line, server.url()).values()
    assert len(done(trials)) == 5
    assert not (line.folder / "runs" / "optuna.db").exists()
    assert {run.data.tags["threads"] for run in runs(line, "tags.`agmbench.trial` != ''")} == {
        str(max(1, (os.cpu_count() or 1) // 2))
    }


@pytest.mark.bad_input
def test_a_wrong_password_is_not_shown(line: CommandLine, server: Server) -> None:
    error = line.refused(*SYNTHETIC, "-m", "agm", "--storage", server.url("mistaken-secret"))
    assert "cannot be opened" in error
    assert "mistaken-secret" not in error


# bad input


def test_a_server_that_does_not_answer_is_one_line_within_seconds(line: CommandLine) -> None:
    pytest.importorskip("psycopg")
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"postgresql+psycopg://me:hush-hush@127.0.0.1:{silent.getsockname()[1]}/db?sslmode=disable"
        error = line.refused(*SYNTHETIC, "-m", "agm", "--storage", url)
    assert "cannot be opened" in error
    assert "hush" not in error


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "by one of --modulator NAME and --fair"),
        (("-m", "agm", "--fair", "agm"), "by one of --modulator NAME and --fair"),
        (("--fair", "agm,agm"), "named twice"),
        (("--fair", "agm,nope"), "unknown modulator 'nope'"),
        (("-m", "joint"), "--fair joint"),
        (("-m", "ensemble"), "trains nothing itself"),
        (("-m", "agm", "--set", "modulator.alpha=1"), "beside what --set fixes"),
        (("-m", "agm", "--sampler", "tpa"), "'tpa' is not one of 'tpe', 'random', 'grid', 'cmaes'"),
        (("-m", "agm", "--pruner", "none of it"), "is not one of"),
        (("-m", "agm", "--trials", "0"), "0 is not in the range"),
        (("-m", "agm", "--sampler", "cmaes"), "two or more parameters with a range"),
        (("--fair", "agm", "--sampler", "grid", "--trials", "5"), "take 4 or 9"),
        (("-m", "agm", "--study", "a'b"), "should be made of letters"),
        (("-m", "agm", "--storage", "nonsense"), "not the address of a database"),
        (("-m", "agm", "--storage", "oracles://me:hush@host/db"), "the driver of oracles is not here"),
        (("-m", "agm", "--storage", "sqlite:////no/such/folder/x.db"), "unable to open database file"),
        (("-m", "ogm", "--fusion", "early"), "additive"),
        (("-m", "agm", "--set", "concept_seed=1"), "concept_seed: trials are not compared with unimodal models (concepts)"),
    ],
)
def test_bad_input_is_one_line(line: CommandLine, words: tuple[str, ...], expected: str) -> None:
    error = line.refused(*SYNTHETIC, *words)
    assert expected in error
    assert "hush" not in error


def test_a_point_lost_between_its_failure_and_its_next_try_is_tried_again() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"alpha": 0.5})
    lost, surplus = study.ask(), study.ask()
    lost.suggest_float("alpha", 0, 1)
    surplus.set_user_attr(study_of.SURPLUS, True)
    for trial in (lost, surplus):
        study.tell(trial, state=TrialState.FAIL)
    for _ in range(2):  # the second call must not add the trial again
        study_of.try_lost_again(study)
        (again,) = study.get_trials(states=(TrialState.WAITING,))
        assert again.system_attrs["failed_trial"] == lost.number
    tried = study.ask()
    assert tried.suggest_float("alpha", 0, 1) == 0.5
    study.tell(tried, 1.0)
    study_of.try_lost_again(study)
    assert not study.get_trials(states=(TrialState.WAITING,))
