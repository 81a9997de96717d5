"""The multimodal model, as a modulator sees it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from agmbench.contracts.batches import Batch
from agmbench.contracts.fusion import Fused, Fusion
from agmbench.contracts.inputs import Input
from agmbench.shapley import Coalition
from agmbench.tasks import Task

Mode = Literal["exact", "shared"]
Reduction = Literal["mean", "sum"]


class Model(Protocol):
    """The multimodal model as a modulator sees it (`agmbench.model.MultimodalModel`)."""

    encoders: nn.ModuleDict
    fusion: Fusion
    modalities: tuple[str, ...]
    task: Task
    reduction: Reduction

    @property
    def muting(self) -> Callable[[str, Input], Input]:
        """Makes the muted input, which stands for an absent modality, from the modality's name and a batch of its input."""

    def parameters(self) -> Iterator[nn.Parameter]: ...
    def encode(self, inputs: Mapping[str, Input], which: Collection[str] | None = None) -> dict[str, Any]:
        """Features of every modality, or of those in `which`, in the current mode: `{m: [B, D_m]}`, or tokens if the fusion takes them."""

    def evaluating(self) -> AbstractContextManager[None]:
        """Put every module into eval mode inside the block; afterwards each is in its earlier mode."""

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The training loss, averaged over the batch whatever the `reduction`. It is the task's loss, as changed by the recipe, with each
        sample's loss times its weight if there are `weights` `[B]` (`Batch.weights`)."""

    def losses(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The same loss of each sample, `[B]`."""

    def penalty(self, batch: Batch) -> Tensor | None:
        """The term that the fusion adds to the loss, computed in a pass of its own; `None` if it adds nothing."""

    def coalitions(
        self, inputs: Mapping[str, Input], which: Sequence[Coalition], mode: Mode = "exact"
    ) -> dict[Coalition, Fused]:
        """The output of the model when only the modalities of a coalition are present, for each coalition of `which`."""

    def responses(
        self, inputs: Mapping[str, Input], mode: Mode = "exact", muted_gradient: bool = True, partial_gradient: bool = True
    ) -> dict[str, Tensor]:
        """Shapley responses `phi_m` `[B, C]`, which sum to the logits of the full coalition.

        `mode`: which passes serve the partial coalitions. `muted_gradient`: whether gradient flows through the passes with muted inputs.
        `partial_gradient`: whether gradient flows through coalitions other than the full one.
        """
