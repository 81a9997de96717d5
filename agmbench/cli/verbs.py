"""What all verbs have in common: an option of one value may be given only once, and a mistake is answered by what was probably meant."""

from collections import Counter

import click

from agmbench.cli.hints import option_of, setting_of

WORDS = "agmbench.words"  # what of a context's `meta` are the words that the verb was given


class Verb(click.Command):
    """A command that refuses an option of one value if it is given twice, instead of taking the last."""

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
        """Whether it takes the settings of a job."""
        return any("--set" in parameter.opts for parameter in self.params)


class Verbs(click.Group):
    """A group of such commands."""

    command_class = Verb
