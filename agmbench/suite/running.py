"""Runs the jobs of a suite through a launcher: first the unimodal models, then the other jobs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import yaml

from agmbench import build
from agmbench.errors import Taken
from agmbench.launch import Ended, Launcher, Task
from agmbench.records import Tracker
from agmbench.suite.group import group, tags
from agmbench.suite.plans import save_plan
from agmbench.suite.standing import Todo

WORK = "agmbench.work:job"  # the function that is called with a job's text


def run(
    name: str, todo: Todo, tracker: Tracker, launcher: Launcher, folder: Path, tagged: Mapping[str, str] | None = None
) -> Iterator[Ended]:
    """Run the jobs that remain, stage by stage, and yield each as soon as it has ended. In each stage, jobs on which another command is
    working, here or on another machine, come last: they wait for that command.

    The launcher gets each job as a text, which is also written to `<folder>/<digest>.yaml`. In the experiment of each data set, the run of
    the suite is the parent of the jobs' runs. New runs get the tags `tagged`, as with `--tag`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with_jobs = sorted({job.spec.dataset.name for stage in todo.stages for job in stage})
    for dataset, planned in todo.plans.items():
        save_plan(tracker, dataset, name, planned)
        if dataset not in with_jobs:
            tracker.finish_group(dataset, tags(name))
    with ExitStack() as groups:
        parents = {one: groups.enter_context(group(tracker, one, name)).id for one in with_jobs}
        make = partial(_tasks, parents=parents, folder=folder, tagged=tagged or {})
        lost: dict[str, str] = {}  # why jobs failed, by digest
        for stage in todo.stages:
            training = {job.digest: job.training for job in stage}
            reasons = {job.digest: _without(job, lost) for job in stage}
            for ended in _each(launcher, [job for job in stage if not reasons[job.digest]], make):
                if ended.reason:
                    for digest_ in dict.fromkeys((ended.task.key, training[ended.task.key])):
                        tracker.mark_lost(digest_, ended.reason, ended.place)
                        if tracker.find(digest_) is None:
                            lost[digest_] = ended.reason
                yield ended
            for task in make(job for job in stage if reasons[job.digest]):
                yield Ended(task, reasons[task.key], 0)


def _each(launcher: Launcher, jobs: Sequence[build.Job], make: Callable[..., list[Task]]) -> Iterator[Ended]:
    """Run the jobs, and yield each as soon as it has ended. A job that another process has when it is started is run again after all
    others, and then waits for that process."""
    taken = set()
    for ended in launcher.run(make(jobs, wait=False)):
        if Taken.SAYS in ended.reason:
            taken.add(ended.task.key)
        else:
            yield ended
    if taken:
        yield from launcher.run(make(job for job in jobs if job.digest in taken))


def _without(job: build.Job, lost: Mapping[str, str]) -> str:
    """The reason why a job is not started: one of its unimodal models, or the job whose training it shares, has failed; else empty."""
    if not lost:  # this is usual, and it saves the time to resolve the unimodal models
        return ""
    if job.training in lost:
        return f"its training failed: {lost[job.training]}"
    reasons = (
        f"its concept of {m} failed: {lost[one.digest]}" for m, one in build.references(job).items() if one.digest in lost
    )
    return next(reasons, "")


def _tasks(
    jobs: Iterable[build.Job], parents: Mapping[str, str], folder: Path, tagged: Mapping[str, str], wait: bool = True
) -> list[Task]:
    """Make a task for each job. Its text has the job's name, its parent run, whether it waits for another process, its tags, and its whole
    spec. A unimodal model gets no tags, because many jobs share it."""
    tasks = []
    for job in {job.digest: job for job in jobs}.values():
        content = {"name": job.name, "parent": parents[job.spec.dataset.name], "wait": wait, "spec": job.spec.canonical()}
        if tagged and job.spec.present is None:
            content["tags"] = dict(tagged)
        text = yaml.safe_dump(content, sort_keys=False)
        (folder / f"{job.digest}.yaml").write_text(text)
        tasks.append(Task(job.digest, job.name, WORK, text))
    return tasks
