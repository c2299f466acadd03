"""torchvision's networks for segmentation, with random weights."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torchvision.models import segmentation

from prunesweep.workers.errors import UserError

Shape = tuple[int, int, int]


def _made(name: str, shape: Shape, classes: int, **options: bool) -> nn.Module:
    if shape[0] != 3:
        raise UserError(f"model {name} takes images of 3 channels, and these have {shape[0]}")
    factory: Callable[..., nn.Module] = getattr(segmentation, name)
    return factory(weights=None, weights_backbone=None, num_classes=classes, **options)


def fcn_resnet50(shape: Shape, classes: int, *, aux_loss: bool = False) -> nn.Module:
    return _made("fcn_resnet50", shape, classes, aux_loss=aux_loss)


def fcn_resnet101(shape: Shape, classes: int, *, aux_loss: bool = False) -> nn.Module:
    return _made("fcn_resnet101", shape, classes, aux_loss=aux_loss)


def deeplabv3_resnet50(shape: Shape, classes: int, *, aux_loss: bool = False) -> nn.Module:
    return _made("deeplabv3_resnet50", shape, classes, aux_loss=aux_loss)


def deeplabv3_resnet101(shape: Shape, classes: int, *, aux_loss: bool = False) -> nn.Module:
    return _made("deeplabv3_resnet101", shape, classes, aux_loss=aux_loss)


def deeplabv3_mobilenet_v3_large(shape: Shape, classes: int, *, aux_loss: bool = False) -> nn.Module:
    return _made("deeplabv3_mobilenet_v3_large", shape, classes, aux_loss=aux_loss)


def lraspp_mobilenet_v3_large(shape: Shape, classes: int) -> nn.Module:
    return _made("lraspp_mobilenet_v3_large", shape, classes)
