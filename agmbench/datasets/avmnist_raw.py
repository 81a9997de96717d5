"""Makes AV-MNIST from raw MNIST and the Free Spoken Digit Dataset (FSDD): `build` writes a prepared folder.

    recordings/audio.npy     [R, 112, 112] uint8: one spectrogram per recording
    {train,test}/image.npy   [N, 784] float32: weakened images, in grey values of 255
    {train,test}/recording.npy, targets.npy   [N] int64: the row in `recordings/audio.npy`, the class

Images: they are projected on leading principal components, and the mean is not added back. Sums are taken on a grid of binary
fractions, which makes them exact: values are within .002 grey values of an unrounded projection, and do not depend on the number of
threads.

Audio: the pack's generator drew the spectrogram of a whole recording as a picture of 112x112. Ours: 112 frames, spread evenly over the
recording, of 222 samples (28 ms) under a Hann window give 112 frequencies from 0 Hz (first row) to 4 kHz; -80 to 0 decibels,
relative to the loudest point of the recording, become 0 to 255. No noise is added.

Pairs: `avmnist_queue.py` imitates the order in which the pack's generator finished its recordings.
"""

import gzip
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Le
from scipy.signal import get_window

from agmbench.contracts import Unsuitable
from agmbench.datasets.arrays import Array, check_labels, check_lengths, check_shape
from agmbench.datasets.avmnist_queue import finished
from agmbench.datasets.checksums import checksum
from agmbench.datasets.files import Progress
from agmbench.datasets.media import read_sound
from agmbench.datasets.prepared import Plan, Store, fill
from agmbench.datasets.untrusted import regular

Components = Annotated[int, Ge(1), Le(784)]
Pairing = Literal["pack", "exact"]
Speakers = Literal["four", "all"]
TestPCA = Literal["own", "train"]


class Recipe(NamedTuple):
    """How images are weakened and how recordings are assigned to them.

    components: how many principal components of the images are kept.
    pairing: `exact` gives each image a recording of its digit; `pack` displaces recordings as the pack's generator did.
    speakers: `four` takes those that FSDD had when the pack was made; `all` takes every recording in the folder.
    test_pca: `own` fits the components of the test images on these images; `train` uses those of train.
    """

    components: Components
    pairing: Pairing
    speakers: Speakers
    test_pca: TestPCA


PACK = Recipe(components=4, pairing="pack", speakers="four", test_pca="own")  # as far as it is known: docs/avmnist.md

CLASSES = 10
SIZE = 112
FOUR = ("jackson", "nicolas", "theo", "yweweler")
RATE, N_FFT, FLOOR = 8000, 2 * (SIZE - 1), -80.0
TEST_TAKES = range(40, 50)

ARCHIVE = "mnist_full_70000.npz"
IDX = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
NAMED = re.compile(r"(\d)_(.+)_(\d+)")


def build(source: Path, target: Path, progress: Progress, jobs: int, recipe: Recipe = PACK) -> None:
    """Write the prepared folder below `target`. Two runs write the same bytes; an interrupted run can be resumed."""
    digits = _digits(source)
    _check_components(digits, recipe.components)
    recordings = _recordings(source, recipe.speakers)
    dealt = _dealt(digits.targets, recordings, recipe.pairing)
    store = Store(target, _plan(source, digits, recordings, recipe))
    if store.whole:
        progress(len(recordings), len(recordings))
        return
    store.open()
    if not store.done("test").all():
        _write_digits(store, digits, dealt, recipe)
    items = [("recordings", row, recording.path) for row, recording in enumerate(recordings)]
    fill(store, items, spoken, progress, jobs)


def _check_components(digits: "_Digits", count: int) -> None:
    for part, images in digits.images.items():
        if count >= len(images):
            raise Unsuitable(f"components is {count}; the {len(images)} images of {part} have {len(images) - 1} at most")


def _write_digits(store: Store, digits: "_Digits", dealt: Mapping[str, Array], recipe: Recipe) -> None:
    """Write the images, and for each its class and the row of its recording."""
    _write_images(store, digits.images, recipe)
    for part in IDX:
        store.place(part, "recording")[:] = dealt[part]
        store.place(part, "targets")[:] = digits.targets[part]
        store.done(part)[:] = True


