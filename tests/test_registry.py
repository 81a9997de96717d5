"""Names become entries only when they are needed, and an error in a registry is one line that names its place."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import agmbench.registry as registry
from agmbench.errors import AgmbenchError
from agmbench.registry import Entry, Registry

ENTRIES = registry.builtin().entries()


def write(folder: Path, name: str, text: str, **modules: str) -> Path:
    """Write a plugin folder with a registry and modules, and return the `plugins` folder above it."""
    plugin = folder / "plugins" / name
    plugin.mkdir(parents=True, exist_ok=True)
    (plugin / "registry.yaml").write_text(text)
    for module, code in modules.items():
        (plugin / f"{module}.py").write_text(code)
    return folder / "plugins"


def refused(plugins: Path, kind: str = "metric", name: str = "mine") -> str:
    """Why a name cannot be used. Fails unless this is the only broken entry and all others can be used."""
    found = registry.load(plugins)
    with pytest.raises(AgmbenchError) as error:
        found.get(kind, name)
    (broken,) = found.broken
    assert broken.reason in str(error.value)
    assert {str(entry) for entry in ENTRIES} - {f"{kind}/{name}"} == {str(entry) for entry in found.entries()}
    return broken.reason


def entry(name: str, target: str, place: str = "here:1", aliases: tuple[str, ...] = ()) -> Entry:
    return Entry(kind="metric", name=name, target=target, place=place, aliases=aliases)


def test_loading_the_registry_imports_nothing_that_it_names() -> None:
    code = """
import sys
import agmbench.registry as registry
entries = registry.builtin().entries()
named = {entry.target.partition(":")[0] for entry in entries} | {"torch", "timm", "transformers", "sklearn"}
found = named & set(sys.modules)
sys.exit(f"imported {found}" if found or not entries else 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_every_builtin_loads_and_says_what_it_is(entry: Entry) -> None:
    assert callable(entry.load())
    assert entry.summary
    assert entry.origin == "built-in"
    assert re.fullmatch(r"registry\.yaml:\d+", entry.place)


def test_the_place_of_an_entry_is_its_line() -> None:
    lines = (Path(__file__).parents[1] / "registry.yaml").read_text().splitlines()
    for entry in ENTRIES:
        assert lines[int(entry.place.rpartition(":")[2]) - 1] == f"  {entry.name}:"


def test_entries_are_ordered_by_kind_and_name() -> None:
    keys = [(registry.KINDS.index(entry.kind), entry.name) for entry in ENTRIES]
    assert keys == sorted(keys)
    assert {entry.kind for entry in ENTRIES} == set(registry.KINDS)


def test_an_alias_is_another_name_of_the_entry() -> None:
    found = registry.load(Path("no plugins"))
    assert found.get("fusion", "late") is found.get("fusion", "concat")
    assert {"late", "concat"} <= set(found.names("fusion"))


def test_an_unknown_name_names_the_nearest_and_all() -> None:
    with pytest.raises(AgmbenchError, match=r"unknown modulator 'amg': did you mean 'agm'\? Known: agm, .*joint"):
        registry.load(Path("no plugins")).get("modulator", "amg")


def test_a_name_is_of_one_kind() -> None:
    with pytest.raises(AgmbenchError, match="unknown fusion 'agm'"):
        registry.load(Path("no plugins")).get("fusion", "agm")


def test_an_unknown_name_of_an_empty_kind() -> None:
    with pytest.raises(AgmbenchError, match=r"unknown fusion 'sum': Known: none\."):
        Registry([]).get("fusion", "sum")


def test_an_alias_that_is_taken_names_both_places() -> None:
    found = Registry([entry("one", "a:b"), entry("two", "a:b", "there:2", aliases=("one", "second"))])
    with pytest.raises(AgmbenchError, match=r"metric 'one' is defined twice: in here:1 and in there:2; rename one of them"):
        found.get("metric", "one")
    assert found.get("metric", "second").name == "two"
    assert found.names("metric") == ["second", "two"]


# errors in a file


def test_a_name_defined_twice_names_both_places(tmp_path: Path) -> None:
    error = refused(write(tmp_path, "mine", "modulators:\n  agm: {target: a:b}\n"), "modulator", "agm")
    assert re.search(r"modulator 'agm' is defined twice: in registry\.yaml:\d+ and in plugins/mine/registry\.yaml:2", error)


def test_two_plugins_with_one_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        plugins = write(tmp_path, name, "metrics:\n  mine: {target: a:b}\n")
    assert "in plugins/one/registry.yaml:2 and in plugins/two/registry.yaml:2" in refused(plugins)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("metrics:\n  one: {target: a:b}\n  one: {target: c:d}\n", (2, 3)),
        ("metrics:\n  one: {target: a:b}\nmetrics:\n  two: {target: c:d}\n", (1, 3)),
        ("metrics:\n  one:\n    target: a:b\n    params:\n      x: 1\n      x: 2\n", (5, 6)),
    ],
)
def test_a_key_given_twice_in_a_file_names_both_lines(text: str, lines: tuple[int, int], tmp_path: Path) -> None:
    first, second = (f"plugins/mine/registry.yaml:{line}" for line in lines)
    assert f"is defined twice: in {first} and in {second}" in refused(write(tmp_path, "mine", text))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("modulators:\n  mine: {target: a:b\n", 3),
        ("modulators:\n  mine:\n\ttarget: a:b\n", 3),
        ("modulators:\n  mine: {target: !!python/name:os.system ''}\n", 2),
        ("metrics:\n  [a, b]: {target: a:b}\n", 2),
        ("metrics:\n  one: {target: a:b}\n  ? {x: 1}\n  : {target: a:b}\n", 3),
    ],
)
def test_yaml_that_does_not_parse_names_file_and_line(text: str, line: int, tmp_path: Path) -> None:
    assert f"plugins/mine/registry.yaml:{line} is not YAML: " in refused(write(tmp_path, "mine", text))


