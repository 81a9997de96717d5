"""`agmbench check`: every built-in component passes, and each kind of broken component is caught by the check that is meant for it."""

import os
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CommandLine
from torch import Tensor, nn

from agmbench import registry, testing
from agmbench.contracts import (
    Dataset,
    Encoder,
    Fused,
    Fusion,
    Input,
    Split,
    SplitName,
    TensorSplit,
    Tokens,
    Transform,
    Unsuitable,
)
from agmbench.datasets.files import SAMPLE, FileDataset, Layout
from agmbench.datasets.synthetic import Synthetic
from agmbench.encoders.mlp import MLP
from agmbench.errors import shown
from agmbench.fusions.concat import Concat
from agmbench.fusions.early import Early
from agmbench.fusions.sum import Sum
from agmbench.outcomes import Floats, Metric, OfAnswers, Outcome, Outcomes, Quantity
from agmbench.testing import datasets, encoders, fusions, imports, metrics, transforms
from agmbench.transforms.noise import Noise

BUILT_IN = registry.builtin()

# small parameters for built-ins that are large or need a network, and other parameters than the defaults
BERT = {"model_type": "bert", "vocab_size": 100, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
VIT = {"img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 12, "num_heads": 3}
SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
STRIDES = {"frequency_stride": 4, "time_stride": 4}
TOWERS = {"text_config": {**SMALL, "vocab_size": 300, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1}}
TOWERS |= {"vision_config": {**SMALL, "image_size": 32, "patch_size": 16}}
CLIP = {"model_type": "clip", **TOWERS, "projection_dim": 6}
FORMS: Mapping[str, Sequence[dict[str, Any]]] = {
    "encoder/clip": [{"config": CLIP}],
    "encoder/hf-audio": [{"config": {**SMALL, "model_type": "audio-spectrogram-transformer", "patch_size": 4, **STRIDES}}],
    "encoder/hf-text": [{"config": {**BERT, "vocab_size": 300, "intermediate_size": 8, "max_position_embeddings": 8}}],
    "encoder/hf-vision": [{"config": {**SMALL, "model_type": "vit", "patch_size": 16}}],
    "encoder/timm": [{"model_args": VIT, "output": "patches"}],
    "encoder/language-model": [{"config": {**BERT, "intermediate_size": 8, "max_position_embeddings": 8}}],
    "encoder/lstm": [{"width": 8, "vocabulary": 100}],
    "encoder/resnet": [
        {"width": 8},
        {"width": 8, "zero_init_last": False, "norm_spread": 0.02},
        {"model": "vit_tiny_patch16_224", "model_args": VIT},
    ],
    "encoder/transformer": [
        {"width": 16, "layers": 1},
        {"width": 16, "layers": 1, "dropout": 0.0},
        {"variant": "official", "width": 16},
    ],
    "fusion/early": [{"hidden": 16, "out": 8}],
    "fusion/film": [{}, {"width": 6}],
    "fusion/hybrid": [{"width": 16, "layers": 2, "feed_forward": 16}],
    "fusion/psp": [{}, {"head": "relevance", "similarity": 100.0}],
}
PARTS = [
    pytest.param(entry, params, id=f"{entry}-{number}")
    for kind in ("transform", "encoder", "fusion", "metric")
    for entry in BUILT_IN.entries(kind)
    for number, params in enumerate(FORMS.get(str(entry), [{}]))
]


def failed(checks: Iterable[testing.Check]) -> list[str]:
    return [check.name for check in checks if check.outcome == "failed"]


def outcome(checks: Iterable[testing.Check], name: str) -> testing.Check:
    (found,) = [check for check in checks if check.name == name]
    return found


# built-ins


@pytest.mark.parametrize(("entry", "params"), PARTS)
def test_a_part_of_the_registry_fails_no_check(entry: registry.Entry, params: dict[str, Any]) -> None:
    state = torch.get_rng_state()
    checks = testing.check(entry, params=params)
    assert failed(checks) == [], testing.report(checks)
    assert [check.outcome for check in checks].count("passed") >= 5
    assert torch.equal(torch.get_rng_state(), state)


def layouts() -> list[Any]:
    """Every data set; one on disk once per layout."""
    found = []
    for entry in BUILT_IN.entries("dataset"):
        target = entry.load()
        several = target.layouts if issubclass(target, FileDataset) else [None]
        found += [pytest.param(entry, layout, id=f"{entry.name}-{layout.name if layout else 'built-in'}") for layout in several]
    return found


@pytest.mark.parametrize(("entry", "layout"), layouts())
def test_a_data_set_of_the_registry_fails_no_check(
    entry: registry.Entry, layout: Layout | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if layout is not None:
        layout.write_sample(tmp_path)
        (tmp_path / SAMPLE).touch()
        monkeypatch.setenv("AGMBENCH_DATA", str(tmp_path))
    checks = testing.check(entry)
    assert failed(checks) == [], testing.report(checks)
    assert [check.outcome for check in checks].count("passed") >= 8


def test_what_is_not_on_disk_is_checked_on_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGMBENCH_DATA", str(tmp_path))
    checks = testing.check(BUILT_IN.get("dataset", "urfunny"))
    assert failed(checks) == []
    assert outcome(checks, "data").outcome == "skipped"
    detail = outcome(checks, "data").detail
    assert detail == f"there is no data in {tmp_path}; checked on a random sample in layout 'prepared'"
    assert os.environ["AGMBENCH_DATA"] == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_copy_of_a_data_set_is_not_what_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGMBENCH_DATA", str(tmp_path))
    (tmp_path / "mosei_senti_data.pkl").write_bytes(b"no pickle")
    checks = testing.check(BUILT_IN.get("dataset", "mosei"))
    assert failed(checks) == []
    assert "mosei_senti_data.pkl cannot be read as a pickle" in outcome(checks, "data").detail


def test_a_sample_that_cannot_be_opened_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Never(FileDataset):
        """A data set that refuses its own random pack."""

        name = "never"
        layouts = BUILT_IN.get("dataset", "mosei").load().layouts

        def __init__(self, seed: int) -> None:
            raise Unsuitable("no such file")

    monkeypatch.setenv("AGMBENCH_DATA", str(tmp_path))
    assert [check[:2] for check in testing.check(Never)] == [
        ("data", "skipped"),
        ("opens", "failed"),
        ("the others", "skipped"),
    ]


# encoders that each break one promise


class Narrow(MLP):
    """Makes fewer features than it says."""

    def forward(self, x: Input) -> Tensor:
        return super().forward(x)[:, 1:]


class Normed(MLP):
    """Divides by the length of its input, which is zero for a muted one. It takes only vectors."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        if len(shape) != 1:
            raise Unsuitable("takes vectors")

    def forward(self, x: Input) -> Tensor:
        features = super().forward(x)
        return features / masked(x).norm(dim=1, keepdim=True)


class Severed(MLP):
    """Lets only the second layer learn."""

    def forward(self, x: Input) -> Tensor:
        hidden: Tensor = self.net[:3](masked(x)).detach()
        features: Tensor = self.net[3:](hidden)
        return features


class Restless(MLP):
    """Draws random numbers in eval mode."""

    def forward(self, x: Input) -> Tensor:
        return super().forward(x) + torch.rand(())


class Centred(MLP):
    """Depends on the rest of the batch."""

    def forward(self, x: Input) -> Tensor:
        features = super().forward(x)
        return features - features.mean(dim=0)


class Forgetful(MLP):
    """Has a random projection that is not in its `state_dict`."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape, hidden=6)
        self.mixed = torch.randn(6, 6)

    def forward(self, x: Input) -> Tensor:
        return super().forward(x) @ self.mixed


class Unseeded(MLP):
    """Draws its weights from another generator than torch's."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        nn.init.normal_(self.net[1].weight, generator=torch.Generator().manual_seed(random.randrange(2**40)))


class InPlace(MLP):
    """Clamps its input in place."""

    def forward(self, x: Input) -> Tensor:
        encoders.values(x).clamp_(min=-0.1)
        return super().forward(x)


class Precise(MLP):
    """Relies on a precision that bfloat16 does not have."""

    def forward(self, x: Input) -> Tensor:
        features = super().forward(x)
        return features / (features * 0 + 1.002 - 1)


class Unmasked(MLP):
    """Reads tokens that the mask hides."""

    def forward(self, x: Input) -> Tensor:
        return super().forward(encoders.values(x))


class Choosy(MLP):
    """Takes no input at all."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        raise Unsuitable(f"takes other inputs; found {list(shape)}")


class Untrue(MLP):
    """Gives other features in train mode, but says that both modes are the same."""

    same_in_training = True

    def forward(self, x: Input) -> Tensor:
        return super().forward(x) + 0.1 * self.training


class Careless(MLP):
    """Accepts any shape, but fails on most."""

    def forward(self, x: Input) -> Tensor:
        return super().forward(masked(x).flatten(1)[:, :5])


def masked(x: Input) -> Tensor:
    return x if isinstance(x, Tensor) else x.values if x.mask is None else x.values * x.mask.unsqueeze(2)


ENCODERS: list[tuple[type[Encoder], str, str]] = [
    (Narrow, "output", "vectors: out_features is 128, so features should be [4, 128]; found [4, 127]"),
    (Normed, "muted", "vectors, all zero: 512 of 512 numbers of the features are not finite"),
    (Severed, "gradients", "vectors: gradients reach 2 of 4 trainable tensors; the first without is net.1.weight"),
    (Restless, "eval", "vectors: twice the same input in eval mode, 1 of 1 tensors differ, features by "),
    (Centred, "alone", "vectors: in eval mode the features of a sample alone and in a batch of 4 differ by "),
    (Forgetful, "state", "vectors: after its state_dict was loaded into another, 1 of 1 tensors differ, features by "),
    (Unseeded, "seed", "vectors: made twice under the same seed, 1 of 4 tensors differ, net.1.weight by "),
    (InPlace, "untouched", "vectors: changes its input in place, that of radar; expected it untouched"),
    (Precise, "bf16", "vectors under autocast to bfloat16: 512 of 512 numbers of the features are not finite"),
    (Unmasked, "padding", "masked sequences: 50 in place of what the mask hides moves the features by "),
    (Untrue, "same-in-training", "vectors: says by `same_in_training` that train mode and eval mode are the same, yet the "),
    (Choosy, "takes", "takes none of 8 kinds of input, for the reasons above"),
    (Careless, "takes", "images of one channel, samples of shape [1, 32, 32]: RuntimeError: "),
]


@pytest.mark.parametrize(("broken", "name", "detail"), ENCODERS, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_encoder_is_caught_by_the_check_meant_for_it(broken: type[Encoder], name: str, detail: str) -> None:
    checks = testing.check(broken)
    assert failed(checks) == [name], testing.report(checks)
    assert outcome(checks, name).detail.startswith(detail)


def test_every_check_of_encoders_catches_something() -> None:
    assert {name for _, name, _ in ENCODERS} == {*encoders.CHECKS, "takes"}


def test_an_encoder_that_reads_batch_statistics_is_not_asked_to_answer_alone() -> None:
    class Statistics(MLP):
        def __init__(self, shape: tuple[int, ...]) -> None:
            super().__init__(shape, hidden=6)
            self.net.append(nn.BatchNorm1d(6, track_running_stats=False))

    found = outcome(testing.check(Statistics), "alone")
    assert found.outcome == "skipped"
    assert found.detail.startswith("reads batch statistics in eval mode too")


def test_a_guided_encoder_is_given_its_guide() -> None:
    seen = set()

    class Watching(Encoder):
        guided = True

        def __init__(self, shape: tuple[int, ...], *, guide: str = "audio", guide_size: int = 7) -> None:
            super().__init__(shape)
            if len(shape) != 2:
                raise Unsuitable("takes sequences")
            self.net, self.out_features = nn.Linear(7, 3), 3

        def forward(self, x: Input, inputs: Mapping[str, Input]) -> Tokens:
            seen.update(inputs)
            return Tokens(self.net(encoders.values(inputs["audio"])), x.mask if isinstance(x, Tokens) else None)

    assert failed(testing.check(Watching)) == []
    assert seen == {"radar", "audio"}


# transforms


class OnSequences(Noise):
    """Adds noise, only to sequences. The classes below each break one promise."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        if len(shape) != 2:
            raise Unsuitable("takes sequences")


class Shorter(OnSequences):
    """Loses a feature."""

    def __call__(self, x: Tokens, generator: torch.Generator) -> Tokens:
        return Tokens(x.values[..., 1:], x.mask)


class Unhidden(OnSequences):
    """Adds noise to hidden tokens too."""

    def __call__(self, x: Tokens, generator: torch.Generator) -> Tokens:
        return Tokens(x.values + torch.randn(x.values.shape, generator=generator), x.mask)


class OfTorch(OnSequences):
    """Draws from torch's own generator."""

    def __call__(self, x: Tokens, generator: torch.Generator) -> Tokens:
        return Tokens(x.values * torch.rand(()), x.mask)


class Overwrites(OnSequences):
    """Doubles its input in place."""

    def __call__(self, x: Tokens, generator: torch.Generator) -> Tokens:
        return Tokens(x.values.mul_(2), x.mask)


class Counts(OnSequences):
    """Depends on the sample before."""

    before: Any = 0

    def __call__(self, x: Tokens, generator: torch.Generator) -> Tokens:
        mixed = Tokens(x.values + self.before, x.mask)
        self.before = x.values.detach().clone()
        return mixed


class Unsent(OnSequences):
    """Cannot be pickled."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.scale = lambda x: x * 2


class Hesitant(OnSequences):
    """Takes no input at all."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        raise Unsuitable("takes other inputs")


TRANSFORMS: list[tuple[type[Transform], str, str]] = [
    (Shorter, "output", "masked sequences: gives torch.float32 [1, 12, 4]; expected torch.float32 [1, 12, 5]"),
    (Unhidden, "tokens", "masked sequences: what the mask hides is not zero any more"),
    (OfTorch, "draws", "masked sequences: draws from a generator other than its own; expected its own alone"),
    (Overwrites, "untouched", "masked sequences: changes its input in place; expected it untouched"),
    (Counts, "alone", "masked sequences: a sample depends on the one before it; expected nothing to be kept between calls"),
    (Unsent, "travels", "masked sequences: cannot be sent to the processes that read ahead ("),
    (Hesitant, "takes", "takes none of the kinds of input, for the reasons above"),
]


@pytest.mark.parametrize(("broken", "name", "detail"), TRANSFORMS, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_transform_is_caught_by_the_check_meant_for_it(broken: type[Transform], name: str, detail: str) -> None:
    checks = testing.check(broken)
    assert name in failed(checks), testing.report(checks)
    assert outcome(checks, name).detail.startswith(detail)
    if broken not in (OfTorch, Counts):  # these two also fail another check, because they do not give the same sample twice
        assert failed(checks) == [name]


def test_every_check_of_transforms_catches_something() -> None:
    assert {name for _, name, _ in TRANSFORMS} == {*transforms.CHECKS, "takes"}


# fusions


class Flat(Concat):
    """Gives a single number as the representation."""

    def forward(self, features: Mapping[str, Tensor]) -> Fused:
        logits, representation = super().forward(features)
        return Fused(logits, representation.mean())


class Biased(Concat):
    """Has terms without the bias."""

    def terms(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {m: z - self.head.bias / len(features) for m, z in super().terms(features).items()}


class Mixed(Sum):
    """Has terms that sum to the logits, but do not belong to single modalities."""

    def terms(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        terms = super().terms(features)
        return dict.fromkeys(terms, torch.stack(list(terms.values())).mean(dim=0))

    def forward(self, features: Mapping[str, Tensor]) -> Fused:
        return Fused(torch.stack(list(super().terms(features).values())).sum(dim=0), torch.cat(list(features.values()), dim=1))


class Hidden(Early):
    """Gives a layer as its head that is not used."""

    def __init__(self, features: Mapping[str, int], classes: int) -> None:
        super().__init__(features, classes, hidden=8, out=6, dropout=0.0)
        self.spare = nn.Linear(6, classes)

    def heads(self) -> list[nn.Linear]:
        return [self.spare]

    def forward(self, features: Mapping[str, Tensor]) -> Fused:
        logits, representation = super().forward(features)
        return Fused(logits + 0 * self.spare(representation), representation)


class Twofold(Concat):
    """Gives only one of its two heads."""

    additive = False

    def __init__(self, features: Mapping[str, int], classes: int) -> None:
        super().__init__(features, classes)
        self.second = nn.Linear(self.head.in_features, classes)

    def forward(self, features: Mapping[str, Tensor]) -> Fused:
        logits, representation = super().forward(features)
        return Fused(logits + self.second(representation), representation)


class Deaf(Concat):
    """Lets no gradient reach one modality."""

    def forward(self, features: Mapping[str, Tensor]) -> Fused:
        return super().forward({m: x.detach() if m == "sonar" else x for m, x in features.items()})


FUSIONS: list[tuple[type[Fusion], str, str]] = [
    (Flat, "output", "1 of width 5: logits should be [4, 3], the representation [4, R]; found [4, 3] and []"),
    (Biased, "terms", "1 of width 5: the sum of its terms differs from the logits by "),
    (Mixed, "terms", "2 of width 5/7: the term of radar depends on the features of another modality"),
    (Hidden, "heads", "1 of width 5: another weight of its head spare does not move the logits"),
    (Twofold, "heads", "1 of width 5: with the weights of its 1 heads at zero, logits still differ from sample to sample by "),
    (Deaf, "reaches", "2 of width 5/7: no gradient reaches the features of sonar; 1 of 2 modalities have one"),
]


@pytest.mark.parametrize(("broken", "name", "detail"), FUSIONS, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_fusion_is_caught_by_the_check_meant_for_it(broken: type[Fusion], name: str, detail: str) -> None:
    checks = testing.check(broken)
    assert name in failed(checks), testing.report(checks)
    assert outcome(checks, name).detail.startswith(detail)
    if broken is not Flat:  # Flat fails more checks, because the engine cannot divide its representation into coalitions
        assert failed(checks) == [name]


def test_a_fusion_that_asks_for_equal_widths_is_given_some() -> None:
    class Equal(Sum):
        def __init__(self, features: Mapping[str, int], classes: int) -> None:
            super().__init__(features, classes)
            if len(set(features.values())) > 1:
                raise Unsuitable("takes equally wide features")

    checks = testing.check(Equal)
    assert failed(checks) == []
    assert outcome(checks, "takes").detail == "1 of width 5, 2 of width 6/6, 3 of width 6/6/6, 4 of width 6/6/6/6"
    assert outcome(checks, "3 modalities") == testing.Check("3 modalities", "skipped", "takes equally wide features")


def test_gradients_that_are_not_those_of_full_passes_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from agmbench.model import MultimodalModel

    engine = MultimodalModel.responses

    def without_muted_gradient(model: MultimodalModel, inputs: dict[str, Tensor], *modes: Any) -> dict[str, Tensor]:
        return engine(model, inputs, "exact", isinstance(model, testing.NaiveModel))

    monkeypatch.setattr(MultimodalModel, "responses", without_muted_gradient)
    checks = testing.check(Concat)
    assert failed(checks) == ["exact"]
    assert "2 of width 5/7: under AGM, the gradient of encoders." in outcome(checks, "exact").detail


def test_every_check_of_fusions_catches_something() -> None:
    shared = {name for _, name, _ in ENCODERS}  # checks that encoders have too
    assert {name for _, name, _ in FUSIONS} | {"exact"} == {*fusions.CHECKS} - shared | {"output"}


# data sets


def spoiled(spoil: Callable[[SplitName, TensorSplit], TensorSplit]) -> type[Dataset]:
    """A data set whose splits `spoil` has changed."""

    class Spoiled(Synthetic):
        def __init__(self, seed: int) -> None:
            super().__init__(seed, samples=128)

        def split(self, name: SplitName) -> Split:
            whole = super().split(name)
            assert isinstance(whole, TensorSplit)
            return spoil(name, whole)

    return Spoiled


class Unruly(TensorSplit):
    """A split that gives samples in another order than asked for."""

    def batch(self, index: Tensor) -> Any:
        return super().batch(index.sort().values)


class Printed(Synthetic):
    """A data set with the same fingerprint for all seeds."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, samples=64)
        self.fingerprint = "mine"


class Tall(Synthetic):
    """A data set that declares a wrong shape."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, samples=64)
        self.shapes = {**self.shapes, "m1": (17,)}


def _with(split: TensorSplit, **inputs: Tensor) -> TensorSplit:
    return TensorSplit({**split.inputs, **inputs}, split.targets)


def _x(split: TensorSplit) -> Tensor:
    return encoders.values(split.inputs["m0"])


DATASETS: list[tuple[type[Dataset], str, str]] = [
    (
        spoiled(lambda name, s: TensorSplit({m: s.inputs[m][:0] for m in s.inputs}, s.targets[:0]) if name == "dev" else s),
        "splits",
        "dev should have samples; found train 128, dev 0, valid 64, test 64",
    ),
    (Tall, "batch", "train: m1 of torch.float32 [N, 16] in 64 of 64 samples (0, 1, 2); expected torch.float32 [N, 17]; dev: "),
    (
        spoiled(lambda name, s: _with(s, m0=_x(s).double())),
        "batch",
        "train: m0 of torch.float64 [N, 16] in 128 of 128 samples (0, 1, 2);",
    ),
    (spoiled(lambda name, s: _with(s, m2=_x(s))), "batch", "train: a batch should have m0, m1; found m0, m1, m2"),
    (
        spoiled(lambda name, s: TensorSplit(s.inputs, s.targets + 1)),
        "targets",
        "train: targets out of range, such as 4, in 32 of 128 samples (3, 7, 11); expected torch.int64 [N], class numbers 0 to 3; dev: ",
    ),
    (
        spoiled(lambda name, s: Unruly(s.inputs, s.targets)),
        "order",
        "train: asked for the samples [127, 0, 64, 0], a batch says",
    ),
    (
        spoiled(lambda name, s: _with(s, m0=torch.where(_x(s) > 2, torch.nan, _x(s)))),
        "content",
        "train: m0 with numbers that are not finite in ",
    ),
    (
        spoiled(lambda name, s: _with(s, m0=_x(s) + random.random())),
        "same",
        "train: opened twice with the same seed, 128 of 128 samples differ",
    ),
    (Printed, "fingerprint", "seeds 0 and 1 give other data and the same fingerprint, mine"),
    (
        spoiled(lambda name, s: TensorSplit({m: x.clone().fill_(1.0) for m, x in _tensors(s)}, s.targets)),
        "apart",
        "dev: inputs of train in 64 of 64 samples (0, 1, 2); expected no sample in two splits; ",
    ),
    (
        spoiled(lambda name, s: TensorSplit(s.inputs, s.targets % 3)),
        "classes",
        "train: 1 of 4 classes does not occur ('class 3')",
    ),
]


def _tensors(split: TensorSplit) -> list[tuple[str, Tensor]]:
    return [(m, encoders.values(x)) for m, x in split.inputs.items()]


@pytest.mark.parametrize(("broken", "name", "detail"), DATASETS, ids=lambda value: value if value in datasets.CHECKS else "")
def test_a_broken_data_set_is_caught_by_the_check_meant_for_it(broken: type[Dataset], name: str, detail: str) -> None:
    checks = testing.check(broken)
    assert name in failed(checks), testing.report(checks)
    assert outcome(checks, name).detail.startswith(detail)


def test_every_check_of_data_sets_catches_something() -> None:
    assert {name for _, name, _ in DATASETS} == set(datasets.CHECKS)


def test_a_data_set_that_is_not_here_is_skipped_with_its_own_message() -> None:
    class Elsewhere(Synthetic):
        def __init__(self, seed: int) -> None:
            raise Unsuitable("its files are at home")

    assert testing.check(Elsewhere)[0] == testing.Check("opens", "skipped", "its files are at home")


def test_a_data_set_that_raises_is_broken() -> None:
    class Raises(Synthetic):
        def __init__(self, seed: int) -> None:
            raise RuntimeError("two\nlines")

    line = Raises.__init__.__code__.co_firstlineno + 1
    where = f"{shown(__file__)}:{line}"
    assert testing.check(Raises)[0] == testing.Check("opens", "failed", f"RuntimeError: two at {where}")


# metrics


class Share(OfAnswers):
    """A metric that keeps all promises: the share of hits. The classes below each break one promise."""

    quantities = (Quantity("share", "share", "share of hits", tasks=("classification",)),)

    def of(self, outcome: Outcome, logits: Floats) -> float:
        return float((logits.argmax(axis=1) == outcome.targets).mean())


class Twice(Share):
    quantities = Share.quantities * 2


class Named(Share):
    def __call__(self, outcomes: Outcomes, references: Mapping[str, Outcomes]) -> Mapping[str, float]:
        return {"other": 0.5}


class Texts(Share):
    def of(self, outcome: Outcome, logits: Floats) -> Any:
        return "half"


class Spread(Share):
    def of(self, outcome: Outcome, logits: Floats) -> float:
        with np.errstate(invalid="ignore"):
            return float(np.divide(logits.mean(), logits.std()))


class DrawnShare(Share):
    def of(self, outcome: Outcome, logits: Floats) -> float:
        return random.random()


class Sorts(Share):
    def of(self, outcome: Outcome, logits: Floats) -> float:
        logits.clip(max=0, out=logits)
        return 0.5


class First(Share):
    def of(self, outcome: Outcome, logits: Floats) -> float:
        return float(logits[0, 0])


class Deviation(Share):
    def of(self, outcome: Outcome, logits: Floats) -> float:
        return super().of(outcome, logits) if len(logits) > 1 else float("nan")


METRICS: list[tuple[type[Metric], str, str]] = [
    (Twice, "declares", "its quantities should have a name each; found ['share', 'share']"),
    (Named, "values", "for a classification it should give a mapping of share; found {'other': 0.5}"),
    (Texts, "values", "for a classification 'share' should be a finite number; found 'half', a str"),
    (Spread, "zeros", "for a classification, where every logit is zero, 'share' should be a finite number; found nan"),
    (DrawnShare, "pure", "for a classification: the same outcomes gave {'share': 0."),
    (Sorts, "pure", "for a classification: changes the logits of "),
    (First, "order", "for a classification: share is "),
    (Deviation, "one", "for a classification, for one sample, 'share' should be a finite number; found nan"),
]


def test_a_sound_metric_passes() -> None:
    assert failed(testing.check(Share)) == []


@pytest.mark.parametrize(("broken", "name", "detail"), METRICS, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_metric_is_caught_by_the_check_meant_for_it(broken: type[Metric], name: str, detail: str) -> None:
    checks = testing.check(broken)
    assert name in failed(checks), testing.report(checks)
    assert outcome(checks, name).detail.startswith(detail)


def test_every_check_of_metrics_catches_something() -> None:
    assert {name for _, name, _ in METRICS} == {*metrics.CHECKS, "declares"}


# imports


def plugin(folder: Path, name: str, kind: str, target: str, code: str) -> registry.Entry:
    """Write a component into a new plugin folder, and return its entry."""
    place = folder / "plugins" / name
    place.mkdir(parents=True)
    (place / f"{name}.py").write_text(code)
    (place / "registry.yaml").write_text(f"{kind}s:\n  {name}:\n    target: {name}:{target}\n")
    return registry.load(folder / "plugins").get(kind, name)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ValueError('no\\nluck')", "metric/bad cannot be imported from 'bad:it' (ValueError: no at {folder}/bad.py:1)"),
        ("import sys; sys.exit(3)", "metric/bad cannot be imported from 'bad:it' (SystemExit: 3 at {folder}/bad.py:1)"),
        ("import os; os._exit(3)", "the import of bad:it ended the process with status 3; expected it to go on"),
        ("import os; os.kill(os.getpid(), 9)", "the import of bad:it ended the process by SIGKILL; expected it to go on"),
        ("raise KeyboardInterrupt", "the import of bad:it ended the process"),
        ("print('hello'); it = 1", "printed 'hello' on import; expected nothing on standard output"),
        ("import os; os.write(1, b'hello'); it = 1", "printed 'hello' on import"),
        ("import time; time.sleep(60)", "bad:it is not imported after 5 s; expected an import that ends"),
        ("", "metric/bad cannot be imported from 'bad:it' (AttributeError: "),
    ],
)
def test_a_bad_import_hurts_nobody(code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "sleep" in code:
        monkeypatch.setattr(imports, "PATIENCE", 5.0)
    entry = plugin(tmp_path, "bad", "metric", "it", code)
    checks = testing.check_entry(entry, {})
    assert [check.outcome for check in checks] == ["failed", "skipped"]
    assert checks[0].detail.startswith(said.format(folder=entry.folder))
    assert "\n" not in checks[0].detail
    assert checks[1] == testing.Check("the others", "skipped", "imports failed")


# the command line


@pytest.mark.parametrize("component", ["modulator/joint", "encoder/linear", "fusion/late", "metric/mae", "dataset/synthetic"])
def test_a_component_of_each_kind_is_checked(line: CommandLine, component: str) -> None:
    result = line("check", component)
    assert result.status == 0, result
    first, *_, last = result.out.splitlines()
    assert first.startswith("passed ")
    assert " imports " in first
    assert ", 0 failed, " in last
    assert list(line.folder.iterdir()) == []


MODULATORS = {
    "nan": (
        "return step._replace(loss=step.loss * float('nan'))",
        "finite",
        "the loss should be finite; found nan",
    ),
    "keeps": (
        "self.kept = [model]; return step",
        "not-kept",
        "the modulator keeps the model: its attribute `kept` holds the model after a step",
    ),
    "leaves": (
        "model.fusion.zero_grad(set_to_none=True); return step",
        "gradients",
        "the modulator leaves gradients out: in a whole epoch 2 of 2 tensors of fusion had no gradient",
    ),
    "ends": ("raise SystemExit(4)", "finite", "SystemExit: 4"),
}


@pytest.mark.parametrize("name", MODULATORS)
def test_a_bad_modulator_of_a_plugin_ends_with_status_1(line: CommandLine, name: str) -> None:
    does, check, detail = MODULATORS[name]
    code = f"""
from agmbench.contracts import Modulator

class Mine(Modulator):
    def backward(self, model, batch):
        print("noise")
        loss = model.loss((fused := model(batch.inputs)).logits, batch.targets)
        loss.backward()
        from agmbench.contracts import Step
        step = Step(loss.detach(), fused.logits.detach())
        {does}
"""
    plugin(line.folder, name, "modulator", "Mine", code)
    result = line("check", f"modulator/{name}")
    assert result.status == 1
    assert "noise" not in result.out
    *lines, counts = result.out.splitlines()
    (found,) = [told for told in lines if told.split()[:2] == ["failed", check]]
    assert detail in found
    assert counts.endswith("undeclared")
    assert result.err.splitlines()[-1].startswith(f"error: modulator/{name} does not keep ")


def test_a_bad_import_is_told_and_nothing_else_is_run(line: CommandLine) -> None:
    plugin(line.folder, "quits", "encoder", "Quits", "import os; os._exit(5)")
    result = line("check", "encoder/quits")
    assert result.status == 1
    assert result.out.splitlines() == [
        "failed      imports     the import of quits:Quits ended the process with status 5; expected it to go on",
        "skipped     the others  imports failed",
        "0 passed, 1 failed, 0 noted, 1 skipped, 0 undeclared",
    ]


@pytest.mark.parametrize(
    ("name", "target", "code", "said"),
    [
        ("thing", "it", "it = 3", "thing:it should be a class that derives from Encoder; found 3"),
        (
            "open",
            "Open",
            "from agmbench.contracts import Encoder\nclass Open(Encoder):\n    def __init__(self, shape, *, width: int): ...",
            "encoder/open needs a value: parameter 'width' of encoder/open has no default",
        ),
    ],
)
def test_what_is_no_component_is_told(line: CommandLine, name: str, target: str, code: str, said: str) -> None:
    plugin(line.folder, name, "encoder", target, code)
    result = line("check", f"encoder/{name}")
    assert result.status == 1
    assert f"failed      contract    {said}" in result.out


def test_a_parameter_without_a_default_may_be_given(line: CommandLine) -> None:
    code = """
from agmbench.encoders.mlp import MLP

class Wide(MLP):
    def __init__(self, shape, *, width: int):
        super().__init__(shape, hidden=width)
"""
    plugin(line.folder, "wide", "encoder", "Wide", code)
    result = line("check", "encoder/wide", "--set", "width=3")
    assert result.status == 0, result.out
    assert re.search(r"contract +derives from Encoder; parameters: width=3\n", result.out)


@pytest.mark.bad_input
def test_a_typo_is_one_line(line: CommandLine) -> None:
    assert "unknown modulator 'agn': did you mean 'agm'?" in line.refused("check", "modulator/agn")
    assert "no kind 'modulater' in 'modulater/agm': did you mean 'modulator'?" in line.refused("check", "modulater/agm")
    assert "'agm' should be KIND/NAME, such as modulator/agm; did you mean modulator/agm?" in line.refused("check", "agm")
    assert "'amg' should be KIND/NAME, such as modulator/agm; KIND is one of dataset, " in line.refused("show", "amg")
    assert "unknown modulator 'agm/1'" in line.refused("check", "modulator", "agm", "1")


@pytest.mark.parametrize("words", [["modulator/joint"], ["modulator", "joint"]])
def test_a_component_is_named_in_one_word_or_two(line: CommandLine, words: list[str]) -> None:
    assert line("show", *words).out.startswith("modulator/joint: ")
    assert "encoder/mlp has no parameter 'hiden': did you mean 'hidden'?" in line.refused(
        "check", "encoder/mlp", "--set", "hiden=3"
    )


def test_a_parameter_may_be_set(line: CommandLine) -> None:
    result = line("check", "encoder/conv", "--set", "width=2")
    assert result.status == 0
    assert "finite and as wide as out_features: [4, 8]" in result.out
