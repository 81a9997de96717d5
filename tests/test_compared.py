"""One training that is compared with several unimodal models: `concept_seed` and `concept_mute`."""

import json
import re
from pathlib import Path

import pytest
from conftest import CommandLine
from mlflow import MlflowClient
from mlflow.entities import Run

from agmbench import build, registry
from agmbench.jobs import compose, spec_of
from agmbench.registry import Registry
from agmbench.trackers.mlflow import MlflowTracker

CODE = '''
from agmbench.datasets.synthetic import Synthetic
from agmbench.modulators.joint import Joint


class Still(Synthetic):
    """The same samples under every seed."""

    follows_seed = False

    def __init__(self, seed: int, *, samples: int = 64) -> None:
        super().__init__(0, samples=samples)


class Broken(Joint):
    """Fails at its first step."""

    def backward(self, model, batch):
        raise RuntimeError("it fails")
'''
REGISTRY = """
datasets:
  still:
    target: code:Still
    job: {encoders: {"*": {name: mlp, params: {hidden: 8, layers: 1}}}, training: {epochs: 2, batch_size: 32, lr: 0.05}}
modulators:
  broken: {target: "code:Broken"}
suites:
  seeds:
    jobs: [{dataset: still, fusion: [concat, early], modulator: joint, set: {concept_seed: [99, 999]}}]
  mutes:
    jobs: [{dataset: still, fusion: early, modulator: joint, set: {concept_mute: [zeros, random]}}]
  broken:
    jobs: [{dataset: still, modulator: broken, set: {concept_seed: [99, 999]}}]
  otherwise:
    jobs:
      - {dataset: synthetic, modulator: joint, set: {concept_seed: 99}}
      - {dataset: still, fusion: concat, modulator: joint, set: {concept_mute: random}}
"""


@pytest.fixture
def line(line: CommandLine) -> CommandLine:
    plugin = line.folder / "plugins" / "mine"
    plugin.mkdir(parents=True)
    (plugin / "code.py").write_text(CODE)
    (plugin / "registry.yaml").write_text(REGISTRY)
    return line


def known(line: CommandLine) -> Registry:
    return registry.load(line.folder / "plugins")


def job(line: CommandLine, fusion: str = "early", **settings: object) -> build.Job:
    found = known(line)
    return build.resolve(compose(found, "still", fusion=fusion, settings=settings.items()), found)


def runs(line: CommandLine) -> dict[str, Run]:
    """The finished runs of jobs by name, with the kind of muting appended unless it is `zeros`. No two runs have the same."""
    client = MlflowClient(f"sqlite:///{line.folder / 'runs' / 'mlflow.db'}")
    found = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
    jobs = [run for run in found if "agmbench.digest" in run.data.tags and run.info.status == "FINISHED"]
    by_name = {f"{run.info.run_name} {run.data.params['mute']}".removesuffix(" zeros"): run for run in jobs}
    assert len(by_name) == len(jobs)
    return by_name


# identity


def test_other_concepts_are_another_job_of_the_same_training(line: CommandLine) -> None:
    own, seed, mute = job(line), job(line, concept_seed=99), job(line, concept_mute="random")
    assert own.training == own.digest == seed.training == mute.training
    assert len({each.digest for each in (own, seed, mute)}) == len({each.cell for each in (own, seed, mute)}) == 3
    assert seed.name == "joint seed 999 on still early concept_seed=99"
    of = {each.name: {m: one.spec for m, one in build.references(each).items()} for each in (own, seed, mute)}
    assert of[seed.name] == {m: one.model_copy(update={"seed": 99}) for m, one in of[own.name].items()}, (
        "concepts are jobs of their own, and know nothing of who is compared with them"
    )
    assert {one.mute for one in of[mute.name].values()} == {"random"}


def test_what_a_run_has_anyway_may_be_said(line: CommandLine) -> None:
    own, said = job(line), job(line, concept_seed=999)
    assert {m: one.digest for m, one in build.references(said).items()} == {
        m: one.digest for m, one in build.references(own).items()
    }


def test_a_spec_of_before_has_none(line: CommandLine) -> None:
    content = job(line).spec.canonical()
    before = {key: value for key, value in content.items() if not key.startswith("concept_")}
    assert spec_of(before) == spec_of(content)


# runs


