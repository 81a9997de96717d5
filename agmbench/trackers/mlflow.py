"""Runs in an MLflow store: `sqlite:///runs/mlflow.db` with artifacts under `runs/artifacts`, or wherever MLFLOW_TRACKING_URI says."""

import errno
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, cast

# read when mlflow is imported: a benchmark reports to nobody, one small file needs no progress bar, and a
# server that does not answer should be reported in seconds, not in minutes
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, LoggedModelOutput, LoggedModelStatus, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from sqlalchemy import create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from agmbench import interrupts, outcomes
from agmbench.addresses import hidden, shown
from agmbench.errors import AgmbenchError, RunFailed, describe
from agmbench.jobs import flat
from agmbench.records import FAILED, FINISHED, KILLED, RUNNING, Heading, Measurement, Point, Record, Stopped
from agmbench.trackers.patience import Locked, Patient, in_time, patiently
from agmbench.trackers.tags import OUTCOMES, as_tag, record, written

METRICS_A_CALL = 1000  # MLflow's bounds of one log_batch
PARAMS_A_CALL = 100
TAGS_A_CALL = 100
LONGEST_PARAM = 6000
RUNS_A_PAGE = 1000
FULL = "the disk is full; make room and give the same command again: the job goes on from its last state"
SHARE = (
    0.02  # of the time may go into writing points: a call costs two commits, or two ways over a network, however few they are
)


