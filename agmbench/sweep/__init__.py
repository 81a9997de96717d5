"""Sweeps: an Optuna study tunes a method on valid. Each trial is a child of the study's run. Test is read for only two jobs at the end."""

from agmbench.sweep.conclusion import tune
from agmbench.sweep.study import Search, Sweep, open_study, plan
from agmbench.sweep.trials import Workers

__all__ = ["Search", "Sweep", "Workers", "open_study", "plan", "tune"]
