"""Axes of figures: their scales, and which places get a label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from math import floor, log, log10

from prunesweep.orchestrator.figures.charts import Axis
from prunesweep.orchestrator.figures.wording import in_unit, percent
from prunesweep.orchestrator.tables.means import Table
from prunesweep.orchestrator.tables.wording import words

TICK_GAP = 0.12
"""Labels of places that are nearer to each other than this share of the axis would overlap."""

DIGITS = ((1.0,), (1.0, 2.0, 5.0), (1.0, 2.0, 3.0, 5.0, 7.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0))
"""First digits of the round numbers on a logarithmic axis, from few to many."""


def metric_axis(table: Table) -> Axis:
    """The metric of a table, in its unit."""
    return Axis(in_unit(words(table.metric), table.scale))


def density_axis(densities: Iterable[float]) -> Axis:
    """Logarithmic in density, because the sparsities that matter bunch up near 1; the labels are sparsities."""
    ticks = spaced_ticks(sorted(set(densities), reverse=True), log)
    return Axis("sparsity", "density", ticks, [percent(1 - density) for density in ticks])


def factor_axis(what: str, factors: Iterable[float]) -> Axis:
    """Logarithmic, labelled at round factors such as `2x`."""
    ticks = log_ticks(list(factors))
    return Axis(what, "log", ticks, [f"{tick:g}x" for tick in ticks])


def spaced_ticks(places: Sequence[float], measure: Callable[[float], float] = float) -> tuple[float, ...]:
    """The first of the sorted places, and of the others those that leave room for a label after the one before.

    `measure` turns a place into a distance along the axis: the logarithm for a logarithmic axis.
    """
    span = abs(measure(places[-1]) - measure(places[0])) or 1.0
    ticks = [places[0]]
    for place in places[1:]:
        if abs(measure(place) - measure(ticks[-1])) >= TICK_GAP * span:
            ticks.append(place)
    return tuple(ticks)


def log_ticks(values: Sequence[float]) -> tuple[float, ...]:
    """Round numbers among the values: as few as make three labels, or all that there are."""
    low, high = min(values), max(values)
    decades = [10.0**k for k in range(floor(log10(low)), floor(log10(high)) + 1)]
    for digits in DIGITS:
        ticks = [d * s for d, s in product(decades, digits) if low / 1.15 <= d * s <= high * 1.15]
        if len(ticks) >= 3:
            return tuple(ticks)
    return tuple(ticks) or (low,)
