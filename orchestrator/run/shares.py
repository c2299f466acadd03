"""What stages get of a cluster: the shares of the sweep file, and more for stages like one that ran out of memory."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, replace

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.resources import Resources
from prunesweep.workers.encoding import encode
from prunesweep.workers.seal import intact, sealed_json, unsealed_json
from prunesweep.workers.spec import Stage
from prunesweep.workers.store import Store
from prunesweep.workers.typed import typed

SHARES = "shares.json"
"""In a sweep's folder, for its next run; where it is removed the sweep begins again with the shares of its file."""


class StageShares:
    """The share of each stage of a sweep: what its file says, raised where stages like it ran out of memory."""

    def __init__(self, plan: Plan, store: Store, node: Resources) -> None:
        """`node` is what the largest node of the cluster has; no stage gets more."""
        self.plan, self.store, self.node = plan, store, node
        self.raised = _read(plan.sweep.name, store)

    def share(self, key: str) -> Resources:
        """What a stage gets. The node may be smaller than the one on which its share was raised."""
        given, raised = self.plan.shares[key], self.raised.get(_memory_kind(self.plan.stages[key]))
        if raised is None:
            return given
        cpus, gpus = (most / given.replicas for most in (self.node.cpus, self.node.gpus))
        return given | replace(given, cpus=min(raised.cpus, cpus), gpus=min(raised.gpus, gpus))

    def raise_to(self, share: Resources, key: str) -> None:
        """Stages like this one get at least so much from now on, also in the sweep's next run."""
        kind = _memory_kind(self.plan.stages[key])
        self.raised[kind] = self.raised.get(kind, share) | share
        record = {kind: asdict(share) for kind, share in self.raised.items()}
        with suppress(OSError):  # the next run would find it out again
            self.store.write(sealed_json(record), self.plan.sweep.name, SHARES)


def _read(sweep: str, store: Store) -> dict[str, Resources]:
    with suppress(
        OSError, TypeError, ValueError, AttributeError
    ):  # what cannot be read, or is of another version, is found out again
        saved = store.read(sweep, SHARES)
        if saved is not None and intact(saved):
            return {kind: typed(Resources, share) for kind, share in unsealed_json(saved).items()}
    return {}


def _memory_kind(stage: Stage) -> str:
    """Stages that need about the same memory have this text in common."""
    root = stage.root
    parts = encode(root.dataset), encode(root.model), root.method.name, root.train.batch_size, root.train.precision
    return json.dumps(parts, sort_keys=True)
