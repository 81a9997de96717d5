"""A sweep before its trials: its settings, and its study in Optuna's storage."""

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json, json_to_distribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from agmbench import build
from agmbench.addresses import hidden, shown
from agmbench.errors import AgmbenchError, describe
from agmbench.execute.headings import sample
from agmbench.jobs import JobSpec, compose, digest, spec_of
from agmbench.measures import giving, measures
from agmbench.names import SWEEP
from agmbench.protocol import departures
from agmbench.records import departing
from agmbench.registry import Registry
from agmbench.registry.entry import check_name
from agmbench.sweep.space import Space, grid, search_space

HEARTBEAT, GRACE = 5, 30  # seconds between heartbeats of a trial; seconds without one after which the trial is tried again
ANSWER = 5  # seconds within which a database server must answer
SURPLUS = "surplus"  # the attribute of a trial that was ended on purpose and should not be tried again

optuna.logging.set_verbosity(optuna.logging.ERROR)  # its warnings are only tracebacks of trials that are tried again
with warnings.catch_warnings():
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    try_again = RetryHeartbeatStaleTrialCallback()


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "grid": lambda seed: RandomSampler(seed=seed),  # the points of the grid are enqueued, so this sampler never draws one
    "cmaes": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
}


class Numbered(BaseSampler):
    """A sampler that starts anew at each trial, with a seed made from the trial's number, so that two processes never draw the same."""

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


class Search(NamedTuple):
    """How parameters are searched. `name` is the name of the study; by default it is made from what the study tunes. `fair` says that
    several modulators are tuned in the same way, each by a study of its own."""

    trials: int
    sampler: str
    pruner: str
    storage: str
    device: str
    name: str | None = None
    fair: bool = False


@dataclass(frozen=True)
class Sweep:
    """One study before its trials: everything that a process needs to work on it. `base` is the job before any parameter is tuned.

    objective: the number on valid by which the recipe chooses epochs.   higher: whether a larger number is better.   scale: the factor by
    which it is multiplied when it is shown.
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
    departs: str = ""  # the departures from the published recipe of the data set, in the words of a title

    @property
    def key(self) -> str:
        """A hash that distinguishes the studies in a store of runs."""
        return digest([self.name, shown(self.storage), self.fingerprint])

    def content(self) -> dict[str, Any]:
        """The sweep in plain containers, without the address of the storage, which may contain a secret."""
        plain = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "storage"}
        space = {key: distribution_to_json(found) for key, found in self.space.items()}
        return {**plain, "base": self.base.canonical(), "settings": [list(pair) for pair in self.settings], "space": space}

    @classmethod
    def of(cls, content: Mapping[str, Any], storage: str) -> "Sweep":
        """The sweep with this `content`, whose study is in the given storage."""
        known = {field.name: content[field.name] for field in fields(cls) if field.name != "storage"}
        known["base"] = spec_of(known["base"])
        known["settings"] = tuple((key, value) for key, value in known["settings"])
        known["space"] = {key: json_to_distribution(text) for key, text in known["space"].items()}
        return cls(**known, storage=storage)

    def spec(self, registry: Registry, params: Mapping[str, Any]) -> JobSpec:
        """The spec of a trial's job, from the parameters of the trial."""
        names = self.base.dataset.name, self.base.modulator.name, self.fusion
        return compose(registry, *names, settings=[*self.settings, *params.items()])


