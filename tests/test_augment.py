"""Transforms of a job: they draw the same for any number of workers and after a resume, change only training, and are shown everywhere."""

from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import CommandLine
from PIL import Image
from torch import Tensor

from agmbench import build, registry
from agmbench.augment import Augmentation
from agmbench.contracts import SPLITS, Batch, Input, TensorSplit, Tokens, Transform, read
from agmbench.datasets.cremad import CREMAD
from agmbench.datasets.files import SAMPLE, FileDataset
from agmbench.datasets.media import load_images, pictures_of
from agmbench.datasets.stored import Joined, Stored, StoredSplit
from agmbench.errors import AgmbenchError
from agmbench.execute.evaluation import make_feed
from agmbench.jobs import compose, parse_settings
from agmbench.loading import Feed
from agmbench.protocol import departures
from agmbench.trackers.mlflow import MlflowTracker
from agmbench.train import train

KNOWN = registry.builtin()
CPU = torch.device("cpu")
SMALL = {"audio": "mlp", "visual": "mlp"}
HIDDEN = ["encoder.audio.hidden=4", "encoder.visual.hidden=4", "training.batch_size=8", "training.epochs=3"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """A function that returns the folder above a random pack of a data set in a layout. Each pack is written once."""
    written: dict[tuple[str, str], Path] = {}

    def sample(name: str, layout: str) -> Path:
        if (name, layout) not in written:
            root = tmp_path_factory.mktemp("data") / name
            root.mkdir()
            target: type[FileDataset] = KNOWN.get("dataset", name).load()
            {one.name: one for one in target.layouts}[layout].write_sample(root)
            (root / SAMPLE).touch()
            written[name, layout] = root.parent
        return written[name, layout]

    return sample


@pytest.fixture
def job(samples: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., build.Job]:
    def made(*settings: str, name: str = "cremad", layout: str = "ogm-ge", seed: int = 1, **names: Any) -> build.Job:
        monkeypatch.setenv("AGMBENCH_DATA", str(samples(name, layout)))
        spec = compose(KNOWN, name, "joint", settings=parse_settings([*settings, f"seed={seed}"]), **names)
        return build.resolve(spec, KNOWN)

    return made


def batches(feed: Feed, epoch: int | None = 0) -> list[Batch]:
    pieces = torch.arange(12).flip(0).split(4)
    return list(feed.batches("train", pieces, epoch))


def visual(feed: Feed, epoch: int | None = 0) -> Tensor:
    found = torch.cat([batch.inputs["visual"] for batch in batches(feed, epoch)])  # type: ignore[misc]
    assert found.shape[-2:] == (224, 224)
    return found


def audio(feed: Feed, epoch: int | None = 0) -> Tensor:
    return torch.cat([batch.inputs["audio"] for batch in batches(feed, epoch)])  # type: ignore[misc]


# draws


@pytest.mark.parametrize("layout", [layout.name for layout in CREMAD.layouts])
def test_draws_are_those_of_seed_epoch_and_sample(layout: str, job: Callable[..., build.Job]) -> None:
    one = job(layout=layout)
    with (
        make_feed(one, CPU) as feed,
        make_feed(job(layout=layout), CPU) as again,
        make_feed(job(layout=layout, seed=2), CPU) as other,
    ):
        torch.rand(3)
        first, second = visual(feed), visual(feed, epoch=1)
        assert torch.equal(first, visual(again))
        assert torch.equal(second, visual(again, epoch=1))
        plain = visual(feed, epoch=None)
        for unlike in (second, plain, visual(other)):
            assert not any(torch.equal(a, b) for a, b in zip(first, unlike, strict=True))
        assert torch.equal(audio(feed), audio(feed, epoch=None))
        # a sample is drawn by its number, whatever batch it is in
        (alone,) = feed.batches("train", [torch.tensor([7])], 0)
        assert torch.equal(alone.inputs["visual"][0], first[4])


def test_processes_that_read_ahead_draw_the_same(job: Callable[..., build.Job]) -> None:
    one = job()
    splits = {name: one.dataset.split(name) for name in SPLITS}
    change = build.augmentation(one)
    with Feed(splits, CPU, 0, change) as here, Feed(splits, CPU, 2, change) as ahead:
        for epoch in (0, 3, None):
            for mine, theirs in zip(batches(here, epoch), batches(ahead, epoch), strict=True):
                assert all(torch.equal(a, b) for a, b in zip(mine.tensors(), theirs.tensors(), strict=True))


def test_nothing_but_training_batches_is_changed(job: Callable[..., build.Job]) -> None:
    with make_feed(job(), CPU) as feed, make_feed(job("augment.visual=none"), CPU) as plain:
        for name in SPLITS:
            for one, two in zip(feed.in_order(name), plain.in_order(name), strict=True):
                assert all(torch.equal(a, b) for a, b in zip(one.tensors(), two.tensors(), strict=True))


def test_evaluation_has_transforms_of_its_own(job: Callable[..., build.Job]) -> None:
    cropped, plain = job("evaluation.visual=center-crop"), job()
    with make_feed(cropped, CPU) as feed, make_feed(plain, CPU) as before:
        assert torch.equal(visual(feed), visual(before))
        for name in SPLITS:
            for one, two in zip(feed.in_order(name), before.in_order(name), strict=True):
                assert not torch.equal(one.inputs["visual"], two.inputs["visual"])  # type: ignore[arg-type]
                assert torch.equal(one.inputs["audio"], two.inputs["audio"])  # type: ignore[arg-type]
    splits = {name: cropped.dataset.split(name) for name in SPLITS}
    with Feed(splits, CPU, 2, build.augmentation(cropped)) as ahead:
        assert torch.equal(visual(ahead, None), visual(feed, None))
    assert (
        len({one.digest for one in (cropped, plain, job("evaluation.visual=center-crop", "evaluation.visual.share=0.5"))}) == 3
    )
    assert job("evaluation.visual=none").digest == plain.digest
    found = departures(cropped.spec, KNOWN, cropped.dataset)
    assert {key: value for key, value in found.items() if key.startswith("evaluation")} == {"evaluation.visual": "center-crop"}


def test_what_evaluation_draws_is_the_same_for_every_seed() -> None:
    one, two = (
        build.resolve(compose(KNOWN, "synthetic", settings=[("evaluation.m0", "noise"), ("seed", seed)]), KNOWN)
        for seed in (1, 2)
    )
    changes = [build.augmentation(each) for each in (one, two)]
    x = torch.arange(16.0).unsqueeze(0)
    assert torch.equal(*(change(None)["m0"](3, x) for change in changes))  # type: ignore[misc, arg-type]
    assert not torch.equal(*(changes[0](None)["m0"](number, x) for number in (3, 4)))  # type: ignore[misc, arg-type]


def test_the_middle_of_a_picture() -> None:
    picture = torch.zeros(1, 3, 16, 16)
    picture[..., 4:12, 4:12] = 1
    crop = KNOWN.get("transform", "center-crop").load()((3, 16, 16), share=0.5)
    assert torch.equal(crop(picture, torch.Generator()), torch.ones(1, 3, 16, 16))


def test_a_limited_job_changes_a_sample_as_one_of_all_samples_does(job: Callable[..., build.Job]) -> None:
    with make_feed(job(), CPU) as whole, make_feed(job("limit=4"), CPU) as few:
        (limited,) = few.batches("train", [torch.arange(4)], 2)
        numbers = torch.arange(4) * len(whole.splits["train"]) // 4
        (same,) = whole.batches("train", [numbers], 2)
        assert torch.equal(limited.inputs["visual"], same.inputs["visual"])
        assert torch.equal(limited.index, torch.arange(4))


def test_nothing_of_torch_s_own_is_drawn(job: Callable[..., build.Job]) -> None:
    with make_feed(job(), CPU) as feed:
        state = torch.get_rng_state()
        visual(feed)
        assert torch.equal(torch.get_rng_state(), state)


class Told(Transform):
    """A transform that replaces a sample by a number drawn from its generator."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __call__(self, x: Any, generator: torch.Generator) -> Any:
        assert x.shape == (1, *self.shape)
        return torch.full_like(x, float(torch.rand((), generator=generator)))


def test_samples_of_joined_splits_have_their_numbers_in_the_whole() -> None:
    change = Augmentation({"x": Told((2,))}, {}, {"x": (2,)}, seed=5)(0)
    values, targets = np.random.default_rng(0).random((6, 2), dtype=np.float32), torch.arange(6)
    whole = StoredSplit({"x": Stored(values)}, targets, np.arange(6))
    parts = [StoredSplit({"x": Stored(values)}, targets[some], some.numpy()) for some in (targets[:2], targets[2:])]
    index = torch.tensor([5, 0, 2, 1])
    one, two = whole.read(index, change), Joined(parts).read(index, change)
    memory = read(TensorSplit({"x": torch.from_numpy(values)}, targets), index, change)
    assert one.inputs["x"].unique().numel() == 4  # type: ignore[union-attr]
    for other in (two, memory):
        assert all(torch.equal(a, b) for a, b in zip(one.tensors(), other.tensors(), strict=True))


def test_a_sample_that_is_stored_flat_is_seen_in_its_shape() -> None:
    change = Augmentation({"x": Told((1, 2, 3))}, {}, {"x": (1, 2, 3)}, seed=5)(0)
    assert change["x"](0, torch.zeros(1, 6)).shape == (1, 6)  # type: ignore[union-attr]


class Whole(Transform):
    """A transform that notes the sizes of the pictures that it gets, and returns their upper left corner."""

    any_size = True
    seen: list[tuple[int, ...]]

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.seen = []

    def __call__(self, x: Any, generator: torch.Generator) -> Any:
        self.seen.append(tuple(x.shape))
        return x[..., :8, :8]


def test_a_crop_sees_pictures_of_files_at_their_own_size(tmp_path: Path) -> None:
    sizes = [(20, 30), (60, 40), (20, 30)]  # width and height of the first picture of each clip
    clips = []
    for number, size in enumerate(sizes):
        clips.append([tmp_path / f"{number}-{frame}.png" for frame in range(2)])
        for path in clips[-1]:
            Image.new("RGB", size, (number, 0, 0)).save(path)
    transform = Whole((2, 3, 224, 224))
    split = StoredSplit({"x": Stored(pictures_of(clips, load_images))}, torch.zeros(3), np.arange(3))
    change = Augmentation({"x": transform}, {}, {"x": (2, 3, 224, 224)}, seed=0)(0)
    found = split.read(torch.arange(3), change).inputs["x"]
    assert sorted(transform.seen) == sorted((1, 2, 3, height, width) for width, height in sizes)
    assert found.shape == (3, 2, 8, 8, 3)  # type: ignore[union-attr]
    assert split.read(torch.arange(3)).inputs["x"].shape == (3, 2, 224, 224, 3)  # type: ignore[union-attr]


# resuming, and training of jobs


@pytest.fixture
def small(job: Callable[..., build.Job]) -> Callable[..., build.Job]:
    return lambda *settings, **names: job(*HIDDEN, *settings, layout="prepared", encoders=SMALL, **names)


def trained(job: build.Job, state: Any = None) -> Iterator[Any]:
    model = build.model(job)
    with make_feed(job, CPU) as feed:
        yield from train(model, build.modulator(job, model), feed, job.spec.training, job.spec.seed, {}, state)


def test_a_resumed_run_goes_on_with_the_same_crops(small: Callable[..., build.Job]) -> None:
    whole = list(trained(small()))
    first = next(trained(small()))
    assert [first, *trained(small(), first.state())] == whole
    plain = list(trained(small("augment.visual=none")))
    assert [epoch.points for epoch in plain] != [epoch.points for epoch in whole]


def test_none_is_the_job_without_a_transform(small: Callable[..., build.Job]) -> None:
    none, plain = small("augment.visual=none"), small()
    assert none.spec.augment == {}
    assert build.augmentation(none) is None
    by_hand = build.resolve(plain.spec.model_copy(update={"augment": {}}), KNOWN)
    assert (none.digest, none.cell) == (by_hand.digest, by_hand.cell)
    assert {none.digest, none.cell}.isdisjoint({plain.digest, plain.cell})


# digests, settings, departures


def test_a_transform_and_its_parameters_are_in_the_digest(job: Callable[..., build.Job]) -> None:
    jobs = [
        job(),
        job("augment.visual=none"),
        job("augment.visual.flip=0"),
        job("augment.visual.scale=[0.5, 1]"),
        job("augment.audio=spec-augment"),
    ]
    assert len({one.digest for one in jobs}) == len({one.cell for one in jobs}) == 5
    assert job("augment.visual=crop-flip", "augment.visual.flip=0.5").digest == jobs[0].digest
    assert jobs[0].components["transform/crop-flip"] == "1"


def test_a_concept_has_the_transform_of_its_own_modality(job: Callable[..., build.Job]) -> None:
    own, without = (build.references(job(*settings)) for settings in ([], ["augment.visual=none"]))
    assert own["audio"].digest == without["audio"].digest
    assert own["visual"].digest != without["visual"].digest
    assert list(own["visual"].spec.augment) == ["visual"]
    early = build.references(job(fusion="early"))
    assert list(early["audio"].spec.augment) == ["visual"]
    for one in (*own.values(), *early.values()):
        build.augmentation(one)


@pytest.mark.parametrize("layout", ["features", "clip", "official", "prepared"])
def test_of_ave_the_clips_are_cropped_and_not_the_features(layout: str, job: Callable[..., build.Job]) -> None:
    names = {} if layout == "features" else {"encoders": {"*": "mlp"}, "fusion": "concat"}
    one = job(name="ave", layout=layout, **names)
    assert list(one.spec.augment) == ([] if layout == "features" else ["visual"])
    build.augmentation(one)
    assert not any(key.startswith("augment") for key in departures(one.spec, KNOWN, one.dataset))
    limited = job("limit=2", name="ave", layout=layout, **names)
    assert limited.spec.augment == one.spec.augment


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], {}),
        (["augment.visual=none"], {"augment.visual": "none"}),
        (["augment.visual.flip=0"], {"augment.visual.flip": 0.0}),
        (["augment.audio=time-shift"], {"augment.audio": "time-shift"}),
        (["augment.audio=time-shift", "augment.audio.most=3"], {"augment.audio": "time-shift", "augment.audio.most": 3}),
    ],
)
def test_what_departs_from_the_published_transforms_is_named(
    settings: list[str], expected: dict[str, Any], job: Callable[..., build.Job]
) -> None:
    one = job(*settings)
    found = departures(one.spec, KNOWN, one.dataset)
    assert {key: value for key, value in found.items() if key.startswith("augment")} == expected


def test_a_parameter_may_be_set_before_its_transform_is_named() -> None:
    settings = ["augment.m0.level=0.2", "augment.m0=noise"]
    one, two = (compose(KNOWN, "synthetic", settings=parse_settings(each)) for each in (settings, settings[::-1]))
    assert one == two
    assert one.augment["m0"].params == {"level": 0.2}


def test_another_transform_brings_none_of_the_old_parameters() -> None:
    spec = compose(KNOWN, "cremad", settings=parse_settings(["augment.visual=noise"]))
    assert (spec.augment["visual"].name, spec.augment["visual"].params) == ("noise", {})


def said(*settings: str, name: str = "synthetic") -> str:
    with pytest.raises(AgmbenchError) as error:
        build.augmentation(build.resolve(compose(KNOWN, name, settings=parse_settings(settings)), KNOWN))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["augment.m0=crop-flap"], "unknown transform 'crop-flap': did you mean 'crop-flip'?"),
        (["augment.m0=3"], "'augment.m0.name' is 3: input should be a valid string"),
        (["augment.m7=noise"], "data set 'synthetic' has no modality 'm7': did you mean 'm1'? Known: m0, m1"),
        (["augment.m0.level=1"], "augment.m0.level: no transform of 'm0'; name one too, as in --set augment.m0=NAME"),
        (["augment.m0=noise", "augment.m0.levl=1"], "transform/noise has no parameter 'levl': did you mean 'level'?"),
        (["augment.m0=noise", "augment.m0.level=-1"], "parameter 'level' of transform/noise is -1: should be a number >= 0"),
        (
            ["augment.m0=crop-flip"],
            "transform/crop-flip of 'm0': takes pictures [C, H, W] or frames [T, C, H, W] of one or three",
        ),
        (["augment=noise"], "--set augment: no such setting"),
        (["evaluation.m7=noise"], "data set 'synthetic' has no modality 'm7': did you mean 'm1'? Known: m0, m1"),
        (["evaluation.m0.level=1"], "evaluation.m0.level: no transform of 'm0'; name one too, as in --set evaluation.m0=NAME"),
        (["evaluation.m0=center-crop"], "transform/center-crop of 'm0': takes pictures [C, H, W] or frames [T, C, H, W]"),
    ],
)
def test_what_cannot_be_is_one_line(settings: list[str], expected: str) -> None:
    assert expected in said(*settings)


def test_bytes_and_features_refuse_what_is_not_for_them(job: Callable[..., build.Job]) -> None:
    for one, expected in (
        (job("augment.visual=noise"), "transform/noise of 'visual': adds noise to floats; found torch.uint8"),
        (
            job("augment.visual.flip=0", name="ave", layout="features"),
            "transform/crop-flip of 'visual': takes pictures [C, H, W] or frames [T, C, H, W] of one or three colours",
        ),
        (job("augment.audio=token-dropout"), "transform/token-dropout of 'audio': takes sequences"),
    ):
        with pytest.raises(AgmbenchError) as error:
            build.augmentation(one)
        assert expected in str(error.value)


@pytest.mark.parametrize("settings", [["augment.text=token-dropout"], ["augment.audio=spec-augment"], ["augment.audio=noise"]])
def test_sequences_have_transforms_too(settings: list[str], job: Callable[..., build.Job]) -> None:
    one = job(*settings, name="mosei", layout="umons")
    (modality,) = one.spec.augment
    with make_feed(one, CPU) as feed:
        (changed,) = feed.batches("train", [torch.arange(4)], 0)
        (plain,) = feed.batches("train", [torch.arange(4)])
        (again,) = feed.batches("train", [torch.arange(4)], 0)
    before, after, same = (batch.inputs[modality] for batch in (plain, changed, again))
    assert isinstance(before, Tokens)
    assert not torch.equal(values(before), values(after))
    assert torch.equal(values(after), values(same))


def values(x: Input) -> Tensor:
    return x.values if isinstance(x, Tokens) else x


BROKEN = """
import torch
from agmbench.contracts import Transform


class Narrow(Transform):
    '''Loses a column.'''

    def __init__(self, shape: tuple[int, ...]) -> None: ...

    def __call__(self, x, generator):
        return x[..., 1:]


class Precise(Narrow):
    def __call__(self, x, generator):
        return x.double()


class Raises(Narrow):
    def __call__(self, x, generator):
        return x.no_such_thing
"""


@pytest.fixture
def strangers(line: CommandLine) -> CommandLine:
    folder = line.folder / "plugins" / "odd"
    folder.mkdir(parents=True)
    (folder / "odd.py").write_text(BROKEN)
    names = "\n".join(f"  {name.lower()}: {{target: 'odd:{name}'}}" for name in ("Narrow", "Precise", "Raises"))
    (folder / "registry.yaml").write_text(f"transforms:\n{names}\n")
    return line


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("narrow", "transform/narrow of 'm0': makes [15] of a sample [16]; expected the same shape"),
        (
            "precise",
            "transform/precise of 'm0': makes m0 of torch.float64 [N, 16] of the first sample of train; expected torch.float32",
        ),
        ("raises", "transform/raises of 'm0': fails on the first sample of train (AttributeError: "),
    ],
)
def test_a_stranger_s_transform_that_does_not_fit_is_refused_before_anything_is_written(
    name: str, expected: str, strangers: CommandLine
) -> None:
    for more in ([], ["--dry-run"]):
        assert expected in strangers.refused("run", "-d", "synthetic", "--set", f"augment.m0={name}", *more)


def test_a_run_says_everywhere_how_its_samples_were_changed(line: CommandLine) -> None:
    words = ("run", "-d", "synthetic", "-m", "joint", "--epochs", "1", "--limit", "64", "--no-strength")
    words = (*words, "--set", "augment.m0=noise", "--set", "augment.m0.level=0.5")
    shown = line(*words, "--dry-run")
    assert yaml.safe_load(shown.out)["augment"] == {"m0": {"name": "noise", "params": {"level": 0.5}}}
    assert line(*words).status == 0
    with chdir(line.folder):
        (record,) = MlflowTracker().records("synthetic")
    assert record.spec["augment"] == {"m0": {"name": "noise", "params": {"level": 0.5}}}
    assert record.departures is not None
    assert record.departures["augment.m0"] == "noise"
    assert record.departures["augment.m0.level"] == 0.5
    assert "augment.m0=noise" in line("compare").out
    assert "transform  noise" in line("list", "transform").out
    assert "level" in line("show", "transform", "noise").out
    job_file, *_ = line.folder.rglob("job.yaml")
    assert "is done already" in line("run", "--job", str(job_file), "--no-strength").err
