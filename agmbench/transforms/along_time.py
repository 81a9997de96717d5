"""What the transforms of sound share: which axis is time."""

from typing import Literal

from agmbench.contracts import Unsuitable

Time = Literal["auto", "first", "last"]


def time_axis(shape: tuple[int, ...], time: Time) -> int:
    """-1 or -2: of sequences `[T, F]` time is the first of the last two axes, of pictures of sound `[C, F, T]` the last."""
    if len(shape) not in (2, 3):
        raise Unsuitable(f"takes spectrograms [C, F, T] or sequences [T, F]; found {list(shape)}")
    if time == "auto":
        time = "first" if len(shape) == 2 else "last"
    return -2 if time == "first" else -1
