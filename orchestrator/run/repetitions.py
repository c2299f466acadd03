"""How often a run begins anew: because Ray was lost, or because something was found damaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunesweep.orchestrator.run.stopping import CONTINUES
from prunesweep.workers.errors import UserError

if TYPE_CHECKING:
    from prunesweep.orchestrator.run.cluster import ClusterLost

ROUNDS = 3
"""So often at most the stages that lack a result are run: those found damaged on the way in the next round."""

RAYS = 10
"""So many in one run may be lost before it gives up."""

NOT_STARTED = 2
"""So many in a row may not come up at all; each has had minutes (`ray_internals.START_SECONDS`)."""


@dataclass
class Repetitions:
    """How often a run has begun anew, by reason, and how often it may."""

    rays_lost: int = 0
    not_started: int = 0
    rounds: int = 0

    def allow(self, lost: ClusterLost | None) -> bool:
        """Count one more, because Ray was lost, or else because something was damaged; false when it is one too many.

        Raises `UserError` where Ray is lost again and again.
        """
        if lost is None:
            self.rounds += 1
            return self.rounds < ROUNDS
        self.rays_lost += 1
        self.not_started = 0 if lost.had_started else self.not_started + 1
        if self.not_started == NOT_STARTED:
            raise UserError(f"{lost}, {NOT_STARTED} times; `prunesweep doctor` looks at this machine") from lost
        if self.rays_lost == RAYS:
            raise UserError(f"Ray ended {RAYS} times; see what kills it: {CONTINUES}") from lost
        return True
