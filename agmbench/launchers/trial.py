"""Tasks that `agmbench check` sends through a launcher: they succeed, fail, or die."""

import os

FUNCTION = "agmbench.launchers.trial:work"
DIES = "dies"


def work(text: str) -> str:
    """Perform a task that returns its text as the reason of its failure, or dies if the text says so."""
    print(f"trial: {text}", flush=True)
    if text == DIES:
        os._exit(3)
    return text
