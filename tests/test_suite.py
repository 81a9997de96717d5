"""Suites: jobs are made of a matrix, only missing ones are run, and a job that fails does not stop the others."""

import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PATIENCE, CommandLine, Hold, children, files
from mlflow import MlflowClient
from mlflow.entities import Run
from test_remote import Server

from agmbench import build, registry, suite
from agmbench.errors import AgmbenchError
from agmbench.jobs import JobSpec, compose
from agmbench.launch import Ended, Launcher, Task
from agmbench.trackers.mlflow import MlflowTracker

SUITES = """
suites:
  tiny:
    summary: a suite of this test
    seeds: [1, 2]
    jobs:
      - dataset: synthetic
        modulator: [joint, agm]
        set: {training.epochs: 2, dataset.samples: 64}
    scales:
      one: {training.epochs: 1}
      each: {training.epochs: 3, datasets: {synthetic: {training.epochs: 1}, cremad: {limit: 2}}}
  mixed:
    jobs:
      - {dataset: synthetic, modulator: joint, set: {training.epochs: 1, dataset.samples: 64}}
      - {dataset: synthetic, modulator: joint, set: {training.epochs: 1, dataset.samples: 64, training.lr: 1.0e+30}}
      - {dataset: synthetic, fusion: early, modulator: ogm, set: {training.epochs: 1, dataset.samples: 64}}
      - {dataset: synthetic, modulator: nothing}
      - {dataset: cremad, modulator: joint}
  killer:
    jobs:
      - {dataset: synthetic, modulator: [joint, killed], set: {training.epochs: 1, dataset.samples: 64}}
  long:
    jobs:
      - {dataset: synthetic, modulator: agm, set: {training.epochs: 6, dataset.samples: 512, training.select_by: held}}
"""

PAPERS = ["main", "table5", "table6", "table7", "table8"]


@pytest.fixture
def line(line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("AGMBENCH_DATA", str(tmp_path_factory.mktemp("no data")))
    with_suites(line.folder, SUITES)
    return line


def with_suites(folder: Path, text: str) -> Path:
    path = folder / "plugins" / "mine" / "registry.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return folder / "plugins"


def known(tmp_path: Path, text: str = SUITES) -> registry.Registry:
    return registry.load(with_suites(tmp_path, text))


def runs(line: CommandLine, condition: str = "tags.`agmbench.digest` != ''") -> list[Run]:
    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{line.folder / 'runs' / 'mlflow.db'}")
    return [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id], condition)]


# plans


def labels(planned: list[suite.Planned]) -> list[str]:
    return [one.label for one in planned]


def test_a_plan_is_the_product_of_its_lists(tmp_path: Path) -> None:
    found = known(tmp_path)
    planned = suite.plan(suite.read(found, "tiny"), found)
    assert len(planned) == 4
    assert labels(planned)[0] == "synthetic joint training.epochs=2 dataset.samples=64 seed 1"
    assert len({one.job.digest for one in planned if one.job}) == 4


def test_lists_of_settings_are_a_dimension_and_seeds_count_up(tmp_path: Path) -> None:
    text = "suites: {s: {seeds: [7], jobs: [{dataset: synthetic, modulator: agm, set: {mute: [zeros, random]}}]}}"
    found = known(tmp_path, text)
    planned = suite.plan(suite.read(found, "s"), found, seeds=3, limit=50)
    assert labels(planned) == [
        f"synthetic agm mute={mute} limit=50 seed {seed}" for mute in ("zeros", "random") for seed in (7, 8, 9)
    ]
    assert len(suite.plan(suite.read(found, "s"), found, seeds=1)) == 2


def test_data_sets_are_a_dimension_too(tmp_path: Path) -> None:
    found = known(tmp_path, "suites: {s: {jobs: [{dataset: [avmnist-mini, synthetic], modulator: [joint, agm]}]}}")
    planned = suite.plan(suite.read(found, "s"), found)
    both = ("avmnist-mini", "synthetic")
    assert labels(planned) == [f"{dataset} {modulator} seed 999" for dataset in both for modulator in ("joint", "agm")]


