"""Any Hugging Face audio network: over spectrograms (AST, Whisper's encoder) or over waveforms (wav2vec 2.0, HuBERT, WavLM)."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from agmbench.contracts import Input, Tokens, Unsuitable
from agmbench.encoders.pretrained import Backbone, Trained, network


class HFAudio(Backbone):
    """`AutoModel` over sound; its last hidden states are tokens `[B, N, D]`.

    A spectrogram is an image `[B, 1, F, T]` or a sequence `[B, T, F]`. AST and Whisper read as many frames as they were made for: a
    spectrogram is padded with zeros or cut off at the end, and F has to be theirs. A waveform is `[B, T]` or `[B, T, 1]`, and each sample
    is brought to mean 0 and variance 1. What a mask hides is set to zero, and the states have no mask, because these networks were
    trained on padding.

    model: a name on the Hugging Face hub, which needs a network once, or a folder. Default MIT/ast-finetuned-audioset-10-10-0.4593.
        For Whisper, the encoder is used.
    config: build the network from this configuration (`model_type` and its own keys) with random weights instead; needs no network.
        Mel bins and frames (`max_length`, `max_source_positions`) are those of the data unless it says otherwise.
    weights: a file with initial weights (.safetensors or of torch.save); for Whisper, those of the whole network.
    trained: which part learns: `all` (default), `none` (the network stays in eval mode), the last N layers, or `lora`.
    lora: parameters of peft's `LoraConfig`, for trained=lora (`pip install 'agmbench[lora]'`).
    output: `tokens` (default; a fusion that takes vectors gets their mean), or `first`, AST's class token.

    In training, wav2vec 2.0 and Whisper would mask parts of the input (SpecAugment) and drop layers. Both are off: use transforms.
    """

    same_in_training = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        model: str = "MIT/ast-finetuned-audioset-10-10-0.4593",
        config: dict[str, Any] | None = None,
        weights: str | None = None,
        trained: Trained = "all",
        lora: dict[str, Any] | None = None,
        output: Literal["tokens", "first"] = "tokens",
    ) -> None:
        super().__init__(shape)
        wave = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
        if not wave and len(shape) != 2 and not (len(shape) == 3 and shape[0] == 1):
            raise Unsuitable(
                f"takes a spectrogram [1, F, T] or [T, F], or a waveform [T]; found the shape {list(shape)}; take encoder resnet"
            )
        frames, bins = (0, 0) if wave else (shape[-1], shape[-2]) if len(shape) == 3 else (shape[0], shape[1])
        own = {} if wave else {"num_mel_bins": bins, "max_length": frames, "max_source_positions": -(-frames // 2)}
        self.kind = (config or {}).get("model_type", "")
        net = network(model, config, weights, **own)
        self.kind = net.config.model_type
        self.net = net.get_encoder() if self.kind == "whisper" else net
        for name in ("apply_spec_augment", "layerdrop", "encoder_layerdrop"):
            if hasattr(self.net.config, name):
                setattr(self.net.config, name, False if name.startswith("apply") else 0.0)
        if hasattr(self.net, "masked_spec_embed"):
            self.net.masked_spec_embed.requires_grad_(False)
        self.first = output == "first"
        of_waves = self.kind not in ("whisper", "audio-spectrogram-transformer")
        if wave != of_waves:
            takes = "a waveform [T]" if of_waves else "a spectrogram [1, F, T] or [T, F]"
            raise Unsuitable(f"the network '{self.kind}' takes {takes}; found the shape {list(shape)}")
        if not wave and bins != self.net.config.num_mel_bins:
            raise Unsuitable(
                f"the network takes {self.net.config.num_mel_bins} mel bins; found {bins} in the shape {list(shape)}"
            )
        self.out_features = self.width(torch.zeros(1, *shape), f"the network '{self.kind}' cannot take inputs {list(shape)}")
        self.settle(trained, lora)

    def forward(self, x: Input) -> Tensor | Tokens:
        values = x.values * x.mask.unsqueeze(2) if isinstance(x, Tokens) and x.mask is not None else x
        values = values.values if isinstance(values, Tokens) else values
        states: Tensor = self._states(values)
        return states[:, 0] if self.first else Tokens(states)

    def _states(self, values: Tensor) -> Tensor:
        if self.kind not in ("whisper", "audio-spectrogram-transformer"):
            wave = values.flatten(1)  # [B, T]
            wave = (wave - wave.mean(dim=1, keepdim=True)) / (wave.var(dim=1, keepdim=True, correction=0) + 1e-7).sqrt()
            states: Tensor = self.net(wave).last_hidden_state
            return states
        frames = values if values.ndim == 3 else values.squeeze(1).transpose(1, 2)  # [B, T, F]
        config = self.net.config
        length = 2 * config.max_source_positions if self.kind == "whisper" else config.max_length
        frames = F.pad(frames[:, :length], (0, 0, 0, max(0, length - frames.shape[1])))
        given = {"input_features": frames.transpose(1, 2)} if self.kind == "whisper" else {"input_values": frames}
        last: Tensor = self.net(**given).last_hidden_state
        return last
