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
    """Open the MLflow UI on this store; only this machine can reach it."""
    from agmbench.trackers.mlflow import MlflowTracker

    tracker = MlflowTracker()
    if tracker.uri.startswith(("http://", "https://")):
        raise AgmbenchError(f"the store is a tracking server with a UI of its own: open {tracker.shown}")
    if not tracker.exists():
        raise AgmbenchError(f"no store at {tracker.shown} yet; make one with: agmbench run")
    _check_free(port)
    words = ["-P", "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    os.environ["MLFLOW_BACKEND_STORE_URI"] = tracker.uri  # not an argument: it may hold a password, and `ps` shows arguments
    os.environ["UVICORN_APP_DIR"] = os.path.dirname(os.__file__)  # so that modules are not looked for in the working directory
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # a viewer needs no job runner
    echo(f"http://127.0.0.1:{port} (press Ctrl-C to stop)", err=True)
    os.execv(sys.executable, [sys.executable, *words])


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as the server does: a port that was closed just now counts as free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise AgmbenchError(f"port {port} cannot be used ({error.strerror}); choose another with --port") from error
