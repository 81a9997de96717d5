"""From a spec to a job, with its digests, and the jobs of its mono-modal concepts."""

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
    """Fill in every parameter, open the data set, and take the digest.

    `data` is that of another job whose data set, seed and limit are the same, so that it is opened once.
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
    # one spelling of what comes to the same
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
        references(job)  # raises where there can be none
    return job


def _encoders(spec: JobSpec, dataset: Dataset) -> dict[str, Component]:
    """One component for each modality of the data set, or of a late concept's one; in the data set's order."""
    for modality in spec.encoders.keys() - {"*"} - dataset.shapes.keys():
        raise AgmbenchError(f"data set '{spec.dataset.name}' has no modality '{modality}': {allowed(modality, dataset.shapes)}")
    wanted = [m for m in dataset.shapes if "*" in spec.encoders or m in spec.encoders]
    if spec.present is None and len(wanted) < len(dataset.shapes):
        missing = ", ".join(m for m in dataset.shapes if m not in wanted)
        raise AgmbenchError(f"no encoder for {missing} of '{spec.dataset.name}'; name one with --encoder {missing}=NAME")
    return {m: spec.encoders[m] if m in spec.encoders else spec.encoders["*"] for m in wanted}


def concepts(job: Job) -> dict[str, JobSpec]:
    """The mono-modal concept of each modality: the reference runs of competition strength (AGM paper, supplement A.2).

    Under an additive fusion a concept is a network of one encoder and a head; under any other it is the same architecture with
    the other modalities muted. Their seed and their muting are the job's, or its `concept_seed` and `concept_mute`.
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
    """The jobs of the mono-modal concepts, on the data set as it is opened; of another seed, as it is under that."""
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
