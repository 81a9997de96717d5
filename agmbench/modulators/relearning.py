"""Diagnosing and re-learning (Wei et al., ECCV 2024)."""

import copy
from math import tanh
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor, nn

from agmbench.contracts import Context, Model, Promises, SplitName
from agmbench.modulators.heads import classes, several, vectors
from agmbench.modulators.joint import Joint
from agmbench.tasks import SingleLabel


class Relearning(Joint):
    """Joint training in which encoders are moved back towards their first weights from time to time. They move further, the more the purity
    of their features differs between samples that they have learnt from and new ones.

    At the beginning of epochs `every`, 2 `every`, ..., at most `times` times, the features of m are computed in eval mode, each scaled to
    the range from -1 to 1 on its split, and k-means groups them into as many clusters as there are classes. With purity P the share of
    samples whose class is the most frequent class of their cluster:

        w_m      = tanh( lambda |P_m(train) - P_m(dev)| )
        theta_m <- w_m theta_m(first) + (1 - w_m) theta_m              only parameters of encoder m

    BatchNorm statistics, the fusion and the state of the optimizer stay as they are.

    strength: `lambda`. Official code and ours 3.
    every: after how many epochs each time. Official code and ours 20 (of 90).
    times: how often at most. Official code and ours 3.

    The feature of a sequence is the mean of its tokens; if each segment has a class, each segment counts as a sample. The method needs
    trainings that are longer than `every` epochs; until then it is joint training.

    Official code: the same purities, `w` and weights (its values are in `tests/reference`). It uses a held-out part of its own, ours uses
    dev. It moves weights after epoch 20, ours before the next epoch. More than two modalities are ours.
    """

    promises = Promises(neutral={"strength": 0.0}, puts_back=True, absent=False, weights=True)

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        strength: Annotated[float, Ge(0)] = 3.0,
        every: Annotated[int, Ge(1)] = 20,
        times: Annotated[int, Ge(0)] = 3,
    ) -> None:
        super().__init__(modalities)
        self.strength = strength
        self.every = every
        self.times = times

    def refuses(self, model: Model) -> str | None:
        if not isinstance(model.task, SingleLabel):
            return f"needs classes, to see how pure clusters are; the task of this data set is {type(model.task).__name__}"
        return several(model)

    def prepare(self, context: Context) -> None:
        encoders = context.model.encoders
        self.first = nn.ModuleDict({m: copy.deepcopy(encoders[m]) for m in self.modalities}).requires_grad_(False)

    def begin_epoch(self, context: Context) -> None:
        turn, within = divmod(context.epoch, self.every)
        if within or not 0 < turn <= self.times:
            return
        pure = {name: self.purities(context, name) for name in ("train", "dev")}
        for modality in self.modalities:
            self.take_back(context.model, modality, self.weight(pure["train"][modality], pure["dev"][modality]))

    def weight(self, learnt: float, new: float) -> float:
        """`w`, from the purities on train and on dev."""
        return tanh(self.strength * abs(learnt - new))

    @torch.no_grad()
    def take_back(self, model: Model, modality: str, weight: float) -> None:
        """Move the parameters of an encoder towards their first values, by the share `weight` of the distance."""
        for tensor, first in zip(model.encoders[modality].parameters(), self.first[modality].parameters(), strict=True):
            tensor.copy_(weight * first + (1 - weight) * tensor)

    @torch.no_grad()
    def purities(self, context: Context, name: SplitName) -> dict[str, float]:
        """The purity `P_m` of each modality on a split."""
        model, pieces = context.model, torch.arange(len(context.splits[name])).split(256)
        rows: dict[str, list[Tensor]] = {m: [] for m in self.modalities}
        targets = []
        with model.evaluating():
            for batch in context.batches(name, pieces):
                features = vectors(model, model.encode(batch.inputs, self.modalities))
                for m, kept in rows.items():
                    kept.append(model.task.rows(features[m]).float().cpu())
                targets.append(model.task.rows(batch.targets).cpu())
        labels = torch.cat(targets).numpy()
        return {m: purity(torch.cat(kept).numpy(), labels, classes(model)) for m, kept in rows.items()}


def purity(features: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], clusters: int) -> float:
    """The share of the samples `[N, D]` whose class is the most frequent class of their cluster."""
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import MinMaxScaler

    scaled = MinMaxScaler((-1, 1)).fit_transform(features)
    distinct = len(np.unique(scaled, axis=0))  # there cannot be more clusters than distinct points
    found = KMeans(min(clusters, distinct), random_state=0).fit_predict(scaled)
    return float(sum(np.bincount(labels[found == cluster]).max() for cluster in np.unique(found)) / len(labels))
