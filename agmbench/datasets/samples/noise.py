"""Writes files of sound, pictures and videos that are only noise."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image


def write_sound(path: Path, draw: np.random.Generator, seconds: float, rate: int = 16000) -> None:
    """Write a wav of noise, 16 bit and mono."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, draw.uniform(-0.5, 0.5, round(seconds * rate)), rate, subtype="PCM_16")


def write_picture(path: Path, draw: np.random.Generator) -> None:
    """Write a jpg of blurred noise, 480 wide and 360 high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _blurred(draw).save(path)


def write_video(path: Path, draw: np.random.Generator, seconds: float, rate: int = 30) -> None:
    """Write a video of blurred noise without sound, 480 wide and 360 high. Its suffix determines the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flv" if path.suffix == ".flv" else "mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 480, 360, "yuv420p"
        for _ in range(round(seconds * rate)):
            container.mux(stream.encode(av.VideoFrame.from_image(_blurred(draw))))
        container.mux(stream.encode())


def write_clip(path: Path, draw: np.random.Generator) -> None:
    """Write an mp4 of two seconds with noise as sound and five random pictures per second."""
    with av.open(str(path), "w") as file:
        pictures, sound = file.add_stream("mpeg4", rate=5), file.add_stream("aac", rate=44100)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound.layout = "mono"
        for number in range(10):
            file.mux(pictures.encode(_picture(draw, number)))
        file.mux(sound.encode(_two_seconds(draw)))
        file.mux(pictures.encode(None))
        file.mux(sound.encode(None))


def _picture(draw: np.random.Generator, number: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(draw.integers(0, 256, (48, 64, 3), dtype=np.uint8), format="rgb24")
    frame.pts, frame.time_base = number, Fraction(1, 5)
    return frame


def _two_seconds(draw: np.random.Generator) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(draw.normal(0, 0.1, (1, 88200)).astype(np.float32), format="fltp", layout="mono")
    frame.rate, frame.pts, frame.time_base = 44100, 0, Fraction(1, 44100)
    return frame


def _blurred(draw: np.random.Generator) -> Image.Image:
    return Image.fromarray(draw.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((480, 360), Image.Resampling.BILINEAR)
