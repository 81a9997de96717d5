"""The result of a sweep: the default job beside the best tuned job, and how much each parameter matters."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from agmbench.records import Selected, chosen
from agmbench.report.render import markdown_of
from agmbench.report.sheets import Sheet
from agmbench.report.style import drawn

ROWS = 8  # the largest number of rows in the table of a numeric parameter

ON_VALID = "the trial that is best on valid. Test was read only after that choice, and only for these two jobs"
ON_TEST = "the trial that is best ON TEST, because valid holds the samples of test; its figures are too high"


@dataclass(frozen=True)
class Chosen:
    """A job whose test result is read: its tuned parameters, and the objective on valid and on test."""

    params: Mapping[str, Any]
    valid: float
    test: float


@dataclass(frozen=True)
class Tuned:
    """A finished study: the trials that used up its budget, and the two jobs that were chosen."""

    modulator: str
    space: Mapping[str, BaseDistribution]
    trials: Sequence[FrozenTrial]
    default: Chosen
    best: Chosen
    objective: str = "accuracy"
    higher: bool = True
    scale: float = 100.0
    spec: Mapping[str, Any] = field(default_factory=dict)  # the spec of the default job
    selected: Selected = "valid"  # the split on which epochs are chosen
    on_test: bool = False  # whether valid, on which the best trial is chosen, holds the samples of test

    @property
    def caption(self) -> str:
        """A caption that says what default and tuned mean, and on which split the trial and the epochs were chosen."""
        best = ON_TEST if self.on_test else ON_VALID
        return f"Default: the recipe without changes. Tuned: {best}. Both are jobs with one seed. {chosen(self.selected, self.spec)}."

    @property
    def shown(self) -> str:
        """The objective with its unit."""
        return f"{self.objective}, %" if self.scale == 100 else self.objective


def assigned(params: Mapping[str, Any]) -> str:
    """Parameters as a text with four digits, such as `modulator.alpha=0.5 training.lr=0.01`."""
    return " ".join(f"{key}={_short(value)}" for key, value in params.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _both(tuned: Tuned) -> list[str]:
    """A row of the table: the number of trials, the figures of the default and of the best trial, and the parameters of the latter."""
    values = [value for job in (tuned.default, tuned.best) for value in (job.valid, job.test)]
    figures = [f"{tuned.scale * value:.{_digits(tuned)}f}" for value in values]
    return [tuned.modulator, str(len(tuned.trials)), str(_pruned(tuned.trials)), *figures, assigned(tuned.best.params)]


def side_by_side(title: str, found: Sequence[Tuned]) -> Sheet:
    """The table of default and tuned results, with one row per modulator."""
    header = ["modulator", "trials", "pruned", "default valid", "default test", "tuned valid", "tuned test", "tuned"]
    rows = [_both(tuned) for tuned in found]
    objectives = ", ".join(
        dict.fromkeys(f"{tuned.shown} ({'higher' if tuned.higher else 'lower'} is better)" for tuned in found)
    )
    captions = " ".join(dict.fromkeys(tuned.caption for tuned in found))
    return Sheet(title, header, rows, f"Objective: {objectives}. {captions}")


def _digits(tuned: Tuned) -> int:
    return 2 if tuned.scale == 100 else 4


def sensitivity(tuned: Tuned, key: str) -> Sheet:
    """The objective on valid for the tried values of one parameter: one row per value or, if there are more than eight, per range."""
    rows = []
    for name, inside in _groups(tuned, key):
        trials = [trial for trial in tuned.trials if inside(trial.params[key])]
        values = [tuned.scale * trial.values[0] for trial in trials if trial.state == TrialState.COMPLETE]
        found = ((max if tuned.higher else min)(values), mean(values)) if values else ()
        accuracies = [f"{value:.{_digits(tuned)}f}" for value in found] or ["–", "–"]
        if trials:
            rows.append([name, str(len(trials)), str(_pruned(trials)), *accuracies])
    others = [other for other in tuned.space if other != key]
    varied = f" In these trials {' and '.join(others)} varied too." if others else ""
    note = f"Best and mean on valid ({tuned.shown}) of the trials that were not pruned.{varied}"
    return Sheet(f"{tuned.modulator}: sensitivity of {key}", [key, "trials", "pruned", "best valid", "mean valid"], rows, note)


def _pruned(trials: Sequence[FrozenTrial]) -> int:
    return sum(trial.state == TrialState.PRUNED for trial in trials)


def _groups(tuned: Tuned, key: str) -> list[tuple[str, Callable[[Any], bool]]]:
    """The groups into which the values of a parameter fall: a name and a membership test for each."""
    distribution = tuned.space[key]
    tried = {trial.params[key] for trial in tuned.trials}
    if len(tried) <= ROWS or isinstance(distribution, CategoricalDistribution):
        return [(_short(value), lambda given, value=value: given == value) for value in sorted(tried, key=_order)]  # type: ignore[misc]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    spaced = np.geomspace if distribution.log else np.linspace
    edges = spaced(distribution.low, distribution.high, ROWS + 1).tolist()
    edges[0], edges[-1] = -np.inf, np.inf
    names = [_short(float(edge)) for edge in spaced(distribution.low, distribution.high, ROWS + 1)]
    return [
        (f"{names[n]} to {names[n + 1]}", lambda given, low=edges[n], high=edges[n + 1]: low <= given < high)  # type: ignore[misc]
        for n in range(ROWS)
    ]


def _order(value: Any) -> tuple[bool, Any]:
    number = isinstance(value, int | float)
    return not number, value if number else str(value)


def parameters(tuned: Tuned) -> list[str]:
    """The method's own parameters that were tuned."""
    return [key for key in tuned.space if key.startswith("modulator.")]


