"""Unimodal training, then joint training: encoders begin where those of the mono-modal concepts ended."""

from collections.abc import Mapping
from typing import Annotated

from annotated_types import Ge

from agmbench.contracts import Context, Model, Promises
from agmbench.modulators.heads import several
from agmbench.modulators.joint import Joint


class UniFinetune(Joint):
    """Joint training that begins with the encoders of the finished mono-modal concepts; a baseline.

        theta_m at first  =  theta_m of C^m,      then  L = CE(f, y),      the rate of encoder m times `rate`

    with `C^m` the concept of modality m, the reference run of competition strength: trained on the same data with the same recipe. Each
    encoder has so had its epochs alone, where no other modality could take its loss away; what a method of balance gains has to be more
    than this. The fusion begins anew. Under a fusion that is not additive the concept is the same network with the other modalities
    muted, of which encoder m is taken.

    rate: factor of the encoders' learning rate. 1, the default, trains them as the rest; 0 leaves their weights as they are, though
        BatchNorm's statistics move.

    The epochs of the concepts come on top of its own: the cost of training is that of M models of one modality more, unless they are
    there already, as they are where competition strength was measured. Weights of the concepts are those of their best epoch.

    It has no paper of its own: published critiques of balanced learning train it, each with lengths of its own.
    """

    promises = Promises(weights=True)
    needs_concepts = True

    def __init__(self, modalities: tuple[str, ...], *, rate: Annotated[float, Ge(0)] = 1.0) -> None:
        super().__init__(modalities)
        self.rate = rate

    def refuses(self, model: Model) -> str | None:
        return several(model)

    def prepare(self, context: Context) -> None:
        for modality, concept in context.concepts.items():
            context.model.encoders[modality].load_state_dict(concept.encoders[modality].state_dict())

    def rates(self, context: Context) -> Mapping[str, float]:
        return dict.fromkeys(self.modalities, self.rate)
