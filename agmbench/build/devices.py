"""The device of this machine on which a job runs, by name."""

import torch

from agmbench.errors import AgmbenchError, allowed


def gpus() -> int:
    """The number of GPUs that torch sees."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def device(name: str) -> torch.device:
    """The device with the name `cpu`, `cuda` or `cuda:i`; `auto` means CUDA if it is available, else the CPU."""
    count = gpus()
    present = ["cpu", *(["cuda", *(f"cuda:{number}" for number in range(count))] if count else [])]
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    if name not in present:
        raise AgmbenchError(f"no device '{name}' on this machine: {allowed(name, ['auto', *present])}")
    return torch.device(name)
