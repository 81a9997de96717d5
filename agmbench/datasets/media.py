"""Reads sound and pictures from files: wav by soundfile, mp4 and flv by PyAV, jpg by Pillow.

Pictures and frames are turned as a viewer shows them, by their EXIF orientation and display matrix. A file that cannot be read raises
`Unsuitable` with one line that names it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from math import gcd
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from agmbench.contracts import Unsuitable
from agmbench.datasets.arrays import Array
from agmbench.datasets.threads import several
from agmbench.datasets.untrusted import regular

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

SIDE = 224  # pixels per side of the square to which frames are resized
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's mean and deviation of red, green and blue
UNKNOWN = 0x7FFF0000  # a wav whose header says this length or more was written to a pipe (by sox 7ffff024, by ffmpeg ffffffff)


def read_sound(path: Path, rate: int) -> Floats:
    """Read the sound of a file as `[samples]` in [-1, 1], averaged over channels and resampled to `rate` by scipy's polyphase filter."""
    with _reading(path, "sound"):
        channels, own = _wav(path) if path.suffix.lower() in (".wav", ".flac") else _sound_stream(path)
        return _resampled(channels, own, rate)


def sound_of(content: bytes, rate: int) -> Floats:
    """Like `read_sound`, but from the content of a wav, flac, ogg or mp3 file."""
    try:
        channels, own = soundfile.read(BytesIO(content), dtype="float32", always_2d=True)
        return _resampled(channels, own, rate)
    except Exception as error:  # decoders raise what they like
        raise Unsuitable(f"{len(content):,} bytes cannot be read as sound: {' '.join(str(error).split())}") from error


