"""What `agmbench check` sends through a launcher: tasks that end well, fail, and die."""

import os

FUNCTION = "agmbench.launchers.trial:work"
DIES = "dies"


def work(text: str) -> str:
    """A task whose text is why it fails."""
    print(f"trial: {text}", flush=True)
    if text == DIES:
        os._exit(3)
    return text
