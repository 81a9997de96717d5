"""A new plugin, from `templates/`: a folder for `plugins/`, or a package to install."""

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from string import Template

from agmbench.errors import AgmbenchError, describe
from agmbench.registry import load
from agmbench.whole import whole

TEMPLATES = Path(__file__).parent / "templates"
USES = {
    "dataset": "agmbench run --dataset {name}",
    "transform": "agmbench run --set augment.image={name}",
    "encoder": "agmbench run --encoder '*={name}'",
    "fusion": "agmbench run --fusion {name}",
    "modulator": "agmbench run --modulator {name}",
    "metric": "agmbench compare --columns accuracy,{name}",
    "launcher": "agmbench suite run mini --launcher {name}",
}


@dataclass(frozen=True)
class Skeleton:
    """The component to make. `my-method` becomes the class `MyMethod` of the module `my_method`."""

    kind: str
    name: str
    package: bool

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", self.name):
            apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", self.name).lower()
            near = re.sub(r"[^a-z0-9]+", "-", apart).strip("-").lstrip("0123456789-") or "my-method"
            raise AgmbenchError(
                f"'{self.name}' cannot be a name: use lower-case letters, digits and dashes, a letter first, such as {near}"
            )
        if keyword.iskeyword(self.module):
            raise AgmbenchError(f"'{self.name}' is a Python keyword; choose another name")
        if self.name in (registry := load()).names(self.kind):
            place = registry.get(self.kind, self.name).place
            raise AgmbenchError(f"{self.kind} '{self.name}' already exists in {place}; choose another name")
        if self.package and find_spec(self.module):
            raise AgmbenchError(f"a module '{self.module}' is already installed; choose another name")

    @property
    def module(self) -> str:
        """The name in a form that Python can import."""
        return self.name.replace("-", "_")

    @property
    def use(self) -> str:
        """The command that uses it."""
        return USES[self.kind].format(name=self.name)

    def files(self) -> dict[str, str]:
        """The text of each file, by path."""
        words = {
            "kind": self.kind,
            "name": self.name,
            "module": self.module,
            "Class": "".join(word.capitalize() for word in self.name.split("-")),
            "use": self.use,
            "version": version("agmbench"),
        }
        words |= {"code": _filled(f"{self.kind}.py.in", words), "details": _filled(f"{self.kind}.yaml.in", words)}
        tree = TEMPLATES / ("package" if self.package else "folder")
        paths = [path.relative_to(TEMPLATES) for path in sorted(tree.rglob("*.in"))]
        return {self._placed(path): _filled(path, words) for path in paths}

    def _placed(self, template: Path) -> str:
        inside = template.relative_to(template.parts[0]).as_posix().removesuffix(".in")
        return inside.replace("MODULE", self.module).replace("KIND", self.kind)


def _filled(template: str | Path, words: Mapping[str, str]) -> str:
    return Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(words)


def write(skeleton: Skeleton, parent: Path) -> Path:
    """Write the new folder below `parent`, complete or not at all."""
    folder = parent / skeleton.name
    if folder.exists():
        raise AgmbenchError(f"{folder} already exists; choose another name, or remove it")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with whole(folder) as fresh:
            for path, text in skeleton.files().items():
                (fresh / path).parent.mkdir(parents=True, exist_ok=True)
                (fresh / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise AgmbenchError(f"{folder} cannot be written ({describe(error)})") from error
    return folder
