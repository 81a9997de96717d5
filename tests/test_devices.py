"""Several processes that train one job together get the same numbers as one process with the whole batch."""

import os
import pickle
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PATIENCE, SMALL, CommandLine, Hold
from test_train import REGISTRY
from together import Trained, all_trained, dropped, gradients, noisy, read, together, trained

from agmbench.distributed.ranks import Ranks
from agmbench.distributed.stand_in import StandIn
from agmbench.records import Record
from agmbench.trackers.mlflow import MlflowTracker

PAPERS = ("joint", "ogm-ge", "agm", "agm-ge", "mmpareto", "mla", "pmr", "reconboost")


def agree(found: Trained, expected: Trained, within: float = 1e-4) -> None:
    """Fail unless weights and all recorded points (losses, scores, kappas, measures on valid) agree."""
    for key, value in expected[0].items():
        assert torch.allclose(found[0][key], value, rtol=0, atol=within, equal_nan=True), key
    assert [(point.name, point.step) for point in found[1]] == [(point.name, point.step) for point in expected[1]]
    for one, other in zip(found[1], expected[1], strict=True):
        assert one.value == pytest.approx(other.value, rel=10 * within, abs=within, nan_ok=True), one.name


def same(results: list[dict[str, Trained]]) -> None:
    """Fail unless the results of all ranks are equal bit by bit."""
    for other in results[1:]:
        for name, (tensors, points, _) in results[0].items():
            for key, tensor in tensors.items():
                assert torch.equal(other[name][0][key].nan_to_num(), tensor.nan_to_num()), (name, key)
            assert other[name][1] == points, name


