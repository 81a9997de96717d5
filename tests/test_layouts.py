"""Every layout of every data set on disk: a random pack passes `verify`, and `joint` and `agm` finish a run on it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path

import pytest
from conftest import PATIENCE, CommandLine

from agmbench import registry
from agmbench.datasets.files import FileDataset
from agmbench.records import Record
from agmbench.registry import Entry
from agmbench.trackers.mlflow import MlflowTracker

ENTRIES = [entry for entry in registry.load().entries("dataset") if issubclass(entry.load(), FileDataset)]
LAYOUTS = [(entry, layout.name) for entry in ENTRIES for layout in entry.load().layouts]

SMALL = ("--epochs", "1", "--no-strength", "--limit", "16", "--set", "training.batch_size=8")


def tiny(encoder: str, *modalities: str) -> tuple[str, ...]:
    return tuple(word for m in modalities for word in ("-e", f"{m}={encoder}", "--set", f"encoder.{m}.hidden=2"))


CLIPS = tiny("mlp", "audio", "visual")
HYBRID = ("--set", "fusion.width=8", "--set", "fusion.heads=2", "--set", "fusion.layers=1", "--set", "fusion.feed_forward=8")
WORDS = ("--set", "encoder.text.vocabulary=30", "--set", "encoder.text.embedding=8", "--set", "encoder.*.width=8")
TRANSFORMER = ("--set", "encoder.*.layers=1", "--set", "encoder.*.heads=2", "--set", "encoder.*.width=8")
NETWORKS: Mapping[str, tuple[str, ...]] = {
    "ave": (*CLIPS, "--fusion", "concat"),
    "ave features": (
        "--set",
        "encoder.visual.attention=8",
        "--set",
        "encoder.visual.width=4",
        "--set",
        "encoder.audio.width=4",
    ),
    "avmnist": tiny("mlp", "audio", "image"),
    "cremad": CLIPS,
    "kinetics-sound": CLIPS,
    "mosei": (*HYBRID, *WORDS),
    "table": (),
    "urfunny": TRANSFORMER,
    "urfunny clips": CLIPS,
    "urfunny prepared-clips": CLIPS,
}


def network(entry: Entry, layout: str) -> tuple[str, ...]:
    return NETWORKS.get(f"{entry.name} {layout}", NETWORKS[entry.name])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """The command line with one store for all jobs."""
    return CommandLine(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("modulator", ["joint", pytest.param("agm", marks=pytest.mark.long)])
@pytest.mark.parametrize(("entry", "layout"), LAYOUTS, ids=[f"{entry.name}-{layout}" for entry, layout in LAYOUTS])
def test_a_pack_is_told_apart_sound_and_trained_on(
    entry: Entry, layout: str, modulator: str, store: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGMBENCH_DATA", str(tmp_path))
    assert store("data", "sample", entry.name, "--layout", layout).status == 0
    assert f"{layout} in {tmp_path}" in store("data", "status", entry.name).out
    sound = store("data", "verify", entry.name)
    assert sound.status == 0, sound.err
    before = len(finished(store, entry))
    result = store("run", "-d", entry.name, "-m", modulator, *SMALL, *network(entry, layout))
    assert result.status == 0, result.err
    made = finished(store, entry)
    assert len(made) == before + 1
    assert all(record.sample for record in made)


def finished(store: CommandLine, entry: Entry) -> list[Record]:
    with chdir(store.folder):
        return [record for record in MlflowTracker().records(entry.name) if record.status == "FINISHED"]


@pytest.mark.long
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_process_of_its_own_trains_on_each_data_set(
    entry: Entry, line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data are named by `--data-root`, which has priority over AGMBENCH_DATA."""
    monkeypatch.setenv("AGMBENCH_DATA", str(tmp_path / "data"))
    assert line("data", "sample", entry.name).status == 0
    words = ("run", "-d", entry.name, "-m", "joint", *SMALL, *network(entry, entry.load().layouts[0].name))
    result = line.finish(*words, "--data-root", str(tmp_path / "data"), env={"AGMBENCH_DATA": str(tmp_path / "none")})
    assert result.status == 0, result.err


# run in a separate process, because opening a pipe that nobody writes to waits forever
WITH_PIPES = """
import json, os, sys
from collections import defaultdict
from pathlib import Path
from agmbench import registry
from agmbench.contracts import Unsuitable
from agmbench.datasets.files import FileDataset

for entry in registry.load().entries("dataset"):
    target = entry.load()
    for layout in target.layouts if issubclass(target, FileDataset) else ():
        root = Path(os.environ["AGMBENCH_DATA"]) / f"{entry.name} {layout.name}"
        os.environ["AGMBENCH_DATA"] = str(root)
        root.mkdir()
        layout.write_sample(root)
        target(0)
        kinds = defaultdict(list)
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            alike = sum(other.suffix == path.suffix for other in path.parent.iterdir())
            kinds[path.relative_to(root).parts[0] + path.suffix if alike > 2 and path.suffix != ".npy" else path].append(path)
        for paths in kinds.values():
            kept = [path.rename(path.with_name(f"{path.name}.kept")) for path in paths]
            for path in paths:
                os.mkfifo(path)
            try:
                target(0)
                said = "opened"
            except Unsuitable as error:
                said = str(error)
            print(json.dumps([entry.name, layout.name, paths[0].name if len(paths) == 1 else paths[0].suffix, said]), flush=True)
            for before, path in zip(kept, paths):
                before.replace(path)
        os.environ["AGMBENCH_DATA"] = str(root.parent)
"""


def test_a_pipe_in_place_of_any_file_is_refused_at_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITH_PIPES],
        env={**os.environ, "AGMBENCH_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    tried = [json.loads(said) for said in done.stdout.splitlines()]
    assert {(name, layout) for name, layout, _, _ in tried} == {(entry.name, layout) for entry, layout in LAYOUTS}
    for name, layout, file, said in tried:
        if file.endswith("_emotion.p"):  # this file belongs to another task, and is not read
            assert said == "opened"
            continue
        assert f"{file} cannot be read: it is a pipe; expected a file" in said, (name, layout, file, said)
