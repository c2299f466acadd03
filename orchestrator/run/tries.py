"""The tries at a stage that failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class FailedTries:
    """The tries at a stage that failed since it last came further than `epoch`, counted by cause.

    Tries that bring a stage further do not count: on machines that come and go, a long stage may lose many.
    """

    epoch: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

    def after(self, cause: str, epoch: int) -> FailedTries:
        """With one more, which had reached that epoch."""
        counts = self.counts if epoch <= self.epoch else {}
        return FailedTries(max(epoch, self.epoch), {**counts, cause: counts.get(cause, 0) + 1})
