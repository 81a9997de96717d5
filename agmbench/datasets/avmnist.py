"""AV-MNIST: weakened images of MNIST's written digits, with spectrograms of FSDD's spoken digits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from agmbench.contracts import SplitName, Unsuitable
from agmbench.datasets import prepared
from agmbench.datasets.arrays import Array, check_labels, check_lengths, check_shape
from agmbench.datasets.avmnist_raw import (
    CLASSES,
    PACK,
    SIZE,
    Components,
    Pairing,
    Recipe,
    Speakers,
    TestPCA,
    build,
)
from agmbench.datasets.files import FileDataset, Held, Layout, Progress, Source
from agmbench.datasets.splitting import ON_TEST, cut, tenths
from agmbench.datasets.stored import Stored, StoredSplit
from agmbench.datasets.untrusted import load_npy
from agmbench.tasks import SingleLabel

ProtocolName = Literal["agmbench", "multibench", "paper"]

HELD_OUT = 1 / 12  # the share of train that becomes dev, and the share that becomes valid: 5,000 of 60,000 each
SHARE = "a recording serves many images: splits cut from the same part of the data, train or test, share recordings"
DISPLACED = "recordings lie where the pack's generator finished them, as accuracies say most beside an image of another digit"
FEWEST = 12  # train and test need so many samples, so that no split is empty


@dataclass(frozen=True)
class _Chained:
    """Two arrays read as one: the rows of `second` are numbered after those of `first`."""

    first: Array
    second: Array

    def __getitem__(self, rows: Array) -> Array:
        late = rows >= len(self.first)
        taken = np.empty((len(rows), *self.first.shape[1:]), np.result_type(self.first, self.second))
        taken[~late] = self.first[rows[~late]]
        taken[late] = self.second[rows[late] - len(self.first)]
        return taken


@dataclass(frozen=True)
class _Shared:
    """An array whose row i is row `which[i]` of `array`, so that a row that is needed often is stored once."""

    array: Array
    which: Array

    def __getitem__(self, rows: Array) -> Array:
        taken: Array = self.array[self.which[rows]]
        return taken


def _image(values: Tensor) -> Tensor:
    return values.float().div_(255).reshape(-1, 1, 28, 28)


def _audio(values: Tensor) -> Tensor:
    return values.float().div_(255).unsqueeze(1)


def _rows(train: int, test: int, protocol: ProtocolName) -> dict[SplitName, Array]:
    """The rows of each split; those of test are numbered after those of train."""
    everything = np.arange(train)
    if protocol == "paper":
        fitted, rest = tenths(everything)
        judged, unjudged = tenths(np.arange(train, train + test))
        return {"train": fitted, "dev": np.concatenate([rest, unjudged]), "valid": judged, "test": judged}
    if protocol == "agmbench":
        fitted, dev, valid = cut(everything, (HELD_OUT, HELD_OUT))
    else:
        fitted, dev, valid = np.split(everything, [train - 2 * round(train * HELD_OUT), train - round(train * HELD_OUT)])
    return {"train": fitted, "dev": dev, "valid": valid, "test": np.arange(train, train + test)}


def _held(
    images: Any,
    audio: Any,
    targets: Mapping[str, Array],
    protocol: ProtocolName,
    files: Sequence[Path],
    recordings: Array | None = None,
    notes: Sequence[str] = (),
) -> Held:
    counts = {part: len(labels) for part, labels in targets.items()}
    for part, count in counts.items():
        if count < FEWEST:
            raise Unsuitable(f"{files[0].parent} has {count} samples of {part}; expected {FEWEST} or more")
    inputs = {"audio": Stored(audio, _audio), "image": Stored(images, _image)}
    labels = torch.from_numpy(np.concatenate([targets["train"], targets["test"]]).astype(np.int64))
    rows = _rows(counts["train"], counts["test"], protocol)
    if protocol == "paper":
        notes = [*notes, ON_TEST]
    groups: dict[str, dict[SplitName, list[str]]] = {}
    if recordings is not None:
        groups["recording"] = {name: recordings[chosen].tolist() for name, chosen in rows.items()}
    return Held(
        splits={name: StoredSplit(inputs, labels[chosen], chosen) for name, chosen in rows.items()},
        shapes={"audio": (1, SIZE, SIZE), "image": (1, 28, 28)},
        files=files,
        groups=groups,
        notes=notes,
    )


class Pack(Layout):
    """The pack of MultiBench, which AGM uses too: six arrays of NumPy.

    `image/{train,test}_data.npy` `[N, 784]` float, `audio/{train,test}_data.npy` `[N, 112, 112]` uint8,
    `{train,test}_labels.npy` `[N]` uint8; N is 60,000 and 10,000. Values are of the order of 255.
    """

    name = "pack"
    signs = ("image/train_data.npy", "audio/train_data.npy", "train_labels.npy")
    sampler = "agmbench.datasets.samples.avmnist:pack"

    def read(self, root: Path, **options: Any) -> Held:
        for name, value in PACK._asdict().items():
            if options[name] != value:
                raise Unsuitable(
                    f"{name}={options[name]} is only for a prepared folder; {root} holds the pack, which is read as it is; leave {name} out"
                )
        paths = {part: _files_of_pack(root, part) for part in ("train", "test")}
        arrays = {part: _part_of_pack(some) for part, some in paths.items()}
        return _held(
            _Chained(arrays["train"]["image"], arrays["test"]["image"]),
            _Chained(arrays["train"]["audio"], arrays["test"]["audio"]),
            {part: some["labels"] for part, some in arrays.items()},
            options["protocol"],
            [path for part in paths.values() for path in part.values()],
            notes=[f"{SHARE}; the pack does not say which", DISPLACED],
        )


def _files_of_pack(root: Path, part: str) -> dict[str, Path]:
    data = {modality: root / modality / f"{part}_data.npy" for modality in ("image", "audio")}
    return {**data, "labels": root / f"{part}_labels.npy"}


def _part_of_pack(paths: Mapping[str, Path]) -> dict[str, Array]:
    shapes = {"image": (None, 784), "audio": (None, SIZE, SIZE), "labels": (None,)}
    arrays = {name: load_npy(path, shapes[name]) for name, path in paths.items()}
    for name, array in arrays.items():
        wanted = "whole numbers" if name == "labels" else "numbers"
        if array.dtype.kind not in ("iu" if name == "labels" else "iuf"):
            raise Unsuitable(f"{paths[name]} has values of the type {array.dtype}; expected {wanted}")
    check_lengths({str(path): len(arrays[name]) for name, path in paths.items()})
    check_labels(str(paths["labels"]), arrays["labels"], CLASSES)
    for name in ("image", "audio"):
        largest = np.abs(arrays[name][:100].astype(np.float64)).max(initial=0)
        if len(arrays[name]) and not 1 < largest < np.inf:
            raise Unsuitable(
                f"{paths[name]} has values up to {largest:.3g}; expected values of the order of 255, not divided yet"
            )
    return arrays


class PreparedFolder(Layout):
    """The folder that `AVMNIST.prepare` wrote. It has each spectrogram once, and for each image the number of its spectrogram."""

    name = "prepared"
    signs = ("prepared-*/manifest.json",)
    sampler = "agmbench.datasets.samples.avmnist:prepared"

    def read(self, root: Path, **options: Any) -> Held:
        recipe = Recipe(**{name: options[name] for name in Recipe._fields})
        store = prepared.read(root, "avmnist", recipe._asdict())
        audio = store.array("recordings", "audio")
        check_shape(f"{store.folder}/recordings/audio.npy", audio.shape, (None, SIZE, SIZE))
        names = np.array(store.manifest["facts"].get("recordings", []))
        check_lengths({f"{store.folder}/recordings/audio.npy": len(audio), "its names in the manifest": len(names)})
        parts = {part: _part_of_folder(store, part, len(audio)) for part in ("train", "test")}
        number = np.concatenate([some["recording"] for some in parts.values()])
        shown, heard = _Chained(parts["train"]["image"], parts["test"]["image"]), _Shared(audio, number)
        targets = {part: some["targets"] for part, some in parts.items()}
        notes = [SHARE] if recipe.pairing == "exact" else [SHARE, DISPLACED]
        held = _held(shown, heard, targets, options["protocol"], store.files, names[number], notes)
        return replace(held, checksums=store.checksums)


def _part_of_folder(store: prepared.PreparedFolder, part: str, recordings: int) -> dict[str, Array]:
    """The arrays `image`, `targets` and `recording` of train or test, checked. `recording` has for each image the number of its recording,
    below `recordings`."""
    found = {"image": store.array(part, "image")}
    found |= {name: np.array(store.array(part, name)) for name in ("targets", "recording")}
    path = store.folder / part
    check_shape(f"{path}/image.npy", found["image"].shape, (None, 784))
    check_lengths({f"{path}/{name}.npy": len(array) for name, array in found.items()})
    check_labels(f"{path}/targets.npy", found["targets"], CLASSES)
    check_labels(f"{path}/recording.npy", found["recording"], recordings)
    return found


class AVMNIST(FileDataset):
    """A sample is a written and a spoken digit: `image` `[1, 28, 28]` and `audio` `[1, 112, 112]`, a log spectrogram (frequencies by
    time), both divided by 255. There are ten classes, 60,000 samples for training and 10,000 for test.

    Images are projected on the leading principal components, and the mean is not added back. Each of FSDD's recordings belongs to many
    images, so splits that are cut from train share recordings. The job's seed changes nothing. Except for `protocol`, the defaults are
    those of the public pack as far as it is known, and a pack on disk is read as it is. Other values need prepared folders, and choose
    among them.

    protocol: `agmbench` (default) cuts 5,000 of train for dev and 5,000 for valid, by a fixed permutation. `multibench` does so by
        position: valid is train[55000:] as in MultiBench's loader, dev is train[50000:55000], which MultiBench trains on. `paper`
        (AGM): train is the first 90 % of train, test the first 90 % of test, dev the last 10 % of both; valid IS the test set, so
        whatever is chosen on valid is chosen on test.
    components: how many principal components of the images are kept. Default 4, with which the digit of an image is recognised as often
        as in the pack; its published generator keeps those below a quarter of the energy, which gives 3.
    pairing: `pack` (default) pairs recordings as the pack's generator did. Its processes appended recordings as they finished, so only
        about 41 % of the images have a recording of their digit. `exact`: each image has a recording of its digit.
    speakers: `four` (default) takes the speakers that FSDD had when the pack was made: jackson, nicolas, theo, yweweler. `all` takes all
        speakers in the folder.
    test_pca: `own` (default) fits the components of the test images on the test images, as the pack's generator did; `train` uses
        those of train for all images.
    """

    name = "avmnist"
    source = Source(
        page="https://github.com/pliang279/MultiBench",
        licence="MNIST CC BY-SA 3.0, FSDD CC BY-SA 4.0",
        size="raw 30 MB, prepared 250 MB; the pack 1.3 GB",
        then=(
            "put MNIST (four IDX files, plain or .gz) into DIR/mnist/, and the recordings of "
            "https://github.com/Jakobovski/free-spoken-digit-dataset into DIR/fsdd/recordings/. Then run "
            "'agmbench data prepare avmnist --from DIR'. A pack is read as it is"
        ),
    )
    layouts = (PreparedFolder(), Pack())
    class_names = tuple(str(digit) for digit in range(CLASSES))
    task = SingleLabel()

    def __init__(
        self,
        seed: int,
        *,
        protocol: ProtocolName = "agmbench",
        components: Components = PACK.components,
        pairing: Pairing = PACK.pairing,
        speakers: Speakers = PACK.speakers,
        test_pca: TestPCA = PACK.test_pca,
    ) -> None:
        self.hold(protocol=protocol, components=components, pairing=pairing, speakers=speakers, test_pca=test_pca)

    @classmethod
    def prepare(
        cls,
        source: Path,
        target: Path,
        progress: Progress,
        jobs: int,
        *,
        components: Components = PACK.components,
        pairing: Pairing = PACK.pairing,
        speakers: Speakers = PACK.speakers,
        test_pca: TestPCA = PACK.test_pca,
    ) -> None:
        """Turn raw MNIST and FSDD below `source` into a prepared folder below `target`."""
        build(source, target, progress, jobs, Recipe(components, pairing, speakers, test_pca))
