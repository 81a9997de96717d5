"""Tables of the data sets that papers on balanced learning use, made of their official files and lists.

Each builder takes the folder in which a user has the official files and gives a table: rows, columns, and the settings of an entry.
`agmbench data manifest NAME --from DIR` writes both into the folder. Nobody ships the data: what a layout is, is told in each builder.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from agmbench.contracts import Unsuitable
from agmbench.datasets.untrusted import regular

Row = dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """A table's rows, the settings of data set `table` for it, and what a user should know of it."""

    rows: list[Row]
    settings: Mapping[str, Any]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Known:
    """A data set that a manifest can be made of: what it is, where its files come from, which of them are needed, and how."""

    summary: str
    page: str
    needs: Sequence[str]
    build: Callable[[Path], Manifest] = field(repr=False)


def build(name: str, root: Path) -> Manifest:
    """The manifest of a data set whose official files are below `root`."""
    known = KNOWN[name]
    lacking = [part for part in known.needs if next(root.glob(part), None) is None]
    if lacking:
        raise Unsuitable(f"{root} has no {', '.join(lacking)}; {name} needs {', '.join(known.needs)} ({known.page})")
    made = known.build(root)
    if not made.rows:
        raise Unsuitable(f"{root}: none of the samples in the lists of {name} has its files there")
    return made


def text_of(path: Path) -> str:
    """A text file of lists or labels."""
    try:
        return regular(path).read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise Unsuitable(f"{path} cannot be read ({error.strerror})") from error


def csv_of(path: Path, columns: Sequence[str] = (), **options: Any) -> pd.DataFrame:
    """A csv that has those columns."""
    try:
        frame = pd.read_csv(regular(path), keep_default_na=False, encoding="utf-8-sig", **options)
    except ValueError as error:
        raise Unsuitable(f"{path} cannot be read as a csv: {' '.join(str(error).split())}") from error
    if gone := [name for name in columns if name not in frame]:
        raise Unsuitable(f"{path} has no column {', '.join(gone)}; it has {', '.join(map(str, frame.columns))}")
    return frame


def json_of(path: Path) -> Any:
    """A JSON file."""
    try:
        return json.loads(text_of(path))
    except ValueError as error:
        raise Unsuitable(f"{path} cannot be read as JSON: {error}") from error


def there(root: Path, *names: str) -> str:
    """The first of these files that is there, or nothing."""
    return next((name for name in names if (root / name).exists()), "")


def whole(rows: Iterator[Row], *needed: str) -> tuple[list[Row], list[str]]:
    """The rows that have all files that are `needed`, and how many have not: videos leave the net."""
    found = list(rows)
    kept = [row for row in found if all(row[name] for name in needed)]
    gone = len(found) - len(kept)
    return kept, [f"{gone:,} of {len(found):,} samples of the lists have no files here and are left out"] if gone else []


VIDEO = {"kind": "video", "frames": 3, "size": [224, 224]}
SOUND = {"kind": "sound", "rate": 16_000, "seconds": 10.0, "hop": 256}


def seen_and_heard(column: str, seconds: float, sound: str | None = None) -> dict[str, Any]:
    """The modalities of a video: its pictures and its sound."""
    return {"visual": {**VIDEO, "column": column}, "audio": {**SOUND, "column": sound or column, "seconds": seconds}}


def vggsound(root: Path) -> Manifest:
    """`vggsound.csv` (YouTube id, second, label, train or test; no header) and `video/<id>_<second, six digits>.mp4`."""
    listed = csv_of(root / "vggsound.csv", header=None, names=["id", "second", "label", "split"], dtype={"id": str})

    def rows() -> Iterator[Row]:
        for one in listed.itertuples():
            name = f"{one.id}_{int(one.second):06}"
            clip = there(root, f"video/{name}.mp4")
            yield {"clip": clip, "label": one.label, "split": one.split, "id": name, "video_id": one.id}

    found, notes = whole(rows(), "clip")
    settings = {"modalities": seen_and_heard("clip", 10.0), "label": "label", "split": "split", "group": "video_id", "id": "id"}
    return Manifest(found, settings, notes)


def balancedav(root: Path) -> Manifest:
    """`Imbalance_train_test_val.json`, as the authors' loader reads it: `labels`, and `database` with a `label` and a `subset` (training,
    validation, testing) by clip. They keep frames and spectrograms that they made; here the clips are read, `video/<name>.mp4`."""
    listed = json_of(root / "Imbalance_train_test_val.json")

    def rows() -> Iterator[Row]:
        for name, one in listed["database"].items():
            yield {"clip": there(root, f"video/{name}.mp4"), "label": one["label"], "split": one["subset"], "id": name}

    found, notes = whole(rows(), "clip")
    classes = [str(label) for label in listed["labels"]]
    settings = {"modalities": seen_and_heard("clip", 10.0), "label": "label", "classes": classes, "split": "split", "id": "id"}
    return Manifest(found, settings, notes)


