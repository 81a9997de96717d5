"""One job from spec to finished run: references, build, train, evaluate, measure, track."""

import copy
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import yaml

from agmbench import build, features, measures, outcomes, predictions, protocol, provenance, served
from agmbench.checkpoints import Checkpoints, pack, unpack
from agmbench.contracts import SPLITS, Modulator, SplitName, Unsuitable
from agmbench.distributed.feed import DealtFeed
from agmbench.distributed.ranks import here
from agmbench.distributed.told import told
from agmbench.errors import AgmbenchError, RunFailed, Taken, describe
from agmbench.evaluate import evaluate, measure
from agmbench.jobs import JobSpec, setting, spec_of
from agmbench.loading import Feed, workers
from agmbench.logs import Log
from agmbench.measures import Judge, Measure
from agmbench.model import MultimodalModel
from agmbench.outcomes import Outcome, Outcomes
from agmbench.profiling import Profile
from agmbench.records import SAMPLE, UNLABELLED, Heading, Label, Point, Record, Run, Tracker, departing, numbers
from agmbench.registry import BUILT_IN, Registry
from agmbench.report import plots
from agmbench.state import Unfit, fitting
from agmbench.train import Epoch, train

AFTER: tuple[SplitName, ...] = ("dev", "valid", "test")  # what the selected weights are evaluated on
AT_THE_END = (
    "best/",
    "cost/",
    *(f"test/{name}" for name in measures.ITS_OWN),
)  # what a run has of its training, but for its curves


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
    wanted: Sequence[Measure] | None = None,
    force: bool = False,
    parent: str | None = None,
    profile: bool = False,
    wait: bool = True,
    label: Label = UNLABELLED,
) -> Record:
    """The finished record of a job, trained now unless it is done already; what is trained stands under the run `parent`.

    It is measured by the metrics `wanted`, all that there are by default. Its unimodal models ("mono-modal concepts") come first if
    one of these, the method or the recipe's choice of epochs needs them. `profile` traces some steps of its training (`profiling.py`).
    While another process has the job, on whatever machine, it is waited for; without `wait` that is an error, `Taken`. The job's run,
    not those of its unimodal models, is given the `label`, also where it was there before.
    """
    known = measures.measures(registry) if wanted is None else wanted
    return Execution(tracker, device, observer, known, force, parent, profile, wait, label).run(build.resolve(spec, registry))


def trained_concepts(
    job: build.Job, model: MultimodalModel, modulator: Modulator, tracker: Tracker, device: torch.device, observer: Observer
) -> dict[str, MultimodalModel]:
    """The unimodal models of a method that needs them, `{}` of any other; those that are not done are trained now, as jobs."""
    if not modulator.needs_concepts:
        return {}
    beside = Execution(tracker, device, observer, measures.of_one_run(job.registry), force=False, parent=None)
    return beside.concepts(job, model, {m: beside.run(concept) for m, concept in build.references(job).items()})


