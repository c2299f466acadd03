"""Searches that learn from what they have tried: Optuna's TPE, through ask and tell, a batch at a time.

Optuna remembers nothing between two calls: a study is made anew in memory, is told what is known in the order of the
candidates, and is asked for the next batch. With the same seed and the same results it asks for the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from math import isnan
from typing import TYPE_CHECKING, Any, NamedTuple

from prunesweep.orchestrator.search.sampling import sobol_points
from prunesweep.orchestrator.search.space import Dimension, Point, Range
from prunesweep.orchestrator.search.spec import Search
from prunesweep.workers.errors import UserError

if TYPE_CHECKING:
    import optuna

BATCH = 4
"""So many candidates are tried at the same time; a larger batch would learn less, a smaller one leaves workers idle."""

START = 2 * BATCH
"""So many are Sobol's, before there is anything to learn from."""

PATIENCE = 20
"""A sampler is asked so often for a point that was not tried; then Sobol's next is taken."""


class Told(NamedTuple):
    """What a candidate came to; NaN where it diverged."""

    point: Point
    score: float


def require_optuna(algorithm: str) -> None:
    """Raise `UserError` where Optuna is not installed."""
    if find_spec("optuna") is None:
        raise UserError(f"{algorithm} needs Optuna: pip install 'prunesweep[search]', or take random or halving")


@lru_cache(maxsize=1024)
def asked(search: Search, told: tuple[Told, ...], count: int) -> tuple[Point, ...]:
    """The next points of a search that has learned this: so many, fewer where the space has no more."""
    if len(told) < START:
        return tuple(sobol_points(search.space, len(told) + count, search.sampling_seed)[len(told) :])
    tried = {point for point, _ in told}
    points: list[Point] = []
    for point in _proposed(search, told, count):
        if point not in tried:
            points.append(point)
            tried.add(point)
        if len(points) == count:
            break
    spare = (
        point for point in sobol_points(search.space, len(tried) + count, search.sampling_seed) if point not in tried
    )
    return (*points, *(point for point, _ in zip(spare, range(count - len(points)), strict=False)))


def _proposed(search: Search, told: Sequence[Told], count: int) -> Iterator[Point]:
    require_optuna(search.algorithm)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {dimension.name: _distribution(dimension) for dimension in search.space}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            direction="maximize" if search.sign > 0 else "minimize",
            sampler=optuna.samplers.TPESampler(
                seed=(search.sampling_seed + len(told)) % 2**32,
                n_startup_trials=0,
                multivariate=True,
                constant_liar=True,
            ),
        )
        for point, score in _without_nan(search, told):
            params = {d.name: _parameter(d, value) for d, (_, value) in zip(search.space, point, strict=True)}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=score))
        for _ in range(count * PATIENCE):
            params = study.ask(distributions).params
            yield tuple((d.name, _value(d, params[d.name])) for d in search.space)


def _without_nan(search: Search, told: Sequence[Told]) -> list[Told]:
    """What diverged counts as the worst that there was, so that the sampler keeps away from there."""
    sign = search.sign
    scores = [score for _, score in told if not isnan(score)]
    worst = sign * min((sign * score for score in scores), default=0.0)
    return [Told(point, worst if isnan(score) else score) for point, score in told]


# --- dimensions as Optuna has them: what can be listed by its place in the list


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(dimension, Range):
        return CategoricalDistribution(list(range(len(dimension.values))))
    if dimension.steps is not None:
        return IntDistribution(0, len(dimension.values or ()) - 1)
    is_log = dimension.scale == "log"
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=is_log)
    return FloatDistribution(dimension.low, dimension.high, log=is_log)


def _is_listed(dimension: Dimension) -> bool:
    return not isinstance(dimension, Range) or dimension.steps is not None


def _parameter(dimension: Dimension, value: Any) -> Any:
    return (dimension.values or ()).index(value) if _is_listed(dimension) else value


def _value(dimension: Dimension, parameter: Any) -> Any:
    if _is_listed(dimension):
        return (dimension.values or ())[parameter]
    assert isinstance(dimension, Range)
    return dimension.rounded(parameter)
