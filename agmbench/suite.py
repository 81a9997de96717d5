"""Suites: a named matrix of jobs, of which only those that are missing are run.

In `registry.yaml`:

    suites:
      mini:
        summary: what it shows
        seeds: [1, 2, 3]
        jobs:                          # each item is the product of its lists
          - dataset: avmnist-mini      # or a list
            fusion: [concat, early]    # default: the data set's
            modulator: [joint, agm]
            encoder: {image: resnet}   # default: the data set's
            set: {training.lr: 0.01}   # as --set; a list of values is one more dimension
        scales:                        # --scale NAME sets these on top
          quick: {training.epochs: 2, limit: 500}
          long:                        # below `datasets` on one data set alone, below `fusions` under one fusion alone
            datasets: {avmnist-mini: {training.epochs: 50, fusions: {early: {fusion.hidden: 256}}}}
        published: [5]                 # tables of the paper's supplement that the report sets beside them
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import yaml
from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from agmbench import build
from agmbench.errors import AgmbenchError, Taken, allowed
from agmbench.jobs import compose, digest, fault
from agmbench.launch import Ended, Launcher, Task
from agmbench.measures import lacking, measures
from agmbench.names import SUITE
from agmbench.plans import Plan, Told, asked, keep, kept
from agmbench.records import FAILED, FINISHED, RUNNING, Record, Tracker
from agmbench.registry import Matrix, Registry
from agmbench.report.published import TABLES

WORK = "agmbench.work:job"  # what a job's text is for
PLACES = {"datasets": "dataset", "fusions": "fusion"}  # in a scale: settings by the name of a component of this kind


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Some = Annotated[tuple[str, ...], MinLen(1)]


class Block(_Strict):
    """One item of a suite's `jobs`."""

    dataset: Some
    modulator: Some
    fusion: Annotated[tuple[str | None, ...], MinLen(1)] = (None,)
    encoder: Mapping[str, str] = Field(default_factory=dict)
    set: Mapping[str, Any] = Field(default_factory=dict)

    @field_validator("dataset", "modulator", "fusion", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("set")
    @classmethod
    def _valued(cls, found: Mapping[str, Any]) -> Mapping[str, Any]:
        for key, value in found.items():
            if value == []:
                raise ValueError(f"'{key}' has no value; leave it out, or give it one")
        return found


class Suite(_Strict):
    """A suite as it stands in the registry.

    scales: settings on top of what stands there; what a scale has below `datasets` are those of one data set each, below `fusions`
    those of one fusion each, and either may stand within the other.
    published: the tables of the paper's supplement that it makes again.
    """

    name: str
    summary: str = ""
    seeds: Annotated[tuple[int, ...], MinLen(1)] = (999,)
    jobs: Annotated[tuple[Block, ...], MinLen(1)]
    scales: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    published: tuple[int, ...] = ()

    @field_validator("scales")
    @classmethod
    def _narrowed(cls, found: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        for name, settings in found.items():
            for _ in _places(settings, f"scale '{name}'"):
                pass  # raises where a place has no mapping
        return found

    @field_validator("published")
    @classmethod
    def _printed(cls, found: tuple[int, ...]) -> tuple[int, ...]:
        if unknown := set(found) - set(TABLES):
            raise ValueError(f"no figures of table {min(unknown)} are here; there are those of {', '.join(map(str, TABLES))}")
        return found

    def at(self, scale: str | None, dataset: str, fusion: str) -> dict[str, Any]:
        """The settings of a scale on a data set under a fusion; as it stands there are none."""
        if scale is None:
            return {}
        if scale not in self.scales:
            known = f": {allowed(scale, self.scales)}" if self.scales else ""
            raise AgmbenchError(f"suite '{self.name}' has no scale '{scale}' (without --scale it is as it stands){known}")
        return _within(self.scales[scale], {"datasets": dataset, "fusions": fusion})


def _within(settings: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """What holds for the components of these names: what stands there for all, then what is narrowed to them."""
    found = {key: value for key, value in settings.items() if key not in PLACES}
    for place, name in names.items():
        narrowed = settings.get(place, {}).get(name)
        found |= _within(narrowed, names) if narrowed else {}
    return found


def _places(settings: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    """Kind and name of each component that settings are narrowed to, at any depth."""
    for place, kind in PLACES.items():
        of = settings.get(place, {})
        if not (isinstance(of, Mapping) and all(isinstance(each, Mapping) for each in of.values())):
            raise ValueError(f"'{place}' of {where} should have a mapping of settings for each; found {of!r}")
        for name, each in of.items():
            yield kind, name
            yield from _places(each, where)


@dataclass(frozen=True)
class Planned:
    """One job of a suite; `skipped` says why it cannot be run here, and then it may have no `job`.

    asked: what tells it from others without its data; empty if it cannot even be named.   told: of one that cannot be built here, what
    the store keeps of it (`plans.py`).
    """

    label: str
    dataset: str
    job: build.Job | None = None
    skipped: str = ""
    asked: str = ""
    told: Told | None = None

    @property
    def digest(self) -> str:
        """Its job's, if it is known."""
        return self.job.digest if self.job else self.told.digest if self.told else ""

    def needed(self) -> tuple[str, ...]:
        """The digests of all without which it cannot be done: its own, its training's where that is another's, its concepts'."""
        if self.job is None:
            return self.told.needed if self.told else ()
        return tuple(
            dict.fromkeys((self.digest, self.job.training, *(one.digest for one in build.references(self.job).values())))
        )


@dataclass(frozen=True)
class Standing:
    """How far a suite is: planned jobs by what became of them, with the newest record of each where there is one."""

    done: Sequence[Planned]
    failed: Sequence[tuple[Planned, Record]]
    missing: Sequence[Planned]
    skipped: Sequence[Planned]
    at_work: Sequence[Record] = ()  # runs that go on, as far as the store knows, of jobs that are missing and of their concepts


def read(registry: Registry, name: str) -> Suite:
    """A suite by name."""
    return _parsed(registry.suite(name))


def _parsed(matrix: Matrix) -> Suite:
    try:
        return Suite.model_validate({**matrix.content, "name": matrix.name})
    except ValidationError as error:
        raise AgmbenchError(f"{matrix.place}: suite '{matrix.name}': {fault(error, Suite, 'key')}") from error


def plan(
    suite: Suite,
    registry: Registry,
    scale: str | None = None,
    seeds: int | None = None,
    limit: int | None = None,
    settings: Iterable[tuple[str, Any]] = (),
) -> list[Planned]:
    """Every job of a suite at a scale (as it stands), for its first `seeds` seeds (further ones count up), of at most `limit` samples
    a split, with `settings` on top of all."""
    given = {**({"limit": limit} if limit is not None else {}), **dict(settings)}
    if "seed" in given:
        raise AgmbenchError("--set seed: a suite has its own seeds; say how many with --seeds")
    for kind, name in _places(suite.scales.get(scale or "", {}), f"scale '{scale}'"):
        registry.get(kind, name)  # one that nobody knows is a typo
    for key, value in given.items():
        if value == []:
            raise AgmbenchError(f"--set {key}: an empty list has no value; leave it out, or give it one")
    return list(_plan(suite, registry, scale, given, _seeds(suite, seeds)))


def _seeds(suite: Suite, count: int | None) -> list[int]:
    if count is None:
        return list(suite.seeds)
    return [*suite.seeds, *range(max(suite.seeds) + 1, max(suite.seeds) + 1 + count)][:count]


def _plan(
    suite: Suite, registry: Registry, scale: str | None, settings: Mapping[str, Any], seeds: Sequence[int]
) -> Iterator[Planned]:
    opened: dict[str, build.Data] = {}
    for block, dataset, fusion in [(b, dataset, fusion) for b in suite.jobs for dataset in b.dataset for fusion in b.fusion]:
        known = {**block.set, **suite.at(scale, dataset, _meant(registry, dataset, fusion)), **settings}
        ranges = {key: value if isinstance(value, list) else [value] for key, value in known.items()}
        for values, modulator, seed in product(product(*ranges.values()), block.modulator, seeds):
            given = dict(zip(ranges, values, strict=True))
            shown = [f"{key}={value}" for key, value in given.items()]
            one = Planned(" ".join([dataset, *([fusion] if fusion else []), modulator, *shown, f"seed {seed}"]), dataset)
            try:
                spec = compose(registry, dataset, modulator, fusion, block.encoder, [*given.items(), ("seed", seed)])
                one = replace(one, asked=asked(spec, registry))
                key = digest([spec.dataset.model_dump(), spec.seed, spec.limit])
                job = build.resolve(spec, registry, opened.get(key))
                opened[key] = job.data
                yield replace(one, job=job)
            except AgmbenchError as error:
                yield replace(one, skipped=str(error))


def _meant(registry: Registry, dataset: str, fusion: str | None) -> str:
    """The fusion by its name in the registry; none where a job cannot be composed, which says so itself when it is planned."""
    try:
        return compose(registry, dataset, fusion=fusion).fusion.name
    except AgmbenchError:
        return ""


def checked(planned: Sequence[Planned]) -> list[Planned]:
    """The plan with what cannot be built, or what a method refuses, skipped; jobs that differ in the seed alone are tried once."""
    jobs = {_but_for_seed(one.job): one.job for one in planned if one.job}
    cells: dict[str, dict[str, build.Job]] = defaultdict(dict)
    for key, job in jobs.items():
        cells[job.cell][key] = job
    reasons = {key: reason for alike in cells.values() for key, reason in _refusals(alike).items()}
    return [replace(one, skipped=reasons[_but_for_seed(one.job)]) if one.job else one for one in planned]


def _but_for_seed(job: build.Job) -> str:
    return digest([job.cell, job.spec.modulator.model_dump()])


def _refusals(jobs: Mapping[str, build.Job]) -> dict[str, str]:
    """Why each job of one cell cannot be; empty if it can."""
    reasons = dict.fromkeys(jobs, "")
    try:
        model = build.model(next(iter(jobs.values())))
    except AgmbenchError as error:
        return dict.fromkeys(jobs, str(error))
    for key, job in jobs.items():
        try:
            build.modulator(job, model)
        except AgmbenchError as error:
            reasons[key] = str(error)
    return reasons


def remembered(planned: Iterable[Planned], name: str, tracker: Tracker) -> list[Planned]:
    """The plan of the suite `name` with what the store keeps of jobs that cannot be built here, such as those whose data are elsewhere."""
    planned = list(planned)
    lacking_here = {one.dataset for one in planned if one.job is None and one.asked}
    plans = {dataset: kept(tracker, dataset, _tags(name)) for dataset in lacking_here}
    found = [plans.get(one.dataset, {}).get(one.asked) if one.job is None else None for one in planned]
    return [replace(one, told=told, skipped=told.skipped) if told else one for one, told in zip(planned, found, strict=True)]


def _tags(name: str) -> dict[str, str]:
    """Of the runs below which the jobs of a suite stand."""
    return {SUITE: name}


def progress(planned: Iterable[Planned], tracker: Tracker, registry: Registry) -> Standing:
    """What of a plan is done, failed or missing, by the store; what is done has been measured by every metric that needs more runs."""
    planned = list(planned)
    comparing = [one for one in measures(registry) if one.metric.compares]
    newest: dict[str, Record] = {}
    for dataset in {one.dataset for one in planned if one.digest}:
        for record in sorted(
            tracker.records(dataset), key=lambda record: record.order
        ):  # the last run last, a finished one always
            if newest.get(record.digest, record).status != FINISHED or record.status == FINISHED:
                newest[record.digest] = record
    done: list[Planned] = []
    rest: list[Planned] = []
    for one in planned:
        last = newest.get(one.digest)
        complete = last is not None and last.status == FINISHED and not lacking(last, comparing)
        (done if complete else rest).append(one)
    failed, missing, skipped = [], [], []
    at_work: dict[str, Record] = {}
    for one in checked(rest):
        if one.skipped or not one.digest:
            skipped.append(one)
            continue
        records = [newest[digest_] for digest_ in one.needed() if digest_ in newest]
        if lost := next((record for record in records if record.status == FAILED), None):
            failed.append((one, lost))
        else:
            missing.append(one)
        at_work |= {record.run_id: record for record in records if record.status == RUNNING}
    return Standing(done, failed, missing, skipped, [*at_work.values()])


@dataclass(frozen=True)
class Todo:
    """What there is to run, in stages: mono-modal concepts, so that no job waits for another's; of jobs that share a training, the first;
    the others.   `plans`: of each data set, what all of its jobs are, those that are done too."""

    stages: Sequence[Sequence[build.Job]]
    plans: Mapping[str, Plan] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many jobs that are."""
        return len({job.digest for stage in self.stages for job in stage})


def todo(planned: Sequence[Planned], tracker: Tracker, registry: Registry) -> Todo:
    """What of a plan is missing or failed, or left states, and the concepts that are missing."""
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
    """By data set, what jobs are that can be built here, or why a method refuses them; of those that are done without their concepts."""
    plans: dict[str, dict[str, Told]] = defaultdict(dict)
    for one in found.done:
        plans[one.dataset][one.asked] = Told((one.digest,))
    for one in (*(one for one, _ in found.failed), *found.missing):
        plans[one.dataset][one.asked] = Told(one.needed())
    for one in found.skipped:
        if one.job:
            plans[one.dataset][one.asked] = Told(skipped=one.skipped)
    return plans


def run(
    name: str, todo: Todo, tracker: Tracker, launcher: Launcher, folder: Path, tagged: Mapping[str, str] | None = None
) -> Iterator[Ended]:
    """Run what there is to do, and yield each job as it ends. What another command is working on, here or on another machine, is left
    to that until all else is done, and then waited for.

    A launcher is given a job as its text, which is kept as `<folder>/<digest>.yaml` too. In each data set's experiment jobs stand
    under a run of the suite. What is trained is `tagged`, as `--tag` does it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tags = _tags(name)
    at_work = sorted({job.spec.dataset.name for stage in todo.stages for job in stage})
    for dataset, planned in todo.plans.items():
        keep(tracker, dataset, f"suite {name}", tags, planned)
        if dataset not in at_work:
            tracker.settle(dataset, tags)
    with ExitStack() as groups:
        parents = {one: groups.enter_context(tracker.group(one, f"suite {name}", tags)).id for one in at_work}
        make = partial(_tasks, parents=parents, folder=folder, tagged=tagged or {})
        lost: dict[str, str] = {}  # why, by digest
        for stage in todo.stages:
            training = {job.digest: job.training for job in stage}
            reasons = {job.digest: _without(job, lost) for job in stage}
            for ended in _each(launcher, [job for job in stage if not reasons[job.digest]], make):
                if ended.reason:
                    for digest_ in dict.fromkeys((ended.task.key, training[ended.task.key])):
                        tracker.lost(digest_, ended.reason, ended.place)
                        if tracker.find(digest_) is None:
                            lost[digest_] = ended.reason
                yield ended
            for task in make(job for job in stage if reasons[job.digest]):
                yield Ended(task, reasons[task.key], 0)


def _each(launcher: Launcher, jobs: Sequence[build.Job], make: Callable[..., list[Task]]) -> Iterator[Ended]:
    """Each job as it ends. Those that another process has when they are started come after all others, and wait for it."""
    taken = set()
    for ended in launcher.run(make(jobs, wait=False)):
        if Taken.SAYS in ended.reason:
            taken.add(ended.task.key)
        else:
            yield ended
    if taken:
        yield from launcher.run(make(job for job in jobs if job.digest in taken))


def _without(job: build.Job, lost: Mapping[str, str]) -> str:
    """Why a job is not started whose concept, or another job of whose training, has just failed."""
    if not lost:  # as a rule, and concepts take a moment to resolve
        return ""
    if job.training in lost:
        return f"its training failed: {lost[job.training]}"
    reasons = (
        f"its concept of {m} failed: {lost[one.digest]}" for m, one in build.references(job).items() if one.digest in lost
    )
    return next(reasons, "")


def _tasks(
    jobs: Iterable[build.Job], parents: Mapping[str, str], folder: Path, tagged: Mapping[str, str], wait: bool = True
) -> list[Task]:
    """The jobs as tasks, one each: name, the run that it stands under, whether it waits for another process, its tags, and its spec
    in full. A concept, which many jobs share, has no tags."""
    tasks = []
    for job in {job.digest: job for job in jobs}.values():
        content = {"name": job.name, "parent": parents[job.spec.dataset.name], "wait": wait, "spec": job.spec.canonical()}
        if tagged and job.spec.present is None:
            content["tags"] = dict(tagged)
        text = yaml.safe_dump(content, sort_keys=False)
        (folder / f"{job.digest}.yaml").write_text(text)
        tasks.append(Task(job.digest, job.name, WORK, text))
    return tasks
