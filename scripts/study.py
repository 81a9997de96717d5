"""The study of README and docs/study.md: methods on avmnist-mini under late and early fusion, exact and shared coalitions, five seeds.

    python scripts/study.py [--seeds 5] [--set dataset.split=speakers ...]

One process, one job after another, into the store of the working directory; what is done already is not trained again.
`agmbench compare --dataset avmnist-mini` and `--cost` show the tables afterwards.
"""

import argparse

import torch

from agmbench import build, jobs, registry
from agmbench.execute import execute
from agmbench.records import Record
from agmbench.trackers.mlflow import MlflowTracker
from agmbench.train import Epoch

Settings = tuple[tuple[str, str | float], ...]
SHARED: Settings = (("modulator.coalitions", "shared"),)
RECIPES: dict[str, Settings] = {
    "concat": (),
    "early": (("training.lr", 0.01),),
}  # the best for joint training on valid, see docs
METHODS: dict[str, list[tuple[str, Settings]]] = {
    "concat": [("joint", ()), ("agm", ()), ("agm", SHARED), ("ogm-ge", ()), ("agm-ge", ()), ("ensemble", ()), ("unimodal", ())],
    "early": [("joint", ()), ("agm", ()), ("agm", SHARED)],
}


class Lines:
    """One line a trained job."""

    def started(self, name: str, epochs: int, done: int) -> None: ...
    def warned(self, text: str) -> None: ...
    def epoch(self, epoch: Epoch) -> None: ...
    def finished(self, record: Record, trained: bool) -> None:
        if trained:
            print(f"{record.name}: {record.metrics['test/accuracy']:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as of agmbench run, of every job; repeatable"
    )
    asked = parser.parse_args()
    given = jobs.parse_settings(asked.set)
    torch.set_num_threads(1)  # another number is another rounding, and other means
    known, tracker = registry.load(), MlflowTracker()
    for seed in range(1, asked.seeds + 1):
        for fusion, methods in METHODS.items():
            for name, settings in methods:
                wanted = [*RECIPES[fusion], *settings, *given, ("seed", seed)]
                spec = jobs.compose(known, "avmnist-mini", name, fusion, settings=wanted)
                execute(spec, known, tracker, build.device("cpu"), Lines())


if __name__ == "__main__":
    main()
