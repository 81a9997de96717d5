"""The kinds of modality that a column of a table can have: how each reads a cell, and the shape of its samples."""

import os
import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge, Gt, Len
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from agmbench.contracts import Unsuitable
from agmbench.datasets.arrays import Array
from agmbench.datasets.media import (
    frame_tensor,
    image_of,
    load_image,
    load_images,
    log_spectrogram,
    read_frames,
    read_sound,
    sound_of,
    spread,
)
from agmbench.datasets.tables.arrays import WITHIN, array_cell, numbers_of, read_array
from agmbench.datasets.tables.rows import as_text
from agmbench.datasets.tables.words import byte_numbers, word_numbers
from agmbench.datasets.untrusted import regular

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".aac", ".opus")
VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".flv", ".webm", ".mpg", ".mpeg", ".wmv")
TEXTS = (".txt",)
DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")

Side = Annotated[int, Gt(0)]
Size = Annotated[list[Side], Len(2, 2)]  # height and width


def located(root: Path, text: str) -> Path:
    """The path of the file that a cell names: absolute, or relative to the table's folder. `\\` may stand for `/`."""
    if DRIVE.match(text):
        raise Unsuitable(f"'{text}' is a Windows path with a drive; expected a path from {root}, or the files below it")
    path = root / text
    return root / text.replace("\\", "/") if "\\" in text and not path.exists() else path


def lacking(root: Path, texts: pa.Array) -> Array:
    """Which of the texts name no file or folder, `[n]`. Each folder is listed once, because asking for a million single files is slow."""
    whole = pc.utf8_rtrim(pc.replace_substring(texts, "\\", "/"), characters="/")
    folders = pc.unique(pc.replace_substring_regex(whole, "[^/]*$", "")).to_pylist()
    there = [f"{folder}{name}" for folder in folders for name in _listed(os.path.join(root, folder))]
    found: Array = pc.invert(pc.is_in(whole, value_set=pa.array(there, whole.type))).to_numpy(zero_copy_only=False)
    return found


def _listed(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _between(pieces: Sequence[str], texts: pa.Array) -> pa.Array:
    """Join the pieces with each text between them, as `text.join(pieces)` would."""
    whole = pa.array([pieces[0]] * len(texts), texts.type) if pieces[0] else texts
    for number, piece in enumerate(pieces[1:]):
        behind = pa.scalar(piece, texts.type), pa.scalar("", texts.type)
        whole = pc.binary_join_element_wise(*((whole, texts) if number or pieces[0] else (texts,)), *behind)
    return whole


class Kind(BaseModel):
    """One modality: its `column`, and how a cell becomes a sample.

    `read` turns a cell into an array for storing, with the shape and type of `blank`, which stands for an empty cell. `convert` turns
    stored arrays into numbers where they are used. The first axis of an array of a `sequence` may be shorter.

    path: how to make the path of a file from a cell, which `{}` stands for: `audio/{}.wav`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    sequence: ClassVar[bool] = False
    names_files: ClassVar[bool] = True
    kind: str
    column: str
    path: str = "{}"

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of a converted sample."""

    @property
    def blank(self) -> Array:
        """The array that is stored for an empty cell."""
        return np.zeros(self.shape, np.float32)

    @property
    def convert(self) -> Callable[[Tensor], Tensor]:
        """The function that turns a batch of stored arrays into numbers."""
        return Tensor.float

    def file_of(self, cell: Any) -> str:
        """The file or folder that a cell names."""
        return self.path.replace("{}", as_text(cell).strip())

    def files_of(self, cells: Array | pa.Array) -> pa.Array:
        """The files that many cells name; cells that are all text are treated at once. A cell that names no file is returned as it is."""
        if type(self).file_of is Kind.file_of and isinstance(cells, pa.Array):
            return _between(self.path.split("{}"), pc.utf8_trim_whitespace(cells))
        cells = cells.to_pylist() if isinstance(cells, pa.Array) else cells
        return pa.array([self._file_or_cell(cell) for cell in cells], pa.string())

    def _file_or_cell(self, cell: Any) -> str:
        try:
            return self.file_of(cell)
        except Unsuitable:
            return str(cell)

    def at(self, root: Path, cell: Any) -> Path:
        """The path of the file or folder that a cell names."""
        return located(root, self.file_of(cell))

    @abstractmethod
    def read(self, root: Path, cell: Any) -> Array:
        """Read a cell into an array for storing."""

    def original(self, root: Path, cell: Any) -> Array:
        """Like `read`, but pictures keep the size that they have on disk."""
        return self.read(root, cell)


class _Seen(Kind):
    size: Size = Field(default_factory=lambda: [224, 224])

    @property
    def convert(self) -> Callable[[Tensor], Tensor]:
        return frame_tensor


class Picture(_Seen):
    """A picture in a file, resized to `size`: three colours normalised by ImageNet's mean and deviation, or one grey channel in -1 to 1."""

    kind: Literal["picture"]
    channels: Literal[1, 3] = 3

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, *self.size)

    @property
    def blank(self) -> Array:
        return np.zeros((*self.size, self.channels), np.uint8)

    @property
    def convert(self) -> Callable[[Tensor], Tensor]:
        return frame_tensor if self.channels == 3 else grey_tensor

    def read(self, root: Path, cell: Any) -> Array:
        height, width = self.size
        return self._picture(root, cell, (width, height))[..., : self.channels]

    def original(self, root: Path, cell: Any) -> Array:
        return self._picture(root, cell, None)[..., : self.channels]

    def _picture(self, root: Path, cell: Any, size: tuple[int, int] | None) -> Array:
        return image_of(cell, size) if isinstance(cell, bytes) else load_image(self.at(root, cell), size)