def test_a_scale_sets_on_top(tmp_path: Path) -> None:
    found = known(tmp_path)
    (first, *_) = suite.plan(suite.read(found, "tiny"), found, scale="one")
    assert first.job is not None
    assert first.job.spec.training.epochs == 1
    assert first.job.digest == at(found, "tiny", scale="each")[0].digest, "of a data set, on top of those of all"
    assert at(found, "tiny")[0].spec.training.epochs == 2, "as it stands"
    with pytest.raises(
        AgmbenchError, match=r"suite 'tiny' has no scale 'small' \(without --scale it is as it stands\): Known: each, one"
    ):
        suite.plan(suite.read(found, "tiny"), found, scale="small")


def at(found: registry.Registry, name: str, **asked: Any) -> list[build.Job]:
    """The jobs of a suite. Fails if one is skipped."""
    planned = suite.plan(suite.read(found, name), found, **asked)
    assert not any(one.skipped for one in planned), planned
    return [one.job for one in planned if one.job]


def test_settings_lie_on_top_of_suite_and_scale(tmp_path: Path) -> None:
    found = known(tmp_path)
    jobs = at(found, "tiny", scale="one", seeds=1, settings=[("training.epochs", [4, 5]), ("training.lr", 0.3)])
    assert [job.spec.training.epochs for job in jobs] == [4, 4, 5, 5]
    assert {job.spec.training.lr for job in jobs} == {0.3}
    for wrong, said in ((("seed", 3), "say how many with --seeds"), (("training.lr", []), "an empty list has no value")):
        with pytest.raises(AgmbenchError, match=said):
            suite.plan(suite.read(found, "tiny"), found, settings=[wrong])


