"""What `agmbench data verify` and `check` find, and what `run` refuses, on a small data set with one fault that is chosen by name."""

from pathlib import Path

import numpy as np
import pytest
from conftest import CommandLine
from scipy.io.wavfile import write
from torch import Tensor

from agmbench import registry, testing
from agmbench.contracts import Batch, Split, SplitName, TensorSplit
from agmbench.data.fit import check_fit
from agmbench.datasets.stored import Joined, Stored, StoredSplit
from agmbench.datasets.synthetic import Synthetic
from agmbench.errors import AgmbenchError

FAULTY = '''
from typing import Literal
import torch
from agmbench.contracts import Dataset, SPLITS, TensorSplit, Tokens
from agmbench.tasks import MultiLabel, Regression, Segments, SingleLabel

TASKS = {"single": SingleLabel(), "segments": Segments(), "multi": MultiLabel(), "regression": Regression(1.0)}

def good(task, g):
    y = torch.arange(24) % 3
    if task == "segments":
        return torch.stack([y, (y + 1) % 3], dim=1)
    if task == "multi":
        return torch.nn.functional.one_hot(y, 3).float()
    return torch.randn(24, generator=g) if task == "regression" else y

def changed(x, place, value):
    x = x.clone()
    x[place] = value
    return x

TARGETS = {
    "int32": lambda y: y.int(),
    "float": lambda y: y.float(),
    "column": lambda y: y[:, None],
    "label -1": lambda y: changed(y, 4, -1),
    "label 3": lambda y: changed(y, slice(1, 5), 3),
    "row": lambda y: y[:, 0],
    "integers": lambda y: y.long(),
    "label 2.0": lambda y: changed(y, (20, 1), 2.0),
    "nan": lambda y: changed(y, 7, float("nan")),
    "one class": lambda y: torch.zeros_like(y),
    "no class 2": lambda y: y.clamp(max=1),
    "constant": lambda y: torch.full_like(y, 0.5),
    "short": lambda y: y[:20],
}
INPUTS = {
    "float64": lambda x: x.double(),
    "uint8": lambda x: x.byte(),
    "shape": lambda x: x[:, :5],
    "not finite": lambda x: changed(x, (9, 2), float("inf")),
    "silent": lambda x: changed(x, [3, 5, 8, 9], 0.0),
    "quiet": lambda x: changed(x, 3, -16.0),
    "same": lambda x: torch.ones_like(x) * torch.arange(6),
    "all silent": lambda x: torch.zeros_like(x),
}

class Raising(TensorSplit):
    def batch(self, index):
        raise IndexError("no such row")

class Faulty(Dataset):
    """Two modalities of numbers; m1 is a sequence where `tokens` is its length."""

    def __init__(self, seed: int, *, fault: str = "none", of: str = "valid", task: str = "single", tokens: int | None = None) -> None:
        self.task, self.class_names, self.fingerprint = TASKS[task], ["red", "green", "blue"], f"{fault} {of} {task} {tokens}"
        self.shapes = {"m0": (6,), "m1": (6,) if tokens is None else (tokens, 2)}
        g = torch.Generator().manual_seed(0)
        self.made = {}
        for name in SPLITS:
            x, y = {m: torch.randn(24, *shape, generator=g) for m, shape in self.shapes.items()}, good(task, g)
            there = torch.ones(24, tokens or 0, dtype=torch.bool)
            if name == of:
                y = TARGETS.get(fault, lambda y: y)(y)
                x["m0"] = INPUTS.get(fault, lambda x: x)(x["m0"])
                there[[2, 6]] = fault != "no token"
                there = there.float() if fault == "mask" else there
                first = self.made.get("train")
                if fault in ("copies", "copied m0"):
                    x["m0"][:5] = first.inputs["m0"][10:15]
                if fault == "copies":
                    there_too = first.inputs["m1"]
                    x["m1"][:5] = (there_too.values if tokens else there_too)[10:15]
            if tokens == 4 and fault == "copies":
                there[:, 3], x["m1"][:, 3] = False, float(len(self.made))  # what is hidden is no content
            if tokens is not None:
                x["m1"] = Tokens(x["m1"], there)
            if name == of and fault == "no m1":
                del x["m1"]
            self.made[name] = Raising(x, y) if name == of and fault == "raises" else TensorSplit(x, y)
        if fault == "valid is test":
            self.made["test"] = self.made["valid"]

    def split(self, name):
        return self.made[name]
'''
REGISTRY = """
datasets:
  faulty:
    target: faulty:Faulty
    summary: a data set with faults
    job: {encoders: {"*": {name: mlp, params: {hidden: 4, layers: 1}}}, training: {epochs: 1, lr: 0.1, batch_size: 8}}
"""


