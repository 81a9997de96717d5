"""What `--dry-run` says about the resources that a job needs."""

import subprocess
import sys

import pytest
import torch
from conftest import SMALL, CommandLine

from agmbench import build, registry
from agmbench.forecast import Forecast, forecast
from agmbench.jobs import compose

CPU = torch.device("cpu")


def foreseen(modulator: str, *settings: tuple[str, object]) -> tuple[Forecast, build.Job]:
    known = registry.builtin()
    wide = ("dataset.samples", 256)
    job = build.resolve(compose(known, "synthetic", modulator, settings=[wide, *settings]), known)
    return forecast(job, CPU), job


def test_parameters_and_samples_are_those_of_the_job() -> None:
    found, job = foreseen("joint", ("training.batch_size", 64))
    model = build.model(job)
    assert sum(found.parameters.values()) == sum(tensor.numel() for tensor in model.parameters())
    assert [*found.parameters] == ["m0", "m1", "fusion"]
    assert found.samples == {name: len(job.dataset.split(name)) for name in found.samples}
    assert (found.batch, found.tried, found.own) == (64, 32, True)


def test_flops_and_memory_grow_with_the_batch_and_time_with_epochs() -> None:
    small, job = foreseen("joint", ("training.batch_size", 32))
    large, _ = foreseen("joint", ("training.batch_size", 128), ("training.epochs", 10 * job.spec.training.epochs))
    assert large.flops == 4 * small.flops
    weights = 2 * 4 * sum(small.parameters.values())  # weights and gradients in float32
    assert large.memory > small.memory > weights
    assert large.seconds > small.seconds > 0


def test_flops_are_those_that_a_run_counts(finished: CommandLine) -> None:
    from agmbench.trackers.mlflow import MlflowTracker

    for modulator in ("joint", "agm"):
        found, _ = foreseen(modulator, ("dataset.samples", 128), ("training.epochs", 2))
        (run,) = [
            record
            for record in MlflowTracker(finished.folder / "runs").records("synthetic")
            if record.spec["modulator"]["name"] == modulator and not record.concept
        ]
        assert found.flops == pytest.approx(run.metrics["cost/flops"], rel=0.02)


def test_a_method_that_needs_a_preparation_is_taken_for_joint_training(line: CommandLine) -> None:
    found, _ = foreseen("umt")
    assert not found.own
    assert found.flops == foreseen("joint")[0].flops
    out = line("run", *SMALL, "-m", "umt", "--dry-run").out
    assert "GFLOP (torch's counter; joint training, without what umt adds)" in out
    assert "# samples: train 128, " in out


def test_where_there_is_no_store_mlflow_is_not_imported(line: CommandLine) -> None:
    code = f"""
import sys
from agmbench.cli import main
try:
    main({["run", *SMALL, "--dry-run"]!r})
except SystemExit as exit_:
    assert not exit_.code
sys.exit(f"imported {{heavy}}" if (heavy := {{"mlflow", "transformers", "matplotlib"}} & set(sys.modules)) else 0)
"""
    subprocess.run([sys.executable, "-c", code], cwd=line.folder, check=True, stdout=subprocess.DEVNULL)
