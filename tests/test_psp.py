"""The PSP network: its fusion and its two encoders, against values by hand and in the engine."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from agmbench import shapley
from agmbench.contracts import Batch, Context, Modulator, Tokens, Unsuitable
from agmbench.encoders.bilstm import BiLSTM
from agmbench.encoders.guided import Guided
from agmbench.fusions.concat import Concat
from agmbench.fusions.psp import PSP
from agmbench.model import MultimodalModel
from agmbench.modulators.agm import AGM
from agmbench.modulators.joint import Joint
from agmbench.modulators.mmpareto import MMPareto
from agmbench.modulators.ogm import OGM
from agmbench.tasks import Segments
from agmbench.testing import NaiveModel

NAMES = ("audio", "visual")
B, T, D, C = 3, 4, 6, 5


def tokens(batch: int = B) -> dict[str, Tokens]:
    draw = torch.Generator().manual_seed(0)
    return {m: Tokens(torch.randn(batch, T, D, generator=draw)) for m in NAMES}


def fusion(head: str = "classes", threshold: float = 0.099) -> PSP:
    torch.manual_seed(1)
    psp = PSP(dict.fromkeys(NAMES, D), C, head=head, threshold=threshold, hidden=7, similarity=100.0)  # type: ignore[arg-type]
    return psp.eval()


def network(
    kind: type[MultimodalModel] = MultimodalModel, head: str = "classes", dropout: float = 0.0, similarity: float = 100.0
) -> MultimodalModel:
    torch.manual_seed(2)
    encoders = {
        "audio": BiLSTM((T, 3), width=4, inner=5),
        "visual": Guided((T, 2, 2, 6), guide_size=3, attention=8, width=4, inner=5),
    }
    psp = PSP(dict.fromkeys(NAMES, 8), C, head=head, hidden=6, dropout=dropout, similarity=similarity)  # type: ignore[arg-type]
    return kind(encoders, psp, task=Segments())


def batch(size: int = B) -> Batch:
    draw = torch.Generator().manual_seed(3)
    inputs = {"audio": torch.randn(size, T, 3, generator=draw), "visual": torch.rand(size, T, 2, 2, 6, generator=draw)}
    return Batch(inputs, torch.randint(C, (size, T), generator=draw), torch.arange(size))


def test_logits_and_representation_of_each_segment() -> None:
    fused = fusion()(tokens())
    assert fused.logits.shape == (B, T, C)
    assert fused.representation.shape == (B, T, D)


@pytest.mark.parametrize("threshold", [0.0, 0.099, 0.3])
def test_propagation_by_hand(threshold: float) -> None:
    net, given = fusion(threshold=threshold), tokens(1)
    own = {m: given[m].values[0] for m in NAMES}
    match = {m: (own[m] @ net.match[m].weight.T).clamp(min=0) for m in NAMES}  # type: ignore[operator]
    give = {m: (own[m] @ net.give[m].weight.T).clamp(min=0) for m in NAMES}  # type: ignore[operator]
    mixed: dict[str, list[Tensor]] = {m: [] for m in NAMES}
    pruned = 0
    for m, other in (NAMES, NAMES[::-1]):
        for t in range(T):
            raw = [max(0.0, (match[m][t] @ match[other][s]).item() / math.sqrt(D)) for s in range(T)]
            shares = [value / (sum(raw) + 1e-8) for value in raw]
            kept = [share if share > threshold else 0.0 for share in shares]
            pruned += sum(0 < share <= threshold for share in shares)
            gained = sum((share / (sum(kept) + 1e-8) * give[other][s] for s, share in enumerate(kept)), torch.zeros(D))
            mixed[m].append(net.norm(((own[m][t] + gained) @ net.mix[m].weight.T).clamp(min=0)))  # type: ignore[operator]
    assert (pruned > 0) == (threshold > 0)
    expected = torch.stack([(a + v) / 2 for a, v in zip(*mixed.values(), strict=True)])
    torch.testing.assert_close(net(given).representation[0], expected)


def test_relevance_logits_are_one_probability() -> None:
    net = fusion("relevance")
    fused = net(tokens())
    torch.testing.assert_close(fused.logits.logsumexp(dim=2), torch.zeros(B, T), atol=1e-6, rtol=0)
    targets = torch.tensor([[0, 4, 2, 4], [4, 4, 4, 4], [1, 1, 3, 0]])  # 4 is background
    hidden = net.classify(fused.representation).relu()
    assert net.relevance is not None
    relevant = (targets != C - 1).float()
    events, there = net.head(hidden), targets != C - 1
    binary = torch.nn.functional.binary_cross_entropy_with_logits(net.relevance(hidden).squeeze(2), relevant, reduction="sum")
    crossed = torch.nn.functional.cross_entropy(events[there], targets[there], reduction="sum")
    torch.testing.assert_close(Segments().losses(fused.logits, targets).sum() * T, binary + crossed)
    assert [head.out_features for head in net.heads()] == [C - 1, 1]
    assert [head.out_features for head in fusion().heads()] == [C]


@pytest.mark.parametrize(
    "features", [{"audio": 4}, {"audio": 4, "visual": 6}, {"audio": 4, "visual": 4, "text": 4}], ids=["one", "widths", "three"]
)
def test_what_psp_refuses(features: dict[str, int]) -> None:
    with pytest.raises(Unsuitable, match="two modalities whose features are equally wide"):
        PSP(features, C)


def test_sequences_of_unlike_lengths_are_refused() -> None:
    given = tokens()
    with pytest.raises(Unsuitable, match="sequences of equal length; found 2, 4"):
        fusion()({"audio": Tokens(given["audio"].values[:, :2]), "visual": given["visual"]})


def test_shapes_that_the_encoders_refuse() -> None:
    with pytest.raises(Unsuitable, match=r"takes a sequence \[T, F\]"):
        BiLSTM((1, 257, 1004))
    with pytest.raises(Unsuitable, match=r"takes feature maps"):
        Guided((3, 224, 224))
    with pytest.raises(Unsuitable, match=r"takes \[4, 3\] of its guide 'audio'; found \[4, 5\]"):
        network().encoders["visual"](batch().inputs["visual"], {"audio": torch.zeros(B, T, 5)})


def test_places_that_are_alike_weigh_alike_and_a_guide_moves_attention() -> None:
    encoder = network().encoders["visual"]
    assert isinstance(encoder, Guided)
    inputs = batch().inputs
    visual = inputs["visual"]
    assert isinstance(visual, Tensor)
    same = visual[:, :, :1, :1].expand_as(visual)
    other = {"audio": torch.ones(B, T, 3)}
    torch.testing.assert_close(encoder(same, inputs).values, encoder.sequence(same[:, :, 0, 0]).values)
    torch.testing.assert_close(encoder(same, inputs).values, encoder(same, other).values)
    assert not torch.allclose(encoder(visual, inputs).values, encoder(visual, other).values)
    zero = {"audio": torch.zeros(B, T, 3)}
    torch.testing.assert_close(encoder(visual, {}).values, encoder(visual, zero).values)


def test_what_a_mask_hides_from_the_lstm_changes_nothing() -> None:
    encoder, x = BiLSTM((T, 3), width=4), torch.randn(2, T, 3)
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    other = torch.where(mask.unsqueeze(2), x, 9.0)
    torch.testing.assert_close(encoder(Tokens(x, mask)).values, encoder(Tokens(other, mask)).values)


@pytest.mark.parametrize("head", ["classes", "relevance"])
@pytest.mark.parametrize("train", [True, False])
def test_coalitions_are_full_passes(train: bool, head: str) -> None:
    """Without dropout, train mode and eval mode give the same."""
    engine, naive = network(head=head).train(train), network(NaiveModel, head).train(train)
    one, other = batch(), batch()
    weights = torch.randn(B, T, C, generator=torch.Generator().manual_seed(5))
    for net, given in ((engine, one), (naive, other)):
        phi = net.responses(given.inputs)
        sum((place + 1) * (weights * phi[m]).sum() for place, m in enumerate(NAMES)).backward()  # type: ignore[union-attr]
    which = shapley.coalitions(NAMES)
    found, expected = engine.coalitions(one.inputs, which), naive.coalitions(other.inputs, which)
    for coalition in which:
        torch.testing.assert_close(found[coalition].logits, expected[coalition].logits)
        torch.testing.assert_close(found[coalition].representation, expected[coalition].representation)
    for (name, a), (_, b) in zip(engine.named_parameters(), naive.named_parameters(), strict=True):
        assert a.grad is not None, name
        assert b.grad is not None, name
        assert torch.allclose(a.grad, b.grad, rtol=1e-5, atol=1e-6), name


def test_a_muted_guide_no_longer_moves_attention() -> None:
    net, given = network().eval(), batch()
    alone = frozenset({"visual"})
    silent = {**given.inputs, "audio": torch.zeros(B, T, 3)}
    torch.testing.assert_close(net.coalitions(given.inputs, [alone])[alone].logits, net(silent).logits)


@pytest.mark.parametrize("size", [1, B])
@pytest.mark.parametrize("head", ["classes", "relevance"])
def test_agm_steps_are_finite_with_muted_inputs_and_one_sample(size: int, head: str) -> None:
    net, given = network(head=head, dropout=0.1).train(), batch(size)
    agm = AGM(NAMES)
    agm.prepare(Context(0, 1, 1, {}, torch.Generator(), net))
    silent = Batch({m: torch.zeros_like(x) for m, x in given.inputs.items()}, given.targets, given.index)  # type: ignore[arg-type]
    for shown in (given, silent):
        step = agm.step(net, [shown])
        assert torch.isfinite(step.loss)
        assert all(torch.isfinite(value).all() for value in step.signals.values())
        assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_the_similarity_loss_by_hand() -> None:
    """The values are computed as in the official `AVSimilarity` and `AVPSLoss`."""
    net, given = fusion().requires_grad_(False), tokens()
    targets = torch.tensor([[0, 4, 0, 4], [4, 4, 4, 4], [2, 2, 2, 2]])  # 4 is background
    wanted = torch.tensor([[0.5, 0, 0.5, 0], [0.25] * 4, [0.25] * 4])
    audio, visual = net._mixed(given)
    expected = 0.0
    for b in range(B):
        pairs = [(audio[b, t], visual[b, t]) for t in range(T)]
        cosines = [max(0.0, float(one @ other / (one.norm() * other.norm()))) for one, other in pairs]
        expected += sum((s / (sum(cosines) + 1e-8) - float(g)) ** 2 for s, g in zip(cosines, wanted[b], strict=True))
    assert float(net.penalty(given, targets)) == pytest.approx(100 * expected / (B * T), rel=1e-5)


@pytest.mark.parametrize(
    "made",
    [
        lambda: Joint(NAMES),
        lambda: AGM(NAMES, alpha=2.0, clip=None),
        lambda: OGM(NAMES, alpha=0.0, responses="shapley"),
    ],
    ids=["joint", "agm", "ogm"],
)
@pytest.mark.parametrize("parts", [1, 2])
def test_every_method_s_gradient_has_that_of_the_similarity_loss_added(made: Callable[[], Modulator], parts: int) -> None:
    whole = batch(4)
    found = []
    for similarity in (0.0, 100.0):
        net, modulator = network(similarity=similarity).train(), made()
        modulator.prepare(Context(0, 1, 1, {}, torch.Generator(), net))
        step = modulator.step(net, [sliced(whole, rows) for rows in torch.arange(4).split(4 // parts)])
        found.append({name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in net.named_parameters()})
    net.zero_grad()
    loss = net.penalty(whole)
    assert loss is not None
    assert float(step.signals["penalty"]) == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()
    for name, parameter in net.named_parameters():
        added = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found[1][name], found[0][name] + added, rtol=1e-4, atol=1e-6)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.encoders.parameters())


def test_mmpareto_s_joint_loss_has_the_similarity_loss() -> None:
    """Its unimodal losses do not have it, which changes the directions that it combines."""
    signals = []
    for similarity in (0.0, 100.0):
        net, pareto = network(similarity=similarity).train(), MMPareto(NAMES)
        torch.manual_seed(4)
        pareto.prepare(Context(0, 1, 1, {}, torch.Generator(), net))
        signals.append(pareto.step(net, [batch()]).signals)
    assert signals[0]["loss/audio"] == signals[1]["loss/audio"]
    assert signals[0]["cosine/audio"] != signals[1]["cosine/audio"]


def sliced(whole: Batch, rows: Tensor) -> Batch:
    return Batch({m: x[rows] for m, x in whole.inputs.items()}, whole.targets[rows], whole.index[rows])


def test_a_model_of_one_modality_has_no_pairs_and_no_weight_no_loss() -> None:
    net = network()
    concept = MultimodalModel(dict(net.encoders), net.fusion, ("audio",), task=Segments())  # type: ignore[arg-type]
    assert concept.penalty(batch()) is None
    assert network(similarity=0.0).penalty(batch()) is None
    assert "penalty" not in Joint(NAMES).step(concept.train(), [batch()]).signals


def test_a_concept_of_the_visual_modality_alone_has_no_guide_to_look_at() -> None:
    torch.manual_seed(0)
    encoder = Guided((T, 2, 2, 6), guide_size=3, attention=8, width=4, inner=5)
    net = MultimodalModel({"visual": encoder}, Concat({"visual": 8}, C))
    assert net({"visual": batch().inputs["visual"]}).logits.shape == (B, C)
