"""Sweeps: a study of Optuna tunes a method on valid; each trial is a run below the study's own. Test is read for two jobs at the end."""

from agmbench.sweep.conclusion import tune
from agmbench.sweep.study import Search, Sweep, open_study, plan
from agmbench.sweep.trials import Workers

__all__ = ["Search", "Sweep", "Workers", "open_study", "plan", "tune"]
