"""Mean absolute error."""

from torch import Tensor


def mae(logits: Tensor, targets: Tensor) -> float | None:
    """The mean of `|output - target|`; for regression alone (logits `[N, 1]`, targets `[N]` floats)."""
    return float((logits.squeeze(1) - targets).abs().mean()) if _regression(targets) else None


def _regression(targets: Tensor) -> bool:
    return targets.ndim == 1 and targets.is_floating_point()
