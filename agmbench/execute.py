"""One job from spec to finished run: references, build, train, evaluate, track."""

import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
import yaml
from pyarrow import parquet

from agmbench import build
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
    references = {}
    for modality, concept in build.concepts(job).items() if strength else ():
        references[modality] = execute(concept, registry, tracker, device, observer)
    with tracker.lock(job.digest):
        record = None if force else tracker.find(job.digest)
        if record is None:
            with tracker.start(_heading(job, device)) as run:
                _run(job, run, tracker, device, references, observer)
            record = _found(tracker, job.digest)
            observer.finished(record, trained=True)
        else:
            if missing := {m: r for m, r in references.items() if f"test/strength/{m}" not in record.metrics}:
                with tracker.reopen(record) as run:
                    _add_strength(job, run, tracker, record, missing, device)
                record = _found(tracker, job.digest)
            observer.finished(record, trained=False)
    return record


def _found(tracker: Tracker, digest: str) -> Record:
    record = tracker.find(digest)
    if record is None:
        raise RunFailed(f"the finished run of job {digest} is not in the store any more; run the job again")
    return record


def _run(
    job: build.Job, run: Run, tracker: Tracker, device: torch.device, references: Mapping[str, Record], observer: Observer
) -> None:
    spec = job.spec
    observer.started(job_name(job), spec.training.epochs)
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
            run.points(epoch.points)
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
        parquet.write_table(predictions(outcomes), folder / "predictions.parquet")
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
        concept = concept_logits(tracker.artifact(reference, "predictions.parquet"))
        values[f"test/strength/{modality}"] = competition_strength(
            outcomes["dev"].representation.numpy(), outcomes["test"].representation.numpy(), concept["dev"], concept["test"]
        )
        values[f"test/concept/{modality}"] = reference.metrics["test/accuracy"]
    return values


def predictions(outcomes: Mapping[SplitName, Outcome]) -> pa.Table:
    """One row a sample of each split: its number, class, predicted class, logits, and each response's predicted class."""
    tables = []
    for split, outcome in outcomes.items():
        columns: dict[str, object] = {
            "split": np.repeat(split, len(outcome.targets)),
            "index": np.arange(len(outcome.targets)),
            "target": outcome.targets.numpy(),
            "prediction": outcome.full.argmax(dim=1).numpy(),
        }
        columns |= {f"prediction/{m}": response.argmax(dim=1).numpy() for m, response in outcome.responses.items()}
        columns |= {f"logit/{number}": column for number, column in enumerate(outcome.full.numpy().T)}
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def concept_logits(path: Path) -> dict[str, np.ndarray]:
    """Logits `[N, C]` of each split, in the order of the samples, from a run's predictions."""
    table = parquet.read_table(path).to_pandas()
    logits = [name for name in table.columns if name.startswith("logit/")]
    return {str(split): rows.sort_values("index")[logits].to_numpy() for split, rows in table.groupby("split")}


def _confusion(outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    return outcome.targets.numpy(), outcome.full.argmax(dim=1).numpy()


def job_name(job: build.Job) -> str:
    """`avmnist-mini concat agm seed 999`; a concept says so in place of the modulator."""
    spec = job.spec
    method = spec.modulator.name if spec.present is None else f"concept of {', '.join(spec.present)}"
    return f"{spec.dataset.name} {spec.fusion.name} {method} seed {spec.seed}"


def _heading(job: build.Job, device: torch.device) -> Heading:
    return Heading(
        name=job_name(job),
        digest=job.digest,
        cell=job.cell,
        spec=job.spec.canonical(),
        modalities=job.modalities,
        concept=job.spec.present is not None,
        fingerprint=job.dataset.fingerprint,
        samples={name: len(job.dataset.split(name)) for name in SPLITS},
        tags={
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": str(torch.get_num_threads()),
            "host": platform.node(),
            "python": platform.python_version(),
            **{f"version.{name}": version(name) for name in ("agmbench", "torch", "timm", "transformers", "mlflow")},
            **_git(),
        },
    )


def _git() -> dict[str, str]:
    """The commit of the checkout that this code runs from, if it is one, and whether it was changed."""
    here = Path(__file__).parent

    def ask(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not os.path.samefile(ask("rev-parse", "--show-toplevel"), here.parent):
            return {}
        return {
            "mlflow.source.git.commit": ask("rev-parse", "HEAD"),
            "git.changed": str(bool(ask("status", "--porcelain", "-uno"))).lower(),
        }
    except (OSError, subprocess.CalledProcessError):
        return {}
