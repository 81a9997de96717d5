"""Measures the accuracy of plain scikit-learn models on AV-MNIST's data: on each modality, and on both.

    python scripts/baselines.py                             # avmnist-mini
    python scripts/baselines.py avmnist                     # the prepared folder in $AGMBENCH_DATA
    python scripts/baselines.py avmnist pairing=exact       # with parameters of the data set

avmnist-mini: LogisticRegression on flattened, standardised inputs. Its C is chosen on valid for each row, and test is read once after
that. Figures are means over seeds 1 to 5 (a seed changes which image is paired with which recording).

avmnist: spectrograms are averaged over 4x4 points. The inputs are the whitened principal components of train that hold 95 % of the
variance of each modality. The models are LogisticRegression, and an MLP of 128 units that stops early by a tenth of its training data.
Nothing is chosen on valid.
"""

import sys
from collections.abc import Iterator
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import avg_pool2d

from agmbench import build, registry
from agmbench.contracts import Batch, Dataset, SplitName
from agmbench.datasets.avmnist_mini import AVMNISTMini
from agmbench.jobs import parse_settings

SEEDS = range(1, 6)
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
COALITIONS = (("audio",), ("image",), ("audio", "image"))
EXACT: dict[str, Any] = {"energy": 0.25, "pairing": "exact"}
MINI: dict[str, dict[str, Any]] = {
    "default": {},
    "split=takes energy=0.25 pairing=exact": {"split": "takes", **EXACT},
    "split=speakers energy=0.25 pairing=exact": {"split": "speakers", **EXACT},
}
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")
Arrays = tuple[np.ndarray, np.ndarray]


def main() -> None:
    if sys.argv[1:2] == ["avmnist"]:
        avmnist(sys.argv[2:])
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        mini()


def mini() -> None:
    print("| data | inputs | valid | test |\n|---|---|---:|---:|", flush=True)
    for title, params in MINI.items():
        for modalities in COALITIONS:
            scores = [reached(AVMNISTMini(seed, **params), modalities) for seed in SEEDS]
            cells = [f"{mean(column):.1f} ± {stdev(column):.1f}" for column in zip(*scores, strict=True)]
            print(f"| {title} | {' + '.join(modalities)} | {' | '.join(cells)} |", flush=True)


def avmnist(settings: list[str]) -> None:
    data = build.opened(registry.load(), "avmnist", dict(parse_settings(settings)))
    targets = {name: np.concatenate([batch.targets.numpy() for batch in batches(data, name)]) for name in SPLITS}
    inputs = {modality: components(data, modality) for modality in data.shapes}
    print("| inputs | model | valid | test |\n|---|---|---:|---:|", flush=True)
    for modalities in COALITIONS:
        seen = {name: np.concatenate([inputs[m][name] for m in modalities], axis=1) for name in SPLITS}
        models = {
            "logistic regression": LogisticRegression(max_iter=300),
            "MLP": MLPClassifier(128, early_stopping=True, random_state=0),
        }
        for title, model in models.items():
            model.fit(seen["train"], targets["train"])
            cells = [f"{100 * model.score(seen[name], targets[name]):.1f}" for name in ("valid", "test")]
            print(f"| {' + '.join(modalities)} | {title} | {' | '.join(cells)} |", flush=True)


def components(data: Dataset, modality: str) -> dict[SplitName, np.ndarray]:
    """A modality of each split on its whitened principal components, [N, K]; before that it is reduced to 28x28 points, [N, 784]."""
    small = {
        name: np.concatenate(
            [avg_pool2d(x, x.shape[-1] // 28).flatten(1).numpy() for x in (dense(b, modality) for b in batches(data, name))]
        )
        for name in SPLITS
    }
    kept = PCA(0.95, whiten=True, svd_solver="covariance_eigh").fit(small["train"])
    return {name: kept.transform(x) for name, x in small.items()}


def batches(data: Dataset, name: SplitName) -> Iterator[Batch]:
    split = data.split(name)
    return (split.batch(index) for index in torch.arange(len(split)).split(1000))


def reached(data: AVMNISTMini, modalities: tuple[str, ...]) -> tuple[float, float]:
    """Accuracy in % on valid and on test, with the C that is best on valid."""
    train, valid, test = (arrays(data, name, modalities) for name in SPLITS)
    best = max((fitted(train, strength) for strength in STRENGTHS), key=lambda model: model.score(*valid))
    return 100 * best.score(*valid), 100 * best.score(*test)


def fitted(train: Arrays, strength: float) -> Pipeline:
    """A standardiser and a logistic regression, fitted on train; `strength` is C, the inverse of the regularisation."""
    model: Pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
    return model.fit(*train)


def arrays(data: AVMNISTMini, name: SplitName, modalities: tuple[str, ...]) -> Arrays:
    """Inputs [N, features] and classes [N] of a split."""
    split = data.split(name)
    batch = split.batch(torch.arange(len(split)))
    return np.concatenate([dense(batch, m).flatten(1).numpy() for m in modalities], axis=1), batch.targets.numpy()


def dense(batch: Batch, modality: str) -> torch.Tensor:
    """The input of a modality, which is never a sequence of tokens in these data sets."""
    found = batch.inputs[modality]
    assert isinstance(found, torch.Tensor)
    return found


if __name__ == "__main__":
    main()
