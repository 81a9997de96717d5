"""States of an unfinished job, kept as artifacts of its runs, so that another machine can go on from them."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from agmbench.errors import AgmbenchError
from agmbench.names import STATES

VARIABLE = "AGMBENCH_STATES"
FOLDER = "unfinished"
MARK = "mark"  # the file that says which of the kept states the folder on this machine has


def shared() -> Path | None:
    """The folder that the user named for states, which several machines may share."""
    if not (text := os.environ.get(VARIABLE)):
        return None
    if not (folder := Path(text)).is_dir():
        raise AgmbenchError(f"{VARIABLE}={text}: there is no such folder; make it, or name another for states (--states)")
    if not os.access(folder, os.W_OK):
        raise AgmbenchError(f"{VARIABLE}={text}: this folder is not writable; name another for states (--states)")
    return folder


class InStore:
    """Keeps states, which are written to a folder on this machine, as artifacts of a run. `runs` are all runs of the job, the last first.

    Two places among the artifacts are used alternately, and the tag is written only when a state is complete. So a state whose transfer
    was interrupted never counts as the newest.
    """

    def __init__(
        self, client: MlflowClient, run_id: str, runs: Sequence[MlflowRun], folder: Path, guard: Callable[[], None]
    ) -> None:
        self._client, self._run, self._guard = client, run_id, guard
        self._with = [run for run in runs if run.data.tags.get(STATES)]
        self._folder = folder
        self._turn = 0

    def fetch(self, path: Path) -> None:
        """Replace `path` by the newest state that was kept, unless `path` is that state, or a later one that could not be kept."""
        if not self._with:
            return
        newest = self._with[0]
        mark, _, turn = newest.data.tags[STATES].partition(" ")
        self._turn = 1 - int(turn) if newest.info.run_id == self._run else 0
        here = self._folder / MARK
        if path.is_file() and here.is_file() and here.read_text() == mark:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with suppress(OSError, MlflowException):  # a state that is lost is treated like one that was never kept
            there = self._client.download_artifacts(newest.info.run_id, f"{FOLDER}/{turn}/{path.name}", str(self._folder))
            Path(there).replace(path)
            here.write_text(mark)

    def keep(self, path: Path) -> None:
        """Keep the state in this file."""
        mark = uuid4().hex[:12]
        self._guard()
        self._client.log_artifact(self._run, str(path), f"{FOLDER}/{self._turn}")
        self._client.set_tag(self._run, STATES, f"{mark} {self._turn}")
        self._turn = 1 - self._turn
        (self._folder / MARK).write_text(mark)

    def clear(self) -> None:
        """Delete all states, because the job is finished or starts from the beginning."""
        self._guard()
        for run_id in {self._run, *(run.info.run_id for run in self._with)}:
            forget(self._client, run_id)
        self._with = []


def forget(client: MlflowClient, run_id: str) -> None:
    """Delete the states of a run (if its artifact store can delete files), and its tag."""
    run = client.get_run(run_id)
    if run.data.tags.get(STATES):
        with suppress(MlflowException, NotImplementedError, OSError):
            get_artifact_repository(run.info.artifact_uri, tracking_uri=client.tracking_uri).delete_artifacts(FOLDER)
        client.set_tag(run_id, STATES, "")
