"""Suites: a named matrix of jobs, of which only those that are missing are run.

`matrix` is a suite as it stands in the registry, `planned` its jobs, `group` its runs in the store, `kept` what these keep of the jobs
for machines without their data, `standing` how far they are and what there is to run, `running` their way through a launcher.
"""

from agmbench.suite.matrix import Block, Suite, read
from agmbench.suite.planned import Planned, checked, plan, remembered
from agmbench.suite.running import run
from agmbench.suite.standing import Standing, Todo, progress, todo

__all__ = [
    "Block",
    "Planned",
    "Standing",
    "Suite",
    "Todo",
    "checked",
    "plan",
    "progress",
    "read",
    "remembered",
    "run",
    "todo",
]