def ucf101(root: Path) -> Manifest:
    """`ucfTrainTestlist/{trainlist01,testlist01}.txt`, `UCF-101/<class>/<clip>.avi`, and optical flow as pictures in `flow/<clip>/` or
    `tvl1_flow/{u,v}/<clip>/`, of which `u` is taken. A clip's group (g01 to g25) is what may not be in two splits."""
    lists = {"train": "trainlist01.txt", "test": "testlist01.txt"}

    def rows() -> Iterator[Row]:
        for split, name in lists.items():
            for line in text_of(root / "ucfTrainTestlist" / name).splitlines():
                if not line.strip():
                    continue
                path = line.split()[0]
                clip = Path(path).stem
                yield {
                    "clip": there(root, f"UCF-101/{path}", path),
                    "flow": there(root, f"flow/{clip}", f"tvl1_flow/u/{clip}"),
                    "label": path.partition("/")[0],
                    "split": split,
                    "group": clip.rpartition("_c")[0],
                    "id": clip,
                }

    found, notes = whole(rows(), "clip")
    modalities = {
        "visual": {**VIDEO, "column": "clip"},
        "flow": {"kind": "frames", "column": "flow", "frames": 3, "size": [224, 224]},
    }
    return Manifest(found, {"modalities": modalities, "label": "label", "split": "split", "group": "group", "id": "id"}, notes)


def food101(root: Path) -> Manifest:
    """UPMC Food-101: `texts/{train,test}_titles.csv` (picture, title, class; no header) and `images/{train,test}/<class>/<picture>`."""

    def rows() -> Iterator[Row]:
        for split in ("train", "test"):
            listed = csv_of(root / "texts" / f"{split}_titles.csv", header=None, names=["picture", "title", "label"])
            for one in listed.itertuples():
                image = there(root, f"images/{split}/{one.label}/{one.picture}")
                yield {"image": image, "title": one.title, "label": one.label, "split": split, "id": one.picture}

    return _pictures_with_text(rows(), "title", words=40)


def hateful_memes(root: Path) -> Manifest:
    """`{train,dev_seen,test_seen}.jsonl` (`id`, `img`, `text`, `label`) and `img/<id>.png`; the older `dev.jsonl`, `test.jsonl` too."""

    def rows() -> Iterator[Row]:
        for split, names in {"train": ("train",), "valid": ("dev_seen", "dev"), "test": ("test_seen", "test")}.items():
            path = there(root, *(f"{name}.jsonl" for name in names))
            if not path:
                raise Unsuitable(f"{root} has no {names[0]}.jsonl")
            for line in text_of(root / path).splitlines():
                one = json.loads(line) if line.strip() else {}
                if "label" in one:  # the first release has test without labels
                    label = ("not hateful", "hateful")[int(one["label"])]
                    image, id_ = there(root, one["img"]), str(one["id"])
                    yield {"image": image, "text": one["text"], "label": label, "split": split, "id": id_}

    return _pictures_with_text(rows(), "text", words=70)


def _pictures_with_text(rows: Iterator[Row], column: str, words: int) -> Manifest:
    """Rows of a picture (`image`), a text in a column, at most so many `words` of it, `label`, `split` and `id`."""
    found, notes = whole(rows, "image")
    modalities = {
        "image": {"kind": "picture", "column": "image", "size": [224, 224], "channels": 3},
        "text": {"kind": "text", "column": column, "length": words},
    }
    return Manifest(found, {"modalities": modalities, "label": "label", "split": "split", "id": "id"}, notes)


def _labelled_clips(root: Path) -> Manifest:
    """What MMSA calls `label.csv` (its newer release `meta.csv`), with `Raw/<video_id>/<clip_id>.mp4`: sentiment as a number."""
    path = root / (there(root, "label.csv", "meta.csv") or "label.csv")
    listed = csv_of(path, ("video_id", "clip_id", "text", "label", "mode"), dtype={"video_id": str, "clip_id": str})

    def rows() -> Iterator[Row]:
        for one in listed.itertuples():
            clip, video = str(one.clip_id), str(one.video_id)
            file = there(root, f"Raw/{video}/{clip}.mp4", f"Raw/{video}/{clip.zfill(4)}.mp4")
            name = f"{video}_{clip}"
            yield {"clip": file, "text": one.text, "label": one.label, "split": one.mode, "video_id": video, "id": name}

    found, notes = whole(rows(), "clip")
    modalities = {**seen_and_heard("clip", 8.0), "text": {"kind": "text", "column": "text", "length": 50}}
    settings = {"modalities": modalities, "label": "label", "task": "number", "split": "split", "group": "video_id", "id": "id"}
    return Manifest(found, settings, notes)


