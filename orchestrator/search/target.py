"""A sparsity that a method is not told but comes to, and the setting that steers it: a part of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunesweep.orchestrator.search.space import Point, Range, decode_dimension
from prunesweep.workers.spec import Value
from prunesweep.workers.typed import typed

SLACK = 1e-9
"""0.905 - 0.9 is more than 0.005 in floating point."""

MOST_TRIES = 100


@dataclass(frozen=True)
class Limits:
    """How a target is looked for: whether larger values make sparser networks, how near is near enough, and how often
    each point of the space is trained at most.
    """

    rises: bool
    within: float
    tries: int


@dataclass(frozen=True)
class Target(Limits):
    """The search's sparsity, which candidates must come to by themselves, before anything that is missing is pruned.

    `steer` is the setting that decides it, with the range in which its value is looked for.
    """

    steer: Range

    def hit(self, sparsity: float, wanted: float) -> bool:
        """Whether a sparsity is near enough; NaN is not."""
        return abs(sparsity - wanted) <= self.within + SLACK

    def value(self, share: float) -> Value:
        """The value of `steer` at this share of its range, 0 where networks are densest."""
        return self.steer.at(share if self.rises else 1.0 - share)

    def share(self, point: Point) -> float:
        """At which share of its range a point has `steer`."""
        share = self.steer.share(dict(point)[self.steer.name])
        return share if self.rises else 1.0 - share

    def without(self, point: Point) -> Point:
        """The point of the space that is left without `steer`."""
        return tuple(pair for pair in point if pair[0] != self.steer.name)


def decode_target(data: Mapping[str, Any] | None) -> Target | None:
    """The target that `encode` made this from; raises `TypeError` or `KeyError` for anything else."""
    if data is None:
        return None
    steer = decode_dimension(data["steer"])
    if not isinstance(steer, Range) or steer.steps is not None:
        raise TypeError(f"it steers {steer!r:.40}")
    limits = typed(Limits, {name: data[name] for name in ("rises", "within", "tries")})
    if not (0 < limits.within < 1 and 0 < limits.tries <= MOST_TRIES):
        raise TypeError(f"its target is {limits!r:.60}")
    return Target(limits.rises, limits.within, limits.tries, steer)
