"""Files of options: reading one (`--config`), whose options the command line overrides, and printing one (`--dump-config`)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from agmbench.cli.verbs import WORDS, Verb
from agmbench.errors import AgmbenchError, allowed

SETTINGS = {  # options for settings that `--set` can set, too, with their keys there
    "epochs": "training.epochs",
    "accumulate": "training.accumulate",
    "precision": "training.precision",
    "limit": "limit",
    "seed": "seed",
    "seeds": "seed",
}
NOT_IN_FILES = ("config", "dump-config", "dry-run", "job", "help")

config_option = click.option(
    "--config",
    metavar="FILE",
    expose_value=False,
    help="A YAML file with these options under their long names. Options of the command line override it; --dump-config prints one.",
)


class Configured(Verb):
    """A command whose options may stand in a file. They are put before the words of the command line, without those that the command line
    gives as well."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            given, _, order = self.make_parser(ctx).parse_args(list(args))
        except click.UsageError:
            given, order = {}, []  # the command itself reports the error
        file = given.get("config")
        if file is None or [option.name for option in order].count("config") > 1:
            return super().parse_args(ctx, args)
        named = _by_name(self)
        said = {key for name, option in named.items() if option.name in given for key in _says(name, given[option.name])}
        words = []
        for name, value in _read(str(file), named).items():
            if not isinstance(value, Mapping):
                words += _words(str(file), name, value, named[name]) if said.isdisjoint(_says(name, ())) else []
                continue
            kept = {key: one for key, one in value.items() if said.isdisjoint(_says(name, [f"{key}="]))}
            words += _words(str(file), name, kept, named[name])
        return super().parse_args(ctx, [*words, *args])


def dumped() -> str:
    """The options of the current command, as the text of a file that `--config` reads."""
    import yaml

    from agmbench.registry.located import parsed, plain

    context = click.get_current_context()
    given, *_ = context.command.make_parser(context).parse_args(list(context.meta[WORDS]))
    content: dict[str, Any] = {}
    for name, option in _by_name(context.command).items():
        key = str(option.name)
        value = given[key] if key in given else _default(context.params.get(key))
        if value is None or (option.is_flag and not value):
            continue
        if option.multiple:
            content[name] = {}
            for text in value:
                key, _, typed = text.partition("=")
                read = plain(parsed(typed, f"--{name} {key}")) if name == "set" else typed
                content[name][key] = typed if isinstance(read, str) else read
        else:
            number = isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType))
            content[name] = option.type(value) if number else True if option.is_flag else value
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).rstrip()


def _default(value: Any) -> Any:
    """The value of an option that was not given, as it would be written; `None` if the option should be left out."""
    return (",".join(value) or None) if isinstance(value, tuple) else value


def _by_name(command: click.Command) -> dict[str, click.Option]:
    options = [option for option in command.params if isinstance(option, click.Option)]
    named = {max(option.opts, key=len).lstrip("-"): option for option in options}
    return {name: option for name, option in named.items() if name not in NOT_IN_FILES}


def _read(file: str, named: Mapping[str, click.Option]) -> dict[str, Any]:
    from agmbench.registry.located import parse, plain

    content = plain(parse(Path(file), file))
    if not isinstance(content, dict):
        raise AgmbenchError(f"{file} should be a mapping of options, such as 'modulator: agm'; found {content!r}")
    found = {str(key).replace("_", "-"): value for key, value in content.items() if value is not None}
    for name, value in found.items():
        if name not in named:
            raise AgmbenchError(f"{file}: no option '{name}': {allowed(name, named)}")
        if named[name].multiple != isinstance(value, Mapping):
            wanted = "a mapping, such as {key: value}" if named[name].multiple else "one value or a list"
            raise AgmbenchError(f"{file}: '{name}' should be {wanted}; found {value!r}")
    return found


def _says(name: str, value: Sequence[str]) -> Iterator[str]:
    """The keys that identify what an option sets, so that another option that sets the same is found: keys of settings, or the option."""
    if name in ("set", "encoder", "tag", "slurm", "launch"):
        for text in value:
            key = text.partition("=")[0].strip()
            yield key if name == "set" else f"encoder.{key}" if name == "encoder" else f"--{name} {key}"
    else:
        yield SETTINGS.get(name, f"--{name}")


def _words(file: str, name: str, value: Any, option: click.Option) -> list[str]:
    """An option from a file, turned into words of the command line."""
    from agmbench.jobs import as_text

    def text(one: Any) -> str:
        return one if isinstance(one, str) else as_text(one)

    if isinstance(value, Mapping):
        return [word for key, one in value.items() for word in (f"--{name}", f"{key}={text(one)}")]
    if option.is_flag:
        if not isinstance(value, bool):
            raise AgmbenchError(f"{file}: '{name}' should be true or false; found {value!r}")
        return [f"--{name}"] * value
    return [f"--{name}", ",".join(map(text, value)) if isinstance(value, list) else text(value)]
