"""What all verbs have in common: an option with one value may be given only once, and an error says what was probably meant."""

from collections import Counter

import click

from agmbench.cli.hints import option_of, setting_of

WORDS = "agmbench.words"  # the key in a context's `meta` for the words that were given to the verb


class Verb(click.Command):
    """A command that refuses an option with one value if it is given twice, instead of taking the last value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            _, left, order = self.make_parser(ctx).parse_args(list(args))
        except click.NoSuchOption as error:
            if not (hint := setting_of(error.option_name) if self._sets else None):
                raise
            raise click.UsageError(f"there is no option {error.option_name}; {hint}") from error
        if left and not any(isinstance(parameter, click.Argument) for parameter in self.params):
            raise click.UsageError(f"'{left[0]}' is not expected here; {option_of(left[0], self)}")
        for parameter, times in Counter(order).items():
            if isinstance(parameter, click.Option) and times > 1 and not (parameter.multiple or parameter.is_flag):
                raise click.UsageError(f"{max(parameter.opts, key=len)} is given {times} times; leave all but one out")
        ctx.meta[WORDS] = list(args)
        return super().parse_args(ctx, args)

    @property
    def _sets(self) -> bool:
        """Whether the command has the option `--set`."""
        return any("--set" in parameter.opts for parameter in self.params)


class Verbs(click.Group):
    """A group of such commands (`Verb`)."""

    command_class = Verb
