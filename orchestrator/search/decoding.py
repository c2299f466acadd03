"""Searches out of records, which may be anybody's: held to what a sweep file can ask, and nothing is imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from prunesweep.orchestrator.search.space import Dimension, Point, Range, Space, decode_dimension, size
from prunesweep.orchestrator.search.spec import ALGORITHMS, MOST_CANDIDATES, VALIDATION, Rungs, Search, of_training
from prunesweep.orchestrator.search.target import decode_target
from prunesweep.workers.decoding import decode_trial
from prunesweep.workers.methods import METHODS
from prunesweep.workers.optimizer_settings import is_own
from prunesweep.workers.spec import TrainSpec
from prunesweep.workers.train_spec import CODE
from prunesweep.workers.typed import LARGEST, typed

SEARCHABLE = {field.name for field in fields(TrainSpec)} - {"epochs", *CODE.values()}
"""Settings of the training that candidates may differ in."""


def decode_search(data: Mapping[str, Any]) -> Search:
    """The search that `encode` made this from; raises `TypeError`, `KeyError` or `ValueError` for anything else."""
    search = Search(
        base=decode_trial(data["base"]),
        space=tuple(decode_dimension(dimension) for dimension in data["space"]),
        epochs=data["epochs"],
        algorithm=data["algorithm"],
        by=data["by"],
        rungs=typed(Rungs, data["rungs"]) if data["rungs"] else None,
        seeds=_seeds(data["seeds"]),
        final_seeds=_seeds(data["final_seeds"]),
        target=decode_target(data.get("target")),
        lower_metric=data.get("lower_metric", False),
    )
    is_metric = isinstance(search.by, str) and search.by.startswith(VALIDATION) and search.by.isidentifier()
    if not is_metric or type(search.lower_metric) is not bool:
        raise TypeError(f"it searches by {search.by!r:.40}")
    if type(search.epochs) is not int or search.algorithm not in ALGORITHMS:
        raise TypeError(f"it searches by {search.by!r:.40}")
    _require_space(search.settings)
    _require_algorithm(search)
    if search.base.method.name in METHODS:  # another package's is not asked: that would import it
        _require_candidates(search)
    return search


def _seeds(data: Any) -> tuple[int, ...]:
    if not isinstance(data, list) or not data or len(set(data)) < len(data):
        raise TypeError(f"its seeds are {data!r:.40}")
    if not all(type(seed) is int and 0 <= seed < LARGEST for seed in data):
        raise TypeError(f"its seeds are {data!r:.40}")
    return tuple(data)


def _require_space(space: Space) -> None:
    names = [dimension.name for dimension in space]
    if not names or names != sorted(set(names)):
        raise TypeError(f"it searches over {names!r:.40}")
    for dimension in space:
        for value in _ends(dimension):
            _require_value(dimension.name, value)


def _require_value(name: str, value: Any) -> None:
    """Code of one's own has a version, which no candidate has a place for: it is in no space."""
    setting = of_training(name)
    if (setting or name) in CODE and isinstance(value, str) and is_own(value):
        raise TypeError(f"it searches over {value!r:.40}")
    if setting is not None:
        if setting not in SEARCHABLE:
            raise TypeError(f"it searches over {name!r:.40}")
        typed(TrainSpec, {setting: value})
    elif not isinstance(value, str | int | float | bool | None):
        raise TypeError(f"it searches over {value!r:.40}")


def _require_algorithm(search: Search) -> None:
    rungs, is_halving = search.rungs, search.algorithm == "halving"
    if (rungs is not None) != is_halving or (rungs is not None and not (0 < rungs.start < 1 and rungs.factor > 1)):
        raise TypeError(f"its rungs are {rungs!r:.40}")
    if is_halving and search.target is not None:
        raise TypeError("it halves towards a target")
    if search.algorithm == "grid" and not 0 < (size(search.space) or 0) <= MOST_CANDIDATES:
        raise TypeError("it searches a grid that has no end")


def _require_candidates(search: Search) -> None:
    """Every listed value, and the ends of every range, make a candidate; all are of one length."""
    try:
        for corner in _corners(search.settings):
            search.path(corner, search.seeds[0])
        trainings = search.trainings
    except (AttributeError, ArithmeticError) as error:
        raise TypeError(f"it has candidates that there are not: {error}") from error
    if not 0 < trainings <= MOST_CANDIDATES:
        raise TypeError(f"it searches for {search.epochs} epochs")


def _corners(space: Space) -> Iterator[Point]:
    ends = {dimension.name: _ends(dimension) for dimension in space}
    for step in range(max(map(len, ends.values()))):
        yield tuple((name, values[min(step, len(values) - 1)]) for name, values in ends.items())


def _ends(dimension: Dimension) -> tuple[Any, ...]:
    if isinstance(dimension, Range):
        return dimension.at(0.0), dimension.at(1.0 - 1e-9)
    if not isinstance(dimension.values, tuple) or not dimension.values:
        raise TypeError(f"it searches over {dimension.values!r:.40}")
    return dimension.values
