"""`agmbench ui`."""

import os
import socket
import sys
from contextlib import suppress

import click

from agmbench.cli.terminal import echo
from agmbench.cli.verbs import Verb
from agmbench.errors import AgmbenchError

# MLflow's command without its messages: it prints what it does by `click.echo`; errors are logged, so they are still shown
QUIET = "import click; click.echo = lambda *_, **__: None; from mlflow.cli import cli; cli(prog_name='mlflow')"

TRAINING = "?workflowType=machine_learning"  # opens the UI's view for model training; MLflow's default is generative AI
SHOWN = 20  # the largest number of experiments whose addresses are printed


@click.command("ui", cls=Verb)
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on 127.0.0.1.")
def command(port: int) -> None:
    """Open the MLflow UI on this store; only this machine can reach it.

    It prints one address for all data sets, and one for the runs on each data set.
    """
    from agmbench.trackers.mlflow import MlflowTracker

    tracker = MlflowTracker()
    if tracker.uri.startswith(("http://", "https://")):
        raise AgmbenchError(f"the store is a tracking server with a UI of its own: open {tracker.shown}")
    if not tracker.exists():
        raise AgmbenchError(f"no store at {tracker.shown} yet; make one with: agmbench run")
    _check_free(port)
    words = ["-P", "-c", QUIET, "ui", "--host", "127.0.0.1", "--port", str(port)]
    for what in ("BACKEND", "REGISTRY"):  # not as arguments, because they may contain a password, and `ps` shows arguments
        os.environ[f"MLFLOW_{what}_STORE_URI"] = tracker.uri
    os.environ.setdefault("UVICORN_LOG_LEVEL", "warning")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # warnings of MLflow's own imports, which no user can fix
    os.environ["UVICORN_APP_DIR"] = os.path.dirname(os.__file__)  # so that modules are not imported from the working directory
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # a viewer needs no job runner
    echo(f"http://127.0.0.1:{port}/#/experiments{TRAINING} (press Ctrl-C to stop)", err=True)
    for name, number in list(tracker.experiments().items())[:SHOWN]:
        echo(f"  {name}: http://127.0.0.1:{port}/#/experiments/{number}/runs{TRAINING}", err=True)
    os.execv(sys.executable, [sys.executable, *words])


def _check_free(port: int) -> None:
    try:
        _bind(port)
    except OSError as error:
        free = _next_free(port)
        other = f"--port {free} is free" if free else "choose another with --port"
        raise AgmbenchError(f"port {port} cannot be used ({error.strerror}); {other}") from error


def _next_free(port: int) -> int | None:
    """The first port above this one that can be used, of the next hundred."""
    for other in range(port + 1, min(port + 101, 65536)):
        with suppress(OSError):
            _bind(other)
            return other
    return None


def _bind(port: int) -> None:
    """Raise unless the port can be used."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # the server does the same: a port that was closed just now counts as free
        probe.bind(("127.0.0.1", port))
