"""OGM-GE: OGM with generalization enhancement (Peng et al., CVPR 2022, equation 10)."""

import torch
from torch import Tensor, nn

from agmbench.contracts import Promises
from agmbench.modulators.ogm import OGM


class OGMGE(OGM):
    """OGM, then Gaussian noise of the size of each gradient, which brings back the noise that damping took from SGD:

        grad <- k_m grad + N(0, (std(grad) + 1e-8)^2),   std is that of the gradient before it is damped.

    The noise is added whether or not a modality is damped. It comes from the modulator's own generator. Parameters: those of OGM.

    Official code: agrees with the paper's equation, and ours agrees with both (recorded with the noise set to zero). It ends modulation
    and noise at epoch 50 of 100 (`ends`); ours goes on. AGM's repository scales every parameter of encoders and heads on CREMA-D. Under
    late fusion on AV-MNIST on one GPU it scales nothing, so that its OGM-GE there is joint training: see OGM.
    """

    promises = Promises(balances=True, permutes=True, window=True, weights=True)

    def rescale(self, tensor: nn.Parameter, coefficient: Tensor) -> None:
        if tensor.grad is not None:
            add_noise(tensor.grad, coefficient, self.generator)


def add_noise(grad: Tensor, coefficient: Tensor | float, generator: torch.Generator) -> None:
    """Scale a gradient and add noise, in place: `grad <- k grad + N(0, (std(grad) + 1e-8)^2)`."""
    scale = grad.std(correction=min(1, grad.numel() - 1)) + 1e-8
    grad.mul_(coefficient).addcmul_(unit_noise(grad, generator), scale)


def unit_noise(grad: Tensor, generator: torch.Generator) -> Tensor:
    """Draw `N(0, 1)` in the shape of `grad`."""
    return torch.empty_like(grad).normal_(generator=generator)
