"""Keeps someone else's finished run in an MLflow store."""

import json
from pathlib import Path

from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_NAME

from agmbench.errors import AgmbenchError
from agmbench.names import DEPARTURES, DIGEST, IMPORTED, IMPORTED_DIGEST, SETTING, of_split
from agmbench.records import FINISHED, Heading, Point, Record
from agmbench.trackers.tags import tagged, written
from agmbench.trackers.writer import MlflowWriter

SHA256 = f"{IMPORTED}.sha256"
OF_JOBS_HERE = (DIGEST, SETTING)  # tags by which jobs done in this store are found; an imported run must not have them


def adopt(client: MlflowClient, experiment: str, record: Record, folder: Path, sha256: str) -> bool:
    """Keep a run with the files of its folder; returns whether it is new. An earlier import that was not finished is replaced."""
    condition = tagged({IMPORTED: record.source, IMPORTED_DIGEST: record.digest})
    for run in client.search_runs([experiment], condition):
        if run.info.status != FINISHED:
            client.delete_run(run.info.run_id)
        elif run.data.tags[SHA256] == sha256:
            return False
        else:
            raise AgmbenchError(
                f"another result of job {record.digest} was imported from '{record.source}' before; import this one under another --name"
            )
    heading = _heading(record)
    tags = {
        **record.tags,
        **written(heading),
        MLFLOW_SOURCE_NAME: record.source,
        IMPORTED_DIGEST: record.digest,
        SHA256: sha256,
    }
    tags[DEPARTURES] = json.dumps(record.departures)
    kept = {name: value for name, value in tags.items() if name not in OF_JOBS_HERE}
    made = client.create_run(experiment, start_time=record.started, run_name=record.name, tags=kept)
    with MlflowWriter(client, made.info.run_id) as writer:
        writer.describe(heading)
        by_metrics = {of_split("test", name) for one in record.measurements.values() for name in one.values}
        writer.log_points([Point(name, value, 0) for name, value in record.metrics.items() if name not in by_metrics])
        writer.log_measurements(record.measurements.values(), 0)
        writer.log_files(folder)
    client.set_terminated(made.info.run_id, FINISHED, end_time=record.started)  # the duration is not known
    return True


def _heading(record: Record) -> Heading:
    return Heading(
        **{name: getattr(record, name) for name in ("name", "digest", "cell", "spec", "modalities", "concept", "fingerprint")},
        **{name: getattr(record, name) for name in ("task", "selected", "components", "references", "training")},
        departures=record.departures or {},
        samples={},
        tags={},
    )
