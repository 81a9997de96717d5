"""Hints at what a word that a command does not know probably means. They are computed only after the command was refused."""

import click

from agmbench.registry import KINDS, load


def setting_of(option: str) -> str | None:
    """A hint for an unknown option that is a setting of the recipe: `--lr` is `--set training.lr=VALUE`; `None` if it is not."""
    from agmbench.jobs import Training

    name = option.lstrip("-").replace("-", "_")
    return f"set it as in --set training.{name}=VALUE" if name in Training.model_fields else None


def option_of(word: str, command: click.Command) -> str:
    """A hint for a word that stands alone: the option of the command to which it belongs; `agm`, for example, belongs to `--modulator`."""
    options = {option for parameter in command.params for option in parameter.opts}
    registry = load()
    for kind in KINDS:
        if f"--{kind}" in options and registry.spelling(kind, word) in registry.names(kind):
            return f"to name a {kind}: --{kind} {registry.spelling(kind, word)}"
    return f"see agmbench {command.name} --help"
