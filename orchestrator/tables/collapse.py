"""What a table or figure says of cells that a network with a layer without weights is part of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prunesweep.orchestrator.results.aggregation import Cell
from prunesweep.orchestrator.results.best_settings import TARGET
from prunesweep.orchestrator.results.collapse import MARK

NAMED = 6
"""So many methods and sparsities are named."""


def mark_of(cell: Cell) -> str:
    """What stands behind the cell's mean."""
    return MARK if cell.collapsed else ""


def collapse_notes(cells: Iterable[Cell]) -> Iterator[str]:
    """What the mark means, in a line that names the cells which have it, and in how many seeds."""
    counts: dict[str, tuple[int, int]] = {}
    for cell in cells:
        if cell.collapsed:
            lost, n = counts.get(_name(cell), (0, 0))
            counts[_name(cell)] = lost + cell.collapsed, n + cell.n
    if counts:
        said = [f"{name} in {lost} of {n}" for name, (lost, n) in counts.items()]
        more = f"; {len(said) - NAMED} more" if len(said) > NAMED else ""
        yield (
            f"{MARK} in some seeds a layer kept no weight: at or near chance level by layer collapse "
            f"({'; '.join(said[:NAMED])}{more})"
        )


def _name(cell: Cell) -> str:
    """`imp LLR at 98%`."""
    said = [str(cell.settings[name]) for name in ("method", "retrain_schedule") if cell.settings.get(name)]
    target = cell.settings.get(TARGET)
    return " ".join([*said, *([] if target is None else [f"at {100 * target:.6g}%"])]) or "a setting"
