"""AGM-GE: AGM with OGM-GE's generalization enhancement (AGM paper, supplement, table 8)."""

from agmbench.contracts import Model, Promises
from agmbench.modulators.agm import AGM
from agmbench.modulators.ogm_ge import add_noise


class AGMGE(AGM):
    """AGM, then noise on those tensors of the encoders that have two or more dimensions, then clipping:

        grad <- grad + N(0, (std(grad) + 1e-8)^2),   std is that of the gradient after AGM.

    The paper names the method and gives no formula; this is our reading. Noise is added only in the epochs that are modulated (`starts`,
    `ends`). Parameters: those of AGM.

    Official code: no values were recorded to compare with. Everything except the noise is the code of AGM, for which there are such values.
    """

    promises = Promises(balances=True, permutes=True, window=True, exact={"coalitions": "exact"}, weights=True)

    def enhance(self, model: Model) -> None:
        if not self.active:
            return
        for modality in self.modalities:
            for tensor in model.encoders[modality].parameters():
                if tensor.grad is not None and tensor.ndim >= 2:
                    add_noise(tensor.grad, 1.0, self.generator)
