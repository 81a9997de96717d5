"""What a plain logistic regression reaches on avmnist-mini: on each modality, and on both.

    python scripts/baselines.py

Scikit-learn's LogisticRegression on flattened, standardised inputs; its C is chosen on valid for each row, then test is read
once. Mean over seeds 1 to 5 (a seed changes which image goes with which recording).
"""

from statistics import mean, stdev

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from agmbench.datasets.avmnist_mini import AVMNISTMini

SEEDS = range(1, 6)
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
Arrays = tuple[np.ndarray, np.ndarray]


def main() -> None:
    print("| split | inputs | valid | test |\n|---|---|---:|---:|", flush=True)
    for split in ("speakers", "takes"):
        for modalities in (("audio",), ("image",), ("audio", "image")):
            scores = [reached(AVMNISTMini(seed, split=split), modalities) for seed in SEEDS]
            cells = [f"{mean(column):.1f} ± {stdev(column):.1f}" for column in zip(*scores, strict=True)]
            print(f"| {split} | {' + '.join(modalities)} | {' | '.join(cells)} |", flush=True)


def reached(data: AVMNISTMini, modalities: tuple[str, ...]) -> tuple[float, float]:
    """Accuracy in % on valid and on test, with the C that is best on valid."""
    train, valid, test = (arrays(data, name, modalities) for name in ("train", "valid", "test"))
    best = max((fitted(train, strength) for strength in STRENGTHS), key=lambda model: model.score(*valid))
    return 100 * best.score(*valid), 100 * best.score(*test)


def fitted(train: Arrays, strength: float) -> Pipeline:
    """A standardiser and a logistic regression of inverse regularisation C."""
    model: Pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
    return model.fit(*train)


def arrays(data: AVMNISTMini, name: str, modalities: tuple[str, ...]) -> Arrays:
    """Inputs [N, features] and classes [N] of a split."""
    split = data.split(name)
    batch = split.batch(torch.arange(len(split)))
    return np.concatenate([batch.inputs[m].flatten(1).numpy() for m in modalities], axis=1), batch.targets.numpy()


if __name__ == "__main__":
    main()
