"""Shows how the defaults of avmnist-mini were chosen: by validation accuracy over seeds, never by the test set.

    python scripts/choose_recipe.py starvation concat   # what joint training loses of each modality, by pairing and components
    python scripts/choose_recipe.py starvation early    # the same under early fusion
    python scripts/choose_recipe.py rates        # learning rate of joint training under both fusions
    python scripts/choose_recipe.py joint        # width, learning rate, batch size: joint training and each unimodal model
    python scripts/choose_recipe.py modulators   # strength alpha of each modulator on that recipe
    python scripts/choose_recipe.py modulators dataset.pairing=exact   # the last two on other data, with settings as in --set
    python scripts/choose_recipe.py repair       # the accuracy of each modality under several modulators

Prints a Markdown table with the best validation accuracy of a job (%), averaged over the seeds. The test split is never opened. The loss
of a modality is the accuracy of its unimodal model minus that of its Shapley response in the joint model, each at its best epoch.
"""

import itertools
import sys
from collections.abc import Mapping
from math import sqrt
from statistics import mean, stdev
from typing import Any

from agmbench import build, jobs, registry
from agmbench.execute.evaluation import make_feed
from agmbench.jobs import parse_settings
from agmbench.train import train

Settings = list[tuple[str, Any]]
KNOWN = registry.load()
SEEDS = range(5)
RECIPES = {
    "encoder.audio.width": (8, 16),
    "training.lr": (0.05, 0.1, 0.2),
    "training.batch_size": (64,),
}
FEW = range(2)
DATA = [("pack", 4), ("exact", 3), ("exact", 20)]  # pairing, components
RATES = {"concat": (0.2, 0.1, 0.03, 0.01), "early": (0.1, 0.03, 0.01, 0.003)}
REPAIRS: list[tuple[str, float | None]] = [
    ("joint", None),
    ("agm", 0.25),
    ("agm", 1.0),
    ("ogm-ge", 0.2),
    ("opm", None),
    ("mmpareto", None),
]
FUSIONS = {"concat": 0.1, "early": 0.01}  # each fusion with its learning rate in docs/study.md
ALPHAS = {
    "agm": (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0),
    "agm-ge": (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0),
    "ogm": (0.025, 0.05, 0.1, 0.2, 0.4, 0.8),
    "ogm-ge": (0.025, 0.05, 0.1, 0.2, 0.4, 0.8),
}


def main() -> None:
    match sys.argv[1:]:
        case ["joint", *settings]:
            joint(parse_settings(settings))
        case ["modulators", *settings]:
            modulators(parse_settings(settings))
        case ["starvation", fusion] if fusion in FUSIONS:
            starvation(fusion)
        case ["rates"]:
            rates()
        case ["repair"]:
            repair()
        case _:
            sys.exit(__doc__)


def joint(data: Settings) -> None:
    row("width", "lr", "batch", "joint", "concept of audio", "concept of image")
    row(*6 * ["---"])
    for width, lr, batch in itertools.product(*RECIPES.values()):
        settings = [*data, *((f"encoder.{m}.width", width) for m in ("audio", "image"))]
        settings += [("training.lr", lr), ("training.batch_size", batch)]
        found: dict[str, list[float]] = {name: [] for name in ("joint", "audio", "image")}
        for seed in SEEDS:
            job = job_of(*settings, ("seed", seed))
            found["joint"].append(best(job))
            for modality, concept in build.concepts(job).items():
                found[modality].append(best(build.resolve(concept, KNOWN)))
        row(width, lr, batch, *(f"{mean(values):.2f}" for values in found.values()))


def modulators(data: Settings) -> None:
    row("modulator", "alpha", "valid", "standard error")
    row(*4 * ["---"])
    for name, alpha in [("joint", None), *((name, alpha) for name, alphas in ALPHAS.items() for alpha in alphas)]:
        settings = [*data, *([("modulator.alpha", alpha)] if alpha is not None else [])]
        results = [best(job_of(*settings, ("seed", seed), modulator=name)) for seed in SEEDS]
        row(name, alpha, f"{mean(results):.2f}", f"{stdev(results) / sqrt(len(results)):.2f}")


def starvation(fusion: str) -> None:
    row("pairing", "components", "joint", "concepts", "Acc_m", "concept - Acc_m")
    row(*6 * ["---"])
    for pairing, components in DATA:
        settings = [("dataset.pairing", pairing), ("dataset.components", components), ("training.lr", FUSIONS[fusion])]
        accuracies = list[float]()
        concepts: dict[str, list[float]] = {"audio": [], "image": []}
        within: dict[str, list[float]] = {"audio": [], "image": []}
        for seed in FEW:
            job = job_of(*settings, ("seed", seed), fusion=fusion)
            reached = followed(job)
            accuracies.append(100 * reached["accuracy"])
            for modality, concept in build.concepts(job).items():
                concepts[modality].append(best(build.resolve(concept, KNOWN)))
                within[modality].append(100 * reached[f"response/{modality}"])
        lost = {m: [alone - left for alone, left in zip(concepts[m], within[m], strict=True)] for m in concepts}
        shown = [", ".join(f"{m} {mean(values):.1f}" for m, values in found.items()) for found in (concepts, within, lost)]
        row(pairing, components, f"{mean(accuracies):.1f}", *shown)


def rates() -> None:
    row("fusion", "lr", "joint")
    row(*3 * ["---"])
    for fusion, values in RATES.items():
        for lr in values:
            results = [best(job_of(("training.lr", lr), ("seed", seed), fusion=fusion)) for seed in FEW]
            row(fusion, lr, f"{mean(results):.1f}")


def repair() -> None:
    row("modulator", "alpha", "valid", "Acc_audio", "Acc_image")
    row(*5 * ["---"])
    for name, alpha in REPAIRS:
        settings = [("modulator.alpha", alpha)] if alpha is not None else []
        reached = [followed(job_of(*settings, ("seed", seed), modulator=name)) for seed in FEW]
        keys = ("accuracy", "response/audio", "response/image")
        row(name, alpha, *(f"{100 * mean(valid[key] for valid in reached):.1f}" for key in keys))


def row(*cells: object) -> None:
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def job_of(*settings: tuple[str, Any], modulator: str = "joint", fusion: str | None = None) -> build.Job:
    """A job on avmnist-mini."""
    return build.resolve(jobs.compose(KNOWN, "avmnist-mini", modulator=modulator, fusion=fusion, settings=settings), KNOWN)


def best(job: build.Job) -> float:
    """The best validation accuracy of a job, in %."""
    return 100 * followed(job)["accuracy"]


def followed(job: build.Job) -> Mapping[str, float]:
    """Train a job, and return its validation metrics at its most accurate epoch."""
    model = build.model(job)
    feed = make_feed(job, build.device("cpu"), ("train", "dev", "valid"))
    epochs = train(model, build.modulator(job, model), feed, job.spec.training, job.spec.seed)
    return max((epoch.valid for epoch in epochs), key=lambda valid: valid["accuracy"])


if __name__ == "__main__":
    main()
