"""Where a job runs on this machine, by name."""

import torch

from agmbench.errors import AgmbenchError, allowed


def gpus() -> int:
    """How many GPUs torch sees."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def device(name: str) -> torch.device:
    """`auto` is CUDA where there is one; `cpu`, `cuda` and `cuda:i` are themselves."""
    count = gpus()
    present = ["cpu", *(["cuda", *(f"cuda:{number}" for number in range(count))] if count else [])]
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    if name not in present:
        raise AgmbenchError(f"no device '{name}' on this machine: {allowed(name, ['auto', *present])}")
    return torch.device(name)
