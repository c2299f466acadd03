"""Draws a chart with plotly in a browser: each panel as plain JSON, and one legend for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, log10
from typing import Any

from prunesweep.orchestrator.figures.charts import Axis, Chart, HeatMap, Panel, Series
from prunesweep.orchestrator.figures.style import GREY, MOST_BANDS, TINT, Look, colour, looks

Json = dict[str, Any]

SYMBOLS: Mapping[str, str] = {
    "": "",
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "<": "triangle-left",
    ">": "triangle-right",
    "d": "diamond-tall",
    "p": "pentagon",
}
"""plotly's names of matplotlib's markers."""

STROKES: Mapping[str, str] = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}
"""plotly's names of matplotlib's dashes."""

HEIGHT, HEIGHT_WITH_BELOW = 360, 480
"""In pixels: of a panel, and of one with another below it."""

CELL, AROUND = (92, 56), (80, 90)
"""In pixels, width and height: of a cell of a heat map, and of what is around the cells."""

MARGIN = 0.05
"""Of the span of an axis, beyond the outermost points."""

MOST_MARKERS = 40
"""On a line with more points markers hide it."""

MOST_TICKS = 24
"""More labels, such as those of the layers of a deep network, would overlap; hovering shows the others."""


@dataclass(frozen=True)
class PlotlyPanel:
    """A panel as plotly's JSON; narrower than `least_width` pixels its texts would overlap, 0 where it has none."""

    title: str
    json: Json
    height: int
    least_width: int = 0


@dataclass(frozen=True)
class Swatch:
    """An entry of the legend: `stroke` and `symbol` are plotly's names, `symbol` empty for a line without markers."""

    name: str
    colour: str
    stroke: str
    symbol: str


@dataclass(frozen=True)
class PlotlyChart:
    """A chart for a browser, with a legend for all of its panels."""

    title: str
    panels: Sequence[PlotlyPanel]
    legend: Sequence[Swatch]
    notes: Sequence[str]


def plotly_chart(chart: Chart) -> PlotlyChart:
    """The chart for a browser; texts in plotly's JSON are escaped, since it reads some HTML in them."""
    by_name = looks(chart)
    panels = [_panel(panel, by_name) if isinstance(panel, Panel) else _heat_map(panel) for panel in chart.panels]
    legend = [Swatch(look.name, look.colour, STROKES[look.dash], SYMBOLS[look.marker]) for look in by_name.values()]
    return PlotlyChart(chart.title, panels, legend, list(chart.notes))


# --- panels


def _panel(panel: Panel, by_name: Mapping[str, Look]) -> PlotlyPanel:
    below = [panel.below] if panel.below else []
    low, high = _span(panel.x, (x for part in (panel, *below) for series in part.series for x in series.x))
    traces = [trace for series in panel.series for trace in _traces(series, by_name[series.name], panel, (low, high))]
    for other in below:
        lower = [
            trace for series in other.series for trace in _traces(series, by_name[series.name], other, (low, high))
        ]
        traces += [{**trace, "yaxis": "y2"} for trace in lower]
    height = HEIGHT_WITH_BELOW if below else HEIGHT
    layout = _layout(height)
    layout["xaxis"] = _axis(panel.x, (low, high)) | {"anchor": "y2" if below else "y"}
    layout["yaxis"] = _axis(panel.y) | {"domain": [0.36, 1] if below else [0, 1]}
    for other in below:
        layout["yaxis2"] = _axis(other.y) | {"domain": [0, 0.28], "anchor": "x"}
    layout["shapes"] = [_mark(place) for place in panel.marks]
    return PlotlyPanel(panel.title, {"data": traces, "layout": layout}, height)


def _layout(height: int) -> Json:
    return {
        "height": height,
        "autosize": True,
        "showlegend": False,
        "hovermode": "closest",
        "margin": {"l": 10, "r": 14, "t": 12, "b": 10},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#222222"},
        "hoverlabel": {"align": "left"},
    }


def _mark(place: float) -> Json:
    line = {"color": GREY, "width": 1, "dash": "dot"}
    return {"type": "line", "x0": place, "x1": place, "yref": "paper", "y0": 0, "y1": 1, "line": line, "layer": "below"}


def _axis(axis: Axis, span: tuple[float, float] | None = None) -> Json:
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
        made |= {"tickmode": "array", "tickvals": _short(axis.ticks[::step]), "ticktext": labels}
    if span is not None:
        made["range"] = [round(log10(end), 6) for end in span] if made.get("type") == "log" else _short(span)
    return made


def _span(axis: Axis, values: Iterable[float]) -> tuple[float, float]:
    """The ends of an axis, from left to right, with some room beyond the values."""
    if axis.scale == "category":
        return -0.5, len(axis.labels) - 0.5
    places = list(values) or [1.0]
    low, high = min(places), max(places)
    if axis.scale == "linear":
        room = MARGIN * (high - low) or 0.5
        return low - room, high + room
    room = (high / low) ** MARGIN if high > low else 1.5
    return (high * room, low / room) if axis.scale == "density" else (low / room, high * room)


# --- series


