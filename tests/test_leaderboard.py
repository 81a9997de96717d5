"""Folders of results: they are exported from a real store, imported by others, and verified by running a job again."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import CommandLine, files

from agmbench.leaderboard.folder import FILES, read
from agmbench.trackers.mlflow import MlflowTracker


@pytest.fixture(scope="module")
def exported(finished: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "theirs"
    result = finished("export", str(folder))
    assert result.status == 0, result
    assert "4 results; sha256 of manifest.json: " in result.out
    return folder


@pytest.fixture
def theirs(exported: Path, tmp_path: Path) -> Path:
    """A copy of the results beside the folder of `line`, for tests that damage it."""
    return Path(shutil.copytree(exported, tmp_path.parent / f"{tmp_path.name}-given" / "theirs"))


def digest_of(folder: Path, name: str) -> str:
    (found,) = [path.parent.name for path in folder.glob("*/run.json") if json.loads(path.read_text())["name"] == name]
    return found


def sealed(folder: Path) -> None:
    """Write the present sha256 of the files into the manifest, as somebody who manipulates a folder could do."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in manifest["files"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_exporting_twice_gives_the_same_bytes(finished: CommandLine, exported: Path, tmp_path: Path) -> None:
    for _ in range(2):  # the second export replaces the first
        assert finished("export", str(tmp_path / "again")).status == 0
        left, right = ({path.relative_to(of): path for path in of.rglob("*.*")} for of in (exported, tmp_path / "again"))
        assert {name: path.read_bytes() for name, path in left.items()} == {
            name: path.read_bytes() for name, path in right.items()
        }
    assert [path.name for path in tmp_path.iterdir()] == ["again"], "nothing is left beside it"


def test_a_result_says_what_the_run_of_the_store_says(finished: CommandLine, exported: Path) -> None:
    tracker = MlflowTracker(finished.folder / "runs")
    folder = read(exported, "theirs")
    assert len(folder.results) == 4
    for record in folder.records():
        ours = tracker.find(record.digest)
        assert ours is not None
        for name in ("name", "cell", "spec", "modalities", "concept", "task", "selected", "fingerprint", "components"):
            assert getattr(record, name) == getattr(ours, name), name
        assert record.measurements == ours.measurements
        tested = {name: value for name, value in ours.metrics.items() if name.startswith(("test/", "cost/"))}
        assert tested.items() <= record.metrics.items()
        curve = dict(tracker.history(ours, ["valid/accuracy"])["valid/accuracy"])
        assert record.metrics["valid/accuracy"] == curve[int(ours.metrics["best/epoch"])]
        assert record.tags["platform"] == ours.tags["platform"]
        assert "host" not in record.tags


def test_compare_reads_a_folder_as_it_reads_the_store(finished: CommandLine, exported: Path, line: CommandLine) -> None:
    form = ("compare", "--coalitions", "--cost", "--format", "json")
    ours, read_ = json.loads(finished(*form).out), json.loads(line(*form, "--from", str(exported)).out)
    assert files(line.folder) == []
    (table,), (same,) = ours["tables"], read_["tables"]
    assert same["notes"].pop() == "runs made by others, from theirs"
    for row in (*table["rows"], *same["rows"]):
        del row["runs"]
    assert same == table
    assert read_["origin"]["store"] == "the folder theirs"


def test_several_folders_stand_side_by_side(exported: Path, tmp_path: Path, line: CommandLine) -> None:
    other = shutil.copytree(exported, tmp_path / "mine")
    result = line("compare", "--from", str(exported), "--from", str(other), "--format", "json", "--baseline", "joint")
    (table,) = json.loads(result.out)["tables"]
    assert [row["method"] for row in table["rows"]] == [
        "concept",
        "joint (mine)",
        "joint (theirs)",
        "agm (mine)",
        "agm (theirs)",
    ]
    assert "each method is compared with the baseline of its own source" in table["notes"][-1]
    twin = shutil.copytree(exported, tmp_path / "elsewhere" / "mine")
    result = line("compare", "--from", str(twin), "--from", str(other), "--format", "csv")
    assert "agm (elsewhere/mine)" in result.out


