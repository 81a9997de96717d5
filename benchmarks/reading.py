"""Measures the samples read per second, for each layout of each data set on disk at the real shapes of a sample, against a plain loop.

    python benchmarks/reading.py [--seconds 2] [--memory | --workers | --waiting]

A random pack of the layout is read in random batches of the paper's size through the data set's split, and by a plain loop that
indexes the array (of NumPy, of HDF5, or decoded from media) one sample at a time and stacks the samples. The two take turns; the ratio is
that of samples per second. `--memory` reads a pack of AVE features with a visual file of 4 GB, and one with an eighth of it, each in its
own process, and compares the private memory of both. `--workers` shows the samples read per second by 0, 1 and 2 processes that read
ahead, for layouts that are not held in memory, and how long a batch then occupies the training thread before it is copied to a device.
`--waiting` trains the default job of CREMA-D in batches of 8 on random packs of two layouts, and shows how long it waited for data.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import h5py
import numpy as np
import torch

from agmbench import build, registry
from agmbench.contracts import Batch, Change, Split, Staged, in_memory
from agmbench.datasets.cremad import CREMAD
from agmbench.datasets.files import FileDataset
from agmbench.datasets.stored import StoredSplit
from agmbench.loading import Feed
from agmbench.trackers.mlflow import MlflowTracker

ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each layout")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--workers", action="store_true")
    parser.add_argument("--waiting", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(private_memory(chosen.measure))
    elif chosen.memory:
        memory()
    elif chosen.workers:
        ahead(chosen.seconds)
    elif chosen.waiting:
        waiting()
    else:
        speed(chosen.seconds)


def speed(seconds: float) -> None:
    print("| data set | layout | samples/s | ratio to a plain loop | target | met |\n|---|---|---:|---:|---|---|", flush=True)
    for name, split, size in samples():
        fast, ratio = compared(split, min(size, len(split)), seconds)
        print(f"| {name} | {fast:,.0f} | {ratio:.2f} | >= 0.8 | {'yes' if ratio >= 0.8 else 'NO'} |", flush=True)


def samples() -> Iterator[tuple[str, Split, int]]:
    """Yield for each layout its name in the table, the split train of a random pack, and the recipe's batch size. A pack is deleted before
    the next is made."""
    known = registry.load()
    for entry in known.entries("dataset"):
        target = entry.load()
        for layout in target.layouts if issubclass(target, FileDataset) else ():
            with tempfile.TemporaryDirectory() as folder:
                os.environ["AGMBENCH_DATA"] = folder
                layout.write_sample(Path(folder))
                split = build.opened(known, entry.name, {}).split("train")
                yield f"{entry.name} | {layout.name}", split, entry.job.get("training", {}).get("batch_size", 64)


@dataclass(frozen=True)
class OnlyRead(Staged):
    """A split whose batches are read and then dropped, as after they are copied to a GPU."""

    whole: Staged

    def __len__(self) -> int:
        return len(self.whole)

    def read(self, index: torch.Tensor, change: Change | None = None) -> Batch:
        return self.whole.read(index, change)

    def finished(self, batch: Batch) -> Batch:
        return Batch({}, batch.targets.clone(), batch.index.clone())


def ahead(seconds: float) -> None:
    print("| data set | layout | workers | samples/s | ratio to 0 | ratio to 1 | ms a batch of the thread that trains |")
    print("|---|---|---:|---:|---:|---:|---:|", flush=True)
    for name, split, size in samples():
        if in_memory(split):
            continue
        rates: list[float] = []
        for workers in (0, 1, 2):
            rate_, busy = fed(split, workers, size, seconds)
            rates.append(rate_)
            ratios = f"{rate_ / rates[0]:.2f} | {rate_ / rates[1]:.2f}" if workers else "1 |"
            print(f"| {name} | {workers} | {rate_:,.0f} | {ratios} | {busy:.2f} |", flush=True)


def fed(split: Split, workers: int, size: int, seconds: float) -> tuple[float, float]:
    """Samples per second, and milliseconds of this thread's own work per batch."""
    assert isinstance(split, Staged)
    draw = torch.Generator().manual_seed(0)
    batches = [torch.randint(len(split), (size,), generator=draw) for _ in range(16)]
    with Feed({"train": OnlyRead(split)}, torch.device("cpu"), workers) as feed:
        for _ in feed.batches("train", batches[:2]):  # starts the processes
            pass
        begun, worked, count = time.perf_counter(), time.thread_time(), 0
        while count < 16 or time.perf_counter() - begun < seconds:
            count += sum(1 for _ in feed.batches("train", batches))
        return count * size / (time.perf_counter() - begun), 1e3 * (time.thread_time() - worked) / count


