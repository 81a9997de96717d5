"""The multimodal model, and the only code that computes the logits of coalitions: it encodes each input once and fuses often."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from agmbench import shapley
from agmbench.contracts import Alike, Batch, Coalition, Encoder, Fused, Fusion, Input, Mode, Reduction, Tokens, joined
from agmbench.criterion import Criterion
from agmbench.distributed.encoders import encoded
from agmbench.modes import same_in_training
from agmbench.muting import Muting, Zeros
from agmbench.tasks import SingleLabel, Task

Feature = Tensor | Tokens


class MultimodalModel(nn.Module):
    """One encoder per modality, one fusion, the `muting` that replaces the input of an absent modality (zeros by default), and the `task`.

    `present` are the modalities that may be present at all. The others, if there are any, are muted in every pass, including training:
    this is a unimodal model ("mono-modal concept") under a fusion that is not additive. Muted passes always run in eval mode.
    `reduction`: whether training gradients are those of a mean over samples or of a sum. `criterion`: the losses of the recipe, if they
    differ from those of the task.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        fusion: Fusion,
        present: Sequence[str] | None = None,
        muting: Muting | None = None,
        task: Task | None = None,
        reduction: Reduction = "mean",
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.fusion = fusion
        self.modalities = tuple(encoders) if present is None else tuple(present)
        self.muting = muting or Zeros()
        self.task = task or SingleLabel()
        self.reduction = reduction
        self.criterion = criterion or Criterion()
        self._guided = any(encoder.guided for encoder in encoders.values())

    def forward(self, inputs: Mapping[str, Input]) -> Fused:
        """Logits `[B, C]` and representation `[B, R]` with every modality present."""
        fused: Fused = self.fusion(self.encode(inputs))
        return fused

    def encode(self, inputs: Mapping[str, Input], which: Collection[str] | None = None) -> dict[str, Feature]:
        """Features `{m: [B, D_m]}` (or tokens, if the fusion takes them) of every modality, or of those in `which`, in the current mode.

        Modalities that are never present are muted.
        """
        if self._guided:
            inputs = self._only(frozenset(self.modalities), inputs)
        wanted = [m for m in self.encoders if which is None or m in which]
        present = {m: self._feature(m, inputs) for m in self.modalities if m in wanted}
        never = self._muted_features(inputs, [m for m in wanted if m not in present])
        return {m: (present if m in present else never)[m] for m in wanted}

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The training loss, averaged over the batch: the task's loss (cross entropy for single labels), as changed by the recipe.

        weights: `[B]`, factors of the samples' losses. They are 1 on average over the training set, not over the batch, so that a sample
        counts the same in every batch.
        """
        return self.losses(logits, targets, weights).mean()

    def losses(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The same loss of each sample, `[B]`."""
        losses = self.criterion.losses(self.task, logits, targets)
        return losses if weights is None else losses * weights

    def penalty(self, batch: Batch) -> Tensor | None:
        """The term that the fusion adds to the loss of any method, computed in a pass of its own. It is a sum over pairs of modalities, so
        a unimodal model has none."""
        if not self.fusion.penalises or len(self.modalities) < len(self.encoders):
            return None
        return self.fusion.penalty(self.encode(batch.inputs), batch.targets)

    def responses(
        self, inputs: Mapping[str, Input], mode: Mode = "exact", muted_gradient: bool = True, partial_gradient: bool = True
    ) -> dict[str, Tensor]:
        """Shapley responses `phi_m` `[B, C]` of the AGM paper (equation 4); they sum to the logits of the full coalition.

        They are in float32 (or float64), whatever the precision of the passes, because differences of logits lose digits.
        """
        logits = self.coalitions(inputs, shapley.coalitions(self.modalities), mode, muted_gradient, partial_gradient)
        exact = {
            c: fused.logits if fused.logits.dtype == torch.float64 else fused.logits.float() for c, fused in logits.items()
        }
        return shapley.responses(exact, self.modalities)

    def coalitions(
        self,
        inputs: Mapping[str, Input],
        which: Sequence[Coalition],
        mode: Mode = "exact",
        muted_gradient: bool = True,
        partial_gradient: bool = True,
    ) -> dict[Coalition, Fused]:
        """The output when only the modalities of a coalition are present and the others are muted, for each coalition of `which`.

        The full coalition is computed first, in the model's current mode, so that batch statistics change once, before the other coalitions
        read them. All other coalitions run in eval mode. `exact` encodes the present modalities again in eval mode, as the official AGM
        code does, except where an encoder gives the same in both modes. `shared` takes their features from the pass of the full coalition.
        A muted input that is the same for every sample is encoded once. If the model is in eval mode, `exact` and `shared` are the same.
        Encoders that look at other modalities can share nothing: with them each coalition is a full pass.

        muted_gradient, partial_gradient: whether gradient flows through the passes of muted inputs, and through the partial coalitions.
        """
        full = frozenset(self.modalities)
        for unknown in frozenset().union(*which) - self.encoders.keys():
            raise ValueError(f"no modality '{unknown}' in {', '.join(self.encoders)}")
        exact = self.training and mode == "exact"
        fused: dict[Coalition, Fused] = {}
        features: dict[str, Feature] = {}
        if full in which or not exact:
            features = self.encode(inputs)
        serve = {m for m in features if not exact or (m in full and same_in_training(self.encoders[m]))}
        if full in which:
            fused[full] = self.fusion(features)
        partial = [coalition for coalition in which if coalition != full]
        if partial:
            with self.evaluating(), torch.set_grad_enabled(partial_gradient and torch.is_grad_enabled()):
                absent = [m for m in self.encoders if any(m not in c for c in partial)]  # in a fixed order: muting may draw
                if self._guided:
                    blank = {m: self.muting(m, inputs[m]) for m in absent}
                    return fused | {c: self._guided_pass(c, inputs, blank, muted_gradient) for c in partial}
                again = [m for m in self.encoders if m not in serve and any(m in c for c in partial)]
                features |= {m: self._feature(m, inputs) for m in again}
                muted = self._muted_features(inputs, absent, muted_gradient)
                shown = [{m: (features if m in coalition else muted)[m] for m in self.encoders} for coalition in partial]
                fused |= zip(partial, self._fused(shown), strict=True)
        return fused

    def evaluating(self) -> AbstractContextManager[None]:
        """Put every module into eval mode inside the block; afterwards each is in its earlier mode."""
        return _evaluating(self)

    def _fused(self, shown: Sequence[Mapping[str, Feature]]) -> list[Fused]:
        """The fusion of each coalition, computed in one batch unless the output of a sample depends on the other samples."""
        if len(shown) == 1 or reads_batch_statistics(self.fusion):
            return [self.fusion(features) for features in shown]
        fused = self.fusion({m: joined([features[m] for features in shown]) for m in self.encoders})
        return [Fused(*parts) for parts in zip(*(tensor.chunk(len(shown)) for tensor in fused), strict=True)]

    def feature(self, modality: str, inputs: Mapping[str, Input]) -> Feature:
        """The features of one modality as the fusion gets them, in the current mode."""
        return self._feature(modality, inputs)

    def _feature(self, modality: str, inputs: Mapping[str, Input]) -> Feature:
        if modality in self.muting.kept:  # the input holds features that were computed beforehand
            x = inputs[modality]
            return _kept(x.values, self.muting.kept[modality]) if isinstance(x, Tokens) else _first(x)
        encoder = self.encoders[modality]
        feature: Feature = encoded(encoder, inputs[modality], *([inputs] if encoder.guided else []))
        if self.fusion.takes_tokens:
            return feature if isinstance(feature, Tokens) else Tokens(feature.unsqueeze(1))
        return feature.pooled() if isinstance(feature, Tokens) else feature

    def _only(self, coalition: Coalition, inputs: Mapping[str, Input]) -> dict[str, Input]:
        return {m: inputs[m] if m in coalition else self.muting(m, inputs[m]) for m in self.encoders}

    def _guided_pass(
        self, coalition: Coalition, inputs: Mapping[str, Input], blank: Mapping[str, Input], muted_gradient: bool
    ) -> Fused:
        """A full pass for one coalition, in which every encoder sees the `blank` inputs of the absent modalities."""
        shown = {m: (inputs if m in coalition else blank)[m] for m in self.encoders}
        features = {m: self._feature(m, shown) for m in self.encoders if m in coalition}
        with torch.set_grad_enabled(muted_gradient and torch.is_grad_enabled()):
            features |= {m: self._feature(m, shown) for m in self.encoders if m not in coalition}
        fused: Fused = self.fusion(features)
        return fused

    def _muted_features(self, inputs: Mapping[str, Input], absent: Iterable[str], gradient: bool = True) -> dict[str, Feature]:
        with torch.set_grad_enabled(gradient and torch.is_grad_enabled()):
            return {modality: self._muted_feature(modality, inputs) for modality in absent}

    def _muted_feature(self, modality: str, inputs: Mapping[str, Input]) -> Feature:
        """The features of muted inputs, in eval mode. A muted input that several samples share is encoded once, unless the output of a
        sample depends on its batch."""
        x = inputs[modality]
        with _evaluating(self.encoders[modality]):
            alone = not self.muting.same_for_all or self._guided or modality in self.muting.kept
            if alone or reads_batch_statistics(self.encoders[modality]):
                return self._feature(modality, {**inputs, modality: self.muting(modality, x)})
            first, group = _distinct(x)
            feature = self._feature(modality, {modality: self.muting(modality, x[first])})
        return _repeated(feature, group, len(x))


def _kept(values: Tensor, masked: bool) -> Tokens:
    half = _first(values)
    return Tokens(half[..., :-1], half[..., -1] > 0 if masked else None)


def _first(x: Tensor) -> Tensor:
    return x[..., : x.shape[-1] // 2]


def _distinct(x: Input) -> tuple[Tensor | slice, Tensor | None]:
    """One sample for each distinct mask, and for each sample the number of its mask; without masks, the first sample and `None`."""
    if not isinstance(x, Tokens) or x.mask is None:
        return slice(0, 1), None
    return x.alike or Alike.of(x.mask)


def _repeated(feature: Feature, group: Tensor | None, count: int) -> Feature:
    if group is not None:
        return feature[group]
    if isinstance(feature, Tokens):
        return Tokens(feature.values.expand(count, -1, -1), None if feature.mask is None else feature.mask.expand(count, -1))
    return feature.expand(count, *feature.shape[1:])


def reads_batch_statistics(part: nn.Module) -> bool:
    """Whether the output for a sample depends on the rest of the batch even in eval mode."""
    norms = (module for module in part.modules() if isinstance(module, nn.modules.batchnorm._NormBase))
    return any(norm.running_mean is None for norm in norms)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
