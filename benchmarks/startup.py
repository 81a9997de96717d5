"""Measures how long the command line takes to answer before it does any work.

    python benchmarks/startup.py

The time is the median of eleven runs of each command in separate processes, after one that is not counted. Target: 0.5 s.
"""

import subprocess
import sys
import time
from statistics import median

COMMANDS = (["--help"], ["list"], ["run", "--help"])


def main() -> None:
    print("| command | median s | target |\n|---|---:|---:|")
    for words in COMMANDS:
        seconds = [timed([sys.executable, "-m", "agmbench", *words]) for _ in range(12)][1:]
        print(f"| agmbench {' '.join(words)} | {median(seconds):.2f} | 0.5 |")


def timed(words: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
