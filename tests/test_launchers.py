"""Launchers: suites and sweeps by Slurm, by Ray and by processes of this machine, also if jobs are killed or fail."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from clusters import Ray, Slurm, until
from conftest import PATIENCE, CommandLine, Hold
from mlflow import MlflowClient
from mlflow.entities import Run

from agmbench import registry
from agmbench.errors import AgmbenchError
from agmbench.launch import Ended, Task
from agmbench.launchers.local import Local, cores
from agmbench.launchers.slurm import Slurm as Launcher
from agmbench.launchers.trial import FUNCTION
from agmbench.testing import check

SUITES = """
suites:
  short:
    seeds: [1, 2]
    jobs:
      - {dataset: synthetic, modulator: joint, set: {training.epochs: 1, dataset.samples: 64}}
  held:
    jobs:
      - {dataset: synthetic, modulator: joint, set: {training.epochs: 6, dataset.samples: 64, training.select_by: held}}
"""
HELD_AT = {"HOLD_AT": "3"}  # the epoch in which each job of the suite `held` is held


@pytest.fixture
def line(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return with_suites(line)


def with_suites(line: CommandLine) -> CommandLine:
    plugin = line.folder / "plugins" / "mine" / "registry.yaml"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(SUITES)
    return line


def runs(line: CommandLine) -> dict[str, Run]:
    """The runs of jobs by name. Fails if a job has two."""
    client = MlflowClient(f"sqlite:///{line.folder / 'runs' / 'mlflow.db'}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(experiments, "tags.`agmbench.digest` != ''")
    assert len({run.info.run_name for run in found}) == len(found), "a job has two runs"
    return {str(run.info.run_name): run for run in found}


def points(line: CommandLine) -> dict[str, list[tuple[str, int, float]]]:
    """All points of each job, without costs."""
    client = MlflowClient(f"sqlite:///{line.folder / 'runs' / 'mlflow.db'}")
    found = {}
    for job, run in runs(line).items():
        names = [name for name in run.data.metrics if not name.startswith("cost/")]
        found[job] = sorted(
            (name, each.step, each.value) for name in names for each in client.get_metric_history(run.info.run_id, name)
        )
        assert len({(name, step) for name, step, _ in found[job]}) == len(found[job])
    return found


def all_finished(line: CommandLine, count: int) -> None:
    assert [run.info.status for run in runs(line).values()] == ["FINISHED"] * count


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, int, float]]]:
    """The points of the suite `held` if its jobs are not disturbed."""
    line = with_suites(CommandLine(tmp_path_factory.mktemp("undisturbed")))
    Hold(line.folder).let_go()
    result = line.finish("suite", "run", "held", "--jobs", "2", env={"OMP_NUM_THREADS": "1"})
    assert result.status == 0, result.err
    return points(line)


# this machine


def dealt(monkeypatch: pytest.MonkeyPatch, gpus: str, **asked: Any) -> tuple[list[list[str]], int]:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    return Local(Path(), "s", **asked)._dealt()


def test_gpus_are_dealt_to_places(monkeypatch: pytest.MonkeyPatch) -> None:
    four = "0,1,2,GPU-3"
    assert dealt(monkeypatch, four) == ([["0"], ["1"], ["2"], ["GPU-3"]], 4)
    assert dealt(monkeypatch, four, gpus_per_job=2) == ([["0", "1"], ["2", "GPU-3"]], 2)
    assert dealt(monkeypatch, four, jobs_per_gpu=3)[1] == 12
    assert dealt(monkeypatch, four, jobs_per_gpu=3, jobs=5)[1] == 5
    assert dealt(monkeypatch, four, jobs_per_gpu=1, jobs=5)[1] == 4
    assert dealt(monkeypatch, four, jobs=6) == ([["0"], ["1"], ["2"], ["GPU-3"]], 6), "more jobs than GPUs share them"
    assert dealt(monkeypatch, four, gpus_per_job=0) == ([], 1)
    assert dealt(monkeypatch, "", jobs=3) == ([], 3)
    assert dealt(monkeypatch, "", cpus_per_job=1) == ([], cores())
    with pytest.raises(AgmbenchError, match="--gpus-per-job 5: this machine has 4 GPUs"):
        dealt(monkeypatch, four, gpus_per_job=5)
    with pytest.raises(AgmbenchError, match="--jobs-per-gpu 2: jobs get no GPUs here"):
        dealt(monkeypatch, "-1", jobs_per_gpu=2)
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/no/such/pipe")
    assert "nvidia-cuda-mps-control" in Local(Path(), "s", jobs_per_gpu=2).notes()[0]


PRINTS = "import os\n\ndef work(text):\n    return f\"{os.environ['CUDA_VISIBLE_DEVICES']} of {text}\"\n"


@pytest.mark.long
def test_a_place_sees_its_gpus_alone_and_the_local_launcher_keeps_its_promises(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    (tmp_path / "seen_by_a_task.py").write_text(PRINTS)
    monkeypatch.syspath_prepend(tmp_path)
    tasks = [Task(f"{n}", "", "seen_by_a_task:work", f"{n}") for n in range(6)]
    ended = list(Local(tmp_path, "s", gpus_per_job=2).run(tasks))
    assert {one.reason for one in ended if one.task.key in ("0", "1")} == {"4,5 of 0", "6,7 of 1"}
    assert {one.reason.partition(" ")[0] for one in ended} == {"4,5", "6,7"}
    assert {one.outcome for one in check(registry.builtin().get("launcher", "local"))} == {"passed"}


def test_a_task_in_a_process_of_its_own_says_why_it_failed() -> None:
    words = [sys.executable, "-P", "-m", "agmbench.launch", FUNCTION]
    done = [subprocess.run(words, input=text, capture_output=True, text=True, check=False) for text in ("", "no\nluck")]
    assert [(one.returncode, one.stderr) for one in done] == [(0, ""), (1, "error: no luck\n")]


# the dialogue with Slurm: fake programs that answer from a file

FAKE = """#!{python}
import json, os, sys
from pathlib import Path

