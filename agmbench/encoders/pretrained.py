"""What encoders around networks of other libraries have in common: where weights come from, and which of them learn."""

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
        """As in torch, except for what is frozen."""
        super().train(mode)
        if self.frozen:
            self.net.eval()
        return self

    def width(self, sample: Tensor, refusal: str) -> int:
        """The number of features that it makes of a sample `[1, ...]`. An error of its network is added to the text `refusal`."""
        try:
            with torch.no_grad():
                features = self.eval()(sample)
            return int((features.values if isinstance(features, Tokens) else features).shape[-1])
        except Exception as error:  # a network raises, and returns, what it likes
            raise Unsuitable(f"{refusal}: {one_line(error)}") from error

    def settle(self, trained: Trained, lora: dict[str, Any] | None) -> None:
        """Called after `net` was made: freeze all of it, all but its last layers, or all but the adapters of LoRA."""
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
            warnings.simplefilter(
                "ignore", FutureWarning
            )  # peft asks transformers for what has another name in its next version
            wrapped: Any = get_peft_model(net, LoraConfig(**{"target_modules": "all-linear", **lora}))
    except Exception as error:  # peft raises what it likes
        raise Unsuitable(f"peft cannot adapt the network with {lora}: {one_line(error)}") from error
    made: nn.Module = wrapped.base_model.model
    return made


def _configured(config: Mapping[str, Any], own: Mapping[str, Any]) -> Any:
    """A configuration of transformers: `config`, and of `own` the keys that this kind of network has."""
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
    """The network with the weights of a file (`.safetensors`, `.pt`, `.pth`, `.bin`): its own, or those of a model that contains it."""
    found, own = _read(path), net.state_dict()
    first = next(iter(own))
    for start in (name.removesuffix(first) for name in found if name.endswith(first)):  # its own names, also below a prefix
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
    """Take the pooler away from a network. It works only on the state of the first token, and nothing here reads it, so it would have no
    gradient."""
    if isinstance(pooler := getattr(net, "pooler", None), nn.Module) and any(True for _ in pooler.parameters()):
        net.pooler = None


def _content(file: Path) -> Any:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    return torch.load(file, map_location="cpu", weights_only=True)


def _read(path: str) -> dict[str, Tensor]:
    """A state dict."""
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
    """The message of a library, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def as_tokens(states: Tensor, width: int | None = None) -> Tensor:
    """The states of a network as tokens `[B, N, D]`; of a feature map `[B, D, H, W]` (or `[B, H, W, D]`), each place is a token."""
    if states.ndim == 4:
        last = width is not None and states.shape[1] != width and states.shape[3] == width
        return states.flatten(1, 2) if last else states.flatten(2).transpose(1, 2)
    return states
