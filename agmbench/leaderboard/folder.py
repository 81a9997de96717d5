"""A folder of results: one folder per job, named by its digest, and `manifest.json` with the sha256 of every file.

Such a folder may come from anybody. So only files that the manifest names are opened, only under the names below, and only regular files
of a limited size that are not symbolic links. Texts, names and numbers are checked before they are used.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from agmbench import labels, shapley
from agmbench.errors import UNSEEN, AgmbenchError, shown
from agmbench.jobs import Frozen, JobSpec, fault, flat, job_in
from agmbench.leaderboard.result import AboutRun, Environment, Metrics, Predictions, Result, Sha256
from agmbench.records import Record
from agmbench.registry.entry import check_name
from agmbench.whole import whole

FORMAT = 1
MANIFEST = "manifest.json"
JOB = "job.yaml"
PARTS: dict[str, type[BaseModel]] = {
    "run.json": AboutRun,
    "metrics.json": Metrics,
    "environment.json": Environment,
    "predictions.sha256": Predictions,
}
FILES = (JOB, *PARTS)
KNOWN = re.compile(rf"[0-9a-f]{{16}}/(?:{'|'.join(map(re.escape, FILES))})")
KEY = re.compile(r"\w[\w. -]*")  # what the key of a setting may be, because MLflow takes only such names
MOST = 10_000  # the largest number of results in a folder
BYTES = 2**20  # the largest size of a result's file
LETTERS = 2_000  # the greatest length of a text
DEPTH = 20  # the deepest nesting of lists and mappings

M = TypeVar("M", bound=BaseModel)


class Manifest(Frozen):
    """`manifest.json`: the sha256 of each file by its path."""

    format: Literal[1]
    files: dict[str, Sha256]


@dataclass(frozen=True)
class Folder:
    """A folder that was read. `name` distinguishes its runs from others; `sha256` is the hash of its manifest."""

    name: str
    path: Path
    results: Sequence[Result]
    sha256: str
    files: Mapping[str, str]

    def records(self) -> list[Record]:
        """The records of its runs."""
        return [result.record(self.name) for result in self.results]

    def copy(self, digest: str, into: Path) -> None:
        """Copy the files of a result, but no other files that may lie beside them."""
        for name, content in _sealed(self.path, digest, self.files).items():
            (into / name).write_bytes(content)

    def sealed(self, digest: str) -> str:
        """One sha256 over all files of a result."""
        return hashlib.sha256("".join(self.files[f"{digest}/{name}"] for name in FILES).encode()).hexdigest()


class Folders:
    """Folders of results in place of a store, with the methods of a tracker that `agmbench compare` needs."""

    def __init__(self, folders: Sequence[Folder]) -> None:
        self._records = [record for folder in folders for record in folder.records()]
        several = len(folders) > 1
        self.shown = f"the folder{'s' if several else ''} {', '.join(folder.name for folder in folders)}"

    def records(self, dataset: str | None = None) -> list[Record]:
        """Every run of a data set, by default of all."""
        return [record for record in self._records if dataset in (None, record.spec["dataset"]["name"])]

    def imported(self, dataset: str | None = None) -> list[Record]:
        """Always empty, because `records` already gives all runs."""
        return []

    def history(self, record: Record, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        """Always empty, because a result has no curves."""
        return {}


# writing


def write(results: Iterable[Result], path: Path) -> Folder:
    """Write a folder completely or not at all; the same results give the same bytes. An existing folder of results is replaced."""
    texts = {f"{result.run.digest}/{name}": text for result in results for name, text in _texts(result).items()}
    content = {name: texts[name].encode() for name in sorted(texts)}
    files = {name: hashlib.sha256(each).hexdigest() for name, each in content.items()}
    _check_replaceable(path)
    path = path.resolve()
    try:
        with whole(path) as fresh:
            for name, each in content.items():
                (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                (fresh / name).write_bytes(each)
            (fresh / MANIFEST).write_text(_json({"format": FORMAT, "files": files}), encoding="utf-8")
    except OSError as error:
        raise AgmbenchError(f"{shown(path)} cannot be written ({error.strerror}); name another folder") from error
    return read(path, path.name)


def check(result: Result) -> None:
    """Raise unless a reader would accept this result."""
    for name, text in _texts(result).items():
        if len(text.encode()) > BYTES:
            raise AgmbenchError(f"its {name} would be larger than {BYTES // 2**20} MiB")
    _result({name: text.encode() for name, text in _texts(result).items()}, result.run.digest, Path(result.run.digest))


def _texts(result: Result) -> dict[str, str]:
    plain = {"run.json": result.run, "metrics.json": result.metrics, "environment.json": result.environment}
    hashes = "".join(f"{value}  {name}\n" for name, value in result.predictions.model_dump().items())
    job = yaml.safe_dump(result.job.canonical(), sort_keys=False, allow_unicode=True)
    return {
        JOB: job,
        **{name: _json(part.model_dump(mode="json")) for name, part in plain.items()},
        "predictions.sha256": hashes,
    }


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _check_replaceable(path: Path) -> None:
    """Raise unless a path is free, or has a folder that contains nothing but an export."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise AgmbenchError(f"{shown(path)} exists and is not a folder; name another one")
    if Path.cwd().is_relative_to(path.resolve()):
        raise AgmbenchError(f"{path} holds the working directory; name a folder in it, such as results")
    if not path.exists():
        return
    for inside in path.rglob("*"):
        name = inside.relative_to(path).as_posix()
        known = name == MANIFEST or KNOWN.fullmatch(name) or KNOWN.fullmatch(f"{name}/{JOB}")
        if not known or inside.is_symlink():
            raise AgmbenchError(f"{shown(path)} holds {name}, which agmbench export did not write; name another folder")