folder = Path("{folder}")
queue = json.loads((folder / "queue.json").read_text())
if sys.argv[0].endswith("sbatch"):
    if "--test-only" in sys.argv:
        sys.exit(0)
    options = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
    (folder / "script").write_text(sys.stdin.read())
    states = queue["sent"].pop(0)
    queue["jobs"].append([len(queue["jobs"]) + 1, options["job-name"], states, options])
    print(len(queue["jobs"]), "tests", sep=";")
else:
    for job in queue["jobs"]:
        state, comment = job[2][0]
        job[2][:] = job[2][1:] or job[2]
        print(job[0], job[1], state, comment, sep="|")
(folder / "queue.json").write_text(json.dumps(queue))
"""


class Fake:
    """Fake programs of Slurm. `sent` has, for each job that will be sent, its states and comments at each look."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        for name in ("sbatch", "squeue"):
            program = folder / "bin" / name
            program.write_text(FAKE.format(python=sys.executable, folder=folder))
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")

    def expects(self, *sent: list[tuple[str, str]], there: tuple[Any, ...] = ()) -> None:
        (self.folder / "queue.json").write_text(json.dumps({"jobs": list(there), "sent": sent}))

    def run(self, count: int = 1, **params: Any) -> list[Ended]:
        tasks = [Task(f"key{n}", f"name {n}", FUNCTION, "the\ntext") for n in range(count)]
        return list(Launcher(self.folder / "logs", "store", poll=0.01, **params).run(tasks))

    @property
    def jobs(self) -> list[Any]:
        return list(json.loads((self.folder / "queue.json").read_text())["jobs"])


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(tmp_path, monkeypatch)


def test_a_slurm_job_is_sent_whole_and_again_after_its_time_limit(fake: Fake) -> None:
    fake.expects([("RUNNING", "(null)"), ("TIMEOUT", "(null)")], [("PENDING", "(null)"), ("COMPLETED", "(null)")])
    (ended,) = fake.run(time="30", partition="gpus", gpus_per_job=2, cpus_per_job=8, slurm={"qos": "low", "exclusive": ""})
    assert ended.reason == ""
    first, again = fake.jobs
    assert first[1] == again[1] == "agmbench-store-key0"
    expected = {"time": "30", "signal": "B:USR1@60", "partition": "gpus", "gres": "gpu:2", "cpus-per-task": "8", "qos": "low"}
    assert expected.items() <= first[3].items()
    assert {"requeue", "exclusive"} <= first[3].keys()
    assert '\n"the\\ntext"\n' in (fake.folder / "script").read_text()


