"""The models. Adding one is a file beside this one and a line here; this file stays free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from workers import registry
from workers.errors import UserError
from workers.models.depth import blocks_per_group, check_width
from workers.models.torchvision_names import TORCHVISION
from workers.registry import Entry
from workers.spec import Choice

if TYPE_CHECKING:
    from torch import nn

CIFAR_RESNET = "workers.models.resnet:CifarResNet"

MODELS: dict[str, Entry] = {
    "lenet300": Entry("workers.models.lenet:lenet300"),
    "cifar_resnet": Entry(CIFAR_RESNET, {"depth": 20, "width": 16}),
    # resnet8, resnet14, ... resnet110, but not resnet50: that name, like resnet18, 34, 101 and 152, is torchvision's
    # and means the ImageNet network. A CIFAR ResNet of that depth is `cifar_resnet` with `depth: 50`.
    **{f"resnet{n}": Entry(CIFAR_RESNET, {"depth": n, "width": 16}) for n in range(8, 111, 6) if n != 50},
    **{name: Entry(f"workers.models.vision:{name}") for name in TORCHVISION},
}


def choose(name: str, options: Mapping[str, Any]) -> Choice:
    """A model by name with its options complete; raises `UserError` on what it does not have."""
    choice = registry.choose("model", MODELS, name, options)
    if name in MODELS and MODELS[name].target == CIFAR_RESNET:
        _check_resnet(choice)
    return choice


def build(choice: Choice, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The model with random weights, for images of `shape` (channels, height, width)."""
    model: nn.Module = registry.build("model", MODELS, choice, shape, classes)
    return model


def _check_resnet(choice: Choice) -> None:
    depth, width = (cast(int, choice.settings[option]) for option in ("depth", "width"))
    preset = MODELS[choice.name].options["depth"]
    if choice.name != "cifar_resnet" and depth != preset:
        raise UserError(f"depth: {choice.name} has depth {preset}; for another take cifar_resnet with depth {depth}")
    blocks_per_group(depth)
    check_width(width)
