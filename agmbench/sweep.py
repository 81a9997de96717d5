"""Sweeps: a study of Optuna tunes a method on valid; each trial is a run below the study's own. Test is read for two jobs at the end."""

import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf, prod
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import sqlalchemy
import torch
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState

from agmbench import build, interrupts
from agmbench.addresses import hidden, shown
from agmbench.contracts import SplitName, Unsuitable
from agmbench.errors import AgmbenchError, RunFailed, allowed, describe
from agmbench.execute import Observer, execute, fed, heading, sample, trained_concepts
from agmbench.jobs import JobSpec, compose, digest
from agmbench.measures import giving, measures, of_one_run
from agmbench.protocol import departures, selected
from agmbench.records import Record, Run, Stopped, Tracker, departing, numbers
from agmbench.registry import Entry, Registry, load
from agmbench.registry.entry import check_name
from agmbench.report.sweeps import Chosen, Tuned, assigned, save
from agmbench.train import Epoch, train

Space = Mapping[str, BaseDistribution]
Say = Callable[[str], None]

HEARTBEAT, GRACE = 5, 30  # seconds: a trial that has shown no life for so long is given up and tried again
ANSWER = 5  # seconds that a database server has for its answer
RATE = "training.lr"
SEEN: tuple[SplitName, ...] = ("train", "dev", "valid")
DONE = (TrialState.COMPLETE, TrialState.PRUNED)

optuna.logging.set_verbosity(optuna.logging.ERROR)  # its warnings are tracebacks of trials that are tried again
with warnings.catch_warnings():
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    try_again = RetryHeartbeatStaleTrialCallback()


# what is tuned


def search_space(registry: Registry, spec: JobSpec, fixed: Sequence[str], fair: bool) -> Space:
    """The ranges of a job's parameters by the keys of `--set`, less those `fixed` there.

    They are the modulator entry's `search` and the data set entry's, which may name `training.lr`. A `fair` space always has
    `training.lr`: as the data set's entry says, else from a tenth of the recipe's to ten times it.
    """
    dataset, modulator = registry.get("dataset", spec.dataset.name), registry.get("modulator", spec.modulator.name)
    space = {f"modulator.{name}": _of_parameter(modulator, name, found) for name, found in modulator.search.items()}
    for key, found in dataset.search.items():
        if key != RATE:
            raise AgmbenchError(f"{dataset.place}: search of '{key}' of {dataset}: a data set can name {RATE} alone")
        space[RATE] = _distribution(f"{dataset.place}: search of '{RATE}' of {dataset}", found, whole=False)
        for bound in (found["low"], found["high"]) if "low" in found else found["choices"]:
            if not isinstance(bound, int | float) or bound <= 0:
                raise AgmbenchError(f"{dataset.place}: search of '{RATE}' of {dataset}: {bound!r} should be a number > 0")
    if fair and RATE not in space:
        space[RATE] = FloatDistribution(spec.training.lr / 10, spec.training.lr * 10, log=True)
    space = {key: found for key, found in space.items() if key not in fixed}
    if not space:
        raise AgmbenchError(
            f"modulator '{modulator.name}' has nothing to search{' beside what --set fixes' if fixed else ''}; give it a range "
            f"(search) where it is named, {modulator.place}, or tune its learning rate: --fair {modulator.name}"
        )
    return space


def _of_parameter(entry: Entry, name: str, found: Mapping[str, Any]) -> BaseDistribution:
    where = f"{entry.place}: search of '{name}' of {entry}"
    schema = build.parameters(entry)
    if name not in schema.model_fields:
        raise AgmbenchError(f"{where}: no such parameter: {allowed(name, schema.model_fields)}")
    declared = schema.model_json_schema()["properties"][name]
    types = {option.get("type") for option in declared.get("anyOf", [declared])}
    distribution = _distribution(where, found, whole="integer" in types and "number" not in types)
    for value in found["choices"] if "choices" in found else (found["low"], found["high"]):
        try:
            build.check_parameters(entry, {name: value})
        except AgmbenchError as error:
            raise AgmbenchError(f"{where}: {error}") from error
    return distribution


