"""Makes tables of data sets that papers on balanced learning use, from their official files and lists.

Each builder takes the folder in which a user has the official files, and returns the rows of a table and the settings of its entry.
`agmbench data manifest NAME --from DIR` writes both into the folder. The data are not shipped; each builder describes the files that it
expects.
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
    """The rows of a table, the settings of data set `table` for it, and notes for the user."""

    rows: list[Row]
    settings: Mapping[str, Any]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Known:
    """A data set for which a table can be made: its summary, the page where its files come from, the files that are needed, and the
    builder."""

    summary: str
    page: str
    needs: Sequence[str]
    build: Callable[[Path], Manifest] = field(repr=False)


def build(name: str, root: Path) -> Manifest:
    """Make the manifest of a data set whose official files are below `root`. Raises `Unsuitable` if files that it needs are missing."""
    known = KNOWN[name]
    lacking = [part for part in known.needs if next(root.glob(part), None) is None]
    if lacking:
        raise Unsuitable(f"{root} has no {', '.join(lacking)}; {name} needs {', '.join(known.needs)} ({known.page})")
    made = known.build(root)
    if not made.rows:
        raise Unsuitable(f"{root}: none of the samples in the lists of {name} has its files there")
    return made


def text_of(path: Path) -> str:
    """The content of a text file."""
    try:
        return regular(path).read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise Unsuitable(f"{path} cannot be read ({error.strerror})") from error


def csv_of(path: Path, columns: Sequence[str] = (), **options: Any) -> pd.DataFrame:
    """Read a csv. Raises `Unsuitable` if it lacks one of the columns."""
    try:
        frame = pd.read_csv(regular(path), keep_default_na=False, encoding="utf-8-sig", **options)
    except ValueError as error:
        raise Unsuitable(f"{path} cannot be read as a csv: {' '.join(str(error).split())}") from error
    if gone := [name for name in columns if name not in frame]:
        raise Unsuitable(f"{path} has no column {', '.join(gone)}; it has {', '.join(map(str, frame.columns))}")
    return frame


def json_of(path: Path) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(text_of(path))
    except ValueError as error:
        raise Unsuitable(f"{path} cannot be read as JSON: {error}") from error


def there(root: Path, *names: str) -> str:
    """The name of the first of these files that exists, or an empty text."""
    return next((name for name in names if (root / name).exists()), "")


def whole(rows: Iterator[Row], *needed: str) -> tuple[list[Row], list[str]]:
    """The rows that have all files in the columns `needed`, and a note on how many have not. Videos disappear from the internet, so some
    usually lack."""
    found = list(rows)
    kept = [row for row in found if all(row[name] for name in needed)]
    gone = len(found) - len(kept)
    return kept, [f"{gone:,} of {len(found):,} samples of the lists have no files here and are left out"] if gone else []


VIDEO = {"kind": "video", "frames": 3, "size": [224, 224]}
SOUND = {"kind": "sound", "rate": 16_000, "seconds": 10.0, "hop": 256}


def seen_and_heard(column: str, seconds: float, sound: str | None = None) -> dict[str, Any]:
    """The settings of the two modalities of a video: its pictures and its sound."""
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
    validation, testing) per clip. The authors read frames and spectrograms that they made; here the clips `video/<name>.mp4` are read."""
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
    `tvl1_flow/{u,v}/<clip>/`, of which `u` is taken. Clips of the same group (g01 to g25) should not be in two splits."""
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
    """`{train,dev_seen,test_seen}.jsonl` (`id`, `img`, `text`, `label`) and `img/<id>.png`; or the older `dev.jsonl` and `test.jsonl`."""

    def rows() -> Iterator[Row]:
        for split, names in {"train": ("train",), "valid": ("dev_seen", "dev"), "test": ("test_seen", "test")}.items():
            path = there(root, *(f"{name}.jsonl" for name in names))
            if not path:
                raise Unsuitable(f"{root} has no {names[0]}.jsonl")
            for line in text_of(root / path).splitlines():
                one = json.loads(line) if line.strip() else {}
                if "label" in one:  # the test of the first release has no labels
                    label = ("not hateful", "hateful")[int(one["label"])]
                    image, id_ = there(root, one["img"]), str(one["id"])
                    yield {"image": image, "text": one["text"], "label": label, "split": split, "id": id_}

    return _pictures_with_text(rows(), "text", words=70)


def _pictures_with_text(rows: Iterator[Row], column: str, words: int) -> Manifest:
    """The manifest of rows with a picture (`image`), a text in `column` (of which `words` words are read), `label`, `split` and `id`."""
    found, notes = whole(rows, "image")
    modalities = {
        "image": {"kind": "picture", "column": "image", "size": [224, 224], "channels": 3},
        "text": {"kind": "text", "column": column, "length": words},
    }
    return Manifest(found, {"modalities": modalities, "label": "label", "split": "split", "id": "id"}, notes)


def _labelled_clips(root: Path) -> Manifest:
    """`label.csv` of MMSA (`meta.csv` in its newer release) and `Raw/<video_id>/<clip_id>.mp4`; the label is the sentiment, a number."""
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
    """`data/sarcasm_data.json` or `sarcasm_data.json`, `{id: {utterance, speaker, sarcasm, show, ...}}`, and `utterances_final/<id>.mp4`.
    There is no single official split. Ours is drawn by speaker, like the paper's speaker-independent setting, but is not the same."""
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
    words of the four emotions that the literature takes, with excited counted as happy. Session 5 is test and session 4 is valid, so no
    speaker is in two of train, valid and test."""

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