@dataclass(frozen=True)
class Execution:
    """What the jobs of one command have in common."""

    tracker: Tracker
    device: torch.device
    observer: Observer
    wanted: Sequence[Measure]
    force: bool
    parent: str | None
    profile: bool = False
    wait: bool = True
    label: Label = UNLABELLED

    @property
    def _needed(self) -> "Execution":
        """The same for jobs that this one needs: they are waited for, and are not called by its label."""
        return replace(self, profile=False, wait=True, label=UNLABELLED)

    def run(self, job: build.Job) -> Record:
        """The finished record of one job."""
        if job.spec.compared:
            return self._compared(job)
        modulator = build.modulator(job, build.model(job))  # a combination that cannot be is refused before anything is written
        if (ranks := here()) is not None and not modulator.promises.divides:
            name = job.spec.modulator.name
            raise AgmbenchError(f"modulator {name} cannot train on {ranks.size} devices; remove --devices")
        judge = build.judge(job.spec, job.registry, job.dataset)
        comparing = [one for one in self.wanted if one.metric.compares and job.spec.present is None]
        done = self._done(job)
        if done is not None and not measures.lacking(done, comparing):
            if job.digest in self.tracker.unsettled():
                self.tracker.tidy(job.digest)
            if self.profile:
                self.observer.warned("the job is done already, so there is no training to profile; take --force")
            done = self._labelled(done)
            self.observer.finished(done, trained=False)
            return done
        build.augmentation(job)  # which is tried, too, before anything is written
        if done is None and (before := self.tracker.before(job.setting, job.digest)):
            self.observer.warned(changed(job, before))
        needed = comparing or modulator.needs_concepts or (judge.measure is not None and judge.measure.metric.compares)
        references = {m: self._needed.run(concept) for m, concept in build.references(job).items()} if needed else {}
        described = self._heading(job)
        with self.tracker.claim(described, partial(self._taken, job)):
            record = self._done(job)
            trained = record is None
            if record is None:
                record = self._trained(job, described, references, judge)
            elif measures.lacking(record, comparing):
                record = self._measured(job, record)
            record = record if trained else self._labelled(record)
            self.observer.finished(record, trained=trained)
        return record

    def _compared(self, job: build.Job) -> Record:
        """The finished record of a job whose concepts are not its own: what the training says that it shares, measured beside them."""
        comparing = [one for one in self.wanted if one.metric.compares]
        if not comparing:
            said = ", ".join(setting(key, value) for key, value in job.spec.compared.items())
            raise AgmbenchError(f"{said} is of metrics that compare with concepts, and these are left out (--no-strength)")
        if (done := self._done(job)) is not None and not measures.lacking(done, comparing):
            done = self._labelled(done)
            self.observer.finished(done, trained=False)
            return done
        alone = replace(self, wanted=[one for one in self.wanted if not one.metric.compares], label=UNLABELLED)
        own = build.resolve(job.spec.trained(), job.registry, job.data)
        trained = alone.run(own)
        references = {m: alone._needed.run(concept) for m, concept in build.references(job).items()}
        if all(self.tracker.find(one.digest) for one in build.references(own).values()):
            # it is measured beside its own concepts too, where these are there
            replace(self._needed, force=False).run(own)
        described = self._heading(job)
        with self.tracker.claim(described, partial(self._taken, job)):
            if (record := self._done(job)) is None:
                with self.tracker.start(described) as run:
                    self._beside(job, run, trained, references)
            elif measures.lacking(record, comparing):
                record = self._labelled(self._measured(job, record))
            record = self._found(job)
            self.observer.finished(record, trained=True)
        return record

    def _beside(self, job: build.Job, run: Run, trained: Record, references: Mapping[str, Record]) -> None:
        """Keep what a finished run said as the job's own, and measure it beside the references."""
        if not trained.outcomes_kept:
            trained = kept_again(trained, job.registry, self.tracker, str(self.device))
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            (folder / "job.yaml").write_text(yaml.safe_dump(job.spec.canonical(), sort_keys=False))
            shutil.copy(self.tracker.artifact(trained, outcomes.FILE), folder / outcomes.FILE)
            run.files(folder)
        last = job.spec.training.epochs - 1
        run.points(numbers({name: value for name, value in trained.metrics.items() if name.startswith(AT_THE_END)}, last))
        said = {m: measures.judged(measures.kept(self.tracker, one)) for m, one in references.items()}
        self._measure(run, self.wanted, measures.kept(self.tracker, trained), said, last)

    def _done(self, job: build.Job) -> Record | None:
        return None if self.force else self.tracker.find(job.digest)

    def _labelled(self, record: Record) -> Record:
        return self.tracker.label(record, self.label) if any(self.label) else record

    def _heading(self, job: build.Job) -> Heading:
        return replace(heading(job, self.device), parent=self.parent, label=self.label)

    def _taken(self, job: build.Job, by: str) -> None:
        """Another process has a job: it is waited for, or left to that."""
        if not self.wait:
            raise Taken(by)
        self.observer.warned(f"'{job.name}' is being worked on by {by}; waiting until it is done there, or given up")

    def _trained(self, job: build.Job, described: Heading, references: Mapping[str, Record], judge: Judge) -> Record:
        with self.tracker.start(described) as run:
            states = told(Checkpoints(run.scratch, job.digest, run.beyond))
            if self.force:
                states.clear()
            try:
                self._run(job, run, references, judge, states)
            except SystemExit as error:
                raise RunFailed(f"a component of the job ended the process ({describe(error)})") from error
            except Unsuitable as error:  # a file that turned out to be broken when it was read
                raise RunFailed(str(error)) from error
        states.clear()
        return self._found(job)

    def _found(self, job: build.Job) -> Record:
        record = self.tracker.find(job.digest)
        if record is None:
            raise RunFailed(f"the finished run of job {job.digest} is not in the store any more; run the job again")
        return record

    def _run(self, job: build.Job, run: Run, references: Mapping[str, Record], judge: Judge, states: Checkpoints) -> None:
        spec, device = job.spec, self.device
        with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as beside, fed(job, device) as feed:
            folder = Path(scratch)
            feed.profile = Profile(folder / "profile", device) if self.profile else None
            (folder / "job.yaml").write_text(yaml.safe_dump(spec.canonical(), sort_keys=False))
            run.files(folder)
            said = {m: measures.kept(self.tracker, one) for m, one in references.items()}
            judge = replace(judge, references={m: measures.judged(one, "valid") for m, one in said.items()})
            model, modulator, best, history, epochs, epochs_done = self._begun(
                job, feed, references, judge, states, Path(beside)
            )
            log = Log()
            log.say(
                f"{job.name} (digest {job.digest}) on {device}: {f'goes on after epoch {epochs_done}' if epochs_done else 'begins'}"
            )
            for text in states.warnings:
                self.observer.warned(text)
                log.say(f"warning: {text}")
            self.observer.started(job.name, spec.training.epochs, epochs_done)
            run.points(history)
            for epoch in epochs:
                best.see(epoch, model, modulator)
                history += [*epoch.points, *epoch.costs]
                run.check()
                if states.due():
                    training = epoch.state()
                    states.save({"training": training, "selection": best.state_dict(), "history": pack(history)})
                run.points([*epoch.points, *epoch.costs])
                epochs_done = epoch.number + 1
                self.observer.epoch(epoch)
                log.epoch(epoch, spec.training.epochs)

            checkpoints = folder / "checkpoints"
            checkpoints.mkdir()
            torch.save({"model": model.state_dict(), "modulator": modulator.state_dict()}, checkpoints / "last.pt")
            torch.save({**best.weights, "epoch": best.epoch}, checkpoints / "best.pt")
            model.load_state_dict(best.weights["model"])
            modulator.load_state_dict(best.weights["modulator"])

            found = evaluated(job, model, modulator, feed)
            run.points(numbers({**losses(job, found["test"]), "best/epoch": best.epoch}, epochs_done - 1))
            predictions.write(found, folder / "predictions.parquet")
            outcomes.save(found, folder / outcomes.FILE)
            served.save(job, best.weights, folder / "model")
            title = ", ".join([job.name, *departing(protocol.departures(spec, job.registry, job.dataset), sample(job))])
            plots.save(
                folder / "plots", history, job.modalities, title, job.dataset.class_names, _confusion(found["test"]), best.epoch
            )
            log.say(f"the weights of epoch {best.epoch + 1} are taken")
            log.save(folder / "log.txt")
            run.files(folder)
            self._measure(run, self.wanted, found, {m: measures.judged(one) for m, one in said.items()}, epochs_done - 1)

    def _begun(
        self, job: build.Job, feed: Feed, references: Mapping[str, Record], judge: Judge, states: Checkpoints, beside: Path
    ) -> "_Begun":
        """A training at its beginning, or after the newest state that fits; those that do not are set aside. Features are kept `beside`."""
        spec, device = job.spec, self.device
        saved = states.load(device)
        model = build.model(job).to(device)
        modulator = build.modulator(job, model)
        concepts = self.concepts(job, model, references) if modulator.needs_concepts else {}
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
            epochs = train(model, modulator, feed, spec.training, spec.seed, concepts, state, judge, data=named)
            if saved is not None:
                with fitting():
                    best.check(model, modulator)
        except Unfit as error:
            states.refuse(str(error))
            return self._begun(job, feed, references, judge, states, beside)
        return _Begun(model, modulator, best, history, epochs, done)

    def _measure(
        self,
        run: Run,
        wanted: Sequence[Measure],
        found: Mapping[str, Outcome],
        references: Mapping[str, Outcomes],
        step: int,
    ) -> None:
        """By the metrics wanted; those that compare with unimodal models, where these are there."""
        judged = measures.judged(found)
        asked = [one for one in wanted if one.quantities(judged.judged.kind) and (references or not one.metric.compares)]
        run.measured([one.of(judged, references) for one in asked], step)

    def _measured(self, job: build.Job, record: Record) -> Record:
        """Measure a finished run by what has not measured it yet, from its outcomes, or where these were not kept, its checkpoint."""
        with self.tracker.reopen(record) as run:
            if not record.outcomes_kept:
                keep_outcomes(job, run, self.tracker, record, self.device)
            record = self._found(job)
            references = measures.references(self.tracker, replace(record, references=digests(job)))
            wanted = measures.stale(record, self.wanted)
            self._measure(run, wanted, measures.kept(self.tracker, record), references, job.spec.training.epochs - 1)
        return self._found(job)

    def concepts(self, job: build.Job, model: MultimodalModel, references: Mapping[str, Record]) -> dict[str, MultimodalModel]:
        """The trained unimodal models, from the runs of them."""
        paths = {m: self.tracker.artifact(reference, "checkpoints/best.pt") for m, reference in references.items()}
        weights = {m: torch.load(path, map_location=self.device, weights_only=True)["model"] for m, path in paths.items()}
        return build.concept_models(job, model, self.device, weights)


