"""How fast a run is: the epochs that its own workers compute, not those that were there before."""

from __future__ import annotations

import time

from prunesweep.orchestrator.run.events import Event, Progressed, Started


class Pace:
    """How many epochs a run's own workers compute in a second, since the first of them began.

    What a checkpoint held, and what another run computes, is no work of this run. An epoch computed twice, since its
    worker died before the checkpoint, is.
    """

    def __init__(self) -> None:
        self.epochs = 0
        self.began_at: float | None = None
        self._counted: dict[str, int] = {}

    def hear(self, event: Event) -> None:
        """Count the epochs that a stage came further."""
        match event:
            case Started(key):
                self.began_at = self.began_at or time.monotonic()
                self._counted.pop(key, None)
            case Progressed(key, epoch, began):
                self.epochs += epoch - self._counted.get(key, began)
                self._counted[key] = epoch

    @property
    def seconds(self) -> float:
        """Since the first stage began."""
        return time.monotonic() - self.began_at if self.began_at else 0.0

    @property
    def epochs_per_second(self) -> float | None:
        """None before the first epoch is over."""
        return self.epochs / self.seconds if self.epochs and self.seconds else None
