"""How often a run begins anew: because Ray was lost, or because something was found damaged."""

from __future__ import annotations

import os
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

NOT_STARTED, NOT_STARTED_WHERE_BUSY = 2, 6
"""So many in a row may not come up at all. Ray gives its processes 30 seconds, too few where many others run."""

BUSY = 3.0
"""So many processes that want each core make a machine busy."""


def processes_per_core() -> float:
    """How many processes have wanted each of the machine's cores, as a mean over the last minute."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


@dataclass
class Repetitions:
    """How often a run has begun anew, by reason, and how often it may."""

    rays_lost: int = 0
    not_started: int = 0
    rounds: int = 0

    def allow(self, lost: ClusterLost | None, per_core: float | None = None) -> bool:
        """Count one more, because Ray was lost, or else because something was damaged; false when it is one too many.

        `per_core` is `processes_per_core` unless it is told. Raises `UserError` where Ray is lost again and again.
        """
        if lost is None:
            self.rounds += 1
            return self.rounds < ROUNDS
        self.rays_lost += 1
        self.not_started = 0 if lost.had_started else self.not_started + 1
        self._require_hope(lost, processes_per_core() if per_core is None else per_core)
        if self.rays_lost == RAYS:
            raise UserError(f"Ray ended {RAYS} times; see what kills it: {CONTINUES}") from lost
        return True

    def _require_hope(self, lost: ClusterLost, per_core: float) -> None:
        is_busy = per_core > BUSY
        if self.not_started < (NOT_STARTED_WHERE_BUSY if is_busy else NOT_STARTED):
            return
        remedy = (
            f"{per_core:.0f} processes want each core of this machine, run it again when fewer do"
            if is_busy
            else "`prunesweep doctor` looks at this machine"
        )
        raise UserError(f"{lost}, {self.not_started} times; {remedy}") from lost
