"""Measures the memory of a training step under each method, as a ratio to joint training of the same model, at AV-MNIST's shapes.

    python benchmarks/memory.py [--device cpu]

Each method runs in its own process. Its memory is the peak resident set over three steps minus the resident set before the first. On
CUDA it is the peak of the allocator minus what was allocated before.
"""

import argparse
import json
import resource
import subprocess
import sys

import torch
from steps import WORKS, stepper

TARGETS = {"agm exact": 2.2, "agm shared": 1.3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--measure", nargs=2, metavar=("WORK", "METHOD"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        work, method = chosen.measure
        print(json.dumps(measured(int(work), method, torch.device(chosen.device))))
        return
    print("| work | method | MiB per step | ratio to joint | target | met |\n|---|---|---:|---:|---|---|")
    for number, work in enumerate(WORKS[:2]):
        joint = elsewhere(number, "joint", chosen.device)
        print(f"| {work.name} | joint | {joint / 2**20:.0f} | 1 | | |", flush=True)
        for method, bound in TARGETS.items():
            peak = elsewhere(number, method, chosen.device)
            met = "yes" if peak <= bound * joint else "NO"
            print(f"| {work.name} | {method} | {peak / 2**20:.0f} | {peak / joint:.2f} | <= {bound} | {met} |", flush=True)


def elsewhere(work: int, method: str, device: str) -> int:
    command = [sys.executable, __file__, "--device", device, "--measure", str(work), method]
    return int(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def measured(work: int, method: str, device: torch.device) -> int:
    """The memory of a step, in bytes."""
    step = stepper(WORKS[work], method, device)
    before = held(device)
    for _ in range(3):
        step()
    return peak(device) - before


def held(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