def test_why_a_slurm_job_failed_is_told(fake: Fake) -> None:
    ends = [("CANCELLED", ""), ("FAILED", "no data|here"), ("FAILED", "(null)"), ("OUT_OF_MEMORY", ""), ("TIMEOUT", "")]
    fake.expects(*([end] for end in ends))
    reasons = {one.task.key: one.reason for one in fake.run(5, restarts=0)}
    assert list(map(reasons.get, (f"key{n}" for n in range(5)))) == [
        "Slurm job 1: it was cancelled (scancel)",
        "Slurm job 2: no data|here",
        "Slurm job 3: its process ended with an error; see its log",
        "Slurm job 4: it ran out of memory; ask for more: --slurm mem=16G",
        "Slurm job 5: its time limit passed",
    ]


def test_a_slurm_job_that_is_there_already_is_not_sent_again(fake: Fake) -> None:
    there = (
        [1, "agmbench-store-key0", [["RUNNING", ""], ["COMPLETED", ""]], {}],
        [2, "agmbench-other-key1", [["RUNNING", ""]], {}],
    )
    fake.expects([("COMPLETED", "")], there=there)
    assert [one.reason for one in fake.run(2)] == ["", ""]
    assert [job[1] for job in fake.jobs] == ["agmbench-store-key0", "agmbench-other-key1", "agmbench-store-key1"]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--launcher", "slrum"), "unknown launcher 'slrum': did you mean 'slurm'?"),
        (("--time", "3"), "launcher/local has no parameter 'time'"),
        (("--slurm", "qos=low"), "launcher/local has no parameter 'slurm'"),
        (("--launch", "jobs"), "--launch jobs: should be key=value"),
        (("--launch", "jobs=x"), "parameter 'jobs' of launcher/local is 'x'"),
        (("--gpus-per-job", "99"), "--gpus-per-job 99: this machine has"),
        (("--launcher", "mine"), "plugins/own/registry.yaml:1"),
    ],
)
def test_a_place_that_cannot_be_is_one_line(line: CommandLine, words: tuple[str, ...], expected: str) -> None:
    (line.folder / "plugins" / "own").mkdir()
    (line.folder / "plugins" / "own" / "registry.yaml").write_text("launchers: {mine: {target: 'pathlib:Path'}}")
    assert expected in line.refused("suite", "run", "short", *words)


# the real Slurm


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    cluster = Slurm()
    try:
        yield cluster
    finally:
        cluster.stop()


def through(cluster: Slurm, line: CommandLine, *words: str, env: dict[str, str] | None = None) -> "subprocess.Popen[str]":
    place = ("--launcher", "slurm", "--launch", "poll=1", *words)
    return line.process("suite", "run", "held", *place, env={**cluster.environment, **(env or HELD_AT)})


def ended(process: "subprocess.Popen[str]", status: int = 0) -> str:
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == status, err
    return err


@pytest.mark.long
def test_six_jobs_through_slurm(line: CommandLine, slurm: Slurm) -> None:
    store = f"sqlite:///{line.folder / 'runs' / 'mlflow.db'}"
    (line.folder / "runs").mkdir()
    words = ("suite", "run", "short", "--launcher", "slurm", "--partition", "low", "--launch", "poll=1")
    process = line.process(*words, env={**slurm.environment, "MLFLOW_TRACKING_URI": store})
    until(lambda: len(slurm.jobs("running")) >= 2, "no job came to run")
    assert store not in slurm.said("scontrol", "show", "job", "-o"), (
        "an address, which may hold a password, is on a command line"
    )
    err = ended(process)
    assert err.count(": done, test accuracy ") == 6
    assert "[6 of 6] " in err
    all_finished(line, 6)
    assert all(list((line.folder / "runs/suites/short").glob(f"*.{kind}")) for kind in ("log", "yaml"))


