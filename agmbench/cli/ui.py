"""`agmbench ui`."""

import os
import sys

import click

from agmbench.errors import AgmbenchError


@click.command("ui")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on 127.0.0.1.")
def command(port: int) -> None:
    """Open the MLflow UI on this store, for this machine alone."""
    from agmbench.trackers.mlflow import MlflowTracker

    tracker = MlflowTracker()
    if tracker.uri.startswith(("http://", "https://")):
        raise AgmbenchError(f"the store is a tracking server with a UI of its own: open {tracker.shown}")
    if not tracker.exists():
        raise AgmbenchError(f"no store at {tracker.shown} yet; make one with: agmbench run")
    words = ["-m", "mlflow", "ui", "--backend-store-uri", tracker.uri, "--host", "127.0.0.1", "--port", str(port)]
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # a viewer needs no job runner
    click.echo(f"http://127.0.0.1:{port} (Ctrl-C ends it)", err=True)
    os.execv(sys.executable, [sys.executable, *words])
