"""AVE: audio-visual events in ten-second clips of YouTube (Tian et al., ECCV 2018)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import h5py
import numpy as np
import torch
from annotated_types import Gt, Le
from scipy.signal import spectrogram

from agmbench.contracts import SplitName, Unsuitable
from agmbench.datasets import clips, prepared
from agmbench.datasets.clips import Clips
from agmbench.datasets.files import (
    ON_TEST,
    Array,
    FileDataset,
    Held,
    Layout,
    Progress,
    ProtocolName,
    Source,
    Stored,
    StoredSplit,
    check_lengths,
    check_shape,
    load_pickle,
    open_h5,
    regular,
    tenths,
)
from agmbench.datasets.media import (
    Decoded,
    load_images,
    missing,
    pictures_of,
    read_frames,
    read_sound,
    spread,
    write_clip,
    write_picture,
)
from agmbench.tasks import Segments, SingleLabel

EVENTS = (  # in the order of Annotations.txt, which is that of the label files
    *("Church bell", "Male speech, man speaking", "Bark", "Fixed-wing aircraft, airplane", "Race car, auto racing"),
    *("Female speech, woman speaking", "Helicopter", "Violin, fiddle", "Flute", "Ukulele", "Frying (food)", "Truck"),
    *("Shofar", "Motorcycle", "Acoustic guitar", "Train horn", "Clock", "Banjo", "Goat", "Baby cry, infant cry", "Bus"),
    *("Chainsaw", "Cat", "Horse", "Toilet flush", "Rodents, rats, mice", "Accordion", "Mandolin"),
)
BACKGROUND = len(EVENTS)
SECONDS = 10
RATE = 16_000
SPECTROGRAM = (257, 1004)
KEY = "avadataset"  # of every feature and label file

Splits = Literal["official", "video-disjoint"]
FILES = {"train": "train", "valid": "val", "test": "test"}  # the official lists, and how file names call them


class AVE(FileDataset):
    """4,143 clips of ten seconds, each with one of 28 events, heard and seen in some of those seconds.

    What a sample is depends on the layout. `features` has segments of a second: `audio` `[10, 128]` (VGGish), `visual`
    `[10, 7, 7, 512]` (VGG-19's last pooling), and a class a segment, the event's or 28 for background (29 classes, task `Segments`).
    `clip`, `official` and `prepared` have one of 28 classes a clip: `audio` `[1, 257, 1004]`, a log spectrogram of 16 kHz sound (window
    512, hop 159), and `visual` `[frames, 3, 224, 224]` (of one frame `[3, 224, 224]`), normalised as ImageNet is: in training cropped
    and flipped at random, anew in each epoch, as in OGM-GE's code (`augment.visual=crop-flip`), in evaluation resized alone. `official` and
    `prepared` make the spectrogram as VGGSound's code does: sound repeated to fill 10 s, `log(power + 1e-7)`, each clip with mean 0
    and deviation 1.

    train, valid and test are the official lists: 3,339 / 402 / 402 clips in the order files of `features`, one train clip less in the
    text lists of the other layouts, that of the one event of zero length (all background in `features`). dev is cut from train: the
    clips of a tenth of its videos, by one permutation that no seed changes. 45 videos are listed more than once, with unlike events.

    splits: `official`, in which 8 videos are in train and test and 10 in train and valid; or `video-disjoint`, in which the clips of
        such videos are left out of train. Official and default: official.
    protocol: `agmbench` (default) is that. `paper` cuts as AGM does: train is the first 90 % of the list of train, valid and test are
        the same first 90 % of that of test, so the best epoch is chosen ON THE TEST SET; dev is the last 10 % of both.
    frames: pictures of a clip, evenly spread; of `features` it says nothing. OGM-GE's code for AVE and default 3. A prepared folder
        has as many as it was prepared with.
    """

    name = "ave"
    source = Source(
        page="https://github.com/YapengTian/AVE-ECCV18",
        licence="research only, clips under YouTube's terms",
        size="features 4.1 GB, clips 4.3 GB",
        then="put audio_feature.h5, visual_feature.h5, the *_order.h5 files and labels.h5 or Annotations.txt into one folder. Or unpack "
        "AVE_Dataset.zip and run 'agmbench data prepare ave --from DIR' (without this, it is read as it is, but slowly)",
    )

    def __init__(
        self,
        seed: int,
        *,
        splits: Splits = "official",
        protocol: ProtocolName = "agmbench",
        frames: Annotated[int, Gt(0), Le(SECONDS)] = 3,
    ) -> None:
        self.hold(splits=splits, protocol=protocol, frames=frames)
        segments = isinstance(self.layout, Features)
        self.task = Segments() if segments else SingleLabel()
        self.class_names = [*EVENTS, "background"] if segments else list(EVENTS)
        self.untransformed = tuple(self.shapes) if segments else ()

    @classmethod
    def prepare(
        cls,
        source: Path,
        target: Path,
        progress: Progress,
        jobs: int,
        *,
        frames: Annotated[int, Gt(0), Le(SECONDS)] = 3,
    ) -> None:
        """The official clips to spectrograms and `frames` pictures each; `source` is AVE_Dataset or the folder that holds it."""
        raw = source / "AVE_Dataset" if (source / "AVE_Dataset").is_dir() else source
        Prepared().make(_official(raw, frames), raw, target, progress, jobs, frames)


class Event(NamedTuple):
    """A line of Annotations.txt: an event, the video, and the seconds in which it is heard and seen, `[start, end)`."""

    kind: int
    video: str
    start: int
    end: int


def read_events(path: Path) -> list[Event]:
    """Lines `Category&VideoID&Quality&StartTime&EndTime`, with or without a header."""
    regular(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Unsuitable(f"{path} cannot be read as text: {error}") from error
    events = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (number == 1 and line.startswith("Category&")):
            continue
        try:
            category, video, _, start, end = line.strip().split("&")
            event = Event(EVENTS.index(category), video, int(start), int(end))
        except ValueError as error:
            expected = "Category&VideoID&Quality&StartTime&EndTime with one of the 28 categories"
            raise Unsuitable(f"{path}:{number} is {line.strip()!r}; expected {expected}") from error
        if not 0 <= event.start <= event.end <= SECONDS:
            raise Unsuitable(
                f"{path}:{number} has the event from {start} to {end}; expected seconds of 0 to {SECONDS}, in order"
            )
        events.append(event)
    return events


def segment_labels(events: Sequence[Event]) -> Array:
    """`[N, 10]`: in each second the event, or background."""
    second = np.arange(SECONDS)
    return np.stack([np.where((event.start <= second) & (second < event.end), event.kind, BACKGROUND) for event in events])


def _texts(root: Path) -> list[Path]:
    return [root / f"{name}Set.txt" for name in FILES.values()]


def _lists(root: Path) -> dict[str, list[Event]]:
    return {split: read_events(path) for split, path in zip(FILES, _texts(root), strict=True)}


# splits


Places = Mapping[SplitName, Sequence[tuple[str, Array]]]  # the lists that a split comes from, and its places there


def divided(videos: Mapping[str, Sequence[str]], splits: Splits, protocol: ProtocolName = "agmbench") -> Places:
    """Under `agmbench` clips of one video are never in both train and dev."""
    if empty := [split for split in FILES if not len(videos[split])]:
        raise Unsuitable(f"the official list of {empty[0]} names no clips")
    if protocol == "paper":
        return _paper(videos, splits)
    train = np.asarray(videos["train"], dtype=str)
    known = [*videos["valid"], *videos["test"]] if splits == "video-disjoint" else []
    left = np.flatnonzero(~np.isin(train, np.asarray(known, dtype=str)))
    unlike = np.unique(train[left])
    if len(unlike) < 2:
        raise Unsuitable(f"train has the clips of {len(unlike)} videos; expected at least 2, so that dev can be cut from it")
    drawn = np.random.default_rng(0).permutation(unlike)[: max(1, round(len(unlike) / 10))]
    in_dev = np.isin(train[left], drawn)
    if splits == "video-disjoint" and (both := {*videos["valid"]} & {*videos["test"]}):
        raise Unsuitable(f"{len(both)} videos are in valid and in test, such as {min(both)}; expected none")
    return {
        "train": [("train", left[~in_dev])],
        "dev": [("train", left[in_dev])],
        "valid": [("valid", np.arange(len(videos["valid"])))],
        "test": [("test", np.arange(len(videos["test"])))],
    }


def _paper(videos: Mapping[str, Sequence[str]], splits: Splits) -> Places:
    if splits != "official":
        raise Unsuitable(f"protocol=paper is of splits=official alone; found splits={splits}")
    (train, dev), (test, rest) = (tenths(np.arange(len(videos[listed]))) for listed in ("train", "test"))
    judged = [("test", test)]
    return {"train": [("train", train)], "dev": [("train", dev), ("test", rest)], "valid": judged, "test": judged}


def _divided(videos: Mapping[str, Sequence[str]], options: Mapping[str, Any]) -> tuple[Places, list[str]]:
    """The places of each split, and what a user should know of them."""
    parts = divided(videos, options["splits"], options["protocol"])
    left_out = len(videos["train"]) - sum(len(places) for name in parts for listed, places in parts[name] if listed == "train")
    notes = [f"{left_out} clips of train are left out: their videos are in valid or test"] if left_out else []
    return parts, [*notes, *([ON_TEST] if options["protocol"] == "paper" else [])]


# layouts


class Features(Layout):
    """The published features, in the order of Annotations.txt: a second a segment. The visual file is 4.1 GB and stays on disk.

    Labels are read from right_labels.h5 or labels.h5, or made from Annotations.txt; mil_labels.h5 and labels_closs.h5, where they
    are, must agree. Without Annotations.txt no clip's video is known, and dev is cut by clips.
    """

    name = "features"
    signs = ("audio_feature.h5", "visual_feature.h5", "train_order.h5", "val_order.h5", "test_order.h5")

    def read(self, root: Path, **options: Any) -> Held:
        audio = open_h5(root / "audio_feature.h5", KEY, (None, SECONDS, 128))
        visual = open_h5(root / "visual_feature.h5", KEY, (None, SECONDS, 7, 7, 512))
        annotations = root / "Annotations.txt"
        events = read_events(annotations) if annotations.exists() else None
        source, labels = self._labels(root, events)
        lengths = {str(root / "audio_feature.h5"): len(audio), str(root / "visual_feature.h5"): len(visual)}
        lengths[str(source)] = len(labels)
        if events is not None:
            lengths[str(annotations)] = len(events)
        check_lengths(lengths)
        self._check(root, source, labels)
        orders = self._orders(root, len(labels))
        if events is None and options["splits"] != "official":
            raise Unsuitable(f"{annotations} is missing: without it no clip's video is known, so splits can only be 'official'")
        names = [str(row) for row in range(len(labels))] if events is None else [event.video for event in events]
        inputs = {"audio": Stored(audio), "visual": Stored(visual)}
        parts, notes = _divided({listed: [names[row] for row in rows] for listed, rows in orders.items()}, options)
        chosen = _rows(parts, orders)
        told = [f"labels were made from {annotations.name}"] if source == annotations else []
        unknown = ["there is no Annotations.txt: no clip's video is known"] if events is None else []
        return Held(
            splits={name: StoredSplit(inputs, torch.from_numpy(labels[rows]), rows) for name, rows in chosen.items()},
            shapes={"audio": audio.shape[1:], "visual": visual.shape[1:]},
            files=[*(root / sign for sign in self.signs), source, *([annotations] if events is not None else [])],
            groups={} if events is None else {"video": {name: [names[row] for row in rows] for name, rows in chosen.items()}},
            notes=[*told, *unknown, *notes],
        )

    def _labels(self, root: Path, events: Sequence[Event] | None) -> tuple[Path, Array]:
        """The file, and `[N, 10]` class numbers."""
        for name in ("right_labels.h5", "labels.h5"):
            if (path := root / name).exists():
                hot = _whole(path, (None, SECONDS, BACKGROUND + 1))
                wrong = np.argwhere((hot.max(axis=2) != 1) | (hot.sum(axis=2) != 1)).tolist()
                if wrong:
                    clip, second = wrong[0]
                    raise Unsuitable(
                        f"{path} has no single class for second {second} of clip {clip}; expected one 1 and else 0"
                    )
                return path, hot.argmax(axis=2).astype(np.int64)
        if not events:
            raise Unsuitable(f"{root} has no labels: expected right_labels.h5, labels.h5 or Annotations.txt")
        return root / "Annotations.txt", segment_labels(events)

    def _check(self, root: Path, source: Path, labels: Array) -> None:
        """Against what others published of the same clips."""
        present = labels != BACKGROUND  # [N, 10]
        checks: list[tuple[Path, Array]] = []
        if (path := root / "labels_closs.h5").exists():
            foreground = _whole(path, (len(labels), SECONDS)) > 0
            checks.append((path, (foreground != present).any(axis=1)))
        if (path := root / "mil_labels.h5").exists():
            kinds = _whole(path, (len(labels), BACKGROUND + 1)).argmax(axis=1)
            checks.append((path, (present & (labels != kinds[:, None])).any(axis=1)))
        for path, unlike in checks:
            if unlike.any():
                where = f"{unlike.sum()} clips, the first {np.flatnonzero(unlike)[0]}"
                advice = "" if source.name == "Annotations.txt" else "; without it labels are made from Annotations.txt"
                raise Unsuitable(f"{source} disagrees with {path.name} on {where}{advice}")

    def _orders(self, root: Path, count: int) -> dict[str, Array]:
        orders: dict[str, Array] = {}
        seen: dict[int, str] = {}
        for listed in FILES:
            path = root / f"{FILES[listed]}_order.h5"
            rows = _whole(path, (None,), "order").astype(np.int64)
            for row in rows.tolist():
                if not 0 <= row < count:
                    raise Unsuitable(f"{path} 'order' has the clip {row}; expected 0 to {count - 1}")
                if row in seen:
                    raise Unsuitable(f"{path} 'order' has the clip {row}, which is in {seen[row]} too; expected each clip once")
                seen[row] = path.name
            orders[listed] = rows
        return orders

    def write_sample(self, root: Path) -> None:
        draw = np.random.default_rng(0)
        events = _sample_events(12)
        hot = np.eye(BACKGROUND + 1, dtype=np.float32)[segment_labels(events)]
        parts = np.split(draw.permutation(12), [8, 10])
        contents = {
            "audio_feature": (KEY, draw.random((12, SECONDS, 128), dtype=np.float32)),
            "visual_feature": (KEY, draw.random((12, SECONDS, 7, 7, 512), dtype=np.float32)),
            "labels": (KEY, hot),
            **{f"{FILES[listed]}_order": ("order", rows) for listed, rows in zip(FILES, parts, strict=True)},
        }
        for name, (key, values) in contents.items():
            with h5py.File(root / f"{name}.h5", "w") as file:
                file[key] = values
        _write_events(root / "Annotations.txt", events)


class Prepared(clips.Prepared):
    """What `AVE.prepare` makes of the official clips, those of each list by themselves. Pictures are 224x224, so crops are taken from
    that."""

    dataset = "ave"
    title = "AVE"
    sound = SPECTROGRAM
    kind = "float16"
    classes = len(EVENTS)
    apart = True

    def read(self, root: Path, **options: Any) -> Held:
        return _of_clips(self.opened(root, frames=options["frames"]), options)

    def facts(self, some: Clips) -> dict[str, Any]:
        videos = {listed: [clip.name for clip in of] for listed, of in some.lists.items()}
        return {"videos": videos, "class_names": list(EVENTS)}

    def lists(self, made: prepared.PreparedFolder) -> clips.Lists:
        videos = made.manifest["facts"]["videos"]
        return {listed: self.paired(made, videos[listed], made.array(listed, "targets")) for listed in FILES}

    def sampled(self) -> clips.Lists:
        return _named(_sample_lists())


class Clip(Layout):
    """A spectrogram and a folder of pictures a clip, as OGM-GE, PMR and others hold AVE: read when a batch asks for them."""

    name = "clip"
    signs = ("Audio-1004-SE", "Image-*-FPS-SE", *(f"{name}Set.txt" for name in FILES.values()))

    def read(self, root: Path, **options: Any) -> Held:
        lists = _named(_lists(root))
        pictures = min(root.glob("Image-*-FPS-SE"))  # of several the fewest a second
        sounds, folders = _places(lists, root / "Audio-1004-SE", ".pkl"), _places(lists, pictures, "")
        missing(sorted({*sounds, *folders}))
        shown = [_spread(folder, options["frames"]) for folder in folders]
        media = {*sounds, *(path for paths in shown for path in paths)}
        seen = pictures_of(shown, load_images)
        return _of_clips(Clips(lists, Decoded(sounds, _load_spectrogram), seen, _texts(root), sorted(media)), options)

    def write_sample(self, root: Path) -> None:
        draw, lists = np.random.default_rng(0), _sample_lists()
        _write_lists(root, lists)
        (root / "Audio-1004-SE").mkdir()
        for event in (event for events in lists.values() for event in events):
            (root / "Audio-1004-SE" / f"{event.video}.pkl").write_bytes(
                draw.normal(-8, 2, SPECTROGRAM).astype(np.float32).dumps()
            )
            for number in range(SECONDS):
                write_picture(root / "Image-01-FPS-SE" / event.video / f"{number:05d}.jpg", draw)


class Official(Layout):
    """AVE_Dataset.zip as it unpacks: clips and lists. A clip is decoded whenever a batch asks for it; `AVE.prepare` does so once."""

    name = "official"
    signs = ("AVE_Dataset/AVE", *(f"AVE_Dataset/{name}Set.txt" for name in FILES.values()))

    def read(self, root: Path, **options: Any) -> Held:
        return _of_clips(_official(root / "AVE_Dataset", options["frames"]), options)

    def write_sample(self, root: Path) -> None:
        draw, lists, raw = np.random.default_rng(0), _sample_lists(), root / "AVE_Dataset"
        (raw / "AVE").mkdir(parents=True)
        _write_lists(raw, lists)
        _write_events(raw / "Annotations.txt", [event for events in lists.values() for event in events])
        for event in (event for events in lists.values() for event in events):
            write_clip(raw / "AVE" / f"{event.video}.mp4", draw)


AVE.layouts = (Features(), Prepared(), Clip(), Official())


def _whole(path: Path, shape: tuple[int | None, ...], key: str = KEY) -> Array:
    """A small data set of an HDF5 file, read at once."""
    values: Array = open_h5(path, key, shape)[:]
    return values


def _named(lists: Mapping[str, Sequence[Event]]) -> clips.Lists:
    return {listed: [clips.Clip(event.video, event.kind) for event in events] for listed, events in lists.items()}


def _places(lists: clips.Lists, folder: Path, suffix: str) -> list[Path]:
    return [folder / f"{clip.name}{suffix}" for some in lists.values() for clip in some]


def _official(raw: Path, frames: int) -> Clips:
    lists = _named(_lists(raw))
    videos = _places(lists, raw / "AVE", ".mp4")
    once = sorted(set(videos))
    missing(once)
    pictures = pictures_of(videos, read_frames, times=frames)
    return Clips(lists, Decoded(videos, _spectrogram), pictures, _texts(raw), once)


def _of_clips(some: Clips, options: Mapping[str, Any]) -> Held:
    """Clips of one class each."""
    videos = {listed: [clip.name for clip in of] for listed, of in some.lists.items()}
    rows, notes = _divided(videos, options)
    return some.held(_rows(rows, some.rows), (1, *SPECTROGRAM), options["frames"], {"video": str}, notes)


def _rows(places: Places, of: Mapping[str, Array]) -> dict[SplitName, Array]:
    """The rows of each split, of those that each list has."""
    return {name: np.concatenate([of[listed][some] for listed, some in parts]) for name, parts in places.items()}


def _spread(folder: Path, count: int) -> list[Path]:
    """So many of the pictures in a folder, evenly spread."""
    pictures = sorted(folder.glob("*.jpg"))
    if not pictures:
        raise Unsuitable(f"{folder} has no pictures; expected files *.jpg")
    return spread(pictures, count)


def _load_spectrogram(path: Path) -> Array:
    values = np.asarray(load_pickle(path))
    check_shape(str(path), values.shape, SPECTROGRAM)
    if values.dtype.kind != "f":
        raise Unsuitable(f"{path} has numbers of the type {values.dtype}; expected floats")
    return values.astype(np.float32)


def _spectrogram(path: Path) -> Array:
    sound = np.resize(read_sound(path, RATE), SECONDS * RATE).clip(-1, 1)  # repeated to ten seconds
    _, _, power = spectrogram(sound, RATE, nperseg=512, noverlap=353)
    audio = np.log(power + 1e-7)
    normalised: Array = (audio - audio.mean()) / (audio.std() + 1e-9)  # all of this as in VGGSound's code
    return normalised


# samples


def _sample_events(count: int) -> list[Event]:
    return [Event(number % 4, f"sample-{number:04d}", number % 3, SECONDS - number % 4) for number in range(count)]


def _sample_lists() -> dict[str, list[Event]]:
    events = _sample_events(8)
    return {"train": events[:4], "valid": events[4:6], "test": events[6:]}


def _write_events(path: Path, events: Sequence[Event]) -> None:
    path.write_text("".join(f"{EVENTS[e.kind]}&{e.video}&good&{e.start}&{e.end}\n" for e in events))


def _write_lists(root: Path, lists: Mapping[str, Sequence[Event]]) -> None:
    for split, events in lists.items():
        _write_events(root / f"{FILES[split]}Set.txt", events)
