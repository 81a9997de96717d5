"""Compares AGM with joint training on AV-MNIST while one setting at a time is changed; docs/reproduction.md has the results.

    python scripts/gains.py            # train what is missing, with seeds 1 to 3
    python scripts/gains.py --seeds 1  # only the first seed
    python scripts/gains.py table      # the results so far, as Markdown

It asks where AGM gains: at which learning rates (down to the paper's), after how many epochs, at which width of the encoders, at which
alpha, and with shared coalitions. Data, network and store are those of scripts/reproduce.py at scale small. Nothing is tuned here: in each
row, both methods have the same settings. The epoch is chosen on valid. Competition strength is not measured, so no unimodal models are
trained.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import torch
from reproduce import DATA, FUSIONS, RATE, SHARED, Lines, Study, spread

from agmbench import build, jobs, measures
from agmbench.errors import AgmbenchError
from agmbench.execute import execute
from agmbench.records import Record

ALPHA, EPOCHS = "modulator.alpha", "training.epochs"
UNCLIPPED = {"training.clip_norm": None, "training.clip_when": "always"}
WIDE = {"encoder.audio.width": 32, "encoder.image.width": 32}
SHOWN = ("accuracy", "response/audio", "response/image")


@dataclass(frozen=True)
class Setting:
    """One row: what both methods have, and what AGM has besides."""

    title: str
    both: Mapping[str, Any]
    agm: Mapping[str, Any] = field(default_factory=lambda: {ALPHA: 0.1})

    def of(self, method: str) -> Mapping[str, Any]:
        return {**self.both, **(self.agm if method == "agm" else {})}


SETTINGS = (
    Setting("lr .0001 (the paper's)", {RATE: 1e-4}),
    Setting("lr .0003", {RATE: 3e-4}),
    Setting("lr .003", {RATE: 3e-3}),
    Setting("lr .0003, 45 epochs", {RATE: 3e-4, EPOCHS: 45}),
    Setting("lr .0003, width 32", {RATE: 3e-4, **WIDE}),
    Setting("lr .003, width 32", {RATE: 3e-3, **WIDE}),
    Setting("lr .003, alpha .01", {RATE: 3e-3}, {ALPHA: 0.01}),
    Setting("lr .003, alpha .5", {RATE: 3e-3}, {ALPHA: 0.5}),
    Setting("lr .003, shared coalitions", {RATE: 3e-3}, {ALPHA: 0.1, **SHARED}),
    # controls: AGM that hardly modulates, nothing clipped, and joint training whose norm is limited in every step (AGM has a rule itself)
    Setting("lr .0001, alpha .01", {RATE: 1e-4}, {ALPHA: 0.01}),
    Setting("lr .0001, nothing clipped", {RATE: 1e-4, **UNCLIPPED}, {ALPHA: 0.1, "modulator.clip": None}),
    Setting("lr .0001, joint clipped in every step", {RATE: 1e-4, "training.clip_norm": 1, "training.clip_when": "always"}),
)


def spec(study: Study, fusion: str, setting: Setting, method: str, seed: int) -> jobs.JobSpec:
    settings = {**dict(study.given(fusion, method)), **setting.of(method), "seed": seed}
    return jobs.compose(study.known, DATA, method, fusion, settings=settings.items())


def run(study: Study, seeds: int) -> None:
    wanted = measures.of_one_run(study.known)
    for seed in range(1, seeds + 1):
        for setting in SETTINGS:
            for fusion in FUSIONS.values():
                for method in ("joint", "agm"):
                    one = spec(study, fusion, setting, method, seed)
                    execute(one, study.known, study.tracker, build.device("cpu"), Lines(), wanted)


def rows(study: Study, seeds: int) -> Iterator[str]:
    """Yield the lines of a Markdown table of the seeds that both methods have finished."""
    yield "| fusion | setting | n | joint | AGM | AGM - joint | Acc_audio, joint | AGM | Acc_image, joint | AGM |"
    yield f"|---|---|{'---:|' * 8}"
    for name, fusion in FUSIONS.items():
        for setting in SETTINGS:
            pairs = [pair for seed in range(1, seeds + 1) if (pair := found(study, fusion, setting, seed)) is not None]
            if pairs:
                yield f"| {name} | {setting.title} | {len(pairs)} | {' | '.join(cells(pairs))} |"


def cells(pairs: list[tuple[Record, Record]]) -> Iterator[str]:
    """Yield the means, and after those of the accuracy their difference, paired by seed, with half of its 95 % interval."""
    for key in SHOWN:
        joint, agm = ([one.metrics[f"test/{key}"] for one in side] for side in zip(*pairs, strict=True))
        yield from (f"{100 * mean(joint):.2f}", f"{100 * mean(agm):.2f}")
        if key == "accuracy":
            yield spread([after - before for before, after in zip(joint, agm, strict=True)], key)


def found(study: Study, fusion: str, setting: Setting, seed: int) -> tuple[Record, Record] | None:
    """The finished runs of joint training and of AGM with one seed, or None if one of them is missing."""
    specs = (spec(study, fusion, setting, method, seed) for method in ("joint", "agm"))
    joint, agm = (study.tracker.find(build.resolve(one, study.known).digest) for one in specs)
    return None if joint is None or agm is None else (joint, agm)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("table",), help="print the results so far, and train nothing")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 1 to N [default: 3]")
    asked = parser.parse_args()
    torch.set_num_threads(1)  # another number of threads rounds differently, which gives other means
    study = Study("small")
    try:
        build.opened(study.known, DATA, {})  # raises if the data are not here, before anything is written
        if asked.part == "table":
            print("\n".join(rows(study, asked.seeds)))
        else:
            run(study, asked.seeds)
    except AgmbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
