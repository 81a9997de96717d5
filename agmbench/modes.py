"""Whether a pass of a network is the same in train mode and in eval mode. This is known from its modules, never guessed."""

from torch import nn

# Layers without a difference. Torch's own attention is not one of them: without gradients it takes another path in eval mode.
LAYERS = """
Sequential ModuleList ModuleDict Identity Flatten Unflatten Linear Bilinear Embedding Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d
ConvTranspose3d LayerNorm GroupNorm RMSNorm LocalResponseNorm ELU CELU SELU GELU GLU ReLU ReLU6 LeakyReLU PReLU Hardtanh Hardsigmoid
Hardswish Sigmoid LogSigmoid SiLU Mish Softplus Softsign Tanh Softmax LogSoftmax MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d
AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d Upsample PixelShuffle
PixelUnshuffle ZeroPad1d ZeroPad2d ZeroPad3d ConstantPad1d ConstantPad2d ReflectionPad1d ReflectionPad2d ReplicationPad1d ReplicationPad2d
"""
# Layers with a difference unless this attribute is zero.
DROPPING = {
    "Dropout": "p",
    "Dropout1d": "p",
    "Dropout2d": "p",
    "Dropout3d": "p",
    "AlphaDropout": "p",
    "FeatureAlphaDropout": "p",
}
DROPPING |= {"RNN": "dropout", "LSTM": "dropout", "GRU": "dropout"}

# Modules of other libraries that drop values only through submodules of the kinds above.
BERT = "Model Embeddings Encoder Layer Attention SelfAttention SelfOutput Intermediate Output"
TIMM = "layers.attention.Attention layers.mlp.Mlp layers.norm.LayerNorm layers.patch_embed.PatchEmbed"
TIMM += " models.vision_transformer.Attention models.vision_transformer.Block models.vision_transformer.LayerScale"
TIMM += " models.vision_transformer.VisionTransformer"
OTHERS = {f"transformers.models.bert.modeling_bert.Bert{name}" for name in BERT.split()}
OTHERS |= {"transformers.activations.GELUActivation", *(f"timm.{name}" for name in TIMM.split())}

KNOWN: dict[type[nn.Module], str | None] = {
    **{getattr(nn, name): None for name in LAYERS.split()},
    **{getattr(nn, name): rate for name, rate in DROPPING.items()},
}


def same_in_training(part: nn.Module) -> bool:
    """Whether a pass of `part` in its current mode would be the same in eval mode.

    It is the same if no module is in train mode, or if all modules in train mode are of kinds for which this is known. A class declares
    it for its own `forward` by `same_in_training = True`; its modules are judged by themselves. A subclass has to declare it again.
    """
    return all(not module.training or _known(module) for module in part.modules())


def _known(module: nn.Module) -> bool:
    kind = type(module)
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    if not all(getattr(hook, "only_looks", False) for hook in hooks) or "forward" in vars(module):
        return False  # it is not known what the hooks or this `forward` do
    if vars(kind).get("same_in_training") or f"{kind.__module__}.{kind.__qualname__}" in OTHERS:
        return True
    rate = KNOWN.get(kind, "")
    return rate is None or (rate != "" and not getattr(module, rate))
