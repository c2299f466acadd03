"""The weights that stages start from, brought into the store before anything starts, for all machines to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prunesweep.orchestrator.plan import Plan
from prunesweep.workers.errors import UserError
from prunesweep.workers.init.kept import AGAIN, has_weights, put_weights
from prunesweep.workers.store import Store

if TYPE_CHECKING:
    from torch import Tensor


def supply(plan: Plan, store: Store) -> None:
    """Put the weights that runnable stages need, and those of searches may, into the store.

    Raises `UserError` where neither side has them.
    """
    first = [stage.root.init for stage in plan.runnable.values() if stage.parent is None]
    for init in dict.fromkeys([*first, *(search.base.init for search in plan.sweep.searches)]):
        if init is None or has_weights(init.weights, store):
            continue
        source = plan.sweep.supplies.get(init.weights)
        if source is None:
            raise UserError(f"the store has no weights {init} to start from; {AGAIN}")
        _put(source.read(), init.weights, store, str(init))


def _put(tensors: Mapping[str, Tensor], weights: str, store: Store, name: str) -> None:
    from prunesweep.workers.init.reading import content_hash

    if content_hash(tensors) != weights:
        raise UserError(f"the weights {name} have changed since the plan was made; run the sweep's file again")
    put_weights(tensors, weights, store)
