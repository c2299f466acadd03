"""The `target` of a search: a sparsity that methods come to which are not told one, and what steers them there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prunesweep.orchestrator.search.space import Range, Space
from prunesweep.orchestrator.search.target import Target
from prunesweep.orchestrator.sweepfile.document import Loc, Problem, Rejected, shown
from prunesweep.orchestrator.sweepfile.methods import known_method
from prunesweep.workers.methods.base import Steering

WITHIN, TRIES = 0.005, 8
"""How near, and how often each point is trained at most, where a file does not say it."""


def split(search: Mapping[str, Any], method: str, space: Space, loc: Loc, at: Loc) -> tuple[Target | None, Space]:
    """The target of a checked `search` at `loc`, and its space, which stands at `at`, without what steers the method.

    Raises `Rejected`.
    """
    given = search.get("target")
    if given is None:
        return None, space
    steering = _steering(method, (*loc, "target"))
    if search.get("algorithm") == "halving":
        text = "halving looks at beginnings of trainings, whose sparsity is not the final one: take random, grid or tpe"
        raise Rejected(Problem((*loc, "target"), text))
    default = Range(steering.name, steering.scale, steering.low, steering.high)
    steer = next((dimension for dimension in space if dimension.name == steering.name), default)
    if not isinstance(steer, Range) or steer.steps is not None:
        text = f"target looks for {steering.name} by bisection: give a range without steps, or leave it out"
        raise Rejected(Problem((*at, steering.name), text))
    target = Target(steering.rises, float(given.get("within", WITHIN)), given.get("tries", TRIES), steer)
    return target, tuple(dimension for dimension in space if dimension.name != steering.name)


def with_sparsity(block: Mapping[str, Any], search: Mapping[str, Any], loc: Loc) -> dict[str, Any]:
    """The block with the sparsity of its search's target; raises `Rejected` where it says another, or neither does."""
    asked = search.get("target", {}).get("sparsity")
    if asked is None:
        if "target" in search and "sparsity" not in block:
            raise Rejected(Problem((*loc, "search", "target"), "missing: sparsity, here or in the block"))
        return dict(block)
    if block.get("sparsity", asked) != asked:
        text = f"the block says sparsity: {shown(block['sparsity'])}, and the target {shown(asked)}: leave one out"
        raise Rejected(Problem((*loc, "search", "target", "sparsity"), text))
    return {**block, "sparsity": asked}


def _steering(method: str, loc: Loc) -> Steering:
    steering = known_method(method).steering
    if steering is None:
        text = f"{method} prunes to the sparsity that it is told: leave target out, or make a block for each"
        raise Rejected(Problem(loc, text))
    return steering
