"""Numbers that a network keeps as plain attributes, such as a counter of batches or whether it is initialised.

No `state_dict` has them, so that a stage that is continued, or the one after it, would begin with those of a
network just built. What training has made of them goes into checkpoints and stored networks beside the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from prunesweep.workers.json_tensors import JSON, as_json, from_json

NAME = "plain_numbers"
"""Beside the names of a state; no module's attribute is called so."""

PLAIN = (bool, int, float)

BEFORE = (*PLAIN, str, type(None))
"""What an attribute may be before training makes a number of it; a layer, a tensor or a function is none of these."""

_built: WeakKeyDictionary[nn.Module, dict[str, Any]] = WeakKeyDictionary()


def remember(model: nn.Module) -> None:
    """What a network has when it is built; only what differs from it is kept."""
    _built[model] = _numbers(model)


def changed(model: nn.Module) -> dict[str, Tensor]:
    """What training has made of them, as a tensor of bytes; nothing where they are as built, or that is not known."""
    built = _built.get(model)
    if built is None:
        return {}
    numbers = {name: number for name, number in _numbers(model).items() if repr(number) != repr(built.get(name))}
    return {NAME + JSON: as_json(NAME, numbers)} if numbers else {}


def problem(model: nn.Module, tensors: Mapping[str, Tensor]) -> str | None:
    """What is wrong with what a state, which may be anybody's, says of them: no number, or in the place of a layer."""
    if NAME + JSON not in tensors:
        return None
    try:
        kept = from_json(tensors[NAME + JSON])
    except (ValueError, TypeError):
        return f"{NAME} is no JSON"
    if not isinstance(kept, dict):
        return f"{NAME} is no object"
    modules = dict(model.named_modules())
    for name, number in kept.items():
        module, _, attribute = name.rpartition(".")
        if type(number) not in PLAIN or type(getattr(modules.get(module), attribute, None)) not in BEFORE:
            return f"{name} is no number"
    return None


def restore(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give them the values that a state has by `changed`, and those as built where it says nothing.

    The state has no `problem`.
    """
    modules = dict(model.named_modules())
    kept = from_json(tensors[NAME + JSON]) if NAME + JSON in tensors else {}
    for name, number in {**_built.get(model, {}), **kept}.items():
        module, _, attribute = name.rpartition(".")
        if module in modules:
            modules[module].__dict__[attribute] = number


def _numbers(model: nn.Module) -> dict[str, Any]:
    """By module and attribute; whether a module is in training is no number of its own."""
    return {
        f"{name}.{attribute}": value
        for name, module in model.named_modules()
        for attribute, value in vars(module).items()
        if type(value) in PLAIN and attribute != "training"
    }
