"""What encoders and fusions are both held to, as the engine and the loop rely on it."""

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

ALONE = 1e-4  # what a sample makes alone and in a batch: largest difference, in units of the largest output
BATCH = 4  # small, so that parts of full width are quick

Answer = dict[str, Tensor]


@dataclass(frozen=True)
class Trial:
    """A part made in one way, with inputs for it. `answers` gives its outputs by name; the first is what a loss sees."""

    name: str
    make: Callable[[], nn.Module]
    inputs: Mapping[str, Input]
    answers: Callable[[nn.Module, Mapping[str, Input]], Answer]

    def made(self, number: int = SEED) -> nn.Module:
        """A fresh one in train mode, with the weights that this seed gives."""
        seed(number)
        return self.make().train()

    def __call__(self, part: nn.Module, inputs: Mapping[str, Input] | None = None) -> Answer:
        """Its outputs, for a copy of the inputs; dropout draws the same at every call."""
        seed()
        return self.answers(part, copied(self.inputs if inputs is None else inputs))

    def evaluated(self, part: nn.Module, inputs: Mapping[str, Input] | None = None) -> Answer:
        """Its outputs in eval mode."""
        with torch.no_grad():
            return self(part.eval(), inputs)

    def backward(self, part: nn.Module) -> Answer:
        """Its outputs, and as `gradient of NAME` those of its tensors, for a loss that weighs each number of the first by chance."""
        outputs = self(part)
        first = next(iter(outputs.values()))
        (first * torch.randn(first.shape)).sum().backward()
        return outputs | {f"gradient of {name}": p.grad for name, p in part.named_parameters() if p.grad is not None}


def gradients(trials: Sequence[Trial]) -> str:
    """They reach every trainable tensor."""
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
    """In eval mode the same input makes the same output."""
    for trial in trials:
        part = trial.made().eval()
        torch.manual_seed(SEED)
        with torch.no_grad():
            one, two = (trial.answers(part, copied(trial.inputs)) for _ in range(2))
        _equal(f"{trial.name}: twice the same input in eval mode", one, two)
    return f"the same output bit by bit for the same input in {forms(trials)}"


def _differences(trial: Trial, part: nn.Module) -> Iterator[float]:
    """Between each value of each sample alone and in the batch, in units of the largest."""
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
    """In eval mode a sample does not depend on the rest of its batch, on which the engine relies; a batch of one will do."""
    largest, reading = 0.0, 0
    for trial in trials:
        part = trial.made()
        trial(part)  # running statistics of its own
        if reads_batch_statistics(part):
            reading += 1
            continue
        largest = max(largest, *_differences(trial, part))
    if reading == len(trials):
        raise Skipped("reads batch statistics in eval mode too: its norms keep no running ones")
    return f"in eval mode alone and in a batch differ by {largest:.1e} at most, allowed {ALONE:.0e}, in {forms(trials)}"


def restored(trials: Sequence[Trial]) -> str:
    """What makes its output is in its `state_dict`."""
    for trial in trials:
        part, other = trial.made(), trial.made(SEED + 1)
        trial(part)  # moves running statistics
        other.load_state_dict(part.state_dict())
        _equal(f"{trial.name}: after its state_dict was loaded into another", trial.evaluated(part), trial.evaluated(other))
    return f"another with its state_dict gives the same bit by bit in {forms(trials)}"


def seeded(trials: Sequence[Trial]) -> str:
    """Its first weights are those of torch's seed."""
    for trial in trials:
        one, two = trial.made().state_dict(), trial.made().state_dict()
        _equal(f"{trial.name}: made twice under the same seed", one, two)
    return f"the same first weights for the same seed in {forms(trials)}"


def untouched(trials: Sequence[Trial]) -> str:
    """Its inputs are what they were."""
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
    """Outputs and gradients are finite under `--precision bf16`."""
    for trial in trials:
        part = trial.made()
        with Precision("bf16", torch.device("cpu")).autocast():
            trains = any(parameter.requires_grad for parameter in part.parameters())
            finite(f"{trial.name} under autocast to bfloat16", trial.backward(part) if trains else trial(part))
    return f"finite outputs and gradients under autocast in {forms(trials)}"


def finite(where: str, found: Mapping[str, Tensor]) -> None:
    """Raise unless every number is."""
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
    """The same numbers, for whoever may change them."""
    return {m: with_values(x, values(x).clone()) for m, x in inputs.items()}


def _equal(where: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> None:
    wrong = [name for name in one if not torch.equal(one[name], two[name])]
    if wrong:
        apart = float((one[wrong[0]].double() - two[wrong[0]].double()).abs().max())
        raise BrokenPromise(f"{where}, {len(wrong)} of {len(one)} tensors differ, {wrong[0]} by {apart:.1e}; expected none")


def forms(trials: Sequence[Trial]) -> str:
    """How many there were, in words."""
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
