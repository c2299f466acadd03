"""Axes and numbers as plotly takes them: plain JSON, with the texts escaped, since it reads some HTML in them."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from math import ceil, log10
from typing import Any

from prunesweep.orchestrator.figures.charts import Axis

Json = dict[str, Any]

MARGIN = 0.05
"""Of the span of an axis, beyond the outermost points."""

MOST_TICKS = 24
"""More labels, such as those of the layers of a deep network, would overlap; hovering shows the others."""


def axis_json(axis: Axis, span: tuple[float, float] | None = None) -> Json:
    made: Json = {
        "title": {"text": escape(axis.label, quote=False), "standoff": 8},
        "automargin": True,
        "gridcolor": "#e4e4e4",
        "zeroline": False,
        "linecolor": "#999999",
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "#999999",
    }
    if axis.scale in ("log", "density"):
        made["type"] = "log"
    if axis.ticks:
        step = ceil(len(axis.ticks) / MOST_TICKS)
        labels = [escape(label, quote=False).replace("\n", "<br>") for label in axis.labels[::step]]
        places = [on_axis(axis, tick) for tick in axis.ticks[::step]]
        if made.get("type") == "log":
            places = list(axis.ticks[::step])
        made |= {"tickmode": "array", "tickvals": short(places), "ticktext": labels}
    if span is not None:
        made["range"] = [round(on_axis(axis, end), 6) for end in span]
    return made


def on_axis(axis: Axis, value: float) -> float:
    """The place of a value in plotly's ranges and annotations: a logarithm on an axis that is one."""
    if axis.scale in ("log", "density"):
        return log10(max(value, 1e-12))  # what is not positive has no place there
    return drawn(axis, value)


def drawn(axis: Axis, value: float) -> float:
    """What plotly is given for a value: on a logit axis, which it does not have, the logarithm of the error."""
    return -log10(max(100 - value, 1e-6)) if axis.scale == "logit" else value


def span_of(axis: Axis, values: Iterable[float]) -> tuple[float, float]:
    """The ends of an axis, from left to right, with some room beyond the values."""
    if axis.limits is not None:
        return axis.limits
    if axis.scale == "category":
        return -0.5, len(axis.labels) - 0.5
    places = list(values) or [1.0]
    low, high = min(places), max(places)
    room = MARGIN * (high - low) or 0.5
    return low - room, high + room


def short(values: Iterable[float]) -> list[float]:
    """With as many digits as a screen shows: they are most of the file."""
    return [float(f"{value:.6g}") for value in values]
