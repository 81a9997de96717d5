"""Sample-level modality valuation (Wei et al., CVPR 2024)."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn import functional as F

from agmbench.contracts import Batch, Context, Model, Modulator, Promises, Step, Tokens, coalitions, responses
from agmbench.modulators.features import only, zeroed
from agmbench.modulators.heads import several
from agmbench.tasks import SingleLabel


class SampleLevel(Modulator):
    """A modality that contributes little to a sample is shown alone more often, in copies of that sample.

    Contributions are measured before each epoch, over the training set in eval mode. With f(S) the prediction of the fusion when the
    features of absent modalities are set to zero, the value of a coalition S in sample i, the contribution of modality m, and its number
    of copies are

        v_i(S)   = |S| if f(S) is right on i, else 0
        phi_m(i) = the Shapley value of m in v_i
        n_m(i)   = round( max(0, 2 (1 - phi_m(i))) )

    The epoch has every sample once with all modalities, and `n_m(i)` copies of it in which only m is present (all other features are
    zero), in random order. With two modalities, phi of -.5, 0, .5 and 1 or more give 3, 2, 1 and no copies.

    warmup: epochs of joint training before. Official code and ours 5.
    level: `sample`, as above, official and default. `modality`, the cheaper form of the paper: phi is the mean over a `part` of the
        training set. Then `int( alpha 2/3 |phi_m - mean of the others| N )` samples, drawn with replacement, get one copy each, in which
        only the modality m with the smallest phi is present.
    part: share of the training set for `level: modality`. Official code and ours .2.
    alpha: how many copies `level: modality` makes. Official code and ours 1.

    An epoch takes 2^M - 1 passes of the fusion over the training set, one pass of each encoder, and up to 1 + 2M times as many steps. For
    segments, "right" is the share of segments that are right. With more than two modalities a fair share is 1 as well (ours; the official
    code has two).

    Official code: the same contributions and numbers of copies (its values are in `tests/reference`).
    """

    promises = Promises(neutral={"level": "modality", "alpha": 0.0}, absent=False, weights=True)

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        warmup: Annotated[int, Ge(0)] = 5,
        level: Literal["sample", "modality"] = "sample",
        part: Annotated[float, Gt(0), Le(1)] = 0.2,
        alpha: Annotated[float, Ge(0)] = 1.0,
    ) -> None:
        super().__init__(modalities)
        self.warmup = warmup
        self.level = level
        self.part = part
        self.alpha = alpha
        self._present: Tensor | None = None  # [n, M], which modalities each entry of the epoch's list of samples shows

    def refuses(self, model: Model) -> str | None:
        if not isinstance(model.task, SingleLabel):
            return f"asks whether a class is right; the task of this data set is {type(model.task).__name__}"
        return several(model)

    def begin_epoch(self, context: Context) -> None:
        self._present = None

    def samples(self, context: Context) -> Tensor | None:
        if context.epoch < self.warmup:
            return None
        count, device = len(context.splits["train"]), context.generator.device
        if self.level == "sample":
            copied, shown = listed(copies(self.contributions(context, torch.arange(count))))
        else:
            drawn = torch.randperm(count, generator=context.generator, device=device).cpu()[: max(1, round(self.part * count))]
            weakest, times = self.weakest(self.contributions(context, drawn).mean(dim=0), count)
            copied = torch.randint(count, (times,), generator=context.generator, device=device).cpu()
            shown = torch.full((times,), weakest)
        order = torch.randperm(count + len(copied), generator=context.generator, device=device).cpu()
        whole = torch.ones(count, len(self.modalities), dtype=torch.bool)
        present = torch.cat([whole, F.one_hot(shown, len(self.modalities)).bool()])
        self._present = present[order].to(device)
        return torch.cat([torch.arange(count), copied])[order]

    def weakest(self, phi: Tensor, count: int) -> tuple[int, int]:
        """The modality with the least mean contribution, and how many copies show it."""
        gap = (phi - (phi.sum() - phi) / (len(phi) - 1)).abs()
        weakest = int(phi.argmin())
        return weakest, int(self.alpha * 2 / 3 * float(gap[weakest]) * count)

    @torch.no_grad()
    def contributions(self, context: Context, samples: Tensor) -> Tensor:
        """`phi_m(i)` of training samples, `[N, M]`, on the CPU."""
        model = context.model
        with model.evaluating():
            found = [self.valued(model, batch) for batch in context.batches("train", samples.split(256))]
        return torch.cat(found).cpu()

    def valued(self, model: Model, batch: Batch) -> Tensor:
        """`phi_m(i)` of a batch, `[B, M]`, float64."""
        features = model.encode(batch.inputs)
        phi = values(model, features, batch.targets, self.modalities)
        return torch.stack([phi[m] for m in self.modalities], dim=1)

    def backward(self, model: Model, batch: Batch) -> Step:
        features = model.encode(batch.inputs)
        if self._present is not None and batch.at is not None:
            there = self._present[batch.at]  # [B, M]
            shown = {m: zeroed(features[m], there[:, number]) for number, m in enumerate(self.modalities)}
            features = {**features, **shown}
        logits = model.fusion(features).logits
        loss = model.loss(logits, batch.targets, batch.weights)
        loss.backward()
        return Step(loss.detach(), logits.detach())


def values(
    model: Model, features: Mapping[str, Tensor | Tokens], targets: Tensor, modalities: tuple[str, ...]
) -> Mapping[str, Tensor]:
    """The contributions `phi_m`, `{m: [B]}`, from the features of all modalities."""

    def right() -> Iterator[tuple[frozenset[str], Tensor]]:
        for coalition in coalitions(modalities):
            agrees = model.task.predicted(model.fusion(only(features, coalition)).logits) == targets
            yield coalition, len(coalition) * agrees.reshape(len(targets), -1).double().mean(dim=1)

    return responses(dict(right()), modalities)


def copies(phi: Tensor) -> Tensor:
    """The numbers of copies `n_m(i)`, `[N, M]`."""
    return (2 * (1 - phi)).clamp(min=0).round().long()


def listed(counts: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers of the sample and of the modality of each copy."""
    copied, shown = counts.nonzero(as_tuple=True)
    times = counts[copied, shown]
    return copied.repeat_interleave(times), shown.repeat_interleave(times)
