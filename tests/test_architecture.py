"""Which room may import which: checks the one-way flow of docs/architecture.md by walking all imports."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "agmbench"

# for each room, the rooms that it may import, at the top of a file or inside a function
MAY_IMPORT: dict[str, set[str]] = {
    "labels": {"errors"},
    "addresses": set(),
    "locks": set(),
    "whole": {"locks"},
    "names": set(),
    "errors": set(),
    "ending": set(),
    "records": {"jobs", "names", "outcomes"},
    "outcomes": {"shapley"},
    "shapley": set(),
    "registry": {"errors"},
    "skeleton": {"errors", "registry", "whole"},
    "jobs": {"errors", "registry"},
    "tasks": {"outcomes"},
    "contracts": {"shapley", "tasks"},
    "fingerprint": {"contracts"},
    "measures": {"errors", "jobs", "outcomes", "predictions", "records", "registry"},
    "parameters": {"errors", "jobs", "registry"},
    "older": {"jobs", "metrics", "names", "outcomes", "records"},
    "protocol": {"build", "contracts", "errors", "fingerprint", "jobs", "parameters", "records", "registry"},
    "muting": {"contracts"},
    "augment": {"contracts"},
    "modes": set(),
    "criterion": {"tasks"},
    "distributed": {"contracts", "ending", "errors", "interrupts", "loading"},
    "model": {"contracts", "criterion", "distributed", "modes", "muting", "shapley", "tasks"},
    "datasets": {"contracts", "tasks"},
    "data": {"contracts", "datasets", "errors", "labels", "registry", "tasks", "whole"},
    "transforms": {"contracts"},
    "encoders": {"contracts"},
    "fusions": {"contracts"},
    "clipping": set(),
    "modulators": {"clipping", "contracts", "tasks"},
    "metrics": {"outcomes", "shapley"},
    "conduct": {"contracts", "errors", "model"},
    "optimizers": {"clipping", "encoders", "errors", "jobs", "model"},
    "features": {"contracts", "distributed", "loading", "model", "modes", "muting"},
    "recipes": {"contracts", "criterion", "encoders", "errors", "features", "jobs", "model", "muting", "optimizers", "tasks"},
    "workers": {"errors"},
    "profiling": {"contracts"},
    "loading": {"contracts", "errors", "profiling", "registry", "workers"},
    "precision": {"contracts", "errors"},
    "finite": {"contracts", "distributed", "errors", "model"},
    "evaluate": {"contracts", "errors", "finite", "model", "outcomes", "shapley", "tasks"},
    "cost": {"contracts", "model"},
    "batching": {"contracts", "jobs"},
    "steplog": {"contracts", "names", "records", "tasks"},
    "state": {"contracts", "cost", "errors", "steplog"},
    "train": {
        "batching",
        "conduct",
        "contracts",
        "cost",
        "distributed",
        "errors",
        "evaluate",
        "finite",
        "jobs",
        "loading",
        "measures",
        "model",
        "names",
        "optimizers",
        "outcomes",
        "precision",
        "recipes",
        "records",
        "state",
        "steplog",
    },
    "build": {
        "augment",
        "contracts",
        "data",
        "errors",
        "fingerprint",
        "jobs",
        "labels",
        "measures",
        "model",
        "muting",
        "parameters",
        "recipes",
        "registry",
        "shapley",
        "tasks",
    },
    "testing": {
        "conduct",
        "contracts",
        "data",
        "datasets",
        "errors",
        "jobs",
        "launch",
        "launchers",
        "loading",
        "model",
        "modes",
        "outcomes",
        "parameters",
        "precision",
        "registry",
        "shapley",
        "tasks",
        "train",
    },
    "report": {"errors", "jobs", "metrics", "outcomes", "provenance", "records", "shapley", "whole"},
    "trackers": {"addresses", "errors", "interrupts", "jobs", "locks", "names", "older", "outcomes", "records", "whole"},
    "predictions": {"outcomes"},
    "provenance": set(),
    "interrupts": set(),
    "launch": {"addresses", "ending", "errors", "interrupts"},
    "pool": {"errors", "interrupts", "launch"},
    "launchers": {"ending", "errors", "interrupts", "launch", "pool"},
    "logs": set(),
    "work": {"build", "errors", "execute", "interrupts", "jobs", "records", "registry", "trackers"},
    "leaderboard": {
        "errors",
        "jobs",
        "labels",
        "measures",
        "names",
        "outcomes",
        "predictions",
        "records",
        "registry",
        "shapley",
        "whole",
    },
    "suite": {"build", "errors", "jobs", "launch", "measures", "names", "records", "registry", "report"},
    "checkpoints": {"errors", "records", "whole"},
    "served": {
        "build",
        "contracts",
        "errors",
        "evaluate",
        "jobs",
        "loading",
        "model",
        "predictions",
        "registry",
        "tasks",
        "train",
    },
    "execute": {
        "build",
        "checkpoints",
        "contracts",
        "distributed",
        "errors",
        "evaluate",
        "features",
        "jobs",
        "loading",
        "logs",
        "measures",
        "model",
        "names",
        "outcomes",
        "predictions",
        "profiling",
        "protocol",
        "provenance",
        "records",
        "registry",
        "report",
        "served",
        "state",
        "train",
    },
    "sweep": {
        "addresses",
        "build",
        "contracts",
        "errors",
        "execute",
        "interrupts",
        "jobs",
        "launch",
        "measures",
        "names",
        "parameters",
        "protocol",
        "records",
        "registry",
        "report",
        "trackers",
        "train",
    },
    "cli": {
        "addresses",
        "build",
        "contracts",
        "data",
        "datasets",
        "distributed",
        "errors",
        "execute",
        "forecast",
        "interrupts",
        "jobs",
        "launch",
        "leaderboard",
        "logs",
        "measures",
        "parameters",
        "protocol",
        "records",
        "registry",
        "report",
        "skeleton",
        "suite",
        "sweep",
        "testing",
        "trackers",
        "train",
        "whole",
        "workers",
    },
    "forecast": {"build", "contracts", "cost", "model", "modulators"},
    "given": {"contracts", "errors", "registry", "tasks"},
    "api": {
        "build",
        "cli",
        "contracts",
        "errors",
        "execute",
        "given",
        "jobs",
        "measures",
        "records",
        "registry",
        "report",
        "trackers",
    },
    "__main__": {"cli"},
    "__init__": {"api"},
}


def room(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "agmbench":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("agmbench."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("agmbench.")}
    return found - {room(path)}


def test_every_room_imports_only_what_it_may() -> None:
    used: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        assert room(path) in MAY_IMPORT, f"{path}: a room that docs/architecture.md does not know"
        used.setdefault(room(path), set()).update(imported_rooms(path))
    wrong = {name: rooms - MAY_IMPORT[name] for name, rooms in used.items() if rooms - MAY_IMPORT[name]}
    assert wrong == {}
    unused = {name: rooms - used.get(name, set()) for name, rooms in MAY_IMPORT.items() if rooms - used.get(name, set())}
    assert unused == {}, "the table allows what nobody needs"


def test_the_rooms_have_no_cycle() -> None:
    done: set[str] = set()
    while left := MAY_IMPORT.keys() - done:
        free = {name for name in left if MAY_IMPORT[name] <= done}
        assert free, f"a cycle among {sorted(left)}"
        done |= free


IMPORTS_ALL_OF = """
import importlib, pkgutil, sys
for room in sys.argv[1:]:
    module = importlib.import_module(f"agmbench.{room}")
    for inner in pkgutil.walk_packages(getattr(module, "__path__", []), f"agmbench.{room}."):
        importlib.import_module(inner.name)
print("torch" in sys.modules)
"""


def test_torch_is_imported_by_no_light_room() -> None:
    """The rooms are imported in a separate process, so that torch is also noticed if something that they import brings it in."""

    def heavy(*rooms: str) -> bool:
        words = [sys.executable, "-P", "-c", IMPORTS_ALL_OF, *rooms]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout == "True\n"

    assert not heavy("errors", "records", "registry", "jobs", "report", "trackers", "cli", "launch")
    assert heavy("train"), "what is looked for is found"


def test_every_registry_name_is_a_file_of_its_room() -> None:
    from agmbench import registry

    for entry in registry.builtin().entries():
        module, _, _ = entry.target.partition(":")
        assert module == f"agmbench.{entry.kind}s.{entry.name.replace('-', '_')}"
