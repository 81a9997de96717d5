"""Reads the runs of an MLflow store."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from agmbench import locks
from agmbench.addresses import hidden
from agmbench.errors import AgmbenchError, describe
from agmbench.names import DIGEST, IMPORTED, SETTING, STATES, TRIAL
from agmbench.records import FINISHED, RUNNING, Record
from agmbench.trackers import claims
from agmbench.trackers.address import Address
from agmbench.trackers.places import OnRun
from agmbench.trackers.states import shared
from agmbench.trackers.tags import record, tagged

PAGE: dict[str, Any] = {"max_results": 1000, "order_by": ["attributes.start_time DESC"]}


class Reader(Address):
    """Reads the runs of a store as records. If there is no store, there are no runs, and no store is created."""

    def experiments(self) -> dict[str, str]:
        """The ids of experiments by name, the one that changed last first, without MLflow's own `Default`."""
        found = self._client.search_experiments(order_by=["last_update_time DESC"])
        return {one.name: one.experiment_id for one in found if one.experiment_id != "0"}

    def find(self, digest: str) -> Record | None:
        found = self._search(f"{tagged({DIGEST: digest})} and attributes.status = '{FINISHED}'", None)
        return max(found, key=lambda record: record.order, default=None)

    def before(self, setting: str, digest: str) -> Record | None:
        found = self._search(f"{tagged({SETTING: setting})} and attributes.status = '{FINISHED}'", None)
        others = [record for record in found if record.digest != digest and TRIAL not in record.tags]
        return max(others, key=lambda record: record.started, default=None)

    def records(self, dataset: str | None = None) -> list[Record]:
        found = self._search(f"tags.`{DIGEST}` != ''", dataset)
        return [record for record in found if TRIAL not in record.tags]

    def imported(self, dataset: str | None = None) -> list[Record]:
        return list(self._search(f"tags.`{IMPORTED}` != ''", dataset))

    def history(self, record: Record, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        found = {name: self._client.get_metric_history(record.run_id, name) for name in names if name in record.metrics}
        return {name: sorted((each.step, each.value) for each in metrics) for name, metrics in found.items()}

    @contextmanager
    def artifact(self, record: Record, path: str) -> Iterator[Path]:
        with TemporaryDirectory(prefix="agmbench-") as folder:
            try:
                copy = self._copy(record.run_id, path, folder)
            except (MlflowException, OSError) as error:
                raise AgmbenchError(
                    f"run {record.run_id} ('{record.name}') has lost its artifact {path} ({hidden(describe(error), self.uri)}); "
                    "run that job again with --force"
                ) from error
            yield copy

    def of_group(self, dataset: str, tags: Mapping[str, str], path: str) -> str | None:
        for run in self._runs(tagged(tags), dataset):
            with (
                TemporaryDirectory(prefix="agmbench-") as folder,
                suppress(MlflowException, OSError, ValueError),
            ):  # the run has no such artifact
                return self._copy(run.info.run_id, path, folder).read_text(encoding="utf-8")
        return None

    def _copy(self, run_id: str, path: str, folder: str) -> Path:
        """Copy an artifact into `folder`, which the caller removes later. Without a folder, MLflow would make one and leave it."""
        return Path(self._client.download_artifacts(run_id, path, folder))

    def unsettled(self) -> AbstractSet[str]:
        folder = shared() or self._beside / "unfinished"
        found = {path.name.partition("-")[0] for path in folder.iterdir()} if folder.is_dir() else set()
        for condition in (f"attributes.status = '{RUNNING}'", f"tags.`{STATES}` != ''")[: 1 + self._served]:
            found |= {run.data.tags[DIGEST] for run in self._runs(f"{condition} and tags.`{DIGEST}` != ''")}
        return found

    def left_behind(self, records: Iterable[Record], watching: Callable[[float], None]) -> AbstractSet[str]:
        """The ids of those RUNNING runs whose process is gone; a process that starts their jobs takes them over. Nothing is written.

        In a store that is a file, the lock of the job shows this. If a server holds the store, claims may have to be watched (`claims.py`).
        """
        if self._served:
            first = {one.run_id: self._runs_of(one.digest)[-1:] for one in records}
            places = {name: OnRun(self._client, run.info.run_id) for name, runs in first.items() for run in runs}
            free = claims.left_behind(places, watching)
        else:
            free = {one.run_id for one in records if not locks.is_held(self._lock_file(one.digest))}
        return {name for name in free if self._client.get_run(name).info.status == RUNNING}  # other runs have just ended

    def _search(self, condition: str, dataset: str | None = None) -> Iterator[Record]:
        return map(record, self._runs(condition, dataset))

    def _runs(self, condition: str, dataset: str | None = None) -> Iterator[MlflowRun]:
        if not self.exists():
            return
        named = f"name = '{dataset}'" if dataset else None
        experiments = {e.experiment_id for e in self._client.search_experiments(filter_string=named)}
        token = None
        while experiments:
            page = self._client.search_runs(sorted(experiments), condition, **PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _of_job(self, experiment: str, digest: str) -> list[MlflowRun]:
        """The runs of a job, the last one first."""
        found = list(self._client.search_runs([experiment], tagged({DIGEST: digest})))
        return sorted(found, key=order, reverse=True)

    def _runs_of(self, digest: str) -> list[MlflowRun]:
        """The runs of a job in any experiment, the last one first."""
        return sorted(self._runs(tagged({DIGEST: digest})), key=order, reverse=True)

    def _points(self, run_id: str) -> set[tuple[str, int]]:
        names = self._client.get_run(run_id).data.metrics
        return {(name, metric.step) for name in names for metric in self._client.get_metric_history(run_id, name)}


def order(run: MlflowRun) -> tuple[int, int, str]:
    """The key by which the runs of a job are ordered: later runs have a larger one. The run's id makes it unique, so that all processes
    order runs without an attempt in the same way."""
    return (*record(run).order, run.info.run_id)