@pytest.mark.parametrize(("size", "total"), [(2, 7), (3, 8), (8, 8), (3, 64)])
def test_samples_are_dealt_out_once_each_and_evenly(size: int, total: int) -> None:
    ranks = [Ranks(rank, size, None) for rank in range(size)]
    assert [number for one in ranks for number in range(total)[one.own(total)]] == [*range(total)]
    assert {len(range(total)[one.own(total)]) for one in ranks} <= {total // size, total // size + 1}


class Shelf:
    """Stands for the things that a store returns."""

    def __init__(self) -> None:
        self.name, self.weight = "shelf", lambda: 3

    def put(self, other: "Shelf") -> str:
        return f"{self.name} on {other.name}"

    def __enter__(self) -> "Shelf":
        return self

    def __exit__(self, *_: object) -> None:
        self.name = "left"


class Alone(Ranks):
    """A first rank without others, which sends what it tells through pickle."""

    def broadcast(self, what: Any) -> Any:
        return pickle.loads(pickle.dumps(what))


def test_the_store_answers_what_it_would_answer_one_process() -> None:
    shelf: Any = StandIn(Alone(0, 1, None), Shelf(), Shelf)
    assert (shelf.name, shelf.weight()) == ("shelf", 3)
    with shelf as entered:
        assert entered.put(shelf) == "shelf on shelf"
    assert shelf.name == "left"


@pytest.mark.long
@pytest.mark.parametrize("size", [2, 3])
def test_every_method_has_the_numbers_of_one_process(size: int) -> None:
    # batches of 31, and a last one of two samples, which is too small for three ranks
    settings = {"training.epochs": 3, "training.batch_size": 31, "dataset.samples": 100, "mute": "random"}
    names = REGISTRY.names("modulator")
    results = together(size, all_trained, "synthetic", names, settings)
    same(results)
    for name in names:
        agree(results[0][name], trained("synthetic", name, settings))


@pytest.mark.long
@pytest.mark.parametrize("fusion", ["concat", "film"])
def test_networks_with_batch_norm_too(fusion: str) -> None:
    # a low learning rate, so that rounding differences of 2e-7 do not grow or switch a unit of a ReLU
    settings: dict[str, Any] = {"training.epochs": 2, "training.batch_size": 17, "training.lr": 0.001, "limit": 70}
    settings |= {"fusion": fusion, "training.accumulate": 1 if fusion == "concat" else 2}
    names = PAPERS if fusion == "concat" else ("joint", "agm", "mmpareto")
    results = together(2, all_trained, "avmnist-mini", names, settings)
    same(results)
    for name in names:
        agree(results[0][name], trained("avmnist-mini", name, settings))


@pytest.mark.long
@pytest.mark.parametrize(("size", "samples"), [(2, 5), (3, 7), (3, 2)])
def test_gradients_of_every_sort_are_those_of_the_whole_batch(size: int, samples: int) -> None:
    expected = gradients(5, samples)
    assert any(name.startswith("second") for name in expected)
    for found in together(size, gradients, 5, samples):
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            assert torch.allclose(found[name], gradient, rtol=1e-9, atol=1e-12), name


@pytest.mark.long
def test_a_job_goes_on_with_another_number_of_processes() -> None:
    settings = {"training.epochs": 4, "training.batch_size": 20, "dataset.samples": 96, "training.optimizer": "adam"}
    whole = trained("synthetic", "agm-ge", settings)
    begun = together(2, trained, "synthetic", "agm-ge", settings, None, 2)[0]
    alone = trained("synthetic", "agm-ge", settings, begun[2])
    agree((alone[0], [*begun[1], *alone[1]], None), whole)
    for after in together(3, trained, "synthetic", "agm-ge", settings, begun[2]):
        agree((after[0], [*begun[1], *after[1]], None), whole)


@pytest.mark.long
def test_who_draws_numbers_of_its_own_is_found_out() -> None:
    for said in together(2, noisy):
        assert "have arrived at different numbers" in said
        assert "remove --devices" in said


@pytest.mark.long
def test_each_rank_reads_its_own_samples_and_has_them_all() -> None:
    pieces = [[4, 9, 2, 7, 1], [3, 0]]
    expected, _ = read(pieces)
    results = together(3, read, pieces)
    assert [asked for _, asked in results] == [[4, 9, 3, 0], [2, 7, 3, 0], [1, 3, 0]]
    for batches, _ in results:
        for batch, whole in zip(batches, expected, strict=True):
            assert all(torch.equal(one, other) for one, other in zip(batch.tensors(), whole.tensors(), strict=True))


@pytest.mark.long
def test_encoders_draw_for_each_sample_anew_and_all_ranks_go_on_alike() -> None:
    (made, after), *others = together(2, dropped)
    assert all(torch.equal(made, one) and torch.equal(after, two) for one, two in others)
    assert not torch.equal(made[:5], made[5:])  # the two halves are from two ranks


# the command line ---------------------------------------------------------------------------------------------------


@pytest.mark.bad_input
def test_a_number_of_devices_that_cannot_be(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--devices" in line.refused("run", "--devices", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert "this process was already started as one of 2" in line.refused("run", "--devices", "3")


REFUSING = """
from agmbench.contracts import Promises
from agmbench.modulators.joint import Joint


class Lonely(Joint):
    promises = Promises(divides=False)
"""


@pytest.mark.long
def test_a_method_that_cannot_be_distributed_refuses(line: CommandLine) -> None:
    plugin = line.folder / "plugins" / "lonely"
    plugin.mkdir(parents=True)
    (plugin / "lonely.py").write_text(REFUSING)
    (plugin / "registry.yaml").write_text("modulators: {lonely: {target: 'lonely:Lonely'}}\n")
    result = line.finish("run", "-m", "lonely", *SMALL, "--devices", "2")
    assert result.status == 2
    assert result.err == "error: modulator lonely cannot train on 2 devices; remove --devices\n"
    assert not (line.folder / "runs" / "mlflow.db").exists()


def errors(err: str) -> list[str]:
    return [line.removeprefix("error: ") for line in err.splitlines() if line.startswith("error: ")]


def of(line: CommandLine, modulator: str) -> Record:
    store = MlflowTracker(line.folder / "runs")
    (record,) = [one for one in store.records() if one.spec["modulator"]["name"] == modulator and not one.concept]
    return record


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_rank_that_is_killed_ends_the_job_which_then_goes_on(line: CommandLine) -> None:
    job = ("run", "-m", "agm", "--dataset", "synthetic", "--epochs", "4", "--set", "dataset.samples=128", "--no-strength")
    hold = Hold(line.folder)
    process = line.process(*job, *hold.settings, "--devices", "2", env={"HOLD_AT": "3"})
    hold.wait(jobs=2)
    first, second = sorted(int(path.name) for path in hold.folder.iterdir())  # in the order of their start
    os.kill(second, signal.SIGKILL)
    hold.let_go()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert errors(err) == ["another process of this job, which trains on several devices, has ended"]
    assert not Path(f"/proc/{first}").exists()
    assert of(line, "agm").reason == errors(err)[0]

    result = line.finish(*job, *hold.settings, "--devices", "3")
    assert result.status == 0, result.err
    assert "goes on after epoch" in result.err
    whole = CommandLine(line.folder / "whole")
    whole.folder.mkdir()
    Hold(whole.folder).let_go()
    assert whole(*job, *hold.settings).status == 0
    found = [one for one in MlflowTracker(line.folder / "runs").records() if one.status == "FINISHED"]
    (expected,) = MlflowTracker(whole.folder / "runs").records()
    assert [one.digest for one in found] == [expected.digest]
    assert found[0].tags["devices"] == "3"
    assert "devices" not in expected.tags
    for name, value in expected.metrics.items():
        if not name.startswith("cost/"):
            assert found[0].metrics[name] == pytest.approx(value, abs=1e-4), name


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_process_outlives_the_command(line: CommandLine) -> None:
    hold = Hold(line.folder)
    words = ("run", "-m", "joint", *SMALL, "--no-strength", *hold.settings, "--devices", "2")
    process = line.process(*words, env={"HOLD_AT": "2"})
    hold.wait(jobs=2)
    ranks = [Path("/proc", path.name) for path in hold.folder.iterdir()]
    process.kill()
    process.communicate()
    deadline = time.monotonic() + PATIENCE
    while any(rank.exists() for rank in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.long
def test_ctrl_c_ends_all_of_them_in_one_line(line: CommandLine) -> None:
    hold = Hold(line.folder)
    words = ("run", "-m", "joint", *SMALL, "--no-strength", *hold.settings, "--devices", "2")
    process = line.process(*words, env={"HOLD_AT": "2"})
    hold.wait(jobs=2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert errors(err) == ["interrupted"]
    assert of(line, "joint").status == "KILLED"
