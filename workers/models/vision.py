"""torchvision's classification models, built for a dataset's images and classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torchvision
from torch import nn

from prunesweep.workers.errors import UserError
from prunesweep.workers.models.fit import fitted
from prunesweep.workers.models.narrow_vision import narrowed
from prunesweep.workers.models.options import check_form, is_cifar
from prunesweep.workers.models.torchvision_names import DROPOUT, RESNETS, STOCHASTIC_DEPTH, TORCHVISION, VGGS
from prunesweep.workers.models.vgg import CifarVGG


def build(
    name: str,
    shape: tuple[int, int, int],
    classes: int,
    shares: Mapping[str, float] = MappingProxyType({}),
    *,
    factor: float = 1.0,
) -> nn.Module:
    """A torchvision model with random weights; `UserError` on images that are not in colour or of a wrong size."""
    if shape[0] != 3:
        raise UserError(
            f"model {name} takes images with 3 channels, the dataset's have {shape[0]}; "
            "take a ResNet or a LeNet, or a dataset in colour"
        )
    return fitted(name, shape, partial(_plain, name, shape, classes, shares, factor))


def with_dropout(
    name: str, shape: tuple[int, int, int], classes: int, *, dropout: float | None = None, factor: float = 1.0
) -> nn.Module:
    """A torchvision model that leaves out a share of its features while training, by default its own."""
    return build(name, shape, classes, _given(dropout=dropout), factor=factor)


def with_depth(
    name: str, shape: tuple[int, int, int], classes: int, *, stochastic_depth: float | None = None, factor: float = 1.0
) -> nn.Module:
    """A torchvision model that leaves out residual branches while training, up to this share in its last block."""
    return build(name, shape, classes, _given(stochastic_depth_prob=stochastic_depth), factor=factor)


def with_both(
    name: str,
    shape: tuple[int, int, int],
    classes: int,
    *,
    dropout: float | None = None,
    stochastic_depth: float | None = None,
    factor: float = 1.0,
) -> nn.Module:
    """One that does both."""
    shares = _given(dropout=dropout, stochastic_depth_prob=stochastic_depth)
    return build(name, shape, classes, shares, factor=factor)


def _given(**shares: float | None) -> dict[str, float]:
    return {name: share for name, share in shares.items() if share is not None}


def _builder(name: str) -> Callable[..., nn.Module]:
    if name in DROPOUT:
        return with_both if name in STOCHASTIC_DEPTH else with_dropout
    return with_depth if name in STOCHASTIC_DEPTH else build


def resnet(
    name: str, shape: tuple[int, int, int], classes: int, *, stem: str = "auto", factor: float = 1.0
) -> nn.Module:
    """A ResNet, ResNeXt or Wide ResNet with random weights, for any number of channels.

    The CIFAR form starts with a 3x3 convolution of stride 1 and has no max-pooling: 32x32 pixels are not down to 8x8
    before the first block. It is what is compared on CIFAR as ResNet-18, with 11,173,962 parameters.
    """
    check_form("stem", stem)
    model = _plain(name, shape, classes, factor=factor)
    width = len(model.bn1.weight)  # type: ignore[arg-type, union-attr]
    if is_cifar(stem, shape):
        model.conv1, model.maxpool = _first(nn.Conv2d(shape[0], width, 3, padding=1, bias=False)), nn.Identity()
    elif shape[0] != 3:
        model.conv1 = _first(nn.Conv2d(shape[0], width, 7, stride=2, padding=3, bias=False))
    return model


def vgg(name: str, shape: tuple[int, int, int], classes: int, *, head: str = "auto", factor: float = 1.0) -> nn.Module:
    """A VGG with random weights. Its CIFAR form has one linear layer in the place of three, and any channels."""
    check_form("head", head)
    if not is_cifar(head, shape):
        return build(name, shape, classes, factor=factor)
    depth, _, norm = name.removeprefix("vgg").partition("_")
    return fitted(name, shape, partial(CifarVGG, shape, classes, int(depth), norm == "bn", factor))


def _plain(
    name: str,
    shape: tuple[int, int, int],
    classes: int,
    shares: Mapping[str, float] = MappingProxyType({}),
    factor: float = 1.0,
) -> nn.Module:
    settings = {**_settings(name, shape), **shares, "num_classes": classes}
    if factor != 1.0:
        return narrowed(name, factor, settings)
    model: nn.Module = torchvision.models.get_model(name, weights=None, **settings)
    return model


def _settings(name: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    if name in ("googlenet", "inception_v3"):
        # With auxiliary heads these return tuples while training, and they warn unless told how to initialise.
        return {"aux_logits": False, "init_weights": True}
    return {"image_size": shape[1]} if name.startswith("vit_") else {}


def _first(conv: nn.Conv2d) -> nn.Conv2d:
    """With the initialisation that torchvision gives the others."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def __getattr__(name: str) -> Callable[..., nn.Module]:
    """Every name is a builder, as the registry's `module:name` wants it, without eighty functions."""
    if name not in TORCHVISION:
        raise AttributeError(f"torchvision has no model {name}")
    return partial(resnet if name in RESNETS else vgg if name in VGGS else _builder(name), name)
