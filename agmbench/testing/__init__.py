"""Conformance checks of components, for the authors of components: `print(report(check(MyMethod)))`.

Each check uses the component as the engine and the training loop do. It passes and shows the numbers that it found, fails and names the
broken promise, notes something that breaks no promise, or is skipped with the reason.
"""

from agmbench.testing.checks import Check, report
from agmbench.testing.kinds import check, check_entry
from agmbench.testing.models import ENCODERS as ENCODERS
from agmbench.testing.models import EVERY, NAMES, SOME, Case, NaiveModel, equal, unbalanced
from agmbench.testing.modulators import CHECKS as CHECKS

__all__ = ["EVERY", "NAMES", "SOME", "Case", "Check", "NaiveModel", "check", "check_entry", "equal", "report", "unbalanced"]
