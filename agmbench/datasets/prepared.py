"""Prepared data: arrays mapped from disk, and a manifest that tells from which sources and parameters they were made.

    <folder>/prepared-<digest>/manifest.json       parameters, checksums of the sources, splits
    <folder>/prepared-<digest>/<split>/<name>.npy  one array per modality, and `targets`

The digest is a hash of parameters and sources, so data with other parameters go to another folder. A folder is written under a
temporary name, item by item, and renamed when it is complete. An interrupted preparation can be resumed.
"""

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from math import prod
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from agmbench.contracts import Unsuitable
from agmbench.datasets.arrays import Array
from agmbench.datasets.checksums import checksum
from agmbench.datasets.files import Progress
from agmbench.datasets.untrusted import load_npy, regular

MANIFEST = "manifest.json"
Format = Literal[2]
(FORMAT,) = get_args(Format)


class Manifest(BaseModel):
    """The content of `manifest.json`. `sources` and `outputs` have sha256 by path; `arrays` has shape and dtype by split and name."""

    format: Format
    dataset: str
    parameters: dict[str, Any]
    arrays: dict[str, dict[str, tuple[list[int], str]]]
    facts: dict[str, Any]
    sources: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """What will be prepared, and from what. `arrays[split][name]` is (shape, dtype), with N first in the shape.

    `facts` are stored in the manifest for later use: ids, class names.
    """

    dataset: str
    parameters: Mapping[str, Any]
    sources: Mapping[str, str]  # path below the raw folder: checksum
    arrays: Mapping[str, Mapping[str, tuple[tuple[int, ...], str]]]
    facts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """A hash of the data set's name, the parameters and the sources."""
        content = json.dumps([FORMAT, self.dataset, self.parameters, self.sources], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]


