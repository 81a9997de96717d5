"""Runs in an MLflow store: `sqlite:///runs/mlflow.db` with artifacts under `runs/artifacts`, or wherever MLFLOW_TRACKING_URI says."""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

# read when mlflow is imported: a benchmark reports to nobody, one small file needs no progress bar, and a
# server that does not answer should be reported in seconds, not in minutes
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Metric, Param
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from agmbench.errors import AgmbenchError, describe
from agmbench.records import FAILED, FINISHED, KILLED, Heading, Point, Record

METRICS_A_CALL = 1000  # MLflow's bounds of one log_batch
PARAMS_A_CALL = 100
LONGEST_PARAM = 6000
RUNS_A_PAGE = 1000


class MlflowTracker:
    """A tracker on one MLflow store; the default one is made at the first `start`, under a lock, and never by reading."""

    def __init__(self, folder: Path = Path("runs"), uri: str | None = None) -> None:
        self.folder = folder.absolute()
        self._own = uri is None and not os.environ.get("MLFLOW_TRACKING_URI")
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path | None:
        """Where artifacts of the default store are kept; a store that the user named decides for itself."""
        return self.folder / "artifacts" if self._own else None

    @cached_property
    def _client(self) -> MlflowClient:
        for noisy in ("alembic", "mlflow"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        try:
            with self._store_lock():  # two first connections at once would both create the tables
                if not self.exists():
                    self._make()
                return _connected(self.uri)
        except Exception as error:
            raise AgmbenchError(f"the MLflow store {self.uri} cannot be opened ({describe(error)})") from error

    def exists(self) -> bool:
        """Whether there is a store to read; one that the user named is taken at their word."""
        return not self._own or (self.folder / "mlflow.db").is_file()

    def _make(self) -> None:
        """The default store, made aside and moved into place whole: a process killed meanwhile leaves no half of one."""
        fresh = self.folder / "mlflow.db.new"
        fresh.unlink(missing_ok=True)
        _connected(f"sqlite:///{fresh}")
        fresh.replace(self.folder / "mlflow.db")

    def _lock(self, name: str) -> FileLock:
        folder = self.folder / "locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AgmbenchError(f"{self.folder} cannot be written ({error.strerror}); runs are kept there") from error
        if not os.access(folder, os.W_OK):
            raise AgmbenchError(f"{self.folder} cannot be written; runs are kept there")
        return FileLock(folder / f"{name}.lock")

    def _store_lock(self) -> AbstractContextManager[Any]:
        if self._own:
            return self._lock("store")
        path = self.uri.removeprefix("sqlite:///")
        if path in (self.uri, ":memory:"):
            return nullcontext()
        if not Path(path).parent.is_dir():  # a lock would make the folder of a mistyped address
            raise FileNotFoundError(f"there is no folder {Path(path).parent}")
        return FileLock(f"{path}.lock")

    def lock(self, digest: str) -> AbstractContextManager[Any]:
        return self._lock(digest)

    def find(self, digest: str) -> Record | None:
        found = self._search(f"tags.`agmbench.digest` = '{digest}' and attributes.status = '{FINISHED}'", None)
        return next(found, None)

    def records(self, dataset: str | None = None) -> list[Record]:
        return list(self._search("tags.`agmbench.digest` != ''", dataset))

    def _search(self, condition: str, dataset: str | None) -> Iterator[Record]:
        if not self.exists():
            return
        named = f"name = '{dataset}'" if dataset else None
        experiments = {e.experiment_id for e in self._client.search_experiments(filter_string=named)}
        token = None
        while experiments:
            page = self._client.search_runs(
                sorted(experiments),
                condition,
                max_results=RUNS_A_PAGE,
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            yield from map(_record, page)
            token = page.token
            if not token:
                return

    def start(self, heading: Heading) -> "MlflowWriter":
        client = self._client
        experiment = self._experiment(heading.spec["dataset"]["name"])
        tags = {
            **heading.tags,
            "agmbench.digest": heading.digest,
            "agmbench.cell": heading.cell,
            "agmbench.concept": str(heading.concept).lower(),
            "agmbench.modalities": json.dumps(heading.modalities),
            "agmbench.spec": json.dumps(heading.spec),
        }
        run = MlflowWriter(client, client.create_run(experiment, run_name=heading.name, tags=tags).info.run_id)
        try:
            run.describe(heading)
        except BaseException as error:  # a run that was never entered is not left RUNNING
            run.__exit__(type(error), error, None)
            raise
        return run

    def _experiment(self, name: str) -> str:
        with self._store_lock():
            found = self._client.get_experiment_by_name(name)
            if found is None:
                location = (self.artifacts / name).as_uri() if self.artifacts else None
                created: str = self._client.create_experiment(name, artifact_location=location)
                return created
            if found.lifecycle_stage != "active":
                raise AgmbenchError(f"the MLflow experiment '{name}' is deleted; restore it with 'mlflow experiments restore'")
            return str(found.experiment_id)

    def reopen(self, record: Record) -> "MlflowWriter":
        return MlflowWriter(self._client, record.run_id, reopened=True)

    def artifact(self, record: Record, path: str) -> Path:
        try:
            return Path(self._client.download_artifacts(record.run_id, path))
        except (MlflowException, OSError) as error:
            raise AgmbenchError(
                f"run {record.run_id} ('{record.name}') has lost its artifact {path} ({describe(error)}); "
                "run that job again with --force"
            ) from error


def _connected(uri: str) -> MlflowClient:
    """A client whose store has answered."""
    client = MlflowClient(uri)
    client.search_experiments(max_results=1)
    return client


class MlflowWriter:
    """One MLflow run being written, by explicit run id: never the process's active run."""

    def __init__(self, client: MlflowClient, run_id: str, reopened: bool = False) -> None:
        self.id = run_id
        self._client = client
        self._reopened = reopened

    def __enter__(self) -> "MlflowWriter":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._reopened:
            return
        if error is None:
            self._client.set_terminated(self.id, FINISHED)
            return
        interrupted = not isinstance(error, Exception)
        reason = str(error) if isinstance(error, AgmbenchError) else "interrupted" if interrupted else describe(error)
        self._client.set_tag(self.id, "agmbench.reason", reason[:5000])
        self._client.set_terminated(self.id, KILLED if interrupted else FAILED)

    def describe(self, heading: Heading) -> None:
        """Log the parameters of the spec, and the data set as the run's input."""
        params = [Param(key, str(value)[:LONGEST_PARAM]) for key, value in flat(heading.spec).items()]
        for start in range(0, len(params), PARAMS_A_CALL):
            self._client.log_batch(self.id, params=params[start : start + PARAMS_A_CALL])
        data = Dataset(
            name=heading.spec["dataset"]["name"],
            digest=heading.fingerprint,
            source_type="agmbench",
            source=json.dumps({"dataset": heading.spec["dataset"], "fingerprint": heading.fingerprint}),
            profile=json.dumps({f"samples_{split}": count for split, count in heading.samples.items()}),
        )
        self._client.log_inputs(self.id, datasets=[DatasetInput(data)])

    def points(self, points: Sequence[Point]) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(point.name, point.value, now, point.step) for point in points]
        for start in range(0, len(metrics), METRICS_A_CALL):
            self._client.log_batch(self.id, metrics=metrics[start : start + METRICS_A_CALL])

    def files(self, folder: Path) -> None:
        self._client.log_artifacts(self.id, str(folder))


def _record(run: MlflowRun) -> Record:
    tags = run.data.tags
    return Record(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        digest=tags["agmbench.digest"],
        cell=tags["agmbench.cell"],
        spec=json.loads(tags["agmbench.spec"]),
        modalities=tuple(json.loads(tags["agmbench.modalities"])),
        concept=tags["agmbench.concept"] == "true",
        metrics=run.data.metrics,
        tags=tags,
        started=run.info.start_time,
    )


def flat(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec as MLflow parameters, under the keys that `--set` takes: `modulator`, `modulator.alpha`, `encoder.audio.width`."""
    components = {"dataset": spec["dataset"], "fusion": spec["fusion"], "modulator": spec["modulator"]}
    components |= {f"encoder.{modality}": component for modality, component in spec["encoders"].items()}
    values: dict[str, Any] = {}
    for key, component in components.items():
        values[key] = component["name"]
        values |= {f"{key}.{name}": value for name, value in component["params"].items()}
    training = {f"training.{key}": value for key, value in spec["training"].items() if key != "schedule"}
    schedule = {f"training.schedule.{key}": value for key, value in spec["training"]["schedule"].items()}
    rest = {key: value for key, value in spec.items() if key in ("seed", "mute", "metrics", "present")}
    return {**values, **training, **schedule, **rest}
