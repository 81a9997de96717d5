"""The launcher `slurm`: the queue of a Slurm cluster, used only through `sbatch`, `squeue` and `scontrol`. On a node, a job runs as
`python -m agmbench.launchers.slurm`."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NamedTuple

from annotated_types import Ge, Gt

from agmbench import interrupts
from agmbench.ending import leave
from agmbench.errors import AgmbenchError
from agmbench.launch import INTERRUPTED, PLACE, Ended, Launcher, Task, enter, environment, limit_threads, perform, safe_line

ANSWER = 60  # seconds within which Slurm must answer
DOWN = 600  # seconds for which its controller may be unreachable, for example while it restarts
AT_A_TIME = 100  # the largest number of jobs sent between two looks into the queue
LONGEST = 900  # the largest number of letters of a reason, which is sent as the job's comment
ENDED = {  # final states of a job, with the reason of its failure
    "COMPLETED": "",
    "FAILED": "its process ended with an error; see its log",
    "CANCELLED": "it was cancelled (scancel)",
    "OUT_OF_MEMORY": "it ran out of memory; ask for more: --slurm mem=16G",
    "DEADLINE": "its deadline passed",
    "TIMEOUT": "its time limit passed",
    "PREEMPTED": "it was preempted",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not start",
}
AGAIN = {"TIMEOUT", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL"}  # the final states after which a job is sent again
FULL = re.compile(
    "MaxSubmit|AssocMaxJobs|QOSMax|MaxJobCount|temporarily unavailable", re.IGNORECASE
)  # errors of sbatch that mean that the queue has no room now


class Slurm(Launcher):
    """Each job is a Slurm job, sent by `sbatch` as a script that holds the job's text. No other process of agmbench runs on the cluster.

    A job that is preempted, or whose node fails, is queued again by Slurm (`--requeue`) and goes on from its last state. A minute before
    its time limit a job is warned by SIGUSR1, keeps its state and queues itself again. If the limit ends a job nevertheless, it is sent
    again. The environment is sent with the job (`--export=ALL`), so it is on no command line. A job that `scancel` ended counts as failed,
    with this reason.

    This process only looks into the queue. If it ends, its jobs go on. If it is started again, it finds them by their names, which are made
    of the store and the job's digest.

    jobs: how many jobs are in the queue at once. Default: all of them, or as many as the cluster takes.
    gpus_per_job: GPUs for each job (`--gres=gpu:N`).
    cpus_per_job: cores, and so threads, for each job (`--cpus-per-task`).
    time: the time limit of a job, as `sbatch` takes it: minutes, or 1-12:00:00. Default: that of the partition.
    partition: the partition where jobs run. Default: that of the cluster.
    slurm: further options of `sbatch` by their long names, such as qos, account, mem or constraint; give an option that takes no value an
        empty one.
    restarts: how often a job is restarted after a time limit, a preemption or the loss of a node.
    warning: how many seconds before the time limit a job is warned; 0 means never.
    poll: seconds between two looks into the queue.
    python: the interpreter on the nodes. Default: the path of this one.
    """

    def __init__(
        self,
        folder: Path,
        store: str,
        *,
        jobs: Annotated[int, Ge(1)] | None = None,
        gpus_per_job: Annotated[int, Ge(0)] | None = None,
        cpus_per_job: Annotated[int, Ge(1)] = 1,
        time: str | None = None,
        partition: str | None = None,
        slurm: dict[str, str] | None = None,
        restarts: Annotated[int, Ge(0)] = 100,
        warning: Annotated[int, Ge(0)] = 60,
        poll: Annotated[float, Gt(0)] = 5,
        python: str | None = None,
    ) -> None:
        super().__init__(folder, store)
        self.jobs, self.restarts, self.poll, self.python = jobs, restarts, poll, python or sys.executable
        self.options = {"requeue": "", "export": "ALL", "ntasks": "1", "cpus-per-task": str(cpus_per_job)}
        if gpus_per_job:
            self.options["gres"] = f"gpu:{gpus_per_job}"
        if time is not None:
            self.options |= {"time": time, **({"signal": f"B:USR1@{warning}"} if warning else {})}
        if partition is not None:
            self.options["partition"] = partition
        self.options |= slurm or {}

    def check(self) -> None:
        _run_program("sbatch", "--test-only", *self._words("agmbench-check"), script="#!/bin/sh\ntrue\n")

    def run(self, tasks: Sequence[Task]) -> Iterator[Ended]:
        self.folder.mkdir(parents=True, exist_ok=True)
        sent = {
            name: job for name, job in _newest(_queue()).items() if job.state not in ENDED
        }  # jobs that an earlier process of this command has sent
        begun = {task.key: time.monotonic() for task in tasks}
        waiting, running, sendings = list(tasks), dict[str, _Sent](), dict.fromkeys(begun, 0)
        while waiting or running:
            for task in [task for task in waiting if self._name(task) in sent]:
                running[task.key] = _Sent(task, sent[self._name(task)].number)
                waiting.remove(task)
            for _ in range(min(len(waiting), AT_A_TIME, (self.jobs or len(tasks)) - len(running))):
                number = self._send(waiting[0], alone=not running)
                if number is None:
                    break
                task = waiting.pop(0)
                begun[task.key] = time.monotonic()
                running[task.key] = _Sent(task, number)
            time.sleep(self.poll)
            queue = {job.number: job for job in _queue()}
            for one in list(running.values()):
                job = queue.get(one.number)
                state = job.state if job else "" if one.missed else None
                if state is None:  # a job that was just sent may not be listed yet; if it is missing twice, it is gone
                    running[one.task.key] = one._replace(missed=True)
                elif state in AGAIN and sendings[one.task.key] < self.restarts:
                    sendings[one.task.key] += 1
                    sent.pop(self._name(one.task), None)
                    waiting.append(running.pop(one.task.key).task)
                elif state == "" or state in ENDED:
                    del running[one.task.key]
                    reason = f"Slurm job {one.number}: {_reason(job)}" if _reason(job) else ""
                    yield Ended(
                        one.task, reason, time.monotonic() - begun[one.task.key], _place(self._name(one.task), one.number)
                    )

    def _name(self, task: Task) -> str:
        return f"agmbench-{self.store}-{task.key}"

    def _send(self, task: Task, alone: bool) -> int | None:
        """Send a task; returns the number of its Slurm job. Returns `None` if the queue has no room now but will have when our jobs end; if
        we have no jobs in it (`alone`), this is an error."""
        log = str((self.folder / f"{task.key}.log").absolute()).replace("%", "%%")
        script = _script(task, self.python, os.getcwd(), self.restarts)
        try:
            said = _run_program(
                "sbatch", "--parsable", f"--output={log}", "--open-mode=append", *self._words(self._name(task)), script=script
            )
        except AgmbenchError as error:
            if alone or not FULL.search(str(error)):
                raise
            return None
        return int(said.strip().partition(";")[0])

    def _words(self, name: str) -> list[str]:
        options = {"job-name": name, **self.options}
        return [f"--{key}={value}" if value else f"--{key}" for key, value in options.items()]


def _place(name: str, number: int) -> str:
    return f"{name}-{number}"


class _Sent(NamedTuple):
    task: Task
    number: int
    missed: bool = False  # whether it was missing in the queue at the last look


class _Job(NamedTuple):
    """A job as one line of the queue shows it."""

    number: int
    name: str
    state: str
    comment: str


def _queue() -> list[_Job]:
    """The user's jobs in the queue, including those that ended within the last minutes."""
    begun = time.monotonic()
    while True:
        try:
            user = str(os.getuid())
            lines = _run_program("squeue", "--noheader", "--states=all", f"--user={user}", "--format=%A|%j|%T|%k").splitlines()
            break
        except AgmbenchError:
            if time.monotonic() - begun > DOWN:
                raise
            time.sleep(5)
    parts = [line.split("|", 3) for line in lines if line.count("|") >= 3]
    return [_Job(int(number), name, state, comment) for number, name, state, comment in parts]


