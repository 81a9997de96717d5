"""agmbench: a benchmark of multimodal learning under gradient modulation.

`agmbench.run(...)` and `agmbench.compare(...)` do what the commands of those names do (docs/python.md). Importing this package imports
nothing else.
"""

# nothing is imported here: until `__main__` removes the working directory from the path, `python -m agmbench` would import from there
TYPE_CHECKING = False  # type checkers treat this name as true

if TYPE_CHECKING:
    from typing import Any

    from agmbench.api import compare as compare
    from agmbench.api import run as run

__version__: str
__all__ = ["__version__", "compare", "run"]  # `__getattr__` makes each when it is first used


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