def _distribution(where: str, found: Mapping[str, Any], whole: bool) -> BaseDistribution:
    if found.keys() == {"choices"}:
        choices = found["choices"]
        if not isinstance(choices, list) or not choices or not all(isinstance(c, str | int | float | None) for c in choices):
            raise AgmbenchError(f"{where}: choices should be a list of plain values; found {choices!r}")
        return CategoricalDistribution(choices)
    if not {"low", "high"} <= found.keys() <= {"low", "high", "log"}:
        raise AgmbenchError(f"{where}: needs low and high, with log: true if wanted, or choices alone; found {dict(found)}")
    low, high, log = found["low"], found["high"], found.get("log", False)
    kinds = (int,) if whole else (int, float)
    if any(isinstance(bound, bool) or not isinstance(bound, kinds) for bound in (low, high)):
        raise AgmbenchError(f"{where}: low and high should be {'whole ' if whole else ''}numbers; found {low!r} and {high!r}")
    if not isinstance(log, bool):
        raise AgmbenchError(f"{where}: log should be true or false; found {log!r}")
    if not low < high < inf or low == -inf:
        raise AgmbenchError(f"{where}: low should be below high; found {low} and {high}")
    if log and low <= 0:
        raise AgmbenchError(f"{where}: a logarithmic range begins above 0; found {low}")
    return IntDistribution(low, high, log=log) if whole else FloatDistribution(low, high, log=log)


def grid(space: Space, trials: int) -> list[dict[str, Any]]:
    """`trials` points: every choice with equally many values of each range, its ends included."""
    ranges = [found for found in space.values() if not isinstance(found, CategoricalDistribution)]
    choices = prod(len(found.choices) for found in space.values() if isinstance(found, CategoricalDistribution))
    finest = min((found.high - found.low + 1 for found in ranges if isinstance(found, IntDistribution)), default=trials + 2)
    sizes = {choices * count ** len(ranges): count for count in range(2 if ranges else 1, min(trials + 2, finest) + 1)}
    if trials not in sizes:
        near = sorted(sorted(sizes, key=lambda size: abs(size - trials))[:2])
        raise AgmbenchError(
            f"--trials {trials} makes no grid of {' and '.join(space)}; with --sampler grid take {' or '.join(map(str, near))}"
        )
    axes = {key: _values(found, sizes[trials]) for key, found in space.items()}
    mesh = np.ndindex(*(len(values) for values in axes.values()))
    return [{key: axes[key][place] for key, place in zip(axes, index, strict=True)} for index in mesh]


def _values(found: BaseDistribution, count: int) -> list[Any]:
    if isinstance(found, CategoricalDistribution):
        return list(found.choices)
    assert isinstance(found, FloatDistribution | IntDistribution)
    spaced = (np.geomspace if found.log else np.linspace)(found.low, found.high, count).tolist()
    if isinstance(found, FloatDistribution):
        return [min(max(value, found.low), found.high) for value in spaced]
    values: list[int] = []
    for value in spaced:  # near the low end of a logarithmic range whole numbers lie further apart
        values.append(max(round(value), values[-1] + 1) if values else found.low)
    return values


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "grid": lambda seed: RandomSampler(seed=seed),  # its points are enqueued, so none is drawn
    "cmaes": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
}


