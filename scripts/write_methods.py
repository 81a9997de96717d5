"""Write docs/methods.md from the registry, the docstrings and recorded runs.

python scripts/write_methods.py
"""

from pathlib import Path

from pages import methods

import agmbench.registry as registry

ROOT = Path(__file__).resolve().parents[1]


def text() -> str:
    """The text that docs/methods.md should have."""
    costs, agreement = ROOT / "benchmarks" / "epochs.csv", ROOT / "tests" / "reference" / "agreement.csv"
    return methods.page(registry.builtin(), methods.read(costs), methods.read(agreement))


if __name__ == "__main__":
    (ROOT / "docs" / "methods.md").write_text(text(), encoding="utf-8")