class _Begun(NamedTuple):
    model: MultimodalModel
    modulator: Modulator
    best: "Selection"
    history: list[Point]
    epochs: Iterator[Epoch]
    done: int


def changed(job: build.Job, before: Record) -> str:
    """What is not as it was when a job of the same setting was run."""
    components = [name for name, stated in job.components.items() if before.components.get(name, stated) != stated]
    entries = {str(entry): entry for entry in build.entries(job.spec, job.registry)}
    what = [f"{name} ({entries[name].origin})" if name in entries else name for name in components]
    if before.fingerprint != job.data.fingerprint and not any(name.startswith("dataset/") for name in components):
        what.append(f"the data of '{job.spec.dataset.name}'")
    have = "have" if len(what) > 1 else "has"
    return f"{' and '.join(what) or 'agmbench'} {have} changed since run {before.run_id[:8]}; training anew"


class Selection:
    """Which epoch's weights are kept: `valid`, the one of the highest rank there; or the `last`."""

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

    def check(self, model: MultimodalModel, modulator: Modulator) -> None:
        """Raise unless the weights are theirs, into which they are put only in the end."""
        shapes = {name: value.shape for name, value in model.state_dict().items()}
        if {name: value.shape for name, value in self.weights["model"].items()} != shapes:
            raise ValueError("its best weights are of another model")
        if self.weights["modulator"].keys() != modulator.state_dict().keys():
            raise ValueError("its best weights are of another modulator")

    def see(self, epoch: Epoch, model: MultimodalModel, modulator: Modulator) -> None:
        """Keep a copy of the weights, the modulator's too, if this epoch is the best so far."""
        if self.rule == "last" or self.epoch < 0 or epoch.rank > self._best:
            self._best, self.epoch = epoch.rank, epoch.number
            self.weights = copy.deepcopy({"model": model.state_dict(), "modulator": modulator.state_dict()})


