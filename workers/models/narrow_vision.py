"""torchvision's networks with a share of their channels, where that can be said with the arguments of their classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.vgg import make_layers

from prunesweep.workers.models.narrow import channels


def narrowed(name: str, factor: float, settings: dict[str, Any]) -> nn.Module:
    """The model `name` of `settings`, those of torchvision's functions, with its channels times `factor`."""
    with torch.device("meta"):
        full = torchvision.models.get_model(name, weights=None, **settings)
    narrow = next(make for kind, make in FAMILIES.items() if isinstance(full, kind))
    return narrow(name, full, factor, settings)


def _resnet(name: str, full: Any, factor: float, settings: dict[str, Any]) -> nn.Module:
    """All groups and the stem; ResNeXts and Wide ResNets keep the proportions of their blocks.

    Every layer of `full` is replaced, with the initialisation that torchvision gives it.
    """
    least = ceil(64 / full.base_width)  # of which each group of a ResNeXt has a channel
    stem, *widths = (max(least, channels(count, factor)) for count in (64, 64, 128, 256, 512))
    full.inplanes = stem
    full.conv1, full.bn1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(stem)
    for number, width in enumerate(widths, start=1):
        group = getattr(full, f"layer{number}")
        made = full._make_layer(type(group[0]), width, len(group), stride=1 if number == 1 else 2)
        setattr(full, f"layer{number}", made)
    full.fc = nn.Linear(full.inplanes, settings["num_classes"])
    for layer in full.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    narrow: nn.Module = full
    return narrow


def _vgg(name: str, full: Any, factor: float, settings: dict[str, Any]) -> nn.Module:
    """Convolutions and both hidden linear layers, with the initialisation that torchvision gives them."""
    layout: list[str | int] = []
    for layer in full.features:
        if isinstance(layer, nn.Conv2d):
            layout.append(channels(layer.out_channels, factor))
        elif isinstance(layer, nn.MaxPool2d):
            layout.append("M")
    batch_norm = any(isinstance(layer, nn.BatchNorm2d) for layer in full.features)
    model: nn.Module = torchvision.models.VGG(make_layers(layout, batch_norm), init_weights=False)
    last = next(size for size in reversed(layout) if size != "M")
    hidden = channels(4096, factor)
    classifier: Any = model.classifier
    for at, inputs, outputs in ((0, 49 * int(last), hidden), (3, hidden, hidden), (6, hidden, settings["num_classes"])):
        classifier[at] = nn.Linear(inputs, outputs)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return model


def _by_multiplier(name: str, full: Any, factor: float, settings: dict[str, Any]) -> nn.Module:
    """MobileNets, by the argument that they are published with; in multiples of eight channels."""
    model: nn.Module = torchvision.models.get_model(name, weights=None, width_mult=factor, **settings)
    return model


def _mnasnet(name: str, full: Any, factor: float, settings: dict[str, Any]) -> nn.Module:
    model: nn.Module = torchvision.models.MNASNet(full.alpha * factor, **settings)
    return model


def _densenet(name: str, full: Any, factor: float, settings: dict[str, Any]) -> nn.Module:
    """What each layer adds, and what the stem begins with."""
    blocks = [block for part, block in full.features.named_children() if part.startswith("denseblock")]
    growth: int = blocks[0].denselayer1.conv2.out_channels
    model: nn.Module = torchvision.models.DenseNet(
        channels(growth, factor),
        tuple(len(block) for block in blocks),
        channels(full.features.conv0.out_channels, factor),
        **settings,
    )
    return model


def _vit(name: str, full: Any, factor: float, settings: dict[str, Any]) -> nn.Module:
    """The width of the embedding and of what follows; the number of heads stays, and each of them is narrower."""
    block = full.encoder.layers[0]
    heads = block.num_heads
    model: nn.Module = torchvision.models.VisionTransformer(
        patch_size=full.patch_size,
        num_layers=len(full.encoder.layers),
        num_heads=heads,
        hidden_dim=heads * channels(full.hidden_dim // heads, factor),
        mlp_dim=channels(full.mlp_dim, factor),
        **{"image_size": full.image_size, **settings},
    )
    return model


def _convnext(name: str, full: Any, factor: float, settings: dict[str, Any]) -> nn.Module:
    groups = full.features[1::2]
    dims = [channels(group[0].block[0].in_channels, factor) for group in groups]
    outputs: Sequence[int | None] = [*dims[1:], None]
    layout = [CNBlockConfig(i, o, len(group)) for i, o, group in zip(dims, outputs, groups, strict=True)]
    depth = {"stochastic_depth_prob": groups[-1][-1].stochastic_depth.p}
    model: nn.Module = torchvision.models.ConvNeXt(layout, **{**depth, **settings})
    return model


FAMILIES: dict[type[nn.Module], Callable[[str, Any, float, dict[str, Any]], nn.Module]] = {
    torchvision.models.ResNet: _resnet,
    torchvision.models.VGG: _vgg,
    torchvision.models.MobileNetV2: _by_multiplier,
    torchvision.models.MobileNetV3: _by_multiplier,
    torchvision.models.MNASNet: _mnasnet,
    torchvision.models.DenseNet: _densenet,
    torchvision.models.VisionTransformer: _vit,
    torchvision.models.ConvNeXt: _convnext,
}
"""By the class of the network: what makes one with a share of the channels."""