def test_what_cannot_be_is_skipped_because(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGMBENCH_DATA", str(tmp_path))
    found = known(tmp_path)
    planned = suite.plan(suite.read(found, "mixed"), found)
    assert [bool(one.skipped) for one in planned] == [False, False, False, True, True]
    assert "unknown modulator 'nothing'" in planned[3].skipped
    assert "dataset/cremad: there is no data in" in planned[4].skipped
    assert "needs a term of each modality's own" in suite.checked(planned)[2].skipped


@pytest.mark.parametrize("name", PAPERS)
def test_every_cell_of_the_papers_suites_can_be(line: CommandLine, name: str) -> None:
    found = registry.builtin()
    asked = suite.read(found, name)
    for dataset in {dataset for block in asked.jobs for dataset in block.dataset}:
        assert line("data", "sample", dataset).status == 0
    planned = suite.checked(suite.plan(asked, found))
    assert [one.skipped for one in planned] == [""] * len(planned)
    jobs: dict[str, list[JobSpec]] = {}
    for scale in ("paper", "readme", "honest", "small", "quick"):
        planned = suite.plan(asked, found, scale)
        assert [one.skipped for one in planned] == [""] * len(planned), scale
        jobs[scale] = [one.job.spec for one in planned if one.job]
    for scale, protocol in (("paper", "paper"), ("readme", "paper"), ("honest", "agmbench"), ("small", "paper")):
        assert {spec.dataset.params["protocol"] for spec in jobs[scale]} == {protocol}, scale
    authors = {"avmnist": 1000, "urfunny": 800, "cremad": 1500}
    for scale in ("paper", "honest"):
        told = [(spec, authors[spec.dataset.name]) for spec in jobs[scale] if spec.dataset.name in authors]
        assert {spec.training.epochs - epochs for spec, epochs in told} <= {0}
    epochs = {spec.training.epochs for spec in jobs["readme"] if spec.dataset.name not in ("ave", "mosei")}
    assert epochs == {100}, "of ave and mosei it has no example"


def test_kinetics_sounds_has_both_trainings_of_the_supplement(line: CommandLine) -> None:
    found = registry.builtin()
    assert line("data", "sample", "kinetics-sound").status == 0
    (ours, theirs) = (at(found, "table7", scale=scale)[0].spec.training for scale in ("paper", "section-c"))
    avmnist = compose(found, "avmnist").training
    assert theirs == avmnist.model_copy(update={"epochs": 1000}) != ours
    assert ours == compose(found, "kinetics-sound").training
    assert "31 classes" in suite.read(found, "table7").summary


def test_tables_5_and_6_are_one_training_and_several_concepts(line: CommandLine) -> None:
    found = registry.builtin()
    for dataset in ("avmnist", "cremad"):
        assert line("data", "sample", dataset).status == 0
    for name, count in (("table5", 8), ("table6", 4)):
        jobs = at(found, name, scale="paper")
        assert len({job.digest for job in jobs}) == count
        assert len({job.training for job in jobs}) == count // 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("suites: {s: {jobs: [{dataset: synthetic}]}}", "suite 's': needs 'jobs.0.modulator'"),
        (
            "suites: {s: {jobs: [{dataset: synthetic, modulator: agm, colour: 1}]}}",
            "unknown key 'jobs.0.colour': Known: dataset, encoder, fusion, ",
        ),
        ("suites: {s: {jobs: [{dataset: synthetic, modulater: agm}]}}", "key 'jobs.0.modulater': did you mean 'modulator'?"),
        ("suites: {s: {}}", "suite 's': needs 'jobs'"),
        (
            "suites: {s: {jobs: [{dataset: synthetic, modulator: agm}], seeds: 3}}",
            "suite 's': 'seeds' is 3: input should be a list",
        ),
        ("suites: {s: {job: []}}", "suite 's': unknown key 'job': did you mean 'jobs'?"),
        (
            "suites: {s: {jobs: [{dataset: synthetic, modulator: agm}], scales: {x: {datasets: {synthetic: 3}}}}}",
            "'datasets' of scale 'x' should have a mapping of settings for each; found {'synthetic': 3}",
        ),
        (
            "suites: {s: {jobs: [{dataset: synthetic, modulator: agm}], scales: {x: {datasets: {synthetic: {fusions: [early]}}}}}}",
            "'fusions' of scale 'x' should have a mapping of settings for each; found ['early']",
        ),
        (
            "suites: {s: {jobs: [{dataset: synthetic, modulator: agm}], published: [4]}}",
            "no figures of table 4 are here; there are those of 5, 6, 7, 8",
        ),
    ],
)
def test_a_suite_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    found = known(tmp_path, text)
    with pytest.raises(AgmbenchError, match=r"plugins/mine/registry\.yaml:1: ") as error:
        suite.read(found, "s")
    assert said in str(error.value)


def test_a_scale_is_narrowed_to_a_data_set_and_to_a_fusion(tmp_path: Path) -> None:
    jobs = "[{dataset: [synthetic, avmnist-mini], fusion: [late, early], modulator: joint}]"
    narrowed = "{limit: 8, fusions: {early: {limit: 9}}, datasets: {synthetic: {limit: 10, fusions: {concat: {limit: 11}}}}}"
    found = known(tmp_path, f"suites: {{s: {{jobs: {jobs}, scales: {{x: {narrowed}, y: {{fusions: {{erly: {{}}}}}}}}}}}}")
    planned = [each.job.spec for each in suite.plan(suite.read(found, "s"), found, "x") if each.job]
    assert {(spec.dataset.name, spec.fusion.name): spec.limit for spec in planned} == {
        ("synthetic", "concat"): 11,
        ("synthetic", "early"): 9,
        ("avmnist-mini", "concat"): 8,
        ("avmnist-mini", "early"): 9,
    }
    with pytest.raises(AgmbenchError, match="erly"):
        suite.plan(suite.read(found, "s"), found, "y")


def test_suites_have_one_name(tmp_path: Path) -> None:
    with pytest.raises(
        AgmbenchError, match=r"suite 'mini' is defined twice: in registry\.yaml:\d+ and in plugins/mine/registry\.yaml:1"
    ):
        known(tmp_path, "suites: {mini: {jobs: []}}").suite("mini")