class Numbered(BaseSampler):
    """A sampler that begins anew at each trial with a seed of the trial's number: two processes never draw the same."""

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._of_trial = make(seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._of_trial = self._make(int(digest([self._seed, trial.number]), 16) % 2**32)
        self._of_trial.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of_trial.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of_trial.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of_trial.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._of_trial.after_trial(study, trial, state, values)


PRUNERS: dict[str, Callable[[int], BasePruner]] = {
    "median": lambda epochs: MedianPruner(),
    "none": lambda epochs: NopPruner(),
    "hyperband": lambda epochs: HyperbandPruner(max_resource=epochs),
}


# the study


@dataclass(frozen=True)
class Sweep:
    """One study before its trials: all that a process which works on it needs. `base` is the job as its recipe stands.

    objective: the number on valid by which the recipe chooses epochs; `higher` says that more of it is better, `scale` how it is shown.
    """

    name: str
    base: JobSpec
    fusion: str | None
    settings: tuple[tuple[str, Any], ...]
    space: Space
    trials: int
    sampler: str
    pruner: str
    storage: str
    device: str
    fingerprint: str
    objective: str = "accuracy"
    higher: bool = True
    scale: float = 100.0
    departs: str = ""  # from the published recipe of the data set, as a title says it

    @property
    def key(self) -> str:
        """Tells studies in a store of runs apart."""
        return digest([self.name, shown(self.storage), self.fingerprint])

    def spec(self, registry: Registry, params: Mapping[str, Any]) -> JobSpec:
        """The job of a trial."""
        names = self.base.dataset.name, self.base.modulator.name, self.fusion
        return compose(registry, *names, settings=[*self.settings, *params.items()])


def plan(
    registry: Registry,
    dataset: str,
    modulator: str,
    fusion: str | None,
    settings: Sequence[tuple[str, Any]],
    *,
    fair: bool,
    trials: int,
    sampler: str,
    pruner: str,
    storage: str,
    name: str | None,
    device: str,
) -> Sweep:
    """A sweep whose every part is checked; nothing is written."""
    base = compose(registry, dataset, modulator, fusion, settings=settings)
    if base.compared:
        raise AgmbenchError(f"{', '.join(base.compared)}: trials are compared with no concepts; leave it out")
    job = build.resolve(base, registry)
    if not build.modulator(job, build.model(job)).promises.trains:
        raise AgmbenchError(f"modulator '{base.modulator.name}' trains nothing itself: there is nothing to tune; leave it out")
    space = search_space(registry, base, [key for key, _ in settings], fair)
    points = grid(space, trials) if sampler == "grid" else None
    if sampler == "cmaes":
        _check_cmaes(space)
    ranges = {key: distribution_to_json(found) for key, found in space.items()}
    fingerprint = digest([job.digest, ranges, sampler, pruner, points])
    if name is not None:
        check_name(name, "--study")
    own = f"{job.spec.dataset.name}-{job.spec.fusion.name}-{base.modulator.name}-{fingerprint[:8]}"
    study = own if name is None else f"{name}-{base.modulator.name}" if fair else name
    judge = build.judge(job.spec, registry, job.dataset)
    if judge.measure is not None and judge.measure.metric.compares:
        raise AgmbenchError(
            f"training.select_by={judge.name}: its unimodal models would be trained for every trial; take another"
        )
    of = giving(measures(registry), judge.name.partition("/")[0], job.dataset.task.kind)[1]
    known = (study, base, fusion, tuple(settings), space, trials, sampler, pruner, storage, device, fingerprint)
    departs = "".join(f", {words}" for words in departing(departures(job.spec, registry, job.dataset), sample(job)))
    return Sweep(*known, judge.name, judge.higher, of.scale, departs)


def _check_cmaes(space: Space) -> None:
    ranges = [key for key, found in space.items() if not isinstance(found, CategoricalDistribution)]
    if len(ranges) < 2:
        raise AgmbenchError(
            f"--sampler cmaes needs two ranges or more; here it is {', '.join(ranges) or 'none'}; take --sampler tpe"
        )
    try:
        importlib.import_module("cmaes")
    except ImportError as error:
        raise AgmbenchError("--sampler cmaes needs the package cmaes: pip install cmaes") from error


def open_study(sweep: Sweep) -> optuna.Study:
    """The study in its storage, made if it is not there; a grid's points are enqueued."""
    storage = _storage(sweep.storage)
    study = optuna.create_study(
        storage=storage,
        study_name=sweep.name,
        direction="maximize" if sweep.higher else "minimize",
        load_if_exists=True,
        sampler=Numbered(SAMPLERS[sweep.sampler], sweep.base.seed),
        pruner=PRUNERS[sweep.pruner](sweep.base.training.epochs),
    )
    known = study.user_attrs.get("agmbench.sweep")
    if known is None and not study.get_trials(deepcopy=False):
        study.set_user_attr("agmbench.sweep", sweep.fingerprint)
    elif known != sweep.fingerprint:
        raise AgmbenchError(
            f"study '{sweep.name}' in {shown(sweep.storage)} is of another job, space, sampler or pruner; name another: --study"
        )
    for point in grid(sweep.space, sweep.trials) if sweep.sampler == "grid" else ():
        study.enqueue_trial(point, skip_if_exists=True)
    return study


def try_lost_again(study: optuna.Study) -> None:
    """Enqueue anew the trials that failed and of which no other was made: a process was killed between the two."""
    trials = study.get_trials()
    tried = {number for trial in trials for number in trial.system_attrs.get("retry_history", ())}
    for trial in trials:
        if trial.state == TrialState.FAIL and trial.number not in tried and SURPLUS not in trial.user_attrs:
            try_again(study, trial)


class Watched(RDBStorage):
    """A storage that gives a first heartbeat to a trial at work that has none, whenever it looks for those that are stale.

    A process killed between the making of its trial and its first heartbeat would otherwise never be taken for dead.
    """

    FIRST = sqlalchemy.text(
        "INSERT INTO trial_heartbeats (trial_id, heartbeat) SELECT trial_id, CURRENT_TIMESTAMP FROM trials "
        "WHERE study_id = :study AND state = 'RUNNING' AND trial_id NOT IN (SELECT trial_id FROM trial_heartbeats)"
    )

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        with suppress(sqlalchemy.exc.IntegrityError), self.engine.begin() as connection:  # somebody else gave it just now
            connection.execute(self.FIRST, {"study": study_id})
        return super()._get_stale_trial_ids(study_id)


def _storage(url: str) -> RDBStorage:
    try:
        address = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:  # of a port that is no number
        raise AgmbenchError(
            f"--storage {shown(url)} is no address of a database; take sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
        ) from error
    limits = {"timeout": 60} if address.get_backend_name() == "sqlite" else {"connect_timeout": ANSWER}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return Watched(
                url,
                engine_kwargs={"connect_args": limits},
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=try_again,
            )
    except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:
        raise AgmbenchError(
            f"--storage {shown(url)}: the driver of {address.drivername} is not here; "
            "PostgreSQL is postgresql+psycopg:// with: pip install 'agmbench[postgresql]'"
        ) from error
    except Exception as error:
        text = hidden(describe(getattr(error, "orig", None) or error), url)
        raise AgmbenchError(f"--storage {shown(url)} cannot be opened ({text})") from error


def tune(sweep: Sweep, registry: Registry, tracker: Callable[[], Tracker], jobs: int, observer: Observer, say: Say) -> Tuned:
    """A study from where it stands to its report, which is kept in the study's run with Optuna's plots."""
    store = tracker()
    group = sweep.base.dataset.name, sweep.name, {"agmbench.sweep": sweep.key}
    with store.group(*group) as parent:
        with store.lock(sweep.key):
            try_lost_again(open_study(sweep))
        search(sweep, tracker, parent.id, jobs, say)
        with store.lock(sweep.key), store.group(*group) as reported:  # of several commands at its end, one at a time
            tuned = conclude(sweep, registry, store, build.device(sweep.device), observer)
            _report(sweep, tuned, open_study(sweep), reported)
    return tuned


def _report(sweep: Sweep, tuned: Tuned, study: optuna.Study, run: Run) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        save(Path(scratch), tuned, study, f"{sweep.name}{sweep.departs}")
        run.files(Path(scratch))
    accuracies = {
        f"{which}/{split}": value
        for which, job in (("default", tuned.default), ("tuned", tuned.best))
        for split, value in (("valid", job.valid), ("test", job.test))
    }
    run.points(numbers(accuracies, len(tuned.trials)))


# its trials


SURPLUS = "surplus"  # a trial's attribute: it failed, and is not to be tried again


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
            value = _trial(sweep, registry, device, study, trial, params, tracker, parent, say)
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
    described = replace(described, tags={**described.tags, "agmbench.trial": str(number), "agmbench.study": sweep.name})
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
                run.points(numbers({f"valid/{name}": found for name, found in epoch.valid.items()}, epoch.number))
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


# what came out


def conclude(sweep: Sweep, registry: Registry, tracker: Tracker, device: torch.device, observer: Observer) -> Tuned:
    """Run the paper's default and the best of the trials as jobs of their own, the only ones whose test accuracy is read."""
    trials = counted(open_study(sweep).get_trials(), sweep.trials)
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not finished:
        reasons = sorted({str(trial.user_attrs.get("reason")) for trial in trials})
        raise RunFailed(f"no trial of study '{sweep.name}' was finished: {'; '.join(reasons)}")
    best = best_of(finished, sweep.higher).params

    def chosen(spec: JobSpec) -> Chosen:
        record = execute(spec, registry, tracker, device, observer, of_one_run(registry))
        followed = f"valid/{sweep.objective}"
        valid = dict(tracker.history(record, [followed])[followed])
        known = {f"modulator.{name}": value for name, value in record.spec["modulator"]["params"].items()}
        known[RATE] = record.spec["training"]["lr"]
        params = {key: known[key] for key in sweep.space}
        test = record.metrics.get(f"test/{sweep.objective}")
        if test is None:
            raise RunFailed(
                f"{sweep.objective} cannot be measured on test of run {record.run_id}; tune by another: --objective"
            )
        return Chosen(params, valid[int(record.metrics["best/epoch"])], test)

    default, tuned = chosen(sweep.base), chosen(sweep.spec(registry, best))
    job = build.resolve(sweep.base, registry)
    epochs, best_trial = (selected(spec, job.dataset) for spec in (job.spec, _by_valid(job.spec)))
    known = sweep.base.modulator.name, sweep.space, trials, default, tuned, sweep.objective, sweep.higher, sweep.scale
    return Tuned(*known, job.spec.canonical(), epochs, on_test=best_trial == "test")


def _by_valid(spec: JobSpec) -> JobSpec:
    """The spec as if its epochs were chosen as trials are: by valid."""
    return spec.model_copy(update={"training": spec.training.model_copy(update={"select": "valid"})})
