"""No transform: samples stay as they are."""

from typing import Any

import torch

from agmbench.contracts import Transform


class Nothing(Transform):
    """Leaves samples as they are, for any modality: `--set augment.visual=none` trains without the data set's own transform."""

    idle = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Takes any shape."""

    def __call__(self, x: Any, generator: torch.Generator) -> Any:
        return x
