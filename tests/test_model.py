"""Compares the engine for logits of coalitions with one full forward pass per coalition."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import agmbench.registry as registry
from agmbench import shapley
from agmbench.contracts import Coalition, Encoder, Fused, Fusion, Mode, Tokens
from agmbench.encoders.conv import Conv
from agmbench.encoders.mlp import MLP
from agmbench.encoders.transformer import Transformer
from agmbench.fusions.concat import Concat
from agmbench.fusions.early import Early
from agmbench.model import MultimodalModel

CLASSES, BATCH = 3, 5
MODES: tuple[Mode, ...] = ("exact", "shared")


class BatchStatistics(Encoder):
    """An encoder whose BatchNorm reads the batch in eval mode too."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.linear = nn.Linear(shape[0], 6)
        self.norm = nn.BatchNorm1d(6, track_running_stats=False)
        self.out_features = 6

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.norm(self.linear(x))
        return features


class Normed(Encoder):
    """BatchNorm, LayerNorm and dropout in one encoder."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.net = nn.Sequential(nn.Linear(shape[0], 6), nn.BatchNorm1d(6), nn.ReLU(), nn.LayerNorm(6), nn.Dropout(0.3))
        self.out_features = 6

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x)
        return features


class Plain(Encoder):
    """An encoder that is the same in train mode and eval mode, and declares this."""

    same_in_training = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.net = nn.Sequential(nn.Linear(shape[0], 6), nn.LayerNorm(6), nn.ReLU(), nn.Dropout(0.0))
        self.out_features = 6
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += len(x) > 1  # a muted input is a single sample, and is not counted
        features: Tensor = self.net(x)
        return features


class Silent(Plain):
    """The same encoder, which does not declare it."""


ENCODERS: Mapping[str, tuple[tuple[int, ...], Callable[[tuple[int, ...]], Encoder]]] = {
    "conv": ((2, 7, 6), lambda shape: Conv(shape, width=4, layers=2)),
    "transformer": ((4, 3), lambda shape: Transformer(shape, layers=1, heads=2, width=8, dropout=0.0)),
    "mlp": ((5,), lambda shape: MLP(shape, hidden=7, layers=2, dropout=0.5)),
    "normed": ((5,), Normed),
    "plain": ((5,), Plain),
    "silent": ((5,), Silent),
    "batch-statistics": ((5,), BatchStatistics),
}
SMALL: Mapping[str, Mapping[str, int]] = {
    "early": {"hidden": 8, "out": 6},
    "gated": {"width": 8},
    "hybrid": {"width": 8, "heads": 2, "layers": 2, "feed_forward": 8},
}
EVERY = registry.load(Path("no plugins")).entries("fusion")
FUSIONS = [entry.name for entry in EVERY if not entry.load().per_segment]  # fusions per segment are tested elsewhere
ADDITIVE = [entry.name for entry in EVERY if entry.load().additive]


def make_fusion(name: str, features: Mapping[str, int]) -> Fusion:
    fusion: Fusion = registry.load(Path("no plugins")).get("fusion", name).load()(features, CLASSES, **SMALL.get(name, {}))
    return fusion


def make(encoder: str, fusion: str, count: int, present: tuple[str, ...] | None = None) -> MultimodalModel:
    """A model in float64, so that differences do not come from rounding."""
    torch.manual_seed(count)
    shape, build = ENCODERS[encoder]
    encoders = {f"m{number}": build((*shape[:-1], shape[-1] + number)) for number in range(count)}
    model = MultimodalModel(encoders, make_fusion(fusion, {m: e.out_features for m, e in encoders.items()}), present).double()
    with torch.no_grad():
        for name, buffer in model.named_buffers():  # running statistics as after some training
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5) if name.endswith("running_var") else buffer.normal_()
    return model


def sample(encoder: str, count: int) -> dict[str, Tensor]:
    shape = ENCODERS[encoder][0]
    return {f"m{n}": torch.randn(BATCH, *shape[:-1], shape[-1] + n, dtype=torch.float64) for n in range(count)}


def naive(model: MultimodalModel, inputs: Mapping[str, Tensor]) -> dict[Coalition, Fused]:
    """One forward pass per coalition: the full coalition first and in the present mode, then all others in eval mode, muted by zeros."""
    which = shapley.coalitions(model.modalities)
    modes = {module: module.training for module in model.modules()}
    found = {which[-1]: _forward(model, inputs, which[-1])}
    model.eval()
    for coalition in which[:-1]:
        found[coalition] = _forward(model, inputs, coalition)
    for module, mode in modes.items():
        module.training = mode
    return found


def _forward(model: MultimodalModel, inputs: Mapping[str, Tensor], coalition: Coalition) -> Fused:
    seen = {m: x if m in coalition else torch.zeros_like(x) for m, x in inputs.items()}
    fused: Fused = model.fusion({m: _suited(model.fusion, encoder(seen[m])) for m, encoder in model.encoders.items()})
    return fused


def _suited(fusion: Fusion, feature: Tensor | Tokens) -> Tensor | Tokens:
    """The feature in the form that the fusion takes: a vector becomes a sequence of one token, or tokens become their mean."""
    if fusion.takes_tokens:
        return feature if isinstance(feature, Tokens) else Tokens(feature.unsqueeze(1))
    return feature.values.mean(dim=1) if isinstance(feature, Tokens) else feature


def engine(model: MultimodalModel, inputs: Mapping[str, Tensor], mode: Mode = "exact") -> dict[Coalition, Fused]:
    return model.coalitions(inputs, shapley.coalitions(model.modalities), mode)


def gradients(model: MultimodalModel, found: Mapping[Coalition, Fused]) -> dict[str, Tensor | None]:
    """The gradients of the sum of all outputs of all coalitions, with a random weight for each number."""
    weights = torch.Generator().manual_seed(0)
    total = torch.zeros((), dtype=torch.float64)
    for coalition in shapley.coalitions(model.modalities):
        for values in found[coalition]:
            total = total + (values * torch.randn(values.shape, generator=weights, dtype=torch.float64)).sum()
    total.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def same(one: Mapping[Coalition, Fused], two: Mapping[Coalition, Fused]) -> None:
    assert one.keys() == two.keys()
    for coalition, fused in one.items():
        for mine, other in zip(fused, two[coalition], strict=True):
            torch.testing.assert_close(mine, other, atol=1e-8, rtol=1e-8)


@contextmanager
def batch_norm_steps(model: nn.Module, moved: int) -> Iterator[None]:
    """Check that inside the `with` block every BatchNorm of the model is updated `moved` times, and that there is one."""

    def counts() -> dict[str, int]:
        return {name: int(value) for name, value in model.named_buffers() if name.endswith("num_batches_tracked")}

    before = counts()
    assert before
    yield
    assert counts() == {name: count + moved for name, count in before.items()}


@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_exact_is_one_full_pass_a_coalition(encoder: str, fusion: str, count: int) -> None:
    model, inputs = make(encoder, fusion, count).train(), sample(encoder, count)
    other = copy.deepcopy(model)
    torch.manual_seed(7)  # for the dropout of the pass in train mode
    found = engine(model, inputs)
    torch.manual_seed(7)
    expected = naive(other, inputs)

    same(found, expected)
    torch.testing.assert_close(gradients(model, found), gradients(other, expected), atol=1e-8, rtol=1e-8, check_stride=False)
    for (name, mine), theirs in zip(model.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=f"running statistics differ: {name}")


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_in_eval_mode_both_modes_are_full_passes(encoder: str, fusion: str) -> None:
    model, inputs = make(encoder, fusion, 3).eval(), sample(encoder, 3)
    expected = naive(model, inputs)
    for mode in MODES:
        same(engine(model, inputs, mode), expected)


def test_shared_takes_the_features_of_the_full_pass() -> None:
    model, inputs = make("conv", "concat", 2).train(), sample("conv", 2)
    features = copy.deepcopy(model).encode(inputs)
    found = engine(model, inputs, "shared")
    muted = model.eval().encoders["m1"](torch.zeros_like(inputs["m1"]))
    torch.testing.assert_close(
        found[frozenset({"m0"})].representation, torch.cat([features["m0"], muted], dim=1), atol=1e-8, rtol=1e-8
    )


def test_shared_is_not_exact_while_training() -> None:
    model, inputs = make("conv", "concat", 2).train(), sample("conv", 2)
    one, two = (engine(copy.deepcopy(model), inputs, mode)[frozenset({"m0"})].logits for mode in MODES)
    assert not torch.allclose(one, two)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_running_statistics_move_once_a_call(fusion: str, mode: Mode) -> None:
    model, inputs = make("conv", fusion, 3).train(), sample("conv", 3)
    with batch_norm_steps(model, 1):
        engine(model, inputs, mode)
    with batch_norm_steps(model.eval(), 0):
        engine(model, inputs, mode)


@pytest.mark.parametrize("mode", MODES)
def test_responses_move_running_statistics_once(mode: Mode) -> None:
    model, inputs = make("conv", "early", 2).train(), sample("conv", 2)
    with batch_norm_steps(model, 1):
        model.responses(inputs, mode)


def test_partial_coalitions_alone_move_nothing() -> None:
    model, inputs = make("conv", "early", 3).train(), sample("conv", 3)
    with batch_norm_steps(model, 0):
        found = model.coalitions(inputs, [frozenset({"m0"}), frozenset({"m0", "m2"})])
    assert found.keys() == {frozenset({"m0"}), frozenset({"m0", "m2"})}
    torch.testing.assert_close(found[frozenset({"m0"})].logits, engine(model.eval(), inputs)[frozenset({"m0"})].logits)


@pytest.mark.parametrize("mode", MODES)
def test_training_flags_come_back_as_they_were(mode: Mode) -> None:
    model, inputs = make("conv", "early", 2).train(), sample("conv", 2)
    model.encoders["m0"].eval()
    frozen = {name: value.clone() for name, value in model.encoders["m0"].named_buffers()}
    flags = {name: module.training for name, module in model.named_modules()}

    engine(model, inputs, mode)

    assert {name: module.training for name, module in model.named_modules()} == flags
    assert sum(flags.values()) not in (0, len(flags))
    for name, value in model.encoders["m0"].named_buffers():
        torch.testing.assert_close(value, frozen[name])


def test_training_flags_come_back_after_an_error() -> None:
    model, inputs = make("mlp", "concat", 2).train(), sample("mlp", 2)
    with pytest.raises(KeyError):
        model.coalitions({"m0": inputs["m0"]}, [frozenset({"m1"})])
    assert all(module.training for module in model.modules())


def test_a_coalition_of_a_modality_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="no modality 'no such' in m0, m1"):
        make("mlp", "concat", 2).coalitions(sample("mlp", 2), [frozenset({"m0", "no such"})])


def passes(model: MultimodalModel, mode: Mode = "exact") -> list[int]:
    """How often each encoder runs for all coalitions."""
    for encoder in model.encoders.values():
        encoder.passes = 0  # type: ignore[assignment]
    engine(model, sample("plain", len(model.encoders)), mode)
    return [int(encoder.passes) for encoder in model.encoders.values()]  # type: ignore[arg-type]


def test_an_encoder_whose_modes_are_the_same_runs_once() -> None:
    assert passes(make("plain", "early", 3)) == [1, 1, 1]
    assert passes(make("silent", "early", 3)) == [2, 2, 2], "what nobody knows is not guessed"
    model = make("plain", "early", 3)
    model.encoders["m1"].net[3].p = 0.1  # type: ignore[index, union-attr]
    assert passes(model) == [1, 2, 1]
    assert passes(model, "shared") == [1, 1, 1]


def test_an_encoder_that_rests_in_eval_mode_runs_once() -> None:
    model = make("silent", "early", 3)
    model.encoders["m1"].eval().requires_grad_(False)
    assert passes(model) == [2, 1, 2]


@pytest.mark.parametrize("partial_gradient", [True, False])
@pytest.mark.parametrize("muted_gradient", [True, False])
@pytest.mark.parametrize("count", [2, 3])
def test_one_pass_for_both_modes_gives_the_numbers_of_two(count: int, muted_gradient: bool, partial_gradient: bool) -> None:
    inputs, found = sample("plain", count), []
    for kind in ("plain", "silent"):
        model = make(kind, "concat", count)
        which = shapley.coalitions(model.modalities)
        said = model.coalitions(inputs, which, "exact", muted_gradient, partial_gradient)
        assert all(said[c].logits.requires_grad is (partial_gradient or len(c) == count) for c in which)
        found.append((said, gradients(model, said)))
    same(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-10, rtol=1e-10)


def test_an_encoder_frozen_in_eval_mode_is_frozen_in_the_full_pass() -> None:
    model, inputs = make("conv", "concat", 2).train(), sample("conv", 2)
    model.encoders["m0"].eval()
    other = copy.deepcopy(model)
    same(engine(model, inputs), naive(other, inputs))


@pytest.mark.parametrize("mode", MODES)
def test_a_muted_pass_without_gradient_has_the_same_numbers(mode: Mode) -> None:
    model, inputs = make("mlp", "concat", 2).eval(), sample("mlp", 2)
    alone = frozenset({"m0"})
    logits, moved = [], []
    for gradient in (True, False):
        model.zero_grad()
        found = model.coalitions(inputs, [alone], mode, gradient)[alone].logits
        found.square().sum().backward()
        logits.append(found)
        moved.append([parameter.grad is not None for parameter in model.encoders["m1"].parameters()])
        assert all(parameter.grad is not None for parameter in model.encoders["m0"].parameters())
    torch.testing.assert_close(*logits)
    assert all(moved[0])
    assert not any(moved[1])


def test_nothing_has_a_gradient_where_none_is_wanted() -> None:
    model, inputs = make("mlp", "sum", 2), sample("mlp", 2)
    with torch.no_grad():
        assert not any(fused.logits.requires_grad for fused in engine(model, inputs).values())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_responses_sum_to_the_logits_of_the_full_pass(count: int, mode: Mode) -> None:
    model, inputs = make("conv", "early", count).train(), sample("conv", count)
    other = copy.deepcopy(model)
    torch.manual_seed(1)
    responses = model.responses(inputs, mode)
    torch.manual_seed(1)
    torch.testing.assert_close(sum(responses.values()), other(inputs).logits)


# modalities that are never present


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("count", "present"), [(2, ("m0",)), (3, ("m1",)), (3, ("m0", "m2")), (4, ("m1", "m2", "m3"))])
def test_a_never_present_modality_is_muted_in_every_pass(
    count: int, present: tuple[str, ...], mode: Mode, training: bool
) -> None:
    model, inputs = make("conv", "early", count, present).train(training), sample("conv", count)
    changed = {m: x if m in present else torch.randn_like(x) for m, x in inputs.items()}
    other = copy.deepcopy(model)
    torch.manual_seed(3)
    found = engine(model, inputs, mode)
    torch.manual_seed(3)
    same(found, engine(other, changed, mode))
    assert max(found, key=len) == frozenset(present)
    assert not any(coalition - set(present) for coalition in found)


@pytest.mark.parametrize("present", [("m0",), ("m0", "m2")])
def test_exact_is_one_full_pass_a_coalition_with_a_modality_that_is_never_present(present: tuple[str, ...]) -> None:
    model, inputs = make("transformer", "concat", 3, present).train(), sample("transformer", 3)
    same(engine(model, inputs), naive(model, inputs))


def test_a_never_present_modality_is_muted_in_the_plain_pass() -> None:
    model, inputs = make("transformer", "concat", 2, ("m1",)).train(), sample("transformer", 2)
    changed = {**inputs, "m0": torch.randn_like(inputs["m0"])}
    torch.testing.assert_close(model(inputs), model(changed))


# fusions


@pytest.mark.parametrize("fusion", ADDITIVE)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_terms_of_an_additive_fusion_sum_to_the_logits(fusion: str, count: int) -> None:
    model, inputs = make("mlp", fusion, count).eval(), sample("mlp", count)
    features = model.encode(inputs)
    terms = model.fusion.terms(features)
    assert list(terms) == list(model.encoders)
    torch.testing.assert_close(sum(terms.values()), model.fusion(features).logits)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_heads_write_the_logits(fusion: str) -> None:
    model, inputs = make("mlp", fusion, 2).eval(), sample("mlp", 2)
    for head in model.fusion.heads():
        nn.init.zeros_(head.weight)
        if head.bias is not None:
            nn.init.ones_(head.bias)
    count = sum(head.bias is not None for head in model.fusion.heads())
    torch.testing.assert_close(model(inputs).logits, torch.full((BATCH, CLASSES), float(count), dtype=torch.float64))


def test_a_fusion_that_is_not_additive_has_no_terms() -> None:
    fusion = Early({"a": 3, "b": 4}, 2, hidden=5, out=4)
    assert not fusion.additive
    with pytest.raises(TypeError, match="Early is not additive"):
        fusion.terms({"a": torch.zeros(2, 3), "b": torch.zeros(2, 4)})


def test_a_fusion_reads_features_by_name_and_not_by_order() -> None:
    features = {"a": torch.randn(2, 3), "b": torch.randn(2, 3)}
    backwards = dict(reversed(features.items()))
    for fusion in (Concat({"a": 3, "b": 3}, 2), Early({"a": 3, "b": 3}, 2, hidden=5, out=4).eval()):
        torch.testing.assert_close(fusion(features), fusion(backwards))