def _newest(jobs: Sequence[_Job]) -> dict[str, _Job]:
    return {job.name: job for job in sorted(jobs)}


def _reason(job: _Job | None) -> str:
    """Why a job failed; empty if it did not. If it has left the queue, this is not known, and only the store may have its result."""
    if job is None:
        return "it has left the queue and Slurm does not know how it ended"
    said = "" if job.comment == "(null)" else job.comment
    return said if job.state == "FAILED" and said else ENDED[job.state]


def _run_program(program: str, *words: str, script: str | None = None) -> str:
    """Run a program of Slurm; returns its output. Raises `AgmbenchError` with the program's own words if it refuses."""
    try:
        done = subprocess.run(
            [program, *words], input=script or "", capture_output=True, text=True, timeout=ANSWER, check=False
        )
    except FileNotFoundError as error:
        raise AgmbenchError(
            f"--launcher slurm: there is no program {program} on this machine; run it where jobs are sent to Slurm, or take another"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise AgmbenchError(f"--launcher slurm: Slurm does not answer within {ANSWER} seconds ({program})") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        plain = [line.removeprefix(f"{program}: ").removeprefix("error: ") for line in lines]
        raise AgmbenchError(f"--launcher slurm: {program} refuses: {'; '.join(plain[:3])}")
    return done.stdout


def _script(task: Task, python: str, folder: str, restarts: int) -> str:
    """The script of a Slurm job. Python replaces the shell (`exec`), so that it receives signals; the task's text is its standard input."""
    words = [python, "-P", "-m", __name__, task.function, folder, str(restarts)]
    end = "END-OF-TASK"
    text = json.dumps(task.text)  # one line, so it cannot contain the line that ends the text
    return f"#!/bin/sh\nexec {shlex.join(words)} <<'{end}'\n{text}\n{end}\n"


def main(words: Sequence[str]) -> int:
    """Perform a job in its process on a node. If it fails, the reason goes into the log, and into the job's comment, where `_reason` finds
    it."""
    function, folder, restarts = words
    warned = _listen()
    limit_threads(int(os.environ.get("SLURM_CPUS_PER_TASK", "1")))
    number, gone_on = os.environ["SLURM_JOB_ID"], int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    os.environ[PLACE] = _place(os.environ["SLURM_JOB_NAME"], int(number))
    try:
        enter(environment(), folder)
        reason = perform(Task("", "", function, json.loads(sys.stdin.readline())))
    except AgmbenchError as error:
        reason = str(error)
    except KeyboardInterrupt:
        reason = INTERRUPTED
    if not reason:
        return 0
    said = safe_line(reason)
    print(f"error: {said}", file=sys.stderr, flush=True)
    with suppress(AgmbenchError):
        if reason == INTERRUPTED and warned and gone_on < int(restarts):
            _run_program("scontrol", "requeue", number)
        elif reason != INTERRUPTED:
            _run_program("scontrol", "update", f"JobId={number}", f"Comment={said[:LONGEST]}")
    return 130 if reason == INTERRUPTED else 1


def _listen() -> list[int]:
    """Listen to requests to stop. Returns a list to which each SIGUSR1 is added, by which Slurm warns of the time limit."""
    interrupts.listen()
    stop, warned = signal.getsignal(signal.SIGUSR1), list[int]()
    assert callable(stop)

    def warn(number: int, frame: object) -> None:
        warned.append(number)
        stop(number, frame)  # type: ignore[arg-type]

    signal.signal(signal.SIGUSR1, warn)
    return warned


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