def mustard(root: Path) -> Manifest:
    """`data/sarcasm_data.json` (or beside it), `{id: {utterance, speaker, sarcasm, show, ...}}`, and `utterances_final/<id>.mp4`. There is
    no official single split: shares are drawn by speaker, as in the paper's speaker-independent setting, though not its very cut."""
    found = json_of(root / (there(root, "data/sarcasm_data.json", "sarcasm_data.json") or "sarcasm_data.json"))

    def rows() -> Iterator[Row]:
        for name, one in found.items():
            clip = there(root, f"utterances_final/{name}.mp4", f"mmsd_raw_data/utterances_final/{name}.mp4")
            label = "sarcastic" if one["sarcasm"] else "not sarcastic"
            yield {
                "clip": clip,
                "text": one["utterance"],
                "label": label,
                "speaker": one["speaker"],
                "show": one.get("show", ""),
                "id": name,
            }

    kept, notes = whole(rows(), "clip")
    modalities = {**seen_and_heard("clip", 6.0), "text": {"kind": "text", "column": "text", "length": 50}}
    return Manifest(kept, {"modalities": modalities, "label": "label", "group": "speaker", "id": "id"}, notes)


SAID = re.compile(r"^(\S+) \[[\d.]+-[\d.]+\]: ?(.*)$", re.MULTILINE)
JUDGED = re.compile(r"^\[[\d.]+ - [\d.]+\]\t(\S+)\t(\w+)\t", re.MULTILINE)
FOUR = {"ang": "angry", "hap": "happy", "exc": "happy", "sad": "sad", "neu": "neutral"}


def iemocap(root: Path) -> Manifest:
    """`Session{1-5}/dialog/{EmoEvaluation,transcriptions}/<dialog>.txt` and `Session*/sentences/wav/<dialog>/<utterance>.wav`: sound and
    words of the four emotions that the literature takes, excited counted as happy. Session 5 is test, session 4 valid: no speaker is
    in two of train, valid and test."""

    def rows() -> Iterator[Row]:
        for path in sorted(root.glob("Session*/dialog/EmoEvaluation/Ses*.txt")):
            session = path.parents[2].name
            spoken = dict(SAID.findall(text_of(path.parents[1] / "transcriptions" / path.name)))
            for name, emotion in JUDGED.findall(text_of(path)):
                if emotion in FOUR:
                    yield {
                        "sound": there(root, f"{session}/sentences/wav/{path.stem}/{name}.wav"),
                        "text": spoken.get(name, ""),
                        "label": FOUR[emotion],
                        "split": {"5": "test", "4": "valid"}.get(session[-1], "train"),
                        "dialog": path.stem,
                        "id": name,
                    }

    found, notes = whole(rows(), "sound")
    modalities = {
        "audio": {**SOUND, "column": "sound", "seconds": 8.0},
        "text": {"kind": "text", "column": "text", "length": 50},
    }
    return Manifest(found, {"modalities": modalities, "label": "label", "split": "split", "group": "dialog", "id": "id"}, notes)


KNOWN: Mapping[str, Known] = {
    "vggsound": Known(
        "309 sounds in clips of YouTube, seen and heard",
        "https://www.robots.ox.ac.uk/~vgg/data/vggsound/",
        ("vggsound.csv", "video"),
        vggsound,
    ),
    "balancedav": Known(
        "clips with and without a gap between what is heard and what is seen, picture and sound",
        "https://gewu-lab.github.io/Balanced-Audiovisual-Dataset",
        ("Imbalance_train_test_val.json", "video"),
        balancedav,
    ),
    "ucf101": Known(
        "101 actions, pictures and optical flow, list 01",
        "https://www.crcv.ucf.edu/data/UCF101.php",
        ("ucfTrainTestlist/trainlist01.txt", "ucfTrainTestlist/testlist01.txt"),
        ucf101,
    ),
    "food101": Known(
        "UPMC Food-101, 101 dishes, pictures and titles of web pages",
        "https://visiir.isir.upmc.fr/",
        ("texts/train_titles.csv", "texts/test_titles.csv", "images"),
        food101,
    ),
    "hateful-memes": Known(
        "memes, hateful or not, picture and text",
        "https://ai.meta.com/tools/hatefulmemes/",
        ("train.jsonl", "img"),
        hateful_memes,
    ),
    "cmu-mosi": Known(
        "sentiment of 2,199 segments of video, seen, heard and read",
        "https://github.com/thuiar/MMSA",
        ("Raw", "[lm][ae][bt][ea]*.csv"),
        _labelled_clips,
    ),
    "ch-sims": Known(
        "sentiment of 2,281 segments of Chinese films, seen, heard and read",
        "https://github.com/thuiar/MMSA",
        ("Raw", "[lm][ae][bt][ea]*.csv"),
        _labelled_clips,
    ),
    "mustard": Known(
        "sarcasm in 690 utterances of television, seen, heard and read", "https://github.com/soujanyaporia/MUStARD", (), mustard
    ),
    "iemocap": Known(
        "four emotions in utterances of ten actors, heard and read",
        "https://sail.usc.edu/iemocap/",
        ("Session*/dialog/EmoEvaluation",),
        iemocap,
    ),
}
