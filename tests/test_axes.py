"""Several values on the axes of `agmbench run`, files of options, and names that users give to runs."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import SMALL, CommandLine

from agmbench.cli.options import Seeds
from agmbench.jobs import parse_ranges


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("1", (1,)), ("5", (1, 2, 3, 4, 5)), ("3-5", (3, 4, 5)), ("4,1", (4, 1)), ("7,9-10, 7", (7, 9, 10)), ("0-1", (0, 1))],
)
def test_seeds_are_a_count_a_range_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    assert Seeds().convert(text, None, None) == seeds


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1,0.2", [0.1, 0.2]),
        ("0.1", [0.1]),
        ("[1, 2]", [[1, 2]]),
        ("[1, 2],[3]", [[1, 2], [3]]),
        ("a, b", ["a", "b"]),
        ("'a,b'", ["a,b"]),
        ("{a: 1, b: 2}", [{"a": 1, "b": 2}]),
        ("null,true", [None, True]),
        ("a,", ["a,"]),
        ("", [None]),
    ],
)
def test_commas_part_values_unless_yaml_takes_them_for_one(text: str, values: list[object]) -> None:
    assert parse_ranges([f"key={text}"]) == {"key": values}


def test_every_combination_is_a_job(line: CommandLine) -> None:
    words = ("run", *SMALL, "-m", "joint,AGM", "--seeds", "3,8", "--set", "training.lr=0.1,0.2", "--dry-run")
    *jobs, last = line(*words).out.splitlines()
    assert last == "8 jobs, 0 skipped"
    assert jobs[1] == "synthetic joint dataset.samples=128 training.lr=0.1 training.epochs=2 seed 8"
    assert len(set(jobs)) == 8
    assert list(line.folder.iterdir()) == []
    skipped = line("run", *SMALL, "-m", "joint,ogm", "-f", "early,concat", "--dry-run").out.splitlines()
    label = "synthetic early ogm dataset.samples=128 training.epochs=2 seed 999"
    assert skipped[1] == f"{label}: skipped"
    assert skipped[-2].startswith(f"skipped: {label}, because modulator 'ogm' needs")
    assert skipped[-1] == "4 jobs, 1 skipped"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seeds", "5-3"), "'5-3' should be a count (5, for seeds 1 to 5), a range (3-7) or a list (1,4,8-10)"),
        (("--seeds", "2", "--seed", "1"), "--seeds and --seed (or --set seed) both set the seed"),
        (("--set", "seed=1,x"), "'seed' is 'x': should be a whole number"),
        (("-m", "joint,agn"), "unknown modulator 'agn': did you mean 'agm'?"),
        (("-m", "joint,,agm"), "a name is missing before or after a comma"),
        (("--seeds", "2", "--set", "lr=3"), "--set lr: no such setting: did you mean training.lr?"),
        (("--seeds", "2", "--profile"), "--profile needs a single job"),
        (("--seeds", "2", "--device", "cpu"), "--device needs a single job"),
        (("--seeds", "2", "--name", "a b"), "--name of several jobs 'a b'"),
        (("--name", " "), "--name ' ' should be one line"),
        (("--job", "job.yaml", "--dump-config"), "--dump-config cannot be used with --job"),
        (("--tag", "a"), "--tag a: should be key=value"),
        (("--tag", "a b=c"), "--tag a b: a key should have at most 100 characters"),
        (("--tag", "a=b", "--tag", "a=c"), "--tag a is given twice"),
    ],
)
def test_axes_that_cannot_be_are_one_line(words: tuple[str, ...], said: str, line: CommandLine) -> None:
    assert said in line.refused("run", "-d", "synthetic", *words)


def test_a_dumped_configuration_is_the_same_command(line: CommandLine) -> None:
    words = ("run", *SMALL, "-m", "joint,agm", "--seeds", "1-2", "-e", "m0=mlp", "--set", "training.lr=0.1,0.2")
    words += ("--set", "encoder.m0.hidden=[3, 4]", "--tag", "machine=007", "--set", "training.weight_decay=1.0e-5")
    text = line(*words, "--dump-config").out
    file = line.folder / "my.yaml"
    file.write_text(text)
    assert yaml.safe_load(text)["set"]["encoder.m0.hidden"] == [3, 4]
    assert line("run", "--config", "my.yaml", "--dump-config").out == text
    assert line("run", "--config", "my.yaml", "--dry-run").out == line(*words, "--dry-run").out


def test_options_override_a_configuration_key_by_key(line: CommandLine) -> None:
    (line.folder / "my.yaml").write_text(
        "dataset: synthetic\nmodulator: [joint, agm]\nseeds: 3\nepochs: 2\nquiet: true\nset: {dataset.samples: 128, mute: mean}\n"
    )
    given = ("--seed", "4", "--set", "training.epochs=7", "--set", "mute=zeros", "-m", "ogm")
    found = yaml.safe_load(line("run", "--config", "my.yaml", *given, "--dump-config").out)
    del found["device"], found["launcher"], found["log-format"]
    settings = {"dataset.samples": 128, "training.epochs": 7, "mute": "zeros"}
    assert found == {"dataset": "synthetic", "modulator": "ogm", "seed": 4, "set": settings, "quiet": True}
    job = yaml.safe_load(line("run", "--config", "my.yaml", *given, "--dry-run").out)
    assert (job["modulator"]["name"], job["training"]["epochs"], job["seed"]) == ("ogm", 7, 4)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modulatr: agm", "my.yaml: no option 'modulatr': did you mean 'modulator'?"),
        ("set: agm", "my.yaml: 'set' should be a mapping, such as {key: value}; found 'agm'"),
        ("modulator: {a: b}", "my.yaml: 'modulator' should be one value or a list"),
        ("quiet: 3", "my.yaml: 'quiet' should be true or false; found 3"),
        ("[1]", "my.yaml should be a mapping of options"),
        ("a: [", "is not YAML"),
        ("seeds: x", "'x' should be a count"),
    ],
)
def test_a_configuration_that_cannot_be_is_one_line(text: str, said: str, line: CommandLine) -> None:
    (line.folder / "my.yaml").write_text(text)
    assert said in line.refused("run", "--config", "my.yaml")


def test_runs_are_named_and_tagged_and_found_by_it(finished: CommandLine, tmp_path: Path) -> None:
    finished = CommandLine(shutil.copytree(finished.folder, tmp_path / "copy"))
    assert finished("run", "-m", "agm", *SMALL, "--name", "mine", "--tag", "machine=a100", "--tag", "try=2").status == 0
    assert "'mine' is done already" in finished("run", "-m", "agm", *SMALL).err
    (table,) = json.loads(finished("compare", "--tag", "machine=a100", "--format", "json").out)["tables"]
    assert [row["method"] for row in table["rows"]] == ["concept", "agm"]
    assert "no runs with this --tag; the store has: machine=a100, try=2" in finished.refused("compare", "--tag", "try=3")


def test_compare_takes_runs_of_a_time(finished: CommandLine) -> None:
    assert finished("compare", "--since", "2020-01-01", "--until", "2199-12-31T10:00").out == finished("compare").out
    assert "the runs in the store began between 2" in finished.refused("compare", "--until", "2020-01-01")
    assert "'yesterday' should be a date, such as 2026-11-30" in finished.refused("compare", "--since", "yesterday")


def test_compare_is_sorted_by_a_column(finished: CommandLine) -> None:
    for key, better in (("accuracy", -1), ("strength/m0", 1)):
        (table,) = json.loads(finished("compare", "--sort", key, "--format", "json").out)["tables"]
        methods = [row for row in table["rows"] if row["method"] != "concept"]
        means = [row["values"][key]["mean"] for row in methods]
        assert len(means) == 2
        assert means == sorted(means, key=lambda mean: better * mean)
    assert "--sort acc: there is no such column in these tables: did you mean 'accuracy'?" in finished.refused(
        "compare", "--sort", "acc"
    )


@pytest.mark.long
def test_several_jobs_end_with_the_table_that_compares_them(line: CommandLine, tmp_path: Path) -> None:
    words = ("run", *SMALL, "-m", "joint,agm", "--seeds", "2", "--tag", "of=several", "--name", "both")
    result = line.finish(*words)
    assert result.status == 0, result.err
    assert result.err.count(": done, test accuracy 0.") == 8  # two unimodal models per seed
    assert "8 jobs (4 of them unimodal models) in " in result.err
    assert "suite 'both': 4 done, 0 failed, 0 missing, 0 skipped" in result.err
    assert [text.split()[:2] for text in result.out.splitlines() if text.startswith((" joint", " agm"))][:2] == [
        ["joint", "2"],
        ["agm", "2"],
    ]
    tagged = json.loads(line("compare", "--tag", "of=several", "--format", "json").out)["tables"][0]["rows"]
    assert [row["n"] for row in tagged if row["method"] != "concept"] == [2, 2]
    again = line.finish(*words[:-4], "--tag", "of=later", "--name", "both")
    assert "done, test" not in again.err
    assert again.out == result.out
    assert line("compare", "--tag", "of=later").status == 0
