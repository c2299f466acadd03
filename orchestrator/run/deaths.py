"""Why a worker's process is gone, in words and as a cause."""

from __future__ import annotations

from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError

from prunesweep.workers.causes import Cause
from prunesweep.workers.errors import ReplicaLost


def why_it_died(error: object) -> tuple[Cause, str]:
    """Ray's reason for the end of a worker, as a cause; by its words where the type says nothing."""
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
