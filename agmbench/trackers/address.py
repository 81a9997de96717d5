"""Where an MLflow store is: its address, its folder, whether it exists, a client for it, and its locks."""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from agmbench.addresses import hidden, shown
from agmbench.errors import AgmbenchError, describe
from agmbench.trackers.claims import Claim
from agmbench.trackers.opening import make, patient, sqlite
from agmbench.trackers.places import Named


class Address:
    """One MLflow store. A store in a SQLite file is made when a client is first needed. Without `uri`, the environment variable
    MLFLOW_TRACKING_URI names the store; if that is not set, or if `uri` is empty, it is the store in `folder`."""

    def __init__(self, folder: Path = Path("runs"), uri: str | None = None) -> None:
        self.folder = folder.absolute()
        named = os.environ.get("MLFLOW_TRACKING_URI") if uri is None else uri
        self._own = not named
        self.uri = named or sqlite(self.folder / "mlflow.db")

    @property
    def shown(self) -> str:
        """The store's address without secrets, so that it can be shown."""
        return shown(self.uri)

    @cached_property
    def _file(self) -> Path | None:
        """The file of a SQLite store; `None` for any other store."""
        if not self.uri.startswith("sqlite"):
            return None
        with suppress(ArgumentError):
            path = make_url(self.uri).database
            return Path(path).absolute() if path and path != ":memory:" and not path.startswith("file:") else None
        return None

    @property
    def artifacts(self) -> Path | None:
        """The folder for artifacts of the default store; `None` if the user named a store, which then decides itself."""
        return self.folder / "artifacts" if self._own else None

    @cached_property
    def _client(self) -> MlflowClient:
        _quieten()
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
        """Whether there is a store to read. A store that is not a SQLite file is assumed to exist."""
        if self._file is None:
            return True
        there = os.path.lexists(self._file)  # must come before `is_file`, because another process may be making it
        if self._file.is_file():
            return True
        if not self._own and not self._file.parent.is_dir():
            raise AgmbenchError(f"the MLflow store {self.shown} cannot be opened: there is no folder {self._file.parent}")
        if there:
            raise AgmbenchError(f"the MLflow store {self.shown} cannot be opened: it is not a regular file; move it away")
        return False

    def check(self) -> None:
        """Raise if the store exists but does not answer. Does not create a store."""
        if self.exists():
            self._client.search_experiments(max_results=1)

    @cached_property
    def _served(self) -> bool:
        """Whether a server holds the store, so that processes on several machines may write to it."""
        scheme, slashes, _ = self.uri.partition("://")
        return bool(slashes) and not scheme.startswith(("sqlite", "file"))

    @property
    def _beside(self) -> Path:
        """The folder for locks and states. For a store in a file it is shared by all processes that write to the store; else it is a folder
        of this machine."""
        return self.folder if self._own or self._file is None else Path(f"{self._file}.work")

    def _lock_file(self, name: str) -> Path:
        return self._beside / "locks" / f"{name}.lock"

    def _lock(self, name: str) -> FileLock:
        file = self._lock_file(name)
        folder = file.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AgmbenchError(f"{self._beside} cannot be written ({error.strerror}); runs are kept there") from error
        if not os.access(folder, os.W_OK):
            raise AgmbenchError(f"{self._beside} cannot be written; runs are kept there")
        return FileLock(file)

    def _store_lock(self) -> AbstractContextManager[Any]:
        if self._own:
            return self._lock("store")
        if self._file is None:
            return nullcontext()
        return FileLock(f"{self._file}.lock")

    def lock(self, name: str) -> AbstractContextManager[Any]:
        return Claim(Named(self._client, name), lambda state: None) if self._served else self._lock(name)

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Turn errors of MLflow inside the block, where a command first writes, into an error that says that the store is not writable."""
        try:
            yield
        except MlflowException as error:
            said = hidden(describe(error), self.uri)
            raise AgmbenchError(f"the MLflow store {self.shown} cannot be written ({said})") from error


def _quieten() -> None:
    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # its errors are raised and shown anyway
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # an interrupt during a query should not be logged