@pytest.mark.long
def test_one_training_has_a_strength_for_each_seed_of_its_concepts(line: CommandLine) -> None:
    result = line("suite", "run", "seeds", "--jobs", "2")
    assert result.status == 0, result.err + result.out
    assert "suite 'seeds': 4 done, 0 failed, 0 missing, 0 skipped" in result.out
    found = runs(line)
    for fusion in ("concat", "early"):
        trained = found[f"joint seed 999 on still {fusion}"].data
        views = [found[f"joint seed 999 on still {fusion} concept_seed={seed}"].data for seed in (99, 999)]
        assert {view.tags["agmbench.training"] for view in views} == {trained.tags["agmbench.digest"]}
        assert trained.metrics["test/strength/m0"] == views[1].metrics["test/strength/m0"], "its own concepts are those of 999"
        for name in ("test/accuracy", "test/response/m0", "test/loss", "best/epoch", "cost/flops"):
            assert views[0].metrics[name] == views[1].metrics[name] == trained.metrics[name]
        assert views[0].metrics["test/strength/m0"] != views[1].metrics["test/strength/m0"]
        for seed, view in zip((99, 999), views, strict=True):
            concepts = [found[f"concept of {m} seed {seed} on still {fusion}"].data for m in ("m0", "m1")]
            assert json.loads(view.tags["agmbench.references"]) == {
                m: concept.tags["agmbench.digest"] for m, concept in zip(("m0", "m1"), concepts, strict=True)
            }
            assert view.metrics["test/concept/m0"] == concepts[0].metrics["test/accuracy"]
    assert len(found) == 2 * (1 + 2 + 4)
    assert line("suite", "run", "seeds").err == "", "all is done"

    shown = line("compare", "-f", "early").out
    for title in (
        "still, fusion early\n",
        "still, fusion early, concept_seed=99\n",
        "still, fusion early, concept_seed=999\n",
    ):
        assert title in re.sub(" +\n", "\n", shown), shown
    assert "against joint" not in shown
    assert line("suite", "report", "seeds").status == 0
    page = (line.folder / "seeds.html").read_text()
    assert "4 finished runs in 4 cells" in page
    assert "<h2>still, fusion early, concept_seed=99</h2>" in page


def test_a_strength_with_its_own_concepts_is_the_number_that_it_was(line: CommandLine) -> None:
    words = ("run", "-d", "still", "-m", "joint", "-f", "early")
    for more in ((), ("--set", "concept_seed=999"), ("--set", "concept_mute=zeros")):
        result = line(*words, *more)
        assert result.status == 0, result.err
    found = runs(line)
    names = ["", " concept_seed=999", " concept_mute=zeros"]
    assert len({found[f"joint seed 999 on still early{name}"].data.metrics["test/strength/m0"] for name in names}) == 1
    assert "is done already" in line(*words, "--set", "concept_seed=999").err
    assert len(found) == 3 + 2


@pytest.mark.long
def test_one_training_has_a_strength_for_each_padding_of_its_concepts(line: CommandLine) -> None:
    assert line("suite", "run", "mutes").status == 0
    found = runs(line)
    zeros, random = (found[f"joint seed 999 on still early concept_mute={mute}"].data for mute in ("zeros", "random"))
    assert zeros.metrics["test/strength/m0"] != random.metrics["test/strength/m0"]
    same = [name for name in zeros.metrics if name.startswith(("test/accuracy", "test/response", "test/coalition"))]
    assert len(same) > 4
    for name in same:
        assert zeros.metrics[name] == random.metrics[name], "the joint model is evaluated as ever"
    assert [name for name in found if "concept" not in name] == ["joint seed 999 on still early"]
    assert {"concept of m0 seed 999 on still early", "concept of m0 seed 999 on still early random"} < found.keys()


def test_a_metric_is_measured_anew_beside_the_same_concepts(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert line("run", "-d", "still", "-m", "joint", "-f", "early", "--set", "concept_seed=99").status == 0
    monkeypatch.chdir(line.folder)
    tracker = MlflowTracker()
    (before,) = [record for record in tracker.records("still") if record.digest != record.training]
    tracker._client.delete_tag(before.run_id, "agmbench.metric.competition-strength")
    assert line("measure", "competition-strength").status == 0
    (after,) = [record for record in tracker.records("still") if record.digest != record.training]
    assert after.measurements["competition-strength"] == before.measurements["competition-strength"]
    (own,) = [record for record in tracker.records("still") if record.digest == record.training and not record.concept]
    assert "competition-strength" not in own.measurements


@pytest.mark.long
def test_a_training_that_fails_is_started_once(line: CommandLine) -> None:
    result = line("suite", "run", "broken")
    assert result.status == 1
    assert result.err.count("it fails") == 2
    assert "concept_seed=999: failed: its training failed: " in result.err
    assert "suite 'broken': 0 done, 2 failed, 0 missing, 0 skipped" in result.out


# bad input


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("-d", "synthetic", "--set", "concept_seed=99"),
            "'synthetic' has other samples under that seed, so unimodal models (concepts)",
        ),
        (
            ("-d", "still", "--set", "concept_mute=random"),
            "under fusion 'concat' a unimodal model (concept) is one encoder and a head",
        ),
        (
            ("-d", "still", "--set", "concept_seed=99", "--no-strength"),
            "concept_seed=99 is only for metrics that compare with unimodal models (concepts)",
        ),
        (("-d", "still", "--set", "concept_seed=-1"), "'concept_seed' is -1: "),
        (("-d", "still", "-f", "early", "--set", "concept_mute=ones"), "'concept_mute' is 'ones': "),
        (("-d", "still", "--set", "concept_sed=1"), "did you mean 'concept_seed'?"),
    ],
)
def test_concepts_that_were_trained_otherwise_are_one_line(words: tuple[str, ...], said: str, line: CommandLine) -> None:
    assert said in line.refused("run", "-m", "joint", *words)


def test_a_suite_skips_what_cannot_be_compared(line: CommandLine) -> None:
    shown = line("suite", "show", "otherwise").out
    assert "synthetic joint concept_seed=99 seed 999, because concept_seed=99: data set 'synthetic' has other samples" in shown
    assert "concept_mute=random seed 999, because concept_mute=random: under fusion 'concat'" in shown
    assert not Path(line.folder, "runs").exists()
