"""A user's own tables, from their files to a table of results in four commands; also with empty cells, and with reading ahead."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import PATIENCE, CommandLine, Result
from PIL import Image

from agmbench.datasets.avmnist_mini import PACKED

COUNT = 240
WORDS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SMALL = ("--set", "training.epochs=2", "--seeds", "1")


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo after each test what commands add to the registry by AGMBENCH_REGISTRY."""
    monkeypatch.setenv("AGMBENCH_REGISTRY", "")


def digits(count: int = COUNT) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pictures `[N, 28, 28]` of bytes, MFCCs `[N, 13]`, classes and speakers, with equally many samples of each of four digits."""
    with np.load(PACKED, allow_pickle=False) as file:
        images, written = file["images"].reshape(-1, 28, 28), file["image_digit"]
        ends, spoken, speaker, frames = (
            np.cumsum(file["length"]),
            file["digit"],
            file["speaker"],
            file["mfcc"].astype(np.float32),
        )
    rows = [np.flatnonzero(written == digit)[: count // 4] for digit in range(4)]
    heard = [np.flatnonzero(spoken == digit)[:: 300 // (count // 4)][: count // 4] for digit in range(4)]
    one, other = np.concatenate(rows), np.concatenate(heard)
    mean = np.stack([frames[end - 6 : end].mean(axis=0) for end in ends[other]])
    return images[one], mean, written[one], speaker[other]


def pictures_sounds_and_text(folder: Path) -> Path:
    """Write a csv with paths of pictures, paths of sounds, and text; a few cells are empty."""
    images, _, classes, speaker = digits()
    (folder / "png").mkdir()
    (folder / "wav").mkdir()
    draw, times = np.random.default_rng(0), np.arange(3200) / 16_000
    with (folder / "digits.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image_path", "audio_path", "description", "speaker", "digit"])
        for row, (image, digit, who) in enumerate(zip(images, classes, speaker, strict=True)):
            Image.fromarray(image).save(folder / "png" / f"{row}.png")
            tone = 0.3 * np.sin(2 * np.pi * (300 + 200 * int(digit)) * times) + draw.normal(0, 0.2, len(times))
            soundfile.write(folder / "wav" / f"{row}.wav", tone, 16_000)
            said = f"this is {WORDS[digit] if row % 3 else 'something'} number {row}"
            sound = "" if row % 17 == 3 else f"wav/{row}.wav"
            table.writerow([f"png/{row}.png", sound, said, who, WORDS[digit]])
    return folder / "digits.csv"


def features(folder: Path) -> tuple[Path, ...]:
    """Write features of three modalities as .npy, and a csv of labels."""
    images, mean, classes, speaker = digits()
    np.save(folder / "image.npy", images.reshape(COUNT, -1).astype(np.float32) / 255)
    np.save(folder / "audio.npy", mean)
    np.save(
        folder / "both.npy", np.concatenate([mean[:, :4], images[:, ::4, ::4].reshape(COUNT, -1)], axis=1).astype(np.float32)
    )
    pd.DataFrame({"label": classes, "speaker": speaker}).to_csv(folder / "labels.csv", index=False)
    return tuple(folder / f"{name}.npy" for name in ("image", "audio", "both"))


def numbers(folder: Path) -> Path:
    """Write a parquet with numeric columns."""
    images, mean, classes, _ = digits()
    columns = {f"mfcc_{place}": mean[:, place] for place in range(13)}
    columns |= {f"pixel_{place}": images.reshape(COUNT, -1)[:, 28 * place + 14].astype(float) for place in range(28)}
    pd.DataFrame({**columns, "target": classes}).to_parquet(folder / "digits.parquet")
    return folder / "digits.parquet"


def finished(line: CommandLine, *words: str) -> Result:
    """Run a command in a separate process, as a user would, and wait for it however busy the machine is."""
    process = line.process(*words)
    out, err = process.communicate(timeout=PATIENCE)
    return Result(process.returncode, out, err)


def compared(line: CommandLine, name: str, *describe: str) -> None:
    """Describe and verify a table, train the four methods of the suite in its entry, and compare them."""
    for words in (
        ("data", "describe", *describe),
        ("data", "verify", f"{name}.yaml"),
        ("suite", "run", f"{name}.yaml", *SMALL),
        ("compare", "--dataset", f"{name}.yaml"),
    ):
        result = finished(line, *words)
        assert result.status == 0, result
    for method in ("joint", "ogm-ge", "agm", "unimodal"):
        assert any(row.strip().startswith(f"{method} ") for row in result.out.splitlines()), result.out


@pytest.mark.long
def test_a_csv_of_pictures_sounds_and_text(line: CommandLine) -> None:
    pictures_sounds_and_text(line.folder)
    compared(line, "digits", "digits.csv", "--label", "digit")
    text = (line.folder / "digits.yaml").read_text()
    for part in ("kind: picture", "kind: sound", "kind: text", "group: speaker", "missing: absent"):
        assert part in text
    read_ahead = line(
        "run", "--dataset", "digits.yaml", "-m", "joint", "--no-strength", "--epochs", "1", "--workers", "1", "--seed", "5"
    )
    assert read_ahead.status == 0, read_ahead
    by_itself = line(
        "run", "--dataset", "digits.yaml", "-m", "joint", "--no-strength", "--epochs", "1", "--seed", "5", "--force"
    )
    assert by_itself.out == read_ahead.out


@pytest.mark.long
def test_a_million_rows_are_described(line: CommandLine) -> None:
    count = 1_000_000
    draw, rows = np.random.default_rng(0), np.arange(count)
    (line.folder / "png").mkdir()
    for number in range(100):
        Image.new("L", (8, 8), number).save(line.folder / "png" / f"{number}.png")
    columns = {"image": [f"png/{row % 100}.png" for row in range(count)], "subject": rows // 50, "label": rows % 3}
    columns |= {f"x_{place}": draw.normal(size=count).round(3) for place in range(2)}
    columns["image"][777_775] = "png/none.png"
    pd.DataFrame(columns).to_csv(line.folder / "big.csv", index=False)
    told = line("data", "describe", "big.csv")
    assert told.status == 0, told
    assert "big.csv: 1,000,000 rows, 5 columns" in told.out
    assert "wrong: " in told.out
    assert "row 777777, column 'image': there is no 'png/none.png'" in told.out


@pytest.mark.long
def test_features_of_three_modalities(line: CommandLine) -> None:
    arrays = [word for path in features(line.folder) for word in ("--array", f"{path.stem}={path.name}")]
    compared(line, "labels", "labels.csv", *arrays)


@pytest.mark.long
def test_a_parquet_of_numbers(line: CommandLine) -> None:
    numbers(line.folder)
    compared(line, "digits", "digits.parquet")


@pytest.mark.long
@pytest.mark.parametrize("mute", ["zeros", "mean", "random"])
def test_empty_cells_are_trained_on_in_every_way_of_muting(line: CommandLine, mute: str) -> None:
    """It also checks that a run that is made twice gives the same numbers."""
    numbers(line.folder)
    frame = pd.read_parquet(line.folder / "digits.parquet")
    frame.loc[frame.index % 3 == 0, [name for name in frame if name.startswith("mfcc")]] = np.nan
    frame.to_parquet(line.folder / "digits.parquet")
    assert line("data", "describe", "digits.parquet").status == 0
    words = ("run", "--dataset", "digits.yaml", "-m", "agm", "--epochs", "2", "--set", f"mute={mute}")
    first, again = line(*words), line(*words, "--force")
    assert first.status == 0, first
    assert first.out == again.out
