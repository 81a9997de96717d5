"""The jobs of a suite: the product of its lists at a scale, and which of them cannot be run here."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from agmbench import build
from agmbench.errors import AgmbenchError
from agmbench.jobs import compose, digest
from agmbench.records import Tracker
from agmbench.registry import Registry
from agmbench.suite.matrix import Suite, places
from agmbench.suite.plans import StoredJob, load_plan, plan_key


@dataclass(frozen=True)
class Planned:
    """One job of a suite. `skipped` is the reason why it cannot be run here; then it may have no `job`.

    plan_key: the key that distinguishes it from others without its data; empty if it cannot be composed.   stored: what the store keeps
    of a job that cannot be built here (`plans.py`).
    """

    label: str
    dataset: str
    job: build.Job | None = None
    skipped: str = ""
    plan_key: str = ""
    stored: StoredJob | None = None

    @property
    def digest(self) -> str:
        """The digest of the job, if it is known; else empty."""
        return self.job.digest if self.job else self.stored.digest if self.stored else ""

    def needed(self) -> tuple[str, ...]:
        """The digests of all jobs that must be done for this one: itself, the job whose training it shares, and its unimodal models."""
        if self.job is None:
            return self.stored.needed if self.stored else ()
        return tuple(
            dict.fromkeys((self.digest, self.job.training, *(one.digest for one in build.references(self.job).values())))
        )


def plan(
    suite: Suite,
    registry: Registry,
    scale: str | None = None,
    seeds: int | None = None,
    limit: int | None = None,
    settings: Iterable[tuple[str, Any]] = (),
) -> list[Planned]:
    """All jobs of a suite at a scale (by default without one), for its first `seeds` seeds (further seeds count up), with at most `limit`
    samples per split. `settings` override everything else."""
    given = {**({"limit": limit} if limit is not None else {}), **dict(settings)}
    if "seed" in given:
        raise AgmbenchError("--set seed: a suite has its own seeds; say how many with --seeds")
    for kind, name in places(suite.scales.get(scale or "", {}), f"scale '{scale}'"):
        registry.get(kind, name)  # raises for an unknown name, which is a typo
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
                one = replace(one, plan_key=plan_key(spec, registry))
                key = digest([spec.dataset.model_dump(), spec.seed, spec.limit])
                job = build.resolve(spec, registry, opened.get(key))
                opened[key] = job.data
                yield replace(one, job=job)
            except AgmbenchError as error:
                yield replace(one, skipped=str(error))


def _meant(registry: Registry, dataset: str, fusion: str | None) -> str:
    """The name of the fusion in the registry, also for a default fusion; empty if the job cannot be composed, which is reported later."""
    try:
        return compose(registry, dataset, fusion=fusion).fusion.name
    except AgmbenchError:
        return ""


def checked(planned: Sequence[Planned]) -> list[Planned]:
    """The plan with jobs skipped that cannot be built or that a method refuses. Of jobs that differ only in the seed, one is tried."""
    jobs = {_but_for_seed(one.job): one.job for one in planned if one.job}
    cells: dict[str, dict[str, build.Job]] = defaultdict(dict)
    for key, job in jobs.items():
        cells[job.cell][key] = job
    reasons = {key: reason for alike in cells.values() for key, reason in _refusals(alike).items()}
    return [replace(one, skipped=reasons[_but_for_seed(one.job)]) if one.job else one for one in planned]


def _but_for_seed(job: build.Job) -> str:
    return digest([job.cell, job.spec.modulator.model_dump()])


def _refusals(jobs: Mapping[str, build.Job]) -> dict[str, str]:
    """The reason why each job of one cell cannot be run; empty if it can."""
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
    """The plan of the suite `name`, completed by what the store keeps of jobs that cannot be built here, for example for lack of data."""
    planned = list(planned)
    lacking_here = {one.dataset for one in planned if one.job is None and one.plan_key}
    plans = {dataset: load_plan(tracker, dataset, name) for dataset in lacking_here}
    found = [plans.get(one.dataset, {}).get(one.plan_key) if one.job is None else None for one in planned]
    return [
        replace(one, stored=stored, skipped=stored.skipped) if stored else one
        for one, stored in zip(planned, found, strict=True)
    ]
