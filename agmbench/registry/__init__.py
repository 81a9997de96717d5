"""Finds the entries of names. The target of an entry is imported only by `Entry.load`.

Four sources give the same kind of entry: the built-in `registry.yaml`, every `plugins/*/registry.yaml` below the working directory, the
entry points of installed packages, and a file of the user's own (`--registry`, `AGMBENCH_REGISTRY`).
"""

from agmbench.registry.doors import builtin, load
from agmbench.registry.entry import BUILT_IN, KINDS, Broken, Entry, Matrix
from agmbench.registry.names import Registry, listing

__all__ = ["BUILT_IN", "KINDS", "Broken", "Entry", "Matrix", "Registry", "builtin", "listing", "load"]
