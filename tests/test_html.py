"""The HTML report of a real store: it is one file that needs nothing else, and its numbers and drawings are right."""

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from itertools import pairwise
from math import nan
from pathlib import Path

import pytest
from conftest import PATIENCE, SMALL, CommandLine
from PIL import Image

from agmbench.records import FINISHED, Record
from agmbench.report import charts
from agmbench.report.figures import thin
from agmbench.report.html import page
from agmbench.report.tables import compare
from agmbench.trackers.mlflow import MlflowTracker

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Parsed(HTMLParser):
    """A parser that notes all tags with their attributes, and checks that they are closed in order."""

    EMPTY = ("meta", "circle", "path")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A store with joint and agm, each with two seeds and two fusions."""
    line = CommandLine(tmp_path_factory.mktemp("report"))
    for fusion in ("concat", "sum"):
        for modulator in ("joint", "agm"):
            for seed in ("1", "2"):
                result = line("run", "-m", modulator, "-f", fusion, "--seed", seed, *SMALL)
                assert result.status == 0, result.err
    return line


@pytest.fixture(scope="module")
def report(store: CommandLine) -> str:
    result = store("compare", "--format", "html", "--output", "report.html")
    assert (result.status, result.out, result.err) == (0, "", "wrote report.html\n")
    return (store.folder / "report.html").read_text(encoding="utf-8")


def test_it_needs_nothing_else(report: str) -> None:
    parsed = Parsed(report)
    assert parsed.open == []
    names = {tag for tag, _ in parsed.tags}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object"})
    links = [attrs["href"] or "" for tag, attrs in parsed.tags if tag == "a"]
    assert links == ["#all", "#cell-0", "#cell-1"]
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"] for tag, attrs in parsed.tags if tag == "use"} <= {f"#{name}" for name in ids}
    assert not re.search(r"https?:|@import|url\(|src=", report)


def test_every_plot_is_whole_and_of_numbers(report: str) -> None:
    drawn = re.findall(r"<svg.*?</svg>", report)
    # per cell: accuracy, strength of two modalities, two pictures of imbalance, kappa of agm, responses of two methods over time, cost
    assert len(drawn) == 2 * (1 + 2 + 2 + 1 + 2 + 1)
    for text in drawn:
        root = ET.fromstring(text)
        assert root.find("title") is not None
        assert not re.search(r"\bnan\b|\binf\b", text.lower().replace("kappa", ""))


def test_it_follows_light_and_dark(report: str) -> None:
    assert "@media (prefers-color-scheme: dark)" in report
    style = report[report.index("<style>") : report.index("</style>")]
    used, made = set(re.findall(r"var\((--\w+)\)", style)), set(re.findall(r"(--\w+):", style))
    assert used <= made
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    names = r"(--(?:ground|card|ink|soft|rule|c\d)): #"
    assert set(re.findall(names, light)) == set(re.findall(names, dark))


def test_it_has_the_numbers_of_the_tables(store: CommandLine, report: str) -> None:
    words = set(Parsed(report).words)
    for line in store("compare", "--cost", "--format", "markdown").out.splitlines():
        if line.startswith("| "):
            assert words.issuperset(cell.strip() for cell in line.strip("|").split(" | ") if cell.strip())


def test_histories_are_those_of_the_store(store: CommandLine) -> None:
    tracker = MlflowTracker(store.folder / "runs")
    agm = next(r for r in tracker.records("synthetic") if not r.concept and r.spec["modulator"]["name"] == "agm")
    found = tracker.history(agm, ["valid/accuracy", "kappa/m0", "no such"])
    assert list(found) == ["valid/accuracy", "kappa/m0"]
    assert [step for step, _ in found["valid/accuracy"]] == [0, 1]
    assert found["kappa/m0"][-1][1] == agm.metrics["kappa/m0"]


def test_title_and_notes_stand_first(store: CommandLine) -> None:
    tracker = MlflowTracker(store.folder / "runs")
    tables = compare(tracker.records())
    text = page(tables, tracker.history, "joint", title="agmbench suite <mini>", notes=["failed: <one>", "skipped: another"])
    assert "<h1>agmbench suite &lt;mini&gt;</h1>" in text
    assert "<p>failed: &lt;one&gt;</p><p>skipped: another</p>" in text
    assert "8 finished runs in 2 cells on 1 data set; baseline joint" in text


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; apt-get install chromium")
def test_a_browser_shows_it_in_light_and_dark(store: CommandLine, report: str, tmp_path: Path) -> None:
    grounds = {}
    for scheme, flags in (("light", []), ("dark", ["--blink-settings=preferredColorScheme=0"])):
        shot = tmp_path / f"{scheme}.png"
        words = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=900,1500", *flags]
        subprocess.run(
            [*words, f"--user-data-dir={tmp_path / scheme}", f"--screenshot={shot}", (store.folder / "report.html").as_uri()],
            check=True, timeout=PATIENCE, capture_output=True,
        )  # fmt: skip
        picture = Image.open(shot).convert("L")
        grounds[scheme] = picture.getpixel((2, 2))
        assert len(picture.getcolors() or []) > 20, "something is drawn"
    assert grounds["light"] > 240
    assert grounds["dark"] < 40


# records of any kind


def run(modulator: str, metrics: Mapping[str, float], seed: int = 1, dataset: str = "digits") -> Record:
    spec = {
        "dataset": {"name": dataset, "params": {}},
        "fusion": {"name": "concat", "params": {}},
        "modulator": {"name": modulator, "params": {}},
        "seed": seed,
    }
    return Record(
        f"{modulator} {seed}", modulator, FINISHED, f"{modulator} {seed}", "cell", spec, ("audio", "image"), False, metrics
    )


def nothing(record: Record, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    return {}


def test_names_are_escaped() -> None:
    text = page(compare([run("<script>alert(1)</script>", {"test/accuracy": 0.5}, dataset="a&b")]), nothing, "joint")
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "a&amp;b" in text


@pytest.mark.parametrize("metrics", [{}, {"test/accuracy": nan}, {"test/accuracy": 0.5, "cost/flops": nan}])
def test_what_was_not_measured_is_not_drawn(metrics: Mapping[str, float]) -> None:
    text = page(compare([run("joint", metrics)], cost=True), nothing, "joint")
    assert text.count("<svg") == (metrics.get("test/accuracy") == 0.5)
    assert "Kappa over time" not in text


def test_more_modalities_than_colours() -> None:
    def long(record: Record, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        return {name: [(step, step / 1000) for step in range(1000)] for name in names}

    names = tuple(f"m{number}" for number in range(9))
    metrics = {"test/accuracy": 0.5, "valid/accuracy": 0.5}
    metrics |= {f"{split}/response/{name}": 0.1 for name in names for split in ("test", "valid")}
    records = [Record("1", "joint", FINISHED, "d", "c", run("joint", {}).spec, names, False, metrics)]
    text = page(compare(records), long, "joint")
    assert "Accuracy of each modality over time" in text
    assert not re.search(r"\bc8\b", text)


def test_of_many_methods_those_that_differ_most_have_pictures_of_their_own() -> None:
    def history(record: Record, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        return {name: [(0, 0.1), (1, 0.2)] for name in names if name in record.metrics}

    def metrics(audio: float) -> dict[str, float]:
        return {"test/accuracy": 0.5, "valid/accuracy": 0.5, "test/response/audio": audio, "test/response/image": 0.4}

    records = [run(f"m{number:02}", metrics(0.2 + number / 100)) for number in range(20)] + [run("joint", metrics(0.2))]
    tables = compare(records)
    text = page(tables, history, "joint")
    panels = re.findall(r'aria-label="(joint|m\d\d)"', text)
    assert panels == ["joint", *(f"m{number:02}" for number in range(9, 20))]
    assert "12 of 21 methods are shown: joint and those whose modalities differ most from it." in text
    assert all(f"<th>m{number:02}</th>" in text for number in range(20)), "tables have all of them"
    assert "methods are shown: those whose modalities differ most from the mean of all." in page(
        tables, history, "none {of} these"
    )
    assert "<svg" not in page(compare([run(f"m{number:02}", {}) for number in range(20)]), history, "joint"), "nothing to draw"
    scatter = text[text.index("against imbalance") :]
    assert re.findall(r">(m\d\d)</text>", scatter[: scatter.index("</svg>")]) == [f"m{number:02}" for number in range(9, 20)]


# thinning and drawing


def test_short_histories_are_kept_with_their_spread_over_runs() -> None:
    assert thin([[(0, 1.0), (1, 2.0)], [(0, 3.0), (1, 2.0)]]) == [(0, 2.0, 1.0, 3.0), (1, 2.0, 2.0, 2.0)]
    assert thin([]) == thin([[]]) == thin([[(0, nan)]]) == []


def test_long_histories_are_means_of_neighbours() -> None:
    found = thin([[(step, float(step % 2)) for step in range(1000)]], 100)
    assert len(found) == 100
    assert found[0] == (4.5, 0.5, 0.5, 0.5)
    assert [step for step, *_ in found] == [4.5 + 10 * place for place in range(100)]


def test_runs_of_other_lengths_are_means_of_those_that_are_there() -> None:
    assert thin([[(0, 1.0)], [(0, 2.0), (5, 4.0)]]) == [(0, 1.5, 1.0, 2.0), (5, 4.0, 4.0, 4.0)]


@pytest.mark.parametrize("values", [[0.0, 100.0, nan], [], [nan], [0.0], [5.0, 5.0], [-3.0]])
def test_bounds_hold_all_numbers_and_are_never_empty(values: list[float]) -> None:
    low, high = charts.bounds(values)
    assert low < high
    assert all(low <= value <= high for value in values if value == value)


def test_names_of_near_points_do_not_cover_each_other() -> None:
    dots = [charts.Dot(f"method {number}", 0.5, 60 + number / 100) for number in range(12)]
    root = ET.fromstring(charts.scatter("title", dots, "x", "y"))
    places = sorted(float(each.get("y", 0)) for each in root.iter("text") if (each.text or "").startswith("method"))
    assert len(places) == 12
    assert min(b - a for a, b in pairwise(places)) >= charts.LINE - 0.1


def test_a_picture_takes_its_colours_and_its_font_from_the_page() -> None:
    line = charts.Curve("all", 3, [(0, 1), (4, 2)], [(0, 1, 1), (4, 2, 2)])
    text = charts.curves("<t>", [line], "epoch", "y", (0, 4), (0, 10), 1, [2])
    root = ET.fromstring(text)
    assert root.findtext("title") == "<t>"
    assert "var(--c3)" in text
    assert not re.search(r"#[0-9a-f]{6}|font-family|<style|\n", text)
    ticks = {each.text for each in root.iter("text")} - {"<t>", "epoch", "y"}
    assert {"0", "1", "2", "3", "4"} <= ticks
    assert not any("." in (tick or "") for tick in ticks), "epochs are whole numbers"


# the command line


@pytest.mark.bad_input
def test_bad_words_are_one_line(store: CommandLine) -> None:
    for words, expected in {
        ("--baseline", "ogm"): "--baseline ogm: there is no such row in these tables: did you mean 'agm'? Known: agm, joint.",
        ("--fusion", "cocnat"): "did you mean 'concat'?",
        (
            "--fusion",
            "film",
        ): "no runs with this --fusion and --seed; the store has: concat, seed 1; concat, seed 2; sum, seed 1",
        ("--seed", "7"): "no runs with this --fusion and --seed",
        ("--output", "x.md"): "--output needs a format for files",
        ("--format", "html", "--output", "no/such/x.html"): "no/such/x.html cannot be written (No such file or directory)",
    }.items():
        assert expected in store.refused("compare", *words)


def test_filters_keep_what_they_name(store: CommandLine) -> None:
    assert "fusion sum" not in store("compare", "-f", "late").out
    text = store("compare", "-f", "concat", "--seed", "2").out
    assert re.search(r"joint +1 +\d", text)
    assert "against joint" not in text
    kept = store("compare", "-m", "agm", "--baseline", "joint").out
    assert "all cells: against joint" in kept
    assert "against agm" in store("compare", "--baseline", "agm").out
    assert "m0 + m1" in store("compare", "--coalitions").out
    assert "no figures of synthetic under fusion concat" in store("compare", "--published").out


def test_output_takes_every_written_form(store: CommandLine, tmp_path: Path) -> None:
    for form in ("markdown", "latex", "csv", "json"):
        path = tmp_path / form
        assert store("compare", "--format", form, "--output", str(path)).status == 0
        written, printed = path.read_text(encoding="utf-8").rstrip(), store("compare", "--format", form).out.rstrip()
        assert DATE.sub("", written) == DATE.sub("", printed) != printed, "a minute may begin between the two"
