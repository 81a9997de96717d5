"""Verbs, and what holds for each: an option of one value is given once."""

from collections import Counter

import click

WORDS = "agmbench.words"  # what of a context's `meta` are the words that the verb was given


class Verb(click.Command):
    """A command that refuses an option of one value which is given twice, rather than take the last."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        for parameter, times in Counter(order).items():
            if isinstance(parameter, click.Option) and times > 1 and not (parameter.multiple or parameter.is_flag):
                raise click.UsageError(f"{max(parameter.opts, key=len)} is given {times} times; leave all but one out")
        ctx.meta[WORDS] = list(args)
        return super().parse_args(ctx, args)


class Verbs(click.Group):
    """A command whose verbs are such."""

    command_class = Verb
