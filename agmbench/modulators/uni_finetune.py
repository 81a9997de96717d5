"""Unimodal training, then joint training: encoders begin with the weights of the unimodal models ("mono-modal concepts")."""

from collections.abc import Mapping
from typing import Annotated

from annotated_types import Ge

from agmbench.contracts import Context, Model, Promises
from agmbench.modulators.heads import several
from agmbench.modulators.joint import Joint


class UniFinetune(Joint):
    """Joint training that begins with the encoders of the finished unimodal models. A baseline.

        theta_m at first  =  theta_m of C^m,      then  L = CE(f, y),      the rate of encoder m times `rate`

    with `C^m` the unimodal model ("mono-modal concept") of modality m, the reference run of competition strength: trained on the same data
    with the same recipe. So each encoder has first been trained alone, where no other modality could lower the loss for it. A method that
    balances modalities should gain more than this. The fusion begins with new weights. Under a fusion that is not additive, `C^m` is the
    same network with the other modalities muted, and its encoder m is used.

    rate: factor of the encoders' learning rate. 1, the default, trains them like the rest; 0 leaves their weights as they are, though
        BatchNorm statistics still move.

    Training costs M unimodal models in addition to its own epochs, unless they are there already, as they are where competition strength
    was measured. The weights of the unimodal models are those of their best epoch.

    It has no paper of its own; published critiques of balanced learning train it, with different numbers of epochs.
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
