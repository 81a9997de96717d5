"""scripts/reproduce.py from its sweeps to its table, on a tiny AV-MNIST built from files in the official format."""

from pathlib import Path

import pytest
import reproduce
from reproduce import Size, Study

from agmbench.datasets.avmnist import AVMNIST
from agmbench.datasets.samples.avmnist import write_raw


@pytest.mark.long
def test_the_study_chooses_trains_and_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_raw(tmp_path / "raw")
    AVMNIST.prepare(tmp_path / "raw", tmp_path / "data" / "avmnist", lambda *_: None, 1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGMBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(reproduce, "SIZES", {"small": Size(trials=4, seeds=1)})
    monkeypatch.setattr(reproduce, "METHODS", {name: reproduce.METHODS[name] for name in ("joint", "agm", "ensemble")})
    study = Study("small")
    small = study.suite.scales["small"]
    short = {**small, "datasets": {"avmnist": {**small["datasets"]["avmnist"], "training.epochs": 1}}}
    study.suite = study.suite.model_copy(update={"scales": {"small": short}})
    study.folder.mkdir(parents=True)

    study.part("late")
    assert sorted(path.name for path in study.folder.iterdir()) == ["small-concat-agm.json", "small-concat-joint.json"]
    said = capsys.readouterr().out
    assert "trial 3: valid accuracy" in said
    study.part("late")
    assert "trial" not in capsys.readouterr().out, "what is done is not done again"

    study.part("table")
    late = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in late[:4]] == ["| late fusion", "| joint", "| agm", "| ensemble"]
    assert late[1].split(" | ")[1] == "1"
    assert late[4:] == ["| early fusion | n | Acc | Acc_audio | Acc_image | d_audio | d_image | Acc less joint | printed |"]
