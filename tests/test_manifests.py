"""Tables of data sets that other papers use, each made from a tiny folder in the official layout."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import CommandLine
from PIL import Image

from agmbench.contracts import SPLITS, Tokens
from agmbench.datasets.samples.noise import write_clip
from agmbench.datasets.table import Table
from agmbench.datasets.tables.manifests import KNOWN, build


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo after each test what commands add to the registry by AGMBENCH_REGISTRY."""
    monkeypatch.setenv("AGMBENCH_REGISTRY", "")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    write_clip(path, np.random.default_rng(0))
    return path


def linked(path: Path, clip: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.hardlink_to(clip)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (200, 0, 0)).save(path)


def written(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def vggsound(root: Path, clip: Path) -> None:
    lines = []
    for number in range(24):
        lines.append(f'id{number:09},{number},"{("dog, barking", "rain")[number % 2]}",{"test" if number > 19 else "train"}')
        if number != 5:  # this video has disappeared from the internet
            linked(root / "video" / f"id{number:09}_{number:06}.mp4", clip)
    written(root / "vggsound.csv", *lines)


def balancedav(root: Path, clip: Path) -> None:
    database = {}
    for number in range(24):
        subset = ("training", "training", "training", "validation", "testing", "training")[number // 2 % 6]
        database[f"id{number}"] = {"label": ("singing", "bowling")[number % 2], "subset": subset}
        linked(root / "video" / f"id{number}.mp4", clip)
    written(root / "Imbalance_train_test_val.json", json.dumps({"labels": ["singing", "bowling"], "database": database}))


def ucf101(root: Path, clip: Path) -> None:
    names = [
        f"{kind}/v_{kind}_g{group:02}_c{take:02}" for kind in ("Surf", "YoYo") for group in range(1, 15) for take in (1, 2)
    ]
    for name in names:
        linked(root / "UCF-101" / f"{name}.avi", clip)
        picture(root / "tvl1_flow" / "u" / name.partition("/")[2] / "frame000001.jpg")
    written(
        root / "ucfTrainTestlist" / "trainlist01.txt",
        *(f"{name}.avi {1 + ('Yo' in name)}" for name in names if "_g01" not in name),
    )
    written(root / "ucfTrainTestlist" / "testlist01.txt", *(f"{name}.avi" for name in names if "_g01" in name))


def food101(root: Path, clip: Path) -> None:
    for split, count in (("train", 24), ("test", 4)):
        lines = []
        for number in range(count):
            dish = ("apple_pie", "pho")[number % 2]
            picture(root / "images" / split / dish / f"{dish}_{number}.jpg")
            lines.append(f'{dish}_{number}.jpg,"A {dish}, the best of {number}",{dish}')
        written(root / "texts" / f"{split}_titles.csv", *lines)


def hateful_memes(root: Path, clip: Path) -> None:
    for split, first, count in (("train", 0, 24), ("dev_seen", 100, 6), ("test_seen", 200, 6)):
        rows = [
            {"id": n, "img": f"img/{n:05}.png", "label": n % 2, "text": f"look at {n}"} for n in range(first, first + count)
        ]
        for row in rows:
            picture(root / str(row["img"]))
        written(root / f"{split}.jsonl", *(json.dumps(row) for row in rows))


def labelled(root: Path, clip: Path) -> None:
    lines = ["video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode"]
    for number in range(30):
        video, part = f"video_{number // 3:04}", f"{number % 3 + 1:04}"
        linked(root / "Raw" / video / f"{part}.mp4", clip)
        mode = "train" if number < 21 else "valid" if number < 25 else "test"
        lines.append(f"{video},{part},我 很 好 {number},{(number % 11 - 5) / 5},0,0,0,Neutral,{mode}")
    written(root / "label.csv", *lines)


def mustard(root: Path, clip: Path) -> None:
    found = {}
    for number in range(40):
        linked(root / "utterances_final" / f"1_{number}.mp4", clip)
        found[f"1_{number}"] = {
            "utterance": f"oh {number}",
            "speaker": f"S{number % 13}",
            "sarcasm": number % 2 == 0,
            "show": "BBT",
        }
    written(root / "data" / "sarcasm_data.json", json.dumps(found))


def iemocap(root: Path, clip: Path) -> None:
    for session in range(1, 6):
        for dialog in (f"Ses0{session}F_impro{take:02}" for take in range(1, 5)):
            at = root / f"Session{session}"
            names = [f"{dialog}_F{number:03}" for number in range(5)]
            emotions = ("ang", "hap", "exc", "xxx", "sad")
            times = [f"[{n}.0000 - {n + 1}.0000]" for n in range(5)]
            judged = [f"{t}\t{n}\t{e}\t[2.5, 2.5, 2.5]" for t, n, e in zip(times, names, emotions, strict=True)]
            written(
                at / "dialog" / "EmoEvaluation" / f"{dialog}.txt",
                "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]",
                *judged,
            )
            spoken = [f"{n} [00{k}.0000-00{k + 1}.0000]: Excuse me, {k}." for k, n in enumerate(names)]
            written(at / "dialog" / "transcriptions" / f"{dialog}.txt", *spoken)
            for name in names:
                path = at / "sentences" / "wav" / dialog / f"{name}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, np.sin(np.arange(800) / 7), 16_000)


LAYOUTS: dict[str, tuple[Callable[[Path, Path], None], list[str], set[str]]] = {
    "vggsound": (vggsound, ["dog, barking", "rain"], {"visual", "audio"}),
    "balancedav": (balancedav, ["singing", "bowling"], {"visual", "audio"}),
    "ucf101": (ucf101, ["Surf", "YoYo"], {"visual", "flow"}),
    "food101": (food101, ["apple_pie", "pho"], {"image", "text"}),
    "hateful-memes": (hateful_memes, ["hateful", "not hateful"], {"image", "text"}),
    "cmu-mosi": (labelled, ["label"], {"visual", "audio", "text"}),
    "ch-sims": (labelled, ["label"], {"visual", "audio", "text"}),
    "mustard": (mustard, ["not sarcastic", "sarcastic"], {"visual", "audio", "text"}),
    "iemocap": (iemocap, ["angry", "happy", "sad"], {"audio", "text"}),
}


def test_each_is_tried() -> None:
    assert LAYOUTS.keys() == KNOWN.keys()


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_manifest_of_the_official_files(name: str, line: CommandLine, clip: Path) -> None:
    write, classes, modalities = LAYOUTS[name]
    write(line.folder, clip)
    made = line("data", "manifest", name, "--from", ".")
    assert made.status == 0, made
    assert "wrong:" not in made.out
    settings = dict(build(name, line.folder).settings)
    data = Table(0, line.folder, file=f"{name}.table.csv", **settings)
    assert list(data.class_names) == classes
    assert set(data.shapes) == modalities
    for split in SPLITS:
        one = data.split(split).batch(torch.arange(2 if len(data.split(split)) > 1 else 1))
        assert all(
            torch.isfinite(part).all() for x in one.inputs.values() for part in (x.tensors() if isinstance(x, Tokens) else [x])
        )
    groups = data.held.groups.get("group")
    if groups:
        assert not set(groups["train"]) & set(groups["test"])
    if name == "vggsound":
        assert "1 of 24 samples of the lists have no files here" in made.out
    assert f"{name}.table.csv already exists" in line.refused("data", "manifest", name, "--from", ".")


def test_what_is_not_there_is_one_line(line: CommandLine) -> None:
    assert "has no vggsound.csv, video; vggsound needs vggsound.csv, video" in line.refused(
        "data", "manifest", "vggsound", "--from", "."
    )
    assert "no manifest is known for 'vgg'" in line.refused("data", "manifest", "vgg", "--from", ".")
    written(line.folder / "sarcasm_data.json", "{broken")
    assert "cannot be read as JSON" in line.refused("data", "manifest", "mustard", "--from", ".")
    written(line.folder / "sarcasm_data.json", '{"a": {"speaker": "x"}}')
    assert "the files of mustard are not as expected" in line.refused("data", "manifest", "mustard", "--from", ".")
    assert "309 sounds" in line("data", "manifest").out
