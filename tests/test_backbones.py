"""Backbones: where their weights come from, which parts learn, raw text, and cached features of frozen backbones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_check import BERT, CLIP, SMALL, STRIDES, VIT
from torch import Tensor
from transformers import AutoConfig, AutoModel

import agmbench
from agmbench import build, features, given, jobs, registry
from agmbench.contracts import SPLITS, Encoder, Tokens, Unsuitable, texts_of, utf8
from agmbench.encoders.clip import CLIP as Clip
from agmbench.encoders.hf_audio import HFAudio
from agmbench.encoders.hf_text import HFText
from agmbench.encoders.hf_vision import HFVision
from agmbench.encoders.language_model import LanguageModel
from agmbench.encoders.timm import Timm
from agmbench.errors import AgmbenchError
from agmbench.loading import Feed
from agmbench.testing import encoders as checks
from agmbench.testing.waits import Reads
from agmbench.train import Epoch, on_host, train

CPU = torch.device("cpu")
TEXT = {**BERT, "vocab_size": 300, "intermediate_size": 8, "max_position_embeddings": 12}
AST = {**SMALL, "model_type": "audio-spectrogram-transformer", "patch_size": 4, **STRIDES}
WAVES = {
    **SMALL,
    "model_type": "wav2vec2",
    "conv_dim": [8],
    "conv_stride": [2],
    "conv_kernel": [3],
    "num_feat_extract_layers": 1,
}
WAVES |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
WHISPER = {"model_type": "whisper", "d_model": 8, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2}
WHISPER |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "vocab_size": 50, "pad_token_id": 0}
WHISPER |= {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
VIDEO = {**SMALL, "model_type": "videomae", "patch_size": 16, "tubelet_size": 1}

FORMS: list[tuple[type[Encoder], dict[str, Any]]] = [
    (HFText, {"config": TEXT, "output": "first", "trained": "none"}),
    (HFAudio, {"config": WHISPER, "trained": 1}),
    (HFAudio, {"config": WAVES}),
    (HFVision, {"config": VIDEO, "trained": "none"}),
    (HFVision, {"config": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}}),
    (Clip, {"config": CLIP, "output": "tokens", "trained": 1}),
    (Timm, {"model": "resnet10t", "trained": "none"}),
    (Timm, {"model_args": {**VIT, "depth": 2}, "trained": 1}),
    (Timm, {"model_args": VIT, "trained": "lora", "lora": {"r": 2}}),
    (HFVision, {"config": {**SMALL, "model_type": "vit", "patch_size": 16}, "trained": "lora"}),
]


@pytest.mark.long
@pytest.mark.parametrize(("kind", "params"), FORMS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_form_keeps_its_promises_and_waits_for_nothing(kind: type[Encoder], params: dict[str, Any]) -> None:
    if params.get("trained") == "lora":
        pytest.importorskip("peft")
    assert [check for check in checks.check(kind, params) if check.outcome == "failed"] == []
    taken = 0
    for shape, batch in checks._given().values():
        try:
            encoder = kind(shape, **params)
        except Unsuitable:
            continue
        taken += 1
        x = encoder.on_host(batch)
        with Reads() as reads:
            found = encoder(x)
            answer = found.pooled() if isinstance(found, Tokens) else found
            if answer.requires_grad:
                answer.sum().backward()
        assert reads.found == []
    assert taken


def test_a_text_network_waits_for_nothing_and_says_what_it_said() -> None:
    torch.manual_seed(0)
    encoder = LanguageModel((3, 6), config=TEXT).eval()
    mask = torch.tensor([[1.0] * 6, [1.0] * 2 + [0.0] * 4])
    x = torch.stack([torch.randint(5, 90, (2, 6)).float(), mask, torch.zeros(2, 6)], dim=1)
    with Reads() as reads:
        found = encoder(x)
    assert reads.found == []
    expected = encoder.body(x[:, 0].long(), attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(found.values[mask > 0], expected[mask > 0])
    causal = {"model_type": "gpt2", "vocab_size": 90, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 8}
    looks_back = LanguageModel((3, 6), config={**causal, "bos_token_id": 1, "eos_token_id": 1}).eval()
    changed = x.clone()
    changed[:, 0, 5] = 7
    torch.testing.assert_close(looks_back(x).values[0, :5], looks_back(changed).values[0, :5])


def test_raw_text_is_made_tokens_alike_on_the_host_and_in_the_encoder() -> None:
    x = utf8(["héllo", "", "a", "wörldwide"], 6)
    assert texts_of(x) == ["héllo", "", "a", "wörld"]
    torch.manual_seed(0)
    encoder = HFText((6, 1), config=TEXT).eval()
    tokens = encoder.on_host(x)
    assert tokens.shape == (4, 3, 7)  # as long as the longest text of the batch
    assert tokens[:, 1].sum(dim=1).tolist() == [7, 0, 2, 7]
    one, other = encoder(tokens), encoder(x)
    torch.testing.assert_close(one.pooled(), other.pooled())
    muted = encoder(Tokens(torch.zeros_like(x.values), x.mask))
    torch.testing.assert_close(muted.pooled(), encoder(torch.zeros_like(tokens)).pooled())
    with pytest.raises(Unsuitable, match="takes raw text, as the numbers 0 to 255"):
        encoder.on_host(Tokens(x.values + 300, x.mask))


def test_weights_come_from_a_folder_or_a_file(tmp_path: Path) -> None:
    config = {**SMALL, "model_type": "vit", "patch_size": 16, "image_size": 32, "num_channels": 3}
    whole = AutoModel.from_config(AutoConfig.for_model(**config))
    whole.save_pretrained(tmp_path / "folder")
    torch.save({"state_dict": {f"vit.{key}": value for key, value in whole.state_dict().items()}}, tmp_path / "file.pt")
    forms = [{"model": str(tmp_path / "folder")}]
    forms += [
        {"config": config, "weights": str(path)} for path in (tmp_path / "folder" / "model.safetensors", tmp_path / "file.pt")
    ]
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = whole.eval()(pixel_values=x).last_hidden_state
        for form in forms:
            assert torch.equal(HFVision((3, 32, 32), **form).eval()(x).values, expected)
        other = HFVision((3, 48, 48), model=str(tmp_path / "folder")).eval()  # another size: positions are interpolated
        assert other(torch.randn(1, 3, 48, 48)).values.shape == (1, 10, 8)
    (tmp_path / "broken.safetensors").write_text("no weights")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    for name, said in [
        ("none.pt", "is not a file"),
        ("broken.safetensors", "cannot be read"),
        ("other.pt", "has only [0-9] of the network's"),
    ]:
        with pytest.raises(Unsuitable, match=said) as raised:
            HFVision((3, 32, 32), config=config, weights=str(tmp_path / name))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "shape", "params", "said"),
    [
        (Timm, (3, 32, 32), {"model": "vit_tinny"}, "timm has no model 'vit_tinny'"),
        (Timm, (3, 32, 32), {"model_args": VIT, "trained": 9}, "trained is the number of its last layers that learn; found 9"),
        (Timm, (3, 32, 32), {"model_args": {"depths": 1}}, "timm cannot build 'vit_tiny_patch16_224'"),
        (Timm, (3, 32, 32), {"model_args": VIT, "lora": {}}, "lora is only for trained=lora"),
        (Timm, (3, 32, 32), {"model": "resnet10t", "model_args": {"features_only": True}}, "cannot take inputs"),
        (HFAudio, (1, 16, 32), {"config": {**AST, "num_mel_bins": 8}}, "takes 8 mel bins; found 16"),
        (HFAudio, (1, 16, 32), {"config": WAVES}, r"'wav2vec2' takes a waveform \[T\]"),
        (HFAudio, (400,), {"config": AST}, r"takes a spectrogram \[1, F, T\]"),
        (HFVision, (3, 32, 32), {"config": VIDEO}, r"takes videos \[T, C, H, W\]"),
        (HFVision, (3, 32, 32), {"config": {"hidden_size": 8}}, "config needs a 'model_type'"),
        (HFText, (6, 5), {"config": TEXT}, r"takes raw text, bytes \[T, 1\]"),
        (HFText, (6, 1), {"config": TEXT, "tokenizer": "/nowhere"}, "cannot load the tokenizer '/nowhere'"),
        (Clip, (3, 32, 32), {"config": {**SMALL, "model_type": "vit"}}, "has no towers of pictures and text"),
    ],
)
def test_what_cannot_be_is_one_line(kind: type[Encoder], shape: tuple[int, ...], params: dict[str, Any], said: str) -> None:
    with pytest.raises(Unsuitable, match=said) as raised:
        kind(shape, **params)
    assert "\n" not in str(raised.value)


def test_a_frozen_network_stays_in_eval_mode_and_its_last_layers_may_learn() -> None:
    frozen = Timm((3, 32, 32), model="resnet10t", trained="none").train()
    assert frozen.training
    assert not any(module.training for module in frozen.net.modules())
    assert not any(tensor.requires_grad for tensor in frozen.parameters())
    last = Timm((3, 32, 32), model_args={**VIT, "depth": 3}, trained=1)
    learning = {name for name, tensor in last.named_parameters() if tensor.requires_grad}
    assert {name.split(".")[1] for name in learning} == {"blocks", "norm"}
    assert {name.split(".")[2] for name in learning if ".blocks." in name} == {"2"}


# cached features


def data() -> dict[str, Any]:
    drawn = torch.Generator().manual_seed(0)

    def split(count: int) -> Any:
        targets = torch.randint(0, 2, (count,), generator=drawn)
        texts = utf8([["good", "very good", "bad!", ""][int(number)] for number in targets + 2 * (torch.arange(count) % 2)], 10)
        image = torch.randn(count, 3, 32, 32, generator=drawn) + targets.view(-1, 1, 1, 1)
        return {"image": image, "text": texts, "sound": torch.randn(count, 4, generator=drawn)}, targets

    return {"train": split(40), "valid": split(20), "test": split(20)}


FROZEN = {
    "encoder.image.model_args": VIT,
    "encoder.image.trained": "none",
    "encoder.text.config": {**TEXT, "hidden_dropout_prob": 0.2},
    "encoder.text.trained": "none",
    "training.epochs": 2,
    "training.batch_size": 16,
    "training.lr": 0.01,
    "training.optimizer": "sgd",  # Adam would turn rounding errors into whole steps
}
NAMED = {"image": "timm", "text": "hf-text", "sound": "mlp"}


@pytest.fixture(scope="module")
def known() -> registry.Registry:
    return registry.load().plus(given.entry(data()))


def job(known: registry.Registry, modulator: str = "joint", fusion: str = "concat", **settings: Any) -> build.Job:
    chosen = {**FROZEN, **{key.replace("__", "."): value for key, value in settings.items()}}
    return build.resolve(jobs.compose(known, "given", modulator, fusion, NAMED, chosen.items()), known)


def trained(job: build.Job, folder: Path) -> tuple[list[Epoch], dict[str, Tensor], Feed]:
    model = build.model(job)
    modulator = build.modulator(job, model)
    feed = Feed({name: job.dataset.split(name) for name in SPLITS}, CPU)
    if job.spec.training.cache_features:
        features.keep(model, feed, folder)
    epochs = list(train(model, modulator, feed, job.spec.training, job.spec.seed))
    return epochs, model.state_dict(), feed


@pytest.mark.parametrize(("modulator", "fusion", "mute"), [("agm", "concat", "zeros"), ("joint", "hybrid", "zeros")])
def test_features_that_are_kept_are_those_of_each_pass(
    known: registry.Registry, tmp_path: Path, modulator: str, fusion: str, mute: str
) -> None:
    small = {"fusion.width": 8, "fusion.layers": 1, "fusion.feed_forward": 8, "fusion.heads": 2} if fusion == "hybrid" else {}
    (plain, weights, _), (kept, same, feed) = (
        trained(job(known, modulator, fusion, mute=mute, training__cache_features=cached, **small), tmp_path)
        for cached in (False, True)
    )
    assert weights.keys() == same.keys(), "the encoders are part of the model all the same"
    for key, value in weights.items():
        torch.testing.assert_close(same[key], value, rtol=1e-4, atol=1e-5, msg=key)
    for one, other in zip(plain, kept, strict=True):
        assert other.valid == pytest.approx(one.valid, rel=1e-4, abs=1e-5)
    split = feed.splits["train"]
    assert isinstance(split, features.Kept)
    batch = split.batch(torch.tensor([3, 1]))
    assert batch.inputs["sound"].shape == (2, 4)  # type: ignore[union-attr]
    assert torch.equal(split.targets[[3, 1]], batch.targets)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"encoder__image__trained": "all", "encoder__text__trained": "all"}, "no encoder is frozen; freeze one"),
        ({"augment__image": "crop-flip"}, "the samples of 'image' are changed in each epoch"),
        ({"evaluation__image": "center-crop"}, "the samples of 'image' are changed in evaluation"),
        ({"training__mixup": 0.1, "modulator": "joint"}, "text' is a sequence of word numbers"),
        ({"mute": "random"}, "an encoder reads raw text; use mute=zeros"),
        ({"modulator": "umt"}, "the modulator asks trained concepts"),
    ],
)
def test_features_are_not_kept_where_they_would_be_others(
    known: registry.Registry, settings: dict[str, Any], said: str
) -> None:
    def made() -> None:
        asked = job(known, training__cache_features=True, **settings)
        build.modulator(asked, build.model(asked))

    with pytest.raises(AgmbenchError, match=said):
        made()


def test_raw_text_is_made_tokens_before_it_is_copied(known: registry.Registry) -> None:
    model = build.model(job(known))
    assert on_host(model).keys() == {"text"}
    feed = Feed({"train": known.get("dataset", "given").load()(0).split("train")}, CPU)
    feed.on_host = on_host(model)

    def widths() -> Iterator[int]:
        for batch in feed.batches("train", [torch.tensor([0, 1]), torch.arange(8)]):
            text = batch.inputs["text"]
            assert isinstance(text, Tensor)
            yield text.shape[2]

    assert max(widths()) <= 10


@pytest.mark.long
def test_a_run_on_kept_features_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run by the way of the command: with unimodal models and a logged model, and without features among the artifacts."""
    monkeypatch.chdir(tmp_path)
    settings = {**FROZEN, "training.epochs": 1}
    records = [
        agmbench.run(data(), "agm", encoder=NAMED, set={**settings, "training.cache_features": cached}, quiet=True)
        for cached in (False, True)
    ]
    plain, kept = (record.metrics for record in records)
    assert records[0].digest != records[1].digest
    names = [name for name in plain if name.startswith("test/")]
    assert {name: kept[name] for name in names} == pytest.approx({name: plain[name] for name in names}, rel=1e-3, abs=1e-4)
    assert not [*tmp_path.rglob("*.mask.npy")]
