"""The command line: one verb a file, each imported when it is asked for, so that `--help` and `list` stay quick."""

import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from agmbench import interrupts
from agmbench.addresses import hidden
from agmbench.cli.terminal import echo
from agmbench.errors import AgmbenchError, allowed, describe

VERBS = {
    "run": "Train one job, with its mono-modal references, and log it to MLflow.",
    "compare": "Modulators side by side: one table a setting, from the runs in the store.",
    "measure": "Measure finished runs by metrics that came later; nothing is trained.",
    "suite": "Named matrices of jobs: list, show, run, status, report.",
    "sweep": "Tune modulators on valid by Optuna, each with as many trials.",
    "data": "The data sets on this machine: status, prepare, verify, sample.",
    "list": "The registry: every data set, transform, encoder, fusion, modulator, metric and launcher.",
    "show": "One entry: its parameters, defaults, paper, and what it refuses.",
    "check": "Whether a component, built in or your own, keeps what its kind promises.",
    "plugin": "A component of your own: new, a working skeleton.",
    "ui": "Open the MLflow UI on this store, for this machine alone.",
}


MENDED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP)
LONGEST = 4000  # letters of an error


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*VERBS]  # `list` is the verb here, once it is imported

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            raise AgmbenchError(f"no command '{name}': {allowed(name, VERBS)}")
        command: click.Command = importlib.import_module(f"agmbench.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*VERBS.items()])


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="agmbench")
def cli() -> None:
    """A benchmark of multimodal learning under gradient modulation. Start with: agmbench run"""


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; whatever goes wrong is one line on standard error and an exit status."""
    interrupts.listen()
    os.environ["PYTHONSAFEPATH"] = "1"  # no process that is started from here takes a module from the working directory
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no letter for a dash gets a question mark
    try:
        os.getcwd()
    except OSError as error:  # torch would end the process
        _exit(f"the working directory cannot be used ({error.strerror}); change to one that is there", 2)
    try:
        cli.main(words, prog_name="agmbench", standalone_mode=False)
    except AgmbenchError as error:
        _exit(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        echo(error.format_message())
        sys.exit(2)
    except click.ClickException as error:
        _exit(error.format_message(), 2)
    except (KeyboardInterrupt, click.Abort):
        _exit("interrupted", 130)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of a pipe has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        if error.errno in MENDED and error.filename is not None:  # a path that the user can name anew
            _exit(f"{error.filename} cannot be read or written ({error.strerror})", 2)
        _unexpected(error)
    except Exception as error:
        _unexpected(error)
    sys.exit(0)


def _exit(text: str, status: int) -> NoReturn:
    line = " ".join(hidden(text, os.environ.get("MLFLOW_TRACKING_URI", "")).split())
    echo(f"error: {line if len(line) <= LONGEST else f'{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}'}", err=True)
    sys.exit(status)


def _unexpected(error: Exception) -> NoReturn:
    if os.environ.get("AGMBENCH_DEBUG"):
        raise error
    _exit(f"{describe(error)} (AGMBENCH_DEBUG=1 shows the traceback)", 1)