def test_imported_runs_are_shown_and_are_no_jobs_of_this_store(theirs: Path, line: CommandLine) -> None:
    for path in theirs.glob("*/run.json"):
        (path.parent / "secret").symlink_to("/etc/passwd")
    result = line("import", str(theirs), "--name", "lab b")
    assert result.status == 0, result
    assert not [path for path in files(line.folder) if path.name == "secret"], "what the manifest does not list is left"
    assert "imported 4 results" in result.out
    assert "4 were imported before" in line("import", str(theirs), "--name", "lab b").out
    shown = line("compare")
    assert "runs made by others, from lab b" in shown.out
    tracker, digest = MlflowTracker(line.folder / "runs"), digest_of(theirs, "agm seed 999 on synthetic concat")
    assert len(tracker.imported()) == 4
    assert tracker.imported("synthetic")[0].source == "lab b"
    assert tracker.records() == []
    assert tracker.find(digest) is None
    assert tracker.unsettled() == set()
    assert "no finished runs" in line("export", "out").err
    dry = line("run", "--job", str(theirs / digest / "job.yaml"), "--dry-run").out
    assert f"digest {digest}, to be trained" in dry

    trained = line("run", "--job", str(theirs / digest / "job.yaml"), "--no-strength")
    assert trained.status == 0
    assert "is done already" not in trained.err
    rows = {row["method"]: row for row in json.loads(line("compare", "--format", "json").out)["tables"][0]["rows"]}
    assert rows["agm"]["values"]["accuracy"] == rows["agm (lab b)"]["values"]["accuracy"]

    metrics = theirs / digest / "metrics.json"
    metrics.write_text(
        metrics.read_text().replace('"best_epoch": 1', '"best_epoch": 0').replace('"best_epoch": null', '"best_epoch": 0')
    )
    path = theirs / digest / "environment.json"
    path.write_text(path.read_text().replace('"cpu": "', '"cpu": "another '))
    sealed(theirs)
    assert "import this one under another --name" in line.refused("import", str(theirs), "--name", "lab b")


