"""Checks for both encoders and fusions, of properties on which the engine and the training loop rely."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from agmbench.contracts import Input, Tokens
from agmbench.model import reads_batch_statistics
from agmbench.precision import Precision
from agmbench.testing.checks import BrokenPromise, Skipped
from agmbench.testing.models import SEED, seed

ALONE = 1e-4  # allowed difference between the outputs of a sample alone and in a batch, in units of the largest output
BATCH = 4  # small, so that wide networks are quick

Answer = dict[str, Tensor]


@dataclass(frozen=True)
class Trial:
    """An encoder or fusion for one form of input, with inputs for it. `answers` gives its outputs by name; the first enters the loss."""

    name: str
    make: Callable[[], nn.Module]
    inputs: Mapping[str, Input]
    answers: Callable[[nn.Module, Mapping[str, Input]], Answer]

    def made(self, number: int = SEED) -> nn.Module:
        """A new part in train mode, with weights drawn by this seed."""
        seed(number)
        return self.make().train()

    def __call__(self, part: nn.Module, inputs: Mapping[str, Input] | None = None) -> Answer:
        """The outputs of a part for a copy of the inputs. Dropout draws the same numbers at every call."""
        seed()
        return self.answers(part, copied(self.inputs if inputs is None else inputs))

    def evaluated(self, part: nn.Module, inputs: Mapping[str, Input] | None = None) -> Answer:
        """The outputs of a part in eval mode, without gradient."""
        with torch.no_grad():
            return self(part.eval(), inputs)

    def backward(self, part: nn.Module) -> Answer:
        """The outputs of a part and, as `gradient of NAME`, the gradients of its tensors. The loss is the sum of the first output, weighted
        at random."""
        outputs = self(part)
        first = next(iter(outputs.values()))
        (first * torch.randn(first.shape)).sum().backward()
        return outputs | {f"gradient of {name}": p.grad for name, p in part.named_parameters() if p.grad is not None}


def gradients(trials: Sequence[Trial]) -> str:
    """The check that gradients reach every trainable tensor."""
    reached = 0
    for trial in trials:
        part = trial.made()
        names = [name for name, parameter in part.named_parameters() if parameter.requires_grad]
        if not names:
            continue
        found = trial.backward(part)
        if missing := [name for name in names if f"gradient of {name}" not in found]:
            raise BrokenPromise(
                f"{trial.name}: gradients reach {len(names) - len(missing)} of {len(names)} trainable tensors; "
                f"the first without is {missing[0]}"
            )
        finite(trial.name, found)
        reached += len(names)
    if not reached:
        raise Skipped("has no trainable tensor")
    return f"reach every trainable tensor, {reached} in {forms(trials)}"


def deterministic(trials: Sequence[Trial]) -> str:
    """The check that the same input gives the same output in eval mode."""
    for trial in trials:
        part = trial.made().eval()
        torch.manual_seed(SEED)
        with torch.no_grad():
            one, two = (trial.answers(part, copied(trial.inputs)) for _ in range(2))
        _equal(f"{trial.name}: twice the same input in eval mode", one, two)
    return f"the same output bit by bit for the same input in {forms(trials)}"


def _differences(trial: Trial, part: nn.Module) -> Iterator[float]:
    """The differences between the outputs of each sample alone and in the batch, in units of the largest value. Raises `BrokenPromise` if
    one is larger than `ALONE`."""
    whole = trial.evaluated(part)
    for number in range(BATCH):
        single = trial.evaluated(part, {m: x[number : number + 1] for m, x in trial.inputs.items()})
        for name, value in single.items():
            unit = max(float(whole[name].abs().max()), 1e-12)
            difference = float((value[0] - whole[name][number]).abs().max()) / unit
            if not difference <= ALONE:
                raise BrokenPromise(
                    f"{trial.name}: in eval mode the {name} of a sample alone and in a batch of {BATCH} differ by "
                    f"{difference:.1e} of the largest, allowed {ALONE:.0e}"
                )
            yield difference


def alone(trials: Sequence[Trial]) -> str:
    """The check that a sample does not depend on the rest of its batch in eval mode, on which the engine relies, and that a batch of one
    works."""
    largest, reading = 0.0, 0
    for trial in trials:
        part = trial.made()
        trial(part)  # gives the norms running statistics
        if reads_batch_statistics(part):
            reading += 1
            continue
        largest = max(largest, *_differences(trial, part))
    if reading == len(trials):
        raise Skipped("reads batch statistics in eval mode too: its norms keep no running ones")
    return f"in eval mode alone and in a batch differ by {largest:.1e} at most, allowed {ALONE:.0e}, in {forms(trials)}"


def restored(trials: Sequence[Trial]) -> str:
    """The check that everything on which the output depends is in the `state_dict`."""
    for trial in trials:
        part, other = trial.made(), trial.made(SEED + 1)
        trial(part)  # updates running statistics
        other.load_state_dict(part.state_dict())
        _equal(f"{trial.name}: after its state_dict was loaded into another", trial.evaluated(part), trial.evaluated(other))
    return f"another with its state_dict gives the same bit by bit in {forms(trials)}"


def seeded(trials: Sequence[Trial]) -> str:
    """The check that the first weights only depend on torch's seed."""
    for trial in trials:
        one, two = trial.made().state_dict(), trial.made().state_dict()
        _equal(f"{trial.name}: made twice under the same seed", one, two)
    return f"the same first weights for the same seed in {forms(trials)}"


