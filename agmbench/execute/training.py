"""The training of a job: starts or resumes it, follows it epoch by epoch, and writes the files that it leaves."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from agmbench import build, features, outcomes, predictions, protocol, served
from agmbench.checkpoints import Checkpoints, pack, unpack
from agmbench.contracts import Modulator
from agmbench.execute.headings import sample
from agmbench.execute.observer import Observer
from agmbench.execute.selection import Selection
from agmbench.loading import Feed
from agmbench.logs import Log
from agmbench.measures import Judge
from agmbench.model import MultimodalModel
from agmbench.outcomes import Outcome
from agmbench.records import Point, Run, departing
from agmbench.report import plots
from agmbench.state import Unfit, fitting
from agmbench.train import Epoch, train


class ReadyTraining(NamedTuple):
    """A training that is ready to start, or to go on after `done` epochs, whose points are the `history`."""

    job: build.Job
    model: MultimodalModel
    modulator: Modulator
    best: Selection
    history: list[Point]
    epochs: Iterator[Epoch]
    done: int


def prepare_training(
    job: build.Job,
    feed: Feed,
    judge: Judge,
    states: Checkpoints,
    beside: Path,
    concepts: Callable[[MultimodalModel], Mapping[str, MultimodalModel]],
) -> ReadyTraining:
    """Prepare a training that goes on after the newest state that fits; states that do not fit are set aside.

    beside: the folder for kept features.   concepts: returns the unimodal models for a model, if the method needs them.
    """
    spec, device = job.spec, feed.device
    saved = states.load(device)
    model = build.model(job).to(device)
    modulator = build.modulator(job, model)
    unimodal = concepts(model) if modulator.needs_concepts else {}
    if spec.training.cache_features:
        features.keep(model, feed, beside)
    best, history, done, state = Selection(spec.training.select), [], 0, None
    try:
        if saved is not None:
            with fitting():
                best.load_state_dict(saved["selection"])
                history, state = unpack(saved["history"]), saved["training"]
                done = state["epoch"] + 1
        named = f"'{spec.dataset.name}'"
        epochs = train(model, modulator, feed, spec.training, spec.seed, unimodal, state, judge, data=named)
        if saved is not None:
            with fitting():
                best.check(model, modulator)
    except Unfit as error:
        states.refuse(str(error))
        return prepare_training(job, feed, judge, states, beside, concepts)
    return ReadyTraining(job, model, modulator, best, history, epochs, done)


def train_to_end(training: ReadyTraining, run: Run, states: Checkpoints, observer: Observer, log: Log) -> int:
    """Train to the end. After each epoch, write its points to the run, save a state if one is due, and tell the observer and the log.
    Returns the number of epochs."""
    job, best, history, done = training.job, training.best, training.history, training.done
    for text in states.warnings:
        observer.warned(text)
        log.say(f"warning: {text}")
    observer.started(job.name, job.spec.training.epochs, done)
    run.log_points(history)
    for epoch in training.epochs:
        best.see(epoch, training.model, training.modulator)
        history += [*epoch.points, *epoch.costs]
        run.check()
        if states.due():
            state = epoch.state()
            states.save({"training": state, "selection": best.state_dict(), "history": pack(history)})
        run.log_points([*epoch.points, *epoch.costs])
        done = epoch.number + 1
        observer.epoch(epoch)
        log.epoch(epoch, job.spec.training.epochs)
    return done


def save_weights(training: ReadyTraining, folder: Path) -> None:
    """Write the last and the selected weights as files."""
    model, modulator, best = training.model, training.modulator, training.best
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir()
    torch.save({"model": model.state_dict(), "modulator": modulator.state_dict()}, checkpoints / "last.pt")
    torch.save({**best.weights, "epoch": best.epoch}, checkpoints / "best.pt")


def load_selected_weights(training: ReadyTraining) -> None:
    """Load the selected weights into the model and the modulator."""
    training.model.load_state_dict(training.best.weights["model"])
    training.modulator.load_state_dict(training.best.weights["modulator"])


def save_outputs(training: ReadyTraining, found: Mapping[str, Outcome], folder: Path) -> None:
    """Write the predictions and outcomes of the trained model, the model in MLflow's format, and the plots as files."""
    job, best = training.job, training.best
    predictions.write(found, folder / "predictions.parquet")
    outcomes.save(found, folder / outcomes.FILE)
    served.save(job, best.weights, folder / "model")
    title = ", ".join([job.name, *departing(protocol.departures(job.spec, job.registry, job.dataset), sample(job))])
    names, confusion = job.dataset.class_names, _confusion(found["test"])
    plots.save(folder / "plots", training.history, job.modalities, title, names, confusion, best.epoch)


def _confusion(outcome: Outcome) -> tuple[np.ndarray, np.ndarray] | None:
    """The classes and the predicted classes of all samples; `None` if the task is not classification."""
    return (outcome.targets, outcome.predicted(outcome.full)) if outcome.kind == "classification" else None
