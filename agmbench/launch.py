"""Where jobs run: what a launcher is given, what it tells, and how a task is worked on. The author of a launcher imports from here.

A task is a text and the name of the function that the text is for. It holds no path and no password: what it needs beside its text
is in the environment, and of that, `environment()` is what has to travel.

    python -m agmbench.launch FUNCTION < TEXT

works on a task in a process of its own, which any launcher may start: its exit status is 0 if all went well, and else the last line
of its standard error says why.
"""

import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agmbench import interrupts
from agmbench.addresses import hidden
from agmbench.ending import leave
from agmbench.errors import AgmbenchError, describe, printable

TRAVELS = (
    "AGMBENCH_",
    "MLFLOW_",
    "AWS_",
    "PYTHONSAFEPATH",
)  # what names the store, its keys, data, registry; AWS_: of stores of artifacts
STORE = "MLFLOW_TRACKING_URI"
PLACE = "AGMBENCH_PLACE"  # what a launcher calls the place of a task, unlike for every task that it starts
INTERRUPTED = "interrupted"  # the reason of a task whose process was asked to stop


class Task(NamedTuple):
    """What a launcher is given.

    key: letters, digits, '.', '_' and '-'; each task of a store has another.
    name: what it is called where people look.
    function: `module:function`; it is given the text, and returns why it failed, or nothing.
    text: all that the function needs to know.
    """

    key: str
    name: str
    function: str
    text: str


class Ended(NamedTuple):
    """A task that has ended: why it failed (empty if it did not), and how many seconds it took, as far as its launcher knows.

    place: what the launcher gave the task as AGMBENCH_PLACE, if it did. It says by it that nothing runs there any more, so that a
    job which a process left on another machine is known to be free.
    """

    task: Task
    reason: str
    seconds: float
    place: str = ""


class Launcher:
    """Runs tasks somewhere. Its parameters are keyword-only, with types and defaults, and are set by `--launch NAME=VALUE`.

    Those with the names `jobs`, `gpus_per_job`, `cpus_per_job`, `jobs_per_gpu`, `time`, `partition` and `slurm` have options of
    their own (`--gpus-per-job`). What a user does not give is not passed, so that the signature's default holds.

    folder: what tasks print goes there, `<key>.log`; on this machine, and it may be made only once a task begins.
    store: letters that tell this store of runs from others, for a queue in which tasks of several may stand.
    """

    def __init__(self, folder: Path, store: str) -> None:
        self.folder, self.store = folder, store

    def check(self) -> None:
        """Raise `AgmbenchError`, in one line, if nothing can be run: before anything is written. Starts nothing."""

    def notes(self) -> Sequence[str]:
        """What whoever runs tasks here may want to know, a line each."""
        return ()

    def run(self, tasks: Sequence[Task]) -> Iterator[Ended]:
        """Each task once, as it ends. A process that dies is tried again, or is a reason; it never stops the other tasks.

        Left early (the generator is closed), tasks on this machine are asked to stop and waited for. Those in the queue of a
        cluster may go on; then a task of the same store and key, run again, is found there and not started twice.
        """
        raise NotImplementedError


def environment() -> dict[str, str]:
    """The variables of this process that a task needs wherever it is worked on. Some are secret: they belong on no command line."""
    return {name: value for name, value in os.environ.items() if name.startswith(TRAVELS)}


def enter(variables: Mapping[str, str], folder: str) -> None:
    """Give this process the `environment()` of another, and its working directory, where plugins and the default store are."""
    for name in [name for name in os.environ if name.startswith(TRAVELS) and name not in variables]:
        del os.environ[name]
    os.environ.update(variables)
    if Path(folder).is_dir():
        os.chdir(folder)
    elif STORE not in variables:
        raise AgmbenchError(
            f"there is no folder {folder} on this machine, in which the store of runs would be; share it, or name a store "
            f"that every machine reaches: {STORE}"
        )


def limit_threads(count: int) -> None:
    """Tasks with more threads than cores only wait for one another."""
    os.environ.setdefault("OMP_NUM_THREADS", str(count))
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(count)


def perform(task: Task) -> str:
    """Work on a task in this process; why it failed, or nothing."""
    module, _, name = task.function.partition(":")
    try:
        return str(getattr(importlib.import_module(module), name)(task.text))
    except KeyboardInterrupt:
        return INTERRUPTED
    except AgmbenchError as error:
        return str(error)
    except (Exception, SystemExit) as error:  # a component may raise anything
        return describe(error)


def told(reason: str) -> str:
    """A reason as it may be shown: one line without secrets."""
    return " ".join(printable(hidden(reason, os.environ.get(STORE, ""))).split())


def main(words: Sequence[str], task: Task | None = None) -> int:
    """The process of one task, whose text is read from standard input; its exit status."""
    (function,) = words
    interrupts.listen()
    reason = perform(task or Task("", "", function, sys.stdin.read()))
    if reason:
        print(f"error: {told(reason)}", file=sys.stderr, flush=True)
    return 0 if not reason else 130 if reason == INTERRUPTED else 1


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
