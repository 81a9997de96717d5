"""Measures what launchers cost: the time of a suite of equal jobs, against the time of only their training on as many cores.

python benchmarks/launchers.py --epochs 240     # 16 jobs of a minute on 2 cores through each launcher that can be started here
python benchmarks/launchers.py --calls          # what one job asks of the store: calls, their time, the size of its artifacts
python benchmarks/launchers.py --jobs 8 --epochs 20 --launcher local

Slurm (root; apt-get install slurm-wlm munge) and Ray (pip install 'agmbench[ray]') are started here, as the tests start them.

A job is a unimodal model of avmnist-mini with one thread, so that no job needs another. Its cost is the median time from the start to the
end of its run. Ideal is jobs x cost / cores; start-up, until the first run starts, is left out.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # clusters.py
os.environ["OMP_NUM_THREADS"] = "1"

import mlflow

from agmbench import build, registry, suite
from agmbench.jobs import compose
from agmbench.launch import Launcher
from agmbench.trackers.mlflow import MlflowTracker
from agmbench.work import job as work

CORES = 2


def jobs(count: int, epochs: int) -> list[build.Job]:
    """`count` jobs of unimodal models, with as many seeds as needed."""
    known, found = registry.load(), list[build.Job]()
    for seed in range(1, count + 1):
        spec = compose(known, "avmnist-mini", "joint", settings=[("seed", seed), ("training.epochs", epochs)])
        found += build.references(build.resolve(spec, known)).values()
    return found[:count]


@contextmanager
def launchers(name: str, folder: Path) -> Iterator[Launcher]:
    """A launcher on two cores. If it needs a cluster, the cluster runs inside the `with` block."""
    entry = registry.load().get("launcher", name)
    params: dict[str, Any] = {"jobs": CORES}
    if name == "local":
        yield entry.load()(folder, "bench", **params)
        return
    import clusters  # type: ignore[import-not-found]

    cluster = clusters.Slurm() if name == "slurm" else clusters.Ray({})
    try:
        if name == "slurm":
            os.environ.update(cluster.environment)
        params |= {"poll": 1} if name == "slurm" else {"address": cluster.address}
        launcher = entry.load()(folder, "bench", **params)
        launcher.check()
        yield launcher
    finally:
        cluster.stop()


def measured(name: str, asked: argparse.Namespace) -> str:
    """Run the jobs through a launcher, and return its row of the table."""
    with tempfile.TemporaryDirectory() as scratch, chdir(scratch), launchers(name, Path("logs")) as launcher:
        tracker = MlflowTracker()
        sent, begun = suite.Todo([jobs(asked.jobs, asked.epochs)]), time.time()
        reasons = [ended.reason for ended in suite.run("launchers", sent, tracker, launcher, Path("jobs")) if ended.reason]
        assert not reasons, reasons
        over = time.time()
        client = mlflow.MlflowClient(tracker.uri)
        (experiment,) = (one for one in client.search_experiments() if one.name == "avmnist-mini")
        runs = [run.info for run in client.search_runs([experiment.experiment_id], "tags.`agmbench.digest` != ''")]
        cost = statistics.median((run.end_time - run.start_time) / 1000 for run in runs)
        first = min(run.start_time for run in runs) / 1000
        ideal = len(runs) * cost / CORES
        return (
            f"| {name} | {len(runs)} | {first - begun:.1f} | {cost:.1f} | {over - first:.1f} | {ideal / (over - first):.2f} |"
        )


def calls(epochs: int) -> None:
    """Print which methods of MLflow's client one job calls, how often and how long."""
    counts: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)

    def counting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def called(*words: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            try:
                return method(*words, **named)
            finally:
                counts[name] += 1
                seconds[name] += time.perf_counter() - begun

        return called

    for name, method in list(vars(mlflow.MlflowClient).items()):
        if not name.startswith("_") and callable(method):
            setattr(mlflow.MlflowClient, name, counting(name, method))
    import yaml

    with tempfile.TemporaryDirectory() as scratch, chdir(scratch):
        for one in jobs(2, epochs):  # the first makes the store and the experiment
            counts.clear()
            seconds.clear()
            begun = time.perf_counter()
            with redirect_stdout(sys.stderr):
                work(yaml.safe_dump({"spec": one.spec.canonical()}))
            took = time.perf_counter() - begun
        size = sum(path.stat().st_size for path in Path("runs/artifacts").rglob("*") if path.is_file()) / 2
    print(
        f"one job, {epochs} epochs, {took:.1f} s; artifacts {size / 2**20:.2f} MiB\n\n| call | times | ms each |\n|---|---:|---:|"
    )
    for name in sorted(counts, key=lambda name: -counts[name]):
        print(f"| {name} | {counts[name]} | {1000 * seconds[name] / counts[name]:.1f} |")
    print(f"| all | {sum(counts.values())} | {1000 * sum(seconds.values()) / sum(counts.values()):.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--launcher", action="append", choices=("local", "slurm", "ray"))
    parser.add_argument("--calls", action="store_true")
    asked = parser.parse_args()
    if asked.calls:
        calls(asked.epochs)
        return
    print("| launcher | jobs | start-up s | cost of a job s | the rest s | of the ideal |\n|---|---:|---:|---:|---:|---:|")
    for name in asked.launcher or ("local", "slurm", "ray"):
        try:
            print(measured(name, asked), flush=True)
        except BaseException as reason:
            if type(reason).__name__ != "Skipped":  # raised by pytest.skip if the cluster is not installed
                raise
            print(f"{name}: {reason}", flush=True)


if __name__ == "__main__":
    main()
