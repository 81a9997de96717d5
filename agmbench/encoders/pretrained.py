"""Shared code of encoders that wrap networks of other libraries: it loads weights, and freezes some or all of them."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt
from torch import Tensor, nn

from agmbench.contracts import Encoder, Tokens, Unsuitable
from agmbench.encoders.layers import in_layers

Trained = Literal["all", "none", "lora"] | Annotated[int, Gt(0)]


class Backbone(Encoder):
    """An encoder around a network `net`, parts of which may be frozen; a network that is completely frozen stays in eval mode."""

    net: Any
    frozen: bool = False

    def train(self, mode: bool = True) -> "Backbone":
        """Set training mode as in torch; a frozen network stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.net.eval()
        return self

    def width(self, sample: Tensor, refusal: str) -> int:
        """The number of features that the encoder gives for a sample `[1, ...]`. Raises `Unsuitable` with the text `refusal` and the error
        of the network if that fails."""
        try:
            with torch.no_grad():
                features = self.eval()(sample)
            return int((features.values if isinstance(features, Tokens) else features).shape[-1])
        except Exception as error:  # a network raises, and returns, what it likes
            raise Unsuitable(f"{refusal}: {one_line(error)}") from error

    def settle(self, trained: Trained, lora: dict[str, Any] | None) -> None:
        """Freeze the parts of `net` that should not learn: none of it, all, all but its last layers, or all but the adapters of LoRA."""
        if trained == "lora":
            self.net = adapted(self.net, lora or {})
        elif lora is not None:
            raise Unsuitable(f"lora is only for trained=lora; found trained={trained}; leave lora out, or set trained=lora")
        elif trained == "none":
            self.net.requires_grad_(False)
            self.frozen = True
        elif trained != "all":
            layers = in_layers(self.net)
            if trained >= len(layers):
                raise Unsuitable(
                    f"trained is the number of its last layers that learn; found {trained}, and it has {len(layers)}"
                )
            for tensor in (tensor for layer in layers[:-trained] for tensor in layer):
                tensor.requires_grad_(False)
        self.train()


def adapted(net: nn.Module, lora: dict[str, Any]) -> nn.Module:
    """The network with adapters of LoRA (Hu et al., ICLR 2022) in its linear layers; only these learn. Made by peft."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise Unsuitable("trained=lora needs peft; install it with: pip install 'agmbench[lora]'") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft uses a name that transformers will change in its next version
            wrapped: Any = get_peft_model(net, LoraConfig(**{"target_modules": "all-linear", **lora}))
    except Exception as error:  # peft raises what it likes
        raise Unsuitable(f"peft cannot adapt the network with {lora}: {one_line(error)}") from error
    made: nn.Module = wrapped.base_model.model
    return made


def _configured(config: Mapping[str, Any], own: Mapping[str, Any]) -> Any:
    """A configuration of transformers made of `config` and of those keys of `own` that this kind of network knows; `config` wins."""
    from transformers import AutoConfig

    if "model_type" not in config:
        raise ValueError("config needs a 'model_type', such as bert")
    known = AutoConfig.for_model(config["model_type"])
    return AutoConfig.for_model(**{**{key: value for key, value in own.items() if hasattr(known, key)}, **config})


def network(model: str, config: dict[str, Any] | None, weights: str | None, **own: Any) -> Any:
    """A network of the library transformers: `model` by name or folder, or built from `config` with random weights; then `weights` are
    loaded from a file.

    `own` are keys of the configuration that follow from the data; `config` overrides them.
    """
    from transformers import AutoModel

    what = f"'{model}'" if config is None else f"a model from {config}"
    try:
        net = AutoModel.from_pretrained(model) if config is None else AutoModel.from_config(_configured(config, own))
    except Exception as error:  # the hub, a configuration and a model raise what they like
        raise Unsuitable(f"transformers cannot load {what}: {one_line(error)}") from error
    return net if weights is None else _with(net, weights)


def _with(net: Any, path: str) -> Any:
    """Load weights from a file (`.safetensors`, `.pt`, `.pth`, `.bin`) into the network. The file may be that of a larger model that
    contains the network."""
    found, own = _read(path), net.state_dict()
    first = next(iter(own))
    for start in (name.removesuffix(first) for name in found if name.endswith(first)):  # the network's names, maybe prefixed
        if all((value := found.get(f"{start}{name}")) is not None and value.shape == own[name].shape for name in own):
            net.load_state_dict({name: found[f"{start}{name}"] for name in own})
            return net
    try:  # the names under which such networks are published
        filled, told = type(net).from_pretrained(None, config=net.config, state_dict=found, output_loading_info=True)
    except Exception as error:  # transformers raises what it likes
        raise Unsuitable(f"weights: {path} cannot be loaded: {one_line(error)}") from error
    if missing := sorted(name for name in told["missing_keys"] if not name.startswith("pooler.")):
        raise Unsuitable(
            f"weights: {path} has only {len(own) - len(missing)} of the network's {len(own)} tensors; it lacks {missing[0]}"
        )
    return filled


def without_pooler(net: Any) -> None:
    """Remove the pooler of a network. Nothing here reads its output, so it would have no gradient."""
    if isinstance(pooler := getattr(net, "pooler", None), nn.Module) and any(True for _ in pooler.parameters()):
        net.pooler = None


def _content(file: Path) -> Any:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    return torch.load(file, map_location="cpu", weights_only=True)


def _read(path: str) -> dict[str, Tensor]:
    """The state dict in a file. Raises `Unsuitable` if there is none."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise Unsuitable(f"weights: {path} is not a file; expected a state dict, .safetensors or of torch.save")
    try:
        found = _content(file)
    except Exception as error:  # of a broken file
        raise Unsuitable(f"weights: {path} cannot be read: {one_line(error)}") from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise Unsuitable(f"weights: {path} should be a mapping of names to tensors")
    return found


def one_line(error: Exception) -> str:
    """The message of an error in one line; the name of its class if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def as_tokens(states: Tensor, width: int | None = None) -> Tensor:
    """The states of a network as tokens `[B, N, D]`. Each place of a feature map `[B, D, H, W]` becomes a token; so does each place of
    `[B, H, W, D]` if D is `width`."""
    if states.ndim == 4:
        last = width is not None and states.shape[1] != width and states.shape[3] == width
        return states.flatten(1, 2) if last else states.flatten(2).transpose(1, 2)
    return states
