"""agmbench: a benchmark of multimodal learning under gradient modulation.

`agmbench.run(...)` and `agmbench.compare(...)` are the commands of those names (docs/python.md). Importing this imports nothing else.
"""

# nothing is imported here: until `__main__` has its say, `python -m agmbench` takes modules from the working directory
TYPE_CHECKING = False  # which type checkers take for true

if TYPE_CHECKING:
    from typing import Any

    from agmbench.api import compare as compare
    from agmbench.api import run as run

__version__: str
__all__ = ["__version__", "compare", "run"]  # made when they are asked for


def __getattr__(name: str) -> "Any":
    if name == "__version__":
        from importlib.metadata import version

        return version("agmbench")
    if name in __all__:
        from agmbench import api

        return getattr(api, name)
    raise AttributeError(f"module 'agmbench' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
