"""Trackers: stores of runs, which implement the interfaces of `agmbench.records`."""

import os

# mlflow reads these when it is imported: agmbench sends no telemetry, small files need no progress bar, and a
# server that does not answer should be reported within seconds, not minutes
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