def fed(job: build.Job, device: torch.device, names: Sequence[SplitName] = SPLITS) -> Feed:
    """The splits of a job as batches, changed as its transforms do."""
    kind = Feed if here() is None else DealtFeed
    return kind({name: job.dataset.split(name) for name in names}, device, workers(device), build.augmentation(job))


def evaluated(job: build.Job, model: MultimodalModel, modulator: Modulator, feed: Feed) -> dict[str, Outcome]:
    """What a trained model says of dev, valid and test."""
    where = f"of '{job.spec.dataset.name}'"
    return {
        name: evaluate(model, modulator, feed.in_order(name), job.dataset.class_names, whole=True, where=f"{name} {where}")
        for name in AFTER
    }


def losses(job: build.Job, test: Outcome) -> dict[str, float]:
    """The task's own losses on test, of the model and of each response."""
    return {
        f"test/{name}": value for name, value in measure(test, job.dataset.task).items() if "loss" in name.partition("/")[0]
    }


def keep_outcomes(job: build.Job, run: Run, tracker: Tracker, record: Record, device: torch.device) -> None:
    """Ask the best checkpoint of a run that was made before outcomes were kept."""
    weights = torch.load(tracker.artifact(record, "checkpoints/best.pt"), map_location=device, weights_only=True)
    model, modulator = served.restored(job, weights, device)
    with tempfile.TemporaryDirectory() as scratch, fed(job, device) as feed:
        outcomes.save(evaluated(job, model, modulator, feed), Path(scratch) / outcomes.FILE)
        run.files(Path(scratch))


