"""Opens an MLflow store, and makes one in a SQLite file that does not exist yet."""

from contextlib import suppress
from pathlib import Path
from typing import cast

from mlflow import MlflowClient
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from agmbench.addresses import shown
from agmbench.errors import AgmbenchError
from agmbench.trackers.patience import Patient, in_time, patiently
from agmbench.whole import whole


def sqlite(path: Path) -> str:
    """The address of the SQLite store in a file, made by SQLAlchemy, which reads it; the path may contain any character."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise AgmbenchError(
            f"{path} has a name that is not UTF-8 text, so it cannot hold a store; use another folder"
        ) from error
    plain = f"sqlite:///{path}"
    escaped = URL.create("sqlite+pysqlite", database=str(path)).render_as_string()
    return plain if escaped.endswith(f"///{path}") and "?" not in plain else escaped  # MLflow makes only a plain one's folder


def make(file: Path) -> None:
    """Make a SQLite store, complete or not at all: if the process is killed meanwhile, no half of a store is left."""
    with whole(file) as fresh:
        # MLflow writes the default experiment by an SQL statement that does not escape paths, so an escaped address is given
        SqlAlchemyStore(sqlite(fresh), Path("mlruns").absolute().as_uri())
        _connected(sqlite(fresh))


def _check_answers(uri: str) -> None:
    """Raise at once if a database does not answer; MLflow would ask again for minutes."""
    with suppress(ArgumentError):
        if make_url(uri).get_backend_name() in ("postgresql", "mysql", "mssql"):
            engine = create_engine(uri)
            engine.connect().close()
            engine.dispose()


def patient(uri: str) -> MlflowClient:
    """A client whose store has answered, and whose calls wait while the store is locked."""
    address = shown(uri)
    client = patiently(address, _connected, uri) if uri.startswith("sqlite") else in_time(address, _connected, uri)
    return cast(MlflowClient, Patient(client, address))


def _connected(uri: str) -> MlflowClient:
    """A client whose store has answered."""
    _check_answers(uri)
    client = MlflowClient(uri)
    client.search_experiments(max_results=1)
    return client