def _resampled(channels: Floats, own: int, rate: int) -> Floats:
    sound = channels.mean(axis=1)
    if not len(sound):
        raise ValueError("it holds no samples")
    if not np.isfinite(sound).all():
        raise ValueError("it holds samples that are not finite")
    if own != rate:
        from scipy.signal import resample_poly  # importing it takes a second, and describing a table does not need it

        sound = resample_poly(sound, rate // gcd(rate, own), own // gcd(rate, own))
    return np.asarray(sound, dtype=np.float32)


def _wav(path: Path) -> tuple[Floats, int]:
    with path.open("rb") as file:
        head, size = file.read(8), path.stat().st_size
    said = int.from_bytes(head[4:8], "little") + 8
    if head[:4] == b"RIFF" and size + 1 < said < UNKNOWN:
        raise ValueError(f"it is cut short: {size} bytes, its header says {said}")
    channels, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return channels, rate


def _sound_stream(path: Path) -> tuple[Floats, int]:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise ValueError("it has no sound")
        stream = container.streams.audio[0]
        as_floats = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
        frames = [part for frame in container.decode(stream) for part in as_floats.resample(frame)]
        frames += as_floats.resample(None)
        channels = np.concatenate([frame.to_ndarray() for frame in frames], axis=1) if frames else np.zeros((1, 0), np.float32)
        return channels.T, stream.rate


def log_spectrogram(sound: Floats, size: int = 512, hop: int = 353, floor: float = 1e-7) -> Floats:
    """`log(|STFT| + floor)` of a sound, `[size // 2 + 1, 1 + samples // hop]`: Hann window, centred frames, zeros beyond the ends.

    The numbers are those of `librosa.stft(sound, n_fft=size, hop_length=hop)`.
    """
    from scipy.signal import get_window

    padded = np.pad(sound, size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    spectrum = np.fft.rfft(frames * get_window("hann", size), axis=1)
    return np.log(np.abs(spectrum) + floor).T.astype(np.float32)


def read_frames(path: Path, times: Sequence[float] | int, side: "Size" = SIDE) -> Bytes:
    """Read frames of a video, `[n, H, W, 3]`. `times` are the times of the frames in rising order (seconds from the first frame), or the
    number of frames, which are then evenly spread.

    Frames are resized to `side`; `None` leaves them as they are. A time after the end gives the last frame.
    """
    with _reading(path, "video"), av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError("it has no pictures")
        stream = container.streams.video[0]
        if isinstance(times, int):
            length = _length(container, stream)
            times = [length * (2 * number + 1) / (2 * times) for number in range(times)]
            container.seek(0)
        shown = list(_shown(container.decode(stream), times))
        return np.stack([_sized(_upright(frame), side) for frame in shown])


def _length(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """The length of a video in seconds, by its frames. Raises `ValueError` if they end more than a second before the length that its header
    states."""
    packets = [(p.stream.index, float(p.pts * p.time_base)) for p in container.demux() if p.pts is not None and p.time_base]
    times = [time for index, time in packets if index == stream.index]
    if not times:
        raise ValueError("it holds no frames")
    said, end = (container.duration or 0) / av.time_base, max(time for _, time in packets)
    if end + 1 < said:
        raise ValueError(f"it is cut short: it ends after {end:.1f} s, its header says {said:.1f} s")
    return (max(times) - min(times)) * (1 + 1 / max(1, len(times) - 1))  # the last frame is shown as long as the others


def _shown(frames: Iterator[av.VideoFrame], times: Sequence[float]) -> Iterator[av.VideoFrame]:
    """Yield for each time the last frame that has begun by then."""
    last = next(frames, None)
    if last is None:
        raise ValueError("it holds no frames")
    begin, waiting = last.time or 0.0, list(times)
    for frame in frames:
        while waiting and (frame.time or 0.0) - begin > waiting[0] + 1e-6:
            yield last
            waiting.pop(0)
        if not waiting:
            return
        last = frame
    yield from [last] * len(waiting)


# the numbers (a, b, c, d) of a display matrix move a point to x' = a x + c y, y' = b x + d y; each is a transposition of Pillow
TURNS = {
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}


def _upright(frame: av.VideoFrame) -> Image.Image:
    """A frame as a player shows it: turned by right angles and mirrored according to its display matrix."""
    image: Image.Image = frame.to_image()
    said: Any = frame.side_data.get("DISPLAYMATRIX")
    if said is None:
        return image
    matrix = np.frombuffer(bytes(said), np.int32)[[0, 1, 3, 4]].astype(np.float64)
    turn = TURNS.get(tuple(np.where(2 * np.abs(matrix) > np.abs(matrix).max(), np.sign(matrix), 0).tolist()))
    return image if turn is None else image.transpose(turn)


Size = int | tuple[int, int] | None  # the side of a square, or width and height; `None` keeps the size of a picture


def load_image(path: Path, side: Size = SIDE) -> Bytes:
    """Read a picture as `[H, W, 3]` in red, green, blue, upright and resized to `side`; `None` keeps its size."""
    with _reading(path, "a picture"), Image.open(path) as image:
        return _sized(ImageOps.exif_transpose(image), side)


def image_of(content: bytes, side: Size = SIDE) -> Bytes:
    """Like `load_image`, but from the content of a file."""
    try:
        with Image.open(BytesIO(content)) as image:
            return _sized(ImageOps.exif_transpose(image), side)
    except Exception as error:  # decoders raise what they like
        raise Unsuitable(f"{len(content):,} bytes cannot be read as a picture: {' '.join(str(error).split())}") from error


def load_images(paths: Sequence[Path], side: Size = SIDE) -> Bytes:
    """Read several pictures as `[n, H, W, 3]`. All are resized to the size of the first, which is resized to `side`."""
    first = load_image(paths[0], side)
    height, width, _ = first.shape
    return np.stack([first, *(load_image(path, (width, height)) for path in paths[1:])])


def _sized(image: Image.Image, size: Size) -> Bytes:
    wanted = (size, size) if isinstance(size, int) else size
    resized = image if wanted is None else image.resize(wanted, Image.Resampling.BILINEAR)
    return np.array(resized.convert("RGB"), dtype=np.uint8)


def frame_tensor(frames: Tensor) -> Tensor:
    """Turn frames of bytes `[..., H, W, 3]` into floats `[..., 3, H, W]`, with each colour normalised by ImageNet's mean and deviation."""
    mean, spread = (torch.tensor(numbers, device=frames.device).view(3, 1, 1) for numbers in (MEAN, SPREAD))
    return frames.movedim(-1, -3).float().div_(255).sub_(mean).div_(spread)


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    regular(path)
    try:
        yield
    except Exception as error:  # decoders raise what they like
        said = " ".join(str(error).split()) or type(error).__name__
        if _is_pointer(path):
            said = "it is a pointer of Git LFS; fetch the file itself with 'git lfs pull'"
        raise Unsuitable(f"{path} cannot be read as {what}: {said}") from error


def _is_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(24) == b"version https://git-lfs."
    except OSError:
        return False


@dataclass(frozen=True)
class Decoded:
    """Files (or other `things`) that are indexed like one array: `decoded[rows]` reads each of them by `decode`, several at the same time.

    `as_it_is` decodes pictures in their original size, for transforms that take a part of the original.
    """

    things: Sequence[Any]
    decode: Callable[[Any], Array]
    as_it_is: Callable[[Any], Array] | None = None

    def __getitem__(self, rows: Array) -> Array:
        return np.stack(several(self.decode, [self.things[row] for row in rows]))

    @property
    def originals(self) -> "Decoded":
        """The same things in the size that they have on disk. Sizes may differ, so only one row can be read at a time."""
        return Decoded(self.things, self.as_it_is or self.decode)


def pictures_of(things: Sequence[Any], read: Callable[..., Array], **fixed: Any) -> Decoded:
    """Pictures that `read(thing, side=..., **fixed)` decodes, indexed like one array."""
    return Decoded(things, partial(read, **fixed), partial(read, side=None, **fixed))


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """Choose `count` of the paths, evenly spread. If there are fewer, some are taken more than once."""
    return [paths[(2 * number + 1) * len(paths) // (2 * count)] for number in range(count)]


def check_present(paths: Sequence[Path]) -> None:
    """Raise `Unsuitable` if any of the paths is missing. The message names the first and says how many are missing."""
    gone = [path for path in paths if not path.exists()]
    if gone:
        raise Unsuitable(f"{gone[0]} is missing ({len(gone)} of the {len(paths)} files that the lists name are not there)")
