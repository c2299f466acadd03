"""The cells of a table that have no mean because all their trials failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import nan

import pandas as pd

from prunesweep.orchestrator.results.aggregation import Cell, plain
from prunesweep.workers.causes import Cause

FAILED = "failed"


def failed_cells(asked: pd.DataFrame | None, finished: Sequence[Cell]) -> Iterator[Cell]:
    """A cell for each combination of settings of which every trial that was asked for has failed.

    The settings are those of the `finished` cells, of which none comes again.
    `asked` is as `orchestrator.run.outcomes` makes it; of None there are no such cells.
    """
    if asked is None or asked.empty or asked[FAILED].isna().all():
        return
    names = list(finished[0].settings)
    known = {tuple(cell.settings.values()) for cell in finished}
    for key, same in asked.reindex(columns=[*names, FAILED]).groupby(names, dropna=False, sort=False):
        values = tuple(map(plain, key))
        if same[FAILED].notna().all() and values not in known:
            yield Cell(dict(zip(names, values, strict=True)), nan, None, 0, failed=_reason(list(same[FAILED].unique())))


def _reason(causes: Sequence[str]) -> str:
    """`diverged`, which is a result, or `failed: out of GPU memory`."""
    return str(Cause.DIVERGED) if list(causes) == [Cause.DIVERGED] else f"failed: {', '.join(causes)}"


def word_of(cell: Cell) -> str:
    """`diverged` or `failed`, where there is room for a number only."""
    return str(cell.failed).partition(":")[0]


def failed_notes(cells: Iterable[Cell]) -> Iterator[str]:
    """Why cells failed, in a line."""
    reasons = {cell.failed.partition(": ")[2] for cell in cells if cell.failed} - {""}
    if reasons:
        yield f"failed: {', '.join(sorted(reasons))}; `prunesweep status SWEEP` says what to do"
