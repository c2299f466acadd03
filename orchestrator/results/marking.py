"""Which cells of a table compete, and what is marked among them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from prunesweep.orchestrator.results import ranking
from prunesweep.orchestrator.results.aggregation import Cell, Group, Key, Unranked, groups, sign_of
from prunesweep.orchestrator.results.ranking import FEWEST_SEEDS, Ranking
from prunesweep.orchestrator.results.statistics import SIGNIFICANCE, Floats
from prunesweep.orchestrator.text import counted

TARGET = "target_sparsity"
OFF_TARGET = 0.002
"""A setting competes where it has reached its target sparsity within this: 0.2 points."""


def marked_cells(
    frame: pd.DataFrame,
    metric: str,
    names: Sequence[str],
    competing: Sequence[str],
    tolerance: float = OFF_TARGET,
) -> list[Cell]:
    """The mean of every group of trials that agree in these settings, in the frame's order.

    Among those that agree in the settings `competing`, some of the names, the best mean is marked and what is not shown
    to be worse, as `orchestrator.results.ranking` ranks them.
    """
    made = groups(frame, metric, names)
    arenas: dict[Key, list[int]] = defaultdict(list)
    for place, group in enumerate(made):
        arenas[group.cell.at(competing)].append(place)
    cells = [group.cell for group in made]
    for places in arenas.values():
        for place, cell in zip(places, _judged([made[p] for p in places], sign_of(metric), tolerance), strict=True):
            cells[place] = cell
    return cells


def standings(rivals: Sequence[Group], tolerance: float = OFF_TARGET) -> list[Unranked | None]:
    """Of each rival why it is not ranked; None for those that are, and for one without any rival."""
    off = [is_off_target(rival.cell, tolerance) for rival in rivals]
    full = max((rival.cell.n for rival, is_off in zip(rivals, off, strict=True) if not is_off), default=0)
    contending = [r for r, is_off in zip(rivals, off, strict=True) if not is_off and r.cell.n == full]
    common: Unranked | None = None
    if len(contending) > 1:
        same = all(len(rival.values) == full and set(rival.values) == set(contending[0].values) for rival in contending)
        common = Unranked.FEW_SEEDS if full < FEWEST_SEEDS else None if same else Unranked.UNLIKE_SEEDS
    reasons: list[Unranked | None] = []
    for rival, is_off in zip(rivals, off, strict=True):
        fewer = Unranked.FEWER_SEEDS if rival.cell.n < full else common
        reasons.append(Unranked.OFF_TARGET if is_off else fewer)
    return reasons


def is_off_target(cell: Cell, tolerance: float = OFF_TARGET) -> bool:
    """Whether the mean sparsity it reached is farther from its target than the tolerance; False where either lacks."""
    target = cell.settings.get(TARGET)
    return target is not None and cell.reached is not None and round(abs(cell.reached - target), 9) > tolerance


def values_of(rivals: Sequence[Group], sign: int) -> Floats:
    """Their values [K, N] over the seeds that all have, signed so that more is better."""
    return np.array([[sign * rival.values[seed] for seed in rivals[0].values] for rival in rivals])


def _judged(rivals: Sequence[Group], sign: int, tolerance: float) -> list[Cell]:
    reasons = standings(rivals, tolerance)
    cells = [
        replace(rival.cell, unranked=reason) if reason else rival.cell
        for rival, reason in zip(rivals, reasons, strict=True)
    ]
    places = [place for place, reason in enumerate(reasons) if reason is None]
    best = max((sign * cells[place].mean for place in places), default=0.0)
    if len(places) < 2 or not sign or all(sign * cells[place].mean == best for place in places):
        return cells
    ranked = ranking.rank(values_of([rivals[place] for place in places], sign))
    for place, marked in zip(places, _marked([cells[place] for place in places], ranked, sign * best), strict=True):
        cells[place] = marked
    return cells


def _marked(cells: Sequence[Cell], ranked: Ranking, best: float) -> Iterator[Cell]:
    for cell, p in zip(cells, map(float, ranked.p), strict=True):
        is_best = cell.mean == best
        yield replace(cell, best=is_best, near=not is_best and p > SIGNIFICANCE, p=None if is_best else p)


def unranked_notes(cells: Iterable[Cell]) -> Iterator[str]:
    """Why cells have no mark, and of how many that holds."""
    reasons: dict[Unranked, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.unranked is not None:
            reasons[cell.unranked].append(cell)
    if few := reasons.get(Unranked.FEW_SEEDS):
        seeds = sorted({cell.n for cell in few})
        span = counted(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
        yield f"{span}: too few to rank, which takes {FEWEST_SEEDS}"
    if fewer := reasons.get(Unranked.FEWER_SEEDS):
        yield f"{counted(len(fewer), 'cell')} out of competition: fewer seeds than others at the same place"
    if unlike := reasons.get(Unranked.UNLIKE_SEEDS):
        yield f"{counted(len(unlike), 'cell')} not ranked: their seeds are not the same"


def off_target_notes(cells: Iterable[Cell]) -> Iterator[str]:
    """How many cells are out of competition for the sparsity that they reached."""
    off = [cell for cell in cells if cell.unranked is Unranked.OFF_TARGET]
    if off:
        yield f"{counted(len(off), 'cell')} out of competition: off their target sparsity"
