"""Turns a spec into a job with its digests, and makes the jobs of its unimodal models."""

from agmbench import shapley
from agmbench.build.changes import transforms
from agmbench.build.data import Data, data_of
from agmbench.build.job import Job, entries, judge
from agmbench.contracts import Dataset
from agmbench.errors import AgmbenchError, allowed
from agmbench.jobs import COMPARED, CORE_VERSION, Component, JobSpec, cell_of, digest
from agmbench.parameters import resolved
from agmbench.registry import Registry
from agmbench.registry.source import stated


def resolve(spec: JobSpec, registry: Registry, data: Data | None = None) -> Job:
    """Fill in every parameter, open the data set, and compute the digests.

    `data` may be given if another job has the same data set, seed and limit, so that it is opened only once.
    """
    component = resolved(registry, "dataset", spec.dataset)
    data = data or data_of(registry, component, spec)
    encoders = _encoders(spec, data.dataset)
    full = spec.model_copy(
        update={
            "dataset": component,
            "encoders": {m: resolved(registry, "encoder", named) for m, named in encoders.items()},
            "fusion": resolved(registry, "fusion", spec.fusion),
            "modulator": resolved(registry, "modulator", spec.modulator),
            **transforms(spec, registry, data.dataset, encoders),
        }
    )
    if reason := shapley.too_many(full.present or tuple(full.encoders)):
        raise AgmbenchError(f"data set '{spec.dataset.name}' {reason}; give it fewer")
    versions = registry.versions()
    components = {str(entry): stated(entry, versions) for entry in entries(full, registry)}
    by = judge(full, registry, data.dataset)
    chosen_by = by.measure if full.training.select == "valid" else None
    if chosen_by is not None:
        components[str(chosen_by.entry)] = chosen_by.version
    # settings that mean the same get the same spelling, and so the same digest
    full = full.model_copy(update={"training": full.training.model_copy(update={"select_by": by.name if chosen_by else None})})
    content = full.identity()
    known = {"core": str(CORE_VERSION), **components, **{f"metric/{name}": "1" for name in content["metrics"]}}
    of_all = {name: version for name, version in known.items() if not name.startswith("modulator/")}
    of_training = {key: value for key, value in content.items() if key not in COMPARED}
    job = Job(
        spec=full,
        registry=registry,
        data=data,
        digest=digest([content, data.fingerprint, known]),
        cell=cell_of(digest([{**content, "modulator": None, "seed": None}, of_all]), data.of_any_seed),
        setting=digest(content),
        components=components,
        training=digest([of_training, data.fingerprint, known]),
    )
    if full.compared:
        references(job)  # raises if the job cannot be compared with these unimodal models
    return job


def _encoders(spec: JobSpec, dataset: Dataset) -> dict[str, Component]:
    """The encoder of each modality, in the data set's order. A unimodal model under an additive fusion has only one."""
    for modality in spec.encoders.keys() - {"*"} - dataset.shapes.keys():
        raise AgmbenchError(f"data set '{spec.dataset.name}' has no modality '{modality}': {allowed(modality, dataset.shapes)}")
    wanted = [m for m in dataset.shapes if "*" in spec.encoders or m in spec.encoders]
    if spec.present is None and len(wanted) < len(dataset.shapes):
        missing = ", ".join(m for m in dataset.shapes if m not in wanted)
        raise AgmbenchError(f"no encoder for {missing} of '{spec.dataset.name}'; name one with --encoder {missing}=NAME")
    return {m: spec.encoders[m] if m in spec.encoders else spec.encoders["*"] for m in wanted}


def concepts(job: Job) -> dict[str, JobSpec]:
    """The spec of the unimodal model of each modality: the reference runs of competition strength (AGM paper, supplement A.2).

    Under an additive fusion a unimodal model is one encoder and a head; under any other fusion it is the same architecture with the other
    modalities muted. It has the job's seed and muting, unless the job has a `concept_seed` or a `concept_mute`.
    """
    joint = Component(name="joint")
    fusion = job.registry.get("fusion", job.spec.fusion.name).load()
    training, asked = job.spec.training, job.spec.compared
    if fusion.additive and "concept_mute" in asked:
        raise AgmbenchError(
            f"concept_mute={asked['concept_mute']}: under fusion '{job.spec.fusion.name}' a unimodal model (concept) is one encoder and "
            "a head, so nothing is muted in it; leave concept_mute out, or choose a fusion that is not additive"
        )
    if not judge(job.spec, job.registry, job.dataset).of_any_model:
        training = training.model_copy(update={"select_by": None})
    return {
        modality: job.spec.trained().model_copy(
            update={
                "seed": asked.get("concept_seed", job.spec.seed),
                "mute": asked.get("concept_mute", job.spec.mute),
                "modulator": joint,
                "present": (modality,),
                "encoders": {modality: job.spec.encoders[modality]} if fusion.additive else job.spec.encoders,
                "training": training,
            }
        )
        for modality in (job.modalities if job.spec.present is None else ())
    }


def references(job: Job) -> dict[str, Job]:
    """The jobs of the unimodal models, by modality. They use the job's opened data set; with a `concept_seed`, it is opened with that seed,
    and an error is raised if it then has other samples."""
    found = concepts(job)
    seed = job.spec.compared.get("concept_seed", job.spec.seed)
    data = (
        job.data if seed == job.spec.seed or not found else data_of(job.registry, job.spec.dataset, next(iter(found.values())))
    )
    if data.fingerprint != job.data.fingerprint:
        raise AgmbenchError(
            f"concept_seed={seed}: data set '{job.spec.dataset.name}' has other samples under that seed, so unimodal models (concepts) "
            "trained on them cannot be compared with this model; leave concept_seed out"
        )
    return {modality: resolve(spec, job.registry, data) for modality, spec in found.items()}