def _plan(source: Path, digits: "_Digits", recordings: "list[_Recording]", recipe: Recipe) -> Plan:
    paths = [*digits.files, *(recording.path for recording in recordings)]
    arrays: dict[str, Mapping[str, tuple[tuple[int, ...], str]]] = {
        part: {"image": ((len(t), 784), "float32"), "recording": ((len(t),), "int64"), "targets": ((len(t),), "int64")}
        for part, t in digits.targets.items()
    }
    return Plan(
        dataset="avmnist",
        parameters={**recipe._asdict(), "rate": RATE, "n_fft": N_FFT, "floor": FLOOR},
        sources={path.relative_to(source).as_posix(): checksum(path) for path in paths},
        arrays={"recordings": {"audio": ((len(recordings), SIZE, SIZE), "uint8")}, **arrays},
        facts={"recordings": [recording.path.stem for recording in recordings]},
    )


# spoken digits


class _Recording(NamedTuple):
    digit: int
    take: int
    speaker: str
    path: Path


def spoken(path: Path) -> dict[str, Array]:
    """Read a recording as `audio` `[112, 112]` uint8, its log spectrogram (frequencies by time)."""
    samples = read_sound(path, RATE)
    samples = np.pad(samples, (0, max(0, N_FFT - len(samples))))
    starts = np.linspace(0, len(samples) - N_FFT, SIZE).round().astype(np.int64)
    frames = samples[starts[:, None] + np.arange(N_FFT)] * get_window("hann", N_FFT)  # [112 times, 222]
    loudness = np.abs(np.fft.rfft(frames, axis=1)).T  # [112 frequencies, 112 times]
    relative = loudness / max(loudness.max(), np.finfo(np.float32).tiny)
    decibels = 20 * np.log10(np.maximum(relative, 10 ** (FLOOR / 20)))
    return {"audio": ((1 - decibels / FLOOR) * 255).round().astype(np.uint8)}


def _recordings(source: Path, speakers: Speakers) -> list[_Recording]:
    """The recordings, ordered by digit, take and speaker, so that neighbours have different voices. Raises `Unsuitable` if there are
    none."""
    for folder in (source / "fsdd" / "recordings", source / "recordings"):
        found = sorted(_named(path) for path in folder.glob("*.wav"))
        taken = [recording for recording in found if speakers == "all" or recording.speaker in FOUR]
        if found and not taken:
            raise Unsuitable(f"{folder} has no recording of {', '.join(FOUR)}; speakers=all takes whoever is there")
        if taken:
            return taken
    raise Unsuitable(f"{source} has no recordings of FSDD; expected fsdd/recordings/*.wav or recordings/*.wav")


def _named(path: Path) -> _Recording:
    name = NAMED.fullmatch(path.stem)
    if name is None:
        raise Unsuitable(f"{path} is not named as a recording of FSDD; expected <digit>_<speaker>_<take>.wav")
    return _Recording(int(name[1]), int(name[3]), name[2], path)


def _dealt(targets: Mapping[str, Array], recordings: list[_Recording], pairing: Pairing) -> dict[str, Array]:
    """Assign recordings to images: for train and test, a row of `recordings` per image, `[N]`."""
    parts = {part: _in_turn(part, targets[part], recordings) for part in IDX}
    if pairing == "exact":
        return parts
    queue = np.concatenate([parts["train"], parts["test"]])  # the generator had one queue for both
    train, test = np.split(queue[finished(len(queue))], [len(parts["train"])])
    return {"train": train, "test": test}


def _in_turn(part: str, targets: Array, recordings: list[_Recording]) -> Array:
    """Assign to each image of train or test a row of `recordings`, `[N]`, taking the recordings of its digit in turn."""
    rows = np.empty(len(targets), dtype=np.int64)
    for digit in np.unique(targets):
        seen = targets == digit
        heard = [
            row
            for row, recording in enumerate(recordings)
            if recording.digit == digit and (recording.take in TEST_TAKES) == (part == "test")
        ]
        if not heard:
            takes = "40 to 49" if part == "test" else "other than 40 to 49"
            raise Unsuitable(f"{recordings[0].path.parent} has no recording of the digit {digit} for {part}, takes {takes}")
        rows[seen] = np.resize(heard, seen.sum())
    return rows


# written digits


@dataclass(frozen=True)
class _Digits:
    images: Mapping[str, Array]  # [N, 784] uint8
    targets: Mapping[str, Array]  # [N] int64
    files: tuple[Path, ...]


