"""The trials of a sweep. Each is a child run of the study's run, made by this process or by those that a launcher starts."""

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Any, NamedTuple

import optuna
import torch
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from agmbench import build, interrupts
from agmbench.addresses import hidden
from agmbench.contracts import SplitName, Unsuitable
from agmbench.errors import AgmbenchError, RunFailed, describe
from agmbench.execute import trained_concepts
from agmbench.execute.evaluation import make_feed
from agmbench.execute.headings import heading
from agmbench.jobs import digest
from agmbench.launch import Launcher, Task
from agmbench.names import STUDY, TRIAL, all_of_split
from agmbench.records import Record, Stopped, Tracker, numbers
from agmbench.registry import Registry, load
from agmbench.registry.located import parsed, plain
from agmbench.report.sweeps import assigned
from agmbench.sweep.study import SURPLUS, Sweep, open_study, try_again
from agmbench.trackers.mlflow import MlflowTracker
from agmbench.train import Epoch, train

Say = Callable[[str], None]

WORKER = "agmbench.sweep.trials:worker"  # the function that is called with a worker's text
STORAGE = "AGMBENCH_SWEEP_STORAGE"  # the environment variable that gives workers the address of the study's storage
LOOK = 2  # seconds between two looks at the trials of workers
SEEN: tuple[SplitName, ...] = ("train", "dev", "valid")
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


class _Surplus(Exception):
    """Raised to end a trial that was started although the other trials already use up the budget."""


class Workers(NamedTuple):
    """The launcher that starts processes to make trials, and their number."""

    launcher: Launcher
    number: int


def search(sweep: Sweep, tracker: Callable[[], Tracker], parent: str, workers: Workers | None, say: Say) -> None:
    """Work on a study until its trials are done: in this process, or in those that a launcher starts."""
    if workers is None:
        work(sweep, tracker(), parent, say)
        return
    text = yaml.safe_dump({"parent": parent, **sweep.content()}, sort_keys=False)
    tasks = [Task(f"{sweep.key}-{n}", f"{sweep.name} {n}", WORKER, text) for n in range(1, workers.number + 1)]
    os.environ[STORAGE] = sweep.storage  # not in the text, because it may contain a password
    watching = _Watching(sweep, say)
    try:
        failed = [ended.reason for ended in workers.launcher.run(tasks) if ended.reason]
    finally:
        watching.stop()
    left = sweep.trials - len(counted(open_study(sweep).get_trials(deepcopy=False)))
    if failed and left > 0:
        raise RunFailed(f"a worker of study '{sweep.name}' failed: {failed[0]}; run the same command again to resume it")


class _Watching:
    """Reports each trial that workers on any machine finish, by looking at the study from time to time."""

    def __init__(self, sweep: Sweep, say: Say) -> None:
        self._sweep, self._say, self._over = sweep, say, threading.Event()
        self._study = open_study(sweep)
        self._known = {trial.number for trial in counted(self._study.get_trials(deepcopy=False))}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self._tell()

    def _watch(self) -> None:
        while not self._over.wait(LOOK):
            with suppress(Exception):  # a database that does not answer now may answer at the next look
                self._tell()

    def _tell(self) -> None:
        for trial in counted(self._study.get_trials(deepcopy=False)):
            if trial.number not in self._known:
                self._known.add(trial.number)
                reason = str(trial.user_attrs.get("reason"))
                outcome = _valued(self._sweep, trial.values[0]) if trial.state == TrialState.COMPLETE else reason
                line = _trial_line(self._sweep, trial.number, outcome, trial.params)
                self._say(f"[{len(self._known)} of {self._sweep.trials}] {line}")


def worker(text: str) -> str:
    """Work on a study as one of its processes; the text describes the sweep. Returns why it failed, or an empty text."""
    content = plain(parsed(text, "the text of a sweep's worker"))
    sweep = Sweep.of(content, os.environ[STORAGE])
    try:
        work(sweep, MlflowTracker(), content["parent"], lambda line: print(line, flush=True))
    except AgmbenchError:
        raise
    except Exception as error:
        return hidden(describe(error), sweep.storage)
    return ""


def work(sweep: Sweep, tracker: Tracker, parent: str, say: Say) -> None:
    """Make trials until the study has as many complete or pruned ones as the sweep asks for, including those of other processes."""
    registry, device, study = load(), build.device(sweep.device), open_study(sweep)

    def objective(trial: Trial) -> float:
        if _claimed(study, before=trial.number) >= sweep.trials:
            trial.set_user_attr(SURPLUS, True)
            raise _Surplus
        params = {key: _suggest(trial, key, found) for key, found in sweep.space.items()}
        try:
            value = _trial(sweep, registry, device, study, trial, params, tracker, parent, say)
        except (Stopped, RunFailed) as error:  # a training that fails counts as a bad trial, because it used up budget
            trial.set_user_attr("reason", str(error))
            say(_trial_line(sweep, trial.number, str(error), params))
            raise optuna.TrialPruned from error
        except BaseException:
            try_again(study, study.get_trials(deepcopy=False)[trial.number])
            raise
        say(_trial_line(sweep, trial.number, _valued(sweep, value), params))
        return value

    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)
        if len(counted(study.get_trials(deepcopy=False))) >= sweep.trials:
            return
        if _claimed(study) >= sweep.trials:  # other processes are working on the last trials
            time.sleep(1)
            continue
        study.optimize(objective, n_trials=1, catch=(_Surplus,))


