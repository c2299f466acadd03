"""The space of a search in a sweep file: ranges and lists, held to what the method's settings allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from prunesweep.orchestrator.search.space import Dimension, Range, Space, Values, size
from prunesweep.orchestrator.search.spec import TRAINING
from prunesweep.orchestrator.sweepfile.document import Loc, Problem, Rejected, noting, shown
from prunesweep.orchestrator.sweepfile.methods import BUDGET, LEVELS, PHASE, RETRAIN, hyperparameters
from prunesweep.orchestrator.sweepfile.settings import setting, train_settings
from prunesweep.workers.errors import unknown
from prunesweep.workers.methods.base import Hyperparameter
from prunesweep.workers.optimizer_settings import is_own
from prunesweep.workers.spec import freeze
from prunesweep.workers.train_spec import CODE

ASKED_FOR = {RETRAIN, PHASE, BUDGET, LEVELS, *(f"{of}epochs" for of in TRAINING), "epochs", "sparsity", "seeds"}
"""What decides the length of a training, its target or its seed: candidates of a search have these in common."""

SCALES = ("uniform", "log")


def of_method(given: Mapping[str, Any], method: str, methods: Sequence[str], loc: Loc) -> Any:
    """What a mapping from the block's methods says of one of them; raises `Rejected` unless it names all of them."""
    for name in given:
        if name not in methods:
            raise Rejected(Problem((*loc, name), unknown("method of this block", name, methods)))
    if method not in given:
        raise Rejected(Problem(loc, f"missing: {method}, which this block has, too"))
    return given[method]


def checked_space(given: Mapping[str, Any], method: str, methods: Sequence[str], loc: Loc) -> tuple[Space, Loc]:
    """The space of one of the block's methods, by name, and where it stands; raises `Rejected`."""
    if any(name in methods for name in given):
        given, loc = of_method(given, method, methods, loc), (*loc, method)
        if not isinstance(given, dict) or not given:
            raise Rejected(Problem(loc, f"{shown(given)} is not allowed: a mapping from settings to ranges or lists"))
    trainings = {f"{prefix}{h.name}": h for prefix in TRAINING for h in train_settings()}
    settings = {h.name: h for h in hyperparameters(method)} | trainings
    problems: list[Problem] = []
    dimensions: list[Dimension] = []
    for name, values in given.items():
        with noting(problems):
            dimensions.append(_dimension(name, values, method, settings, (*loc, name)))
    if problems:
        raise Rejected(*problems)
    return tuple(sorted(dimensions, key=lambda dimension: dimension.name)), loc


def require_listed(space: Space, loc: Loc) -> None:
    """Raise `Rejected` unless all points of the space can be listed."""
    if size(space) is None:
        endless = next(dimension.name for dimension in space if dimension.values is None)
        text = "a grid needs lists, or ranges with steps, such as {log: [0.01, 0.5], steps: 5}"
        raise Rejected(Problem((*loc, endless), text))


def _dimension(name: str, given: Any, method: str, settings: Mapping[str, Hyperparameter], loc: Loc) -> Dimension:
    if name in ASKED_FOR:
        text = f"{name} can't be searched for: candidates of a search cost the same and have one target"
        raise Rejected(Problem(loc, text))
    if name not in settings:
        hint = f'; did you mean "{TRAINING[0]}{name}"?' if f"{TRAINING[0]}{name}" in settings else ""
        text = unknown(f"setting of method {method}", name, settings) if not hint else f"no setting of {method}{hint}"
        raise Rejected(Problem(loc, text))
    of = settings[name]
    if isinstance(given, list) and given:
        for index, value in enumerate(given):
            _check(of, value, (*loc, index))
        if len({repr(value) for value in given}) < len(given):
            raise Rejected(Problem(loc, "a value is given twice"))
        return Values(name, freeze(given))
    if isinstance(given, dict):
        return _range(name, given, of, loc)
    raise Rejected(Problem(loc, f"{shown(given)} is not allowed: {{uniform: [low, high]}}, {{log: ...}}, or a list"))


def _range(name: str, given: Mapping[str, Any], of: Hyperparameter, loc: Loc) -> Range:
    scales = [key for key in given if key in SCALES]
    if len(scales) != 1 or given.keys() - {*SCALES, "steps"}:
        text = (
            f"{shown(dict(given))} is not allowed: {{uniform: [low, high]}} or {{log: [low, high]}}, perhaps with steps"
        )
        raise Rejected(Problem(loc, text))
    scale, bounds = scales[0], given[scales[0]]
    place = (*loc, scale)
    if not {int, float} & _types(of.type):
        raise Rejected(Problem(place, f"{name} is no number: give a list of values"))
    if not (isinstance(bounds, list) and len(bounds) == 2):
        raise Rejected(Problem(place, f"{shown(bounds)} is not allowed: two numbers, [low, high]"))
    for index, bound in enumerate(bounds):
        _check(of, bound, (*place, index))
    low, high = bounds
    if not low < high:
        raise Rejected(Problem(place, f"{shown(bounds)} is not allowed: the first number is the smaller one"))
    if scale == "log" and low <= 0:
        raise Rejected(Problem((*place, 0), f"{shown(low)} has no logarithm: begin above 0, or take uniform"))
    steps = given.get("steps")
    if steps is not None and (type(steps) is not int or not 2 <= steps <= 1000):
        raise Rejected(Problem((*loc, "steps"), f"{shown(steps)} is not allowed: a whole number of 2 to 1000"))
    whole = float not in _types(of.type)
    return Range(name, scale, low if whole else float(low), high if whole else float(high), whole, steps)


def _types(of: Any) -> set[Any]:
    return {of, *(inner for arm in get_args(of) for inner in _types(arm))}


def _check(of: Hyperparameter, value: Any, loc: Loc) -> None:
    """Hold a value of a space to what the setting allows; raises `Rejected`."""
    try:
        TypeAdapter(setting(of)).validate_python(value, strict=True)
    except ValidationError as error:
        raise Rejected(Problem(loc, str(error.errors()[0]["msg"]))) from error
    if isinstance(value, list):
        raise Rejected(Problem(loc, f"{shown(value)} is not allowed: a list is no value of a space"))
    if of.name in CODE and is_own(value):
        text = f"{value} can't be searched for: the version of your code is part of a key, and a candidate has none"
        raise Rejected(Problem(loc, f"{text}; give it under train, in a block for each"))
