"""`agmbench ui`."""

import os
import socket
import sys

import click

from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import AgmbenchError


@click.command("ui", cls=Verb)
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on 127.0.0.1.")
def command(port: int) -> None:
    """Open the MLflow UI on this store, for this machine alone."""
    from agmbench.trackers.mlflow import MlflowTracker

    tracker = MlflowTracker()
    if tracker.uri.startswith(("http://", "https://")):
        raise AgmbenchError(f"the store is a tracking server with a UI of its own: open {tracker.shown}")
    if not tracker.exists():
        raise AgmbenchError(f"no store at {tracker.shown} yet; make one with: agmbench run")
    _check_free(port)
    words = ["-P", "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    os.environ["MLFLOW_BACKEND_STORE_URI"] = tracker.uri  # which may hold a password, and `ps` shows the words of a command
    os.environ["UVICORN_APP_DIR"] = os.path.dirname(
        os.__file__
    )  # Python's own modules first, in place of the working directory
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # a viewer needs no job runner
    echo(f"http://127.0.0.1:{port} (Ctrl-C ends it)", err=True)
    os.execv(sys.executable, [sys.executable, *words])


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: what was closed just now is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise AgmbenchError(f"port {port} cannot be had ({error.strerror}); name another with --port") from error