def _valued(sweep: Sweep, value: float) -> str:
    return f"valid {sweep.objective} {value:.4f}"


def _trial_line(sweep: Sweep, number: int, outcome: str, params: Mapping[str, Any]) -> str:
    return f"{sweep.name}: trial {number}: {outcome}, {assigned(params)}"


def counted(trials: Sequence[FrozenTrial], budget: int | None = None) -> list[FrozenTrial]:
    """The trials that use up the budget, which are complete or pruned; at most the first `budget` of them."""
    return [trial for trial in trials if trial.state in DONE][:budget]


def best_of(trials: Iterable[FrozenTrial], higher: bool) -> FrozenTrial:
    """The best trial; among equals the first by `numbered`, so that it does not matter which trials were made again."""
    return (max if higher else min)(sorted(trials, key=numbered), key=lambda trial: trial.values[0])


def numbered(trial: FrozenTrial) -> int:
    """The number of a trial or, if it was made because another trial was lost, of that trial."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def _claimed(study: optuna.Study, before: float = inf) -> int:
    """The number of trials that are done or running. With `before`, only trials before that number count, and waiting ones do too, so that
    several workers together do not exceed the budget."""
    states = DONE + ((TrialState.RUNNING,) if before == inf else (TrialState.RUNNING, TrialState.WAITING))
    return sum(trial.state in states and trial.number < before for trial in study.get_trials(deepcopy=False))


def _suggest(trial: Trial, key: str, found: BaseDistribution) -> Any:
    if isinstance(found, CategoricalDistribution):
        return trial.suggest_categorical(key, found.choices)
    if isinstance(found, IntDistribution):
        return trial.suggest_int(key, found.low, found.high, log=found.log)
    assert isinstance(found, FloatDistribution)
    return trial.suggest_float(key, found.low, found.high, log=found.log)


def _trial(
    sweep: Sweep,
    registry: Registry,
    device: torch.device,
    study: optuna.Study,
    trial: Trial,
    params: Mapping[str, Any],
    tracker: Tracker,
    parent: str,
    say: Say,
) -> float:
    """Train a trial; returns the objective on valid at the epoch that the recipe selects. A trial that is tried again goes on with the run
    of the lost trial.

    Unimodal models that the method needs are trained first, as jobs of their own; trials with the same recipe share them.
    """
    job = build.resolve(sweep.spec(registry, params), registry)
    frozen = study.get_trials(deepcopy=False)[trial.number]
    number = numbered(frozen)
    described = replace(
        heading(job, device),
        name=f"{sweep.name} trial {number}",
        digest=digest([sweep.key, number]),
        parent=parent,
    )
    described = replace(described, tags={**described.tags, TRIAL: str(number), STUDY: sweep.name})
    recipe, judge, value, best = job.spec.training, build.judge(job.spec, registry, job.dataset), -inf, (-inf, -inf)
    model = build.model(job).to(device)
    modulator = build.modulator(job, model)
    concepts = trained_concepts(job, model, modulator, tracker, device, _Saying(sweep.name, say))
    with tracker.start(described) as run, make_feed(job, device, SEEN) as feed:
        try:
            named = f"'{job.spec.dataset.name}'"
            for epoch in train(model, modulator, feed, recipe, job.spec.seed, concepts, judge=judge, data=named):
                if recipe.select == "last" or epoch.rank > best:
                    best, value = epoch.rank, epoch.valid[epoch.by]
                interrupts.check()
                run.log_points(numbers(all_of_split("valid", epoch.valid), epoch.number))
                trial.report(epoch.valid[epoch.by], epoch.number)
                if epoch.number + 1 < recipe.epochs and trial.should_prune():
                    raise Stopped("pruned")
        except Unsuitable as error:
            raise AgmbenchError(str(error)) from error
    return value


@dataclass(frozen=True)
class _Saying:
    """An observer of the unimodal models that a trial needs. It reports each by one line, without any result on test."""

    study: str
    say: Say

    def started(self, name: str, epochs: int, done: int) -> None:
        self.say(f"{self.study}: the method needs {name}, which is trained first")

    def warned(self, text: str) -> None:
        self.say(f"{self.study}: {text}")

    def epoch(self, epoch: Epoch) -> None:
        interrupts.check()

    def finished(self, record: Record, trained: bool) -> None: ...
