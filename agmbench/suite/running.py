"""The jobs of a suite through a launcher: concepts first, then the jobs, each as it ends."""

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
from agmbench.suite.kept import keep
from agmbench.suite.standing import Todo

WORK = "agmbench.work:job"  # what a job's text is for


def run(
    name: str, todo: Todo, tracker: Tracker, launcher: Launcher, folder: Path, tagged: Mapping[str, str] | None = None
) -> Iterator[Ended]:
    """Run what there is to do, and yield each job as it ends. What another command is working on, here or on another machine, is left
    to that until all else is done, and then waited for.

    A launcher is given a job as its text, which is kept as `<folder>/<digest>.yaml` too. In each data set's experiment jobs stand
    under a run of the suite. What is trained is `tagged`, as `--tag` does it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    at_work = sorted({job.spec.dataset.name for stage in todo.stages for job in stage})
    for dataset, planned in todo.plans.items():
        keep(tracker, dataset, name, planned)
        if dataset not in at_work:
            tracker.settle(dataset, tags(name))
    with ExitStack() as groups:
        parents = {one: groups.enter_context(group(tracker, one, name)).id for one in at_work}
        make = partial(_tasks, parents=parents, folder=folder, tagged=tagged or {})
        lost: dict[str, str] = {}  # why, by digest
        for stage in todo.stages:
            training = {job.digest: job.training for job in stage}
            reasons = {job.digest: _without(job, lost) for job in stage}
            for ended in _each(launcher, [job for job in stage if not reasons[job.digest]], make):
                if ended.reason:
                    for digest_ in dict.fromkeys((ended.task.key, training[ended.task.key])):
                        tracker.lost(digest_, ended.reason, ended.place)
                        if tracker.find(digest_) is None:
                            lost[digest_] = ended.reason
                yield ended
            for task in make(job for job in stage if reasons[job.digest]):
                yield Ended(task, reasons[task.key], 0)


def _each(launcher: Launcher, jobs: Sequence[build.Job], make: Callable[..., list[Task]]) -> Iterator[Ended]:
    """Each job as it ends. Those that another process has when they are started come after all others, and wait for it."""
    taken = set()
    for ended in launcher.run(make(jobs, wait=False)):
        if Taken.SAYS in ended.reason:
            taken.add(ended.task.key)
        else:
            yield ended
    if taken:
        yield from launcher.run(make(job for job in jobs if job.digest in taken))


def _without(job: build.Job, lost: Mapping[str, str]) -> str:
    """Why a job is not started whose concept, or another job of whose training, has just failed."""
    if not lost:  # as a rule, and concepts take a moment to resolve
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
    """The jobs as tasks, one each: name, the run that it stands under, whether it waits for another process, its tags, and its spec
    in full. A concept, which many jobs share, has no tags."""
    tasks = []
    for job in {job.digest: job for job in jobs}.values():
        content = {"name": job.name, "parent": parents[job.spec.dataset.name], "wait": wait, "spec": job.spec.canonical()}
        if tagged and job.spec.present is None:
            content["tags"] = dict(tagged)
        text = yaml.safe_dump(content, sort_keys=False)
        (folder / f"{job.digest}.yaml").write_text(text)
        tasks.append(Task(job.digest, job.name, WORK, text))
    return tasks
