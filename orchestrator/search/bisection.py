"""Bisection towards a target: each point of the space is trained with one value after another of what steers sparsity.

It ends when the training's own sparsity is near the target, or its tries are used up. What is trained next is computed
from all results so far, as all that a search decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, log, nan
from typing import NamedTuple

from prunesweep.orchestrator.search.adaptive import BATCH, Told, asked
from prunesweep.orchestrator.search.sampling import listed_points, sobol_points
from prunesweep.orchestrator.search.space import Point
from prunesweep.orchestrator.search.spec import Search
from prunesweep.orchestrator.search.target import Target
from prunesweep.workers.spec import Value

INSIDE = 0.15
"""A step between two tries keeps at least this share of their distance from both, so that no side gets stuck."""

HALVINGS = 2
"""So often a search outwards goes half of the way, before the end of the range: a method may fail at its ends."""

EXTREME = 1e-3
"""Sparsities nearer to 0 and 1 than this are taken for this near: their logits would have no end."""


class Trained(NamedTuple):
    """A candidate that was trained: its sparsity and score, both NaN where it diverged."""

    point: Point
    sparsity: float
    score: float


class Try(NamedTuple):
    """Where in its range, in [0, 1] from dense to sparse, the setting was, and the sparsity that this led to."""

    share: float
    sparsity: float


def next_points(search: Search, trained: Sequence[Trained]) -> list[Point]:
    """The candidates of the next round: the bisections that go on, and as many new ones as are paid for to their end.

    Empty where nothing goes on and nothing more is paid for. A new bisection begins where those before have hit.
    """
    target, wanted = search.target, search.base.sparsity
    assert target is not None
    courses = _courses(target, trained)
    following = {rest: _next_value(target, wanted, course) for rest, course in courses.items()}
    going: dict[Point, Value] = {rest: value for rest, value in following.items() if value is not None}
    promised = sum(target.tries - len(courses[rest]) for rest in going)
    count = (search.trainings - len(trained) - promised) // target.tries
    hits = [one.share for course in courses.values() for one in course if target.hit(one.sparsity, wanted)]
    start = target.value(sum(hits) / len(hits) if hits else 0.5)
    going |= dict.fromkeys(_fresh(search, trained, list(courses), count, bool(going)), start)
    return [tuple(sorted((*rest, (target.steer.name, value)))) for rest, value in going.items()]


def next_share(course: Sequence[Try], wanted: float) -> float:
    """Where to look next, after at least one try none of which was near enough.

    Outwards, twice half of the way and then to the end, while all were on one side of the target. Between two tries,
    one on each side and both the nearest, by turns where a line through the logits of their sparsities meets the
    target's, which is mostly near, and in the middle, which is never far.
    """
    below = max((one for one in course if one.sparsity < wanted), key=lambda one: one.sparsity, default=None)
    above = min((one for one in course if one.sparsity >= wanted), key=lambda one: one.sparsity, default=None)
    if below is None or above is None:
        shares = [one.share for one in course]
        furthest, end = (max(shares), 1.0) if above is None else (min(shares), 0.0)
        return (furthest + end) / 2 if len(course) <= HALVINGS else end
    low, high = _logit(below.sparsity), _logit(above.sparsity)
    part = (_logit(wanted) - low) / (high - low) if high > low and len(course) % 2 == 0 else 0.5
    return below.share + min(max(part, INSIDE), 1 - INSIDE) * (above.share - below.share)


def nearest(search: Search, trained: Sequence[Trained]) -> Trained | None:
    """The candidate whose sparsity is nearest to the target, the first of several; None where all have diverged."""
    whole = [one for one in trained if not isnan(one.sparsity)]
    return min(whole, key=lambda one: abs(one.sparsity - search.base.sparsity), default=None)


# --- what was tried, by point of the space


def _courses(target: Target, trained: Sequence[Trained]) -> dict[Point, list[Try]]:
    """The tries of each point, the points in the order in which they were begun."""
    courses: dict[Point, list[Try]] = {}
    for point, sparsity, _ in trained:
        courses.setdefault(target.without(point), []).append(Try(target.share(point), sparsity))
    return courses


def _next_value(target: Target, wanted: float, course: Sequence[Try]) -> Value | None:
    """The value to train with next; None once the target is hit or given up: nobody knows where divergence ends."""
    if len(course) >= target.tries or any(isnan(s) or target.hit(s, wanted) for _, s in course):
        return None
    value = target.value(next_share(course, wanted))
    return None if value in {target.value(one.share) for one in course} else value


def _fresh(
    search: Search, trained: Sequence[Trained], begun: Sequence[Point], count: int, goes_on: bool
) -> Sequence[Point]:
    """Points of the space whose bisection begins now; a search that learns asks for none while others go on."""
    if count < 1:
        return ()
    if search.algorithm == "grid":
        return listed_points(search.space)[len(begun) :]
    if search.algorithm == "random":
        return sobol_points(search.space, len(begun) + count, search.sampling_seed)[len(begun) :]
    return () if goes_on else asked(search, _told(search, trained, begun), min(BATCH, count))


def _told(search: Search, trained: Sequence[Trained], begun: Sequence[Point]) -> tuple[Told, ...]:
    """What each point came to at the target; those that missed it count as those that diverge."""
    target = search.target
    assert target is not None
    hits = {target.without(t.point): t.score for t in trained if target.hit(t.sparsity, search.base.sparsity)}
    return tuple(Told(point, hits.get(point, nan)) for point in begun)


def _logit(sparsity: float) -> float:
    inside = min(max(sparsity, EXTREME), 1 - EXTREME)
    return log(inside / (1 - inside))
