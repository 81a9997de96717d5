"""What a job will need, in the words of `--dry-run`."""

from collections.abc import Iterator
from typing import Any

from agmbench.cli.terminal import lasting


def needs(job: Any, device: Any) -> Iterator[str]:
    """Lines for the user that describe the forecast of a job."""
    from agmbench.forecast import forecast

    found = forecast(job, device)
    parts = ", ".join(f"{name} {size:,}" for name, size in found.parameters.items())
    yield f"parameters: {sum(found.parameters.values()):,} ({parts})"
    yield f"samples: {', '.join(f'{name} {count:,}' for name, count in found.samples.items())}"
    method = job.spec.modulator.name if found.own else f"joint training, without what {job.spec.modulator.name} adds"
    yield f"a training step of {found.batch} samples: {found.flops / 1e9:.3g} GFLOP (torch's counter; {method})"
    epochs = job.spec.training.epochs
    yield f"training time: about {lasting(found.seconds)} on {device} for {epochs} epochs, without validation and reading of data"
    what = "weights, gradients, the optimizer's state and one batch"
    yield f"training memory: about {found.memory / 2**20:,.0f} MiB for {what}, without libraries and data"
    yield f"time and memory are estimates from a few steps of {found.tried} samples, just measured on this machine"
