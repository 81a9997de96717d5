"""The command line: one file per verb. Each is imported only when it is used, so that `--help` and `list` stay quick."""

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
    "run": "Train one job and its unimodal reference models, and log them to MLflow.",
    "compare": "Compare methods side by side: one table per setting, from the runs in the store.",
    "measure": "Measure finished runs by further metrics; nothing is trained.",
    "suite": "Run and report named sets of jobs: list, show, run, status, report.",
    "sweep": "Tune modulators with Optuna on the valid split, each with the same number of trials.",
    "data": "Manage the data sets on this machine: status, get, describe, prepare, verify, sample.",
    "list": "List every data set, transform, encoder, fusion, modulator, metric and launcher.",
    "show": "Show one component: its parameters, defaults, paper, and what it refuses.",
    "check": "Check whether a component, built in or your own, keeps the promises of its kind.",
    "plugin": "Create a component of your own (plugin new) from a working skeleton.",
    "export": "Write finished runs to a folder that others can verify and compare with theirs.",
    "import": "Verify a folder of results that someone else exported, and keep its runs in the store.",
    "verify-result": "Run the job of an exported result again, and compare numbers and predictions.",
    "site": "Write a static site of one or several folders of results.",
    "ui": "Open the MLflow UI on this store; only this machine can reach it.",
}


MENDED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP)
NO_SOCKET = "AF_UNIX path too long"  # Python's error if it cannot make the socket of a process in the temporary folder
LONGEST = 4000  # the largest number of characters of an error message


def module_of(verb: str) -> str:
    """The module that holds a verb."""
    return f"agmbench.cli.{verb.replace('-', '_')}"


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*VERBS]  # not list(VERBS): `list` is the verb of that name once it is imported

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            raise AgmbenchError(f"no command '{name}': {allowed(name, VERBS, 'agmbench --help')}")
        command: click.Command = importlib.import_module(module_of(name)).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*VERBS.items()])


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="agmbench")
def cli() -> None:
    """A benchmark of methods that balance the modalities of a multimodal model. Start with: agmbench run"""


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run the command line. Every error is one line on standard error and an exit status."""
    interrupts.listen()
    os.environ["PYTHONSAFEPATH"] = "1"  # child processes import no module from the working directory
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="ascii" if _ascii() else None, errors="agmbench")  # replace characters that it lacks
    try:
        os.getcwd()
    except OSError as error:  # torch would end the process without a message
        _exit(f"the working directory cannot be used ({error.strerror}); change to a directory that exists", 2)
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
        if error.errno == errno.EPIPE:  # the reader of a pipe has closed it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        if error.errno in MENDED and error.filename is not None:  # the user can name another path
            _exit(f"{error.filename} cannot be read or written ({error.strerror})", 2)
        if str(error) == NO_SOCKET:
            from tempfile import gettempdir

            _exit(
                f"{gettempdir()} is too long a path for the sockets of processes; set TMPDIR to a shorter one, such as /tmp", 2
            )
        _unexpected(error)
    except Exception as error:
        _unexpected(error)
    sys.exit(0)


def _ascii() -> bool:
    """Whether LC_ALL asks for plain ASCII. Python itself treats such a locale as UTF-8. LANG=C does not count, because Python replaces it
    when it starts."""
    return os.environ.get("LC_ALL") in ("C", "POSIX") and not {"PYTHONIOENCODING", "PYTHONUTF8"} & os.environ.keys()


def _exit(text: str, status: int) -> NoReturn:
    line = " ".join(hidden(text, os.environ.get("MLFLOW_TRACKING_URI", "")).split())
    echo(f"error: {line if len(line) <= LONGEST else f'{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}'}", err=True)
    sys.exit(status)


def _unexpected(error: Exception) -> NoReturn:
    if os.environ.get("AGMBENCH_DEBUG"):
        raise error
    _exit(f"{describe(error)} (AGMBENCH_DEBUG=1 shows the traceback)", 1)
