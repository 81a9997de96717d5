"""One result: a finished run as five small files, and as a `Record` for reports."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any

from pydantic import Field

from agmbench.jobs import Frozen, JobSpec
from agmbench.names import BEST_EPOCH, IMPORTED, SAMPLE, all_of_split, within
from agmbench.outcomes import Kind, Quantity
from agmbench.records import FINISHED, Measurement, Record, Selected

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=250)]
Metric = Annotated[str, Field(max_length=250, pattern=r"^\w[\w.: -]*(/\w[\w.: -]*)*$")]  # the names that MLflow takes
Numbers = dict[Metric, float]
CHECKOUT = "mlflow.source.git.commit"


class AboutRun(Frozen):
    """`run.json`: facts about a run that its job does not contain.

    cell: equal for runs that may stand in one table.   components: version and source of each.   departures: those from the published
    recipe of the data set; `null` if they are not known.   references: the digests of the unimodal models.   training: the digest of
    the job that trained the model.   sample: whether the data are random.   started: milliseconds since 1970.
    """

    name: Name
    digest: Digest
    cell: Digest
    task: Kind
    selected: Selected
    components: dict[Name, Name]
    departures: dict[Name, Any] | None
    references: dict[Name, Digest]
    training: Digest
    sample: bool
    started: int = Field(ge=0, lt=2**53)


class Measured(Frozen):
    """What is known about one metric of a run, except its numbers."""

    version: str
    reason: str
    quantities: tuple[Quantity, ...]


class Metrics(Frozen):
    """`metrics.json`: the final numbers. `valid` has those of the chosen epoch; `test` has those of every metric, including competition
    strength."""

    best_epoch: int | None = Field(ge=0)
    valid: Numbers
    test: Numbers
    cost: Numbers
    measurements: dict[Metric, Measured]


class Environment(Frozen):
    """`environment.json`: where the run was made; what is not known is empty. `changed`: whether the checkout had uncommitted changes."""

    fingerprint: str
    commit: str
    changed: bool
    device: str
    devices: str
    threads: str
    cpu: str
    platform: str
    python: str
    versions: dict[Metric, Name]

    def differing(self, other: "Environment") -> list[str]:
        """The differences that may lead to other numbers, such as `torch 2.5 and 2.6`. Commits are not compared, because versions are."""
        ours, theirs = (one.model_dump(exclude={"versions", "commit", "changed", "fingerprint"}) for one in (self, other))
        pairs = {key: (ours[key], theirs[key]) for key in ours}
        pairs |= {
            key: (self.versions.get(key, ""), other.versions.get(key, ""))
            for key in sorted(self.versions.keys() | other.versions.keys())
        }
        return [
            f"{key} {one or 'unknown'} and {two or 'unknown'}" for key, (one, two) in pairs.items() if one != two or not one
        ]


class Predictions(Frozen):
    """`predictions.sha256`: hashes of the answers and of the logits."""

    answers: Sha256
    logits: Sha256


@dataclass(frozen=True)
class Result:
    """All five files of a result. The job alone suffices to run it again."""

    job: JobSpec
    run: AboutRun
    metrics: Metrics
    environment: Environment
    predictions: Predictions

    def record(self, source: str) -> Record:
        """The result as a record; `source` is the name of the folder from which it was read."""
        known = self.metrics
        metrics = {**all_of_split("valid", known.valid), **all_of_split("test", known.test), **all_of_split("cost", known.cost)}
        epoch = self.metrics.best_epoch
        return Record(
            run_id=f"{source}/{self.run.digest}",
            name=self.run.name,
            status=FINISHED,
            digest=self.run.digest,
            cell=self.run.cell,
            spec=self.job.canonical(),
            modalities=self.job.present or tuple(self.job.encoders),
            concept=self.job.present is not None,
            metrics=metrics if epoch is None else {**metrics, BEST_EPOCH: float(epoch)},
            tags={**self._tags(), IMPORTED: source},
            started=self.run.started,
            task=self.run.task,
            selected=self.run.selected,
            fingerprint=self.environment.fingerprint,
            components=self.run.components,
            measurements={name: self._measurement(name, found) for name, found in self.metrics.measurements.items()},
            departures=self.run.departures,
            references=self.run.references,
            training=self.run.training,
        )

    def _tags(self) -> dict[str, str]:
        """The tags that the run would have in a store."""
        where = self.environment
        known = {name: getattr(where, name) for name in ("device", "devices", "threads", "cpu", "platform", "python")}
        known["devices"] = "" if where.devices == "1" else where.devices
        known |= {CHECKOUT: where.commit, "git.changed": str(where.changed).lower() if where.commit else ""}
        known |= {f"version.{name}": version for name, version in where.versions.items()}
        return {**{name: value for name, value in known.items() if value}, **({SAMPLE: "true"} if self.run.sample else {})}

    def _measurement(self, name: str, found: Measured) -> Measurement:
        names = set() if found.reason else {quantity.name for quantity in found.quantities}
        values = {key: value for key, value in self.metrics.test.items() if key.partition("/")[0] in names}
        return Measurement(name, found.version, [*found.quantities], found.reason, values)


def of_record(record: Record, valid: Mapping[str, float], predictions: Mapping[str, str], job: JobSpec) -> Result:
    """The result of a finished run. `valid` holds its numbers on valid at the epoch that was chosen."""
    tags, departures = record.tags, record.departures
    epoch = record.metrics.get(BEST_EPOCH)
    return Result(
        job=job,
        run=AboutRun(
            **{name: getattr(record, name) for name in ("name", "digest", "cell", "task", "selected", "started", "sample")},
            components=dict(record.components),
            departures=None if departures is None else dict(departures),
            references=dict(record.references),
            training=record.training or record.digest,
        ),
        metrics=Metrics(
            best_epoch=None if epoch is None else int(epoch),
            valid=_finite(valid),
            test=_finite(within("test", record.metrics)),
            cost=_finite(within("cost", record.metrics)),
            measurements={
                name: Measured(
                    version=one.version, reason=" ".join(one.reason.split())[:1000], quantities=tuple(one.quantities)
                )
                for name, one in sorted(record.measurements.items())
            },
        ),
        environment=Environment(
            fingerprint=record.fingerprint,
            commit=tags.get(CHECKOUT, ""),
            changed=tags.get("git.changed") == "true",
            devices=tags.get("devices", "1"),
            **{name: tags.get(name, "") for name in ("device", "threads", "cpu", "platform", "python")},
            versions=_of(tags, "version."),
        ),
        predictions=Predictions(**predictions),
    )


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in sorted(numbers.items()) if isfinite(value)}


def _of(tags: Mapping[str, str], start: str) -> dict[str, str]:
    return {name.removeprefix(start): tags[name] for name in sorted(tags) if name.startswith(start)}