# reading


def named(paths: Sequence[Path]) -> dict[str, Path]:
    """Names for folders that are read together: the last part of each path, or as many last parts as make them different."""
    whole = [path.resolve() for path in paths]
    for path in paths:
        if whole.count(path.resolve()) > 1:
            raise AgmbenchError(f"{shown(path)} is given twice; leave one of them out")
    for depth in range(1, max(len(path.parts) for path in whole) + 1):
        names = ["/".join(path.parts[-depth:]) for path in whole]
        if len({*names}) == len(names):
            break
    return {name_of(name): path for name, path in zip(names, paths, strict=True)}


def name_of(text: str) -> str:
    """Check a name for the source of runs, which is shown in rows and used in MLflow's filters; returns it."""
    if not text or len(text) > 200 or UNSEEN.search(text) or {*"\n\t'\"`"} & {*text}:
        raise AgmbenchError(f"the name {text!r} should be one line of printable text without quotes; rename the folder")
    return text


def read_all(paths: Sequence[Path]) -> list[Folder]:
    """Read several folders, and give each a name of its own."""
    return [read(path, name) for name, path in named(paths).items()]


def read(path: Path, name: str) -> Folder:
    """Read a folder, and check every file against its manifest."""
    files, sha256 = _manifest(path)
    digests = sorted({file.partition("/")[0] for file in files})
    return Folder(name, path, [_verified(path, digest, files) for digest in digests], sha256, files)


def read_result(path: Path) -> Result:
    """Read one result, given its folder or its `job.yaml`, and check it against the manifest beside the folder."""
    path = path.parent if path.name == JOB else path
    path = path.absolute()
    files, _ = _manifest(path.parent)
    if f"{path.name}/{JOB}" not in files:
        raise AgmbenchError(
            f"{shown(path)} is not a result that {shown(path.parent / MANIFEST)} lists; expected RESULTS/DIGEST"
        )
    return _verified(path.parent, path.name, files)


def _manifest(folder: Path) -> tuple[dict[str, str], str]:
    path = folder / MANIFEST
    if not path.is_file():
        raise AgmbenchError(f"{shown(folder)} has no {MANIFEST}, so it is not a folder of results; agmbench export writes one")
    content = _bytes(path, MOST * len(FILES) * 120)
    tree = _tree(content, path)
    if isinstance(tree, dict) and isinstance(stated := tree.get("format"), int) and stated > FORMAT:
        raise AgmbenchError(f"{shown(path)} has format {stated}, and this agmbench reads up to {FORMAT}; install a newer one")
    files = _valid(Manifest, tree, path).files
    _check_listed(files, path)
    return files, hashlib.sha256(content).hexdigest()


def _check_listed(files: Collection[str], path: Path) -> None:
    """Raise unless a manifest lists only complete results."""
    for name in files:
        if not KNOWN.fullmatch(name):
            raise AgmbenchError(
                f"{shown(path)} lists {name!r:.200}; expected DIGEST/FILE, where FILE is one of {', '.join(FILES)}"
            )
    digests = {name.partition("/")[0] for name in files}
    if len(digests) > MOST:
        raise AgmbenchError(f"{shown(path)} lists {len(digests)} results; {MOST} are allowed")
    for digest in sorted(digests):
        for name in FILES:
            if f"{digest}/{name}" not in files:
                raise AgmbenchError(f"{shown(path)} does not list {digest}/{name}; each result has {', '.join(FILES)}")


def _verified(folder: Path, digest: str, files: Mapping[str, str]) -> Result:
    return _result(_sealed(folder, digest, files), digest, folder / digest)


