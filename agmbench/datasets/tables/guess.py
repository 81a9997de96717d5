"""What a table holds, by its columns' names and its first rows: nothing that is stated is guessed."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from PIL import Image

from agmbench.contracts import Unsuitable
from agmbench.datasets.arrays import Array
from agmbench.datasets.tables.arrays import ARRAY, WITHIN, array_cell, numbers_of, read_array
from agmbench.datasets.tables.kinds import PICTURES, SOUNDS, TEXTS, VIDEOS, located
from agmbench.datasets.tables.rows import Rows, as_number
from agmbench.datasets.tables.shares import unknown
from agmbench.datasets.tables.words import words
from agmbench.datasets.untrusted import regular

FIRST = 200  # rows of a column that are looked at
OPENED = 32  # files of a column that are opened, evenly spread
LABELS = ("label", "labels", "class", "target", "y", "category", "emotion", "sentiment", "genre", "genres")
SPLITS = ("split", "fold", "set", "subset", "partition", "mode")
GROUPS = (
    "group",
    "subject",
    "subject_id",
    "speaker",
    "speaker_id",
    "video_id",
    "actor",
    "patient",
    "patient_id",
    "participant",
)
WEIGHTS = ("weight", "weights", "sample_weight", "sample_weights")
IDS = ("id", "sample_id", "clip_id", "uid", "index", "key")
LONGEST_SOUND, LONGEST_TEXT, LARGEST_PICTURE = 10.0, 256, 224
SUFFIX = re.compile(r"[_ -](?:path|file|filename|file_name)$", re.IGNORECASE)


def roles(rows: Rows, given: Mapping[str, Any], anew: bool) -> dict[str, Any]:
    """Which columns are the label, the split, the group and the id, where they are not stated. In a table that is described `anew`, also
    the weight, and a split of which some names are unknown."""
    names = {str(name).lower(): str(name) for name in rows.frame.columns}

    def first(known: tuple[str, ...]) -> str | None:
        return next((names[name] for name in known if name in names), None)

    label = given.get("label") or first(LABELS) or [n for low, n in names.items() if low.startswith("label_")]
    if not label:
        columns = ", ".join(map(str, rows.frame.columns[:20]))
        raise Unsuitable(
            f"{rows.path}: no column is called {', '.join(LABELS[:4])}, ...; name the column of the label (one of {columns})"
        )
    split = given.get("split") or first(SPLITS)
    if split is not None and given.get("split") is None:
        cells = _cells(rows, split)
        few = len(cells) // 2 if anew else 0  # unknown names, whose rows are told
        split = None if len(unknown(cells)) > few else split
    weight = given.get("weight") or (first(WEIGHTS) if anew else None)
    if weight is not None and given.get("weight") is None and not _may_weigh(rows.column(weight)):
        weight = None
    group, name = given.get("group") or first(GROUPS), given.get("id") or first(IDS)
    return {"label": label, "split": split, "group": group, "id": name, "weight": weight}


def _may_weigh(cells: Array) -> bool:
    """Whether all cells are numbers of 0 or more, or empty."""
    return cells.dtype.kind in "iuf" and not bool((cells < 0).any())


def modalities(rows: Rows, root: Path, taken: set[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The modalities of all columns that are not `taken`, and the columns that are none."""
    found: dict[str, dict[str, Any]] = {}
    left, numeric = [], []
    for column in map(str, rows.frame.columns):
        if column in taken or rows.empty(column).all():
            continue
        if rows.frame[column].dtype.kind in "iufb":
            numeric.append(column)
        elif settings := _of_column(rows, root, column):
            for name, one in settings.items():
                found[_free(name, found)] = one
        elif _mostly_numbers(_cells(rows, column, FIRST)):
            numeric.append(column)
        else:
            left.append(column)
    for pattern, columns in _prefixes(numeric).items():
        if len(columns) > 1:
            found[_free(_name(pattern.rstrip("*").removesuffix("[0-9]").rstrip("_.- ")), found)] = {
                "kind": "numbers",
                "columns": _columns(pattern, columns, rows),
            }
        else:
            left += columns
    return found, left


