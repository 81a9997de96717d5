"""Trackers: stores of runs behind the seam of `agmbench.records`."""

import os

# read when mlflow is imported: a benchmark reports to nobody, one small file needs no progress bar, and a
# server that does not answer should be reported in seconds, not in minutes
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
