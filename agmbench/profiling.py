"""Where the time of a training step goes, as a trace by torch's profiler."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from agmbench.contracts import Batch

TRACE, PARTS = "trace.json.gz", "parts.txt"
SKIPPED, WARMUP, TRACED = 1, 1, 16  # numbers of batches; the first batch is skipped because its FLOPs are counted
LARGEST = 5


class Profile:
    """Watches a few batches of the first epoch and writes them into `folder`: `trace.json.gz`, for chrome://tracing or
    ui.perfetto.dev, and `parts.txt`, the five operations that took the most time (without the operations that they call).
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder = folder
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise the profiler reports at every start whether there is a GPU
        self._on_gpu = device.type == "cuda"
        self._done = False

    def watched(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the same batches, and trace what happens between them: what is done with a batch until the next is asked for is a step."""
        if self._done:
            yield from batches
            return
        self._done = True
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_gpu else [])]
        traced = schedule(skip_first=SKIPPED, wait=0, warmup=WARMUP, active=TRACED, repeat=1)
        with profile(activities=activities, schedule=traced, on_trace_ready=self._write) as profiler:
            for batch in batches:
                yield batch
                profiler.step()

    def _write(self, profiler: profile) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self.folder / TRACE))
        found = [event for event in profiler.key_averages() if not event.key.startswith("ProfilerStep")]
        times = {event.key: (event.self_device_time_total if self._on_gpu else event.self_cpu_time_total) for event in found}
        total = sum(times.values()) or 1
        largest = sorted(found, key=lambda event: -times[event.key])[:LARGEST]
        where = "the GPU's" if self._on_gpu else "the CPU's"
        lines = [f"{times[event.key] / total:4.0%} {event.key}, {event.count} calls" for event in largest]
        text = [f"largest parts of {where} time in up to {TRACED} batches of training:", *lines]
        (self.folder / PARTS).write_text("\n".join(text) + "\n")