def plan(
    registry: Registry,
    dataset: str,
    modulator: str,
    fusion: str | None,
    settings: Sequence[tuple[str, Any]],
    search: Search,
) -> Sweep:
    """Make a sweep and check all its parts; nothing is written."""
    base = compose(registry, dataset, modulator, fusion, settings=settings)
    if base.compared:
        raise AgmbenchError(
            f"{', '.join(base.compared)}: trials are not compared with unimodal models (concepts); leave it out"
        )
    job = build.resolve(base, registry)
    if not build.modulator(job, build.model(job)).promises.trains:
        raise AgmbenchError(
            f"modulator '{base.modulator.name}' trains nothing itself, so there is nothing to tune; leave it out"
        )
    space = search_space(registry, base, [key for key, _ in settings], search.fair)
    points = grid(space, search.trials) if search.sampler == "grid" else None
    if search.sampler == "cmaes":
        _check_cmaes(space)
    ranges = {key: distribution_to_json(found) for key, found in space.items()}
    fingerprint = digest([job.digest, ranges, search.sampler, search.pruner, points])
    name = _name(search, job.spec, fingerprint)
    judge = build.judge(job.spec, registry, job.dataset)
    if judge.measure is not None and judge.measure.metric.compares:
        raise AgmbenchError(
            f"training.select_by={judge.name} would train unimodal models for every trial; choose another quantity"
        )
    of = giving(measures(registry), judge.name.partition("/")[0], job.dataset.task.kind)[1]
    departs = "".join(f", {words}" for words in departing(departures(job.spec, registry, job.dataset), sample(job)))
    how = (search.trials, search.sampler, search.pruner, search.storage, search.device)
    found = (fingerprint, judge.name, judge.higher, of.scale, departs)
    return Sweep(name, base, fusion, tuple(settings), space, *how, *found)


def _name(search: Search, spec: JobSpec, fingerprint: str) -> str:
    if search.name is None:
        return f"{spec.dataset.name}-{spec.fusion.name}-{spec.modulator.name}-{fingerprint[:8]}"
    check_name(search.name, "--study")
    return f"{search.name}-{spec.modulator.name}" if search.fair else search.name


def _check_cmaes(space: Space) -> None:
    ranges = [key for key, found in space.items() if not isinstance(found, CategoricalDistribution)]
    if len(ranges) < 2:
        raise AgmbenchError(
            f"--sampler cmaes needs two or more parameters with a range; found {', '.join(ranges) or 'none'}; use --sampler tpe"
        )
    try:
        importlib.import_module("cmaes")
    except ImportError as error:
        raise AgmbenchError("--sampler cmaes needs the package cmaes: pip install cmaes") from error


def open_study(sweep: Sweep) -> optuna.Study:
    """Open the study in its storage, or make it if it is not there; the points of a grid are enqueued."""
    storage = _storage(sweep.storage)
    study = optuna.create_study(
        storage=storage,
        study_name=sweep.name,
        direction="maximize" if sweep.higher else "minimize",
        load_if_exists=True,
        sampler=Numbered(SAMPLERS[sweep.sampler], sweep.base.seed),
        pruner=PRUNERS[sweep.pruner](sweep.base.training.epochs),
    )
    known = study.user_attrs.get(SWEEP)
    if known is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(SWEEP, sweep.fingerprint)
    elif known != sweep.fingerprint:
        raise AgmbenchError(
            f"study '{sweep.name}' in {shown(sweep.storage)} has another job, search space, sampler or pruner; choose another name with "
            "--study"
        )
    for point in grid(sweep.space, sweep.trials) if sweep.sampler == "grid" else ():
        study.enqueue_trial(point, skip_if_exists=True)
    return study


def try_lost_again(study: optuna.Study) -> None:
    """Enqueue again the failed trials for which no new trial was made, because their process was killed before it could do so."""
    trials = study.get_trials()
    tried = {number for trial in trials for number in trial.system_attrs.get("retry_history", ())}
    for trial in trials:
        if trial.state == TrialState.FAIL and trial.number not in tried and SURPLUS not in trial.user_attrs:
            try_again(study, trial)


class Watched(RDBStorage):
    """A storage that, whenever it looks for stale trials, gives a first heartbeat to running trials that have none.

    Otherwise, the trial of a process that was killed before its first heartbeat would never count as stale.
    """

    FIRST = sqlalchemy.text(
        "INSERT INTO trial_heartbeats (trial_id, heartbeat) SELECT trial_id, CURRENT_TIMESTAMP FROM trials "
        "WHERE study_id = :study AND state = 'RUNNING' AND trial_id NOT IN (SELECT trial_id FROM trial_heartbeats)"
    )

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        with suppress(sqlalchemy.exc.IntegrityError), self.engine.begin() as connection:  # another process has just added it
            connection.execute(self.FIRST, {"study": study_id})
        return super()._get_stale_trial_ids(study_id)


def _storage(url: str) -> RDBStorage:
    try:
        address = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:  # ValueError is raised for a port that is no number
        raise AgmbenchError(
            f"--storage {shown(url)} is not the address of a database; take sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
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
