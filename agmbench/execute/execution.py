"""Executes the jobs of one command: finds each job done, or trains and measures it and the jobs that it needs."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import yaml

from agmbench import build, measures, outcomes
from agmbench.checkpoints import Checkpoints
from agmbench.contracts import Unsuitable
from agmbench.distributed.ranks import here
from agmbench.distributed.stand_in import stand_in
from agmbench.errors import AgmbenchError, RunFailed, Taken, describe
from agmbench.execute.evaluation import best_weights, evaluate_again, evaluated, keep_outcomes, losses, make_feed
from agmbench.execute.headings import changed, digests, heading
from agmbench.execute.observer import Observer
from agmbench.execute.training import load_selected_weights, prepare_training, save_outputs, save_weights, train_to_end
from agmbench.jobs import setting
from agmbench.logs import Log
from agmbench.measures import Judge, Measure
from agmbench.model import MultimodalModel
from agmbench.names import BEST, BEST_EPOCH, COST, of_split
from agmbench.outcomes import Outcome, Outcomes
from agmbench.profiling import Profile
from agmbench.records import UNLABELLED, Heading, Label, Record, Run, Tracker, numbers

# prefixes of the metrics that a run keeps at the end of its training
AT_THE_END = (BEST, COST, *(of_split("test", name) for name in measures.ITS_OWN))


@dataclass(frozen=True)
class Execution:
    """Executes jobs with the settings that all jobs of one command have in common."""

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
    def _for_needed_jobs(self) -> "Execution":
        """The same settings for jobs that another job needs: they are always waited for, not profiled, and do not get its label."""
        return replace(self, profile=False, wait=True, label=UNLABELLED)

    def run(self, job: build.Job) -> Record:
        """Execute one job unless it is done; returns its finished record."""
        if job.spec.compared:
            return self._run_compared(job)
        modulator = build.modulator(job, build.model(job))  # raises for an impossible combination before anything is written
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
                self.observer.warned(
                    "the job is done already, so there is no training to profile; add --force to train it again"
                )
            done = self._apply_label(done)
            self.observer.finished(done, trained=False)
            return done
        build.augmentation(job)  # raises for unusable transforms before anything is written
        if done is None and (before := self.tracker.before(job.setting, job.digest)):
            self.observer.warned(changed(job, before))
        needed = comparing or modulator.needs_concepts or (judge.measure is not None and judge.measure.metric.compares)
        references = {m: self._for_needed_jobs.run(concept) for m, concept in build.references(job).items()} if needed else {}
        described = self._heading(job)
        with self.tracker.claim(described, partial(self._warn_or_raise, job)):
            record = self._done(job)
            trained = record is None
            if record is None:
                record = self._train(job, described, references, judge)
            elif measures.lacking(record, comparing):
                record = self._measure_missing(job, record)
            record = record if trained else self._apply_label(record)
            self.observer.finished(record, trained=trained)
        return record

    def _run_compared(self, job: build.Job) -> Record:
        """Execute a job that is compared with other unimodal models than its own. It shares the training of another job, and only its
        metrics are computed anew; returns its finished record."""
        comparing = [one for one in self.wanted if one.metric.compares]
        if not comparing:
            said = ", ".join(setting(key, value) for key, value in job.spec.compared.items())
            raise AgmbenchError(
                f"{said} is only for metrics that compare with unimodal models (concepts), which --no-strength leaves out; leave out one "
                "of the two"
            )
        if (done := self._done(job)) is not None and not measures.lacking(done, comparing):
            done = self._apply_label(done)
            self.observer.finished(done, trained=False)
            return done
        alone = replace(self, wanted=[one for one in self.wanted if not one.metric.compares], label=UNLABELLED)
        own = build.resolve(job.spec.trained(), job.registry, job.data)
        trained = alone.run(own)
        references = {m: alone._for_needed_jobs.run(concept) for m, concept in build.references(job).items()}
        if all(self.tracker.find(one.digest) for one in build.references(own).values()):
            # the shared training is also measured against its own unimodal models, if these are finished
            replace(self._for_needed_jobs, force=False).run(own)
        described = self._heading(job)
        with self.tracker.claim(described, partial(self._warn_or_raise, job)):
            if (record := self._done(job)) is None:
                with self.tracker.start(described) as run:
                    self._copy_and_measure(job, run, trained, references)
            elif measures.lacking(record, comparing):
                record = self._apply_label(self._measure_missing(job, record))
            record = self._finished_record(job)
            self.observer.finished(record, trained=True)
        return record

    def _copy_and_measure(self, job: build.Job, run: Run, trained: Record, references: Mapping[str, Record]) -> None:
        """Copy the outcomes and numbers of a finished run into the job's run, and measure them against the references."""
        if not trained.outcomes_kept:
            trained = evaluate_again(trained, job.registry, self.tracker, str(self.device))
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            _write_job(job, folder)
            with self.tracker.artifact(trained, outcomes.FILE) as kept:
                shutil.copy(kept, folder)
            run.log_files(folder)
        last = job.spec.training.epochs - 1
        run.log_points(numbers({name: value for name, value in trained.metrics.items() if name.startswith(AT_THE_END)}, last))
        unimodal = {m: measures.as_outcomes(measures.load_outcomes(self.tracker, one)) for m, one in references.items()}
        self._measure(run, self.wanted, measures.load_outcomes(self.tracker, trained), unimodal, last)

    def _done(self, job: build.Job) -> Record | None:
        return None if self.force else self.tracker.find(job.digest)

    def _apply_label(self, record: Record) -> Record:
        return self.tracker.label(record, self.label) if any(self.label) else record

    def _heading(self, job: build.Job) -> Heading:
        return replace(heading(job, self.device), parent=self.parent, label=self.label)

    def _warn_or_raise(self, job: build.Job, by: str) -> None:
        """Called if another process has the job: warns that this one waits, or raises `Taken` if it should not wait."""
        if not self.wait:
            raise Taken(by)
        self.observer.warned(f"'{job.name}' is being worked on by {by}; waiting until that process is done or gives up")

    def _train(self, job: build.Job, described: Heading, references: Mapping[str, Record], judge: Judge) -> Record:
        with self.tracker.start(described) as run:
            states = stand_in(Checkpoints(run.scratch, job.digest, run.beyond))
            if self.force:
                states.clear()
            try:
                self._train_and_measure(job, run, references, judge, states)
            except SystemExit as error:
                raise RunFailed(f"a component of the job ended the process ({describe(error)})") from error
            except Unsuitable as error:  # a file of the data proved broken when it was read
                raise RunFailed(str(error)) from error
        states.clear()
        return self._finished_record(job)

    def _finished_record(self, job: build.Job) -> Record:
        record = self.tracker.find(job.digest)
        if record is None:
            raise RunFailed(f"the finished run of job {job.digest} is no longer in the store; run the job again")
        return record

    def _train_and_measure(
        self, job: build.Job, run: Run, references: Mapping[str, Record], judge: Judge, states: Checkpoints
    ) -> None:
        with (
            tempfile.TemporaryDirectory() as scratch,
            tempfile.TemporaryDirectory() as beside,
            make_feed(job, self.device) as feed,
        ):
            folder = Path(scratch)
            feed.profile = Profile(folder / "profile", self.device) if self.profile else None
            _write_job(job, folder)
            run.log_files(folder)
            unimodal = {m: measures.load_outcomes(self.tracker, one) for m, one in references.items()}
            judge = replace(judge, references={m: measures.as_outcomes(one, "valid") for m, one in unimodal.items()})
            training = prepare_training(
                job, feed, judge, states, Path(beside), lambda model: self.concepts(job, model, references)
            )
            log = Log()
            where = f"goes on after epoch {training.done}" if training.done else "begins"
            log.say(f"{job.name} (digest {job.digest}) on {self.device}: {where}")
            last = train_to_end(training, run, states, self.observer, log) - 1
            save_weights(training, folder)
            load_selected_weights(training)
            found = evaluated(job, training.model, training.modulator, feed)
            run.log_points(numbers({**losses(job, found["test"]), BEST_EPOCH: training.best.epoch}, last))
            save_outputs(training, found, folder)
            log.say(f"the weights of epoch {training.best.epoch + 1} are taken")
            log.save(folder / "log.txt")
            run.log_files(folder)
            self._measure(run, self.wanted, found, {m: measures.as_outcomes(one) for m, one in unimodal.items()}, last)

    def _measure(
        self,
        run: Run,
        wanted: Sequence[Measure],
        found: Mapping[str, Outcome],
        references: Mapping[str, Outcomes],
        step: int,
    ) -> None:
        """Measure by the metrics `wanted`; metrics that compare with unimodal models are left out if there are no `references`."""
        judged = measures.as_outcomes(found)
        asked = [one for one in wanted if one.quantities(judged.judged.kind) and (references or not one.metric.compares)]
        run.log_measurements([one.of(judged, references) for one in asked], step)

    def _measure_missing(self, job: build.Job, record: Record) -> Record:
        """Measure a finished run by the metrics that have not measured it yet, from its outcomes or, if it kept none, its checkpoint."""
        with self.tracker.reopen(record) as run:
            if not record.outcomes_kept:
                keep_outcomes(job, run, self.tracker, record, self.device)
            record = self._finished_record(job)
            references = measures.references(self.tracker, replace(record, references=digests(job)))
            wanted = measures.stale(record, self.wanted)
            self._measure(run, wanted, measures.load_outcomes(self.tracker, record), references, job.spec.training.epochs - 1)
        return self._finished_record(job)

    def concepts(self, job: build.Job, model: MultimodalModel, references: Mapping[str, Record]) -> dict[str, MultimodalModel]:
        """The trained unimodal models by modality, with weights from their runs."""
        weights = {m: best_weights(reference, self.tracker, self.device)["model"] for m, reference in references.items()}
        return build.concept_models(job, model, self.device, weights)


def _write_job(job: build.Job, folder: Path) -> None:
    (folder / "job.yaml").write_text(yaml.safe_dump(job.spec.canonical(), sort_keys=False))