def kept_again(record: Record, registry: Registry, tracker: Tracker, device: str) -> Record:
    """A run that was made before outcomes were kept, with its outcomes; the data have to be as they were."""
    job = build.resolve(spec_of(record.spec), registry)
    if job.digest != record.digest:
        raise RunFailed("it kept no outcomes, and its data or components have changed since, so it cannot be evaluated again")
    with tracker.reopen(record) as run:
        keep_outcomes(job, run, tracker, record, build.device(device))
    return replace(record, outcomes_kept=True, references=digests(job))


def _confusion(outcome: Outcome) -> tuple[np.ndarray, np.ndarray] | None:
    """Classes and predicted classes, where a sample has one class."""
    return (outcome.targets, outcome.predicted(outcome.full)) if outcome.kind == "classification" else None


def digests(job: build.Job) -> dict[str, str]:
    """Those of the jobs of a job's unimodal models."""
    return {m: reference.digest for m, reference in build.references(job).items()}


def heading(job: build.Job, device: torch.device) -> Heading:
    foreign = [entry for entry in build.entries(job.spec, job.registry) if entry.origin != BUILT_IN]
    origins = {f"agmbench.origin.{entry}": f"{entry.origin}, version {entry.version}" for entry in foreign}
    return Heading(
        name=job.name,
        digest=job.digest,
        cell=job.cell,
        setting=job.setting,
        spec=job.spec.canonical(),
        modalities=job.modalities,
        concept=job.spec.present is not None,
        fingerprint=job.data.fingerprint,
        task=job.dataset.task.kind,
        selected=protocol.selected(job.spec, job.dataset),
        components=job.components,
        departures=protocol.departures(job.spec, job.registry, job.dataset),
        references=digests(job),
        training=job.training,
        samples={name: len(job.dataset.split(name)) for name in SPLITS},
        tags={**provenance.tags(device), **_several(), **origins, **({SAMPLE: "true"} if sample(job) else {})},
    )


def _several() -> dict[str, str]:
    """On how many devices a job is trained, as a tag, if on several."""
    ranks = here()
    return {} if ranks is None else {"devices": str(ranks.size)}


def sample(job: build.Job) -> bool:
    """Whether its data are a random pack of `agmbench data sample`."""
    return getattr(job.dataset, "sample", False)