def _traces(series: Series, look: Look, panel: Panel, span: tuple[float, float]) -> Iterator[Json]:
    """The traces of a series; all have its name as their group, by which the legend hides them together."""
    common = {"name": escape(series.name, quote=False), "legendgroup": series.name, "type": "scatter"}
    line = {"color": look.colour, "dash": STROKES[look.dash], "width": 1.6}
    texts = [_hover_text(series, panel.x, number) for number in range(len(series.y))]
    shown: Json = {**common, "hoverinfo": "text", "hovertext": texts, "x": _short(series.x), "y": _short(series.y)}
    marker = {
        "color": look.colour,
        "symbol": SYMBOLS[look.marker],
        "size": 8,
        "line": {"color": "#ffffff", "width": 0.8},
    }
    spread = {"type": "data", "array": _short(d or 0.0 for d in series.deviation), "thickness": 1, "width": 3}
    match series.kind:
        case "level":
            yield from _band(common, span, [*series.y] * 2, [*series.deviation] * 2, look.colour, panel.y)
            yield {**shown, "x": _short(span), "y": _short(series.y) * 2, "hovertext": texts * 2} | _lined(line)
        case "line":
            bars: Json = {"error_y": spread | {"color": look.colour}}
            if sum(other.kind == "line" for other in panel.series) <= MOST_BANDS:
                yield from _band(common, series.x, series.y, series.deviation, look.colour, panel.y)
                bars = {}
            mode = "lines+markers" if len(series.x) <= MOST_MARKERS else "lines"
            yield {**shown, **bars, "mode": mode, "line": line, "marker": marker}
        case "front":
            yield {**common, "x": _short(series.x), "y": _short(series.y), "hoverinfo": "skip"} | _lined(line)
        case "bars":
            yield {**shown, "type": "bar", "marker": {"color": look.colour}, "error_y": spread | {"color": "#222222"}}
        case _:
            yield {**shown, "mode": "markers", "marker": marker, "error_y": spread | {"color": look.colour}}


def _lined(line: Json) -> Json:
    return {"mode": "lines", "line": line}


def _band(
    common: Json, x: Sequence[float], y: Sequence[float], deviation: Sequence[float | None], hex_colour: str, axis: Axis
) -> Iterator[Json]:
    """One deviation to each side, where there is any; a logarithmic axis has no place for what is not positive."""
    if not any(deviation):
        return
    pairs = [(mean, d or 0.0) for mean, d in zip(y, deviation, strict=True)]
    high = [mean + d for mean, d in pairs]
    low = [mean - d if axis.scale == "linear" or d < mean else mean / 10 for mean, d in pairs]
    yield {
        **common,
        "x": _short([*x, *reversed(x)]),
        "y": _short([*high, *reversed(low)]),
        "mode": "lines",
        "fill": "toself",
        "fillcolor": _faded(hex_colour, 0.13),
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def _hover_text(series: Series, axis: Axis, number: int) -> str:
    """`imp, FT<br>sparsity: 90%<br>96.5 ± 0.3 (3)`."""
    deviation = series.deviation[number]
    value = f"{series.y[number]:.4g}" + ("" if deviation is None else f" ± {deviation:.2g}")
    place = [f"{axis.label}: {_place(axis, series.x[number])}"] if series.x else []
    lines = [series.name, *place, f"{value} ({series.n[number]})"]
    return "<br>".join(escape(line, quote=False) for line in lines)


def _place(axis: Axis, value: float) -> str:
    if axis.scale == "density":
        return f"{100 * (1 - value):.6g}%"
    if axis.scale == "category":
        return axis.labels[round(value)]
    return f"{value:.3g}" if axis.scale == "log" else f"{value:g}"


# --- heat maps


def _heat_map(heat_map: HeatMap) -> PlotlyPanel:
    rows, columns = range(len(heat_map.values)), range(len(heat_map.x.labels))
    width, height = (room + size * len(n) for room, size, n in zip(AROUND, CELL, (columns, rows), strict=True))
    layout = _layout(height)
    layout["xaxis"] = _axis(heat_map.x, (-0.5, len(columns) - 0.5)) | {"showgrid": False}
    layout["yaxis"] = _axis(heat_map.y, (len(rows) - 0.5, -0.5)) | {"showgrid": False}
    layout["annotations"] = [
        {"x": x, "y": y, "text": escape(text, quote=False).replace("\n", "<br>"), "showarrow": False}
        for y, line in zip(rows, heat_map.texts, strict=True)
        for x, text in zip(columns, line, strict=True)
        if text
    ]
    trace: Json = {
        "type": "heatmap",
        "x": list(columns),
        "y": list(rows),
        "z": [list(line) for line in heat_map.values],
        "xgap": 2,
        "ygap": 2,
        "hoverinfo": "skip",
        "showscale": False,
        "colorscale": _steps(len(heat_map.categories)),
        "zmin": -0.5,
        "zmax": len(heat_map.categories) - 0.5,
    }
    return PlotlyPanel(heat_map.title, {"data": [trace], "layout": layout}, height, width)


def _steps(count: int) -> list[list[Any]]:
    """A colour for each category, with sharp edges between them."""
    tints = [_faded(colour(number), TINT) for number in range(count)]
    return [[round(end / count, 6), tint] for i, tint in enumerate(tints) for end in (i, i + 1)]


def _faded(hex_colour: str, alpha: float) -> str:
    red, green, blue = (int(hex_colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def _short(values: Iterable[float]) -> list[float]:
    """With as many digits as a screen shows: they are most of the file."""
    return [float(f"{value:.6g}") for value in values]
