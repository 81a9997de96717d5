"""Tables on terminals of any width, and on terminals with only ASCII."""

import re

import pytest
from conftest import CommandLine

from agmbench.errors import encodable
from agmbench.report.sheets import INTERVAL, Sheet
from agmbench.report.terminal import show_sheet

HEADER = ["method", "n", "Acc", INTERVAL, "Acc_audio", "d_audio"]
BODY = [
    ["concept", "5", "– [1]", "–", "42.06 ± 2.96", "– [1]"],
    ["joint", "5", "63.94 ± 2.60", "[61.00, 66.10]", "37.70 ± 2.94", "– [2]"],
]
SHEET = Sheet("digits, fusion concat", HEADER, BODY, "What it says.", ["[1] of no model", "[2] not measured"])


def shown(sheet: Sheet, capsys: pytest.CaptureFixture[str]) -> list[str]:
    show_sheet(sheet)
    return capsys.readouterr().out.splitlines()


def test_a_pipe_has_all_columns_that_have_a_number(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = shown(SHEET, capsys)
    assert lines[2].split() == ["method", "n", "Acc", "95", "%", "interval", "Acc_audio"]
    assert lines[-4:] == ["No numbers for d_audio: not measured", "[1] of no model", "What it says.", ""]


@pytest.mark.parametrize(
    ("width", "left"), [(80, HEADER[:5]), (50, ["method", "n", "Acc", "Acc_audio"]), (30, ["method", "n", "Acc"])]
)
def test_less_important_columns_are_left_out_and_named(
    width: int, left: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", f"{width}")
    lines = shown(SHEET, capsys)
    assert re.split(r"\s{2,}", lines[2].strip()) == left
    assert max(map(len, lines)) <= width
    gone = [title for title in HEADER[:5] if title not in left]
    said = re.search(r"Left out to fit \d+ columns: (.*?)\. A terminal of (\d+) columns shows all", " ".join(lines))
    assert bool(said) == bool(gone)
    if said:
        assert said[1] == ", ".join(gone)
        monkeypatch.setenv("COLUMNS", said[2])
        assert "Left out" not in " ".join(shown(SHEET, capsys))
        monkeypatch.setenv("COLUMNS", f"{int(said[2]) - 1}")
        assert "Left out" in " ".join(shown(SHEET, capsys))


def test_of_what_was_compared_the_difference_stays(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "36")
    header = ["method", "pairs", "Acc - joint", INTERVAL, "d_z", "p", "p (Holm)"]
    lines = shown(Sheet("", header, [["agm", "5", "+1.00", "[-9.15, +10.71]", "+0.71", "0.0625", "0.1250"]]), capsys)
    assert re.split(r"\s{2,}", lines[1].strip()) == ["method", "Acc - joint", "p (Holm)"]


def test_a_table_without_any_number_keeps_its_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    body = [["ogm", "0", "– [1]", "–", "– [1]", "– [1]"]]
    lines = shown(Sheet("", HEADER, body, notes=["[1] no run"]), capsys)
    assert lines[1].split() == ["method", "n", "Acc"]
    assert "[1] no run" in lines


@pytest.mark.parametrize("words", [("list", "modulators"), ("show", "modulator", "agm"), ("suite", "list")])
def test_a_narrow_terminal_has_whole_names_and_sentences(finished: CommandLine, words: tuple[str, ...]) -> None:
    wide, narrow = (finished.finish(*words, env={"COLUMNS": columns}).out for columns in ("200", "50"))
    assert max(map(len, narrow.splitlines()[-12:])) <= 50
    assert "…" not in narrow
    assert re.search(r"^(modulator/)?(uni-finetune|muted_gradient|urfunny-official)$", narrow, re.MULTILINE)
    assert re.search(r"(uni-finetune|muted_gradient|urfunny-official) +\w", wide)


def test_captions_are_said_once(finished: CommandLine) -> None:
    out = finished("compare", "--cost", "--coalitions").out
    assert out.count("Mean ± sample standard deviation over n seeds.") == 1
    assert out.count("the modalities that are not named are muted") == 1


def test_an_ascii_locale_gets_ascii(finished: CommandLine) -> None:
    result = finished.finish("compare", env={"LC_ALL": "C", "COLUMNS": "60"})
    assert result.status == 0, result.err
    assert result.out.isascii()
    assert "?" not in result.out
    assert "Mean +- sample" in result.out
    assert re.search(r"^ -{20,} $", result.out, re.MULTILINE)


def test_signs_that_an_encoding_lacks_are_written_otherwise() -> None:
    assert encodable("1 ± 2 – ä ─", "ascii") == "1 +- 2 - ? -"
    assert encodable("1 ± 2 – ä", "utf-8") == "1 ± 2 – ä"
