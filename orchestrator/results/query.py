"""What a table or a figure is to show of the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Query:
    """What is compared: `metric`, of the trials that meet all conditions `where`, a row for each value of `by`.

    Without a metric it is the task's primary one on the test set.

    With `best_by` only the best settings by that column, as `prunesweep.select_best` chooses them. `tolerance` is how
    far a setting may be off the sparsity it competes at; None stands for 0.02 where settings are chosen, else 0.002.
    """

    metric: str | None = None
    by: Sequence[str] = ()
    where: Sequence[str] = ()
    best_by: str | None = None
    tolerance: float | None = None

    @property
    def column(self) -> str:
        """The metric, once it is known of which trials."""
        assert self.metric is not None
        return self.metric
