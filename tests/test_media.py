"""Reading sound and pictures gives the right numbers, or one line about a file that cannot be read."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from agmbench.contracts import Unsuitable
from agmbench.datasets import media
from agmbench.datasets.samples import noise
from agmbench.datasets.splitting import cut

SHARED = Path(__file__).parents[2] / "shared"
CLIPS, CASES = SHARED / "data" / "ave" / "AVE", SHARED / "cases"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def sine(hertz: float, rate: int, seconds: float = 1.0) -> media.Floats:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def video(path: Path, greys: list[int], rate: int = 10) -> Path:
    """Write a video in which each frame has a single grey."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flv" if path.suffix == ".flv" else "mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for grey in greys:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), grey, np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return path


def greys(frames: media.Bytes) -> list[float]:
    return [float(value) for value in frames.mean(axis=(1, 2, 3))]


def refused(read: Callable[[], object], *expected: str) -> None:
    with pytest.raises(Unsuitable) as error:
        read()
    text = str(error.value)
    assert "\n" not in text
    for part in expected:
        assert part in text


def test_a_wav_is_read_as_it_is(tmp_path: Path) -> None:
    sound = sine(440, 16000)
    soundfile.write(tmp_path / "a.wav", sound, 16000, subtype="PCM_16")
    read = media.read_sound(tmp_path / "a.wav", 16000)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, sound, atol=1 / 32768)


def test_channels_are_averaged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([sine(440, 8000), 0 * sine(440, 8000)], axis=1), 8000)
    np.testing.assert_allclose(media.read_sound(tmp_path / "a.wav", 8000), sine(440, 8000) / 2, atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_resampling_keeps_the_tone(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", sine(440, 16000), 16000)
    read = media.read_sound(tmp_path / "a.wav", rate)
    assert len(read) == rate
    assert np.abs(np.fft.rfft(read)).argmax() == 440
    np.testing.assert_allclose(read[1000:-1000], sine(440, rate)[1000:-1000], atol=5e-3)


def test_a_log_spectrogram_is_that_of_a_centred_stft() -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, 22050 * 3).astype(np.float32)
    found = media.log_spectrogram(sound)
    window = torch.hann_window(512)
    expected = torch.stft(
        torch.from_numpy(sound), 512, 353, window=window, center=True, pad_mode="constant", return_complex=True
    )
    assert found.shape == (257, 188)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, (expected.abs() + 1e-7).log().numpy(), atol=2e-3)


def test_silence_is_the_floor() -> None:
    assert np.allclose(media.log_spectrogram(np.zeros(1000, np.float32)), np.log(1e-7))


@pytest.mark.parametrize("suffix", [".flv", ".mp4"])
def test_frames_at_times(tmp_path: Path, suffix: str) -> None:
    path = video(tmp_path / f"a{suffix}", [0, 50, 100, 150, 200])  # one frame per tenth of a second
    assert greys(media.read_frames(path, [0.0, 0.1, 0.25, 0.4, 9.0])) == pytest.approx([0, 50, 100, 200, 200], abs=6)


@pytest.mark.parametrize("suffix", [".flv", ".mp4"])
@pytest.mark.parametrize(("count", "expected"), [(1, [100]), (3, [0, 100, 200]), (5, [0, 50, 100, 150, 200])])
def test_frames_evenly_spread(tmp_path: Path, suffix: str, count: int, expected: list[int]) -> None:
    frames = media.read_frames(video(tmp_path / f"a{suffix}", [0, 50, 100, 150, 200]), count)
    assert frames.shape == (count, 224, 224, 3)
    assert frames.dtype == np.uint8
    assert greys(frames) == pytest.approx(expected, abs=6)


def test_a_video_of_one_frame(tmp_path: Path) -> None:
    assert greys(media.read_frames(video(tmp_path / "a.flv", [80]), 3, side=None)) == pytest.approx([80, 80, 80], abs=6)


