"""One job from spec to finished run: references, build, train, evaluate, track."""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import yaml

from agmbench import build, predictions, provenance
from agmbench.contracts import SPLITS, Outcome, SplitName
from agmbench.errors import RunFailed
from agmbench.evaluate import evaluate, measure
from agmbench.jobs import JobSpec
from agmbench.metrics.competition_strength import competition_strength
from agmbench.model import MultimodalModel
from agmbench.records import Heading, Point, Record, Run, Tracker, numbers
from agmbench.registry import Registry
from agmbench.report import plots
from agmbench.train import Epoch, train

AFTER: tuple[SplitName, ...] = ("dev", "valid", "test")  # what the selected weights are evaluated on


class Observer(Protocol):
    """Whoever wants to watch jobs: the command line's progress bar, a test, nobody."""

    def started(self, name: str, epochs: int) -> None: ...
    def epoch(self, epoch: Epoch) -> None: ...
    def finished(self, record: Record, trained: bool) -> None: ...


def execute(
    spec: JobSpec,
    registry: Registry,
    tracker: Tracker,
    device: torch.device,
    observer: Observer,
    strength: bool = True,
    force: bool = False,
) -> Record:
    """The finished record of a job, trained now unless it is done already; with `strength`, its mono-modal concepts first."""
    job = build.resolve(spec, registry)
    build.modulator(job, build.model(job))  # a combination that cannot be is refused before anything is written
    concepts = build.concepts(job) if strength else {}
    done = None if force else tracker.find(job.digest)
    if done is not None and not _unmeasured(done, concepts):
        observer.finished(done, trained=False)
        return done
    references = {m: execute(concept, registry, tracker, device, observer, force=force) for m, concept in concepts.items()}
    with tracker.lock(job.digest):
        record = None if force else tracker.find(job.digest)
        if record is None:
            with tracker.start(_heading(job, device)) as run:
                try:
                    _run(job, run, tracker, device, references, observer)
                except SystemExit as error:
                    raise RunFailed(f"a component of the job ended the process (exit status {error.code})") from error
            record = _found(tracker, job.digest)
            observer.finished(record, trained=True)
        else:
            if missing := _unmeasured(record, references):
                with tracker.reopen(record) as run:
                    _add_strength(job, run, tracker, record, {m: references[m] for m in missing}, device)
                record = _found(tracker, job.digest)
            observer.finished(record, trained=False)
    return record


def _unmeasured(record: Record, modalities: Iterable[str]) -> list[str]:
    return [modality for modality in modalities if f"test/strength/{modality}" not in record.metrics]


def _found(tracker: Tracker, digest: str) -> Record:
    record = tracker.find(digest)
    if record is None:
        raise RunFailed(f"the finished run of job {digest} is not in the store any more; run the job again")
    return record


def _run(
    job: build.Job, run: Run, tracker: Tracker, device: torch.device, references: Mapping[str, Record], observer: Observer
) -> None:
    spec = job.spec
    observer.started(job.name, spec.training.epochs)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "job.yaml").write_text(yaml.safe_dump(spec.canonical(), sort_keys=False))
        run.files(folder)
        splits = {name: job.dataset.split(name) for name in SPLITS}
        metrics = build.metrics(job)
        model = build.model(job).to(device)
        modulator = build.modulator(job, model).to(device)
        best = Selection(spec.training.select)
        history: list[Point] = []
        for epoch in train(model, modulator, splits, spec.training, metrics, spec.seed, device):
            best.see(epoch, model)
            run.points([*epoch.points, *epoch.costs])
            history += epoch.points
            observer.epoch(epoch)

        checkpoints = folder / "checkpoints"
        checkpoints.mkdir()
        torch.save({"model": model.state_dict(), "modulator": modulator.state_dict()}, checkpoints / "last.pt")
        model.load_state_dict(best.weights)
        torch.save({"model": model.state_dict(), "epoch": best.epoch}, checkpoints / "best.pt")

        outcomes = {name: evaluate(model, splits[name], device) for name in AFTER}
        final = {f"test/{name}": value for name, value in measure(outcomes["test"], metrics).items()}
        final |= strengths(outcomes, references, tracker)
        run.points(numbers({**final, "best/epoch": best.epoch}, spec.training.epochs - 1))
        predictions.write(outcomes, folder / "predictions.parquet")
        plots.save(folder / "plots", history, job.modalities, *_confusion(outcomes["test"]), job.dataset.class_names)
        run.files(folder)


class Selection:
    """Which epoch's weights are kept: `valid`, the best accuracy on valid and among equals the least loss; or the `last`."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        self.epoch = -1
        self.weights: dict[str, torch.Tensor] = {}
        self._best = (-float("inf"), -float("inf"))

    def see(self, epoch: Epoch, model: MultimodalModel) -> None:
        """Keep a copy of the weights if this epoch is the best so far."""
        value = (epoch.valid["accuracy"], -epoch.valid["loss"])
        if self.rule == "last" or self.epoch < 0 or value > self._best:
            self._best, self.epoch = value, epoch.number
            self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _add_strength(
    job: build.Job, run: Run, tracker: Tracker, record: Record, references: Mapping[str, Record], device: torch.device
) -> None:
    """Measure the competition strength of a run that was made without it, from its best checkpoint."""
    model = build.model(job).to(device)
    checkpoint = torch.load(tracker.artifact(record, "checkpoints/best.pt"), map_location=device, weights_only=True)
    model.load_state_dict(checkpoint["model"])
    outcomes = {name: evaluate(model, job.dataset.split(name), device) for name in AFTER}
    run.points(numbers(strengths(outcomes, references, tracker), job.spec.training.epochs - 1))


def strengths(outcomes: Mapping[SplitName, Outcome], references: Mapping[str, Record], tracker: Tracker) -> dict[str, float]:
    """`test/strength/m` for each reference run, and `test/concept/m`, the concept's own accuracy."""
    values = {}
    for modality, reference in references.items():
        concept = predictions.read_logits(tracker.artifact(reference, "predictions.parquet"))
        values[f"test/strength/{modality}"] = competition_strength(
            outcomes["dev"].representation.numpy(), outcomes["test"].representation.numpy(), concept["dev"], concept["test"]
        )
        values[f"test/concept/{modality}"] = reference.metrics["test/accuracy"]
    return values


def _confusion(outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    return outcome.targets.numpy(), outcome.full.argmax(dim=1).numpy()


def _heading(job: build.Job, device: torch.device) -> Heading:
    return Heading(
        name=job.name,
        digest=job.digest,
        cell=job.cell,
        spec=job.spec.canonical(),
        modalities=job.modalities,
        concept=job.spec.present is not None,
        fingerprint=job.dataset.fingerprint,
        samples={name: len(job.dataset.split(name)) for name in SPLITS},
        tags=provenance.tags(device),
    )
