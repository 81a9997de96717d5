"""Finds the layers of an encoder in order, so that the learning rate can decay over them and the first ones can be frozen."""

from torch import nn


def in_layers(encoder: nn.Module) -> list[list[nn.Parameter]]:
    """The tensors of an encoder by its layers, beginning with the first; empty if the layers are not known.

    A network of timm knows its layers. In any other network, they are the items of its longest `nn.ModuleList`. What comes before this
    list is one more layer in front, and what comes after it one more at the end. A last layer that only scales and shifts belongs to the
    one before it.
    """
    depths = _of_networks(encoder) or _of_stack(encoder)
    found: dict[int, list[nn.Parameter]] = {}
    for key, tensor in encoder.named_parameters() if depths else ():
        found.setdefault(depths.get(key, max(depths.values())), []).append(tensor)
    layers = [found[depth] for depth in sorted(found)]
    while len(layers) > 1 and all(tensor.ndim < 2 for tensor in layers[-1]):
        layers[-2:] = [layers[-2] + layers[-1]]
    return layers


def _of_networks(encoder: nn.Module) -> dict[str, int]:
    """The depth of each tensor, according to timm."""
    from timm.models import group_parameters

    for prefix, part in encoder.named_modules():
        if hasattr(part, "group_matcher"):
            depths = group_parameters(part, part.group_matcher(coarse=False), reverse=True)
            return {f"{prefix}.{key}".lstrip("."): depth for key, depth in depths.items()}
    return {}


def _of_stack(encoder: nn.Module) -> dict[str, int]:
    """The depth of each tensor, according to the longest list of modules."""
    stacks = [(len(part), prefix) for prefix, part in encoder.named_modules() if isinstance(part, nn.ModuleList)]
    longest, prefix = max(stacks, default=(0, ""))
    if not longest:
        return {}
    depths, behind = dict[str, int](), False
    for key, _ in encoder.named_parameters():
        inside = key.startswith(f"{prefix}.")
        behind = behind or inside
        number = int(key.removeprefix(f"{prefix}.").partition(".")[0]) if inside else longest
        depths[key] = number + 1 if behind else 0
    return depths
