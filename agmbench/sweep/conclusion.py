"""The conclusion of a sweep: the default and the best trial are run as jobs of their own, the only ones for which test is read."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import optuna
import torch
from optuna.trial import TrialState

from agmbench import build
from agmbench.errors import RunFailed
from agmbench.execute import Observer, execute
from agmbench.jobs import JobSpec
from agmbench.measures import of_one_run
from agmbench.names import BEST_EPOCH, SWEEP, of_split
from agmbench.protocol import selected
from agmbench.records import Run, Tracker, numbers
from agmbench.registry import Registry
from agmbench.report.sweeps import Chosen, Tuned, save
from agmbench.sweep.space import RATE
from agmbench.sweep.study import Sweep, open_study, try_lost_again
from agmbench.sweep.trials import Say, Workers, best_of, counted, search


def tune(
    sweep: Sweep, registry: Registry, tracker: Callable[[], Tracker], workers: Workers | None, observer: Observer, say: Say
) -> Tuned:
    """Resume or start a study, run its remaining trials, and keep its report with Optuna's plots in the study's run."""
    store = tracker()
    group = sweep.base.dataset.name, sweep.name, {SWEEP: sweep.key}
    with store.group(*group) as parent:
        with store.lock(sweep.key):
            try_lost_again(open_study(sweep))
        search(sweep, tracker, parent.id, workers, say)
        with store.lock(sweep.key), store.group(*group) as reported:  # several commands may conclude it, but one at a time
            tuned = conclude(sweep, registry, store, build.device(sweep.device), observer)
            _report(sweep, tuned, open_study(sweep), reported)
    return tuned


def _report(sweep: Sweep, tuned: Tuned, study: optuna.Study, run: Run) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        save(Path(scratch), tuned, study, f"{sweep.name}{sweep.departs}")
        run.log_files(Path(scratch))
    accuracies = {
        f"{which}/{split}": value
        for which, job in (("default", tuned.default), ("tuned", tuned.best))
        for split, value in (("valid", job.valid), ("test", job.test))
    }
    run.log_points(numbers(accuracies, len(tuned.trials)))


def conclude(sweep: Sweep, registry: Registry, tracker: Tracker, device: torch.device, observer: Observer) -> Tuned:
    """Run the default and the best trial as jobs of their own. These are the only ones for which the result on test is read."""
    trials = counted(open_study(sweep).get_trials(), sweep.trials)
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not finished:
        reasons = sorted({str(trial.user_attrs.get("reason")) for trial in trials})
        raise RunFailed(f"no trial of study '{sweep.name}' was finished: {'; '.join(reasons)}")
    best = best_of(finished, sweep.higher).params

    def chosen(spec: JobSpec) -> Chosen:
        record = execute(spec, registry, tracker, device, observer, of_one_run(registry))
        followed = of_split("valid", sweep.objective)
        valid = dict(tracker.history(record, [followed])[followed])
        known = {f"modulator.{name}": value for name, value in record.spec["modulator"]["params"].items()}
        known[RATE] = record.spec["training"]["lr"]
        params = {key: known[key] for key in sweep.space}
        test = record.metrics.get(of_split("test", sweep.objective))
        if test is None:
            raise RunFailed(
                f"{sweep.objective} could not be measured on the test split of run {record.run_id}; choose another --objective"
            )
        return Chosen(params, valid[int(record.metrics[BEST_EPOCH])], test)

    default, tuned = chosen(sweep.base), chosen(sweep.spec(registry, best))
    job = build.resolve(sweep.base, registry)
    epochs, best_trial = (selected(spec, job.dataset) for spec in (job.spec, _by_valid(job.spec)))
    known = sweep.base.modulator.name, sweep.space, trials, default, tuned, sweep.objective, sweep.higher, sweep.scale
    return Tuned(*known, job.spec.canonical(), epochs, on_test=best_trial == "test")


def _by_valid(spec: JobSpec) -> JobSpec:
    """The spec with its epoch chosen on valid, as the best trial is."""
    return spec.model_copy(update={"training": spec.training.model_copy(update={"select": "valid"})})