@pytest.fixture
def faulty(line: CommandLine) -> CommandLine:
    """A command line with the data set as a plugin."""
    plugin = line.folder / "plugins" / "faulty"
    plugin.mkdir(parents=True)
    (plugin / "faulty.py").write_text(FAULTY)
    (plugin / "registry.yaml").write_text(REGISTRY)
    return line


def checked(line: CommandLine, params: dict[str, object]) -> dict[str, testing.Check]:
    entry = registry.load(line.folder / "plugins").get("dataset", "faulty")
    return {check.name: check for check in testing.check(entry, params=params)}


NUMBERS = "class numbers 0 to 2"
UNTRAINABLE: list[tuple[dict[str, object], str, str, str]] = [
    ({"fault": "int32"}, "targets", "targets of torch.int32 [N] in 24 of 24 samples (0, 1, 2)", f"torch.int64 [N], {NUMBERS}"),
    (
        {"fault": "float"},
        "targets",
        "targets of torch.float32 [N] in 24 of 24 samples (0, 1, 2)",
        f"torch.int64 [N], {NUMBERS}",
    ),
    (
        {"fault": "column"},
        "targets",
        "targets of torch.int64 [N, 1] in 24 of 24 samples (0, 1, 2)",
        f"torch.int64 [N], {NUMBERS}",
    ),
    (
        {"fault": "label -1"},
        "targets",
        "targets out of range, such as -1, in 1 of 24 samples (4)",
        f"torch.int64 [N], {NUMBERS}",
    ),
    (
        {"fault": "label 3", "of": "train"},
        "targets",
        "targets out of range, such as 3, in 4 of 24 samples (1, 2, 3)",
        f"torch.int64 [N], {NUMBERS}",
    ),
    (
        {"fault": "row", "task": "segments"},
        "targets",
        "targets of torch.int64 [N] in 24 of 24 samples (0, 1, 2)",
        f"torch.int64 [N, T], {NUMBERS}",
    ),
    (
        {"fault": "label -1", "task": "segments"},
        "targets",
        "targets out of range, such as -1, in 1 of 24 samples (4)",
        f"torch.int64 [N, T], {NUMBERS}",
    ),
    (
        {"fault": "integers", "task": "multi"},
        "targets",
        "targets of torch.int64 [N, 3] in 24 of 24 samples (0, 1, 2)",
        "torch.float32 [N, 3] of 0 and 1",
    ),
    (
        {"fault": "label 2.0", "task": "multi"},
        "targets",
        "targets out of range, such as 2, in 1 of 24 samples (20)",
        "torch.float32 [N, 3] of 0 and 1",
    ),
    (
        {"fault": "nan", "task": "regression"},
        "targets",
        "targets out of range, such as nan, in 1 of 24 samples (7)",
        "torch.float32 [N], finite numbers",
    ),
    (
        {"fault": "column", "task": "regression"},
        "targets",
        "targets of torch.float32 [N, 1] in 24 of 24 samples (0, 1, 2)",
        "torch.float32 [N], finite numbers",
    ),
    ({"fault": "float64"}, "batch", "m0 of torch.float64 [N, 6] in {} of {} samples (0, 1, 2)", "torch.float32 [N, 6]"),
    ({"fault": "uint8"}, "batch", "m0 of torch.uint8 [N, 6] in {} of {} samples (0, 1, 2)", "torch.float32 [N, 6]"),
    ({"fault": "no m1", "of": "test"}, "batch", "no m1 in {} of {} samples (0, 1, 2)", "torch.float32 [N, 6]"),
    ({"fault": "shape"}, "batch", "m0 of torch.float32 [N, 5] in {} of {} samples (0, 1, 2)", "torch.float32 [N, 6]"),
    (
        {"fault": "mask", "tokens": 4},
        "batch",
        "a mask of m1 of torch.float32 [N, 4] in {} of {} samples (0, 1, 2)",
        "torch.bool [N, 4]",
    ),
    (
        {"tokens": 0},
        "batch",
        "m1 of [N, 0, 2], which has no numbers in {} of {} samples (0, 1, 2)",
        "lengths of 1 or more",
    ),
]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("params", "name", "found", "expected"), UNTRAINABLE, ids=[" ".join(map(str, p.values())) for p, *_ in UNTRAINABLE]
)
def test_what_cannot_be_trained_on_is_one_line_of_run_verify_and_check(
    faulty: CommandLine, params: dict[str, object], name: str, found: str, expected: str
) -> None:
    split = "train" if "tokens" in params and "fault" not in params else params.get("of", "valid")
    whole, begun = (f"{split}: {found.format(count, count)}; expected {expected}" for count in (24, 16))
    settings = [f"{key}={value}" for key, value in params.items()]
    verdict = faulty("data", "verify", "faulty", *(word for text in settings for word in ("--set", text)))
    assert verdict.status == 2
    assert verdict.err.startswith(f"error: 'faulty' is not sound: {whole}")
    assert verdict.err.count("\n") == 1
    refused = faulty.refused("run", "-d", "faulty", *(word for text in settings for word in ("--set", f"dataset.{text}")))
    assert refused.startswith(f"error: data set 'faulty': {begun if '{}' in found else whole}")
    checks = checked(faulty, params)
    assert checks[name].outcome == "failed"
    assert checks[name].detail.startswith(whole)


