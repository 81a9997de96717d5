"""The multimodal model, and the one engine for logits of coalitions: encode once, fuse often."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agmbench import shapley
from agmbench.contracts import Coalition, Encoder, Fused, Fusion, Mode


class MultimodalModel(nn.Module):
    """One encoder a modality and one fusion.

    `present` are the modalities that may be present at all. The others, if there are any, are muted in every pass, training
    included: a mono-modal concept of a fusion that is not additive.
    """

    def __init__(self, encoders: Mapping[str, Encoder], fusion: Fusion, present: Sequence[str] | None = None) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.fusion = fusion
        self.modalities = tuple(encoders) if present is None else tuple(present)

    def encode(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Features `{m: [B, D_m]}` in the present mode (train or eval); never-present modalities are muted."""
        return {
            modality: encoder(inputs[modality])
            if modality in self.modalities
            else self._muted_feature(modality, inputs[modality])
            for modality, encoder in self.encoders.items()
        }

    def forward(self, inputs: Mapping[str, Tensor]) -> Fused:
        """Logits `[B, C]` and representation `[B, R]` with every modality present."""
        fused: Fused = self.fusion(self.encode(inputs))
        return fused

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy, averaged over the batch."""
        return F.cross_entropy(logits, targets)

    def responses(
        self, inputs: Mapping[str, Tensor], mode: Mode = "exact", muted_gradient: bool = True, partial_gradient: bool = True
    ) -> dict[str, Tensor]:
        """Shapley responses `phi_m` `[B, C]` of the AGM paper (equation 4); they sum to the logits of the full coalition."""
        logits = self.coalitions(inputs, shapley.coalitions(self.modalities), mode, muted_gradient, partial_gradient)
        return shapley.responses({coalition: fused.logits for coalition, fused in logits.items()}, self.modalities)

    def coalitions(
        self,
        inputs: Mapping[str, Tensor],
        which: Sequence[Coalition],
        mode: Mode = "exact",
        muted_gradient: bool = True,
        partial_gradient: bool = True,
    ) -> dict[Coalition, Fused]:
        """What the model says when only the modalities of a coalition are present, the others muted, for each of `which`.

        The full coalition is computed in the model's present mode, and first, so that batch statistics move once and before the
        others read them. All other coalitions run in eval mode: `exact` encodes the present modalities again in eval mode, as the
        official AGM code does; `shared` takes their features from the full coalition's pass. A muted input is the same for every
        sample, so its pass has a batch of one. In eval mode both modes are the same pass.

        muted_gradient, partial_gradient: whether gradient flows through muted inputs' passes, and through the partial coalitions.
        """
        full = frozenset(self.modalities)
        encode_again = self.training and mode == "exact"
        fused: dict[Coalition, Fused] = {}
        features: dict[str, Tensor] = {}
        if full in which or not encode_again:
            features = self.encode(inputs)
        if full in which:
            fused[full] = self.fusion(features)
        partial = [coalition for coalition in which if coalition != full]
        if partial:
            with _evaluating(self), torch.set_grad_enabled(partial_gradient and torch.is_grad_enabled()):
                if encode_again:
                    features = {m: self.encoders[m](inputs[m]) for m in frozenset().union(*partial)}
                absent = frozenset().union(*(self.encoders.keys() - coalition for coalition in partial))
                muted = self._muted_features(inputs, absent, muted_gradient)
                for coalition in partial:
                    fused[coalition] = self.fusion({m: (features if m in coalition else muted)[m] for m in self.encoders})
        return fused

    def _muted_features(self, inputs: Mapping[str, Tensor], absent: frozenset[str], gradient: bool) -> dict[str, Tensor]:
        with torch.set_grad_enabled(gradient and torch.is_grad_enabled()):
            return {modality: self._muted_feature(modality, inputs[modality]) for modality in absent}

    def _muted_feature(self, modality: str, x: Tensor) -> Tensor:
        """Always in eval mode; a batch of one where every sample's feature is the same."""
        encoder = self.encoders[modality]
        with _evaluating(encoder):
            if _reads_batch_statistics(encoder):
                feature: Tensor = encoder(torch.zeros_like(x))
                return feature
            feature = encoder(torch.zeros_like(x[:1]))
        return feature.expand(len(x), *feature.shape[1:])


def _reads_batch_statistics(encoder: nn.Module) -> bool:
    """Whether a sample's features depend on the rest of the batch in eval mode too."""
    norms = (module for module in encoder.modules() if isinstance(module, nn.modules.batchnorm._NormBase))
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
