"""Measures the cost of the training loop and of tracking, as ratios that are measured side by side.

    python benchmarks/overhead.py [--rounds 7]

The loop: joint training of avmnist-mini's default job by `train.py`, and by the plain loop below with the same model, data and
optimizer. Their epochs alternate, and both validate on two samples.
Tracking: ten epochs of that job through `execute`, once with an MLflow store that exists already and once with a tracker that keeps
nothing. Then one such job with each call of MLflow's client timed, which shows where the difference comes from.
"""

import argparse
import inspect
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any
from unittest.mock import patch

import torch
from torch.nn import functional as F

from agmbench import build, jobs, registry
from agmbench.contracts import Split, SplitName, TensorSplit
from agmbench.execute import execute
from agmbench.loading import Feed
from agmbench.measures import of_one_run
from agmbench.records import Heading, Label, Record, Tracker
from agmbench.trackers.mlflow import MlflowTracker
from agmbench.train import Epoch, train

CPU = torch.device("cpu")
KNOWN = registry.load()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print("| work | ratio | target | met |\n|---|---:|---|---|", flush=True)
    for name, ratio in (("train.py to a plain loop", loop(rounds)), ("tracking on to tracking off", tracking(rounds))):
        print(f"| {name} | {ratio:.3f} | <= 1.03 | {'yes' if ratio <= 1.03 else 'NO'} |", flush=True)
    print("\n| call of MLflow's client | times | ms |\n|---|---:|---:|")
    for name, seconds in sorted(calls().items(), key=lambda item: -sum(item[1])):
        print(f"| {name} | {len(seconds)} | {1000 * sum(seconds):.0f} |", flush=True)


def loop(rounds: int) -> float:
    job = build.resolve(jobs.compose(KNOWN, "avmnist-mini", "joint", settings=[("training.epochs", rounds + 1)]), KNOWN)
    ours, theirs = through_train(job), plain(job)
    pairs = [(timed(ours), timed(theirs)) for _ in range(rounds + 1)][1:]
    return median(one / other for one, other in pairs)


def timed(epochs: Iterator[object]) -> float:
    begun = time.perf_counter()
    next(epochs)
    return time.perf_counter() - begun


def through_train(job: build.Job) -> Iterator[object]:
    model = build.model(job)
    train_split, valid = job.dataset.split("train"), job.dataset.split("valid").batch(torch.arange(2))
    splits: dict[SplitName, Split] = {"train": train_split, "valid": TensorSplit(valid.inputs, valid.targets)}
    yield from train(model, build.modulator(job, model), Feed(splits, CPU), job.spec.training, job.spec.seed)


def plain(job: build.Job) -> Iterator[object]:
    recipe, split = job.spec.training, job.dataset.split("train")
    assert isinstance(split, TensorSplit)
    model, valid = build.model(job), job.dataset.split("valid").batch(torch.arange(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    model.train()
    while True:
        for index in torch.randperm(len(split)).split(recipe.batch_size):
            logits = model({m: x[index] for m, x in split.inputs.items()}).logits
            loss = F.cross_entropy(logits, split.targets[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            loss = F.cross_entropy(model(valid.inputs).logits, valid.targets)
        model.train()
        yield loss.item()


def tracking(rounds: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        store = MlflowTracker(Path(folder))
        tracked("joint", store, 1)  # makes the store and the experiment
        pairs = [(tracked("joint", store, 10), tracked("joint", Nothing(), 10)) for _ in range(rounds)]
    return median(one / other for one, other in pairs)


def calls() -> dict[str, list[float]]:
    """The seconds of each call of MLflow's client by a job of ten epochs, by the name of the method."""
    from mlflow import MlflowClient  # imported after the tracker has turned MLflow's telemetry off

    took: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as patches:
        store = MlflowTracker(Path(folder))
        tracked("joint", store, 1)
        for name, method in inspect.getmembers(MlflowClient, inspect.isfunction):
            if not name.startswith("_"):
                patches.enter_context(patch.object(MlflowClient, name, stopwatch(name, method, took)))
        tracked("joint", store, 10)
    return took


def stopwatch(name: str, method: Callable[..., Any], took: dict[str, list[float]]) -> Callable[..., Any]:
    def timed(*args: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        result = method(*args, **named)
        took.setdefault(name, []).append(time.perf_counter() - begun)
        return result

    return timed


def tracked(modulator: str, tracker: Tracker, epochs: int) -> float:
    spec = jobs.compose(KNOWN, "avmnist-mini", modulator, settings=[("training.epochs", epochs)])
    begun = time.perf_counter()
    execute(spec, KNOWN, tracker, CPU, Nobody(), of_one_run(KNOWN), force=True)
    return time.perf_counter() - begun


class Nobody:
    def started(self, name: str, epochs: int, done: int) -> None: ...
    def warned(self, text: str) -> None: ...
    def epoch(self, epoch: Epoch) -> None: ...
    def finished(self, record: Record, trained: bool) -> None: ...


class Nothing:
    """A tracker and a run in one, which keeps nothing."""

    id = "none"
    scratch = Path(tempfile.gettempdir()) / "agmbench-overhead"
    beyond = None
    _heading: Heading

    def find(self, digest: str) -> Record | None:
        shown = self._heading if hasattr(self, "_heading") else None
        return (
            None
            if shown is None
            else Record("none", shown.name, "FINISHED", digest, shown.cell, shown.spec, shown.modalities, False)
        )

    def records(self, dataset: str | None = None) -> list[Record]:
        return []

    def start(self, heading: Heading) -> "Nothing":
        self._heading = heading
        return self

    def reopen(self, record: Record) -> "Nothing":
        return self

    def before(self, setting: str, digest: str) -> Record | None:
        return None

    def imported(self, dataset: str | None = None) -> list[Record]:
        return []

    def adopt(self, record: Record, folder: Path, sha256: str) -> bool:
        return False

    def history(self, record: Record, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        return {}

    def group(self, dataset: str, name: str, tags: Mapping[str, str]) -> "Nothing":
        return self

    def of_group(self, dataset: str, tags: Mapping[str, str], path: str) -> str | None:
        return None

    def finish_group(self, dataset: str, tags: Mapping[str, str]) -> None: ...
    def mark_lost(self, digest: str, reason: str, place: str = "") -> None: ...
    def tidy(self, digest: str) -> None: ...

    def label(self, known: Record, label: Label) -> Record:
        return known

    def lock(self, name: str) -> nullcontext[None]:
        return nullcontext()

    def artifact(self, record: Record, path: str) -> Any:
        raise FileNotFoundError(path)

    def unsettled(self) -> set[str]:
        return set()

    def claim(self, heading: Heading, taken: object) -> nullcontext[None]:
        return nullcontext()

    def __enter__(self) -> "Nothing":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
    def check(self) -> None: ...
    def log_points(self, points: object) -> None: ...
    def log_measurements(self, measurements: object, step: int) -> None: ...
    def log_files(self, folder: Path) -> None: ...


if __name__ == "__main__":
    main()