def test_every_built_in_suite_is_well_formed() -> None:
    found = registry.builtin()
    assert {"main", "mini", "table5", "table6", "table7", "table8"} <= set(found.names("suite"))
    for name in found.names("suite"):
        parsed = suite.read(found, name)
        for planned in suite.plan(parsed, found, seeds=1):
            assert "unknown" not in planned.skipped, planned
    names = {e.name for e in found.entries("modulator")}
    blocks = suite.read(found, "mini").jobs
    assert {m for block in blocks for m in block.modulator} == names


class Nowhere(Launcher):
    """A launcher with which no job can start."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Ended]:
        return (Ended(task, "no machine", 0) for task in tasks)


FAR = """
import os
from pathlib import Path

from agmbench.contracts import Unsuitable
from agmbench.datasets.synthetic import Synthetic


class Far(Synthetic):
    def __init__(self, seed: int, *, samples: int = 64) -> None:
        if not Path(os.environ["AGMBENCH_DATA"], "far").exists():
            raise Unsuitable("there is no data in this place")
        super().__init__(seed, samples=samples)
"""
ELSEWHERE = """
datasets:
  far: {target: 'far:Far', job: {encoders: {'*': mlp}, fusion: concat, training: {epochs: 1}}}
suites:
  far:
    jobs:
      - {dataset: far, modulator: [joint, agm]}
      - {dataset: far, fusion: early, modulator: ogm}
"""


def with_far(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a data set that can only be opened while the data folder has a folder `far`."""
    (with_suites(line.folder, ELSEWHERE) / "mine" / "far.py").write_text(FAR)
    monkeypatch.setenv("AGMBENCH_DATA", str(line.folder / "data"))
    (line.folder / "data" / "far").mkdir(parents=True)


