"""scripts/reproduce.py and scripts/gains.py from their jobs to their tables, on a tiny AV-MNIST built from files in the official format."""

from pathlib import Path

import gains
import pytest
import reproduce
from gains import EPOCHS, Setting
from reproduce import Size, Study

from agmbench.datasets.avmnist import AVMNIST
from agmbench.datasets.samples.avmnist import write_raw


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Of four trials and one seed, in a working directory of its own."""
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
    return study


@pytest.mark.long
def test_the_study_chooses_trains_and_tells(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
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


@pytest.mark.long
def test_gains_are_compared_at_equal_settings(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = Setting("two epochs", {reproduce.RATE: 0.01, EPOCHS: 2}, {gains.ALPHA: 0.3})
    monkeypatch.setattr(gains, "SETTINGS", (longer,))
    joint, agm = (gains.spec(study, "early", longer, method, 1) for method in ("joint", "agm"))
    assert joint.training == agm.training
    assert (agm.training.lr, agm.training.epochs, agm.modulator.params["alpha"]) == (0.01, 2, 0.3)

    gains.run(study, 1)
    assert len(capsys.readouterr().out.splitlines()) == 4, "no unimodal model is trained beside them"
    gains.run(study, 1)
    assert not capsys.readouterr().out, "what is done is not done again"
    head, _, *rows = gains.rows(study, 2)
    assert [row.split(" | ")[:3] for row in rows] == [["| late", "two epochs", "1"], ["| early", "two epochs", "1"]]
    early = dict(zip(head.strip("| ").split(" | ")[3:6], rows[1].split(" | ")[3:6], strict=True))
    assert float(early["AGM - joint"]) == pytest.approx(float(early["AGM"]) - float(early["joint"]), abs=0.011)
