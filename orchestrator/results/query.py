"""What a table or a figure is to show of the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Query:
    """What is compared: `metric`, of the trials that meet all conditions `where`, a row for each value of `by`.

    With `best_by` only the best settings by that column, as `prunesweep.select_best` chooses them.
    """

    metric: str = "test_accuracy"
    by: Sequence[str] = ()
    where: Sequence[str] = ()
    best_by: str | None = None
    tolerance: float = 0.02
