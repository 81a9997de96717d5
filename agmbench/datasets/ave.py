"""AVE: audio-visual events in ten-second clips of YouTube (Tian et al., ECCV 2018)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt, Le
from scipy.signal import spectrogram

from agmbench.contracts import Unsuitable
from agmbench.datasets import clips, prepared
from agmbench.datasets.arrays import Array, check_shape
from agmbench.datasets.ave_features import Features
from agmbench.datasets.ave_lists import EVENTS, FILES, SECONDS, Event, Splits, list_files, places_of, read_lists, rows_of
from agmbench.datasets.clips import Clips
from agmbench.datasets.files import FileDataset, Held, Layout, Progress, Source
from agmbench.datasets.media import Decoded, check_present, load_images, pictures_of, read_frames, read_sound, spread
from agmbench.datasets.splitting import ProtocolName
from agmbench.datasets.untrusted import load_pickle
from agmbench.tasks import Segments, SingleLabel

RATE = 16_000
SPECTROGRAM = (257, 1004)


class AVE(FileDataset):
    """4,143 clips of ten seconds, each with one of 28 events, which is heard and seen in some of these seconds.

    What a sample is depends on the layout. In `features`, a sample is ten segments of a second: `audio` `[10, 128]` (VGGish), `visual`
    `[10, 7, 7, 512]` (VGG-19's last pooling), and a class per segment: the event, or 28 for background (29 classes, task `Segments`).
    In `clip`, `official` and `prepared`, a sample is a clip with one of 28 classes: `audio` `[1, 257, 1004]`, a log spectrogram of 16 kHz
    sound (window 512, hop 159), and `visual` `[frames, 3, 224, 224]` (`[3, 224, 224]` if there is one frame), normalised as ImageNet is.
    In training, pictures are cropped and flipped at random, anew in each epoch, as in OGM-GE's code (`augment.visual=crop-flip`); in
    evaluation they are only resized. `official` and `prepared` make the spectrogram as VGGSound's code does: sound repeated to fill
    10 s, `log(power + 1e-7)`, each clip with mean 0 and deviation 1.

    train, valid and test are the official lists: 3,339 / 402 / 402 clips in the order files of `features`. The text lists of the other
    layouts have one train clip less: that of the one event of zero length (all background in `features`). dev is cut from train: the
    clips of a tenth of its videos, by one permutation that no seed changes. 45 videos are listed more than once, with different events.

    splits: `official`, in which 8 videos are in train and test and 10 in train and valid; or `video-disjoint`, in which the clips of
        such videos are left out of train. Official and default: official.
    protocol: `agmbench` (default) has the splits described above. `paper` cuts as AGM does: train is the first 90 % of the list of train,
        valid and test are the same first 90 % of the list of test, so the best epoch is chosen ON THE TEST SET; dev is the last 10 % of
        both.
    frames: number of pictures per clip, evenly spread; layout `features` ignores it. OGM-GE's code for AVE and default 3. A prepared
        folder has as many as it was prepared with.
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
        """Turn each official clip into a spectrogram and `frames` pictures. `source` is AVE_Dataset or the folder that contains it."""
        raw = source / "AVE_Dataset" if (source / "AVE_Dataset").is_dir() else source
        Prepared().make(_official(raw, frames), raw, target, progress, jobs, frames)


# layouts of the clips


class Prepared(clips.Prepared):
    """The folder that `AVE.prepare` makes of the official clips, with arrays for each list. Its pictures are 224x224, and crops are taken
    from them."""

    dataset = "ave"
    title = "AVE"
    sound = SPECTROGRAM
    kind = "float16"
    classes = len(EVENTS)
    apart = True
    sampler = "agmbench.datasets.samples.ave:prepared"

    def read(self, root: Path, **options: Any) -> Held:
        return _of_clips(self.opened(root, frames=options["frames"]), options)

    def facts(self, some: Clips) -> dict[str, Any]:
        videos = {listed: [clip.name for clip in of] for listed, of in some.lists.items()}
        return {"videos": videos, "class_names": list(EVENTS)}

    def lists(self, made: prepared.PreparedFolder) -> clips.Lists:
        videos = made.manifest["facts"]["videos"]
        return {listed: self.paired(made, videos[listed], made.array(listed, "targets")) for listed in FILES}


class Clip(Layout):
    """One spectrogram and one folder of pictures per clip, the form that OGM-GE, PMR and others use. They are read when a batch needs
    them."""

    name = "clip"
    signs = ("Audio-1004-SE", "Image-*-FPS-SE", *(f"{name}Set.txt" for name in FILES.values()))
    sampler = "agmbench.datasets.samples.ave:clip"

    def read(self, root: Path, **options: Any) -> Held:
        lists = named(read_lists(root))
        pictures = min(root.glob("Image-*-FPS-SE"))  # if there are several, the folder with the fewest pictures per second
        sounds, folders = _places(lists, root / "Audio-1004-SE", ".pkl"), _places(lists, pictures, "")
        check_present(sorted({*sounds, *folders}))
        shown = [_spread(folder, options["frames"]) for folder in folders]
        media = {*sounds, *(path for paths in shown for path in paths)}
        seen = pictures_of(shown, load_images)
        return _of_clips(Clips(lists, Decoded(sounds, _load_spectrogram), seen, list_files(root), sorted(media)), options)


class Official(Layout):
    """AVE_Dataset.zip as it unpacks: clips and lists. A clip is decoded each time a batch needs it; `AVE.prepare` decodes it once."""

    name = "official"
    signs = ("AVE_Dataset/AVE", *(f"AVE_Dataset/{name}Set.txt" for name in FILES.values()))
    sampler = "agmbench.datasets.samples.ave:official"

    def read(self, root: Path, **options: Any) -> Held:
        return _of_clips(_official(root / "AVE_Dataset", options["frames"]), options)


AVE.layouts = (Features(), Prepared(), Clip(), Official())


def named(lists: Mapping[str, Sequence[Event]]) -> clips.Lists:
    """Each list of events as a list of clips."""
    return {listed: [clips.Clip(event.video, event.kind) for event in events] for listed, events in lists.items()}


def _places(lists: clips.Lists, folder: Path, suffix: str) -> list[Path]:
    return [folder / f"{clip.name}{suffix}" for some in lists.values() for clip in some]


def _official(raw: Path, frames: int) -> Clips:
    lists = named(read_lists(raw))
    videos = _places(lists, raw / "AVE", ".mp4")
    once = sorted(set(videos))
    check_present(once)
    pictures = pictures_of(videos, read_frames, times=frames)
    return Clips(lists, Decoded(videos, _spectrogram), pictures, list_files(raw), once)


def _of_clips(some: Clips, options: Mapping[str, Any]) -> Held:
    """The four splits of clips that have one class each."""
    videos = {listed: [clip.name for clip in of] for listed, of in some.lists.items()}
    rows, notes = places_of(videos, options)
    return some.held(rows_of(rows, some.rows), (1, *SPECTROGRAM), options["frames"], {"video": str}, notes)


def _spread(folder: Path, count: int) -> list[Path]:
    """Choose `count` of the pictures in a folder, evenly spread."""
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