def _sealed(folder: Path, digest: str, files: Mapping[str, str]) -> dict[str, bytes]:
    """The content of a result's files; raises unless each has the sha256 that the manifest states."""
    if (folder / digest).is_symlink():
        raise AgmbenchError(f"{shown(folder / digest)} is a symbolic link; expected a folder")
    parts = {}
    for name in FILES:
        path = folder / digest / name
        parts[name] = _bytes(path, BYTES)
        found, stated = hashlib.sha256(parts[name]).hexdigest(), files[f"{digest}/{name}"]
        if found != stated:
            raise AgmbenchError(
                f"{shown(path)} is not the file that was exported: its sha256 begins with {found[:12]}, "
                f"and {MANIFEST} states {stated[:12]}"
            )
    return parts


def _result(parts: Mapping[str, bytes], digest: str, folder: Path) -> Result:
    """Make a result from the content of its files, and check all of it."""
    where = folder / JOB
    text = _text(parts[JOB], where)
    job = job_in(text, shown(where)).spec
    _check_texts(job.canonical(), where)
    _check_job(job, where)
    run = _part(AboutRun, parts, folder)
    if run.digest != digest:
        raise AgmbenchError(f"{shown(folder / 'run.json')} is of job {run.digest}, and its folder is called {digest}")
    lines = _text(parts["predictions.sha256"], folder / "predictions.sha256").splitlines()
    hashes = {name: value for value, _, name in (line.partition("  ") for line in lines)}
    _check_texts(hashes, folder / "predictions.sha256")
    predictions = _valid(Predictions, hashes, folder / "predictions.sha256")
    return Result(job, run, _part(Metrics, parts, folder), _part(Environment, parts, folder), predictions)


def _check_job(job: JobSpec, where: Path) -> None:
    check_name(job.dataset.name, f"{shown(where)}: data set")
    modalities = job.present or tuple(job.encoders)
    if not modalities or "*" in job.encoders:
        raise AgmbenchError(f"{shown(where)} should name an encoder for each modality")
    if len(modalities) > shapley.MOST:
        raise AgmbenchError(f"{shown(where)} names {len(modalities)} modalities; at most {shapley.MOST} are taken")
    if reason := labels.refused(modalities, ()):
        raise AgmbenchError(f"{shown(where)}: {reason}")
    for key in flat(job.canonical()):
        if len(key) > 250 or not KEY.fullmatch(key):
            raise AgmbenchError(f"{shown(where)}: {key[:60]!r} cannot be the name of a setting")


def _part(model: type[M], parts: Mapping[str, bytes], folder: Path) -> M:
    name = next(name for name, of in PARTS.items() if of is model)
    return _valid(model, _tree(parts[name], folder / name), folder / name)


def _bytes(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes. Nothing else is opened, and no symbolic link is followed."""
    try:
        if stat.S_ISLNK(os.lstat(path).st_mode):
            raise AgmbenchError(f"{shown(path)} is a symbolic link; expected a regular file")
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise AgmbenchError(f"{shown(path)} is not a regular file")
            content = file.read(most + 1)
    except OSError as error:
        raise AgmbenchError(f"{shown(path)} cannot be read ({error.strerror})") from error
    if len(content) > most:
        raise AgmbenchError(f"{shown(path)} is larger than {most:,} bytes, which is the most that is read")
    return content


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AgmbenchError(f"{shown(path)} is not UTF-8 text") from error


def _tree(content: bytes, path: Path) -> Any:
    """The tree of a JSON file; raises if a key is given twice or a number is not finite."""
    try:
        tree = json.loads(_text(content, path), object_pairs_hook=_once, parse_float=_number, parse_constant=_number)
    except (ValueError, RecursionError) as error:
        said = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
        raise AgmbenchError(f"{shown(path)} is not JSON as it should be: {said[:300]}") from error
    _check_texts(tree, path)
    return tree


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        raise ValueError("a key is given twice")
    return tree


def _number(text: str) -> float:
    if not isfinite(value := float(text)):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def _check_texts(tree: Any, path: Path, depth: int = 0) -> None:
    """Raise unless every text is one line that a terminal shows as it is, and nothing nests too deeply."""
    if depth > DEPTH:
        raise AgmbenchError(f"{shown(path)} nests lists and mappings more than {DEPTH} deep")
    if isinstance(tree, str) and (len(tree) > LETTERS or UNSEEN.search(tree) or "\n" in tree or "\t" in tree):
        raise AgmbenchError(
            f"{shown(path)}: the text {tree[:60]!r} should be one printable line of at most {LETTERS} characters"
        )
    inside = [*tree.keys(), *tree.values()] if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ()
    for each in inside:
        _check_texts(each, path, depth + 1)


def _valid(model: type[M], tree: Any, path: Path) -> M:
    if not isinstance(tree, dict):
        raise AgmbenchError(f"{shown(path)} should be a mapping; found {tree!r:.80}")
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise AgmbenchError(f"{shown(path)}: {fault(error, model, 'key')}"[:1000]) from error
