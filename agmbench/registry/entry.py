"""What a source defines for a name: an entry (which imports its target only when asked), a suite, or an error with its reason."""

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from agmbench.errors import AgmbenchError, allowed, describe, shown

KINDS = ("dataset", "transform", "encoder", "fusion", "modulator", "metric", "launcher")
BUILT_IN = "built-in"
NAME = re.compile(r"\w[\w.-]{0,99}")


def check_name(name: str, what: str) -> None:
    """Raise unless `name` can name an entry, a suite or a study: it becomes a folder, an MLflow experiment and part of MLflow filters."""
    if not NAME.fullmatch(name):
        raise AgmbenchError(
            f"{what} {name!r}: a name should be made of letters, digits, '.', '_' and '-', at most 100, "
            "and not begin with '.' or '-'"
        )


@dataclass(frozen=True)
class Entry:
    """One name of the registry.

    `params` override the defaults of the target's signature. `search` gives the range of each parameter that a sweep tunes.
    `family` is the group of methods under which documents list it.
    `job` (data sets only) holds the defaults of a job on that data set. `version` is raised when the numbers change.
    """

    kind: str
    name: str
    target: str
    place: str
    origin: str = BUILT_IN
    folder: Path | None = None
    version: str = "1"
    summary: str = ""
    paper: str = ""
    family: str = ""
    refuses: str = ""
    aliases: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    job: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    def load(self) -> Any:
        """Import the target. What the import prints goes to standard error, because standard output is for results."""
        with redirect_stdout(sys.stderr):
            return self.import_target()

    def import_target(self) -> Any:
        """Import the target, `module:attribute` or `module:Class.method`. Modules in the folder of the registry file come first."""
        module_name, _, attribute = self.target.partition(":")
        try:
            module = self._module(module_name)
        except (Exception, SystemExit) as error:
            raise self._refusal(f"{describe(error)}{self._near(error, module_name)}") from error
        try:
            return attrgetter(attribute)(module)
        except AttributeError as error:
            own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
            raise self._refusal(f"AttributeError: no '{attribute}' in '{module_name}': {allowed(attribute, own)}") from error

    def _refusal(self, reason: str) -> AgmbenchError:
        return AgmbenchError(f"{self} cannot be imported from '{self.target}' ({reason}); it is named in {self.place}")

    def _near(self, error: BaseException, module: str) -> str:
        """A hint with the modules of the folder, if the target's own module is missing; otherwise empty."""
        if self.folder is None or not (isinstance(error, ModuleNotFoundError) and error.name == module):
            return ""
        return f", nor {module}.py in {shown(self.folder)}: {allowed(module, (path.stem for path in self.folder.glob('*.py')))}"

    def _module(self, name: str) -> ModuleType:
        if self.folder is None or not (path := self.folder / f"{name}.py").is_file():
            return importlib.import_module(name)
        unique = f"{package_of(self.folder)}.{name}"
        if (known := sys.modules.get(unique)) is not None and known.__file__ == os.path.abspath(path):
            return known
        spec = importlib.util.spec_from_file_location(unique, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[unique] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[unique]
            raise
        return module


PLUGINS = "agmbench_plugins"  # the package that holds the modules of plugin folders


def plugin_folders() -> list[Path]:
    """The plugin folders whose modules this process can import, so that a child process can be given the same."""
    names = [name for name in sys.modules if name.startswith(f"{PLUGINS}.") and name.count(".") == 1]
    return [Path(sys.modules[name].__path__[0]) for name in names]


def package_of(folder: Path) -> str:
    """Make a package for the modules of a folder, so that they can import one another (`from .helper import x`), and return its name."""
    top, path = PLUGINS, os.path.abspath(folder)
    name = f"{top}.{folder.name.replace('.', '_')}"
    if getattr(sys.modules.get(name), "__path__", None) != [path]:
        for old in [module for module in sys.modules if module.startswith(f"{name}.")]:
            del sys.modules[old]  # a module of another folder with the same name
        for package, places in ((top, []), (name, [path])):
            sys.modules[package] = module = ModuleType(package)
            module.__path__ = places
    return name


@dataclass(frozen=True)
class Matrix:
    """A suite: a named matrix of jobs. `suite/matrix.py` explains its parts."""

    name: str
    place: str
    content: Mapping[str, Any]
    origin: str = BUILT_IN
    kind: str = "suite"
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Broken:
    """A name that cannot be used, or (without a name) a file that cannot be read, with the reason."""

    kind: str
    name: str
    place: str
    origin: str
    reason: str
    aliases: tuple[str, ...] = ()


Found = Entry | Matrix | Broken
