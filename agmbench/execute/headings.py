"""What is known about a job before it is trained: the heading of its run, and what has changed since an earlier run."""

import torch

from agmbench import build, protocol, provenance
from agmbench.contracts import SPLITS
from agmbench.distributed.ranks import here
from agmbench.names import ORIGIN, SAMPLE
from agmbench.records import Heading, Record
from agmbench.registry import BUILT_IN


def heading(job: build.Job, device: torch.device) -> Heading:
    foreign = [entry for entry in build.entries(job.spec, job.registry) if entry.origin != BUILT_IN]
    origins = {f"{ORIGIN}{entry}": f"{entry.origin}, version {entry.version}" for entry in foreign}
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
    """A tag with the number of devices on which a job is trained, if there are several."""
    ranks = here()
    return {} if ranks is None else {"devices": str(ranks.size)}


def sample(job: build.Job) -> bool:
    """Whether the data of a job are a random pack of `agmbench data sample`."""
    return getattr(job.dataset, "sample", False)


def digests(job: build.Job) -> dict[str, str]:
    """The digests of the jobs of a job's unimodal models, by modality."""
    return {m: reference.digest for m, reference in build.references(job).items()}


def changed(job: build.Job, before: Record) -> str:
    """A line that says what has changed since a job of the same setting was run."""
    components = [name for name, stated in job.components.items() if before.components.get(name, stated) != stated]
    entries = {str(entry): entry for entry in build.entries(job.spec, job.registry)}
    what = [f"{name} ({entries[name].origin})" if name in entries else name for name in components]
    if before.fingerprint != job.data.fingerprint and not any(name.startswith("dataset/") for name in components):
        what.append(f"the data of '{job.spec.dataset.name}'")
    have = "have" if len(what) > 1 else "has"
    return f"{' and '.join(what) or 'agmbench'} {have} changed since run {before.run_id[:8]}; training anew"
