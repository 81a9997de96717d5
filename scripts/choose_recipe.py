"""How the default recipe of avmnist-mini was chosen: validation accuracy over seeds, never the test set.

    python scripts/choose_recipe.py joint        # width, learning rate, batch size: joint training and each concept
    python scripts/choose_recipe.py modulators   # strength alpha of each modulator on that recipe

Prints a Markdown table: the best validation accuracy of a job (%), mean over the seeds. The test split is never opened.
"""

import itertools
import sys
from statistics import mean

from agmbench import build, jobs, registry
from agmbench.loading import Feed
from agmbench.train import train

SEEDS = range(5)
RECIPES = {
    "encoder.audio.width": (8, 16),
    "training.lr": (0.05, 0.1, 0.2),
    "training.batch_size": (64,),
}
ALPHAS = {
    "agm": (0.25, 0.5, 1.0, 2.0),
    "agm-ge": (0.25, 0.5, 1.0, 2.0),
    "ogm": (0.1, 0.2, 0.4, 0.8),
    "ogm-ge": (0.1, 0.2, 0.4, 0.8),
}


def main() -> None:
    known = registry.load()
    if sys.argv[1:] == ["joint"]:
        print("| width | lr | batch | joint | concept of audio | concept of image |\n|" + "---|" * 6, flush=True)
        for width, lr, batch in itertools.product(*RECIPES.values()):
            settings = [(f"encoder.{m}.width", width) for m in ("audio", "image")]
            settings += [("training.lr", lr), ("training.batch_size", batch)]
            found = {name: [] for name in ("joint", "audio", "image")}
            for seed in SEEDS:
                job = build.resolve(jobs.compose(known, "avmnist-mini", settings=[*settings, ("seed", seed)]), known)
                found["joint"].append(best(job))
                for modality, concept in build.concepts(job).items():
                    found[modality].append(best(build.resolve(concept, known)))
            print(
                "|",
                " | ".join([str(width), str(lr), str(batch), *(f"{mean(values):.2f}" for values in found.values())]),
                "|",
                flush=True,
            )
    elif sys.argv[1:] == ["modulators"]:
        print("| modulator | alpha | valid |\n|" + "---|" * 3, flush=True)
        for name, alpha in [("joint", None), *((name, alpha) for name, alphas in ALPHAS.items() for alpha in alphas)]:
            settings = [("modulator.alpha", alpha)] if alpha is not None else []
            results = [
                best(build.resolve(jobs.compose(known, "avmnist-mini", name, settings=[*settings, ("seed", seed)]), known))
                for seed in SEEDS
            ]
            print("|", " | ".join([name, str(alpha), f"{mean(results):.2f}"]), "|", flush=True)
    else:
        sys.exit(__doc__)


def best(job: build.Job) -> float:
    """The best validation accuracy of a job, in %."""
    model = build.model(job)
    splits = {name: job.dataset.split(name) for name in ("train", "dev", "valid")}
    epochs = train(model, build.modulator(job, model), Feed(splits, build.device("cpu")), job.spec.training, job.spec.seed)
    return 100 * max(epoch.valid["accuracy"] for epoch in epochs)


if __name__ == "__main__":
    main()
