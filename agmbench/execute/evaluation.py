"""Evaluates a trained model to get its outcomes, after its training or later."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from agmbench import build, outcomes, served
from agmbench.contracts import SPLITS, Modulator, SplitName
from agmbench.distributed.feed import DealtFeed
from agmbench.distributed.ranks import here
from agmbench.errors import RunFailed
from agmbench.evaluate import evaluate, measure
from agmbench.execute.headings import digests
from agmbench.jobs import spec_of
from agmbench.loading import Feed, workers
from agmbench.model import MultimodalModel
from agmbench.names import all_of_split
from agmbench.outcomes import Outcome
from agmbench.records import Record, Run, Tracker
from agmbench.registry import Registry

AFTER: tuple[SplitName, ...] = ("dev", "valid", "test")  # the splits on which the selected weights are evaluated


def make_feed(job: build.Job, device: torch.device, names: Sequence[SplitName] = SPLITS) -> Feed:
    """The feed of a job: its splits as batches, changed by its transforms; among several processes, each gets its part."""
    kind = Feed if here() is None else DealtFeed
    return kind({name: job.dataset.split(name) for name in names}, device, workers(device), build.augmentation(job))


def evaluated(job: build.Job, model: MultimodalModel, modulator: Modulator, feed: Feed) -> dict[str, Outcome]:
    """The outcomes of a trained model on dev, valid and test."""
    where = f"of '{job.spec.dataset.name}'"
    return {
        name: evaluate(model, modulator, feed.in_order(name), job.dataset.class_names, whole=True, where=f"{name} {where}")
        for name in AFTER
    }


def losses(job: build.Job, test: Outcome) -> dict[str, float]:
    """The task's losses on test, of the model and of each response, as metrics of the run."""
    found = measure(test, job.dataset.task)
    return all_of_split("test", {name: value for name, value in found.items() if "loss" in name.partition("/")[0]})


def best_weights(record: Record, tracker: Tracker, device: torch.device) -> dict[str, Any]:
    """The weights in the best checkpoint of a finished run."""
    with tracker.artifact(record, "checkpoints/best.pt") as path:
        return dict(torch.load(path, map_location=device, weights_only=True))


def keep_outcomes(job: build.Job, run: Run, tracker: Tracker, record: Record, device: torch.device) -> None:
    """Evaluate the best checkpoint of a run that was made before outcomes were kept, and add the outcomes to it."""
    model, modulator = served.restored(job, best_weights(record, tracker, device), device)
    with tempfile.TemporaryDirectory() as scratch, make_feed(job, device) as feed:
        outcomes.save(evaluated(job, model, modulator, feed), Path(scratch) / outcomes.FILE)
        run.log_files(Path(scratch))


def evaluate_again(record: Record, registry: Registry, tracker: Tracker, device: str) -> Record:
    """Evaluate a run that was made before outcomes were kept; returns its record. Raises `RunFailed` if data or components have changed."""
    job = build.resolve(spec_of(record.spec), registry)
    if job.digest != record.digest:
        raise RunFailed("it kept no outcomes, and its data or components have changed since, so it cannot be evaluated again")
    with tracker.reopen(record) as run:
        keep_outcomes(job, run, tracker, record, build.device(device))
    return replace(record, outcomes_kept=True, references=digests(job))
