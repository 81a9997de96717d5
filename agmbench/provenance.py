"""Where a run or an export came from: machine, versions, commit. None of it is part of a digest. Only `tags` imports torch."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PACKAGES = ("agmbench", "torch", "timm", "transformers", "mlflow", "scikit-learn", "numpy")


def tags(device: "torch.device") -> dict[str, str]:
    """The device, machine, versions and commit of a run, as MLflow tags."""
    import torch

    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": str(torch.get_num_threads()),
        "host": platform.node(),
        "platform": platform.platform(),
        "cpu": torch.backends.cpu.get_cpu_capability(),  # the instruction set, such as AVX2, for which torch chooses its kernels
        "python": platform.python_version(),
        **{f"version.{name}": version(name) for name in PACKAGES},
        **_checkout(),
    }


def version_here() -> str:
    """The version of agmbench that is installed."""
    return version("agmbench")


def commit() -> str:
    """The commit of the checkout from which this code runs, with `+changes` if files were changed since; empty if it is no checkout."""
    found = _checkout()
    changed = "+changes" if found.get("git.changed") == "true" else ""
    return found["mlflow.source.git.commit"][:12] + changed if found else ""


def _checkout() -> dict[str, str]:
    """The commit of the checkout from which this code runs, and whether files were changed since, as tags; empty if it is no checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not os.path.samefile(git("rev-parse", "--show-toplevel"), here.parent):
            return {}
        changed = git("status", "--porcelain", "--untracked-files=no")
        return {"mlflow.source.git.commit": git("rev-parse", "HEAD"), "git.changed": str(bool(changed)).lower()}
    except (OSError, subprocess.CalledProcessError):
        return {}
