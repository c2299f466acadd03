"""Failures: why a worker's process is gone, and what is done about a failure of each cause (the retry policy).

Ray loads only where it explains a death: what is printed about a store's failures comes from here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from prunesweep.orchestrator.resources import Resources
from prunesweep.workers.causes import Cause
from prunesweep.workers.errors import ReplicaLost


@dataclass(frozen=True)
class Policy:
    """What is done about a cause: a stage is tried `again` so often in the same run, perhaps with a `larger` share.

    `hint` tells a person what to do when that did not help.
    """

    hint: str
    again: int = 0
    larger: bool = False


POLICIES: Mapping[str, Policy] = {
    Cause.DIVERGED: Policy("lower train.lr, or add warm-up epochs"),
    Cause.INEFFECTIVE: Policy(
        "the evaluation computes with something else than the network's pruned weights, in the layers named; take a "
        "network that evaluates with its parameters as they are"
    ),
    Cause.GPU_MEMORY: Policy(
        "lower train.batch_size, or give each trial a larger share in `resources`", again=3, larger=True
    ),
    Cause.HOST_MEMORY: Policy(
        "lower train.batch_size, or the number of trials at once with `resources`", again=3, larger=True
    ),
    Cause.BAD_REQUEST: Policy("the sweep asks for something that this network or dataset cannot do"),
    Cause.USER_CODE: Policy(
        "`prunesweep logs SWEEP` shows the traceback, and `run FILE --trial KEY` runs one trial alone"
    ),
    Cause.INTERNAL: Policy(
        "a bug in prunesweep: please report it with the traceback, which `prunesweep logs SWEEP` shows"
    ),
    Cause.PARENT_DAMAGED: Policy("run the sweep again: what is damaged is set aside and computed again", again=3),
    Cause.DISK_FULL: Policy("free space where the store is, for instance with `prunesweep gc`"),
    Cause.STORE: Policy("mend the store, or mount it again, and run the sweep again", again=5),
    Cause.STALLED: Policy(
        "`prunesweep logs SWEEP` shows where it stood; raise --stall-limit where that may take so long", again=1
    ),
    Cause.KILLED: Policy(
        "often the machine ran out of memory: lower the number of trials at once with `resources`", again=3
    ),
    Cause.NODE_LOST: Policy("the machine that ran it is gone: run the sweep again", again=10),
}


def policy(cause: str) -> Policy:
    """The policy for a cause; one that only another version of prunesweep knows counts as internal."""
    return POLICIES.get(cause, POLICIES[Cause.INTERNAL])


def larger(share: Resources, cause: str, node: Resources) -> Resources | None:
    """About twice the share of the resource that ran out, at most what `node` has; None when `share` has that already.

    A share cannot ask for host memory; with more cores for each, fewer trials run at once on a node.
    """
    if cause == Cause.GPU_MEMORY:
        most = min(1.0, node.gpus)
        return replace(share, gpus=min(2 * share.gpus, most)) if 0 < share.gpus < most else None
    cores = node.cpus / share.replicas
    return replace(share, cpus=min(2 * share.cpus, cores)) if share.cpus < cores else None


def why_it_died(error: object) -> tuple[Cause, str]:
    """The cause of the end of a worker's process, and a sentence; `error` is Ray's, or its text.

    Where the type of the error does not tell the cause, its words do.
    """
    from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError

    words = str(error)
    if isinstance(error, OutOfMemoryError) or "running low on memory" in words:
        return Cause.HOST_MEMORY, "Ray ended it because the machine ran out of memory"
    if isinstance(error, NodeDiedError) or getattr(error, "preempted", False) or "node has died" in words:
        return Cause.NODE_LOST, "the machine that ran it was lost"
    if ReplicaLost.__name__ in words:
        return Cause.KILLED, "the process of one of its replicas was killed, or crashed"
    if isinstance(error, RayActorError) and not error.actor_init_failed:
        return Cause.KILLED, "its process was killed, or crashed"
    return Cause.INTERNAL, words