def test_whoever_looks_needs_no_data(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    with_far(line, monkeypatch)
    monkeypatch.chdir(line.folder)
    found = registry.load(line.folder / "plugins")
    tracker, asked = MlflowTracker(), suite.read(found, "far")
    here = suite.checked(suite.plan(asked, found))
    (line.folder / "data" / "far").rmdir()
    away = suite.plan(asked, found)
    assert [(one.stored, one.digest) for one in suite.remembered(away, "far", tracker)] == [(None, "")] * 3
    assert not (line.folder / "runs").exists(), "looking makes no store"

    todo = suite.todo(here, tracker, found)
    assert len(list(suite.run("far", todo, tracker, Nowhere(line.folder, "s"), line.folder / "jobs"))) == 4
    there = suite.remembered(away, "far", tracker)
    assert [(one.digest, one.needed()) for one in there[:2]] == [(one.digest, one.needed()) for one in here[:2]]
    assert len(there[0].needed()) == 3, "itself and two concepts"
    assert there[2].skipped == here[2].skipped != ""
    other = suite.remembered(suite.plan(asked, found, settings=[("training.lr", 0.5)]), "far", tracker)
    assert not any(one.stored for one in other), "other jobs than those that were planned"
    far = suite.progress(there, tracker, found)
    assert [len(some) for some in (far.done, far.failed, far.missing, far.skipped)] == [0, 0, 2, 1]


# runs


@pytest.mark.long
def test_a_suite_that_was_run_elsewhere_is_told_of_without_its_data(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    with_far(line, monkeypatch)
    assert line.finish("suite", "run", "far").status == 0
    expected = line("suite", "status", "far").out
    assert "suite 'far': 2 done, 0 failed, 0 missing, 1 skipped" in expected
    (line.folder / "data" / "far").rmdir()
    status = line("suite", "status", "far")
    assert status.out == expected
    assert "note: 3 jobs on far cannot be built on this machine; they are shown as another machine planned them" in status.err
    assert line("suite", "report", "far").status == 0
    assert "agm" in (line.folder / "far.html").read_text()
    more = line("suite", "status", "far", "--seeds", "2")
    assert "2 done, 0 failed, 0 missing, 4 skipped" in more.out
    assert "note: 3 jobs cannot be built on this machine, and the store does not know them" in more.err


@pytest.mark.long
def test_a_suite_runs_what_is_missing(line: CommandLine) -> None:
    assert "tiny" in line("suite", "list").out
    assert "4 jobs, 0 skipped" in line("suite", "show", "tiny").out
    mixed = line("suite", "show", "mixed").out.splitlines()
    skipped = [job.removesuffix(": skipped") for job in mixed if job.endswith(": skipped")]
    assert [label for label in skipped if "early ogm" in label] == [skipped[0]]
    because = [said for said in mixed if said.startswith("skipped: ")]
    assert because[0].startswith(f"skipped: {skipped[0]}, because modulator 'ogm' needs")
    everywhere = line("suite", "show", "main").out.splitlines()
    absent = {said.split()[1] for said in everywhere if said.startswith("skipped: ")}
    assert absent == {"avmnist", "cremad", "urfunny", "kinetics-sound", "ave", "mosei"}
    assert sum(said.endswith(": skipped") for said in everywhere) > 4 * len(absent), "many jobs have the same reason"
    assert sum(said.startswith("skipped: ") for said in everywhere) == len(absent), "and it is told once"
    assert "0 done, 0 failed, 4 missing, 0 skipped" in line("suite", "status", "tiny").out
    assert "no job of suite 'tiny' is done yet; run it with: agmbench suite run tiny" in line("suite", "report", "tiny").err
    assert not (line.folder / "runs").exists()

    result = line("suite", "run", "tiny", "--jobs", "2")
    assert result.status == 0, result.err
    assert "suite 'tiny': 4 done, 0 failed, 0 missing, 0 skipped" in result.out
    assert result.err.count(": done") == 8  # two unimodal models per seed
    assert {run.info.status for run in runs(line)} == {"FINISHED"}
    (parent,) = runs(line, "tags.`agmbench.suite` = 'tiny'")
    assert (parent.info.run_name, parent.info.status) == ("suite tiny", "FINISHED")
    client = MlflowClient(f"sqlite:///{line.folder / 'runs' / 'mlflow.db'}")
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == [
        "plan.json",
        "report.html",
        "report.sha256",
        "summary.md",
    ]
    (written,) = (line.folder / "runs" / "artifacts").rglob("summary.md")  # there is only one
    made, summary = written.stat().st_mtime_ns, written.read_text()
    assert summary.startswith("# agmbench suite tiny\n\nsuite 'tiny': 4 done")
    assert "| agm | 2 |" in summary
    assert {run.data.tags["mlflow.parentRunId"] for run in runs(line)} == {parent.info.run_id}
    client.update_run(parent.info.run_id, status="RUNNING")  # as if the command was killed just after its last job
    assert line.finish("suite", "run", "tiny").status == 0
    (parent,) = runs(line, "tags.`agmbench.suite` = 'tiny'")
    assert parent.info.status == "FINISHED"
    assert len(runs(line)) == 8
    assert all(
        any(name.startswith("test/strength") for name in r.data.metrics)
        for r in runs(line)
        if "concept of" not in r.info.run_name
    )

    job = next(run for run in runs(line) if run.info.run_name == "agm seed 1 on synthetic concat")
    left = line.folder / "runs" / "unfinished" / job.data.tags["agmbench.digest"]
    left.mkdir(parents=True)  # as if the process was killed just after its run was finished
    assert line("suite", "run", "tiny").err.count(": done") == 1
    assert not left.exists()
    again = line("suite", "run", "tiny")
    assert again.err == ""
    assert len(runs(line)) == 8
    shutil.rmtree(line.folder / "runs" / "suites")  # as on another machine
    assert line("suite", "run", "tiny").status == 0
    assert written.stat().st_mtime_ns == made, "no report is made where nothing has changed"
    client.delete_run(job.info.run_id)
    assert line("suite", "run", "tiny").err.count(": done") == 1
    assert written.stat().st_mtime_ns > made, "another run is not the one that the report was made of"
    assert "missing: synthetic joint" in line("suite", "status", "tiny", "--scale", "one").out

    settings = ("--scale", "one", "--set", "training.lr=0.2", "--seeds", "1")
    assert (
        "agmbench suite run tiny --scale one --seeds 1 --set training.lr=0.2" in line("suite", "report", "tiny", *settings).err
    )
    assert line("suite", "run", "tiny", *settings).status == 0
    assert "2 done, 0 failed, 0 missing" in line("suite", "status", "tiny", *settings).out
    assert "training.lr=0.2" in line("suite", "show", "tiny", *settings).out
    assert line("suite", "report", "tiny", *settings, "--output", "other.html").status == 0
    page = (line.folder / "other.html").read_text()
    assert "<h1>agmbench suite tiny --scale one --seeds 1 --set training.lr=0.2</h1>" in page
    assert "supplement" not in page, "it makes none of its tables again"

    report = line("suite", "report", "tiny", "--published")
    assert report.status == 0, report.err
    page = (line.folder / "tiny.html").read_text()
    assert "<table" in page
    assert "4 done, 0 failed, 0 missing, 0 skipped" in page
    assert "supplement, has no figures of synthetic" in page


@pytest.mark.long
def test_a_failed_job_is_recorded_and_the_rest_go_on(line: CommandLine) -> None:
    result = line("suite", "run", "mixed", "--jobs", "2")
    assert result.status == 1
    assert "suite 'mixed': 1 done, 1 failed, 0 missing, 3 skipped" in result.out
    assert "not finite" in next(text for text in result.out.splitlines() if text.startswith("failed: "))
    assert "because modulator 'ogm' needs a term of each modality's own" in result.out
    assert result.err.splitlines()[-1].startswith("error: ")
    assert "3 jobs of suite 'mixed' failed; see the output of each job in runs/suites/mixed" in result.err
    (unstarted,) = [text for text in result.err.splitlines() if "its concept of m" in text]
    assert "joint seed 999 on synthetic concat: failed: its concept of m0 failed: the lo" in unstarted
    assert not runs(line, "attributes.run_name = 'joint seed 999 on synthetic concat' and attributes.status = 'FAILED'")
    line("suite", "report", "mixed")
    page = (line.folder / "mixed.html").read_text()
    assert "failed: synthetic joint training.epochs=1" in page
    assert "skipped: synthetic early ogm" in page


@pytest.mark.long
def test_a_job_whose_process_is_killed_is_recorded_and_the_rest_go_on(line: CommandLine) -> None:
    (line.folder / "plugins" / "mine" / "killed.py").write_text(
        "import os, signal\nfrom agmbench.modulators.joint import Joint\n\n\nclass Killed(Joint):\n"
        "    def backward(self, model, batch):\n        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with_suites(line.folder, f"modulators:\n  killed: {{target: 'killed:Killed'}}\n{SUITES}")
    result = line("suite", "run", "killer")
    assert result.status == 1
    assert "killed seed 999 on synthetic concat: failed: its process ended with status -9" in result.err
    assert "suite 'killer': 1 done, 1 failed, 0 missing, 0 skipped" in result.out
    (run,) = runs(line, "attributes.status = 'FAILED'")
    assert run.data.tags["agmbench.reason"] == "its process ended with status -9"


def test_a_job_is_started_from_its_file_alone(line: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert (
        line("run", "-d", "synthetic", "-m", "joint", "--epochs", "1", "--no-strength", "--set", "dataset.samples=64").status
        == 0
    )
    (file,) = [path for path in (line.folder / "runs" / "artifacts").rglob("job.yaml") if path.parent.name == "artifacts"]
    elsewhere = CommandLine(tmp_path_factory.mktemp("elsewhere"))
    assert elsewhere("run", "--job", str(file), "--no-strength").status == 0
    digests = {run.data.tags["agmbench.digest"] for where in (line, elsewhere) for run in runs(where)}
    assert len(digests) == 1
    assert "--job already defines the job; remove --seed" in elsewhere("run", "--job", str(file), "--seed", "3").err
    (elsewhere.folder / "broken.yaml").write_text(yaml.safe_dump({"spec": {"dataset": 1}}))
    assert "broken.yaml: 'dataset' is 1: " in elsewhere.refused("run", "--job", "broken.yaml")
    assert "gone.yaml cannot be read (FileNotFoundError: " in elsewhere.refused("run", "--job", "gone.yaml")


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "epoch"),
    [(signal.SIGKILL, 1), (signal.SIGTERM, 1), (signal.SIGKILL, 3)],
    ids=["before any state", "ended before any state", "with states"],
)
def test_a_suite_that_was_killed_leaves_nobody_and_goes_on(line: CommandLine, number: int, epoch: int) -> None:
    hold = Hold(line.folder)
    process = line.process("suite", "run", "long", "--jobs", "2", env={"HOLD_AT": str(epoch)})
    hold.wait(jobs=2)
    family = children(process.pid)
    os.kill(process.pid, number)
    process.communicate()
    deadline = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}/exe").exists() and "python" in Path(f"/proc/{pid}/cmdline").read_text() for pid in family):
        assert time.monotonic() < deadline, "a job outlives its suite"
        time.sleep(0.1)
    assert sorted(run.info.status for run in runs(line)) == ["KILLED"] * 2
    hold.let_go()
    result = line("suite", "run", "long", "--jobs", "2")
    assert result.status == 0, result.err
    assert "suite 'long': 1 done" in result.out
    logs = [log.read_text() for log in (line.folder / "runs/suites/long").glob("*.log")]
    assert sum("epochs 0 to" not in log for log in logs) == (0 if epoch == 1 else 2)
    assert sorted(run.info.status for run in runs(line)) == ["FINISHED"] * 3
    assert len({run.info.run_name for run in runs(line)}) == 3


@pytest.mark.long
@pytest.mark.parametrize("where", ["file", "server"])
def test_a_job_whose_process_was_killed_was_left_behind(
    where: str, line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = Server(tmp_path_factory.mktemp("store")) if where == "server" else None
    if server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    try:
        hold, settings = Hold(line.folder), ("--set", "dataset.samples=512", *Hold.settings)
        words = ("-d", "synthetic", "-m", "agm", "--epochs", "6", "--no-strength", *settings)
        process = line.process("run", *words, env={"HOLD_AT": "2"})
        hold.wait()
        who = f"agm seed 999 on synthetic concat, by process {process.pid} on "
        assert f"\nat work: {who}" in line("suite", "status", "long").out
        process.kill()
        process.communicate()
        before = [run.to_dictionary() for run in runs(line)], files(line.folder)
        status = line("suite", "status", "long")
        assert "suite 'long': 0 done, 0 failed, 1 missing, 0 skipped" in status.out
        assert f"\nleft behind: {who}" in status.out
        assert "missing: " not in status.out, "it is said once"
        assert ([run.to_dictionary() for run in runs(line)], files(line.folder)) == before, "whoever looks changes nothing"
        hold.let_go()
        assert line("run", *words).status == 0
        (run,) = runs(line)
        assert (run.info.run_id, run.info.status) == (before[0][0]["info"]["run_id"], "FINISHED"), "it was taken over"
        assert "\nleft behind: " not in line("suite", "status", "long").out
    finally:
        if server:
            server.end()


@pytest.mark.long
def test_two_suites_at_once_train_each_job_once(line: CommandLine) -> None:
    both = [line.process("suite", "run", "tiny", "--seeds", "1") for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
    names = [run.info.run_name for run in runs(line)]
    assert sorted(names) == sorted(set(names))
    assert len(names) == 4


@pytest.mark.bad_input
def test_an_unknown_suite_is_one_line(line: CommandLine) -> None:
    assert "say how many with --seeds" in line.refused("suite", "run", "tiny", "--set", "seed=3")
    assert "should be key=value" in line.refused("suite", "status", "tiny", "--set", "training.lr")
    for verb in ("show", "run", "status", "report"):
        assert "unknown suite 'minni': did you mean 'mini'? Known: " in line.refused("suite", verb, "minni")
