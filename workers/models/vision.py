"""torchvision's classification models, built for a dataset's images and classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torchvision
from torch import nn

from workers.errors import UserError
from workers.models.torchvision_names import TORCHVISION

# With auxiliary heads these return tuples while training, and they warn unless told how to initialise.
_SETTINGS = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}


def build(name: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A torchvision model with random weights; `UserError` unless images have three channels."""
    if shape[0] != 3:
        raise UserError(
            f"model {name} takes images with 3 channels, the dataset's have {shape[0]}; "
            "take cifar_resnet or lenet300, or a dataset in colour"
        )
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes, **_SETTINGS.get(name, {}))
    return model


def __getattr__(name: str) -> Callable[[tuple[int, int, int], int], nn.Module]:
    """Every name is a builder, as the registry's `module:name` wants it, without eighty functions."""
    if name not in TORCHVISION:
        raise AttributeError(f"torchvision has no model {name}")
    return partial(build, name)