def test_a_value_that_yaml_cannot_make_names_the_file(tmp_path: Path) -> None:
    text = "metrics:\n  mine: {target: a:b, version: 2026-99-99}\n"
    assert "plugins/mine/registry.yaml" in refused(write(tmp_path, "mine", text))


def test_a_file_that_is_no_text_names_the_file(tmp_path: Path) -> None:
    plugins = write(tmp_path, "mine", "")
    (plugins / "mine" / "registry.yaml").write_bytes(b"metrics: \xff\xfe")
    assert "plugins/mine/registry.yaml cannot be read (UnicodeDecodeError" in refused(plugins)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "plugins/mine/registry.yaml should be a mapping; found None"),
        ("- agm\n", "plugins/mine/registry.yaml should be a mapping; found ['agm']"),
        ("modulator:\n  mine: {target: a:b}\n", "unknown section 'modulator': did you mean 'modulators'? Known: datasets,"),
        ("metrics: [mine]\n", "plugins/mine/registry.yaml: 'metrics' should be a mapping; found ['mine']"),
        ("metrics:\n  mine: a:b\n", "plugins/mine/registry.yaml:2: 'mine' should be a mapping; found 'a:b'"),
        (
            "metrics:\n  mine: {targt: a:b}\n",
            "plugins/mine/registry.yaml:2: metric 'mine' has an unknown key 'targt': did you mean 'target'?",
        ),
        (
            "metrics:\n  mine: {target: 3}\n",
            "plugins/mine/registry.yaml:2: 'target' of metric 'mine' should be a text; found 3",
        ),
        ("metrics:\n  mine: {target: a:b, params: [1]}\n", "'params' of metric 'mine' should be a mapping; found [1]"),
        ("metrics:\n  mine: {target: a:b, aliases: m}\n", "'aliases' of metric 'mine' should be a list of names; found 'm'"),
        ("metrics:\n  mine: {target: a:b, version: [1]}\n", "'version' of metric 'mine' should be a text or a whole number"),
        ("metrics:\n  mine: {summary: x}\n", ":2: metric 'mine' needs a target 'module:attribute'; found None"),
        ("metrics:\n  mine: {target: module}\n", "needs a target 'module:attribute'; found 'module'"),
    ],
)
def test_a_malformed_entry_is_one_clear_line(text: str, expected: str, tmp_path: Path) -> None:
    error = refused(write(tmp_path, "mine", text))
    assert expected in error
    assert "\n" not in error


