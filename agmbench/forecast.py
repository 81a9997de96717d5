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

TRIED = 32  # the largest number of samples in a tried step
TIMES, LONG = 3, 0.5  # how often a step is timed, and after how many seconds in total no further one is


@dataclass(frozen=True)
class Forecast:
    """What a job will need.

    parameters: the number of parameters, by part.   samples: their number, by split.   tried: the number of samples in a tried step.
    flops: those of a training step of `batch` samples.   seconds: the time of all training steps of all epochs, without validation.
    memory: the bytes of weights, gradients, the optimizer's state, and what the forward pass of a batch keeps for the backward pass.
    own: whether the method's own step was tried; for a method that needs preparation, a step of joint training is tried instead.
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
    """Build the job and take training steps with a few samples: the FLOPs of one step are counted, and a few further steps are timed."""
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
    except Exception:  # a method may need something that only training provides
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
    """The seconds of a step: the smallest of a few times, because other processes only make a step slower."""
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
    """Counts the bytes of the tensors that a forward pass keeps for its backward pass, each storage once, without the weights."""

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
    """How many tensors of the size of the weights the optimizer keeps: SGD keeps one with momentum and none without, others keep two."""
    return int(recipe.momentum > 0) if recipe.optimizer == "sgd" else 2
