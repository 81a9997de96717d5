"""How the default recipe of avmnist-mini was chosen: validation accuracy over seeds, never the test set.

    python scripts/choose_recipe.py joint        # width, learning rate, batch size: joint training and each concept
    python scripts/choose_recipe.py modulators   # strength alpha of each modulator on that recipe
    python scripts/choose_recipe.py starvation   # what joint training leaves of each modality, by pairing and components
    python scripts/choose_recipe.py repair       # what modulators leave of it, paired as in AV-MNIST's pack

Prints a Markdown table: the best validation accuracy of a job (%), mean over the seeds. The test split is never opened. What joint
training leaves of a modality is the accuracy of its concept less that of its Shapley response in the joint model, at the best epoch
of each.
"""

import itertools
import sys
from collections.abc import Mapping
from statistics import mean
from typing import Any

from agmbench import build, jobs, registry
from agmbench.loading import Feed
from agmbench.train import train

KNOWN = registry.load()
SEEDS = range(5)
RECIPES = {
    "encoder.audio.width": (8, 16),
    "training.lr": (0.05, 0.1, 0.2),
    "training.batch_size": (64,),
}
FEW = range(2)
DATA = [("exact", None), ("pack", 4)]  # pairing, components
REPAIRS: list[tuple[str, float | None]] = [
    ("joint", None),
    ("agm", 0.25),
    ("agm", 1.0),
    ("ogm-ge", 0.2),
    ("opm", None),
    ("mmpareto", None),
]
FUSIONS = {"concat": 0.1, "early": 0.01}  # with the learning rate of docs/study.md
ALPHAS = {
    "agm": (0.25, 0.5, 1.0, 2.0),
    "agm-ge": (0.25, 0.5, 1.0, 2.0),
    "ogm": (0.1, 0.2, 0.4, 0.8),
    "ogm-ge": (0.1, 0.2, 0.4, 0.8),
}


def main() -> None:
    tables = {"joint": joint, "modulators": modulators, "starvation": starvation, "repair": repair}
    if len(sys.argv) != 2 or sys.argv[1] not in tables:
        sys.exit(__doc__)
    tables[sys.argv[1]]()


def joint() -> None:
    row("width", "lr", "batch", "joint", "concept of audio", "concept of image")
    row(*6 * ["---"])
    for width, lr, batch in itertools.product(*RECIPES.values()):
        settings = [(f"encoder.{m}.width", width) for m in ("audio", "image")]
        settings += [("training.lr", lr), ("training.batch_size", batch)]
        found = {name: [] for name in ("joint", "audio", "image")}
        for seed in SEEDS:
            job = job_of(*settings, ("seed", seed))
            found["joint"].append(best(job))
            for modality, concept in build.concepts(job).items():
                found[modality].append(best(build.resolve(concept, KNOWN)))
        row(width, lr, batch, *(f"{mean(values):.2f}" for values in found.values()))


def modulators() -> None:
    row("modulator", "alpha", "valid")
    row(*3 * ["---"])
    for name, alpha in [("joint", None), *((name, alpha) for name, alphas in ALPHAS.items() for alpha in alphas)]:
        settings = [("modulator.alpha", alpha)] if alpha is not None else []
        results = [best(job_of(*settings, ("seed", seed), modulator=name)) for seed in SEEDS]
        row(name, alpha, f"{mean(results):.2f}")


def starvation() -> None:
    row("pairing", "components", "fusion", "joint", "concepts", "Acc_m", "concept - Acc_m")
    row(*7 * ["---"])
    for (pairing, components), (fusion, lr) in itertools.product(DATA, FUSIONS.items()):
        settings = [("dataset.split", "takes"), ("dataset.pairing", pairing), ("dataset.components", components)]
        accuracies, concepts, within = [], {"audio": [], "image": []}, {"audio": [], "image": []}
        for seed in FEW:
            job = job_of(*settings, ("training.lr", lr), ("seed", seed), fusion=fusion)
            reached = followed(job)
            accuracies.append(100 * reached["accuracy"])
            for modality, concept in build.concepts(job).items():
                concepts[modality].append(best(build.resolve(concept, KNOWN)))
                within[modality].append(100 * reached[f"response/{modality}"])
        lost = {m: [alone - left for alone, left in zip(concepts[m], within[m], strict=True)] for m in concepts}
        shown = [", ".join(f"{m} {mean(values):.1f}" for m, values in found.items()) for found in (concepts, within, lost)]
        row(pairing, components, fusion, f"{mean(accuracies):.1f}", *shown)


def repair() -> None:
    row("modulator", "alpha", "valid", "Acc_audio", "Acc_image")
    row(*5 * ["---"])
    pack = [("dataset.split", "takes"), ("dataset.pairing", "pack"), ("dataset.components", 4)]
    for name, alpha in REPAIRS:
        settings = [*pack, ("modulator.alpha", alpha)] if alpha is not None else pack
        reached = [followed(job_of(*settings, ("seed", seed), modulator=name)) for seed in FEW]
        keys = ("accuracy", "response/audio", "response/image")
        row(name, alpha, *(f"{100 * mean(valid[key] for valid in reached):.1f}" for key in keys))


def row(*cells: object) -> None:
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def job_of(*settings: tuple[str, Any], **names: str) -> build.Job:
    """A job on avmnist-mini."""
    return build.resolve(jobs.compose(KNOWN, "avmnist-mini", settings=settings, **names), KNOWN)


def best(job: build.Job) -> float:
    """The best validation accuracy of a job, in %."""
    return 100 * followed(job)["accuracy"]


def followed(job: build.Job) -> Mapping[str, float]:
    """What validation says of a job at its most accurate epoch."""
    model = build.model(job)
    splits = {name: job.dataset.split(name) for name in ("train", "dev", "valid")}
    epochs = train(model, build.modulator(job, model), Feed(splits, build.device("cpu")), job.spec.training, job.spec.seed)
    return max((epoch.valid for epoch in epochs), key=lambda valid: valid["accuracy"])


if __name__ == "__main__":
    main()
