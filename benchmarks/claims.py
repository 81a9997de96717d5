"""Measures what a claim costs: milliseconds per job, on a SQLite file and on a tracking server.

python benchmarks/claims.py                          # a SQLite file in a temporary folder
python benchmarks/claims.py http://127.0.0.1:5000    # also a server, on which the runs stay
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from mlflow import MlflowClient

from agmbench.records import Heading
from agmbench.trackers.mlflow import MlflowTracker
from agmbench.trackers.places import OnRun

COUNT = 20


def heading() -> Heading:
    """The heading of a job that is new to every store."""
    names = {name: {"name": "none", "params": {}} for name in ("fusion", "modulator")}
    spec = {"dataset": {"name": "claims", "params": {}}, **names, "encoders": {}, "training": {"schedule": {}}}
    digest = uuid4().hex[:16]
    return Heading("a claim", digest, digest, spec, ("a",), False, "f", {"train": 1}, {})


def measured(call: Callable[[], object]) -> str:
    taken = []
    for _ in range(COUNT):
        begun = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - begun))
    return f"{statistics.median(taken):.1f}"


def measure(name: str, tracker: MlflowTracker) -> None:
    known = heading()

    def claimed(of: Heading) -> None:
        with tracker.claim(of, print):
            pass

    def whole() -> None:
        with tracker.start(known):
            pass

    whole()
    first, again = measured(lambda: claimed(heading())), measured(lambda: claimed(known))
    client: MlflowClient = tracker._client
    (run,) = client.search_runs([tracker._experiment("claims")], f"tags.`agmbench.digest` = '{known.digest}'")
    look = measured(lambda: OnRun(client, run.info.run_id).state())
    beat = measured(lambda: OnRun(client, run.info.run_id).beat(0, "0"))
    print(f"| {name} | {first} | {again} | {look} | {beat} | {measured(whole)} |", flush=True)


def main() -> None:
    print(
        f"ms, median of {COUNT}\n\n| store | first claim of a job | a later one | a look | a heartbeat | a run begun and ended |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        measure("a SQLite file", MlflowTracker(Path(folder)))
        for uri in sys.argv[1:]:
            measure("a server", MlflowTracker(Path(folder), uri))


if __name__ == "__main__":
    main()
