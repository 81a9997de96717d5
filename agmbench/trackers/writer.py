"""Writes one run of an MLflow store."""

import errno
import json
import time
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, LoggedModelOutput, LoggedModelStatus, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from agmbench import interrupts, outcomes
from agmbench.addresses import hidden, shown
from agmbench.errors import AgmbenchError, RunFailed, Taken, describe
from agmbench.jobs import flat
from agmbench.names import OUTCOMES, REASON, all_of_split
from agmbench.records import FAILED, FINISHED, KILLED, Beyond, Heading, Measurement, Point, Stopped
from agmbench.trackers.patience import Locked
from agmbench.trackers.tags import NOTE, as_tag, set_label, with_final

METRICS_A_CALL = 1000  # MLflow's limits for one call of log_batch
PARAMS_A_CALL = 100
TAGS_A_CALL = 100
LONGEST_PARAM = 6000
FULL = "the disk is full; make room and run the same command again: the job goes on from its last state"
# The largest share of the time for writing points. A call costs two commits, or two network round trips, however few points it has.
SHARE = 0.02


def unguarded() -> None:
    """The guard of a run that no other process can have taken over: it does nothing."""


class MlflowWriter:
    """Writes one MLflow run, always by its id, never through the process's active run.

    Points wait until enough time has passed since points were last written, until files are kept, or until the run ends. `guard` is called
    before anything is written. It raises `Taken` if another process has the job now; then nothing more is written.
    """

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        reopened: bool = False,
        seen: AbstractSet[tuple[str, int]] = frozenset(),
        guard: Callable[[], None] = unguarded,
        scratch: Path | None = None,
        beyond: Beyond | None = None,
    ) -> None:
        self.id = run_id
        self.check = guard
        self.beyond = beyond
        self._scratch = scratch
        self.ended: Callable[[], None] = unguarded  # called at the end of the block
        self._seen = seen
        self._client = client
        self._reopened = reopened
        self._waiting: list[Metric] = []
        self._written = 0.0  # the time when points were last written
        self._took = 0.0

    @property
    def scratch(self) -> Path:
        assert self._scratch is not None, "a run that is not started has no states"
        return self._scratch

    def __enter__(self) -> "MlflowWriter":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self._end(error)
        finally:
            self.ended()

    def _end(self, error: BaseException | None) -> None:
        if error is None:
            try:
                with interrupts.delayed():  # because an interrupted transaction leaves the database locked
                    self._write()
                    self.check()
                    if not self._reopened:
                        self._client.set_terminated(self.id, FINISHED)
            except Exception as unwritten:
                self._end(unwritten)
                raise
            return
        if self._reopened or isinstance(error, Taken):
            return
        if isinstance(error, Locked):  # the run's end cannot be written either; a later start of the job takes it over
            raise RunFailed(f"{error}; the job goes on from its last state") from error
        if isinstance(error, MlflowException) and isinstance(error.__context__, OSError):
            # the server does not answer, so the run's end cannot be written; the run is taken over when its job is started again
            uri = self._client.tracking_uri
            raise RunFailed(
                f"the tracking server {shown(uri)} no longer answers; when it is back, run the same command "
                f"again to resume the job ({hidden(describe(error), uri)})"
            ) from error
        # an interrupt in the callback of a library may arrive here as another error, so `stop_requested` is checked as well
        interrupted, full = interrupts.stop_requested() or not isinstance(error, Exception), _full(error)
        known = isinstance(error, AgmbenchError | Stopped)
        said = hidden(str(error) if known else describe(error), self._client.tracking_uri)
        reason = FULL if full else "interrupted" if interrupted and not known else said
        with interrupts.delayed(
            then_check=False
        ):  # an error of the store must not hide `error`; the run is then taken over later
            if not isinstance(error, MlflowException):
                with suppress(MlflowException, Locked, Taken):
                    self._write()
            with suppress(MlflowException, Locked, Taken):
                self.check()
                self._client.set_tag(self.id, REASON, reason[:5000])
                self._client.set_terminated(self.id, KILLED if interrupted or isinstance(error, Stopped) else FAILED)
        if full:
            raise RunFailed(f"{FULL} ({describe(error)})") from error

    def describe(self, heading: Heading) -> None:
        """Log the parameters of the spec, the data set as the run's input, and the user's label."""
        self.check()
        set_label(self._client, self.id, heading.label)
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

    def log_points(self, points: Sequence[Point]) -> None:
        now = int(time.time() * 1000)
        self._waiting += [Metric(point.name, point.value, now, point.step) for point in points if point[::2] not in self._seen]
        if time.monotonic() - self._written >= self._took / SHARE:
            with interrupts.delayed():
                self._write()

    def log_measurements(self, measurements: Iterable[Measurement], step: int) -> None:
        now = int(time.time() * 1000)
        measurements = list(measurements)
        values = {name: value for one in measurements for name, value in all_of_split("test", one.values).items()}
        metrics = [Metric(name, value, now, step) for name, value in values.items() if (name, step) not in self._seen]
        tags = [RunTag(*as_tag(one)) for one in measurements]
        with interrupts.delayed():
            self._write()
            self.check()
            for start in range(0, max(len(metrics), len(tags)), TAGS_A_CALL):
                self._client.log_batch(self.id, metrics[start : start + TAGS_A_CALL], tags=tags[start : start + TAGS_A_CALL])
            data = self._client.get_run(self.id).data
            self._client.set_tag(self.id, NOTE, with_final(data.tags.get(NOTE, ""), data.metrics))

    def _write(self) -> None:
        begun = time.monotonic()
        while self._waiting:
            self.check()
            self._client.log_batch(self.id, metrics=self._waiting[:METRICS_A_CALL])
            del self._waiting[:METRICS_A_CALL]
        self._written = time.monotonic()
        self._took = self._written - begun

    def log_files(self, folder: Path) -> None:
        with interrupts.delayed():
            self._write()
        for path in folder.iterdir():
            self.check()
            if (path / "MLmodel").is_file():
                self._model(path)
            elif path.is_dir():
                self._client.log_artifacts(self.id, str(path), path.name)
            else:
                self._client.log_artifact(self.id, str(path))
        if (folder / outcomes.FILE).is_file():
            self._client.set_tag(self.id, OUTCOMES, outcomes.FILE)

    def _model(self, folder: Path) -> None:
        """Log a folder in MLflow's model format as a logged model: `models:/<id>`, and `runs:/<run>/<folder's name>`."""
        run = self._client.get_run(self.id)
        experiment = run.info.experiment_id
        begun = self._client.search_logged_models([experiment], f"source_run_id = '{self.id}'")  # maybe by a killed process
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
    """Whether a full disk is the cause of an error, be it an error of a file or of SQLite."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
