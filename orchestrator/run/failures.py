"""What is done about a failure, by its cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from prunesweep.orchestrator.resources import Resources
from prunesweep.workers.causes import Cause


@dataclass(frozen=True)
class Policy:
    """How often a stage is tried again in the same run, whether with a larger share, and what a person can do."""

    hint: str
    again: int = 0
    larger: bool = False


POLICIES: Mapping[str, Policy] = {
    Cause.DIVERGED: Policy("lower train.lr, or add warm-up epochs"),
    Cause.GPU_MEMORY: Policy(
        "lower train.batch_size, or give each trial a larger share in `resources`", again=3, larger=True
    ),
    Cause.HOST_MEMORY: Policy(
        "lower train.batch_size, or the number of trials at once with `resources`", again=3, larger=True
    ),
    Cause.BAD_REQUEST: Policy("the sweep asks for something that this network or dataset cannot do"),
    Cause.USER_CODE: Policy("the traceback is in the store, in the stage's attempts/ folder"),
    Cause.INTERNAL: Policy(
        "a bug in prunesweep: please report it with the traceback, which is in the stage's attempts/ folder"
    ),
    Cause.PARENT_DAMAGED: Policy("run the sweep again: what is damaged is set aside and computed again", again=3),
    Cause.DISK_FULL: Policy("free space where the store is, for instance with `prunesweep gc`"),
    Cause.STORE: Policy("mend the store, or mount it again, and run the sweep again", again=5),
    Cause.KILLED: Policy(
        "often the machine ran out of memory: lower the number of trials at once with `resources`", again=3
    ),
    Cause.NODE_LOST: Policy("the machine that ran it is gone: run the sweep again", again=10),
}


def policy(cause: str) -> Policy:
    """Of a cause, also of one that another version of prunesweep noted."""
    return POLICIES.get(cause, POLICIES[Cause.INTERNAL])


def larger(share: Resources, cause: str, node: Resources) -> Resources | None:
    """About twice the share of what ran out, at most what a node has; None when there is no more.

    More cores mean fewer trials at once on a node, and so more memory for each.
    """
    if cause == Cause.GPU_MEMORY:
        most = min(1.0, node.gpus)
        return replace(share, gpus=min(2 * share.gpus, most)) if 0 < share.gpus < most else None
    cores = node.cpus / share.replicas
    return replace(share, cpus=min(2 * share.cpus, cores)) if share.cpus < cores else None
