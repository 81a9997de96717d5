"""Infers what the columns of a table are from their names and the first rows. What a user states is never inferred."""

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

FIRST = 200  # number of cells of a column that are checked
OPENED = 32  # number of files of a column that are opened, evenly spread
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
    """The columns of the label, the split, the group, the id and the weight: those in `given`, else inferred.

    Weights are only inferred if a table is described for the first time (`anew`); a column of splits may then have unknown names in up to
    half of its rows."""
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
        few = len(cells) // 2 if anew else 0  # so many rows may have unknown names; they are reported as wrong
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
    """The modalities of all columns that are not `taken`, and the columns that are no modality."""
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
    """The pattern if it matches exactly these columns, else the columns."""
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
    """Whether more than half of the cells are numbers as text. The other cells are reported as wrong later."""
    return 2 * sum(isinstance(cell, str) and not np.isnan(as_number(cell)) for cell in cells) > len(cells)


def _name(column: str) -> str:
    """Make the name of a modality from the name of a column."""
    return re.sub(r"\W+", "_", SUFFIX.sub("", column)).strip("_") or "input"


def _free(name: str, found: Mapping[str, Any]) -> str:
    return name if name not in found else next(f"{name}_{n}" for n in range(2, 1000) if f"{name}_{n}" not in found)


def _cells(rows: Rows, column: str, count: int | None = None) -> list[Any]:
    """The cells of a column that are not empty; with `count`, at most so many of the first."""
    cells = rows.column(column)[: None if count is None else 20 * count]
    there = cells[~rows.empty(column)[: len(cells)]]
    return list(there if count is None else there[:count])


def _of_column(rows: Rows, root: Path, column: str) -> dict[str, dict[str, Any]]:
    """The modalities of a column: none, one, or two if it has videos with sound."""
    cells = _cells(rows, column, FIRST)
    if all(isinstance(cell, bytes) for cell in cells):
        return _of_content(column, cells[:: max(1, len(cells) // OPENED)][:OPENED])
    if all(isinstance(cell, WITHIN) for cell in cells):
        try:
            shapes = [numbers_of(cell).shape for cell in cells]
        except Unsuitable:  # lists that are not numbers
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
    """The setting `path` for files that are in a folder below the table's; empty if they are beside the table or not found."""
    names = [cell.strip().replace("\\", "/") for cell in cells[:8]]
    names = [found[1] if (found := ARRAY.fullmatch(name)) else name for name in names]
    if any((root / name).exists() for name in names):
        return {}
    folders = sorted(path.name for path in root.glob("*/"))[:100]
    found_in = next((folder for folder in folders if any((root / folder / name).exists() for name in names)), None)
    return {"path": f"{found_in}/{{}}"} if found_in else {}


def _of_content(column: str, cells: list[bytes]) -> dict[str, dict[str, Any]]:
    """The modality of a column whose cells contain whole files: pictures, or else sounds; empty if they are neither."""
    if (pictures := _pictures(map(BytesIO, cells)))["seen"]:
        return {_name(column): {"kind": "picture", "column": column, **pictures["settings"]}}
    try:
        lengths = [soundfile.info(BytesIO(cell)).duration for cell in cells]
    except Exception:  # it is something else
        return {}
    return {_name(column): {"kind": "sound", "column": column, **_lasting(lengths)}}


def _is_text(cells: list[str]) -> bool:
    """Whether cells are sentences: most have several words with letters, and most differ from one another."""
    counts = [sum(any(letter.isalpha() for letter in word) for word in words(cell)) for cell in cells]
    return float(np.median(counts)) >= 2 and 2 * len(set(cells)) > len(cells)


def _longest(rows: Rows, column: str) -> int:
    cells = _cells(rows, column)
    longest = sorted(cells, key=len)[-OPENED:]
    return int(min(LONGEST_TEXT, max(1, *(len(words(cell)) for cell in longest))))


def _pictures(files: Iterable[Path | BytesIO]) -> dict[str, Any]:
    """The `settings` of pictures, and whether any could be opened (`seen`). Their size is kept if all are equal and not large, and is
    224x224 otherwise; they have one channel if all are grey."""
    sizes, modes = set(), set()
    for file in files:
        try:
            with Image.open(regular(file) if isinstance(file, Path) else file) as image:
                sizes.add(image.size)
                modes.add(image.mode)
        except Exception:  # decoders raise what they like; a file that cannot be opened is reported when it is read
            continue
    settings: dict[str, Any] = {"size": [LARGEST_PICTURE] * 2, "channels": 3}
    if len(sizes) == 1 and max(next(iter(sizes))) <= LARGEST_PICTURE:
        width, height = sizes.pop()
        settings["size"] = [height, width]
    if modes and modes <= {"L", "1"}:
        settings["channels"] = 1
    return {"settings": settings, "seen": bool(modes)}


def _sounds(root: Path, cells: list[str]) -> dict[str, Any]:
    """The settings of sounds: as long as the longest of the files, but at most 10 s. Empty if none of the files has sound."""
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
    except Exception:  # a file that cannot be opened is reported when it is read
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
