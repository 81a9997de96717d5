"""Which epoch's weights are kept."""

import copy
from collections.abc import Mapping
from typing import Any

from agmbench.contracts import Modulator
from agmbench.model import MultimodalModel
from agmbench.train import Epoch


class Selection:
    """Keeps the weights of one epoch, by a rule: with `valid`, the epoch with the highest rank; with `last`, the last one."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        self.epoch = -1
        self.weights: dict[str, dict[str, Any]] = {}
        self._best = (-float("inf"), -float("inf"))

    def state_dict(self) -> dict[str, Any]:
        """The kept weights with their epoch and rank, for a checkpoint."""
        return {"epoch": self.epoch, "weights": self.weights, "best": self._best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a checkpoint."""
        self.epoch, self.weights, self._best = state["epoch"], state["weights"], tuple(state["best"])

    def check(self, model: MultimodalModel, modulator: Modulator) -> None:
        """Raise `ValueError` unless the kept weights fit these, because they are loaded only at the end of training."""
        shapes = {name: value.shape for name, value in model.state_dict().items()}
        if {name: value.shape for name, value in self.weights["model"].items()} != shapes:
            raise ValueError("its best weights are of another model")
        if self.weights["modulator"].keys() != modulator.state_dict().keys():
            raise ValueError("its best weights are of another modulator")

    def see(self, epoch: Epoch, model: MultimodalModel, modulator: Modulator) -> None:
        """Keep a copy of the weights of model and modulator, if this epoch is the one to select so far."""
        if self.rule == "last" or self.epoch < 0 or epoch.rank > self._best:
            self._best, self.epoch = epoch.rank, epoch.number
            self.weights = copy.deepcopy({"model": model.state_dict(), "modulator": modulator.state_dict()})
