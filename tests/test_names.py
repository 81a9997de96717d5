"""Untrusted names and texts: impossible names are refused at once; all others are shown safely and have no effect."""

import ast
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import CommandLine

import agmbench
from agmbench import labels, registry
from agmbench.errors import AgmbenchError, printable
from agmbench.records import Point
from agmbench.report import plots
from agmbench.report.escapes import markdown
from agmbench.report.render import _latex, _markdown
from agmbench.report.sheets import Sheet
from agmbench.report.terminal import show_sheet

ESCAPE = "\x1b]0;owned\x07\x1b[31m"
ODD = [r"$\frac{1}$", "[/b]", "<script>", "a|b", "it's", "50 %", "C++", "\u732b", "\U0001f469\u200d\U0001f680", "_x_"]

DATA = """
import torch
from agmbench.contracts import Dataset, TensorSplit


class Odd(Dataset):
    def __init__(self, seed, *, samples: int = 40):
        self.shapes = {{name: (4,) for name in {modalities!r}}}
        self.class_names = {classes!r}
        self.fingerprint = "odd"

    def split(self, name):
        generator = torch.Generator().manual_seed(len(name))
        inputs = {{m: torch.randn(40, 4, generator=generator) for m in self.shapes}}
        return TensorSplit(inputs, torch.arange(40) % len(self.class_names))
"""
REGISTRY = """
datasets:
  odd: {target: 'odd_data:Odd', job: {encoders: {'*': {name: mlp, params: {hidden: 4}}}, training: {epochs: 1}}}
"""


def with_data(folder: Path, modalities: Sequence[object] = ("a", "b"), classes: Sequence[object] = ("x", "y")) -> None:
    plugin = folder / "plugins" / "mine"
    plugin.mkdir(parents=True)
    (plugin / "registry.yaml").write_text(REGISTRY)
    (plugin / "odd_data.py").write_text(DATA.format(modalities=list(modalities), classes=list(classes)), encoding="utf-8")


RUN = ("run", "-d", "odd", "-m", "joint")


# names of a data set


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "name", ["a<b", "a|b", "a+b", "a.b", "a/b", "a=b", "*", "", " a", "-a", "_a", "a\n", ESCAPE, "a" * 101, 3]
)
def test_what_cannot_be_a_modality_is_refused_when_the_data_are_opened(name: object, line: CommandLine) -> None:
    with_data(line.folder, modalities=[name, "b"])
    for words in (RUN, ("data", "verify", "odd")):
        error = line.refused(*words)
        assert "dataset/odd: a modality is called " in error
        assert "a name should consist of letters, digits and '_'" in error
        assert "it is named in plugins/mine/registry.yaml:3" in error
        assert "\x1b" not in error


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\tb", ESCAPE, "a\u202eb", "a" * 101, 3, None])
def test_what_cannot_be_a_class_is_refused_when_the_data_are_opened(name: object, line: CommandLine) -> None:
    with_data(line.folder, classes=["x", name])
    error = line.refused(*RUN)
    assert "dataset/odd: class 1 is called " in error
    assert "one line of printable text" in error
    assert "\x1b" not in error


def test_every_built_in_name_can_be_one() -> None:
    assert not labels.refused(["audio", "m0", "optical flow", "n-gram", "t\u00f6ne"], [str(digit) for digit in range(10)] + ODD)


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
def test_odd_class_names_are_trained_on_verified_and_drawn(line: CommandLine) -> None:
    with_data(line.folder, classes=ODD)
    result = line(*RUN)
    assert result.status == 0, result.err
    assert [path.name for path in line.folder.rglob("confusion.png")] == ["confusion.png"] * 3
    out = line("data", "verify", "odd").out
    for name in ODD:
        assert name in out


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
def test_no_plot_takes_a_name_for_mathematics(tmp_path: Path) -> None:
    confusion = (np.arange(2), np.arange(2))
    curves = [Point(f"{split}/{what}", 0.5, 0) for split in ("train", "valid") for what in ("loss", "accuracy")]
    plots.save(
        tmp_path,
        [*curves, Point(r"valid/response/$\frac{1}$", 0.5, 0)],
        [r"$\frac{1}$"],
        r"a $\frac{1}$",
        [r"$\frac{1}$", "$"],
        confusion,
    )
    assert (tmp_path / "confusion.png").stat().st_size > 0


# names of the registry


