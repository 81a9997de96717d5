"""One job from spec to finished run: references, build, train, evaluate, track."""

import copy
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import yaml

from agmbench import build, predictions, provenance, served
from agmbench.checkpoints import Checkpoints, pack, unpack
from agmbench.contracts import SPLITS, Modulator, Outcome, SplitName, Unsuitable
from agmbench.errors import RunFailed, describe
from agmbench.evaluate import evaluate, measure
from agmbench.jobs import JobSpec
from agmbench.metrics.competition_strength import competition_strength
from agmbench.model import MultimodalModel
from agmbench.records import Heading, Point, Record, Run, Tracker, numbers
from agmbench.registry import BUILT_IN, Registry
from agmbench.report import plots
from agmbench.tasks import SingleLabel
from agmbench.train import Epoch, train

AFTER: tuple[SplitName, ...] = ("dev", "valid", "test")  # what the selected weights are evaluated on


class Observer(Protocol):
    """Whoever wants to watch jobs: the command line's progress bar, a test, nobody."""

    def started(self, name: str, epochs: int, done: int) -> None: ...
    def warned(self, text: str) -> None: ...
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
    parent: str | None = None,
) -> Record:
    """The finished record of a job, trained now unless it is done already; what is trained stands under the run `parent`.

    Its mono-modal concepts come first, with `strength` or if the method needs them.
    """
    return _execute(build.resolve(spec, registry), tracker, device, observer, strength, force, parent)


def _execute(
    job: build.Job,
    tracker: Tracker,
    device: torch.device,
    observer: Observer,
    strength: bool,
    force: bool,
    parent: str | None,
) -> Record:
    modulator = build.modulator(job, build.model(job))  # a combination that cannot be is refused before anything is written
    measured = job.modalities if strength and job.spec.present is None else ()
    done = None if force else tracker.find(job.digest)
    checkpoints = Checkpoints(tracker.scratch(job.digest))
    if done is not None and not _unmeasured(done, measured) and not checkpoints.folder.exists():
        observer.finished(done, trained=False)
        return done
    concepts = build.references(job) if strength or modulator.needs_concepts else {}
    references = {m: _execute(concept, tracker, device, observer, True, force, parent) for m, concept in concepts.items()}
    with tracker.lock(job.digest):
        record = None if force else tracker.find(job.digest)
        if record is None:
            if force:
                checkpoints.clear()
            with tracker.start(replace(heading(job, device), parent=parent)) as run:
                try:
                    _run(job, run, tracker, device, references, strength, checkpoints, observer)
                except SystemExit as error:
                    raise RunFailed(f"a component of the job ended the process ({describe(error)})") from error
                except Unsuitable as error:  # a file that turned out to be broken when it was read
                    raise RunFailed(str(error)) from error
            record = _found(tracker, job.digest)
            observer.finished(record, trained=True)
        else:
            if _unmeasured(record, measured):
                with tracker.reopen(record) as run:
                    _add_strength(job, run, tracker, record, references, device)
                record = _found(tracker, job.digest)
            observer.finished(record, trained=False)
        checkpoints.clear()  # those, too, of a process that was killed when its run was finished
    return record


def _unmeasured(record: Record, modalities: Iterable[str]) -> list[str]:
    return [modality for modality in modalities if f"test/strength/{modality}" not in record.metrics]


def _found(tracker: Tracker, digest: str) -> Record:
    record = tracker.find(digest)
    if record is None:
        raise RunFailed(f"the finished run of job {digest} is not in the store any more; run the job again")
    return record


