"""The trials of a sweep: each is a run below the study's own, made by this process or by those that a launcher starts."""

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
from agmbench.execute.evaluation import fed
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

WORKER = "agmbench.sweep.trials:worker"  # what a worker's text is for
STORAGE = "AGMBENCH_SWEEP_STORAGE"  # the variable that tells workers where the study is
LOOK = 2  # seconds between two looks at what workers have done
SEEN: tuple[SplitName, ...] = ("train", "dev", "valid")
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


class _Surplus(Exception):
    """A trial drawn when the others had used up the budget."""


class Workers(NamedTuple):
    """Processes that make trials: so many, started by a launcher."""

    launcher: Launcher
    number: int


def search(sweep: Sweep, tracker: Callable[[], Tracker], parent: str, workers: Workers | None, say: Say) -> None:
    """Work on a study until its trials are done: in this process, or in those that a launcher starts."""
    if workers is None:
        work(sweep, tracker(), parent, say)
        return
    text = yaml.safe_dump({"parent": parent, **sweep.content()}, sort_keys=False)
    tasks = [Task(f"{sweep.key}-{n}", f"{sweep.name} {n}", WORKER, text) for n in range(1, workers.number + 1)]
    os.environ[STORAGE] = sweep.storage  # which may hold a password, and so is no part of the text
    watching = _Watching(sweep, say)
    try:
        failed = [ended.reason for ended in workers.launcher.run(tasks) if ended.reason]
    finally:
        watching.stop()
    left = sweep.trials - len(counted(open_study(sweep).get_trials(deepcopy=False)))
    if failed and left > 0:
        raise RunFailed(f"a worker of study '{sweep.name}' failed: {failed[0]}; run the same command again to resume it")


class _Watching:
    """Tells of each trial that workers end, wherever they are, by the study alone."""

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
            with suppress(Exception):  # a database that does not answer now will do so at the next look
                self._tell()

    def _tell(self) -> None:
        for trial in counted(self._study.get_trials(deepcopy=False)):
            if trial.number not in self._known:
                self._known.add(trial.number)
                reason = str(trial.user_attrs.get("reason"))
                outcome = _valued(self._sweep, trial.values[0]) if trial.state == TrialState.COMPLETE else reason
                told = _told(self._sweep, trial.number, outcome, trial.params)
                self._say(f"[{len(self._known)} of {self._sweep.trials}] {told}")


def worker(text: str) -> str:
    """One of the processes of a study, from the text that it was sent as."""
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
    """Trial after trial until as many are complete or pruned as the sweep asks for, whoever makes them."""
    registry, device, study = load(), build.device(sweep.device), open_study(sweep)

    def objective(trial: Trial) -> float:
        if _claimed(study, before=trial.number) >= sweep.trials:
            trial.set_user_attr(SURPLUS, True)
            raise _Surplus
        params = {key: _suggest(trial, key, found) for key, found in sweep.space.items()}
        try:
            value = _trial(sweep, registry, device, study, trial, params, tracker, parent, say)
        except (Stopped, RunFailed) as error:  # training that fails is the worst of results, and used up its share
            trial.set_user_attr("reason", str(error))
            say(_told(sweep, trial.number, str(error), params))
            raise optuna.TrialPruned from error
        except BaseException:
            try_again(study, study.get_trials(deepcopy=False)[trial.number])
            raise
        say(_told(sweep, trial.number, _valued(sweep, value), params))
        return value

    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)
        if len(counted(study.get_trials(deepcopy=False))) >= sweep.trials:
            return
        if _claimed(study) >= sweep.trials:  # others are at work on the last ones
            time.sleep(1)
            continue
        study.optimize(objective, n_trials=1, catch=(_Surplus,))


def _valued(sweep: Sweep, value: float) -> str:
    return f"valid {sweep.objective} {value:.4f}"


def _told(sweep: Sweep, number: int, outcome: str, params: Mapping[str, Any]) -> str:
    return f"{sweep.name}: trial {number}: {outcome}, {assigned(params)}"


def counted(trials: Sequence[FrozenTrial], budget: int | None = None) -> list[FrozenTrial]:
    """The trials that used up budget: complete or pruned; the first so many."""
    return [trial for trial in trials if trial.state in DONE][:budget]


def best_of(trials: Iterable[FrozenTrial], higher: bool) -> FrozenTrial:
    """Of equals the first, whichever of them was made anew because its process was killed."""
    return (max if higher else min)(sorted(trials, key=numbered), key=lambda trial: trial.values[0])


def numbered(trial: FrozenTrial) -> int:
    """Its number, or that of the trial in whose place it was made."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def _claimed(study: optuna.Study, before: float = inf) -> int:
    """Trials done or at work; those before one, and waiting, too: so that of several workers none goes beyond the budget."""
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
    """The objective on valid at the epoch that the recipe selects. The run of a trial that is tried again goes on as its own.

    Unimodal models that the method needs are jobs of their own, which come first; trials of one recipe share them.
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
    with tracker.start(described) as run, fed(job, device, SEEN) as feed:
        try:
            named = f"'{job.spec.dataset.name}'"
            for epoch in train(model, modulator, feed, recipe, job.spec.seed, concepts, judge=judge, data=named):
                if recipe.select == "last" or epoch.rank > best:
                    best, value = epoch.rank, epoch.valid[epoch.by]
                interrupts.check()
                run.points(numbers(all_of_split("valid", epoch.valid), epoch.number))
                trial.report(epoch.valid[epoch.by], epoch.number)
                if epoch.number + 1 < recipe.epochs and trial.should_prune():
                    raise Stopped("pruned")
        except Unsuitable as error:
            raise AgmbenchError(str(error)) from error
    return value


@dataclass(frozen=True)
class _Saying:
    """Watches the unimodal models that a trial needs: one line each, and nothing of their test set."""

    study: str
    say: Say

    def started(self, name: str, epochs: int, done: int) -> None:
        self.say(f"{self.study}: the method needs {name}, which is trained first")

    def warned(self, text: str) -> None:
        self.say(f"{self.study}: {text}")

    def epoch(self, epoch: Epoch) -> None:
        interrupts.check()

    def finished(self, record: Record, trained: bool) -> None: ...