def test_a_picture_is_squared_and_normalised(tmp_path: Path) -> None:
    Image.new("L", (40, 30), 51).save(tmp_path / "a.png")
    picture = media.load_image(tmp_path / "a.png")
    assert picture.shape == (224, 224, 3)
    assert media.load_image(tmp_path / "a.png", side=None).shape == (30, 40, 3)
    numbers = media.frame_tensor(torch.from_numpy(picture)[None])
    assert numbers.shape == (1, 3, 224, 224)
    expected = (51 / 255 - torch.tensor(media.MEAN)) / torch.tensor(media.SPREAD)
    torch.testing.assert_close(numbers.mean(dim=(0, 2, 3)), expected)


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "whole.wav", sine(440, 8000), 8000)
    contents = (tmp_path / "whole.wav").read_bytes()
    broken = {"cut.wav": contents[:5000], "empty.wav": b"", "pointer.wav": POINTER, "text.mp4": b"text", "text.jpg": b"text"}
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 8000)
    soundfile.write(tmp_path / "nan.wav", np.full(10, np.nan, np.float32), 8000, subtype="FLOAT")
    for name, said in {
        "cut.wav": "it is cut short: 5000 bytes, its header says 16044",
        "empty.wav": "cannot be read as sound",
        "none.wav": "it holds no samples",
        "nan.wav": "not finite",
        "pointer.wav": "'git lfs pull'",
        "gone.wav": "is missing",
        "text.mp4": "cannot be read as sound",
    }.items():
        refused(lambda name=name: media.read_sound(tmp_path / name, 8000), str(tmp_path / name), said)  # type: ignore[misc]
    refused(lambda: media.read_sound(video(tmp_path / "mute.mp4", [1]), 8000), "mute.mp4", "it has no sound")
    refused(lambda: media.read_frames(tmp_path / "text.mp4", 1), "text.mp4 cannot be read as video")
    refused(lambda: media.read_frames(tmp_path / "whole.wav", 1), "whole.wav", "it has no pictures")
    refused(lambda: media.read_frames(tmp_path / "gone.flv", 1), "gone.flv is missing")
    refused(lambda: media.load_image(tmp_path / "text.jpg"), "text.jpg cannot be read as a picture")
    refused(lambda: media.load_image(tmp_path), "cannot be read: it is a folder; expected a file")


@pytest.mark.parametrize(
    ("suffix", "said"), [(".flv", "it is cut short: it ends after 1.9 s, its header says 3.0 s"), (".mp4", "")]
)
def test_a_video_cut_short(tmp_path: Path, suffix: str, said: str) -> None:
    path = tmp_path / f"a{suffix}"
    noise.write_video(path, np.random.default_rng(0), seconds=3)
    assert media.read_frames(path, 3).shape == (3, 224, 224, 3)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    refused(lambda: media.read_frames(path, 3), f"{path} cannot be read as video", said)


# files as devices record them: headers without the length, and pictures that are turned