def waiting() -> None:
    print(
        "| layout | workers | waited for data, % | samples/s | samples/s without the waiting |\n|---|---:|---:|---:|---:|",
        flush=True,
    )
    for layout in (one for one in CREMAD.layouts if one.name in ("prepared", "ogm-ge")):
        for workers in ("0", "2"):
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder)
                (root / "cremad").mkdir()
                layout.write_sample(root / "cremad")
                command = [
                    sys.executable,
                    "-m",
                    "agmbench",
                    "run",
                    "-d",
                    "cremad",
                    "-m",
                    "joint",
                    "--no-strength",
                    "--epochs",
                    "4",
                ]
                command += ["--set", "training.batch_size=8", "--workers", workers, "--data-root", folder]
                subprocess.run(command, cwd=root, check=True, capture_output=True)
                with chdir(root):
                    record = MlflowTracker().records("cremad")[0]
            names = ("cost/waiting_share", "cost/samples_per_second", "cost/samples_per_second_beside_waiting")
            share, whole, beside = (record.metrics[name] for name in names)
            print(f"| {layout.name} | {workers} | {100 * share:.0f} | {whole:.1f} | {beside:.1f} |", flush=True)


def compared(split: Split, size: int, seconds: float) -> tuple[float, float]:
    order = torch.Generator().manual_seed(0)

    def ours() -> None:
        split.batch(torch.randperm(len(split), generator=order)[:size])

    def floor() -> None:
        plain(split, torch.randperm(len(split), generator=order)[:size])

    ours()
    floor()
    pairs = [(rate(ours, size, seconds / ROUNDS / 2), rate(floor, size, seconds / ROUNDS / 2)) for _ in range(ROUNDS)]
    return median(one for one, _ in pairs), median(one / other for one, other in pairs)


def plain(split: Split, index: torch.Tensor) -> None:
    """Read a batch one sample at a time."""
    parts = [split] if isinstance(split, StoredSplit) else split.splits  # type: ignore[attr-defined]
    for part in parts:
        rows = part.rows[index[index < len(part)].numpy()]
        for stored in part.inputs.values():
            samples = [torch.from_numpy(np.array(stored.array[np.array([row])])) for row in rows]
            if samples:
                stored.convert(torch.cat(samples))


def rate(read: Callable[[], None], size: int, seconds: float) -> float:
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        read()
        count += size
    return count / (time.perf_counter() - begun)


def memory() -> None:
    """Print the private memory for reading AVE features from a small visual file and from a large one."""
    print("| visual file | private memory grown by reading it, MiB |\n|---|---:|")
    for clips in (518, 4143):
        with tempfile.TemporaryDirectory() as folder:
            ave_features(Path(folder), clips)
            gigabytes = (Path(folder) / "visual_feature.h5").stat().st_size / 1e9
            command = [sys.executable, __file__, "--measure", folder]
            grown = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
            print(f"| {gigabytes:.1f} GB, {clips} clips | {grown} |", flush=True)


def ave_features(folder: Path, clips: int) -> None:
    """Write a pack of zeros at the real shapes. The visual file is sparse: it has its full size, but is not written."""
    shapes = {"audio_feature": (10, 128), "visual_feature": (10, 7, 7, 512), "labels": (10, 29)}
    for name, shape in shapes.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            data = file.create_dataset("avadataset", (clips, *shape), "f4")
            if name == "labels":
                data[:, :, 28] = 1
            data[-1] = data[-1]  # so that the file has its full size
    parts = np.split(np.arange(clips), [int(clips * 0.8), int(clips * 0.9)])
    for name, rows in zip(("train", "val", "test"), parts, strict=True):
        with h5py.File(folder / f"{name}_order.h5", "w") as file:
            file["order"] = rows


def private_memory(folder: Path) -> int:
    os.environ["AGMBENCH_DATA"] = str(folder)
    split = build.opened(registry.load(), "ave", {}).split("train")
    split.batch(torch.arange(64))
    before = anonymous()
    largest = 0
    for index in torch.randperm(len(split)).split(64):
        split.batch(index)
        largest = max(largest, anonymous())
    return round((largest - before) / 2**20)


def anonymous() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
