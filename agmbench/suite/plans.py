"""The digests of a suite's jobs, kept in the store with the suite's own run.

The runs of a job are found by its digest, which depends on the content of the data. So a machine that runs a suite and has the data keeps
the digests of its jobs, by a key that needs no data (`plan_key`). A machine without the data reads the digests from there.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass

from agmbench import build
from agmbench.jobs import CORE_VERSION, JobSpec, digest
from agmbench.records import Tracker
from agmbench.registry import Registry
from agmbench.registry.source import stated
from agmbench.suite.group import group, keep_texts, tags

FILE = "plan.json"


@dataclass(frozen=True)
class StoredJob:
    """What is kept of a job: the digests of all jobs that it needs to be done, its own first; or the reason why it is skipped."""

    needed: tuple[str, ...] = ()
    skipped: str = ""

    @property
    def digest(self) -> str:
        """The digest of the job itself."""
        return self.needed[0] if self.needed else ""

    def covers(self, other: "StoredJob") -> bool:
        """Whether this says the same as `other`, possibly with more unimodal models."""
        return self.skipped == other.skipped and self.needed[: len(other.needed)] == other.needed


Plan = Mapping[str, StoredJob]  # what is kept of each job, by the key that `plan_key` gives


def plan_key(spec: JobSpec, registry: Registry) -> str:
    """A key that distinguishes a job from others before its data are opened: a hash of its spec and of the versions of the code."""
    versions = registry.versions()
    components = {str(entry): stated(entry, versions) for entry in build.entries(spec, registry)}
    return digest([spec.canonical(), CORE_VERSION, components])


def load_plan(tracker: Tracker, dataset: str, name: str) -> Plan:
    """The plan that the run of the suite `name` keeps for a data set; empty if there is none, or if it cannot be read."""
    text = tracker.of_group(dataset, tags(name), FILE)
    with suppress(ValueError, TypeError, AttributeError):
        content = json.loads(text or "{}")
        return {
            key: StoredJob(tuple(map(str, one.get("needed", ()))), str(one.get("skipped", ""))) for key, one in content.items()
        }
    return {}


def save_plan(tracker: Tracker, dataset: str, name: str, plan: Plan) -> None:
    """Add a plan to what the run of the suite `name` keeps; the run is made if there is none."""
    if (known := load_plan(tracker, dataset, name)) == _merged(known, plan):
        return
    with tracker.lock("plans"):
        whole = _merged(load_plan(tracker, dataset, name), plan)
        with group(tracker, dataset, name) as run:
            keep_texts(run, {FILE: json.dumps({key: asdict(one) for key, one in whole.items()}, indent=1)})


def _merged(known: Plan, plan: Plan) -> Plan:
    """Merge two plans: for a job in both, the second plan counts, unless the first says the same with more unimodal models."""
    return {**known, **{key: one for key, one in plan.items() if key not in known or not known[key].covers(one)}}
