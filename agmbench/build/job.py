"""A job: a spec with all its parameters, and its opened data set."""

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
    """A spec with all its parameters, and the opened data set.

    `digest` covers the spec, what the splits contain, and the components' versions and sources. `cell` covers the same without modulator
    and seed. `training` covers the same without the settings of other unimodal models with which the job is compared. `setting` covers only
    the spec: if two jobs have the same setting but different digests, the data or the code have changed.
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
        """The modalities that are present in training."""
        return self.spec.present or tuple(self.spec.encoders)

    @property
    def name(self) -> str:
        """The name of the job, such as `agm seed 999 on avmnist-mini concat`. A unimodal model has `concept of MODALITY` in place of the
        modulator. Settings of other unimodal models with which the job is compared stand at the end."""
        method = self.spec.modulator.name if self.spec.present is None else f"concept of {', '.join(self.spec.present)}"
        beside = [setting(key, value) for key, value in self.spec.compared.items()]
        return " ".join([method, f"seed {self.spec.seed} on {self.spec.dataset.name}", self.spec.fusion.name, *beside])


def judge(spec: JobSpec, registry: Registry, dataset: Dataset) -> Judge:
    """The judge by which the recipe chooses the best epoch."""
    task = dataset.task
    return measures.judge(registry, spec.training.select_by, task.kind, task.figure, spec.present or tuple(dataset.shapes))


def entries(spec: JobSpec, registry: Registry) -> list[Entry]:
    """The entries of all components of a job."""
    named = [("dataset", spec.dataset), ("fusion", spec.fusion), ("modulator", spec.modulator)]
    named += [("encoder", component) for component in spec.encoders.values()]
    named += [("transform", component) for phase in PHASES for component in getattr(spec, phase).values()]
    return [registry.get(kind, component.name) for kind, component in named]
