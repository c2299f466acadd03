"""Patterns of parameters, such as `layer4.*`, `*.bias` or the name of a module, which stands for all that is in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING

from prunesweep.workers.errors import UserError, nearest

if TYPE_CHECKING:
    from torch import nn

    from prunesweep.workers.spec import TrainSpec

FREEZE, LR_SCALE = "train.freeze", "train.lr_scale"
"""The settings that are, or have, such patterns."""

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
        if problem := unmatched(pattern, parameters):
            raise UserError(f"{FREEZE}: {problem}")
        for name in filter(partial(matches, pattern), parameters):
            parameters[name].requires_grad_(False)


def factors(names: Iterable[str], scales: Mapping[str, float]) -> dict[str, float]:
    """The factor of each parameter, 1 where no pattern matches; raises `UserError` where none does, or two do."""
    chosen: dict[str, str] = {}
    names = list(names)
    for pattern in scales:
        if problem := unmatched(pattern, names):
            raise UserError(f"{LR_SCALE}: {problem}")
        for name in filter(partial(matches, pattern), names):
            if name in chosen:
                raise UserError(f"{LR_SCALE}: {_doubled((chosen[name], pattern), name)}")
            chosen[name] = pattern
    return {name: scales[chosen[name]] if name in chosen else 1.0 for name in names}


def unmatched(pattern: str, names: Iterable[str]) -> str | None:
    """What to say of a pattern that matches none of these parameters; None where it does."""
    there = list(names)
    if any(matches(pattern, name) for name in there):
        return None
    more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
    closest = nearest(pattern, dict.fromkeys(place for name in there for place in _places(name)))
    return f'"{pattern}" matches no parameter of the model; there are {", ".join(there[:SHOWN])}{more}{closest}'


def problems(train: TrainSpec, names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """What is wrong with the patterns of a training in a network with these parameters: setting, pattern, sentence."""
    scales = dict(train.lr_scale or ())
    lost = [(setting, pattern, unmatched(pattern, names)) for setting, pattern in patterns_of(train)]
    yield from ((setting, pattern, problem) for setting, pattern, problem in lost if problem)
    for name in names:
        several = [pattern for pattern in scales if matches(pattern, name)]
        if len(several) > 1:
            yield LR_SCALE, several[1], _doubled(several, name)
            return


def patterns_of(train: TrainSpec) -> list[tuple[str, str]]:
    """The patterns of parameters that a training has, each with its setting."""
    scaled = [(LR_SCALE, pattern) for pattern, _ in train.lr_scale or ()]
    return [*((FREEZE, pattern) for pattern in train.freeze or ()), *scaled]


def _doubled(patterns: Sequence[str], name: str) -> str:
    return f"both {patterns[0]} and {patterns[1]} match {name}; give patterns of which one does"
