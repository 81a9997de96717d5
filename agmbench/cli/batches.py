"""Runs many jobs in one command: what it prints while they run, and at the end."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agmbench.cli.launchers import Place, launched
from agmbench.cli.terminal import echo, lasting
from agmbench.errors import RunFailed
from agmbench.logs import line
from agmbench.records import FINISHED, Label, Record
from agmbench.registry import load

if TYPE_CHECKING:
    from agmbench.suite import Planned, Standing
    from agmbench.trackers.mlflow import MlflowTracker


def folder_of(name: str) -> Path:
    """The folder on this machine in which a suite keeps the texts and the output of its jobs."""
    return Path("runs") / "suites" / name


def run_jobs(
    name: str,
    planned: "Sequence[Planned]",
    tracker: "MlflowTracker",
    place: Place,
    tagged: Mapping[str, str],
    quiet: bool = False,
    as_json: bool = False,
) -> "tuple[Standing, str]":
    """Run the jobs that are missing or failed, and print a line when each one ends. Returns the standing of all jobs afterwards, and the
    reason why the command fails (empty if it does not)."""
    from agmbench import suite

    begun, folder = time.monotonic(), folder_of(name)
    launcher = launched(place, folder, tracker.shown)
    known = load()
    todo = suite.todo(planned, tracker, known)
    total, failed = todo.total, 0
    for number, ended in enumerate(suite.run(name, todo, tracker, launcher, folder, tagged), 1):
        failed += bool(ended.reason)
        record = None if ended.reason else tracker.find(ended.task.key)
        what = f"failed: {ended.reason}" if ended.reason else f"done, test {record.figure}" if record else "done"
        left = (time.monotonic() - begun) / number * (total - number)
        rest = f", about {lasting(left)} left" if left else ""
        if as_json:
            where = {"number": number, "of": total, "seconds": round(ended.seconds), "left": round(left)}
            said = {"test": record.figure if record else None, "reason": ended.reason}
            echo(line("job", job=ended.task.name, **where, **said), err=True)
        elif not quiet or ended.reason:
            echo(f"[{number} of {total}] {ended.task.name}: {what} ({lasting(ended.seconds)}){rest}", err=True)
    if total and not quiet and not as_json:
        alone = f" ({todo.unimodal} of them unimodal models)" if todo.unimodal else ""
        echo(f"{counted(total)}{alone} in {lasting(time.monotonic() - begun)}, {failed} failed", err=True)
    reason = f"{counted(failed)} of suite '{name}' failed; see the output of each job in {folder}" if failed else ""
    return suite.progress(planned, tracker, known), reason


def raise_if_failed(reason: str) -> None:
    """Raise `RunFailed` if there is a reason, because jobs failed. A command calls this last."""
    if reason:
        raise RunFailed(reason)


def recorded(found: "Standing", tracker: "MlflowTracker", tagged: Mapping[str, str] | None = None) -> list[Record]:
    """The runs of the jobs that are done or failed. Finished runs that lack a tag of `tagged` get it now."""
    jobs = [*found.done, *(one for one, _ in found.failed)]
    digests, names = {one.digest for one in jobs}, sorted({one.dataset for one in jobs})
    records = [record for dataset in names for record in tracker.records(dataset) if record.digest in digests]
    for record in records:
        if tagged and record.status == FINISHED and not tagged.items() <= record.label.items():
            tracker.label(record, Label(tags=tagged))
    return records


def counted(number: int) -> str:
    """A number of jobs in words: `1 job`, `2 jobs`."""
    return "1 job" if number == 1 else f"{number} jobs"


def summary(name: str, found: "Standing") -> list[str]:
    """Lines for the user: the number of jobs by their state, without unimodal models; each failed job; the skipped jobs, by reason."""
    counts = {"done": found.done, "failed": found.failed, "missing": found.missing, "skipped": found.skipped}
    lines = [f"suite '{name}': " + ", ".join(f"{len(some)} {what}" for what, some in counts.items())]
    lines += [f"failed: {one.label}: {record.reason}" for one, record in found.failed]
    return [*lines, *reasons(found.skipped)]


def listed(planned: "Sequence[Planned]") -> list[str]:
    """Lines for the user: each job, the reasons why some are skipped, and how many there are."""
    skipped = [one for one in planned if one.skipped]
    jobs = [f"{one.label}{': skipped' if one.skipped else ''}" for one in planned]
    return [*jobs, *reasons(skipped), f"{counted(len(planned))}, {len(skipped)} skipped"]


def reasons(skipped: "Sequence[Planned]") -> list[str]:
    """One line for each reason why jobs are skipped, however many jobs have it."""
    lines = []
    for reason, count in Counter(one.skipped for one in skipped).items():
        label = next(one.label for one in skipped if one.skipped == reason)
        lines.append(f"skipped: {label}{f' and {count - 1} more' if count > 1 else ''}, because {reason}")
    return lines


def elsewhere(name: str, found: "Standing") -> list[str]:
    """Notes about the jobs that cannot be built on this machine: how many the store knows, and how many it does not know."""
    everybody = (*found.done, *(one for one, _ in found.failed), *found.missing, *found.skipped)
    stored = [one for one in everybody if one.stored]
    unknown = [one for one in found.skipped if one.plan_key and not (one.job or one.stored)]
    lines = []
    if stored:
        on = ", ".join(sorted({one.dataset for one in stored}))
        lines.append(
            f"note: {len(stored)} jobs on {on} cannot be built on this machine; they are shown as another machine planned them in the store"
        )
    if unknown:
        lines.append(
            f"note: {len(unknown)} jobs cannot be built on this machine, and the store does not know them; run agmbench suite run "
            f"{name} with these options on a machine that has their data: it keeps their plan in the store"
        )
    return lines
