"""Where jobs run: what a launcher is given, what it returns, and how a task is performed. Authors of launchers import from here.

A task is a text and the name of the function that is called with this text. It contains no path and no password: whatever else it needs is
in environment variables, and a launcher passes those of `environment()` on.

    python -m agmbench.launch FUNCTION < TEXT

performs a task in a process of its own, which any launcher may start. Its exit status is 0 if the task succeeded; otherwise the last line
of its standard error says why it failed.
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
)  # variables that name the store and its keys, the data and the registry; AWS_ is for artifact stores
STORE = "MLFLOW_TRACKING_URI"
PLACE = "AGMBENCH_PLACE"  # a launcher's name for the place where a task runs, different for every task that it starts
INTERRUPTED = "interrupted"  # the reason of a task whose process was asked to stop


class Task(NamedTuple):
    """What a launcher is given.

    key: letters, digits, '.', '_' and '-'; unique among the tasks of a store.
    name: the name that people see, for example in a cluster's queue.
    function: `module:function`; it is called with the text, and returns why it failed, or an empty text.
    text: everything that the function needs to know.
    """

    key: str
    name: str
    function: str
    text: str


class Ended(NamedTuple):
    """A task that has ended: why it failed (empty if it did not), and how many seconds it took, as far as its launcher knows.

    place: what the launcher gave the task as AGMBENCH_PLACE, if it gave one. With it the launcher states that nothing runs there any more,
        so a job that a dead process on another machine had claimed is free again.
    """

    task: Task
    reason: str
    seconds: float
    place: str = ""


class Launcher:
    """Runs tasks somewhere. Its parameters are keyword-only, with types and defaults, and are set by `--launch NAME=VALUE`.

    Parameters named `jobs`, `gpus_per_job`, `cpus_per_job`, `jobs_per_gpu`, `time`, `partition` and `slurm` have options of their own
    (`--gpus-per-job`). A parameter that the user does not give is not passed, so the signature's default applies.

    folder: where the output of each task is written, as `<key>.log`, on this machine. It need not exist before a task begins.
    store: letters that distinguish this store of runs from others, for a queue that holds tasks of several stores.
    """

    def __init__(self, folder: Path, store: str) -> None:
        self.folder, self.store = folder, store

    def check(self) -> None:
        """Raise `AgmbenchError` with one line if no task can be run. Called before anything is written; starts nothing."""

    def notes(self) -> Sequence[str]:
        """Notes for the user who runs tasks here, one line each."""
        return ()

    def run(self, tasks: Sequence[Task]) -> Iterator[Ended]:
        """Run the tasks, and yield each once, as soon as it has ended. A task whose process dies is tried again or yielded with a reason;
        it never stops the other tasks.

        If the caller leaves early (the generator is closed), tasks on this machine are asked to stop and waited for. Tasks in a cluster's
        queue may go on; a later `run` with a task of the same store and key then finds it there and does not start it twice.
        """
        raise NotImplementedError


def environment() -> dict[str, str]:
    """The environment variables of this process that a task needs wherever it runs. Some are secret: never put them on a command line."""
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
    """Set the number of threads of this process. Tasks with more threads than cores only wait for one another."""
    os.environ.setdefault("OMP_NUM_THREADS", str(count))
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(count)


def perform(task: Task) -> str:
    """Perform a task in this process; returns why it failed, or an empty text."""
    module, _, name = task.function.partition(":")
    try:
        return str(getattr(importlib.import_module(module), name)(task.text))
    except KeyboardInterrupt:
        return INTERRUPTED
    except AgmbenchError as error:
        return str(error)
    except (Exception, SystemExit) as error:  # a component may raise anything
        return describe(error)


def safe_line(reason: str) -> str:
    """A reason that is safe to show: one line without secrets."""
    return " ".join(printable(hidden(reason, os.environ.get(STORE, ""))).split())


def main(words: Sequence[str], task: Task | None = None) -> int:
    """Perform one task, by default with the text from standard input; returns the exit status of the process."""
    (function,) = words
    interrupts.listen()
    reason = perform(task or Task("", "", function, sys.stdin.read()))
    if reason:
        print(f"error: {safe_line(reason)}", file=sys.stderr, flush=True)
    return 0 if not reason else 130 if reason == INTERRUPTED else 1


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