def grey_tensor(pictures: Tensor) -> Tensor:
    """Turn bytes `[..., H, W, 1]` into numbers `[..., 1, H, W]` in -1 to 1."""
    return pictures.movedim(-1, -3).float().div_(127.5).sub_(1)


class _Moving(_Seen):
    frames: Annotated[int, Gt(0)] = 3

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.frames, 3, *self.size)

    @property
    def blank(self) -> Array:
        return np.zeros((self.frames, *self.size, 3), np.uint8)


class Frames(_Moving):
    """A folder of pictures in the order of their names; `frames` of them are taken, evenly spread."""

    kind: Literal["frames"]

    def read(self, root: Path, cell: Any) -> Array:
        height, width = self.size
        return load_images(self._chosen(root, cell), (width, height))

    def original(self, root: Path, cell: Any) -> Array:
        return load_images(self._chosen(root, cell), None)

    def _chosen(self, root: Path, cell: Any) -> list[Path]:
        folder = self.at(root, cell)
        there = sorted(path for path in folder.glob("*") if path.suffix.lower() in PICTURES)
        if not there:
            raise Unsuitable(f"{folder} has no pictures; expected {', '.join(PICTURES[:3])}")
        return spread(there, self.frames)


class Video(_Moving):
    """A video, from which `frames` frames are taken, evenly spread. Its sound is a separate modality (kind `sound`, same column)."""

    kind: Literal["video"]

    def read(self, root: Path, cell: Any) -> Array:
        height, width = self.size
        return read_frames(self.at(root, cell), self.frames, (width, height))

    def original(self, root: Path, cell: Any) -> Array:
        return read_frames(self.at(root, cell), self.frames, None)