def _run(
    job: build.Job,
    run: Run,
    tracker: Tracker,
    device: torch.device,
    references: Mapping[str, Record],
    strength: bool,
    states: Checkpoints,
    observer: Observer,
) -> None:
    spec = job.spec
    saved = states.load(device)
    for text in states.warnings:
        observer.warned(text)
    epochs_done = 0 if saved is None else saved["training"]["epoch"] + 1
    observer.started(job.name, spec.training.epochs, epochs_done)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "job.yaml").write_text(yaml.safe_dump(spec.canonical(), sort_keys=False))
        run.files(folder)
        splits = {name: job.dataset.split(name) for name in SPLITS}
        metrics = build.metrics(job)
        model = build.model(job).to(device)
        modulator = build.modulator(job, model)
        concepts = _concepts(job, model, modulator, references, tracker, device)
        best = Selection(spec.training.select)
        history: list[Point] = []
        if saved is not None:
            best.load_state_dict(saved["selection"])
            history = unpack(saved["history"])
            run.points(history)
        state = None if saved is None else saved["training"]
        for epoch in train(model, modulator, splits, spec.training, metrics, spec.seed, device, concepts, state):
            best.see(epoch, model, modulator)
            history += [*epoch.points, *epoch.costs]
            if states.due():
                training = epoch.state()
                states.save({"training": training, "selection": best.state_dict(), "history": pack(history)})
            run.points([*epoch.points, *epoch.costs])
            epochs_done = epoch.number + 1
            observer.epoch(epoch)

        checkpoints = folder / "checkpoints"
        checkpoints.mkdir()
        torch.save({"model": model.state_dict(), "modulator": modulator.state_dict()}, checkpoints / "last.pt")
        torch.save({**best.weights, "epoch": best.epoch}, checkpoints / "best.pt")
        model.load_state_dict(best.weights["model"])
        modulator.load_state_dict(best.weights["modulator"])

        outcomes = {name: evaluate(model, modulator, splits[name], device) for name in AFTER}
        final = {f"test/{name}": value for name, value in measure(outcomes["test"], metrics).items()}
        final |= strengths(outcomes, references, tracker) if strength else {}
        run.points(numbers({**final, "best/epoch": best.epoch}, epochs_done - 1))
        predictions.write(outcomes, folder / "predictions.parquet")
        served.save(job, best.weights, folder / "model")
        plots.save(folder / "plots", history, job.modalities, job.dataset.class_names, _confusion(outcomes["test"]))
        run.files(folder)


class Selection:
    """Which epoch's weights are kept: `valid`, the best accuracy on valid and among equals the least loss; or the `last`."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        self.epoch = -1
        self.weights: dict[str, dict[str, Any]] = {}
        self._best = (-float("inf"), -float("inf"))

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"epoch": self.epoch, "weights": self.weights, "best": self._best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was taken."""
        self.epoch, self.weights, self._best = state["epoch"], state["weights"], tuple(state["best"])

    def see(self, epoch: Epoch, model: MultimodalModel, modulator: Modulator) -> None:
        """Keep a copy of the weights, the modulator's too, if this epoch is the best so far."""
        value = (epoch.valid["accuracy"], -epoch.valid["loss"])
        if self.rule == "last" or self.epoch < 0 or value > self._best:
            self._best, self.epoch = value, epoch.number
            self.weights = copy.deepcopy({"model": model.state_dict(), "modulator": modulator.state_dict()})


def _add_strength(
    job: build.Job, run: Run, tracker: Tracker, record: Record, references: Mapping[str, Record], device: torch.device
) -> None:
    """Measure the competition strength of a run that was made without it, from its best checkpoint."""
    weights = torch.load(tracker.artifact(record, "checkpoints/best.pt"), map_location=device, weights_only=True)
    model, modulator = served.restored(job, weights, device)
    outcomes = {name: evaluate(model, modulator, job.dataset.split(name), device) for name in AFTER}
    run.points(numbers(strengths(outcomes, references, tracker), job.spec.training.epochs - 1))


def _concepts(
    job: build.Job,
    model: MultimodalModel,
    modulator: Modulator,
    references: Mapping[str, Record],
    tracker: Tracker,
    device: torch.device,
) -> dict[str, MultimodalModel]:
    """The trained mono-modal models of a method that needs them."""
    if not modulator.needs_concepts:
        return {}
    paths = {m: tracker.artifact(reference, "checkpoints/best.pt") for m, reference in references.items()}
    weights = {m: torch.load(path, map_location=device, weights_only=True)["model"] for m, path in paths.items()}
    return build.concept_models(job, model, device, weights)


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


def _confusion(outcome: Outcome) -> tuple[np.ndarray, np.ndarray] | None:
    """Classes and predicted classes, where a sample has one class."""
    if not isinstance(outcome.task, SingleLabel):
        return None
    return outcome.targets.numpy(), outcome.task.predicted(outcome.full).numpy()


def heading(job: build.Job, device: torch.device) -> Heading:
    foreign = [entry for entry in build.entries(job.spec, job.registry) if entry.origin != BUILT_IN]
    origins = {f"agmbench.origin.{entry}": f"{entry.origin}, version {entry.version}" for entry in foreign}
    sample = {"agmbench.sample": "true"} if getattr(job.dataset, "sample", False) else {}
    return Heading(
        name=job.name,
        digest=job.digest,
        cell=job.cell,
        spec=job.spec.canonical(),
        modalities=job.modalities,
        concept=job.spec.present is not None,
        fingerprint=job.dataset.fingerprint,
        samples={name: len(job.dataset.split(name)) for name in SPLITS},
        tags={**provenance.tags(device), **origins, **sample},
    )
