"""Counts what the host reads of the device during a training step. With each number that it reads, the step waits.

    python benchmarks/reads.py

`agmbench.testing.waits` counts reads while the real loop trains small models, from the beginning of one optimizer step to that of the
next. The loop itself reads every 64 steps whether its losses are finite.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch

from agmbench import registry
from agmbench.testing.models import MASKED, SOME
from agmbench.testing.waits import counted

WAYS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "agm": [{}, {"coalitions": "shared"}, {"scores": "dev"}],
    **{name: [{}, {"scores": "dev"}] for name in ("agm-1", "agm-ge")},
    **{name: [{}, {"responses": "shapley"}, {"scores": "dev"}] for name in ("ogm", "ogm-ge", "ogm-ge-ra")},
    "opm": [{"starts": 0, **params} for params in ({}, {"responses": "shapley"}, {"scores": "dev"})],
}
CASES = [*(case for case in SOME if case.count < 4), *MASKED]


def main() -> None:
    torch.set_num_threads(1)
    known = registry.builtin()
    print("| modulator | parameters | models | steps | host reads per step | target | met |\n|---|---|---:|---:|---:|---:|---|")
    for name in known.names("modulator"):
        for params in WAYS.get(name, [{}]):
            row(known.get("modulator", name), params)


def row(entry: registry.Entry, params: Mapping[str, Any]) -> None:
    """Print a row of the table: a modulator with some parameters, on all models that it takes, with and without gradient accumulation."""
    models, steps, reads = 0, 0, 0
    for case, accumulate in product(CASES, (1, 2)):
        modulator = entry.load()(case.modalities, **{**entry.params, **params})
        if not modulator.promises.trains or modulator.refuses(case.model()):
            continue
        found = counted(case, modulator, accumulate)
        models, steps, reads = models + (accumulate == 1), steps + found.steps, reads + len(found.reads)
    if steps:
        shown = ", ".join(f"{key}={value}" for key, value in params.items())
        print(
            f"| {entry.name} | {shown} | {models} | {steps} | {reads / steps:.2g} | 0 | {'NO' if reads else 'yes'} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
