"""timm's models, named timm:NAME, where timm is installed: pip install 'prunesweep[timm]'."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import ceil
from types import ModuleType
from typing import Any

import torch
from torch import nn

from prunesweep.workers.errors import UserError, unknown
from prunesweep.workers.models.fit import fitted
from prunesweep.workers.models.narrow import channels


def build(
    name: str,
    shape: tuple[int, int, int],
    classes: int,
    *,
    dropout: float | None = None,
    stochastic_depth: float | None = None,
    factor: float = 1.0,
) -> nn.Module:
    """A timm model with random weights, for any number of channels; `UserError` on a size that does not fit.

    `dropout` is timm's `drop_rate`, `stochastic_depth` its `drop_path_rate`; None is the model's own.
    """
    timm = _timm()
    settings: dict[str, Any] = {"pretrained": False, "num_classes": classes, "in_chans": shape[0]}
    settings |= {} if dropout is None else {"drop_rate": dropout}
    settings |= {} if stochastic_depth is None else {"drop_path_rate": stochastic_depth}
    # These are made for one size, most transformers among them; the others do not know the argument.
    if timm.models.get_pretrained_cfg(name).fixed_input_size:
        settings["img_size"] = shape[1:]
    if factor != 1.0:
        settings |= _narrow(name, factor, settings)
    return fitted(f"timm:{name}", shape, partial(timm.create_model, name, **settings))


NARROWABLE = ("convnext", "deit", "resnet", "vision_transformer")
"""timm's modules whose networks can have a share of their channels, by an argument of theirs."""


def can_narrow(name: str) -> bool:
    """Whether this network can be made narrower."""
    module: str = _timm().models.model_entrypoint(name).__module__
    return module.removeprefix("timm.models.") in NARROWABLE


def _narrow(name: str, factor: float, settings: dict[str, Any]) -> dict[str, Any]:
    """The argument that multiplies its channels; heads of a transformer stay, and each of them is narrower."""
    with torch.device("meta"):
        full: Any = _timm().create_model(name, **settings)
    if hasattr(full, "blocks"):
        heads = full.blocks[0].attn.num_heads
        return {"embed_dim": heads * channels(full.embed_dim // heads, factor)}
    if hasattr(full, "stages"):
        return {"dims": tuple(channels(stage.blocks[0].conv_dw.in_channels, factor) for stage in full.stages)}
    first = full.layer1[0]
    least = ceil(64 * first.conv2.groups / first.conv1.out_channels)  # a channel for each group of a ResNeXt
    return {"channels": tuple(max(least, channels(count, factor)) for count in (64, 128, 256, 512))}


def _timm() -> ModuleType:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise UserError("timm is not installed here: pip install 'prunesweep[timm]'") from error
    module: ModuleType = timm
    return module


def __getattr__(name: str) -> Callable[[tuple[int, int, int], int], nn.Module]:
    """Every name is a builder, as the registry's `module:name` wants it; `UserError` when timm has no such model."""
    if name.startswith("__"):
        raise AttributeError(name)
    names = _timm().list_models()
    network, _, weights = name.partition(".")
    if weights and network in names:
        raise UserError(f"timm:{name} names trained weights; take timm:{network} with init: {{timm: {weights}}}")
    if name not in names:
        raise UserError(unknown("timm model", name, names))
    return partial(build, name)
