"""What a job will need, before it is trained: parameters, FLOPs, and an estimate of time and memory from a few small steps."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from agmbench import build
from agmbench.contracts import SPLITS, Modulator
from agmbench.cost import FORMULAS
from agmbench.model import MultimodalModel
from agmbench.modulators.joint import Joint

TRIED = 32  # samples of a tried step, at most
TIMES, LONG = 3, 0.5  # how often a step is timed, unless these take so many seconds


@dataclass(frozen=True)
class Forecast:
    """What a job will need.

    parameters: numbers that are learnt or kept, by part.   samples: by split.   tried: samples of the steps that were tried.
    flops: of a training step of `batch` samples.   seconds: of the training steps of all epochs, without validation.
    memory: bytes of weights, gradients, the optimizer's state, and what the forward pass of a batch keeps for the backward pass.
    own: whether the method's own step was tried; one that needs a preparation is taken for joint training.
    """

    parameters: Mapping[str, int]
    samples: Mapping[str, int]
    batch: int
    tried: int
    flops: float
    seconds: float
    memory: float
    own: bool


def forecast(job: build.Job, device: torch.device) -> Forecast:
    """Build the job, and take training steps of a few samples: one that is counted, and a few that are timed."""
    samples: dict[str, int] = {name: len(job.dataset.split(name)) for name in SPLITS}
    recipe = job.spec.training
    model = build.model(job).to(device).train()
    modulator = build.modulator(job, model).to(device)
    count = max(1, min(TRIED, recipe.batch_size, samples["train"]))
    batch = job.dataset.split("train").batch(torch.arange(count)).to(device)
    kept = _Kept({tensor.untyped_storage().data_ptr() for tensor in model.parameters()})
    own = True
    try:
        flops = _counted(modulator, model, batch, kept)
    except Exception:  # a method may need what only training gives it
        own, modulator = False, Joint(job.modalities)
        kept.clear()
        flops = _counted(modulator, model, batch, kept)
    seconds = _timed(modulator, model, batch, device)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    share = min(recipe.batch_size, samples["train"]) / count
    return Forecast(
        {**_parameters(model), **({"modulator": size} if (size := _size(modulator)) else {})},
        samples,
        round(share * count),
        count,
        flops * share,
        seconds / count * samples["train"] * recipe.epochs,
        weights * (2 + _states(recipe)) + kept.bytes * share,
        own,
    )


def _counted(modulator: Modulator, model: MultimodalModel, batch: Any, kept: "_Kept") -> float:
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter, saved_tensors_hooks(kept.keep, _same):
        _step(modulator, model, batch)
    return float(counter.get_total_flops())


def _timed(modulator: Modulator, model: MultimodalModel, batch: Any, device: torch.device) -> float:
    """Seconds of a step: the least of a few, for other processes only make it longer."""
    taken: list[float] = []
    while len(taken) < TIMES and sum(taken) < LONG:
        _wait(device)
        begun = time.perf_counter()
        _step(modulator, model, batch)
        _wait(device)
        taken.append(time.perf_counter() - begun)
    return min(taken)


def _step(modulator: Modulator, model: MultimodalModel, batch: Any) -> None:
    for _ in modulator.steps(model, [batch]):
        model.zero_grad(set_to_none=True)
        modulator.zero_grad(set_to_none=True)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Kept:
    """Bytes of the tensors that a forward pass keeps for its backward pass, each storage once, weights aside."""

    def __init__(self, weights: set[int]) -> None:
        self.weights, self.sizes = weights, dict[int, int]()

    def keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.weights:
            self.sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    def clear(self) -> None:
        self.sizes.clear()

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _parameters(model: MultimodalModel) -> dict[str, int]:
    return {**{modality: _size(encoder) for modality, encoder in model.encoders.items()}, "fusion": _size(model.fusion)}


def _size(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.parameters())


def _states(recipe: Any) -> int:
    """How many tensors as large as the weights the optimizer keeps: one of momentum, two of Adam and what derives from it."""
    return int(recipe.momentum > 0) if recipe.optimizer == "sgd" else 2