class Store:
    """A prepared folder that is being written. `place(split, name)` is an array to write into."""

    def __init__(self, target: Path, plan: Plan) -> None:
        self.plan = plan
        self.final = target / f"prepared-{plan.digest}"
        self.aside = target / f"prepared-{plan.digest}.part"
        self._arrays: dict[tuple[str, str], Array] = {}
        self._lock = FileLock(self.aside / "lock")

    @property
    def whole(self) -> bool:
        """Whether the folder is complete."""
        return (self.final / MANIFEST).is_file()

    def open(self) -> None:
        """Lock the folder and make the arrays, or open those of an interrupted preparation. Raises `Unsuitable` if that is not possible."""
        for split, arrays in self.plan.arrays.items():
            if not all(shape[0] for shape, _ in arrays.values()):
                raise Unsuitable(f"there are no samples for '{split}'; expected one or more")
        try:
            self.aside.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            self._check_space()
            self._open_arrays()
        except Timeout as error:
            raise Unsuitable(f"another process is preparing {self.final}; wait for it, or stop it and start again") from error
        except OSError as error:
            raise Unsuitable(f"{self.aside} cannot be written ({error.strerror})") from error

    def _open_arrays(self) -> None:
        for split, arrays in self.plan.arrays.items():
            (self.aside / split).mkdir(exist_ok=True)
            done = (max(shape[0] for shape, _ in arrays.values()),)
            for name, (shape, dtype) in {**arrays, "done": (done, "bool")}.items():
                path = self.aside / split / f"{name}.npy"
                if not path.is_file():
                    fresh = path.with_suffix(".new")
                    np.lib.format.open_memmap(fresh, mode="w+", dtype=np.dtype(dtype), shape=shape).flush()
                    fresh.replace(path)
                self._arrays[split, name] = np.load(path, mmap_mode="r+", allow_pickle=False)

    def _check_space(self) -> None:
        """Raise `Unsuitable` if the disk has too little space. Writing to a mapped array on a full disk would kill the process without a
        message."""
        shapes = [shape for arrays in self.plan.arrays.values() for shape in arrays.values()]
        needed = sum(prod(shape) * np.dtype(dtype).itemsize for shape, dtype in shapes)
        needed -= sum(path.stat().st_blocks * 512 for path in self.aside.glob("*/*.npy"))
        free = shutil.disk_usage(self.aside).free
        if needed > free:
            raise Unsuitable(
                f"{self.aside} needs {needed / 1e9:.1f} GB more, and only {free / 1e9:.1f} GB are free there; free some space"
            )

    def place(self, split: str, name: str) -> Array:
        """The array of a split, mapped for writing."""
        return self._arrays[split, name]

    def done(self, split: str) -> Array:
        """Which items of a split are written, as flags that can be set. Set the flag of an item after writing its rows."""
        return self._arrays[split, "done"]

    def close(self) -> None:
        """Flush, write the manifest and move the folder into place."""
        for array in self._arrays.values():
            array.flush()  # type: ignore[attr-defined]
        for split in self.plan.arrays:
            (self.aside / split / "done.npy").unlink()
        with (self.aside / MANIFEST).open("w") as file:
            file.write(json.dumps(self._manifest(), indent=1, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if self.final.exists():
            shutil.rmtree(self.final)
        self.release()
        self.aside.replace(self.final)

    def _manifest(self) -> dict[str, Any]:
        """The manifest of the complete arrays."""
        plan = self.plan
        written = [f"{split}/{name}.npy" for split, name in self._arrays if name != "done"]
        return {
            "format": FORMAT,
            "dataset": plan.dataset,
            "parameters": dict(plan.parameters),
            "arrays": {
                split: {name: [list(shape), dtype] for name, (shape, dtype) in arrays.items()}
                for split, arrays in plan.arrays.items()
            },
            "facts": plan.facts,
            "sources": dict(plan.sources),
            "outputs": {path: checksum(self.aside / path) for path in written},
        }

    def release(self) -> None:
        """Release the lock, so that another process can continue."""
        if self._lock.is_locked:
            (self.aside / "lock").unlink(missing_ok=True)
            self._lock.release(force=True)


Item = tuple[str, int, Any]  # split, row, and the argument of `work`


def fill(
    store: Store, items: Sequence[Item], work: Callable[[Any], Mapping[str, Array]], progress: Progress, jobs: int
) -> None:
    """Write `work(what)` into the row of each item that is not done yet, by `jobs` processes, and then close the store.

    `work` returns one array per name. It is sent to other processes, so it has to be a function of a module. An item that cannot be read
    raises `Unsuitable`; items that are done by then stay.
    """
    store.open()
    left = [item for item in items if not store.done(item[0])[item[1]]]
    count = len(items) - len(left)
    try:
        progress(count, len(items))
        for (split, row, _), arrays in zip(left, _mapped(work, [what for _, _, what in left], jobs), strict=True):
            for name, array in arrays.items():
                store.place(split, name)[row] = array
            store.done(split)[row] = True
            count += 1
            progress(count, len(items))
        store.close()
    finally:
        store.release()


def _mapped(work: Callable[[Any], Any], things: Sequence[Any], jobs: int) -> Iterator[Any]:
    if jobs == 1:
        yield from map(work, things)
        return
    deaf = (signal.SIGINT, signal.SIG_IGN)  # workers ignore Ctrl+C; only the first process reports it
    with ProcessPoolExecutor(jobs, get_context("spawn"), signal.signal, deaf) as pool:
        try:
            waiting = iter(things)
            running = [pool.submit(work, thing) for thing in islice(waiting, 4 * jobs)]
            while running:
                yield running.pop(0).result()
                running += [pool.submit(work, thing) for thing in islice(waiting, 1)]
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class PreparedFolder:
    """A prepared folder that is being read."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def files(self) -> list[Path]:
        """The files that enter a fingerprint: only the manifest, because it names parameters and sources."""
        return [self.folder / MANIFEST]

    @property
    def checksums(self) -> dict[Path, str]:
        """The checksums of the arrays when they were written."""
        return {self.folder / path: value for path, value in self.manifest["outputs"].items()}

    def array(self, split: str, name: str) -> Array:
        """An array, mapped from disk. Raises `Unsuitable` if its shape is not that in the manifest."""
        if name not in self.manifest["arrays"].get(split, {}):
            raise Unsuitable(f"{self.folder / MANIFEST} has no array '{split}/{name}'")
        shape, _ = self.manifest["arrays"][split][name]
        return load_npy(self.folder / split / f"{name}.npy", tuple(shape))


def read(root: Path, dataset: str, parameters: Mapping[str, Any] | None = None) -> PreparedFolder:
    """The prepared folder below `root` that has these parameters. Raises `Unsuitable` unless there is exactly one."""
    found = [PreparedFolder(path.parent, manifest_of(path, dataset)) for path in sorted(root.glob(f"prepared-*/{MANIFEST}"))]
    wanted = dict(parameters or {})
    fitting = [prepared for prepared in found if wanted.items() <= prepared.manifest["parameters"].items()]
    if len(fitting) == 1:
        return fitting[0]
    have = "; ".join(f"{prepared.folder.name} {prepared.manifest['parameters']}" for prepared in found) or "none"
    hint = "" if fitting else f"; 'agmbench data prepare {dataset} --from RAW' makes one, with --set KEY=VALUE"
    raise Unsuitable(
        f"{root} should have one prepared folder of '{dataset}' with {wanted or 'any parameters'}; found {have}{hint}"
    )


def manifest_of(path: Path, dataset: str) -> dict[str, Any]:
    """Read the manifest of a data set. Raises `Unsuitable` if it cannot be read, is of another format or of another data set."""
    regular(path)
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Unsuitable(f"{path} cannot be read as JSON: {error}") from error
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        raise Unsuitable(f"{path} is not a manifest of format {FORMAT}; prepare the data again") from error
    if manifest.dataset != dataset:
        raise Unsuitable(f"{path} is of the data set {manifest.dataset!r}; expected '{dataset}'")
    return dict(content)
