"""Numbers that are not finite: they are noticed without waiting for the device, and traced to their source."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from agmbench.contracts import Batch, Split, Step, Tokens
from agmbench.distributed.ranks import here
from agmbench.errors import RunFailed
from agmbench.model import MultimodalModel

STEPS = 64  # how many steps may pass before a loss that is not finite is reported


class StepFlags(NamedTuple):
    """What is kept of one step: whether its `loss`, its `logits` and the `features` of each encoder that ran are finite, as flags on the
    device; and the numbers of its samples, by micro-batch."""

    loss: Tensor
    logits: Tensor
    features: Mapping[str, Tensor]
    samples: Sequence[Tensor]

    @property
    def flags(self) -> tuple[Tensor, ...]:
        return (self.loss, self.logits, *self.features.values())


class Watch:
    """Watches the steps of an epoch for losses that are not finite. Flags are read together: every `STEPS` steps, at the end, and when a
    step raises, because numbers that are not finite may be the reason.

    The first step whose loss is not finite ends the run. By then the weights have changed, so the error is made from the flags of that
    step and from its samples, which are read again.
    """

    def __init__(self, model: MultimodalModel, split: Split, what: str, first: int) -> None:
        """`what` begins the error ("the loss ... is not finite"); `first` is the number of the next step."""
        self._model, self._split, self._what, self._first = model, split, what, first
        self._features: dict[str, Tensor] = {}
        self._steps: list[StepFlags] = []

    @contextmanager
    def passes(self) -> Iterator[None]:
        """Note whether features are finite, inside the block around the steps of a batch. If a step raises, losses that are not finite are
        reported instead, because they may be the reason."""
        hooks = [encoder.register_forward_hook(_noting(self._features, m)) for m, encoder in self._model.encoders.items()]
        try:
            yield
        except Exception:
            self.judge(together=False)
            raise
        finally:
            for hook in hooks:
                hook.remove()

    def see(self, step: Step, batches: Sequence[Batch]) -> None:
        """Keep the flags of a step; called at each yielded step, before the optimizer's step."""
        samples = [batch.index for batch in batches]
        self._steps.append(StepFlags(_finite(step.loss), _finite(step.logits), dict(self._features), samples))
        self._features.clear()
        if len(self._steps) == STEPS:
            self.judge()

    def judge(self, together: bool = True) -> None:
        """Read the flags of the steps since the last call; raises `RunFailed` for the first step whose loss is not finite.

        `together` says that all ranks call this at once; their flags are then merged, because each has seen only its own samples' features.
        """
        seen, self._steps, first = self._steps, [], self._first
        self._first += len(seen)
        if not seen:
            return
        found = torch.stack([flag for one in seen for flag in one.flags])
        if together and (ranks := here()) is not None:
            found = ranks.all_of(found)
        flags = iter(found.tolist())
        for number, one in enumerate(seen, first):
            loss, logits, *features = (next(flags) for _ in one.flags)
            if not loss:
                wrong = [m for m, sound in zip(one.features, features, strict=True) if not sound]
                raise RunFailed(f"{self._what}, step {number}: {self._source(one.samples, wrong, logits)}")

    def _source(self, samples: Iterable[Tensor], wrong: Sequence[str], logits: bool) -> str:
        for numbers in samples:
            if complaint := wrong_input(self._split.batch(numbers.cpu()), self._model.modalities):
                return complaint
        return _made(self._model.modalities, wrong, logits)


def _noting(flags: dict[str, Tensor], modality: str) -> Callable[[nn.Module, object, Tensor | Tokens], None]:
    """A forward hook that notes whether features are finite. It is a function, so that copying an encoder copies nothing that it holds."""

    def note(_: nn.Module, __: object, features: Tensor | Tokens) -> None:
        sound = _finite(features)
        flags[modality] = flags[modality] & sound if modality in flags else sound

    note.only_looks = True  # type: ignore[attr-defined]  # for `modes.py`
    return note


def wrong_input(batch: Batch, modalities: Iterable[str]) -> str | None:
    """A text that says which inputs of a batch are not finite, and names the first such sample; `None` if all are finite."""
    wrong = {m: rows for m in modalities if len(rows := _wrong_rows(batch.inputs[m]))}
    for m, rows in wrong.items():
        named = f"{len(rows)} of {len(batch.index)} samples of a batch, the first is number {int(batch.index[rows[0]])}"
        return f"the input of {', '.join(wrong)} is not finite ({m}: {named}); 'agmbench data verify' lists all of them"
    return None


@torch.no_grad()
def culprit(model: MultimodalModel, batch: Batch) -> str:
    """Where numbers that are not finite come from, in a batch whose inputs are finite; the weights must be those that made the numbers."""
    encoded = model.encode(batch.inputs)
    wrong = [m for m in model.modalities if not _finite(encoded[m])]
    return _made(model.modalities, wrong, bool(_finite(model(batch.inputs).logits)))


def _made(modalities: Iterable[str], wrong: Sequence[str], logits: bool) -> str:
    """A text that says which part turns finite inputs into numbers that are not: encoders (`wrong`), the fusion, or the modulator."""
    if wrong:
        return f"the encoder of {', '.join(wrong)} gives features that are not finite; try a smaller training.lr"
    if not logits:
        return f"inputs and features of {', '.join(modalities)} are finite, but the output of the fusion is not; try a smaller training.lr"
    return "inputs, features and logits of the model are finite, but the loss of the modulator is not; look at its terms"


def sound_input(x: Tensor | Tokens) -> Tensor:
    """Which numbers of an input are finite; numbers that a mask hides count as finite."""
    if not isinstance(x, Tokens):
        return torch.isfinite(x)
    finite = torch.isfinite(x.values)
    return finite if x.mask is None else finite | ~x.mask.unsqueeze(-1)


def _wrong_rows(x: Tensor | Tokens) -> list[int]:
    """The samples of a batch that contain a number which is not finite; numbers that a mask hides are ignored."""
    if (sound := sound_input(x)).all():
        return []
    return (~sound.flatten(1).all(dim=1)).nonzero().flatten().tolist()


@torch.no_grad()
def _finite(x: Tensor | Tokens) -> Tensor:
    """A flag, on the device of the numbers, that says whether all of them are finite."""
    return torch.isfinite(x.values if isinstance(x, Tokens) else x).all()
