"""How a model of one's own wants to be called: by the names of its parameters, as its author has written them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from prunesweep.workers.errors import UserError
from prunesweep.workers.spec import Value, freeze

ROLES: dict[str, tuple[str, ...]] = {
    "shape": ("shape", "input_shape", "image_shape", "in_shape"),
    "classes": ("classes", "num_classes", "n_classes", "number_of_classes", "num_labels", "n_labels"),
    "channels": ("channels", "in_channels", "in_chans", "input_channels", "num_channels", "n_channels"),
    "size": ("image_size", "img_size", "input_size"),
}
"""What a model can be told of a dataset, and the names of parameters that ask for it: torchvision's, timm's, and usual
ones. `shape` is (channels, height, width); `size` is the height, or (height, width) of images that are not square."""

SERVED = "(shape, classes), (num_classes), (in_channels, num_classes), with image_size or img_size where it is needed"

_ROLE = {name: role for role, names in ROLES.items() for name in names}
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def options(name: str, factory: Callable[..., Any]) -> dict[str, Value]:
    """The options of a model with their defaults: its parameters that no dataset answers.

    A parameter whose default is no plain value (a number, text, a boolean, None, or a list of these) keeps it, and is
    no option. Raises `UserError` when a parameter has neither a default nor a name that is known.
    """
    parameters, roles = _parameters(name, factory)
    free = [p for p in parameters.values() if p.name not in roles and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    for parameter in free:
        if parameter.default is parameter.empty and parameter.kind is not parameter.KEYWORD_ONLY:
            raise UserError(
                f"model {name}: nothing is known to give for its parameter `{parameter.name}`; models are called with "
                f"{SERVED}, by these names or those of torchvision and timm, and the others need a default"
            )
    defaults = {p.name: None if p.default is p.empty else freeze(p.default) for p in free}
    return {option: default for option, default in defaults.items() if is_plain(default)}


def call(
    name: str, factory: Callable[..., Any], shape: tuple[int, int, int], classes: int, given: Mapping[str, Value]
) -> Any:
    """What the model's function or class makes for images of `shape`, with its options."""
    parameters, roles = _parameters(name, factory)
    size = shape[1] if shape[1] == shape[2] else shape[1:]
    answers = {"shape": shape, "classes": classes, "channels": shape[0], "size": size}
    named = {**given, **{parameter: answers[role] for parameter, role in roles.items()}}
    only = [p for p in parameters if parameters[p].kind is inspect.Parameter.POSITIONAL_ONLY]
    positional = [named.pop(p) for p in only if p in named]
    return factory(*positional, **named)


def is_plain(value: Any) -> bool:
    """Whether a default can be part of a key."""
    if isinstance(value, tuple):
        return all(is_plain(item) for item in value)
    return value is None or (type(value) in (bool, int, str)) or (type(value) is float and isfinite(value))


def _parameters(name: str, factory: Callable[..., Any]) -> tuple[Mapping[str, inspect.Parameter], dict[str, str]]:
    """The parameters, and the role of each that a dataset answers.

    Of two or more without a default the first is the shape and the second the classes, whatever they are called. Who is
    given the shape knows channels and size from it: these names are then options.
    """
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError) as error:
        raise UserError(f"model {name} is a {type(factory).__name__} and cannot be called: {error}") from error
    roles = {p: _ROLE[p] for p in parameters if p in _ROLE}
    required = [p.name for p in parameters.values() if p.kind in _POSITIONAL and p.default is p.empty]
    if len(required) >= 2 and required[0] not in roles:
        roles |= {required[0]: "shape", required[1]: roles.get(required[1], "classes")}
    if "shape" in roles.values():
        roles = {parameter: role for parameter, role in roles.items() if role in ("shape", "classes")}
    if "classes" not in roles.values() and any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        roles["num_classes"] = "classes"
    return parameters, roles
