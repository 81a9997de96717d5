"""Where an MLflow store is: its address, its folder, whether it is there, a client for it, and its locks."""

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
    """One MLflow store. One that is a SQLite file is made when a client is first asked for. Without `uri` the environment says which; an
    empty one is the store of `folder`."""

    def __init__(self, folder: Path = Path("runs"), uri: str | None = None) -> None:
        self.folder = folder.absolute()
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
        """Whether there is a store to read; one that is not a SQLite file is taken at the user's word."""
        if self._file is None:
            return True
        there = os.path.lexists(self._file)  # asked first: another process may be making it
        if self._file.is_file():
            return True
        if not self._own and not self._file.parent.is_dir():
            raise AgmbenchError(f"the MLflow store {self.shown} cannot be opened: there is no folder {self._file.parent}")
        if there:
            raise AgmbenchError(f"the MLflow store {self.shown} cannot be opened: it is not a regular file; move it away")
        return False

    def check(self) -> None:
        """Raise if there is a store that does not answer. Makes none."""
        if self.exists():
            self._client.search_experiments(max_results=1)

    @cached_property
    def _served(self) -> bool:
        """Whether a server has the store, so that processes of many machines may write to it."""
        scheme, slashes, _ = self.uri.partition("://")
        return bool(slashes) and not scheme.startswith(("sqlite", "file"))

    @property
    def _beside(self) -> Path:
        """A folder that all have who write to a store that is a file; else one of this machine."""
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
        return Claim(Named(self._client, name), lambda held: None) if self._served else self._lock(name)

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Where nothing has been written yet, a store that cannot be written is an error to mend."""
        try:
            yield
        except MlflowException as error:
            said = hidden(describe(error), self.uri)
            raise AgmbenchError(f"the MLflow store {self.shown} cannot be written ({said})") from error


def _quieten() -> None:
    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # what it raises is shown, once
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # an interrupt within a query is not to be reported