def _columns(pattern: str, columns: list[str], rows: Rows) -> str | list[str]:
    """The pattern, where it means these columns alone."""
    return pattern if [str(c) for c in rows.frame.columns if fnmatchcase(str(c), pattern)] == columns else columns


def _prefixes(columns: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for column in columns:
        before, mark, _ = column.partition("_")
        numbered = re.fullmatch(r"(\D+?)\d+", column)
        pattern = f"{before}_*" if mark and before else f"{numbered[1]}[0-9]*" if numbered else column
        found.setdefault(pattern, []).append(column)
    return found


def _mostly_numbers(cells: list[Any]) -> bool:
    """Whether more than half of them are numbers as text; the rows of the others are told."""
    return 2 * sum(isinstance(cell, str) and not np.isnan(as_number(cell)) for cell in cells) > len(cells)


def _name(column: str) -> str:
    """A column as the name of a modality."""
    return re.sub(r"\W+", "_", SUFFIX.sub("", column)).strip("_") or "input"


def _free(name: str, found: Mapping[str, Any]) -> str:
    return name if name not in found else next(f"{name}_{n}" for n in range(2, 1000) if f"{name}_{n}" not in found)


def _cells(rows: Rows, column: str, count: int | None = None) -> list[Any]:
    """The first cells that say something."""
    cells = rows.column(column)[: None if count is None else 20 * count]
    there = cells[~rows.empty(column)[: len(cells)]]
    return list(there if count is None else there[:count])


def _of_column(rows: Rows, root: Path, column: str) -> dict[str, dict[str, Any]]:
    """The modalities of a column: none, one, or of a video with sound two."""
    cells = _cells(rows, column, FIRST)
    if all(isinstance(cell, bytes) for cell in cells):
        return _of_content(column, cells[:: max(1, len(cells) // OPENED)][:OPENED])
    if all(isinstance(cell, WITHIN) for cell in cells):
        try:
            shapes = [numbers_of(cell).shape for cell in cells]
        except Unsuitable:  # lists of something else
            return {}
        return {_name(column): {"kind": "array", "column": column, **_size(shapes)}}
    if not all(isinstance(cell, str) for cell in cells):
        return {}
    name, ends = _name(column), Counter(os.path.splitext(cell.strip())[1].lower() for cell in cells)
    mostly = max(ends, key=lambda end: ends[end])

    def of(kinds: tuple[str, ...]) -> bool:
        return mostly in kinds and all(end in kinds for end in ends)

    some = cells[:: max(1, len(cells) // OPENED)][:OPENED]
    at = _at(root, some)
    some = [at.get("path", "{}").replace("{}", cell.strip()) for cell in some]
    given = {"column": column, **at}
    if of(PICTURES):
        settings = _pictures(root / cell.replace("\\", "/") for cell in some)["settings"]
        return {name: {"kind": "picture", **given, **settings}}
    if of(SOUNDS):
        return {name: {"kind": "sound", **given, **_sounds(root, some)}}
    if of(VIDEOS):
        seen = {name: {"kind": "video", **given}}
        heard = _sounds(root, some[:4])
        return seen | ({f"{name}_sound": {"kind": "sound", **given, **heard}} if heard else {})
    if of(TEXTS):
        return {name: {"kind": "text", **given, "in_files": True}}
    if all(ARRAY.fullmatch(cell.strip()) for cell in cells):
        return {name: {"kind": "array", **given, **_arrays(root, column, some)}}
    if all((root / cell).is_dir() for cell in some):
        return {name: {"kind": "frames", **given}}
    return {name: {"kind": "text", "column": column, "length": _longest(rows, column)}} if _is_text(cells) else {}


def _at(root: Path, cells: list[str]) -> dict[str, str]:
    """The folder below the table's in which the files are, where they are not beside it."""
    names = [cell.strip().replace("\\", "/") for cell in cells[:8]]
    names = [found[1] if (found := ARRAY.fullmatch(name)) else name for name in names]
    if any((root / name).exists() for name in names):
        return {}
    folders = sorted(path.name for path in root.glob("*/"))[:100]
    found_in = next((folder for folder in folders if any((root / folder / name).exists() for name in names)), None)
    return {"path": f"{found_in}/{{}}"} if found_in else {}


def _of_content(column: str, cells: list[bytes]) -> dict[str, dict[str, Any]]:
    """Of cells that are files themselves: pictures, or else sounds."""
    if (pictures := _pictures(map(BytesIO, cells)))["seen"]:
        return {_name(column): {"kind": "picture", "column": column, **pictures["settings"]}}
    try:
        lengths = [soundfile.info(BytesIO(cell)).duration for cell in cells]
    except Exception:  # it is something else
        return {}
    return {_name(column): {"kind": "sound", "column": column, **_lasting(lengths)}}


def _is_text(cells: list[str]) -> bool:
    """Whether cells are sentences: several words with letters each, and mostly unlike."""
    counts = [sum(any(letter.isalpha() for letter in word) for word in words(cell)) for cell in cells]
    return float(np.median(counts)) >= 2 and 2 * len(set(cells)) > len(cells)


def _longest(rows: Rows, column: str) -> int:
    cells = _cells(rows, column)
    longest = sorted(cells, key=len)[-OPENED:]
    return int(min(LONGEST_TEXT, max(1, *(len(words(cell)) for cell in longest))))


def _pictures(files: Iterable[Path | BytesIO]) -> dict[str, Any]:
    """Their size if all are alike and not large, 224x224 otherwise; one channel if all are grey; whether any could be opened."""
    sizes, modes = set(), set()
    for file in files:
        try:
            with Image.open(regular(file) if isinstance(file, Path) else file) as image:
                sizes.add(image.size)
                modes.add(image.mode)
        except Exception:  # decoders raise what they like, and what cannot be opened is told when it is read
            continue
    settings: dict[str, Any] = {"size": [LARGEST_PICTURE] * 2, "channels": 3}
    if len(sizes) == 1 and max(next(iter(sizes))) <= LARGEST_PICTURE:
        width, height = sizes.pop()
        settings["size"] = [height, width]
    if modes and modes <= {"L", "1"}:
        settings["channels"] = 1
    return {"settings": settings, "seen": bool(modes)}


def _sounds(root: Path, cells: list[str]) -> dict[str, Any]:
    """As long as the longest of those that are opened, 10 s at most; nothing where none of them has sound."""
    lengths = [length for cell in cells if (length := _seconds(root / cell.replace("\\", "/")))]
    return _lasting(lengths)


def _lasting(lengths: list[float]) -> dict[str, Any]:
    return {"rate": 16_000, "seconds": min(LONGEST_SOUND, ceil(100 * max(lengths)) / 100)} if lengths else {}


def _seconds(path: Path) -> float:
    try:
        if path.suffix.lower() in (".wav", ".flac"):
            return float(soundfile.info(regular(path)).duration)
        with av.open(str(regular(path))) as file:
            return float((file.duration or 0) / av.time_base) if file.streams.audio else 0.0
    except Exception:  # what cannot be opened is told when it is read
        return 0.0


def _arrays(root: Path, column: str, cells: list[str]) -> dict[str, Any]:
    shapes: list[tuple[int, ...]] = []
    reasons: list[str] = []
    for cell in cells:
        try:
            name, keys = array_cell(cell)
            shapes.append(read_array(located(root, name), keys).shape)
        except (OSError, Unsuitable) as error:
            reasons.append(f"{error}")
    if not shapes:
        raise Unsuitable(f"column '{column}': none of its first arrays can be read, so their shape is not known: {reasons[0]}")
    return _size(shapes)


def _size(shapes: list[tuple[int, ...]]) -> dict[str, Any]:
    if len(set(shapes)) == 1:
        return {"size": list(shapes[0])}
    if all(len(shape) == 2 for shape in shapes) and len({shape[1] for shape in shapes}) == 1:
        return {"size": [max(shape[0] for shape in shapes), shapes[0][1]], "varies": True}
    common = Counter(shapes).most_common(1)[0][0]
    return {"size": list(common)}
