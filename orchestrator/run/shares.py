"""What a sweep has learned about memory: larger shares for stages like one that ran out of it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, replace

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.resources import Resources
from prunesweep.workers.seal import intact, sealed_json, unsealed_json
from prunesweep.workers.spec import Stage, encode
from prunesweep.workers.store import Store

SHARES = "shares.json"
"""In a sweep's folder, for its next run; where it is removed the sweep begins again with the shares of its file."""


class Learned:
    """The shares of a sweep's stages: what its file says, and what turned out to be needed."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store
        self.needed = _recalled(plan.sweep.name, store)

    def share(self, key: str, node: Resources) -> Resources:
        """What a stage gets: of what it needs no more than `node` has, which may be another than before."""
        given, needed = self.plan.shares[key], self.needed.get(_alike(self.plan.stages[key]))
        if needed is None:
            return given
        cpus, gpus = (most / given.replicas for most in (node.cpus, node.gpus))
        return given | replace(given, cpus=min(needed.cpus, cpus), gpus=min(needed.gpus, gpus))

    def need(self, key: str, share: Resources) -> None:
        """Stages like this one need so much from now on, and in the next run."""
        alike = _alike(self.plan.stages[key])
        self.needed[alike] = self.needed.get(alike, share) | share
        record = {alike: asdict(share) for alike, share in self.needed.items()}
        with suppress(OSError):  # the next run would learn it again
            self.store.write(sealed_json(record), self.plan.sweep.name, SHARES)


def _recalled(sweep: str, store: Store) -> dict[str, Resources]:
    with suppress(OSError, TypeError):  # what cannot be read, or is of another version, is learned again
        saved = store.read(sweep, SHARES)
        if saved is not None and intact(saved):
            return {alike: Resources(**share) for alike, share in unsealed_json(saved).items()}
    return {}


def _alike(stage: Stage) -> str:
    """Stages that need about the same memory have this text in common."""
    root = stage.root
    parts = encode(root.dataset), encode(root.model), root.method.name, root.train.batch_size, root.train.precision
    return json.dumps(parts, sort_keys=True)