def _digits(source: Path) -> _Digits:
    """Read MNIST from one NumPy archive or from the four IDX files."""
    for folder in (source / "mnist", source):
        if (folder / ARCHIVE).exists():
            return _checked(*_archive(folder / ARCHIVE))
        paths = {name: path for part in IDX.values() for name in part if (path := _idx(folder, name))}
        missing = [name for part in IDX.values() for name in part if name not in paths]
        if paths and missing:
            raise Unsuitable(f"{folder} misses {', '.join(missing)} of MNIST, plain or .gz")
        if paths:
            arrays = {part: (_read_idx(paths[x], 3), _read_idx(paths[y], 1)) for part, (x, y) in IDX.items()}
            return _checked(arrays, tuple(paths.values()))
    raise Unsuitable(f"{source} has no MNIST; expected {ARCHIVE} or {', '.join(sum(IDX.values(), ()))}, there or in mnist/")


def _check(seen: str, images: Array, said: str, targets: Array) -> None:
    check_shape(seen, images.shape, (None, 28, 28))
    check_shape(said, targets.shape, (None,))
    check_lengths({seen: len(images), said: len(targets)})
    if not len(images):
        raise Unsuitable(f"{seen} are none; expected 60,000 and 10,000 for test")
    if images.dtype != np.uint8:
        raise Unsuitable(f"{seen} are of the type {images.dtype}; expected uint8")
    if targets.dtype.kind not in "iu":
        raise Unsuitable(f"{said} are of the type {targets.dtype}; expected whole numbers")
    check_labels(said, targets, CLASSES)


def _checked(arrays: Mapping[str, tuple[Array, Array]], files: tuple[Path, ...]) -> _Digits:
    for part, (images, targets) in arrays.items():
        _check(f"{files[0].parent}: MNIST's images of {part}", images, f"{files[0].parent}: MNIST's labels of {part}", targets)
    return _Digits(
        {part: images.reshape(-1, 784) for part, (images, _) in arrays.items()},
        {part: targets.astype(np.int64) for part, (_, targets) in arrays.items()},
        files,
    )


def _archive(path: Path) -> tuple[dict[str, tuple[Array, Array]], tuple[Path, ...]]:
    regular(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {part: (file[f"x_{part}"], file[f"y_{part}"]) for part in IDX}, (path,)
    except KeyError as error:
        raise Unsuitable(f"{path} should hold x_train, y_train, x_test and y_test: {error.args[0]}") from error
    except Exception as error:  # a broken archive raises nearly anything
        raise Unsuitable(f"{path} cannot be read as an archive of NumPy: {error}") from error


def _idx(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.exists()), None)


def _read_idx(path: Path, dimensions: int) -> Array:
    """Read an IDX file, the format of MNIST: 0, 0, 8 (for bytes), the number of dimensions, each length in four bytes, then the data."""
    regular(path)
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise Unsuitable(f"{path} cannot be read: {error}") from error
    head = 4 + 4 * dimensions
    if len(content) < head or content[:4] != bytes([0, 0, 8, dimensions]):
        raise Unsuitable(
            f"{path} is not an IDX file of bytes with {dimensions} dimensions; it begins with {content[:4].hex(' ')}"
        )
    shape = [int(length) for length in np.frombuffer(content[4:head], ">u4")]
    if len(content) - head != np.prod(shape):
        raise Unsuitable(f"{path} has {len(content) - head} bytes of data; expected {shape}, {np.prod(shape)} bytes")
    return np.frombuffer(content[head:], np.uint8).reshape(shape)


def _write_images(store: Store, images: Mapping[str, Array], recipe: Recipe) -> None:
    """Write each image after subtracting the mean and projecting it on the components."""
    fitted = {"train": _components(images["train"], recipe.components)}
    fitted["test"] = _components(images["test"], recipe.components) if recipe.test_pca == "own" else fitted["train"]
    for part, (mean, kept) in fitted.items():
        place = store.place(part, "image")
        for start in range(0, len(place), 1000):
            weights = _on_grid((images[part][start : start + 1000] - mean) @ kept, 12)  # [1000, K]
            place[start : start + 1000] = weights @ kept.T


def _components(images: Array, count: int) -> tuple[Array, Array]:
    """The mean `[784]` and the `count` leading principal directions `[784, K]`. Sums are of integers, so they are exact in any order."""
    total, products = np.zeros(784), np.zeros((784, 784))
    for start in range(0, len(images), 1000):
        block = images[start : start + 1000].astype(np.float64)
        total += block.sum(axis=0)
        products += block.T @ block
    mean = total / len(images)
    _, directions = np.linalg.eigh(products / len(images) - np.outer(mean, mean))
    return _on_grid(mean, 8), _on_grid(directions[:, ::-1][:, :count], 20)  # largest first


def _on_grid(values: Array, bits: int) -> Array:
    """Round to multiples of `2 ** -bits`, because products and sums of such numbers are exact in any order."""
    rounded: Array = np.round(values * 2**bits) / 2**bits
    return rounded
