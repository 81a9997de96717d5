"""What was probably meant by a word that a command does not know. It is looked for only after a command was refused."""

import click

from agmbench.registry import KINDS, load


def setting_of(option: str) -> str | None:
    """How a part of the recipe is set that has no option of its own: `--lr` is `--set training.lr=VALUE`."""
    from agmbench.jobs import Training

    name = option.lstrip("-").replace("-", "_")
    return f"set it as in --set training.{name}=VALUE" if name in Training.model_fields else None


def option_of(word: str, command: click.Command) -> str:
    """Which option of a command takes a word that stands alone: `agm` is a modulator."""
    options = {option for parameter in command.params for option in parameter.opts}
    registry = load()
    for kind in KINDS:
        if f"--{kind}" in options and registry.spelling(kind, word) in registry.names(kind):
            return f"to name a {kind}: --{kind} {registry.spelling(kind, word)}"
    return f"see agmbench {command.name} --help"