WRONG: list[tuple[dict[str, object], str, str]] = [
    ({"fault": "no class 2", "of": "train"}, "classes", "train: 1 of 3 classes do not occur"),
    (
        {"fault": "copies"},
        "apart",
        "valid: inputs of train in 5 of 24 samples (0, 1, 2); expected no sample in two splits",
    ),
    ({"fault": "copies", "tokens": 4, "of": "test"}, "apart", "test: inputs of train in 5 of 24 samples (0, 1, 2)"),
    (
        {"fault": "not finite", "of": "dev"},
        "content",
        "dev: m0 with numbers that are not finite in 1 of 24 samples (9); expected finite numbers",
    ),
]


@pytest.mark.parametrize(("params", "name", "said"), WRONG, ids=[" ".join(map(str, p.values())) for p, *_ in WRONG])
def test_what_is_wrong_in_content_fails_verify_and_check(
    faulty: CommandLine, params: dict[str, object], name: str, said: str
) -> None:
    verdict = faulty(
        "data", "verify", "faulty", *(word for item in params.items() for word in ("--set", "{}={}".format(*item)))
    )
    assert verdict.status == 2
    assert said in verdict.err
    assert verdict.err.count("\n") == 1
    checks = checked(faulty, params)
    assert checks[name].outcome == "failed"
    assert checks[name].detail.startswith(said)


def test_a_class_that_is_asked_for_and_never_taught_is_told_with_where_it_is(faulty: CommandLine) -> None:
    error = faulty("data", "verify", "faulty", "--set", "fault=no class 2", "--set", "of=train").err
    assert "train: 1 of 3 classes do not occur ('blue'); test has them 8 times (samples 2, 5, 8)" in error


ODD: list[tuple[dict[str, object], str, str]] = [
    (
        {"fault": "one class"},
        "classes",
        "valid: 2 of 3 classes do not occur ('green', 'blue'), all targets are 'red'; train has them 16 times (samples 1, 2, 4)",
    ),
    (
        {"fault": "no class 2", "of": "test"},
        "classes",
        "test: 1 of 3 classes do not occur ('blue'); train has them 8 times (samples 2, 5, 8)",
    ),
    (
        {"fault": "one class", "of": "test", "task": "segments"},
        "classes",
        "test: 2 of 3 classes do not occur ('green', 'blue'), all targets are 'red'; train has them 32 times (samples 0, 1, 2)",
    ),
    ({"fault": "constant", "task": "regression"}, "targets", "valid: all 24 targets are 0.5"),
    ({"fault": "silent"}, "content", "valid: m0 is one number throughout, such as 0, in 4 of 24 samples (3, 5, 8)"),
    ({"fault": "quiet"}, "content", "valid: m0 is one number throughout, such as -16, in 1 of 24 samples (3)"),
    ({"fault": "no token", "tokens": 4}, "content", "valid: m1 has no token in 2 of 24 samples (2, 6)"),
    ({"fault": "same"}, "content", "valid: m0 is the same in 24 of 24 samples (0, 1, 2)"),
    ({"fault": "all silent"}, "content", "valid: m0 is the same, 0 throughout, in 24 of 24 samples (0, 1, 2)"),
    ({"fault": "copied m0"}, "apart", "valid: m0 of train in 5 of 24 samples (0, 1, 2)"),
    (
        {"fault": "valid is test"},
        "apart",
        "test: the samples of valid, so that whatever is chosen on valid is chosen on test, in 24 of 24 samples (0, 1, 2)",
    ),
]


@pytest.mark.parametrize(("params", "name", "said"), ODD, ids=[" ".join(map(str, p.values())) for p, *_ in ODD])
def test_what_is_odd_is_told_and_passes(faulty: CommandLine, params: dict[str, object], name: str, said: str) -> None:
    verdict = faulty(
        "data", "verify", "faulty", *(word for item in params.items() for word in ("--set", "{}={}".format(*item)))
    )
    assert verdict.status == 0, verdict.err
    assert [text for text in verdict.out.splitlines() if text.startswith("odd: ")] == [f"odd: {said}"]
    assert verdict.out.endswith("'faulty' has nothing wrong; odd findings: 1\n")
    checks = checked(faulty, params)
    assert checks[name].outcome == "passed"
    assert f"odd: {said.partition(' (')[0]}" in checks[name].detail


