"""timm's models, named timm:NAME, where timm is installed: pip install 'prunesweep[timm]'."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from torch import nn

from prunesweep.workers.errors import UserError, unknown
from prunesweep.workers.models.fit import fitted


def build(
    name: str,
    shape: tuple[int, int, int],
    classes: int,
    *,
    dropout: float | None = None,
    stochastic_depth: float | None = None,
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
    return fitted(f"timm:{name}", shape, partial(timm.create_model, name, **settings))


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
