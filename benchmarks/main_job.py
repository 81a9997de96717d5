"""Measures the main job as a whole process in an empty folder: wall time and peak memory of a default run and of `make demo`'s commands.

    python benchmarks/main_job.py

Everything is made from scratch: the MLflow store, the references, the plots. Peak memory is the largest resident set of any process.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time

MODULATORS = ("joint", "ogm-ge", "agm", "agm-ge")


def main() -> None:
    print("| work | wall s | target |\n|---|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(f"| default `agmbench run` with its references | {timed(folder, ['run']):.0f} | 90 |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        commands = [["run", "--modulator", name] for name in MODULATORS] + [["compare"]]
        print(f"| `make demo` after installation | {sum(timed(folder, words) for words in commands):.0f} | 300 |", flush=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"\nPeak memory of a process: {peak:.0f} MiB (target: below 2,000). {os.cpu_count()} CPU cores.")


def timed(folder: str, words: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "agmbench", *words], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
