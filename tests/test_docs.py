"""Generated pages agree with registry, docstrings, signatures and command line; every command that is shown exists."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import write_methods
import yaml
from conftest import CommandLine
from pages import command_line, components, methods
from pages.docstrings import described, prose

import agmbench.registry as registry
from agmbench.cli import cli
from agmbench.errors import AgmbenchError
from agmbench.parameters import parameters

ROOT = Path(__file__).parents[1]
KNOWN = registry.load()
ENTRIES = KNOWN.entries()
PATTERNS = ("README.md", "CONTRIBUTING.md", "docs/*.md", "plugins/**/*.md", "examples/**/*.md")
WRITTEN = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))


def page(entry: registry.Entry) -> str:
    return components.page(entry, KNOWN, ROOT)


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_a_page_has_the_summary_the_paper_and_each_parameter_with_its_default(entry: registry.Entry) -> None:
    text = page(entry)
    assert prose(entry.summary) in text
    assert prose(entry.paper) in text
    assert "Not described." not in text
    for name, field in parameters(entry).model_fields.items():
        shown = re.search(rf"^`{name}` · .*?(?:required|default `(.*?)`)", text, re.MULTILINE)
        assert shown, name
        default = entry.params.get(name, "required" if field.is_required() else field.default)
        found = "required" if shown[1] is None else yaml.safe_load(shown[1])
        # YAML reads 1e-10 as text, as --set does; the type in the signature makes it a number
        if isinstance(default, float):
            assert float(found) == pytest.approx(default, rel=1e-5)
        else:
            assert found == (list(default) if isinstance(default, tuple) else default)


@pytest.mark.parametrize("entry", KNOWN.entries("modulator"), ids=str)
def test_a_modulator_has_an_equation_and_a_published_one_says_how_it_differs(entry: registry.Entry) -> None:
    text = page(entry)
    assert "```text" in text
    assert ("## Differences from the official code" in text) == bool(entry.paper)
    for dataset in KNOWN.entries("dataset"):
        for name in dataset.job.get("modulators", {}).get(entry.name, {}):
            assert re.search(rf"\[`{dataset.name}`\].*`{name}`", text)


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.job], ids=str)
def test_a_jobs_defaults_are_shown_as_they_stand_in_the_registry(entry: registry.Entry) -> None:
    (shown,) = re.findall(r"## Defaults of a job on it\n\n```yaml\n(.*?)\n```", page(entry), re.DOTALL)
    raw = re.sub(r"\*\w+$", "", shown, flags=re.MULTILINE)
    assert yaml.safe_load(raw) == entry.job


@pytest.mark.parametrize("kind", registry.KINDS)
def test_the_table_of_a_kind_links_all_of_it(kind: str) -> None:
    table = components.table(KNOWN, kind)
    assert re.findall(r"^\| \[`.*?`\]\((.*?)\.md\)", table, re.MULTILINE) == [entry.name for entry in KNOWN.entries(kind)]


def test_the_page_of_methods_is_up_to_date() -> None:
    made, stands = write_methods.text(), (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert stands == made, "make it anew: python scripts/write_methods.py"


def test_the_page_of_methods_has_each_in_one_family_with_its_files() -> None:
    entries = registry.builtin().entries("modulator")
    assert {entry.family for entry in entries} == set(methods.FAMILIES)
    rows = re.findall(r"^\| \[`(.+?)`\].*$", write_methods.text(), re.MULTILINE)
    assert sorted(rows) == sorted(entry.name for entry in entries)
    agreement = methods.read(ROOT / "tests" / "reference" / "agreement.csv")
    recorded = {path.stem for path in (ROOT / "tests" / "reference").glob("*.npz")}
    assert set(agreement) == recorded
    of_methods = methods.files_of([entry.name for entry in entries] + ["mmcosine"], agreement)
    assert {file for files in of_methods.values() for file in files} == recorded - {
        "competition_strength"
    }  # this file belongs to a metric, not to a method


@pytest.mark.parametrize(
    ("paper", "expected"),
    [
        ("Peng et al., Balanced Learning, CVPR 2022", "CVPR 2022"),
        ("Li et al., Boosting, ICCV 2023, supplement", "ICCV 2023"),
        ("Yu et al., Surgery, NeurIPS 2020; others by `aggregator`", "NeurIPS 2020"),
        ("Yao and Mihalcea, Rates, Findings of ACL 2022", "Findings of ACL 2022"),
        ("", ""),
    ],
)
def test_a_venue_is_read_from_a_reference(paper: str, expected: str) -> None:
    assert methods.venue(paper) == expected


def test_nothing_of_a_docstring_is_mangled() -> None:
    said = described(
        """Takes C*H numbers of H*W places, a_b and x < y | z as they are, `a_b <- c | d` as code.

            S_m <- S_m t/(t+1)   | *

        a, b: of **both**,
            more of it.
        c: alone.

        Official code: agrees.
        """,
        ["a", "b", "c"],
    )
    assert said.text.splitlines() == [
        r"Takes C\*H numbers of H\*W places, a\_b and x &lt; y \| z as they are, `a_b <- c | d` as code.",
        "",
        "```text",
        "S_m <- S_m t/(t+1)   | *",
        "```",
    ]
    assert said.meanings == {("a", "b"): "of **both**, more of it.", ("c",): "alone."}
    assert said.official == "Agrees."


def test_the_command_lines_page_has_every_command_with_every_option() -> None:
    sections = re.split(r"^#+ (.*)\n", command_line.page(cli, "agmbench"), flags=re.MULTILINE)[1:]
    found = dict(zip(sections[::2], sections[1::2], strict=True))
    contexts = list(command_line.commands(cli, "agmbench"))
    assert list(found) == [context.command_path for context in contexts]
    assert {f"agmbench {verb}" for verb in cli.list_commands(click.Context(cli))} < set(found)
    for context in contexts:
        for parameter in context.command.params:
            wanted = parameter.opts if isinstance(parameter, click.Option) else [parameter.make_metavar(context)]
            assert all(word in found[context.command_path] for word in wanted), (context.command_path, parameter.name)


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_a_document_shows_is_one(path: Path) -> None:
    for words in commands(path.read_text(encoding="utf-8")):
        parse(words)


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_to_a_file(path: Path) -> None:
    generated = {"cli.md", *(f"{components.folder(kind)}/index.md" for kind in registry.KINDS)}
    generated |= {f"{components.folder(entry.kind)}/{entry.name}.md" for entry in ENTRIES}
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", path.read_text(encoding="utf-8")):
        assert target in generated or (path.parent / target).exists(), target


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_every_command_that_a_page_shows_is_one(entry: registry.Entry) -> None:
    found = list(commands(page(entry)))
    assert found
    for words in found:
        parse(words)


@pytest.mark.parametrize("typed", ["agmbench rum", "agmbench run --modulater x", "agmbench show fusoin sum", "agmbench ui x"])
def test_a_command_that_is_none_is_found(typed: str) -> None:
    (words,) = commands(f"```sh\n{typed}  # as shown\n```")
    with pytest.raises((click.ClickException, AgmbenchError, AssertionError)):
        parse(words)


def blocks(path: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / "docs" / path).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def test_the_first_modulator_passes_its_check_with_the_line_that_the_page_changes(line: CommandLine) -> None:
    assert line("plugin", "new", "modulator", "mine").status == 0
    before, after = (text[1:] for text in blocks("first-modulator.md", "diff")[0].splitlines())
    file = line.folder / "plugins/mine/mine.py"
    code = file.read_text(encoding="utf-8")
    assert code.count(before) == 1
    file.write_text(code.replace(before, after), encoding="utf-8")
    assert blocks("first-modulator.md", "yaml") == [(line.folder / "plugins/mine/registry.yaml").read_text(encoding="utf-8")]
    checked = line("check", "modulator/mine")
    assert checked.status == 0, checked
    for shown in blocks("first-modulator.md", "text")[1].splitlines():
        assert shown == "..." or numberless(shown) in numberless(checked.out), shown


def numberless(text: str) -> str:
    return re.sub(r"\d+", "0", text)


def test_the_first_data_set_passes_its_check_as_the_page_writes_it(line: CommandLine) -> None:
    assert line("plugin", "new", "dataset", "sensors").status == 0
    folder = line.folder / "plugins/sensors"
    for name, language in (("sensors.py", "python"), ("registry.yaml", "yaml")):
        (folder / name).write_text(blocks("first-dataset.md", language)[0], encoding="utf-8")
    assert "sensors.npz; ask its owners" in line("check", "dataset/sensors").out
    drawn, count = np.random.default_rng(0), 400
    samples = {"sensor": drawn.normal(size=(count, 8)), "image": drawn.normal(size=(count, 1, 8, 8))}
    np.savez(folder / "sensors.npz", **samples, label=np.arange(count) % 3, person=np.arange(count) // 4)
    checked = line("check", "dataset/sensors")
    assert checked.status == 0, checked
    described = line("run", "--dataset", "sensors", "--dry-run")
    assert described.status == 0, described


def commands(markdown: str) -> Iterator[list[str]]:
    """The words after `agmbench` of each command in a code block, fenced or indented."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    blocks += re.findall(r"^    (.*)", re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        for part in re.split(r"; |&& |\| ", line.partition(" #")[0]):
            if part.strip().startswith("agmbench "):
                yield shlex.split(part)[1:]


def parse(words: list[str]) -> None:
    """Raise unless these words are a valid command with valid options and values."""
    context = click.Context(cli, info_name="agmbench")
    while True:
        options, rest, _ = context.command.make_parser(context).parse_args(list(words))
        for parameter in context.command.params:
            value = options.get(parameter.name)
            missing = value is None or parameter.value_is_missing(value)
            assert not (missing and parameter.required), f"{context.command_path} needs {parameter.human_readable_name}"
            if not missing and not isinstance(parameter.type, click.Path):
                parameter.type_cast_value(context, value)
        if not (isinstance(context.command, click.Group) and rest):
            break
        name, *words = rest
        inner = context.command.get_command(context, name)
        assert inner is not None, f"{context.command_path} has no command '{name}'"
        context = click.Context(inner, info_name=name, parent=context)
    assert not rest, f"{context.command_path} takes no {' '.join(rest)}"