def untouched(trials: Sequence[Trial]) -> str:
    """The check that inputs are not changed in place."""
    for trial in trials:
        part = trial.made()
        given, before = (copied(trial.inputs) for _ in range(2))
        for mode in (True, False):
            trial.answers(part.train(mode), given)
        changed = [m for m, x in given.items() if not torch.equal(values(x), values(before[m]))]
        if changed:
            raise BrokenPromise(
                f"{trial.name}: changes its input in place, that of {', '.join(changed)}; expected it untouched"
            )
    return f"inputs are not changed in place in {forms(trials)}"


def bf16(trials: Sequence[Trial]) -> str:
    """The check that outputs and gradients are finite under `--precision bf16`."""
    for trial in trials:
        part = trial.made()
        with Precision("bf16", torch.device("cpu")).autocast():
            trains = any(parameter.requires_grad for parameter in part.parameters())
            finite(f"{trial.name} under autocast to bfloat16", trial.backward(part) if trains else trial(part))
    return f"finite outputs and gradients under autocast in {forms(trials)}"


def finite(where: str, found: Mapping[str, Tensor]) -> None:
    """Raise `BrokenPromise` unless every number is finite."""
    for name, value in found.items():
        if count := value.numel() - int(torch.isfinite(value).sum()):
            raise BrokenPromise(f"{where}: {count} of {value.numel()} numbers of the {name} are not finite")


def values(x: Input) -> Tensor:
    """The numbers of an input."""
    return x.values if isinstance(x, Tokens) else x


def with_values(x: Input, new: Tensor) -> Input:
    """The input with other numbers."""
    return Tokens(new, x.mask) if isinstance(x, Tokens) else new


def copied(inputs: Mapping[str, Input]) -> dict[str, Input]:
    """A copy of the inputs, for code that might change them."""
    return {m: with_values(x, values(x).clone()) for m, x in inputs.items()}


def _equal(where: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> None:
    wrong = [name for name in one if not torch.equal(one[name], two[name])]
    if wrong:
        apart = float((one[wrong[0]].double() - two[wrong[0]].double()).abs().max())
        raise BrokenPromise(f"{where}, {len(wrong)} of {len(one)} tensors differ, {wrong[0]} by {apart:.1e}; expected none")


def forms(trials: Sequence[Trial]) -> str:
    """The number of trials, in words."""
    return f"{len(trials)} forms of it" if len(trials) > 1 else "one form of it"


SHARED: Mapping[str, Callable[[Sequence[Trial]], str]] = {
    "gradients": gradients,
    "eval": deterministic,
    "alone": alone,
    "state": restored,
    "seed": seeded,
    "untouched": untouched,
    "bf16": bf16,
}