# plugin folders

METRIC = "metrics:\n  mine: {target: code:mine, version: 3, aliases: [my]}\n"


def test_a_plugin_folder_is_an_origin_like_any_other(tmp_path: Path) -> None:
    code = "def mine(logits, targets):\n    return 0.5\n"
    found = registry.load(write(tmp_path, "half", METRIC, code=code)).get("metric", "my")
    assert (found.name, found.origin, found.version) == ("mine", "plugins/half", "3")
    assert found.load()(None, None) == 0.5


def test_two_plugins_may_call_their_module_the_same(tmp_path: Path) -> None:
    for name in ("first", "second"):
        text = f"metrics:\n  {name}: {{target: code:mine}}\n"
        plugins = write(tmp_path, name, text, code=f"def mine(logits, targets):\n    return {name!r}\n")
    found = registry.load(plugins)
    assert [found.get("metric", name).load()(None, None) for name in ("first", "second")] == ["first", "second"]


def test_plugins_of_one_name_in_two_places_keep_their_own_code(tmp_path: Path) -> None:
    def result(place: str) -> object:
        plugins = write(tmp_path / place, "same", METRIC, code=f"def mine(logits, targets):\n    return {place!r}\n")
        return registry.load(plugins).get("metric", "mine").load()(None, None)

    assert [result("here"), result("there")] == ["here", "there"]


@pytest.mark.parametrize("relative", [False, True])
def test_a_module_is_imported_once(relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plugins = write(tmp_path, "once", METRIC, code="class mine: ...\n")
    found = registry.load(plugins.relative_to(tmp_path) if relative else plugins).get("metric", "mine")
    assert found.load() is found.load()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('no licence\\nsecond line')\n", "RuntimeError: no licence"),
        ("import sys\n\nsys.exit('no thanks')\n", "SystemExit: no thanks"),
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def mine(:\n", "SyntaxError: "),
        ("other = 1\n", "AttributeError: "),
    ],
)
def test_a_plugin_that_cannot_be_imported_names_place_and_reason(code: str, reason: str, tmp_path: Path) -> None:
    found = registry.load(write(tmp_path, "broken", METRIC, code=code)).get("metric", "mine")
    with pytest.raises(AgmbenchError) as error:
        found.load()
    assert f"metric/mine cannot be imported from 'code:mine' ({reason}" in str(error.value)
    assert "it is named in plugins/broken/registry.yaml:2" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("reason", ["raise RuntimeError('not yet')", "raise SystemExit(1)"])
def test_a_plugin_that_failed_is_tried_again(reason: str, tmp_path: Path) -> None:
    plugins = write(tmp_path, "mended", METRIC, code=f"{reason}\n")
    found = registry.load(plugins).get("metric", "mine")
    with pytest.raises(AgmbenchError):
        found.load()
    write(tmp_path, "mended", METRIC, code="def mine(logits, targets):\n    return 'mended at last, and longer than before'\n")
    assert "mended" in found.load()(None, None)
    del sys.modules["agmbench_plugins.mended.code"]


def test_a_plugin_that_names_a_module_that_is_not_there(tmp_path: Path) -> None:
    found = registry.load(write(tmp_path, "gone", "metrics:\n  mine: {target: no_such_module:mine}\n")).get("metric", "mine")
    with pytest.raises(AgmbenchError, match="No module named 'no_such_module'"):
        found.load()


def test_without_a_plugins_folder_there_are_the_builtins() -> None:
    assert len(registry.load(Path("no such folder")).entries()) == len(ENTRIES)