@pytest.mark.parametrize("said", [0x7FFFF024, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_that_was_written_into_a_pipe_is_whole(tmp_path: Path, said: int) -> None:
    soundfile.write(tmp_path / "a.wav", sine(440, 16000), 16000, subtype="PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8], content[40:44] = said.to_bytes(4, "little"), (said - 36).to_bytes(4, "little")
    (tmp_path / "piped.wav").write_bytes(content)
    assert np.array_equal(media.read_sound(tmp_path / "piped.wav", 16000), media.read_sound(tmp_path / "a.wav", 16000))


# how a picture `[H, W, 3]` is stored under each of EXIF's eight orientations; the comments are the standard's "0th row, 0th column"
ORIENTATIONS: dict[int, Callable[[media.Bytes], media.Bytes]] = {
    1: lambda x: x,  # top, left
    2: lambda x: x[:, ::-1],  # top, right
    3: lambda x: x[::-1, ::-1],  # bottom, right
    4: lambda x: x[::-1],  # bottom, left
    5: lambda x: x.swapaxes(0, 1),  # left, top
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],  # right, top
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: lambda x: x.swapaxes(0, 1)[::-1],  # left, bottom
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_picture_is_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(media.load_image(tmp_path / "a.png", side=None), ORIENTATIONS[orientation](stored))


def turned(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Replace the display matrix in the track header (`tkhd`) of an mp4, which changes nothing before that."""
    numbers = [matrix[0], matrix[1], 0, matrix[2], matrix[3], 0, 0, 0]
    same = b"".join((65536 * number).to_bytes(4, "big") for number in (1, 0, 0, 0, 1, 0, 0, 0))
    head, found, tail = path.read_bytes().partition(b"tkhd")
    assert same in tail
    path.write_bytes(
        head + found + tail.replace(same, b"".join((65536 * n).to_bytes(4, "big", signed=True) for n in numbers), 1)
    )


@pytest.mark.parametrize(
    ("matrix", "orientation"),
    [
        ((1, 0, 0, 1), 1),
        ((-1, 0, 0, 1), 2),
        ((-1, 0, 0, -1), 3),
        ((1, 0, 0, -1), 4),
        ((0, 1, 1, 0), 5),
        ((0, 1, -1, 0), 6),
        ((0, -1, -1, 0), 7),
        ((0, -1, 1, 0), 8),
    ],
)
def test_a_frame_is_as_a_player_shows_it(tmp_path: Path, matrix: tuple[int, int, int, int], orientation: int) -> None:
    noise.write_video(tmp_path / "a.mp4", np.random.default_rng(0), seconds=0.1)
    stored = media.read_frames(tmp_path / "a.mp4", 2, side=None)
    turned(tmp_path / "a.mp4", matrix)
    shown = media.read_frames(tmp_path / "a.mp4", 2, side=None)
    assert np.array_equal(shown, np.stack([ORIENTATIONS[orientation](frame) for frame in stored]))
    assert media.read_frames(tmp_path / "a.mp4", 2).shape == (2, 224, 224, 3)


@pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases, which a user does not have")
def test_the_cases() -> None:
    upright = media.read_frames(CASES / "upright.mp4", 3, side=None)
    assert np.array_equal(media.read_frames(CASES / "rotated.mp4", 3, side=None), np.rot90(upright, 1, (1, 2)))
    assert media.read_sound(CASES / "sox_piped.wav", 16000).shape == (16000,)
    refused(
        lambda: media.read_sound(CASES / "empty.wav", 16000),
        f"{CASES / 'empty.wav'} cannot be read as sound: it holds no samples",
    )
    refused(lambda: media.read_sound(CASES / "noaudio.mp4", 16000), "noaudio.mp4 cannot be read as sound: it has no sound")


def test_a_picture_cut_short(tmp_path: Path) -> None:
    noise.write_picture(tmp_path / "a.jpg", np.random.default_rng(0))
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:2000])
    refused(lambda: media.load_image(tmp_path / "a.jpg"), "a.jpg cannot be read as a picture", "truncated")


def test_things_decoded_in_any_order() -> None:
    decoded = media.Decoded([1, 2, 3, 4], lambda thing: np.array([thing, thing * 10]))
    assert decoded[np.array([3, 0, 0])].tolist() == [[4, 40], [1, 10], [1, 10]]


def test_missing_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    media.check_present([tmp_path / "a"])
    refused(lambda: media.check_present([tmp_path / name for name in "abc"]), f"{tmp_path}/b is missing", "2 of the 3 files")


def test_a_cut_is_disjoint_and_always_the_same() -> None:
    parts = cut(np.arange(100, 1100), (0.1, 0.2))
    assert [len(part) for part in parts] == [700, 100, 200]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(100, 1100))
    assert all(np.array_equal(a, b) for a, b in zip(parts, cut(np.arange(100, 1100), (0.1, 0.2)), strict=True))
    refused(lambda: cut(np.arange(2)), "2 are too few")


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips of AVE are not here (../shared/data/ave)")
def test_real_clips_of_youtube() -> None:
    for path in sorted(CLIPS.glob("*.mp4")):
        sound = media.read_sound(path, 16000)
        assert 9 * 16000 < len(sound) < 11 * 16000
        assert 0.01 < np.abs(sound).max() <= 1.5
        frames = media.read_frames(path, [0.5, 5.5, 9.5])
        assert frames.shape == (3, 224, 224, 3)
        assert frames.std() > 10
