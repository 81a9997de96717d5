"""Numbers that are not finite: seen without waiting for the device, and traced to where they come from."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from agmbench.contracts import Batch, Split, Step, Tokens
from agmbench.distributed.ranks import here
from agmbench.errors import RunFailed
from agmbench.model import MultimodalModel

STEPS = 64  # that may pass before a loss which is not finite is told


class Seen(NamedTuple):
    """Of one step: whether its `loss`, its `logits` and the `features` of each encoder that ran are finite, as flags on the device;
    and the numbers of its samples, micro-batch by micro-batch."""

    loss: Tensor
    logits: Tensor
    features: Mapping[str, Tensor]
    samples: Sequence[Tensor]

    @property
    def flags(self) -> tuple[Tensor, ...]:
        return (self.loss, self.logits, *self.features.values())


class Watch:
    """Over the steps of an epoch on a split. Flags are read in one go: every `STEPS` steps, at the end, and first of all when
    anything goes wrong, which may be for the same reason.

    The first step whose loss is not finite ends the run. Weights have gone on by then, so what is told of it are its own flags, and
    its samples, read again.
    """

    def __init__(self, model: MultimodalModel, split: Split, what: str, first: int) -> None:
        """`what` is not finite, in words, at a step of which `first` is the next."""
        self._model, self._split, self._what, self._first = model, split, what, first
        self._features: dict[str, Tensor] = {}
        self._seen: list[Seen] = []

    @contextmanager
    def passes(self) -> Iterator[None]:
        """Around the steps of a batch."""
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
        """At each yielded step, before the optimizer's."""
        samples = [batch.index for batch in batches]
        self._seen.append(Seen(_finite(step.loss), _finite(step.logits), dict(self._features), samples))
        self._features.clear()
        if len(self._seen) == STEPS:
            self.judge()

    def judge(self, together: bool = True) -> None:
        """Read the flags of the steps since the last time; `together`, if all ranks do, for each has seen its own samples' features."""
        seen, self._seen, first = self._seen, [], self._first
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
    """A hook, and a function for that: whoever copies an encoder copies no more of what it holds."""

    def note(_: nn.Module, __: object, features: Tensor | Tokens) -> None:
        sound = _finite(features)
        flags[modality] = flags[modality] & sound if modality in flags else sound

    note.only_looks = True  # type: ignore[attr-defined]  # for `modes.py`
    return note


def wrong_input(batch: Batch, modalities: Iterable[str]) -> str | None:
    """Which inputs of a batch, as it was read, are not finite, and the first such sample."""
    wrong = {m: rows for m in modalities if len(rows := _wrong_rows(batch.inputs[m]))}
    for m, rows in wrong.items():
        named = f"{len(rows)} of {len(batch.index)} samples of a batch, the first is number {int(batch.index[rows[0]])}"
        return f"the input of {', '.join(wrong)} is not finite ({m}: {named}); 'agmbench data verify' lists all of them"
    return None


@torch.no_grad()
def culprit(model: MultimodalModel, batch: Batch) -> str:
    """Where numbers that are not finite come from in a batch whose inputs are, with the weights that made them."""
    encoded = model.encode(batch.inputs)
    wrong = [m for m in model.modalities if not _finite(encoded[m])]
    return _made(model.modalities, wrong, bool(_finite(model(batch.inputs).logits)))


def _made(modalities: Iterable[str], wrong: Sequence[str], logits: bool) -> str:
    """What of sound inputs makes numbers that are not: encoders (those which are `wrong`), fusion, or the modulator."""
    if wrong:
        return f"the encoder of {', '.join(wrong)} gives features that are not finite; try a smaller training.lr"
    if not logits:
        return f"inputs and features of {', '.join(modalities)} are finite, but the output of the fusion is not; try a smaller training.lr"
    return "inputs, features and logits of the model are finite, but the loss of the modulator is not; look at its terms"


def sound_input(x: Tensor | Tokens) -> Tensor:
    """Which numbers of an input are finite; what a mask hides counts as if it were."""
    if not isinstance(x, Tokens):
        return torch.isfinite(x)
    finite = torch.isfinite(x.values)
    return finite if x.mask is None else finite | ~x.mask.unsqueeze(-1)


def _wrong_rows(x: Tensor | Tokens) -> list[int]:
    """The samples of a batch that have a number which is not finite; what a mask hides is not looked at."""
    if (sound := sound_input(x)).all():
        return []
    return (~sound.flatten(1).all(dim=1)).nonzero().flatten().tolist()


@torch.no_grad()
def _finite(x: Tensor | Tokens) -> Tensor:
    """A flag, where the numbers are."""
    return torch.isfinite(x.values if isinstance(x, Tokens) else x).all()