def test_a_site_is_one_page_without_foreign_markup(theirs: Path, exported: Path, line: CommandLine) -> None:
    path = theirs / digest_of(theirs, "agm seed 999 on synthetic concat") / "job.yaml"
    job = yaml.safe_load(path.read_text())
    job["modulator"]["name"] = "<script>alert(1)</script>"
    path.write_text(yaml.safe_dump(job))
    sealed(theirs)
    named = theirs.rename(theirs.with_name("spoilt"))
    result = line("site", str(exported), str(named), "--output", "site")
    assert result.status == 0, result
    page = (line.folder / "site" / "index.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; (spoilt)" in page
    assert "agm (theirs)" in page
    assert "4 results; sha256 of manifest.json" in page


# verify


def test_a_result_is_reproduced_bit_by_bit(exported: Path, line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # no store is needed, so this address is never used
    digest = digest_of(exported, "agm seed 999 on synthetic concat")
    result = line("verify-result", str(exported / digest / "job.yaml"), "-q")
    assert result.status == 0, result
    assert "environment: the same as that of the result" in result.out
    assert "the answers are equal, the logits are equal" in result.out
    assert files(line.folder) == [], "the store is not touched"


@pytest.mark.long
def test_numbers_that_are_not_those_of_the_job_are_found(theirs: Path, line: CommandLine) -> None:
    digest = digest_of(theirs, "concept of m0 seed 999 on synthetic concat")
    path = theirs / digest / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["test"]["accuracy"] += 0.005
    path.write_text(json.dumps(metrics))
    hashes = theirs / digest / "predictions.sha256"
    hashes.write_text(hashes.read_text().replace(hashes.read_text()[:8], "01234567"))
    sealed(theirs)
    result = line("verify-result", str(theirs / digest), "-q")
    assert result.status == 1
    assert "they should be equal" in result.out
    assert "the answers differ, the logits are equal" in result.out
    assert "is not reproduced: 1 of " in result.err

    path = theirs / digest / "environment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "cpu": "another"}))
    sealed(theirs)
    result = line("verify-result", str(theirs / digest), "-q")
    assert result.status == 0, "in another environment it is within the tolerance"
    assert "environment: differs from that of the result: cpu another and " in result.out
    assert line("verify-result", str(theirs / digest), "-q", "--tolerance", "0.001").status == 1


@pytest.mark.bad_input
def test_a_job_that_is_another_one_here_is_not_run(theirs: Path, line: CommandLine) -> None:
    digest = digest_of(theirs, "agm seed 999 on synthetic concat")
    path = theirs / digest / "run.json"
    run = json.loads(path.read_text())
    run["components"]["modulator/agm"] = "77"
    path.write_text(json.dumps(run))
    job = theirs / digest / "job.yaml"
    job.write_text(job.read_text().replace("seed: 999", "seed: 998"))
    sealed(theirs)
    assert "modulator/agm is 77 there and " in line.refused("verify-result", str(theirs / digest), "-q")


# manipulated folders


def changed(path: str, **values: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (one,) = [*folder.glob(f"{digest_of(folder, 'agm seed 999 on synthetic concat')}/{path}")]
        one.write_text(json.dumps({**json.loads(one.read_text()), **values}))
        sealed(folder)

    return spoil


def written(path: str, text: str | bytes) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        one = folder / digest_of(folder, "agm seed 999 on synthetic concat") / path
        one.write_bytes(text if isinstance(text, bytes) else text.encode())
        sealed(folder)

    return spoil


def job(**values: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        one = folder / digest_of(folder, "agm seed 999 on synthetic concat") / "job.yaml"
        one.write_text(yaml.safe_dump({**yaml.safe_load(one.read_text()), **values}))
        sealed(folder)

    return spoil


def manifest(**values: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "manifest.json"
        tree = json.loads(path.read_text())
        path.write_text(json.dumps({**tree, "files": {**tree["files"], **values.pop("files", {})}, **values}))

    return spoil


def tampered(folder: Path) -> None:
    path = folder / digest_of(folder, "agm seed 999 on synthetic concat") / "metrics.json"
    path.write_text(path.read_text().replace('"accuracy": 0', '"accuracy": 1'))


def linked(folder: Path) -> None:
    path = next(folder.glob("*/run.json"))
    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")


def linked_folder(folder: Path) -> None:
    path = next(folder.glob("*/run.json")).parent
    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")


def a_pipe(folder: Path) -> None:
    path = next(folder.glob("*/run.json"))
    path.unlink()
    os.mkfifo(path)


SHA = "0" * 64
BOMB = "b0: &b0 [1, 1]\n" + "".join(f"b{n}: &b{n} [*b{n - 1}, *b{n - 1}]\n" for n in range(1, 30))
SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "tampered": (tampered, "metrics.json is not the file that was exported: its sha256 begins with"),
    "lost": (lambda folder: next(folder.glob("*/run.json")).unlink(), "run.json cannot be read (No such file"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "has no manifest.json, so it is not a folder of results"),
    "link": (linked, "run.json is a symbolic link; expected a regular file"),
    "linked folder": (linked_folder, "is a symbolic link; expected a folder"),
    "pipe": (a_pipe, "run.json is not a regular file"),
    "traversal": (manifest(files={"../../secret": SHA}), "lists '../../secret'; expected DIGEST/FILE"),
    "inner traversal": (manifest(files={"0123456789abcdef/../x": SHA}), "expected DIGEST/FILE"),
    "absolute": (manifest(files={"/etc/passwd": SHA}), "lists '/etc/passwd'; expected DIGEST/FILE"),
    "half a result": (manifest(files={"0123456789abcdef/job.yaml": SHA}), "does not list 0123456789abcdef/run.json"),
    "newer": (manifest(format=2), "has format 2, and this agmbench reads up to 1; install a newer one"),
    "format": (manifest(format="x"), "'format' is 'x'"),
    "no sha": (manifest(files={"0123456789abcdef/job.yaml": "x"}), "manifest.json: 'files.0123456789abcdef/job.yaml' is 'x'"),
    "manifest": (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json is not JSON as it should be"),
    "a list": (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json should be a mapping"),
    "broken": (written("metrics.json", '{"test": '), "metrics.json is not JSON as it should be"),
    "twice": (written("metrics.json", '{"test": {}, "test": {}}'), "a key is given twice"),
    "not finite": (written("metrics.json", '{"test": {"accuracy": NaN}}'), "NaN is not a finite number"),
    "too large a number": (written("metrics.json", '{"test": {"accuracy": 1e999}}'), "1e999 is not a finite number"),
    "deep": (written("metrics.json", "[" * 100_000), "it nests too deeply"),
    "rather deep": (written("metrics.json", '{"a": ' + "[" * 60 + "]" * 60 + "}"), "nests lists and mappings more than 20 deep"),
    "large": (written("metrics.json", " " * (2**20 + 1)), "metrics.json is larger than 1,048,576 bytes"),
    "no text": (written("run.json", b"\xff\xfe"), "run.json is not UTF-8 text"),
    "unknown key": (changed("metrics.json", tset={}), "metrics.json: unknown key 'tset'"),
    "metric": (changed("metrics.json", test={"../x": 1}), "string should match pattern"),
    "setting": (job(modulator={"name": "agm", "params": {"a//b": 1}}), "'modulator.a//b' cannot be the name of a setting"),
    "text": (changed("metrics.json", test={"accuracy": "good"}), "metrics.json: 'test.accuracy' is 'good'"),
    "escape": (changed("run.json", name="a\x1b[2Jb"), "should be one printable line"),
    "line": (changed("run.json", departures={"training.lr": "1\njoint 99"}), "should be one printable line"),
    "long": (changed("run.json", name="x" * 3000), "should be one printable line of at most 2000 characters"),
    "other digest": (changed("run.json", digest="0" * 16), "is of job 0000000000000000, and its folder is called"),
    "cell": (changed("run.json", cell="../x"), "run.json: 'cell' is '../x'"),
    "hash": (written("predictions.sha256", "x  answers\n"), "predictions.sha256: 'answers' is 'x': string should match"),
    "not yaml": (written("job.yaml", "a: ["), "job.yaml is not YAML: did not find"),
    "aliases": (written("job.yaml", BOMB), "the text has more than 100,000 values"),
    "python": (written("job.yaml", "!!python/object/apply:os.system ['true']"), "is not YAML"),
    "no job": (written("job.yaml", "[]"), "job.yaml is not a job"),
    "dataset": (job(dataset={"name": "../x", "params": {}}), "a name should be made of letters"),
    "modality": (job(encoders={"a/b": {"name": "mlp"}}), "a modality is called 'a/b'"),
    "modalities": (job(encoders={f"m{n}": {"name": "mlp"} for n in range(2000)}), "names 2000 modalities; at most"),
    "any encoder": (job(encoders={"*": {"name": "mlp"}}), "should name an encoder for each modality"),
    "parameter": (job(modulator={"name": "agm", "params": {"x": "a\x1bb"}}), "should be one printable line"),
}  # fmt: skip


@pytest.mark.bad_input
@pytest.mark.parametrize("name", SPOILT)
def test_what_is_spoilt_is_one_line(name: str, theirs: Path, line: CommandLine) -> None:
    spoil, said = SPOILT[name]
    spoil(theirs)
    assert said in line.refused("compare", "--from", str(theirs))
    assert said in line.refused("import", str(theirs))
    assert said in line.refused("site", str(theirs), "--output", "site")


@pytest.mark.bad_input
def test_words_that_cannot_be_are_one_line(theirs: Path, exported: Path, line: CommandLine) -> None:
    digest = digest_of(theirs, "agm seed 999 on synthetic concat")
    assert "has no manifest.json" in line.refused("compare", "--from", "nowhere")
    assert "is given twice" in line.refused("compare", "--from", str(theirs), "--from", str(theirs))
    assert "printable text without quotes" in line.refused("import", str(theirs), "--name", "a'b")
    assert "has no manifest.json" in line.refused("verify-result", str(theirs))
    assert "expected RESULTS/DIGEST" in line.refused("verify-result", str(theirs / "0123456789abcdef"))
    assert "--baseline agn: there is no such row" in line.refused("compare", "--from", str(theirs), "--baseline", "agn")
    (theirs / digest / "metrics.json").write_text("{}")
    assert "is not the file that was exported" in line.refused("verify-result", str(theirs / digest))
    assert "no finished runs in" in line.refused("export", "out")


@pytest.mark.bad_input
def test_a_folder_of_something_else_is_not_replaced(finished: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("precious")
    assert "holds README.md, which agmbench export did not write" in finished.refused("export", str(tmp_path / "mine"))
    assert (tmp_path / "mine" / "README.md").read_text() == "precious"
    assert "holds the working directory" in finished.refused("export", ".")
    assert "did you mean 'joint'" in finished.refused("export", str(tmp_path / "out"), "-m", "join")
    assert "name the suite with --suite" in finished.refused("export", str(tmp_path / "out"), "--scale", "x")
    assert "no run is left" in finished.refused("export", str(tmp_path / "out"), "--suite", "mini")
    assert "no runs with this --fusion and --seed" in finished.refused("export", str(tmp_path / "out"), "--seed", "5")


def test_filters_keep_what_they_name(finished: CommandLine, tmp_path: Path) -> None:
    assert (
        finished("export", str(tmp_path / "out"), "-d", "synthetic", "-m", "AGM", "-f", "concat", "--seed", "999").status == 0
    )
    names = sorted(record.name for record in read(tmp_path / "out", "x").records())
    assert names == [f"{what} seed 999 on synthetic concat" for what in ("agm", "concept of m0", "concept of m1")]
    assert finished("export", str(tmp_path / "both"), "-m", "joint,AGM", "--since", "2020-01-01").status == 0
    assert {"agm", "joint"} <= {record.name.split()[0] for record in read(tmp_path / "both", "x").records()}
    assert "no runs began in this time" in finished.refused("export", str(tmp_path / "none"), "--until", "2020-01-01")
    assert sorted(
        path.name for path in next(path for path in (tmp_path / "out").iterdir() if path.is_dir()).iterdir()
    ) == sorted(FILES)
