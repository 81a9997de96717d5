"""The trials of a sweep: each is a run below the study's own, made by this process or by several."""

import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import optuna
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from agmbench import build, interrupts
from agmbench.addresses import hidden
from agmbench.contracts import SplitName, Unsuitable
from agmbench.errors import AgmbenchError, RunFailed, describe
from agmbench.execute import fed, heading
from agmbench.jobs import digest
from agmbench.records import Stopped, Tracker, numbers
from agmbench.registry import Registry, load
from agmbench.report.sweeps import assigned
from agmbench.sweep.study import SURPLUS, Sweep, open_study, try_again
from agmbench.train import train

Say = Callable[[str], None]

SEEN: tuple[SplitName, ...] = ("train", "dev", "valid")
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


class _Surplus(Exception):
    """A trial drawn when the others had used up the budget."""


def search(sweep: Sweep, tracker: Callable[[], Tracker], parent: str, jobs: int, say: Say) -> None:
    """Work on a study until its trials are done: in this process, or in `jobs` processes that share the cores."""
    if jobs == 1:
        work(sweep, tracker(), parent, say)
        return
    context = multiprocessing.get_context("spawn")
    failures = context.SimpleQueue()
    threads = max(1, (os.cpu_count() or 1) // jobs)
    workers = [context.Process(target=_worker, args=(sweep, tracker, parent, threads, say, failures)) for _ in range(jobs)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        for worker in workers:
            if worker.pid is not None:
                worker.terminate()
        for worker in workers:
            if worker.pid is not None:
                worker.join()
    if not failures.empty():
        raise failures.get()
    if any(worker.exitcode for worker in workers):
        raise RunFailed(f"a process of study '{sweep.name}' was ended; the same command goes on with it")


def _worker(sweep: Sweep, tracker: Callable[[], Tracker], parent: str, threads: int, say: Say, failures: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells all of them; only the command ends its processes
    interrupts.listen()
    torch.set_num_threads(threads)
    try:
        work(sweep, tracker(), parent, say)
    except KeyboardInterrupt:
        sys.exit(130)
    except AgmbenchError as error:
        failures.put(error)
    except Exception as error:
        failures.put(RunFailed(hidden(describe(error), sweep.storage)))


def work(sweep: Sweep, tracker: Tracker, parent: str, say: Say) -> None:
    """Trial after trial until as many are complete or pruned as the sweep asks for, whoever makes them."""
    registry, device, study = load(), build.device(sweep.device), open_study(sweep)
    command = multiprocessing.parent_process()

    def objective(trial: Trial) -> float:
        if _claimed(study, before=trial.number) >= sweep.trials:
            trial.set_user_attr(SURPLUS, True)
            raise _Surplus
        params = {key: _suggest(trial, key, found) for key, found in sweep.space.items()}
        try:
            value = _trial(sweep, registry, device, study, trial, params, tracker, parent)
        except (Stopped, RunFailed) as error:  # training that fails is the worst of results, and used up its share
            trial.set_user_attr("reason", str(error))
            say(f"{sweep.name}: trial {trial.number}: {error}, {assigned(params)}")
            raise optuna.TrialPruned from error
        except BaseException:
            try_again(study, study.get_trials(deepcopy=False)[trial.number])
            raise
        say(f"{sweep.name}: trial {trial.number}: valid {sweep.objective} {value:.4f}, {assigned(params)}")
        return value

    while command is None or command.is_alive():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)
        if len(counted(study.get_trials(deepcopy=False))) >= sweep.trials:
            return
        if _claimed(study) >= sweep.trials:  # others are at work on the last ones
            time.sleep(1)
            continue
        study.optimize(objective, n_trials=1, catch=(_Surplus,))


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
) -> float:
    """The objective on valid at the epoch that the recipe selects. The run of a trial that is tried again goes on as its own."""
    job = build.resolve(sweep.spec(registry, params), registry)
    frozen = study.get_trials(deepcopy=False)[trial.number]
    number = numbered(frozen)
    described = replace(
        heading(job, device),
        name=f"{sweep.name} trial {number}",
        digest=digest([sweep.key, number]),
        parent=parent,
    )
    described = replace(described, tags={**described.tags, "agmbench.trial": str(number), "agmbench.study": sweep.name})
    recipe, judge, value, best = job.spec.training, build.judge(job.spec, registry, job.dataset), -inf, (-inf, -inf)
    with tracker.start(described) as run, fed(job, device, SEEN) as feed:
        model = build.model(job).to(device)
        modulator = build.modulator(job, model)
        try:
            named = f"'{job.spec.dataset.name}'"
            for epoch in train(model, modulator, feed, recipe, job.spec.seed, judge=judge, data=named):
                if recipe.select == "last" or epoch.rank > best:
                    best, value = epoch.rank, epoch.valid[epoch.by]
                interrupts.check()
                run.points(numbers({f"valid/{name}": found for name, found in epoch.valid.items()}, epoch.number))
                trial.report(epoch.valid[epoch.by], epoch.number)
                if epoch.number + 1 < recipe.epochs and trial.should_prune():
                    raise Stopped("pruned")
        except Unsuitable as error:
            raise AgmbenchError(str(error)) from error
    return value