@pytest.mark.long
def test_a_killed_command_finds_its_jobs_and_preempted_ones_go_on(line: CommandLine, slurm: Slurm, undisturbed: Any) -> None:
    hold = Hold(line.folder)
    head = through(slurm, line)
    hold.wait(jobs=2)
    head.kill()
    head.communicate()
    mine = slurm.jobs("running")
    head = through(slurm, line)
    slurm.said("sbatch", "--partition=high", "--exclusive", "--output=/dev/null", script="#!/bin/sh\nsleep 2\n")
    until(lambda: [run.info.status for run in runs(line).values()] == ["KILLED"] * 2, "nobody was preempted")
    hold.let_go()
    err = ended(head)
    assert err.count(": done, test accuracy ") == 3, err
    assert points(line) == undisturbed
    all_finished(line, 3)
    logs = [
        (line.folder / "runs/suites/held" / f"{run.data.tags['agmbench.digest']}.log").read_text()
        for run in runs(line).values()
    ]
    assert sum("epochs 2 to 6" in log or "epochs 1 to 6" in log for log in logs) == 2, "two went on after their last state"
    assert len(set(slurm.jobs()) & set(mine)) == 2


@pytest.mark.long
def test_a_time_limit_is_met_as_often_as_it_takes(line: CommandLine, slurm: Slurm, undisturbed: Any) -> None:
    hold = Hold(line.folder)
    before = len(slurm.jobs())
    head = through(slurm, line, "--time", "1", "--launch", "warning=0")
    hold.wait(jobs=2)
    until(lambda: len(slurm.jobs("timeout")) == 2, "Slurm's limit of a minute was not met")
    hold.let_go()
    ended(head)
    assert points(line) == undisturbed
    all_finished(line, 3)
    assert len(slurm.jobs()) - before == 5, "two jobs were sent twice"


@pytest.mark.long
def test_a_cancelled_job_is_a_reason_and_a_warned_one_goes_on(line: CommandLine, slurm: Slurm) -> None:
    hold = Hold(line.folder)
    head = through(slurm, line)
    hold.wait(jobs=2)
    cancelled, warned = slurm.jobs("running")
    slurm.said("scancel", "--batch", "--signal=USR1", warned)
    until(lambda: warned not in slurm.jobs("running"), "SIGUSR1 was not heard")
    slurm.said("scancel", cancelled)
    hold.let_go()
    err = ended(head, status=1)
    assert f"failed: Slurm job {cancelled}: it was cancelled (scancel)" in err
    assert "its concept of" in err
    assert sorted(run.info.status for run in runs(line).values()) == ["FINISHED", "KILLED"]


@pytest.mark.long
def test_the_workers_of_a_sweep_through_slurm(line: CommandLine, slurm: Slurm) -> None:
    tuned = ("sweep", "-d", "synthetic", "-m", "agm", "--epochs", "1", "--set", "dataset.samples=64", "--trials", "3")
    process = line.process(*tuned, "--jobs", "2", "--launcher", "slurm", "--launch", "poll=1", env=slurm.environment)
    err = ended(process)
    assert [f"[{n} of 3] synthetic-concat-agm-" in err for n in (1, 2, 3)] == [True] * 3, err
    assert len(list((line.folder / "runs" / "sweeps").glob("*.log"))) == 2


# Ray


@pytest.fixture(scope="module")
def ray() -> Iterator[Ray]:
    cluster = Ray(HELD_AT)
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.long
def test_jobs_of_a_node_of_ray_that_dies_go_on_on_another(line: CommandLine, ray: Ray, undisturbed: Any) -> None:
    hold = Hold(line.folder)
    words = ("suite", "run", "held", "--launcher", "ray", "--launch", f"address={ray.address}")
    head = line.process(*words)
    hold.wait(jobs=2)
    ray.kill(ray.nodes[0])
    until(lambda: "KILLED" in {run.info.status for run in runs(line).values()}, "the job of the dead node goes on")
    hold.let_go()
    err = ended(head)
    assert err.count(": done, test accuracy ") == 3, err
    assert points(line) == undisturbed
    all_finished(line, 3)


@pytest.mark.bad_input
@pytest.mark.long
def test_a_ray_cluster_that_does_not_answer_is_one_line(line: CommandLine) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'agmbench[ray]'")
    words = ("suite", "run", "short", "--launcher", "ray", "--launch", "timeout=5", "--launch")
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        result = line.finish(*words, f"address={address}")
        assert f"error: --launcher ray: the cluster {address} does not answer within 5 seconds" in result.err
        assert result.status == 2
    assert f"--launcher ray: {address} does not answer (ConnectionRefusedError" in line.refused(*words, f"address={address}")
    assert "expected HOST:PORT" in line.refused(*words, "address=nonsense")
