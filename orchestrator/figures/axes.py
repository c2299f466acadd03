"""Axes of figures: their scales, their ends, and which places get a label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product
from math import floor, inf, log, log10

from prunesweep.orchestrator.figures.charts import Axis, Series
from prunesweep.orchestrator.figures.wording import in_unit, percent
from prunesweep.orchestrator.tables.means import Table
from prunesweep.orchestrator.tables.wording import words

TICK_GAP = 0.12
"""Labels of places that are nearer to each other than this share of the axis would overlap."""

DIGITS = ((1.0,), (1.0, 2.0, 5.0), (1.0, 2.0, 3.0, 5.0, 7.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0))
"""First digits of the round numbers on a logarithmic axis, from few to many."""

HIGH_ACCURACY = 95.0
"""Where all accuracies in percent are above this, the axis shows them by the logarithm of the error."""

FAR = 0.25
"""A control is drawn outside the axis when it is further from the others than this share of their span."""

MARGIN = 0.06
"""Room beyond the outermost values, as a share of their span."""

ALIKE = 1e-6
"""Values that differ by a smaller share are one value, which lies in the middle of an axis of its own."""


def metric_axis(table: Table, drawn: Iterable[Series], is_shared: bool = False) -> Axis:
    """The metric of a table, in its unit, for these series.

    It ends above a control that is far off, because the others would look flat, and is logit where all others are above
    95 %. One that panels share has ends in any case.
    """
    axis = Axis(in_unit(words(table.metric), table.scale))
    series = list(drawn)
    spans = [_span(one) for one in series if not one.is_control and one.y]
    if not spans:
        return axis
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    controls = [_span(one) for one in series if one.is_control and one.y]
    room = FAR * (high - low)
    has_far_control = any(bottom < low - room or top > high + room for bottom, top in controls)
    if "accuracy" in table.metric and low > HIGH_ACCURACY and high < 100 and (has_far_control or not controls):
        return _logit_axis(axis, low, high)
    margin = MARGIN * (high - low) if high - low > ALIKE * abs(high) else max(1.0, ALIKE * abs(high))
    if has_far_control:
        return replace(axis, limits=(low - margin, high + margin))
    if not is_shared:
        return axis
    low, high = min(low, *(bottom for bottom, _ in controls), low), max(high, *(top for _, top in controls), high)
    return replace(axis, limits=(low - margin, high + margin))


def _span(series: Series) -> tuple[float, float]:
    deviations = [deviation or 0.0 for deviation in series.deviation]
    lows = [y - deviation for y, deviation in zip(series.y, deviations, strict=True)]
    return min(lows), max(y + deviation for y, deviation in zip(series.y, deviations, strict=True))


def _logit_axis(axis: Axis, low: float, high: float) -> Axis:
    spread = (100 - low) / (100 - high)
    margin = spread**MARGIN if spread > 1 + ALIKE else 1.5
    low, high = 100 - (100 - low) * margin, 100 - (100 - high) / margin
    ticks = [100 - error for error in log_ticks([100 - high, 100 - low]) if low <= 100 - error <= high]
    for step in (0.5, 0.2, 0.1, 0.05, 0.02):
        if len(ticks) < 3:
            ticks = [round(step * k, 2) for k in range(int(low / step) + 1, int(high / step) + 1)]
    return replace(axis, scale="logit", ticks=ticks, labels=[f"{tick:g}" for tick in ticks], limits=(low, high))


def density_axis(densities: Iterable[float]) -> Axis:
    """Logarithmic in density, because the sparsities that matter bunch up near 1; the labels are sparsities."""
    places = sorted(_positive(densities), reverse=True)
    ticks = spaced_ticks(places, log)
    ends = (places[0] * _log_margin(places), places[-1] / _log_margin(places))
    return Axis("sparsity", "density", ticks, [percent(1 - density) for density in ticks], ends)


def factor_axis(what: str, factors: Iterable[float]) -> Axis:
    """Logarithmic, labelled at round factors such as `2x`."""
    places = _positive(factors)
    ticks = log_ticks(places)
    ends = (min(places) / _log_margin(places), max(places) * _log_margin(places))
    return Axis(what, "log", ticks, [f"{tick:g}x" for tick in ticks], ends)


def _positive(values: Iterable[float]) -> list[float]:
    """Those that a logarithmic axis can show, each once; a table of somebody else's may have others."""
    return list(dict.fromkeys(value for value in values if 0 < value < inf)) or [1.0]


def _log_margin(places: Sequence[float]) -> float:
    """The factor beyond the outermost places at which a logarithmic axis ends."""
    return float((max(places) / min(places)) ** MARGIN) if max(places) > min(places) else 1.5


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
    positive = _positive(values)
    low, high = min(positive), max(positive)
    decades = [10.0**k for k in range(floor(log10(low)), floor(log10(high)) + 1)]
    for digits in DIGITS:
        ticks = [d * s for d, s in product(decades, digits) if low / 1.15 <= d * s <= high * 1.15]
        if len(ticks) >= 3:
            return tuple(ticks)
    return tuple(ticks) or (low,)
