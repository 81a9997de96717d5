"""Measures the core-seconds of one job of the default recipe per modulator: processor time of only the training loop, in all threads.

python benchmarks/jobs.py
"""

import time

import torch

from agmbench import build, jobs, registry
from agmbench.execute.evaluation import make_feed
from agmbench.train import train


def main() -> None:
    known = registry.load()
    print(f"{torch.get_num_threads()} threads\n\n| modulator | core-s | wall s | target core-s |\n|---|---:|---:|---:|")
    for name in ("joint", "ogm-ge", "agm", "agm-ge"):
        job = build.resolve(jobs.compose(known, "avmnist-mini", name), known)
        model = build.model(job)
        feed, spec = make_feed(job, torch.device("cpu"), ("train", "dev", "valid")), job.spec
        cores, wall = time.process_time(), time.perf_counter()
        for _ in train(model, build.modulator(job, model), feed, spec.training, spec.seed):
            pass
        print(f"| {name} | {time.process_time() - cores:.1f} | {time.perf_counter() - wall:.1f} | 15 |", flush=True)


if __name__ == "__main__":
    main()
