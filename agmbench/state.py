"""Everything that one epoch of training leaves to the next. It is saved in a checkpoint and restored when a job goes on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import torch

from agmbench.contracts import Context
from agmbench.cost import Meter
from agmbench.errors import describe
from agmbench.steplog import StepLog


class Unfit(Exception):
    """Raised for a state that does not fit the training, or is no state."""


@contextmanager
def fitting() -> Iterator[None]:
    """Turn any error inside the block, where a state is restored, into `Unfit`, except lack of memory."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise Unfit(describe(error)) from error


class Part(Protocol):
    """A part of a training that has a state of its own: the model, the optimizer, the schedule ..."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Any) -> Any: ...


class State:
    """The state of a training between two epochs.

    `context` is that of the last trained epoch, `next` the number of the next epoch, and `over` says whether training ends before the
    recipe's last epoch.
    """

    def __init__(self, context: Context, parts: Mapping[str, Part], log: StepLog, meter: Meter, order: torch.Generator) -> None:
        self.context, self.next, self.over = context, 0, False
        self._parts, self._log, self._meter = parts, log, meter
        self._generators = {"order": order, "modulator": context.generator}

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint: plain containers and tensors. Save it at once, because the next epoch changes the tensors."""
        return {
            **{name: part.state_dict() for name, part in self._parts.items()},
            **{"epoch": self.next - 1, "idle": self.over, "steps": self._log.steps, "meter": self._meter.state_dict()},
            "valid_accuracy": dict(self.context.valid_accuracy),
            "valid_loss": dict(self.context.valid_loss),
            "generators": _get_generators(self._generators),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint; raises `Unfit` if it is of another training."""
        with fitting():
            self.next, self.over = state["epoch"] + 1, bool(state["idle"])
            if self.next not in range(1, self.context.epochs + 1):
                raise ValueError(f"it is of epoch {state['epoch']} of {self.context.epochs}")
            accuracy, loss = dict(state["valid_accuracy"]), dict(state["valid_loss"])
            self.context = replace(self.context, valid_accuracy=accuracy, valid_loss=loss)
            self._log.resume(state["steps"])
            self._meter.load_state_dict(state["meter"])
            for name, part in self._parts.items():
                part.load_state_dict(state[name])
            _set_generators(self._generators, state["generators"])


def _get_generators(generators: Mapping[str, torch.Generator]) -> dict[str, Any]:
    """The states of these generators and of torch's own, on the CPU and on every CUDA device."""
    states: dict[str, Any] = {name: generator.get_state() for name, generator in generators.items()}
    return {**states, "torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def _set_generators(generators: Mapping[str, torch.Generator], states: Mapping[str, Any]) -> None:
    for name, generator in generators.items():
        generator.set_state(states[name].cpu())
    torch.set_rng_state(states["torch"].cpu())
    for number, cuda in enumerate(states["cuda"][: torch.cuda.device_count()]):  # there may be fewer devices now
        torch.cuda.set_rng_state(cuda.cpu(), number)
