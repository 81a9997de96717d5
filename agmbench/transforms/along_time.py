"""Shared by the transforms of sound: finds the axis of time."""

from typing import Literal

from agmbench.contracts import Unsuitable

Time = Literal["auto", "first", "last"]


def time_axis(shape: tuple[int, ...], time: Time) -> int:
    """The axis of time, -2 or -1. With `auto`, it is the first of the last two axes of a sequence `[T, F]`, and the last of a spectrogram
    `[C, F, T]`. Raises `Unsuitable` for other shapes."""
    if len(shape) not in (2, 3):
        raise Unsuitable(f"takes spectrograms [C, F, T] or sequences [T, F]; found {list(shape)}")
    if time == "auto":
        time = "first" if len(shape) == 2 else "last"
    return -2 if time == "first" else -1
