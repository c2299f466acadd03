"""Patterns of parameters, such as `layer4.*`, `*.bias` or the name of a module, which stands for all that is in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from prunesweep.workers.errors import UserError, nearest

if TYPE_CHECKING:
    from torch import nn

SHOWN = 6


def matches(pattern: str, name: str) -> bool:
    """Whether the pattern is that of the parameter, or of a module that it is in; `*` matches dots, too."""
    return any(fnmatchcase(place, pattern) for place in _places(name))


def _places(name: str) -> list[str]:
    """The modules that a parameter is in, outermost first, and itself."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def freeze(model: nn.Module, patterns: Iterable[str]) -> None:
    """Turn off the gradients of what the patterns match; raises `UserError` for one that matches nothing."""
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        for name in matching("train.freeze", pattern, parameters):
            parameters[name].requires_grad_(False)


def factors(names: Iterable[str], scales: Mapping[str, float]) -> dict[str, float]:
    """The factor of each parameter, 1 where no pattern matches; raises `UserError` where none does, or two do."""
    chosen: dict[str, str] = {}
    names = list(names)
    for pattern in scales:
        for name in matching("train.lr_scale", pattern, names):
            if name in chosen:
                raise UserError(
                    f"train.lr_scale: both {chosen[name]} and {pattern} match {name}; give patterns of which one does"
                )
            chosen[name] = pattern
    return {name: scales[chosen[name]] if name in chosen else 1.0 for name in names}


def matching(setting: str, pattern: str, names: Iterable[str]) -> list[str]:
    """The names that a pattern of this setting matches; raises `UserError` where there are none."""
    matched = [name for name in names if matches(pattern, name)]
    if not matched:
        there = list(names)
        more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
        closest = nearest(pattern, dict.fromkeys(place for name in there for place in _places(name)))
        raise UserError(
            f'{setting}: "{pattern}" matches no parameter of the model; there are {", ".join(there[:SHOWN])}{more}'
            f"{closest}"
        )
    return matched
