"""Suites: named matrices of jobs. Only jobs that are not done yet are run.

`matrix` reads a suite from the registry, `planned` makes its jobs, `group` finds its runs in the store, `plans` keeps the digests of its
jobs for machines without the data, `standing` says which jobs are done and which remain, and `running` passes these to a launcher.
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