class MlflowTracker:
    """A tracker on one MLflow store; one that is a SQLite file is made at the first `start`, under a lock, and never by reading."""

    def __init__(self, folder: Path = Path("runs"), uri: str | None = None) -> None:
        self.folder = folder.absolute()
        named = uri or os.environ.get("MLFLOW_TRACKING_URI")
        self._own = not named
        self.uri = named or sqlite(self.folder / "mlflow.db")

    @property
    def shown(self) -> str:
        """The store's address as it may be shown: without what is secret in it."""
        return shown(self.uri)

    @cached_property
    def _file(self) -> Path | None:
        """The file of a SQLite store."""
        if not self.uri.startswith("sqlite"):
            return None
        with suppress(ArgumentError):
            path = make_url(self.uri).database
            return Path(path).absolute() if path and path != ":memory:" and not path.startswith("file:") else None
        return None

    @property
    def artifacts(self) -> Path | None:
        """Where artifacts of the default store are kept; a store that the user named decides for itself."""
        return self.folder / "artifacts" if self._own else None

    @cached_property
    def _client(self) -> MlflowClient:
        for noisy in ("alembic", "mlflow"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # what it raises is shown, once
        logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # an interrupt within a query is not to be reported
        try:
            if self._file is None:
                return _patient(self.uri)
            if not self.exists():
                with self._store_lock():  # two first connections at once would both create the tables
                    if not self.exists():
                        _make(self._file)
            return _patient(self.uri)
        except AgmbenchError:
            raise
        except Exception as error:
            said = hidden(describe(error), self.uri)
            raise AgmbenchError(f"the MLflow store {self.shown} cannot be opened ({said})") from error

    def exists(self) -> bool:
        """Whether there is a store to read; one that is not a SQLite file is taken at the user's word."""
        if self._file is None:
            return True
        there = os.path.lexists(self._file)  # asked first: another process may be making it
        if self._file.is_file():
            return True
        if not self._own and not self._file.parent.is_dir():
            raise AgmbenchError(f"the MLflow store {self.shown} cannot be opened: there is no folder {self._file.parent}")
        if there:
            raise AgmbenchError(
                f"the MLflow store {self.shown} cannot be opened: what is there is no regular file; move it away"
            )
        return False

    def check(self) -> None:
        """Raise if there is a store that does not answer. Makes none."""
        if self.exists():
            self._client.search_experiments(max_results=1)

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
        if self._file is None:
            return nullcontext()
        return FileLock(f"{self._file}.lock")

    def lock(self, digest: str) -> AbstractContextManager[Any]:
        return self._lock(digest)

    def find(self, digest: str) -> Record | None:
        found = self._search(f"tags.`agmbench.digest` = '{digest}' and attributes.status = '{FINISHED}'", None)
        return max(found, key=lambda record: record.order, default=None)

    def before(self, setting: str, digest: str) -> Record | None:
        found = self._search(f"tags.`agmbench.setting` = '{setting}' and attributes.status = '{FINISHED}'", None)
        others = [record for record in found if record.digest != digest and "agmbench.trial" not in record.tags]
        return max(others, key=lambda record: record.started, default=None)

    def records(self, dataset: str | None = None) -> list[Record]:
        found = self._search("tags.`agmbench.digest` != ''", dataset)
        return [record for record in found if "agmbench.trial" not in record.tags]

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
            yield from map(record, page)
            token = page.token
            if not token:
                return

    def history(self, record: Record, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        found = {name: self._client.get_metric_history(record.run_id, name) for name in names if name in record.metrics}
        return {name: sorted((each.step, each.value) for each in metrics) for name, metrics in found.items()}

    def start(self, heading: Heading) -> "MlflowWriter":
        try:
            return self._start(heading)
        except MlflowException as error:
            said = hidden(describe(error), self.uri)
            raise AgmbenchError(f"the MLflow store {self.shown} cannot be written ({said})") from error

    def _start(self, heading: Heading) -> "MlflowWriter":
        client = self._client
        experiment = self._experiment(heading.spec["dataset"]["name"])
        tags = {
            **heading.tags,
            **written(heading),
            **({MLFLOW_PARENT_RUN_ID: heading.parent} if heading.parent else {}),
        }
        if left := self._left_behind(experiment, heading.digest):
            client.update_run(left, status=RUNNING)
            client.set_tag(left, "agmbench.reason", "")
            run = MlflowWriter(client, left, seen=self._points(left))
        else:
            tags["agmbench.attempt"] = str(self._attempts(experiment, heading.digest) + 1)  # the job's lock is ours
            run = MlflowWriter(client, client.create_run(experiment, run_name=heading.name, tags=tags).info.run_id)
        try:
            run.describe(heading)
        except BaseException as error:  # a run that was never entered is not left RUNNING
            run.__exit__(type(error), error, None)
            raise
        return run

    def _left_behind(self, experiment: str, digest: str) -> str | None:
        """The last run of a job, if it was stopped: the job's lock is ours, so whoever wrote it is gone."""
        last = max(self._of_job(experiment, digest), key=lambda record: record.order, default=None)
        return last.run_id if last and last.status in (RUNNING, KILLED) else None

    def _attempts(self, experiment: str, digest: str) -> int:
        runs = self._of_job(experiment, digest)
        return max([len(runs), *(record.attempt for record in runs)])

    def _of_job(self, experiment: str, digest: str) -> list[Record]:
        return [record(run) for run in self._client.search_runs([experiment], f"tags.`agmbench.digest` = '{digest}'")]

    def _points(self, run_id: str) -> set[tuple[str, int]]:
        names = self._client.get_run(run_id).data.metrics
        return {(name, metric.step) for name in names for metric in self._client.get_metric_history(run_id, name)}

    def scratch(self, digest: str) -> Path:
        return self.folder / "unfinished" / digest

    def _experiment(self, name: str) -> str:
        return patiently(self.shown, self._found_experiment, name)

    def _found_experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            location = (self.artifacts / name).as_uri() if self.artifacts else None
            return str(self._client.create_experiment(name, artifact_location=location))
        if found.lifecycle_stage != "active":
            raise AgmbenchError(f"the MLflow experiment '{name}' is deleted; restore it with 'mlflow experiments restore'")
        return str(found.experiment_id)

    def group(self, dataset: str, name: str, tags: Mapping[str, str]) -> "MlflowWriter":
        client = self._client
        experiment = self._experiment(dataset)
        condition = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        with self._lock("groups"):  # two first commands at once would both make one
            found = client.search_runs([experiment], condition, max_results=1)
            if not found:
                return MlflowWriter(client, client.create_run(experiment, run_name=name, tags=dict(tags)).info.run_id)
        run_id = found[0].info.run_id
        client.update_run(run_id, status=RUNNING)
        client.set_tag(run_id, "agmbench.reason", "")
        return MlflowWriter(client, run_id, seen=self._points(run_id))

    def settle(self, dataset: str, tags: Mapping[str, str]) -> None:
        conditions = [*(f"tags.`{key}` = '{value}'" for key, value in tags.items()), f"attributes.status = '{RUNNING}'"]
        for run in self._client.search_runs([self._experiment(dataset)], " and ".join(conditions)):
            self._client.set_terminated(run.info.run_id)

    def lost(self, digest: str, reason: str) -> None:
        condition = f"tags.`agmbench.digest` = '{digest}' and attributes.status = '{RUNNING}'"
        with suppress(Timeout), self._lock(digest).acquire(timeout=0):  # held: another process is at it
            for record in self._search(condition, None):
                self._client.set_tag(record.run_id, "agmbench.reason", reason)
                self._client.set_terminated(record.run_id, FAILED)

    def reopen(self, record: Record) -> "MlflowWriter":
        return MlflowWriter(self._client, record.run_id, reopened=True)

    def artifact(self, record: Record, path: str) -> Path:
        try:
            return Path(self._client.download_artifacts(record.run_id, path))
        except (MlflowException, OSError) as error:
            raise AgmbenchError(
                f"run {record.run_id} ('{record.name}') has lost its artifact {path} ({hidden(describe(error), self.uri)}); "
                "run that job again with --force"
            ) from error


def sqlite(path: Path) -> str:
    """The address of a SQLite store, by the library that reads it; a path may have any character in it."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise AgmbenchError(
            f"{path} has a name that is no text in UTF-8, in which no store can be; take another folder"
        ) from error
    plain = f"sqlite:///{path}"
    escaped = URL.create("sqlite+pysqlite", database=str(path)).render_as_string()
    return plain if escaped.endswith(f"///{path}") and "?" not in plain else escaped  # MLflow makes the folder of a plain one


def _make(file: Path) -> None:
    """A SQLite store, made aside and moved into place whole: a process killed meanwhile leaves no half of one."""
    fresh = file.with_name(f"{file.name}.new")
    fresh.unlink(missing_ok=True)
    # the default experiment is written by an SQL statement in which a path would not be escaped
    SqlAlchemyStore(sqlite(fresh), Path("mlruns").absolute().as_uri())
    _connected(sqlite(fresh))
    fresh.replace(file)


def _answers(uri: str) -> None:
    """Raise at once if a database does not answer; MLflow would ask again for minutes."""
    with suppress(ArgumentError):
        if make_url(uri).get_backend_name() in ("postgresql", "mysql", "mssql"):
            engine = create_engine(uri)
            engine.connect().close()
            engine.dispose()


def _patient(uri: str) -> MlflowClient:
    """A client whose store has answered, and whose calls wait for it."""
    address = shown(uri)
    client = patiently(address, _connected, uri) if uri.startswith("sqlite") else in_time(address, _connected, uri)
    return cast(MlflowClient, Patient(client, address))


def _connected(uri: str) -> MlflowClient:
    """A client whose store has answered."""
    _answers(uri)
    client = MlflowClient(uri)
    client.search_experiments(max_results=1)
    return client


class MlflowWriter:
    """One MLflow run being written, by explicit run id: never the process's active run.

    Points wait until enough time has passed since the last were written, until files are kept, or until the run is left.
    """

    def __init__(
        self, client: MlflowClient, run_id: str, reopened: bool = False, seen: AbstractSet[tuple[str, int]] = frozenset()
    ) -> None:
        self.id = run_id
        self._seen = seen
        self._client = client
        self._reopened = reopened
        self._waiting: list[Metric] = []
        self._written = 0.0  # when
        self._took = 0.0

    def __enter__(self) -> "MlflowWriter":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            try:
                with interrupts.held():  # a transaction that is cut in two leaves the database locked
                    self._write()
                    if not self._reopened:
                        self._client.set_terminated(self.id, FINISHED)
            except Exception as unwritten:
                self.__exit__(type(unwritten), unwritten, None)
                raise
            return
        if self._reopened:
            return
        if isinstance(error, Locked):  # nor can the run's end be written; it is taken over when its job is started again
            raise RunFailed(f"{error}; the job goes on from its last state") from error
        if isinstance(error, MlflowException) and isinstance(error.__context__, OSError):
            # nobody is there to be told; the run is taken over when its job is started again
            uri = self._client.tracking_uri
            raise RunFailed(
                f"the tracking server {shown(uri)} does not answer any more; when it is back, give the same command "
                f"again and the job goes on ({hidden(describe(error), uri)})"
            ) from error
        # an interrupt that a library's callback met is one although it left as another error
        interrupted, full = interrupts.asked() or not isinstance(error, Exception), _full(error)
        known = isinstance(error, AgmbenchError | Stopped)
        said = hidden(str(error) if known else describe(error), self._client.tracking_uri)
        reason = FULL if full else "interrupted" if interrupted and not known else said
        with interrupts.held(then_check=False):  # a store that cannot be written hides no error; its run is taken over
            if not isinstance(error, MlflowException):
                with suppress(MlflowException, Locked):
                    self._write()
            with suppress(MlflowException, Locked):
                self._client.set_tag(self.id, "agmbench.reason", reason[:5000])
                self._client.set_terminated(self.id, KILLED if interrupted or isinstance(error, Stopped) else FAILED)
        if full:
            raise RunFailed(f"{FULL} ({describe(error)})") from error

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
        self._waiting += [Metric(point.name, point.value, now, point.step) for point in points if point[::2] not in self._seen]
        if time.monotonic() - self._written >= self._took / SHARE:
            with interrupts.held():
                self._write()

    def measured(self, measurements: Iterable[Measurement], step: int) -> None:
        now = int(time.time() * 1000)
        measurements = list(measurements)
        values = {f"test/{name}": value for one in measurements for name, value in one.values.items()}
        metrics = [Metric(name, value, now, step) for name, value in values.items() if (name, step) not in self._seen]
        tags = [RunTag(*as_tag(one)) for one in measurements]
        with interrupts.held():
            self._write()
            for start in range(0, max(len(metrics), len(tags)), TAGS_A_CALL):
                self._client.log_batch(self.id, metrics[start : start + TAGS_A_CALL], tags=tags[start : start + TAGS_A_CALL])

    def _write(self) -> None:
        begun = time.monotonic()
        while self._waiting:
            self._client.log_batch(self.id, metrics=self._waiting[:METRICS_A_CALL])
            del self._waiting[:METRICS_A_CALL]
        self._written = time.monotonic()
        self._took = self._written - begun

    def files(self, folder: Path) -> None:
        with interrupts.held():
            self._write()
        for path in folder.iterdir():
            if (path / "MLmodel").is_file():
                self._model(path)
            elif path.is_dir():
                self._client.log_artifacts(self.id, str(path), path.name)
            else:
                self._client.log_artifact(self.id, str(path))
        if (folder / outcomes.FILE).is_file():
            self._client.set_tag(self.id, OUTCOMES, outcomes.FILE)

    def _model(self, folder: Path) -> None:
        """A folder in MLflow's model format becomes a logged model: `models:/<id>`, and `runs:/<run>/<folder's name>`."""
        run = self._client.get_run(self.id)
        experiment = run.info.experiment_id
        begun = self._client.search_logged_models([experiment], f"source_run_id = '{self.id}'")  # by a process that was killed
        model = begun[0] if begun else self._client.create_logged_model(experiment, folder.name, self.id)
        about = Model.load(str(folder))
        about.run_id, about.model_id = self.id, model.model_id
        about.save(str(folder / "MLmodel"))
        self._client.log_model_artifacts(model.model_id, str(folder))
        self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        known = run.outputs.model_outputs if run.outputs else []
        if model.model_id not in {output.model_id for output in known}:
            self._client.log_outputs(self.id, [LoggedModelOutput(model.model_id, step=0)])


def _full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error: of a file's or of SQLite's."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