@pytest.mark.parametrize("name", ["../../x", "a/b", "it's", "..", ".x", "-x", "a b", "a\\u001bb", "", "a" * 101])
@pytest.mark.parametrize("section", ["suites", "modulators", "datasets"])
def test_what_cannot_be_a_name_is_broken(section: str, name: str, line: CommandLine) -> None:
    plugin = line.folder / "plugins" / "mine"
    plugin.mkdir(parents=True)
    content = "{jobs: [{dataset: synthetic, modulator: joint}]}" if section == "suites" else "{target: a:b}"
    (plugin / "registry.yaml").write_text(f'{section}:\n  "{name}": {content}\n')
    kind = section.removesuffix("s")
    (broken,) = registry.load(line.folder / "plugins").broken
    assert "a name should be made of letters, digits" in broken.reason
    assert "plugins/mine/registry.yaml:2" in broken.reason
    real = name.replace("\\u001b", "\x1b")
    with pytest.raises(AgmbenchError, match=r"a name should be made of letters|unknown"):
        registry.load(line.folder / "plugins").get(kind, real)
    listed = line("list")
    assert listed.status == 0
    assert "a name should be made of letters" in listed.out
    assert "\x1b" not in listed.out


def test_an_alias_is_a_name_too(line: CommandLine) -> None:
    plugin = line.folder / "plugins" / "mine"
    plugin.mkdir(parents=True)
    (plugin / "registry.yaml").write_text("metrics:\n  mine: {target: a:b, aliases: ['../x']}\n")
    (broken,) = registry.load(line.folder / "plugins").broken
    assert "alias of metric 'mine' '../x': a name should be made of" in broken.reason


@pytest.mark.long
@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["../../x", "it's", "..", "a b", "a" * 101])
def test_a_suite_writes_nowhere_but_in_its_folder_and_a_study_has_such_a_name_too(name: str, line: CommandLine) -> None:
    (line.folder / "own.yaml").write_text(
        f'suites:\n  "{name}": {{jobs: [{{dataset: synthetic, modulator: joint, set: {{dataset.samples: 64}}}}]}}\n'
    )
    assert "a name should be made of" in line.finish("suite", "run", name, "--registry", "own.yaml").err
    assert [path.name for path in line.folder.iterdir()] == ["own.yaml"]
    words = ("sweep", "-d", "synthetic", "-m", "agm", "--set", "dataset.samples=64")
    assert "a name should be made of" in line.refused(*words, "--study", name)


# what is shown


def test_a_strangers_text_does_not_reach_the_terminal_as_it_is(line: CommandLine) -> None:
    plugin = line.folder / "plugins" / "mine"
    plugin.mkdir(parents=True)
    (plugin / "registry.yaml").write_text(
        'metrics:\n  good: {target: code:good, summary: "a \\e]0;owned\\a summary [/b]", paper: "\\e[31m"}\n'
        '  bad: {target: "code:\\e[31m"}\nsuites:\n  s: {summary: "\\e[31m [/b]", scales: {"\\e[31m": {}}, jobs: []}\n'
    )
    (plugin / "code.py").write_text(f"def good(logits, targets):\n    '''{ESCAPE}'''\n    raise RuntimeError({ESCAPE!r})\n")
    for words in (["list"], ["list", "--imports"], ["show", "metric/good"], ["show", "metric/bad"], ["suite", "list"]):
        result = line(*words)
        assert "\x1b" not in result.out + result.err, words
        assert "\x07" not in result.out + result.err, words
        assert "\\x1b" in result.out + result.err, words
    assert "\x1b" not in line("run", "-m", ESCAPE).err


def test_nothing_of_the_command_line_writes_past_what_makes_it_printable() -> None:
    for path in (Path(agmbench.__file__).parent / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if path.name != "terminal.py" and isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in ("print", "click.echo", "click.secho"), path


@pytest.mark.parametrize(
    "text", ["plain", "two\nlines\tand a tab", "\u00e4 \u732b \U0001f469\u200d\U0001f680", "a dash \u2013"]
)
def test_what_can_be_shown_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Acc_m0 \u00b1 0.5 (n = 3) [1] no run", "Acc_m0 \u00b1 0.5 (n = 3) [1] no run"),
        ("a|b", r"a\|b"),
        ("<img src=x onerror=y>", r"\<img src=x onerror=y\>"),
        ("**bold** _it_ `code` ~~x~~ $x$", r"\*\*bold\*\* \_it\_ \`code\` \~\~x\~\~ \$x\$"),
        ("[text](http://x)", r"[text]\(http://x)"),
        ("&lt; \\", r"\&lt; \\"),
        ("one\n\n# two", "one  # two"),
        (ESCAPE, r"\\x1b]0;owned\\x07\\x1b[31m"),
    ],
)
def test_markdown_takes_a_strangers_text_for_text(text: str, expected: str) -> None:
    assert markdown(text) == expected


def test_every_part_of_a_written_table_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    odd = f"<b>|x[/b]{ESCAPE}"
    sheet = Sheet(odd, [odd, odd], [[odd, odd]], odd, [odd], frozenset({(0, 1)}))
    assert "<b>" not in _markdown(sheet).replace("\\<b", "")
    assert _markdown(sheet).replace("\\|", "").count("|") == 3 + 3 + 3
    assert "<b>" not in _latex(sheet)
    show_sheet(sheet)
    for text in (_markdown(sheet), _latex(sheet), capsys.readouterr().out):
        assert "\x1b" not in text
        assert "owned" in text