@pytest.mark.bad_input
def test_a_split_that_cannot_be_read_is_one_line_of_run(faulty: CommandLine) -> None:
    error = faulty.refused("run", "-d", "faulty", "--set", "dataset.fault=raises")
    assert error.startswith(
        "error: data set 'faulty': valid cannot be read (IndexError: no such row at plugins/faulty/faulty.py:"
    )


def test_a_limited_job_is_judged_by_the_samples_that_it_sees(faulty: CommandLine) -> None:
    words = ("run", "-d", "faulty", "--no-strength", "--set", "dataset.task=multi", "--set", "dataset.fault=label 2.0")
    assert "such as 2, in 1 of 22 samples (19); expected" in faulty.refused(*words, "--limit", "22")
    seen = faulty(*words, "--limit", "2")  # the first and the middle one
    assert seen.status == 0, seen.err


class Late(Synthetic):
    """A data set whose last sample has an impossible class number, with splits of the class `kind`."""

    def __init__(self, kind: type[Split]) -> None:
        super().__init__(0, samples=64)
        self.kind = kind

    def split(self, name: SplitName) -> Split:
        whole = super().split(name)
        assert isinstance(whole, TensorSplit)
        targets, rows = whole.targets.clone(), np.arange(len(whole))
        targets[-1] = 4
        if self.kind is OnDisk:
            return OnDisk(TensorSplit(whole.inputs, targets))
        inputs = {m: Stored(x.numpy()) for m, x in whole.inputs.items() if isinstance(x, Tensor)}
        parts = [StoredSplit(inputs, targets[part], rows[part]) for part in (slice(0, 40), slice(40, None))]
        return Joined(parts)


class OnDisk:
    """A split whose targets are only known from batches."""

    def __init__(self, whole: TensorSplit) -> None:
        self.whole = whole

    def __len__(self) -> int:
        return len(self.whole)

    def batch(self, index: Tensor) -> Batch:
        return self.whole.batch(index)


def test_targets_in_memory_are_all_judged_before_a_job_begins() -> None:
    with pytest.raises(AgmbenchError, match=r"'late': train: targets out of range, such as 4, in 1 of 64 samples \(63\)"):
        check_fit("late", Late(Joined))
    check_fit("late", Late(OnDisk))  # a split on disk is not read to its end


@pytest.mark.parametrize("params", [{"task": task} for task in ("single", "segments", "multi", "regression")] + [{"tokens": 4}])
def test_what_is_sound_is_sound(faulty: CommandLine, params: dict[str, object]) -> None:
    verdict = faulty(
        "data", "verify", "faulty", *(word for item in params.items() for word in ("--set", "{}={}".format(*item)))
    )
    assert (verdict.status, verdict.out[-18:]) == (0, "'faulty' is sound\n"), verdict
    checks = checked(faulty, params)
    assert "odd: " not in " ".join(check.detail for check in checks.values())
    assert [name for name, check in checks.items() if check.outcome == "failed"] == []


@pytest.mark.parametrize("name", ["urfunny", "kinetics-sound"])
def test_valid_that_is_test_by_protocol_is_a_finding(
    line: CommandLine, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGMBENCH_DATA", str(tmp_path / "data"))
    assert line("data", "sample", name).status == 0
    verdict = line("data", "verify", name, "--set", "protocol=paper")
    assert verdict.status == 0, verdict.err
    assert "odd: test: the samples of valid, so that whatever is chosen on valid is chosen on test, in " in verdict.out
    assert " samples (0 (clip " in verdict.out
    checks = {
        check.name: check for check in testing.check(registry.builtin().get("dataset", name), params={"protocol": "paper"})
    }
    assert checks["apart"].outcome == "passed"
    assert "odd: test: the samples of valid, so that" in checks["apart"].detail


def test_a_silent_recording_is_a_finding_and_one_without_sound_an_error(
    line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layout decodes sound: the spectrogram of silence is constant, but not zero, and that of dither has only small numbers."""
    root = tmp_path / "data"
    monkeypatch.setenv("AGMBENCH_DATA", str(root))
    assert line("data", "sample", "cremad", "--layout", "official").status == 0
    first = min((root / "cremad" / "AudioWAV").iterdir())
    write(first, 16_000, np.zeros(16_000, dtype=np.int16))
    verdict = line("data", "verify", "cremad")
    assert verdict.status == 0, verdict.err
    assert "audio is one number throughout, such as -16.1181, in 1 of " in verdict.out
    assert f"clip {first.stem})" in verdict.out
    write(first, 16_000, np.random.default_rng(0).integers(-1, 2, 16_000, dtype=np.int16))
    near = line("data", "verify", "cremad").out
    assert "throughout, which is almost silence, in 1 of " in near
    assert f"clip {first.stem})" in near
    write(first, 16_000, np.zeros(0, dtype=np.int16))
    assert str(first) in line("data", "verify", "cremad").err
