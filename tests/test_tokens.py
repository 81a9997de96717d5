"""Sequences with masks, what stands in for absent modalities, and encoders that look at other modalities."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agmbench import shapley
from agmbench.contracts import Encoder, Input, Mode, TensorSplit, Tokens
from agmbench.encoders.mlp import MLP
from agmbench.encoders.transformer import Transformer
from agmbench.fusions.concat import Concat
from agmbench.fusions.film import FiLM
from agmbench.fusions.gated import Gated
from agmbench.fusions.hybrid import Hybrid
from agmbench.model import MultimodalModel
from agmbench.muting import Mean, Muting, Random, Zeros
from agmbench.testing import NaiveModel

BATCH, FRAMES = 6, 5
LENGTHS = torch.tensor([5, 3, 3, 1, 5, 2])
MASK = torch.arange(FRAMES) < LENGTHS.unsqueeze(1)
NAMES = ("audio", "text")


def sequences(seed: int = 0) -> dict[str, Input]:
    generator = torch.Generator().manual_seed(seed)
    return {m: Tokens(torch.randn(BATCH, FRAMES, 4, generator=generator), MASK) for m in NAMES}


def model(fusion: str = "hybrid", muting: Muting | None = None) -> MultimodalModel:
    torch.manual_seed(1)
    encoders = {m: Transformer((FRAMES, 4), layers=1, heads=2, width=8, dropout=0.0) for m in NAMES}
    sizes = dict.fromkeys(NAMES, 8)
    made = Hybrid(sizes, 3, width=8, heads=2, layers=2, feed_forward=8, dropout=0.0) if fusion == "hybrid" else Concat(sizes, 3)
    return MultimodalModel(encoders, made, muting=muting)


@pytest.mark.parametrize("fusion", ["hybrid", "concat"])
def test_what_a_mask_hides_changes_nothing(fusion: str) -> None:
    net, inputs = model(fusion).eval(), sequences()
    other = {
        m: Tokens(torch.where(MASK.unsqueeze(2), x.values, 99.0), MASK) for m, x in inputs.items() if isinstance(x, Tokens)
    }
    torch.testing.assert_close(net(inputs).logits, net(other).logits)


def test_a_whole_mask_is_no_mask() -> None:
    net, inputs = model().eval(), sequences()
    plain = {m: x.values for m, x in inputs.items() if isinstance(x, Tokens)}
    whole = {m: Tokens(values, torch.ones(BATCH, FRAMES, dtype=torch.bool)) for m, values in plain.items()}
    torch.testing.assert_close(net(plain).logits, net(whole).logits)


def test_a_sequence_without_any_token_is_finite() -> None:
    inputs = {m: Tokens(x.values, torch.zeros_like(MASK)) for m, x in sequences().items() if isinstance(x, Tokens)}
    for fusion in ("hybrid", "concat"):
        assert torch.isfinite(model(fusion).eval()(inputs).logits).all()


def test_the_mean_of_the_tokens_that_are_there() -> None:
    tokens = Tokens(torch.tensor([[[1.0], [3.0], [100.0]]]), torch.tensor([[True, True, False]]))
    assert tokens.pooled().tolist() == [[2.0]]
    assert Tokens(tokens.values, torch.zeros(1, 3, dtype=torch.bool)).pooled().tolist() == [[0.0]]


@pytest.mark.parametrize("fusion", ["hybrid", "concat"])
@pytest.mark.parametrize("mute", ["zeros", "mean", "random"])
def test_a_coalition_is_a_full_pass_on_muted_inputs(fusion: str, mute: str) -> None:
    inputs = sequences()
    split = TensorSplit(inputs, torch.zeros(BATCH, dtype=torch.long))
    muting = {"zeros": Zeros(), "mean": Mean(split, dict.fromkeys(NAMES)), "random": Random(3)}[mute]
    net = model(fusion, muting).eval()
    which = shapley.coalitions(NAMES)
    with net.muting.evaluation():
        found = net.coalitions(inputs, which)
    with net.muting.evaluation():
        stands_in = {m: net.muting(m, x) for m, x in inputs.items()}  # one draw per modality, in order
    for coalition in which:
        seen = {m: inputs[m] if m in coalition else stands_in[m] for m in NAMES}
        torch.testing.assert_close(found[coalition].logits, net(seen).logits)


def test_a_muted_sequence_is_encoded_once_a_mask() -> None:
    net, inputs = model("concat").eval(), sequences()
    sizes: list[int] = []
    net.encoders["audio"].register_forward_hook(lambda _, args, __: sizes.append(len(args[0])))
    net.coalitions(inputs, shapley.coalitions(NAMES))
    assert sizes == [BATCH, 4]  # the lengths 5, 3, 1 and 2


def test_the_mean_is_that_of_the_training_set() -> None:
    train = TensorSplit({"a": torch.tensor([[1.0, 2.0], [3.0, 6.0]]), "b": sequences()["text"]}, torch.zeros(2))
    mean = Mean(TensorSplit({"a": train.inputs["a"]}, torch.zeros(2)), {"a": None})
    assert mean("a", torch.zeros(3, 2)).tolist() == [[2.0, 4.0]] * 3  # type: ignore[union-attr]
    tokens = sequences()["text"]
    assert isinstance(tokens, Tokens)
    of_tokens = Mean(TensorSplit({"b": tokens}, torch.zeros(BATCH)), {"b": None})("b", tokens)
    assert isinstance(of_tokens, Tokens)
    torch.testing.assert_close(of_tokens.values[0, 0], tokens.values[MASK].mean(dim=0))
    assert of_tokens.mask is MASK


def test_random_muting_is_the_same_at_each_evaluation_and_goes_on_in_training() -> None:
    muting, x = Random(5), torch.zeros(2, 3)
    first = muting("a", x)
    with muting.evaluation():
        at_first = muting("a", x)
    second = muting("a", x)
    with muting.evaluation():
        assert torch.equal(muting("a", x), at_first)  # type: ignore[arg-type]
    assert not torch.equal(first, second)  # type: ignore[arg-type]
    again = Random(5)
    assert torch.equal(again("a", x), first)  # type: ignore[arg-type]
    resumed = Random(5)
    resumed.load_state_dict(again.state_dict())
    assert torch.equal(resumed("a", x), second)  # type: ignore[arg-type]


def test_a_state_from_another_kind_of_device_is_no_obstacle() -> None:
    """A model that was trained on CUDA, whose generators have short states, is evaluated on a CPU; its state stays unchanged."""
    foreign, x = torch.zeros(16, dtype=torch.uint8), torch.zeros(2, 3)
    muting = Random(5)
    muting.set_extra_state(foreign)
    assert torch.equal(muting.get_extra_state(), foreign)
    with muting.evaluation():
        muting("a", x)
    assert torch.equal(muting.get_extra_state(), foreign)
    assert torch.equal(muting("a", x), Random(5)("a", x))  # type: ignore[arg-type]


def official(**settings: Any) -> Transformer:
    torch.manual_seed(2)
    return Transformer((FRAMES, 4), variant="official", layers=2, heads=2, width=8, **settings)


def test_the_official_transformer_is_torch_s_without_positions_and_mask() -> None:
    encoder, x = official().eval(), torch.randn(BATCH, FRAMES, 4)
    by_hand = encoder.project.weight @ x.transpose(1, 2)  # the official 1x1 convolution without bias, [B, D, T]
    state = by_hand.transpose(1, 2)
    for layer in encoder.body.layers:  # type: ignore[union-attr]
        attended = layer.self_attn(state, state, state, need_weights=False)[0]
        state = layer.norm1(state + attended)
        state = layer.norm2(state + layer.linear2(layer.linear1(state).relu()))
    assert encoder.project.bias is None
    assert encoder.body.layers[0].linear1.out_features == 2048  # type: ignore[index, union-attr]
    torch.testing.assert_close(encoder(x), state[:, 0])
    order = [0, 3, 1, 4, 2]
    torch.testing.assert_close(encoder(x[:, order]), encoder(x))  # no position but the first
    hidden = torch.zeros(BATCH, FRAMES, dtype=torch.bool)
    assert torch.equal(encoder(Tokens(x, hidden)), encoder(x))  # type: ignore[arg-type]


def test_the_official_transformer_reads_images_and_trains_under_agm() -> None:
    torch.manual_seed(0)
    image = Transformer((2, 3, FRAMES), variant="official", layers=1, heads=2, width=8)
    assert image(torch.randn(BATCH, 2, 3, FRAMES)).shape == (BATCH, 8)
    net = MultimodalModel({m: official() for m in NAMES}, Concat(dict.fromkeys(NAMES, 8), 3)).train()
    sum(phi.square().sum() for phi in net.responses(sequences()).values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


class Guided(Encoder):
    """An encoder whose features are scaled by the mean of another modality's input."""

    guided = True

    def __init__(self, shape: tuple[int, ...], guide: str) -> None:
        super().__init__(shape)
        self.guide = guide
        self.linear = nn.Sequential(nn.Linear(shape[0], 4), nn.BatchNorm1d(4))
        self.out_features = 4

    def forward(self, x: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        features: Tensor = self.linear(x) * (1 + inputs[self.guide].mean(dim=1, keepdim=True))
        return features


def test_a_guided_encoder_sees_the_muted_inputs_of_the_absent() -> None:
    torch.manual_seed(0)
    encoders = {"a": Guided((5,), "b"), "b": MLP((5,), hidden=4, layers=1)}
    net = MultimodalModel(encoders, Concat({"a": 4, "b": 4}, 3))
    inputs = {m: torch.randn(BATCH, 5) for m in "ab"}
    norm = encoders["a"].linear[1]
    found = net.train().coalitions(inputs, shapley.coalitions(("a", "b")))
    assert norm.num_batches_tracked == 1
    net.eval()
    for coalition in (frozenset("a"), frozenset("b")):
        seen = {m: x if m in coalition else torch.zeros_like(x) for m, x in inputs.items()}
        torch.testing.assert_close(found[coalition].logits, net(seen).logits)


def guided(muting: Muting | None = None) -> tuple[MultimodalModel, dict[str, Input]]:
    torch.manual_seed(0)
    encoders: dict[str, Encoder] = {"a": Guided((5,), "b"), "b": Guided((5,), "c"), "c": MLP((5,), hidden=4, layers=1)}
    return MultimodalModel(encoders, Concat(dict.fromkeys("abc", 4), 3), muting=muting), {
        m: torch.randn(BATCH, 5) for m in "abc"
    }


@pytest.mark.parametrize("mode", ["exact", "shared"])
@pytest.mark.parametrize("muted_gradient", [True, False])
def test_with_guided_encoders_both_modes_are_full_passes_in_every_gradient(mode: Mode, muted_gradient: bool) -> None:
    found = []
    for kind, how in ((MultimodalModel, mode), (NaiveModel, "exact")):
        net, inputs = guided()
        net = kind({m: net.encoders[m] for m in net.encoders}, net.fusion).train()  # type: ignore[misc]
        phi = net.responses(inputs, how, muted_gradient)  # type: ignore[arg-type]
        sum((place + 1) * values.square().sum() for place, values in enumerate(phi.values())).backward()  # type: ignore[union-attr]
        found.append([*phi.values(), *(tensor.grad for tensor in net.parameters())])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


def test_a_guided_encoder_is_shown_one_draw_in_every_coalition() -> None:
    net, inputs = guided(Random(3))
    net.eval()
    which = [c for c in shapley.coalitions(tuple("abc")) if len(c) < 3]
    found = net.coalitions(inputs, which)
    again = Random(3)
    blank = {m: again(m, inputs[m]) for m in "abc"}
    for coalition in which:
        seen = {m: (inputs if m in coalition else blank)[m] for m in "abc"}
        torch.testing.assert_close(found[coalition].logits, net(seen).logits)


def test_film_at_two_modalities_by_hand() -> None:
    torch.manual_seed(0)
    film = FiLM({"a": 3, "v": 4}, 2)
    e = {"a": torch.randn(BATCH, 3), "v": torch.randn(BATCH, 4)}
    gamma, beta = film.modulation["v"](e["a"]).split(4, dim=1)
    torch.testing.assert_close(film(e).logits, film.head(gamma * e["v"] + beta))
    assert FiLM({"a": 3, "v": 4}, 2, condition="v").condition == "v"


def test_gated_at_three_modalities_by_hand() -> None:
    torch.manual_seed(0)
    gated = Gated({"a": 3, "b": 4, "c": 5}, 2, gate="b", width=6)
    e = {"a": torch.randn(BATCH, 3), "b": torch.randn(BATCH, 4), "c": torch.randn(BATCH, 5)}
    u = {m: gated.project[m](e[m]) for m in e}
    torch.testing.assert_close(gated(e).representation, torch.sigmoid(u["b"]) * (u["a"] + u["c"]))


def test_in_a_hybrid_fusion_the_guide_is_not_guided() -> None:
    hybrid = Hybrid({"text": 4, "audio": 4}, 2, guide="text", width=8, heads=2, layers=2, feed_forward=8, dropout=0.0).eval()
    assert hybrid.guides == {"text": [], "audio": ["text"]}
    torch.manual_seed(0)
    text, audio = Tokens(torch.randn(2, 3, 4)), Tokens(torch.randn(2, 3, 4))
    pooled: list[Tensor] = []
    hybrid.pool["text"].register_forward_hook(lambda _, __, out: pooled.append(out))
    hybrid({"text": text, "audio": audio})
    hybrid({"text": text, "audio": Tokens(audio.values + 1)})
    assert torch.equal(pooled[0], pooled[1])


@pytest.mark.parametrize("kind", [FiLM, Gated, Hybrid])
def test_a_modality_that_is_not_there_cannot_condition(kind: type) -> None:
    word = {FiLM: "condition", Gated: "gate", Hybrid: "guide"}[kind]
    with pytest.raises(ValueError, match="has no modality 'smell'"):
        kind({"a": 4, "b": 4}, 2, **{word: "smell"})
