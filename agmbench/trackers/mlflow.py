"""Runs in an MLflow store: `sqlite:///runs/mlflow.db` with artifacts under `runs/artifacts`, or wherever MLFLOW_TRACKING_URI says."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

# read when mlflow is imported: a benchmark reports to nobody, one small file needs no progress bar, and a
# server that does not answer should be reported in seconds, not in minutes
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from agmbench.addresses import hidden, shown
from agmbench.errors import AgmbenchError, Taken, describe
from agmbench.records import FAILED, FINISHED, IMPORTED, KILLED, RUNNING, Heading, Label, Record
from agmbench.trackers.adopted import adopted
from agmbench.trackers.claims import Claim, me
from agmbench.trackers.opening import make, patient
from agmbench.trackers.opening import sqlite as sqlite  # for whoever names a file beside the store
from agmbench.trackers.patience import patiently
from agmbench.trackers.places import Named, OnRun
from agmbench.trackers.states import STATES, InStore, forget, shared
from agmbench.trackers.tags import KIND, NOTE, by_whom, labelled, record, written
from agmbench.trackers.writer import MlflowWriter, unguarded

RUNS_A_PAGE = 1000
OWNER = "agmbench.owner"  # the tag of a run that tells who writes it
GONE = "its process was killed"


class MlflowTracker:
    """A tracker on one MLflow store; one that is a SQLite file is made at the first `start`, under a lock, and never by reading.
    Without `uri` the environment says which; an empty one is the store of `folder`.

    What only one process may do at a time is done under a lock of the file system beside a SQLite file, and where a server has the
    store, under a claim in the store itself (`claims.py`).
    """

    def __init__(self, folder: Path = Path("runs"), uri: str | None = None) -> None:
        self.folder = folder.absolute()
        self._claims: dict[str, Claim] = {}  # of this process, by digest
        named = os.environ.get("MLFLOW_TRACKING_URI") if uri is None else uri
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
                return patient(self.uri)
            if not self.exists():
                with self._store_lock():  # two first connections at once would both create the tables
                    if not self.exists():
                        make(self._file)
            return patient(self.uri)
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

    def experiments(self) -> dict[str, str]:
        """The numbers of experiments by name, the last one that was changed first, without MLflow's own `Default`."""
        found = self._client.search_experiments(order_by=["last_update_time DESC"])
        return {one.name: one.experiment_id for one in found if one.experiment_id != "0"}

    @cached_property
    def _served(self) -> bool:
        """Whether a server has the store, so that processes of many machines may write to it."""
        scheme, slashes, _ = self.uri.partition("://")
        return bool(slashes) and not scheme.startswith(("sqlite", "file"))

    @property
    def _beside(self) -> Path:
        """A folder that all have who write to a store that is a file; else one of this machine."""
        return self.folder if self._own or self._file is None else Path(f"{self._file}.work")

    def _lock(self, name: str) -> FileLock:
        folder = self._beside / "locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AgmbenchError(f"{self._beside} cannot be written ({error.strerror}); runs are kept there") from error
        if not os.access(folder, os.W_OK):
            raise AgmbenchError(f"{self._beside} cannot be written; runs are kept there")
        return FileLock(folder / f"{name}.lock")

    def _store_lock(self) -> AbstractContextManager[Any]:
        if self._own:
            return self._lock("store")
        if self._file is None:
            return nullcontext()
        return FileLock(f"{self._file}.lock")

    def lock(self, name: str) -> AbstractContextManager[Any]:
        return Claim(Named(self._client, name), lambda held: None) if self._served else self._lock(name)

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

    def imported(self, dataset: str | None = None) -> list[Record]:
        return list(self._search(f"tags.`{IMPORTED}` != ''", dataset))

    def adopt(self, record: Record, folder: Path, sha256: str) -> bool:
        with self.lock("imports"), self._written():
            return adopted(self._client, self._experiment(record.spec["dataset"]["name"]), record, folder, sha256)

    def _search(self, condition: str, dataset: str | None = None) -> Iterator[Record]:
        return map(record, self._runs(condition, dataset))

    def _runs(self, condition: str, dataset: str | None = None) -> Iterator[Run]:
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
            yield from page
            token = page.token
            if not token:
                return

    def history(self, record: Record, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        found = {name: self._client.get_metric_history(record.run_id, name) for name in names if name in record.metrics}
        return {name: sorted((each.step, each.value) for each in metrics) for name, metrics in found.items()}

    @contextmanager
    def claim(self, heading: Heading, taken: Callable[[str], None]) -> Iterator[None]:
        shared()  # one that is not there is told before anything is written
        if not self._served:
            with self._locked(heading.digest, taken):
                yield
            return
        with self._written():
            place = OnRun(self._client, self._first(heading))
        with Claim(place, lambda held: taken(held.said)) as claim:
            self._claims[heading.digest] = claim
            try:
                yield
            finally:
                del self._claims[heading.digest]

    @contextmanager
    def _locked(self, digest: str, taken: Callable[[str], None]) -> Iterator[None]:
        """Under the lock of a job; the system gives the lock of a dead process back."""
        lock = self._lock(digest)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            at_work = f"tags.`agmbench.digest` = '{digest}' and attributes.status = '{RUNNING}'"
            taken(next((who for found in self._search(at_work) if (who := found.tags.get(OWNER))), "another process"))
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Where nothing has been written yet, a store that cannot be written is an error to mend."""
        try:
            yield
        except MlflowException as error:
            said = hidden(describe(error), self.uri)
            raise AgmbenchError(f"the MLflow store {self.shown} cannot be written ({said})") from error

    def _first(self, heading: Heading) -> str:
        """The first run of a job, which is made if there is none: where all machines look for who has the job."""
        experiment = self._experiment(heading.spec["dataset"]["name"])
        while not (runs := self._of_job(experiment, heading.digest)):
            with suppress(Taken), Claim(Named(self._client, heading.digest), lambda held: None) as alone:
                if not self._of_job(experiment, heading.digest):
                    return self._made(experiment, heading, 1, alone.check)
        return str(runs[-1].info.run_id)

    def start(self, heading: Heading) -> MlflowWriter:
        with ExitStack() as claims:
            if self._served and heading.digest not in self._claims:  # of a trial
                claims.enter_context(self.claim(heading, lambda _: None))
            with self._written():
                run = self._start(heading)
            run.ended = claims.pop_all().close
        return run

    def _start(self, heading: Heading) -> MlflowWriter:
        client = self._client
        experiment = self._experiment(heading.spec["dataset"]["name"])
        guard = self._guard(heading.digest)
        runs = self._of_job(experiment, heading.digest)
        left = runs[0] if runs and runs[0].info.status in (RUNNING, KILLED) else None
        for other in runs:
            if other is not left and other.info.status == RUNNING:
                guard()
                self._end(other.info.run_id, GONE)
        if left is not None:
            guard()
            run_id = left.info.run_id
            if left.info.status != RUNNING:
                client.update_run(run_id, status=RUNNING)
            client.log_batch(run_id, tags=[RunTag("agmbench.reason", ""), RunTag(OWNER, str(me()))])
        else:
            attempt = max([len(runs), *(record(run).attempt for run in runs)]) + 1
            run_id = self._made(experiment, heading, attempt, guard)
        first = runs[-1].info.run_id if runs else run_id
        scratch = self._scratch(heading.digest, first)
        beyond = InStore(client, run_id, runs, scratch, guard) if self._served and shared() is None else None
        run = MlflowWriter(
            client, run_id, seen=self._points(run_id) if left else frozenset(), guard=guard, scratch=scratch, beyond=beyond
        )
        try:
            run.describe(heading)
        except BaseException as error:  # a run that was never entered is not left RUNNING
            run.__exit__(type(error), error, None)
            raise
        return run

    def _made(self, experiment: str, heading: Heading, attempt: int, guard: Callable[[], None]) -> str:
        """A new run of a job. Whoever finds that another has the job now, when it is made, takes it away again."""
        tags = {**by_whom(), **heading.tags, **written(heading), "agmbench.attempt": str(attempt), OWNER: str(me())}
        if heading.parent:
            tags[MLFLOW_PARENT_RUN_ID] = heading.parent
        guard()
        run_id = str(self._client.create_run(experiment, run_name=heading.name, tags=tags).info.run_id)
        try:
            guard()
        except Taken:
            self._client.delete_run(run_id)
            raise
        return run_id

    def _guard(self, digest: str) -> Callable[[], None]:
        return self._claims[digest].check if digest in self._claims else unguarded

    def _of_job(self, experiment: str, digest: str) -> list[Run]:
        """The runs of a job, the last one first."""
        found = list(self._client.search_runs([experiment], f"tags.`agmbench.digest` = '{digest}'"))
        return sorted(found, key=_order, reverse=True)

    def _points(self, run_id: str) -> set[tuple[str, int]]:
        names = self._client.get_run(run_id).data.metrics
        return {(name, metric.step) for name in names for metric in self._client.get_metric_history(run_id, name)}

    def _scratch(self, digest: str, first: str) -> Path:
        """The folder for the states of a job; in one that several stores may share, that of its first run."""
        folder = shared()
        return self._beside / "unfinished" / digest if folder is None else folder / f"{digest}-{first[:8]}"

    def _experiment(self, name: str) -> str:
        return patiently(self.shown, self._found_experiment, name)

    def _found_experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            location = (self.artifacts / name).as_uri() if self.artifacts else None
            return str(self._client.create_experiment(name, artifact_location=location, tags=KIND))
        if found.lifecycle_stage != "active":
            raise AgmbenchError(f"the MLflow experiment '{name}' is deleted; restore it with 'mlflow experiments restore'")
        for key in KIND.keys() - found.tags.keys():  # of before
            self._client.set_experiment_tag(found.experiment_id, key, KIND[key])
        return str(found.experiment_id)

    def group(self, dataset: str, name: str, tags: Mapping[str, str]) -> MlflowWriter:
        client = self._client
        experiment = self._experiment(dataset)
        condition = _tagged(tags)
        tags = {**by_whom(), NOTE: f"The jobs of '{name}' on {dataset} stand below this run.", **tags}
        if not (found := client.search_runs([experiment], condition, max_results=1)):
            with self.lock("groups"):  # two first commands at once would both make one
                if not (found := client.search_runs([experiment], condition, max_results=1)):
                    return MlflowWriter(client, client.create_run(experiment, run_name=name, tags=tags).info.run_id)
        run_id = found[0].info.run_id
        client.update_run(run_id, status=RUNNING)
        client.set_tag(run_id, "agmbench.reason", "")
        return MlflowWriter(client, run_id, seen=self._points(run_id))

    def of_group(self, dataset: str, tags: Mapping[str, str], path: str) -> Path | None:
        for run in self._runs(_tagged(tags), dataset):
            with suppress(MlflowException, OSError):  # it has none
                return Path(self._client.download_artifacts(run.info.run_id, path))
        return None

    def settle(self, dataset: str, tags: Mapping[str, str]) -> None:
        condition = f"{_tagged(tags)} and attributes.status = '{RUNNING}'"
        for run in self._client.search_runs([self._experiment(dataset)], condition):
            self._client.set_terminated(run.info.run_id)

    def lost(self, digest: str, reason: str, place: str = "") -> None:
        with self._if_free(digest, place) as runs:
            for run in runs:
                if run.info.status == RUNNING:
                    self._end(run.info.run_id, reason)

    def tidy(self, digest: str) -> None:
        with self._if_free(digest) as runs:
            for run in runs:
                if run.info.status == RUNNING:
                    self._end(run.info.run_id, GONE)
                if run.data.tags.get(STATES):
                    forget(self._client, run.info.run_id)
            for folder in {self._scratch(digest, run.info.run_id) for run in runs[-1:]}:
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _if_free(self, digest: str, place: str = "") -> Iterator[list[Run]]:
        """The runs of a job under its claim, the last one first; none if a process has it that is not at `place`."""
        with ExitStack() as claims:
            runs = sorted(self._runs(f"tags.`agmbench.digest` = '{digest}'"), key=_order, reverse=True)
            try:
                if not self._served:
                    claims.enter_context(self._locked(digest, _left_alone))
                elif runs:
                    claims.enter_context(Claim(OnRun(self._client, runs[-1].info.run_id), _left_alone, place))
            except Taken:
                runs = []
            yield runs

    def _end(self, run_id: str, reason: str) -> None:
        self._client.set_tag(run_id, "agmbench.reason", reason[:5000])
        self._client.set_terminated(run_id, FAILED)

    def unsettled(self) -> AbstractSet[str]:
        folder = shared() or self._beside / "unfinished"
        found = {path.name.partition("-")[0] for path in folder.iterdir()} if folder.is_dir() else set()
        for condition in (f"attributes.status = '{RUNNING}'", f"tags.`{STATES}` != ''")[: 1 + self._served]:
            found |= {run.data.tags["agmbench.digest"] for run in self._runs(f"{condition} and tags.`agmbench.digest` != ''")}
        return found

    def label(self, known: Record, label: Label) -> Record:
        labelled(self._client, known.run_id, label)
        return record(self._client.get_run(known.run_id))

    def reopen(self, record: Record) -> "MlflowWriter":
        return MlflowWriter(self._client, record.run_id, reopened=True, guard=self._guard(record.digest))

    def artifact(self, record: Record, path: str) -> Path:
        try:
            return Path(self._client.download_artifacts(record.run_id, path))
        except (MlflowException, OSError) as error:
            raise AgmbenchError(
                f"run {record.run_id} ('{record.name}') has lost its artifact {path} ({hidden(describe(error), self.uri)}); "
                "run that job again with --force"
            ) from error


def _tagged(tags: Mapping[str, str]) -> str:
    """The condition of runs that have these tags."""
    return " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())


def _order(run: Run) -> tuple[int, int, str]:
    """Later runs of a job have a larger one; those of before attempts were counted have one at least, the same for all who look."""
    return (*record(run).order, run.info.run_id)


def _left_alone(held: object) -> None:
    raise Taken("it is left alone")