@drawn
def save(folder: Path, tuned: Tuned, study: optuna.Study, title: str) -> None:
    """Write the tables (`report.md`), all trials (`trials.csv`), Optuna's plots and one plot per parameter into `folder`."""
    sheets = [side_by_side(title, [tuned]), *(sensitivity(tuned, key) for key in parameters(tuned))]
    (folder / "report.md").write_text(markdown_of(sheets) + "\n")
    study.trials_dataframe(attrs=("number", "value", "params", "state", "duration", "user_attrs")).to_csv(
        folder / "trials.csv", index=False
    )
    plots = folder / "plots"
    plots.mkdir()
    for key in parameters(tuned):
        _sensitivity(tuned, key).savefig(plots / f"sensitivity-{key.removeprefix('modulator.')}.png")
    _save_optuna_plots(study, plots)


def _reached(tuned: Tuned, trial: FrozenTrial) -> float:
    """The value of a trial; for a pruned trial, its best value until then."""
    if trial.state == TrialState.COMPLETE:
        return float(trial.values[0])
    return float((max if tuned.higher else min)(trial.intermediate_values.values(), default=np.nan))


def _sensitivity(tuned: Tuned, key: str) -> Figure:
    figure = Figure(figsize=(5, 3.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    for state, label, marker in ((TrialState.COMPLETE, "trial", "o"), (TrialState.PRUNED, "pruned", "x")):
        if best := [(trial.params[key], _reached(tuned, trial)) for trial in tuned.trials if trial.state == state]:
            values = [str(value) if isinstance(value, str | bool | None) else value for value, _ in best]
            axes.plot(values, [tuned.scale * value for _, value in best], marker, linestyle="none", markersize=4, label=label)
    if getattr(tuned.space[key], "log", False):
        axes.set_xscale("log")
    axes.axhline(
        tuned.scale * tuned.default.valid, color="gray", linewidth=0.5, label=f"default, {_short(tuned.default.params[key])}"
    )
    axes.set_xlabel(key)
    axes.set_ylabel(f"best on valid: {tuned.shown}")
    axes.legend()
    return figure


def _save_optuna_plots(study: optuna.Study, folder: Path) -> None:
    """Optuna's history and, if two complete trials differ, its parameter importances."""
    from optuna.visualization.matplotlib import plot_optimization_history, plot_param_importances

    finished = study.get_trials(states=(TrialState.COMPLETE,))
    with plt.rc_context(), warnings.catch_warnings():  # because Optuna sets a style for the whole process
        warnings.simplefilter("ignore")  # because Optuna warns that these functions are experimental
        _figure_of(plot_optimization_history(study)).savefig(folder / "history.png", bbox_inches="tight")
        if len({trial.values[0] for trial in finished}) > 1:
            _figure_of(plot_param_importances(study)).savefig(folder / "importances.png", bbox_inches="tight")
    plt.close("all")


def _figure_of(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure
