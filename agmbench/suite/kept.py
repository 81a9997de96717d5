"""What the jobs of a suite are, kept in the store with the suite's own run.

Which run is a job's is told by its digest, and that takes the contents of the job's data. So whoever runs a suite where the data are
keeps the digests of its jobs, by what was asked for, which takes no data. A machine without them finds there what it cannot work out.
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
class Told:
    """A job by the digests of what it needs to be done, its own first; of one that cannot be, why."""

    needed: tuple[str, ...] = ()
    skipped: str = ""

    @property
    def digest(self) -> str:
        """Its own."""
        return self.needed[0] if self.needed else ""

    def covers(self, other: "Told") -> bool:
        """Whether it says the same, or the same and of more concepts."""
        return self.skipped == other.skipped and self.needed[: len(other.needed)] == other.needed


Plan = Mapping[str, Told]  # by `asked`


def asked(spec: JobSpec, registry: Registry) -> str:
    """What tells a job from others before its data are opened: what was asked for, by the code that is here."""
    versions = registry.versions()
    components = {str(entry): stated(entry, versions) for entry in build.entries(spec, registry)}
    return digest([spec.canonical(), CORE_VERSION, components])


def kept(tracker: Tracker, dataset: str, name: str) -> Plan:
    """What the run of the suite `name` keeps of its jobs on a data set; nothing if there is none. What cannot be read is as if it were
    not there."""
    text = tracker.of_group(dataset, tags(name), FILE)
    with suppress(ValueError, TypeError, AttributeError):
        content = json.loads(text or "{}")
        return {key: Told(tuple(map(str, one.get("needed", ()))), str(one.get("skipped", ""))) for key, one in content.items()}
    return {}


def keep(tracker: Tracker, dataset: str, name: str, plan: Plan) -> None:
    """Keep a plan with the run of the suite `name`, which is made if there is none, beside what is kept there of other jobs."""
    if (known := kept(tracker, dataset, name)) == _both(known, plan):
        return
    with tracker.lock("plans"):
        whole = _both(kept(tracker, dataset, name), plan)
        with group(tracker, dataset, name) as run:
            keep_texts(run, {FILE: json.dumps({key: asdict(one) for key, one in whole.items()}, indent=1)})


def _both(known: Plan, plan: Plan) -> Plan:
    """Two plans as one: the second's word of a job holds, unless the first says the same and more."""
    return {**known, **{key: one for key, one in plan.items() if key not in known or not known[key].covers(one)}}
