"""AGM-GE: AGM with OGM-GE's generalization enhancement (AGM paper, supplement, table 8)."""

from agmbench.contracts import Model, Promises
from agmbench.modulators.agm import AGM
from agmbench.modulators.ogm_ge import add_noise


class AGMGE(AGM):
    """AGM, then noise on the encoders' tensors of two or more dimensions, then clipping:

        grad <- grad + N(0, (std(grad) + 1e-8)^2),   std of the gradient as AGM left it.

    The paper names the method and gives no formula; this is our reading. Inside the modulation window only. Parameters: those of
    AGM.

    Official code: no values of it were recorded to compare with. All but the noise is the code of AGM, for which they were.
    """

    promises = Promises(balances=True, permutes=True, window=True, exact={"coalitions": "exact"}, weights=True)

    def enhance(self, model: Model) -> None:
        if not self.active:
            return
        for modality in self.modalities:
            for tensor in model.encoders[modality].parameters():
                if tensor.grad is not None and tensor.ndim >= 2:
                    add_noise(tensor.grad, 1.0, self.generator)
