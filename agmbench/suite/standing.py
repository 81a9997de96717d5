"""Which jobs of a suite are done according to the store, and which remain to be run."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agmbench import build
from agmbench.measures import lacking, measures
from agmbench.records import FAILED, FINISHED, RUNNING, Record, Tracker
from agmbench.registry import Registry
from agmbench.suite.planned import Planned, checked
from agmbench.suite.plans import Plan, StoredJob


@dataclass(frozen=True)
class Standing:
    """The progress of a suite: its planned jobs, divided by their state; a failed job with the record of the run that failed."""

    done: Sequence[Planned]
    failed: Sequence[tuple[Planned, Record]]
    missing: Sequence[Planned]
    skipped: Sequence[Planned]
    running_runs: Sequence[Record] = ()  # RUNNING runs of jobs that are not done, and of their unimodal models


def progress(planned: Iterable[Planned], tracker: Tracker, registry: Registry) -> Standing:
    """Divide a plan into jobs that are done, failed, missing or skipped, according to the store. A job is done if its run is finished and
    measured by every metric that compares it with unimodal models."""
    planned = list(planned)
    comparing = [one for one in measures(registry) if one.metric.compares]
    newest: dict[str, Record] = {}
    for dataset in {one.dataset for one in planned if one.digest}:
        for record in sorted(
            tracker.records(dataset), key=lambda record: record.order
        ):  # the last run of a job counts, but a finished run always comes before an unfinished one
            if newest.get(record.digest, record).status != FINISHED or record.status == FINISHED:
                newest[record.digest] = record
    done: list[Planned] = []
    rest: list[Planned] = []
    for one in planned:
        last = newest.get(one.digest)
        complete = last is not None and last.status == FINISHED and not lacking(last, comparing)
        (done if complete else rest).append(one)
    failed, missing, skipped = [], [], []
    running_runs: dict[str, Record] = {}
    for one in checked(rest):
        if one.skipped or not one.digest:
            skipped.append(one)
            continue
        records = [newest[digest_] for digest_ in one.needed() if digest_ in newest]
        if lost := next((record for record in records if record.status == FAILED), None):
            failed.append((one, lost))
        else:
            missing.append(one)
        running_runs |= {record.run_id: record for record in records if record.status == RUNNING}
    return Standing(done, failed, missing, skipped, [*running_runs.values()])


@dataclass(frozen=True)
class Todo:
    """The jobs that remain, in stages: first the unimodal models ("mono-modal concepts"), so that no job waits for those of another job;
    then the first of all jobs that share a training; then the others. `plans` describes all jobs of each data set, even finished ones."""

    stages: Sequence[Sequence[build.Job]]
    plans: Mapping[str, Plan] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """The number of jobs, including unimodal models."""
        return len(self._jobs)

    @property
    def unimodal(self) -> int:
        """The number of unimodal models among the jobs."""
        return sum(job.spec.present is not None for job in self._jobs.values())

    @property
    def _jobs(self) -> Mapping[str, build.Job]:
        return {job.digest: job for stage in self.stages for job in stage}


def todo(planned: Sequence[Planned], tracker: Tracker, registry: Registry) -> Todo:
    """The jobs of a plan that remain: those that are missing, failed, or have left states behind, and the missing unimodal models."""
    found = progress(planned, tracker, registry)
    unsettled = tracker.unsettled() if found.done else ()
    uncleared = [one for one in found.done if one.job and one.job.digest in unsettled]
    jobs = [one.job for one in (*found.missing, *(one for one, _ in found.failed), *uncleared) if one.job]
    concepts = {concept.digest: concept for job in jobs for concept in build.references(job).values()}
    missing = [concept for digest_, concept in concepts.items() if tracker.find(digest_) is None]
    first = {job.training: job.digest for job in reversed(jobs)}
    firsts = [job for job in jobs if first[job.training] == job.digest]
    others = [job for job in jobs if first[job.training] != job.digest]
    return Todo((missing, firsts, others), _plans(found))


def _plans(found: Standing) -> Mapping[str, Plan]:
    """What the store should keep of the jobs that can be built here, by data set: their digests, or why a method refuses them. Of finished
    jobs it is only their own digest, without those of their unimodal models."""
    plans: dict[str, dict[str, StoredJob]] = defaultdict(dict)
    for one in found.done:
        plans[one.dataset][one.plan_key] = StoredJob((one.digest,))
    for one in (*(one for one, _ in found.failed), *found.missing):
        plans[one.dataset][one.plan_key] = StoredJob(one.needed())
    for one in found.skipped:
        if one.job:
            plans[one.dataset][one.plan_key] = StoredJob(skipped=one.skipped)
    return plans
