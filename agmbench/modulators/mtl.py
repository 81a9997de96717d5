"""Multi-task solvers (TorchJD's aggregators) on the joint loss and each modality's own loss."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from agmbench.contracts import Model, Unsuitable
from agmbench.modulators.heads import several
from agmbench.modulators.two_losses import TwoLosses

# our name of each solver: its class in TorchJD, and the extra of the package torchjd that it needs
SOLVERS: dict[str, tuple[str, str]] = {
    "sum": ("Sum", ""),
    "mgda": ("MGDA", ""),
    "pcgrad": ("PCGrad", ""),
    "imtlg": ("IMTLG", ""),
    "aligned": ("AlignedMTL", ""),
    "config": ("ConFIG", ""),
    "graddrop": ("GradDrop", ""),
    "upgrad": ("UPGrad", "quadprog_projector"),
    "cagrad": ("CAGrad", "cagrad"),
    "fairgrad": ("FairGrad", "fairgrad"),
}
Aggregator = Literal["sum", "mgda", "pcgrad", "imtlg", "aligned", "config", "graddrop", "upgrad", "cagrad", "fairgrad"]


class MTL(TwoLosses):
    """For an encoder, the joint loss and the loss of its own modality are two tasks. A multi-task solver chooses its direction.

    With `L_0 = CE(f, y)`, `L_m = CE(h_m(e_m), y)` for a head `h_m` of each modality, and all parameters of encoder m as one row:

        J_m      = [ dL_0/dtheta_m ; dL_m/dtheta_m ]                two rows
        grad_m  <- A(J_m)                                           A is the solver

    The fusion takes the gradient of `L_0`, each head that of its `L_m`.

    aggregator: the solver A, from TorchJD. `sum`, the sum of the rows; `mgda` (Sener and Koltun, NeurIPS 2018), the shortest vector
        between the rows; `pcgrad` (Yu et al., NeurIPS 2020), each row without the part that conflicts with the other, in random order;
        `imtlg` (Liu et al., ICLR 2021), equal projections on both rows; `aligned` (Senushkin et al., CVPR 2023); `config` (Liu et al.,
        ICLR 2025); `graddrop` (Chen et al., NeurIPS 2020), random signs; `upgrad` (Quinton and Rey, 2024), the mean of the rows, each
        projected so that it hurts neither task; `cagrad` (Liu et al., NeurIPS 2021); `fairgrad` (Ban and Ji, ICML 2024). Ours `pcgrad`.
    strength: the `c` of `cagrad` (paper .4), or the `alpha` of `fairgrad` (paper 1); the other solvers have none. `None`, the default,
        takes the paper's value.

    It needs the package torchjd: pip install 'agmbench[mtl]'. Solvers run on the host, so a step waits for the device. NashMTL and
    GradVac are left out, because a run with them gives other numbers if it is resumed after a kill. FAMO weighs losses and has no rows.

    Official code: the solvers are TorchJD's, taken as they are. No method of multimodal learning is published with these two rows and all
    these solvers, so nothing was recorded to compare with; `mmpareto` is a method of this kind with a rule of its own.
    """

    def __init__(
        self,
        modalities: tuple[str, ...],
        *,
        aggregator: Aggregator = "pcgrad",
        strength: Annotated[float, Ge(0)] | None = None,
    ) -> None:
        super().__init__(modalities)
        self.solvers = nn.ModuleDict({m: solver(aggregator, strength) for m in modalities})

    def refuses(self, model: Model) -> str | None:
        return several(model)

    def combine(self, modality: str, g0: Sequence[Tensor], g1: Sequence[Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
        rows = torch.stack([torch.cat([gradient.flatten() for gradient in row]) for row in (g0, g1)])  # J, [2, n]
        found = self.solvers[modality](rows).split([gradient.numel() for gradient in g0])
        cosine = nn.functional.cosine_similarity(rows[0], rows[1], dim=0)
        return [new.view_as(old) for new, old in zip(found, g0, strict=True)], {f"cosine/{modality}": cosine}


def solver(name: str, strength: float | None) -> nn.Module:
    """A solver of TorchJD; raises `Unsuitable` with the command that installs what it needs."""
    called, extra = SOLVERS[name]
    given: dict[str, Any] = {"cagrad": {"c": 0.4}, "fairgrad": {"alpha": 1.0}}.get(name, {})
    if strength is not None and not given:
        raise Unsuitable(f"aggregator={name} has no strength; leave it out (only cagrad and fairgrad take it)")
    try:
        from torchjd import aggregation
    except ImportError as error:
        raise Unsuitable("needs the package torchjd, which is not here: pip install 'agmbench[mtl]'") from error
    given = {key: value if strength is None else strength for key, value in given.items()}
    try:
        made: nn.Module = getattr(aggregation, called)(**given)
    except ImportError as error:
        raise Unsuitable(f"aggregator={name} needs packages that are not here: pip install 'torchjd[{extra}]'") from error
    return made
