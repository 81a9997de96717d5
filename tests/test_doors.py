"""Installed packages and registry files of a user become entries. If something is wrong with them, other entries still work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CommandLine

import agmbench.registry as registry
from agmbench.errors import AgmbenchError

METRIC = "def mine(logits, targets):\n    return 0.5\n"
RAISES = "raise RuntimeError('imported')\n"


def install(site: Path, name: str, points: str, details: str | None = None, code: str = RAISES, version: str = "1.2") -> None:
    """Write a distribution as pip would install it into a folder of the path: its metadata, and a package of the same name."""
    module = name.replace("-", "_")
    info = site / f"{module}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: what {name} does\n")
    (info / "entry_points.txt").write_text(points)
    (site / module).mkdir()
    (site / module / "__init__.py").write_text(code)
    if details is not None:
        (site / module / "registry.yaml").write_text(details)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is on the path for imports."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


def refused(kind: str, name: str) -> str:
    with pytest.raises(AgmbenchError) as error:
        registry.load().get(kind, name)
    return str(error.value)


# entry points


def test_an_entry_point_is_an_entry_with_the_facts_of_its_package(site: Path) -> None:
    install(site, "half-metric", "[agmbench.metric]\nhalf = half_metric:mine\n", code=METRIC)
    found = registry.load().get("metric", "half")
    assert (found.origin, found.version, found.summary) == ("package half-metric 1.2", "1.2", "what half-metric does")
    assert found.place == "entry point 'half' of half-metric"
    assert found.load()(None, None) == 0.5


def test_a_package_states_the_details_of_its_entries_beside_its_code(site: Path) -> None:
    points = "[console_scripts]\nx = y:z\n[agmbench.metric]\nhalf = detailed:mine\nrest = detailed:mine [extra]\n"
    details = "metrics:\n  half: {summary: half of it, aliases: [hf], version: 7}\nsuites:\n  small: {jobs: []}\n"
    install(site, "detailed", points, details)
    found = registry.load()
    half, rest = found.get("metric", "hf"), found.get("metric", "rest")
    assert (half.name, half.summary, half.version, half.target) == ("half", "half of it", "7", "detailed:mine")
    assert half.place == "detailed: detailed/registry.yaml:2"
    assert (rest.summary, rest.version, rest.target) == ("what detailed does", "1.2", "detailed:mine")
    assert found.suite("small").place == "detailed: detailed/registry.yaml:4"
    assert "detailed" not in sys.modules


@pytest.mark.parametrize(
    ("points", "details", "reason"),
    [
        ("x = wrong:", None, "entry point 'x' of wrong: metric 'x' needs a target 'module:attribute'; found 'wrong:'"),
        ("x = wrong", None, "needs a target 'module:attribute'; found 'wrong'"),
        ("x = gone.code:X", None, "metric 'x' (entry point 'x' of wrong) cannot be used: there is no module 'gone'; install"),
        ("y = wrong:X", "metrics:\n  x: {}\n", "wrong: wrong/registry.yaml:2: metric 'x' has no entry point; its package"),
        (
            "x = wrong:X",
            "metrics:\n  x: {target: a:b}\n",
            "wrong/registry.yaml:2: metric 'x' names a target, but its entry point",
        ),
        (
            "x = wrong:X",
            "metrics:\n  x: {sumary: a}\n",
            "registry.yaml:2: metric 'x' has an unknown key 'sumary': did you mean",
        ),
        ("x = wrong:X", "metrics: {\n", "cannot be used: wrong: wrong/registry.yaml:2 is not YAML: "),
    ],
)
def test_what_is_wrong_with_a_package_is_told_and_is_its_own(points: str, details: str | None, reason: str, site: Path) -> None:
    install(site, "wrong", f"[agmbench.metric]\n{points}\n", details)
    assert reason in refused("metric", "x")
    assert any(reason in broken.reason for broken in registry.load().broken)
    assert registry.load().get("metric", "accuracy")


def test_metadata_that_cannot_be_read_breaks_nothing_else(site: Path) -> None:
    install(site, "mad", "[agmbench.metric]\nno equals sign\n")
    reason = f"the entry points of a package in {site} cannot be read (TypeError"
    assert reason in refused("metric", "mine")
    assert registry.load().get("metric", "accuracy")


def test_two_packages_of_one_name_name_both(site: Path) -> None:
    for name in ("one", "two"):
        install(site, f"pack-{name}", f"[agmbench.metric]\nhalf = pack_{name}:mine\n")
    assert refused("metric", "half").startswith("metric 'half' is defined twice: in entry point 'half' of pack-")


def test_a_package_that_the_path_has_twice_is_one(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "twice", "[agmbench.metric]\nhalf = twice:mine\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(site), f"{site}/"])
    assert registry.load().get("metric", "half")


def test_two_hundred_packages_are_listed_and_none_is_imported(tmp_path: Path) -> None:
    for number in range(200):
        name = f"gen-{number}"
        point = f"[agmbench.modulator]\n{name} = gen_{number}:Gen\n"
        install(tmp_path / "site", name, point, f"modulators:\n  {name}: {{summary: number {number}}}\n")
    code = "from agmbench.cli import main; import sys\ntry:\n    main(['list'])\nfinally:\n    print('imported', *sys.modules)"
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    listed, _, imported = done.stdout.partition("imported ")
    for number in range(200):
        assert f"gen-{number} " in listed
        assert f"package gen-{number} 1.2" in listed
        assert f"number {number}" in listed
        assert f"gen_{number}" not in imported.split()
    assert "Broken" not in listed


# a registry file of a user


@pytest.fixture
def own(line: CommandLine) -> Path:
    """A registry file with its code, in another folder than the working directory."""
    folder = line.folder / "elsewhere"
    folder.mkdir()
    (folder / "own.yaml").write_text("metrics:\n  mine: {target: code:mine}\n")
    (folder / "code.py").write_text(METRIC)
    return folder / "own.yaml"


def test_a_file_of_ones_own_is_an_origin_and_finds_its_code(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGMBENCH_REGISTRY", str(own))
    found = registry.load().get("metric", "mine")
    assert (found.origin, found.place) == (str(own), f"{own}:2")
    assert found.load()(None, None) == 0.5


def test_every_verb_that_reads_the_registry_takes_a_file(own: Path, line: CommandLine) -> None:
    result = line.finish("list", "--registry", "elsewhere/own.yaml")
    assert "elsewhere/own.yaml" in result.out
    verbs = [
        "run",
        "list",
        "show",
        "compare",
        "sweep",
        "data status",
        "data verify",
        "check",
        "suite list",
        "suite run",
        "suite report",
    ]
    for verb in verbs:
        assert "--registry FILE" in line(*verb.split(), "--help").out, verb


@pytest.mark.long
def test_a_file_of_ones_own_reaches_the_processes_of_a_suite(line: CommandLine) -> None:
    (line.folder / "own.yaml").write_text(
        "modulators:\n  plain: {target: own_code:Plain}\n"
        "suites:\n  tiny:\n    jobs: [{dataset: synthetic, modulator: plain, "
        "set: {training.epochs: 1, dataset.samples: 64}}]\n"
    )
    (line.folder / "own_code.py").write_text("from agmbench.modulators.joint import Joint\n\n\nclass Plain(Joint):\n    pass\n")
    result = line.finish("suite", "run", "tiny", "--registry", "own.yaml")
    assert result.status == 0, result.err
    assert "1 done, 0 failed, 0 missing, 0 skipped" in result.out


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "--registry or AGMBENCH_REGISTRY names own.yaml: there is no such file"),
        ("metrics:\n  mine: {target: a:b\n", "own.yaml:3 is not YAML: "),
        ("metric:\n  mine: {target: a:b}\n", "own.yaml: unknown section 'metric': did you mean 'metrics'?"),
        ("metrics:\n  mine: {targt: a:b}\n", "own.yaml:2: metric 'mine' has an unknown key 'targt': did you mean 'target'?"),
        ("metrics:\n  mine: {target: a:b}\n  his: {target: a:b, aliases: [mine]}\n", "in own.yaml:2 and in own.yaml:3; rename"),
        ("include: [gone.yaml]\n", "own.yaml:1 includes 'gone.yaml': there is no such file"),
        ("include: gone.yaml\n", "own.yaml:1: 'include' should be a list of files; found 'gone.yaml'"),
        (
            "include: [own.yaml]\n",
            "own.yaml:1 includes 'own.yaml', which includes this file in turn; remove one of the two includes",
        ),
    ],
)
def test_what_is_wrong_with_a_file_of_ones_own_is_told_at_once(
    text: str | None, reason: str, line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is not None:
        (line.folder / "own.yaml").write_text(text)
    monkeypatch.setenv("AGMBENCH_REGISTRY", str(line.folder / "own.yaml"))
    assert reason in line.refused("list")


def test_a_file_may_include_others_each_with_its_own_folder(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more, third = own.parent / "more" / "more.yaml", own.parent / "third.yaml"
    more.parent.mkdir()
    more.with_name("code.py").write_text(METRIC.replace("0.5", "0.25"))
    more.write_text("metrics:\n  other: {target: code:mine}\ninclude: [../third.yaml]\n")
    third.write_text("metrics:\n  third: {target: code:mine}\n")
    own.write_text("include: [more/more.yaml, third.yaml]\nmetrics:\n  mine: {target: code:mine}\n")
    monkeypatch.setenv("AGMBENCH_REGISTRY", str(own))
    found = {name: registry.load().get("metric", name) for name in ("mine", "other", "third")}
    assert {name: entry.place for name, entry in found.items()} == {
        "mine": f"{own}:3",
        "other": f"{more}:2",
        "third": f"{third}:2",
    }
    assert {name: entry.load()(None, None) for name, entry in found.items()} == {"mine": 0.5, "other": 0.25, "third": 0.5}


@pytest.mark.bad_input
def test_a_cycle_of_files_is_one_line(own: Path, line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    own.write_text("include: [other.yaml]\n")
    (own.parent / "other.yaml").write_text("metrics: {}\ninclude: [own.yaml]\n")
    monkeypatch.setenv("AGMBENCH_REGISTRY", str(own))
    assert "elsewhere/other.yaml:2 includes 'own.yaml', which includes this file in turn" in line.refused("list")


def test_a_plugin_folders_file_named_again_is_one_file(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = line.folder / "plugins" / "mine"
    plugin.mkdir(parents=True)
    (plugin / "registry.yaml").write_text("metrics:\n  mine: {target: code:mine}\n")
    monkeypatch.setenv("AGMBENCH_REGISTRY", str(plugin / "registry.yaml"))
    assert "Broken" not in line("list").out


# imports


def test_what_an_import_prints_does_not_spoil_standard_output(own: Path, line: CommandLine) -> None:
    (own.parent / "code.py").write_text(f"print('hello')\n{METRIC}")
    result = line.finish("show", "metric", "mine", "--registry", str(own))
    assert result.status == 0, result.err
    assert result.out.startswith("metric/mine: ")
    assert "hello" in result.err
    assert "hello" not in result.out


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("x = 1\n\ndef mine(:\n", "SyntaxError: invalid syntax (code.py, line 3) at plugins/mine/code.py:3"),
        ("import torch\nimport no_such_thing\n", "No module named 'no_such_thing' at plugins/mine/code.py:2"),
        ("\nraise RuntimeError('no licence')\n", "RuntimeError: no licence at plugins/mine/code.py:2"),
        (
            "def minus(): ...\ndef other(): ...\n",
            "AttributeError: no 'mine' in 'code': did you mean 'minus'? Known: minus, other.",
        ),
        (None, "No module named 'code_x', nor code_x.py in plugins/mine: did you mean 'code'? Known: code."),
    ],
)
def test_a_typo_in_a_plugin_leads_to_its_place(code: str | None, reason: str, line: CommandLine) -> None:
    plugin = line.folder / "plugins" / "mine"
    plugin.mkdir(parents=True)
    target = "code:mine" if code else "code_x:mine"
    (plugin / "registry.yaml").write_text(f"metrics:\n  mine: {{target: '{target}'}}\n")
    (plugin / "code.py").write_text(code or METRIC)
    error = line.refused("show", "metric", "mine")
    assert reason in error
    assert "it is named in plugins/mine/registry.yaml:2" in error


def test_list_imports_tells_what_cannot_be_imported(line: CommandLine) -> None:
    for name, code in {"good": METRIC, "raises": RAISES, "leaves": "import os\nos._exit(3)\n"}.items():
        plugin = line.folder / "plugins" / name
        plugin.mkdir(parents=True)
        (plugin / "registry.yaml").write_text(f"metrics:\n  {name}: {{target: code:mine}}\n")
        (plugin / "code.py").write_text(code)
    assert "Broken" not in line("list", "metric").out
    out = line("list", "metric", "--imports").out
    assert "  metric/raises (plugins/raises): metric/raises cannot be imported from 'code:mine' (RuntimeError: imported" in out
    assert "  metric/leaves (plugins/leaves): its import ended the process with status 3" in out
    rows, _, _ = out.partition("Broken entries")
    assert "plugins/good" in rows
    assert "plugins/raises" not in rows


def test_what_cannot_be_imported_does_not_hurt_what_looks_at_all_of_a_kind(line: CommandLine) -> None:
    plugin = line.folder / "plugins" / "raises"
    plugin.mkdir(parents=True)
    (plugin / "code.py").write_text(RAISES)
    (plugin / "registry.yaml").write_text("datasets:\n  bad: {target: code:X}\nfusions:\n  worse: {target: code:X}\n")
    status = line("data", "status")
    assert status.status == 0
    assert (
        "bad: dataset/bad cannot be imported from 'code:X' (RuntimeError: imported at plugins/raises/code.py:1)" in status.out
    )
    assert re.search(r"^synthetic +built in +1024", status.out, re.MULTILINE)
    error = line.refused("run", "--dataset", "synthetic", "--fusion", "psp")
    assert "choose a --fusion among concat, cosine, early" in error
    assert "worse" not in error
