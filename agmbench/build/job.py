"""A job: a spec whose every parameter is known, on a data set that is open."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agmbench import measures
from agmbench.build.data import Data
from agmbench.contracts import Dataset
from agmbench.jobs import PHASES, JobSpec, setting
from agmbench.measures import Judge
from agmbench.registry import Entry, Registry


@dataclass(frozen=True)
class Job:
    """A spec whose every parameter is known, with the opened data set.

    `digest` covers the spec, what the splits contain and the components' versions and sources; `cell` the same without modulator
    and seed; `training` the same without the concepts that it is compared with, where these are not its own. `setting` is the spec
    alone: of two jobs of one setting and other digests, the data or the code have changed.
    `components` has the version and source of each component by its name.
    """

    spec: JobSpec
    registry: Registry
    data: Data
    digest: str
    cell: str = ""
    setting: str = ""
    components: Mapping[str, str] = field(default_factory=dict)
    training: str = ""

    @property
    def dataset(self) -> Dataset:
        return self.data.dataset

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that training sees."""
        return self.spec.present or tuple(self.spec.encoders)

    @property
    def name(self) -> str:
        """`agm seed 999 on avmnist-mini concat`; a concept says so in place of the modulator, and concepts that are not its own follow."""
        method = self.spec.modulator.name if self.spec.present is None else f"concept of {', '.join(self.spec.present)}"
        beside = [setting(key, value) for key, value in self.spec.compared.items()]
        return " ".join([method, f"seed {self.spec.seed} on {self.spec.dataset.name}", self.spec.fusion.name, *beside])


def judge(spec: JobSpec, registry: Registry, dataset: Dataset) -> Judge:
    """By what the recipe chooses epochs."""
    task = dataset.task
    return measures.judge(registry, spec.training.select_by, task.kind, task.figure, spec.present or tuple(dataset.shapes))


def entries(spec: JobSpec, registry: Registry) -> list[Entry]:
    """Those of every component that a job names."""
    named = [("dataset", spec.dataset), ("fusion", spec.fusion), ("modulator", spec.modulator)]
    named += [("encoder", component) for component in spec.encoders.values()]
    named += [("transform", component) for phase in PHASES for component in getattr(spec, phase).values()]
    return [registry.get(kind, component.name) for kind, component in named]
