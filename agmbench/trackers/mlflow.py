"""Runs in an MLflow store: `sqlite:///runs/mlflow.db` with artifacts in `runs/artifacts`, or the store that MLFLOW_TRACKING_URI names."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import Timeout
from mlflow.entities import Run as MlflowRun
from mlflow.entities import RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from agmbench.errors import AgmbenchError, Taken
from agmbench.names import ATTEMPT, DIGEST, OWNER, REASON, STATES
from agmbench.records import FAILED, KILLED, RUNNING, Heading, Label, Record
from agmbench.trackers.adopted import adopt
from agmbench.trackers.claims import Claim, me
from agmbench.trackers.opening import sqlite as sqlite  # exported for code that needs the address of another file
from agmbench.trackers.patience import patiently
from agmbench.trackers.places import Named, OnRun
from agmbench.trackers.reading import Reader
from agmbench.trackers.states import InStore, forget, shared
from agmbench.trackers.tags import KIND, NOTE, by_whom, record, set_label, tagged, written
from agmbench.trackers.writer import MlflowWriter, unguarded

GONE = "its process was killed"
MOMENT = 0.1  # seconds to wait for a lock, because another process may have it for a moment only to look at it


class MlflowTracker(Reader):
    """A tracker on one MLflow store. A store in a SQLite file is made by the first writing, under a lock, and never by reading. Without
    `uri`, the environment variable MLFLOW_TRACKING_URI names the store; if that is not set, or if `uri` is empty, it is the store in
    `folder`.

    What only one process may do at a time is protected by a file lock beside a SQLite file or, if a server holds the store, by a claim in
    the store itself (`claims.py`).
    """

    def __init__(self, folder: Path = Path("runs"), uri: str | None = None) -> None:
        super().__init__(folder, uri)
        self._claims: dict[str, Claim] = {}  # the claims of this process, by the digest of the job

    @contextmanager
    def claim(self, heading: Heading, taken: Callable[[str], None]) -> Iterator[None]:
        shared()  # raises before anything is written, if the folder for states is unusable
        if not self._served:
            with self._locked(heading.digest, taken):
                yield
            return
        with self._written():
            place = OnRun(self._client, self._first(heading))
        with Claim(place, lambda state: taken(state.description)) as claim:
            self._claims[heading.digest] = claim
            try:
                yield
            finally:
                del self._claims[heading.digest]

    @contextmanager
    def _locked(self, digest: str, taken: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock of a job inside the block. The operating system frees the lock of a dead process."""
        lock = self._lock(digest)
        try:
            lock.acquire(timeout=MOMENT)
        except Timeout:
            at_work = f"{tagged({DIGEST: digest})} and attributes.status = '{RUNNING}'"
            taken(next((who for found in self._search(at_work) if (who := found.tags.get(OWNER))), "another process"))
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _first(self, heading: Heading) -> str:
        """The first run of a job, which is made if there is none. On it, all machines look for the process that has the job."""
        experiment = self._experiment(heading.spec["dataset"]["name"])
        while not (runs := self._of_job(experiment, heading.digest)):
            with suppress(Taken), Claim(Named(self._client, heading.digest), lambda state: None) as alone:
                if not self._of_job(experiment, heading.digest):
                    return self._make_run(experiment, heading, 1, alone.check)
        return str(runs[-1].info.run_id)

    def start(self, heading: Heading) -> MlflowWriter:
        with ExitStack() as claims:
            if self._served and heading.digest not in self._claims:  # the run of a trial, which nobody has claimed before
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
            client.log_batch(run_id, tags=[RunTag(REASON, ""), RunTag(OWNER, str(me()))])
        else:
            attempt = max([len(runs), *(record(run).attempt for run in runs)]) + 1
            run_id = self._make_run(experiment, heading, attempt, guard)
        first = runs[-1].info.run_id if runs else run_id
        scratch = self._scratch(heading.digest, first)
        beyond = InStore(client, run_id, runs, scratch, guard) if self._served and shared() is None else None
        run = MlflowWriter(
            client, run_id, seen=self._points(run_id) if left else frozenset(), guard=guard, scratch=scratch, beyond=beyond
        )
        try:
            run.describe(heading)
        except BaseException as error:  # so that a run that was never entered does not stay RUNNING
            run.__exit__(type(error), error, None)
            raise
        return run

    def _make_run(self, experiment: str, heading: Heading, attempt: int, guard: Callable[[], None]) -> str:
        """Make a new run of a job. If another process has the job by then, delete the run again and raise `Taken`."""
        tags = {**by_whom(), **heading.tags, **written(heading), ATTEMPT: str(attempt), OWNER: str(me())}
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

    def adopt(self, record: Record, folder: Path, sha256: str) -> bool:
        with self.lock("imports"), self._written():
            return adopt(self._client, self._experiment(record.spec["dataset"]["name"]), record, folder, sha256)

    def _scratch(self, digest: str, first: str) -> Path:
        """The folder for the states of a job. In a folder that several stores may share, its name includes the job's first run."""
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
        for key in KIND.keys() - found.tags.keys():  # an experiment of an older version lacks these tags
            self._client.set_experiment_tag(found.experiment_id, key, KIND[key])
        return str(found.experiment_id)

    def group(self, dataset: str, name: str, tags: Mapping[str, str]) -> MlflowWriter:
        client = self._client
        experiment = self._experiment(dataset)
        condition = tagged(tags)
        tags = {**by_whom(), NOTE: f"The jobs of '{name}' on {dataset} stand below this run.", **tags}
        if not (found := client.search_runs([experiment], condition, max_results=1)):
            with self.lock("groups"):  # otherwise, two commands at once would both make the run
                if not (found := client.search_runs([experiment], condition, max_results=1)):
                    return MlflowWriter(client, client.create_run(experiment, run_name=name, tags=tags).info.run_id)
        run_id = found[0].info.run_id
        client.update_run(run_id, status=RUNNING)
        client.set_tag(run_id, REASON, "")
        return MlflowWriter(client, run_id, seen=self._points(run_id))

    def finish_group(self, dataset: str, tags: Mapping[str, str]) -> None:
        condition = f"{tagged(tags)} and attributes.status = '{RUNNING}'"
        for run in self._client.search_runs([self._experiment(dataset)], condition):
            self._client.set_terminated(run.info.run_id)

    def mark_lost(self, digest: str, reason: str, place: str = "") -> None:
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
    def _if_free(self, digest: str, place: str = "") -> Iterator[list[MlflowRun]]:
        """The runs of a job, the last one first, while its claim is held; none if a process has the job, unless it is at `place`."""
        with ExitStack() as claims:
            runs = self._runs_of(digest)
            try:
                if not self._served:
                    claims.enter_context(self._locked(digest, _leave_alone))
                elif runs:
                    claims.enter_context(Claim(OnRun(self._client, runs[-1].info.run_id), _leave_alone, place))
            except Taken:
                runs = []
            yield runs

    def _end(self, run_id: str, reason: str) -> None:
        self._client.set_tag(run_id, REASON, reason[:5000])
        self._client.set_terminated(run_id, FAILED)

    def label(self, known: Record, label: Label) -> Record:
        set_label(self._client, known.run_id, label)
        return record(self._client.get_run(known.run_id))

    def reopen(self, record: Record) -> "MlflowWriter":
        return MlflowWriter(self._client, record.run_id, reopened=True, guard=self._guard(record.digest))


def _leave_alone(state: object) -> None:
    raise Taken("it is left alone")
