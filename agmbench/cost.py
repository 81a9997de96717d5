"""What training costs: encoder passes and FLOPs of a step, samples per second, peak memory."""

import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from agmbench.contracts import Tokens
from agmbench.model import MultimodalModel

Shape = tuple[int, ...]
PROCESS = Path("/proc/self")


def _lstm(x: Shape, input_weight: Shape, hidden_weight: Shape, *_: Any, **__: Any) -> int:
    """FLOPs of `[T, B, I]` through weights `[4H, I]` and `[4H, H]`: two per weight, time step and sample."""
    return 2 * x[0] * x[1] * (input_weight[0] * input_weight[1] + hidden_weight[0] * hidden_weight[1])


def _lstm_backward(*shapes: Any, **_: Any) -> int:
    """FLOPs of the gradients of the input and of the weights: twice those of the forward pass."""
    return 2 * _lstm(*shapes)


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(grad: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))


def _whole_attention(query: Shape, key: Shape, *_: Any, **__: Any) -> int:
    """FLOPs of projecting `[B, T, D]` to queries, keys, values and the output by `D * D` weights, and of the attention between them."""
    (batch, asked, width), seen = query, key[1]
    return 4 * batch * width * (width * (asked + seen) + asked * seen)


def _encoder_layer(x: Shape, *args: Any, **__: Any) -> int:
    """FLOPs of self-attention and of the feed-forward network after it, whose first weights are `[F, D]`."""
    feed: Shape = args[13]
    return _whole_attention(x, x) + 4 * x[0] * x[1] * feed[0] * feed[1]


aten = torch.ops.aten
FORMULAS: dict[Any, Callable[..., int]] = {  # operations that torch's own counter counts as 0 on a CPU
    aten.mkldnn_rnn_layer: _lstm,
    aten.mkldnn_rnn_layer_backward: _lstm_backward,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten._native_multi_head_attention: _whole_attention,  # torch's modules call it in eval mode without gradients
    aten._transformer_encoder_layer_fwd: _encoder_layer,
}


class Meter:
    """Counts the passes and FLOPs of a run's first batch, and times all batches.

    `encoder_passes` is the number of samples that went through any encoder, divided by the batch size: joint training of M modalities has
    M. `flops` counts the batch's forward and backward passes; a multiplication and an addition are two. Peak memory is the largest since
    the meter was made: of CUDA's allocator, or of the resident set of this process. Without Linux's `/proc` the latter cannot be reset,
    and is the largest since the process began.
    """

    def __init__(self, model: MultimodalModel, device: torch.device) -> None:
        self.flops: int | None = None
        self.encoder_passes = 0.0
        self._model = model
        self._device = device
        self._begun = 0.0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with suppress(OSError):
                (PROCESS / "clear_refs").write_text("5")  # proc(5): resets VmHWM

    @contextmanager
    def count_first_batch(self, size: int) -> Iterator[None]:
        """Count the passes and FLOPs of the steps inside, if it is the first batch. `size` is the number of its samples."""
        if self.flops is not None:
            yield
            return
        rows: list[int] = []

        encoders = set(self._model.encoders.values())

        def see(module: nn.Module, inputs: tuple[torch.Tensor | Tokens, ...]) -> None:
            if module in encoders:
                rows.append(len(inputs[0]))

        hook = register_module_forward_pre_hook(see)  # global: a module with a hook of its own is run in another way
        try:
            with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
                yield
        finally:
            hook.remove()
        self.encoder_passes = sum(rows) / size
        self.flops = int(counter.get_total_flops())

    def state_dict(self) -> dict[str, float | None]:
        """What was counted, for a checkpoint."""
        return {"flops": self.flops, "encoder_passes": self.encoder_passes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what was counted, and count no more."""
        self.flops, self.encoder_passes = state["flops"], state["encoder_passes"]

    def start(self) -> None:
        """Start the clock at the beginning of an epoch."""
        self._begun = time.perf_counter()

    def stop(self, samples: int, waited: float = 0.0) -> dict[str, float]:
        """The cost of an epoch, by metric name; called at the end of its training, when the device has finished.

        `waited`: for how many seconds of the epoch training waited for data.
        """
        seconds = time.perf_counter() - self._begun
        return {
            "cost/samples_per_second": samples / seconds,
            "cost/samples_per_second_beside_waiting": samples / max(seconds - waited, 1e-9),
            "cost/waiting_share": min(1.0, waited / seconds),
            "cost/peak_memory_mib": self._peak_memory() / 2**20,
            "cost/encoder_passes": self.encoder_passes,
            "cost/flops": float(self.flops or 0),
            "cost/seconds": seconds,
            "cost/parameters": float(sum(weight.numel() for weight in self._model.parameters())),
        }

    def _peak_memory(self) -> int:
        """The peak memory in bytes."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        with suppress(OSError, StopIteration):
            lines = (PROCESS / "status").read_text().splitlines()
            return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