class Sound(Kind):
    """The sound in a file, averaged over channels and resampled to `rate`. Its first `seconds` are taken; zeros follow a shorter one.

    made: `spectrogram`, that is `log(|STFT| + 1e-7)` with `window` and `hop` in samples, `[1, window // 2 + 1, times]`; or `wave`,
        `[samples]`.
    """

    kind: Literal["sound"]
    rate: Annotated[int, Gt(0)] = 16_000
    seconds: Annotated[float, Gt(0)] = 3.0
    made: Literal["spectrogram", "wave"] = "spectrogram"
    window: Annotated[int, Ge(2)] = 512
    hop: Annotated[int, Gt(0)] = 256

    @property
    def samples(self) -> int:
        """The number of samples of one sound."""
        return max(1, round(self.seconds * self.rate))

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.samples,) if self.made == "wave" else (1, self.window // 2 + 1, 1 + self.samples // self.hop)

    def read(self, root: Path, cell: Any) -> Array:
        whole = sound_of(cell, self.rate) if isinstance(cell, bytes) else read_sound(self.at(root, cell), self.rate)
        sound = whole[: self.samples]
        sound = np.pad(sound, (0, self.samples - len(sound)))
        return sound if self.made == "wave" else log_spectrogram(sound, self.window, self.hop)[None]


class Text(Kind):
    """Words as numbers `[T, 1]` with a mask. The number of a word is 2 + its hash, so that no vocabulary is needed (`words.py`).

    numbers: `words` (default), or `bytes` of the raw text, for encoders that have a tokenizer of their own (`hf-text`, `clip`).
    length: the largest number of words or bytes; the rest is cut off.
    in_files: whether the cells name text files (UTF-8) instead of containing the text.
    """

    sequence = True
    names_files = False
    kind: Literal["text"]
    length: Annotated[int, Gt(0)] = 64
    vocabulary: Annotated[int, Gt(2)] = 24_000
    numbers: Literal["words", "bytes"] = "words"
    in_files: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length, 1)

    def read(self, root: Path, cell: Any) -> Array:
        text = _text(self.at(root, cell)) if self.in_files else str(cell)
        if self.numbers == "bytes":
            return byte_numbers(text, self.length)
        return word_numbers(text, self.vocabulary, self.length)


def _text(path: Path) -> str:
    try:
        return regular(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Unsuitable(f"{path} cannot be read as UTF-8 text: {error}") from error


class ArrayKind(Kind):
    """An array in a file: `x.npy`, `x.npz:key`, `x.pt`, `x.pt:key` (only tensors), `x.h5:key`; `:17` at the end means its row 17. Or the
    numbers themselves, as a list in the cell.

    size: the shape of a sample. For sequences (`varies: true`) it is `[T, D]`, with at most T tokens.
    standardise: whether each feature (or channel) is standardised by its mean and deviation on train.
    """

    kind: Literal["array"]
    size: Annotated[list[Side], Len(1, 4)]
    varies: bool = False
    standardise: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.size)

    def file_of(self, cell: Any) -> str:
        return array_cell(super().file_of(cell))[0]

    def read(self, root: Path, cell: Any) -> Array:
        if isinstance(cell, WITHIN):
            array = numbers_of(cell)
        else:
            name, keys = array_cell(super().file_of(cell))
            array = read_array(located(root, name), keys)
        fits = array.ndim == 2 and array.shape[1:] == self.shape[1:] if self.varies else array.shape == self.shape
        if not fits:
            expected = f"[T, {self.size[-1]}]" if self.varies else list(self.shape)
            raise Unsuitable(f"{f'{cell!r}':.100} has the shape {list(array.shape)}; expected {expected}")
        return np.asarray(array[: self.size[0]] if self.varies else array, np.float32)


class Numbers(BaseModel):
    """K columns of numbers as one modality `[K]`: a list of names, or a pattern such as `eeg_*`. They are standardised like arrays."""

    model_config = Kind.model_config
    kind: Literal["numbers"]
    columns: str | Annotated[list[str], Len(1)]
    standardise: bool = True


KINDS: dict[str, Any] = {
    "picture": Picture,
    "frames": Frames,
    "video": Video,
    "sound": Sound,
    "text": Text,
    "array": ArrayKind,
    "numbers": Numbers,
}


def modality(name: str, given: Any) -> Any:
    """Make a modality of its settings. Raises `Unsuitable` with one line if something is wrong with them."""
    if not isinstance(given, dict) or given.get("kind") not in KINDS:
        found = given.get("kind") if isinstance(given, dict) else given
        raise Unsuitable(f"modality '{name}' should have a kind, one of {', '.join(KINDS)}; found {found!r}")
    try:
        return TypeAdapter(KINDS[given["kind"]]).validate_python(given)
    except ValidationError as error:
        raise Unsuitable(_wrong(name, given["kind"], error)) from error


def _wrong(name: str, kind: str, error: ValidationError) -> str:
    """One line about what is wrong with the settings of a modality; an unknown setting is reported first."""
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"modality '{name}' of kind {kind} has no setting '{where}'; it has {', '.join(KINDS[kind].model_fields)}"
    if first["type"] == "missing":
        return f"modality '{name}' of kind {kind} needs '{where}'"
    return f"modality '{name}': '{where}' is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
