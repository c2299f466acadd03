"""Draws a chart with plotly in a browser: each panel as plain JSON, and one legend for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from prunesweep.orchestrator.figures.charts import Chart, HeatMap, Panel
from prunesweep.orchestrator.figures.style import GREY, TINT, Look, category_colours, looks
from prunesweep.orchestrator.report.plotly_axes import Json, axis_json, on_axis, span_of
from prunesweep.orchestrator.report.plotly_traces import STROKES, SYMBOLS, faded, series_traces

HEIGHT, HEIGHT_WITH_BELOW = 360, 480
"""In pixels: of a panel, and of one with another below it."""

ROW = 26
"""In pixels, the height of a row of dots."""

CELL, AROUND = (92, 56), (80, 90)
"""In pixels, width and height: of a cell of a heat map, and of what is around the cells."""


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
    labels = {label for panel in chart.panels if isinstance(panel, Panel) for label in panel.x.labels}
    panels = [_panel(panel, by_name) if isinstance(panel, Panel) else _heat_map(panel, chart) for panel in chart.panels]
    legend = [
        Swatch(look.name, look.colour, STROKES[look.dash], SYMBOLS[look.marker])
        for look in by_name.values()
        if look.name not in labels
    ]
    return PlotlyChart(chart.title, panels, legend, list(chart.notes))


# --- panels


def _panel(panel: Panel, by_name: Mapping[str, Look]) -> PlotlyPanel:
    below = [panel.below] if panel.below else []
    span = span_of(panel.x, (x for part in (panel, *below) for series in part.series for x in series.x))
    traces = [trace for series in panel.series for trace in series_traces(series, by_name[series.name], panel, span)]
    for other in below:
        lower = [t for series in other.series for t in series_traces(series, by_name[series.name], other, span)]
        traces += [{**trace, "yaxis": "y2"} for trace in lower]
    height = HEIGHT_WITH_BELOW if below else HEIGHT
    if panel.is_turned:
        height = AROUND[1] + ROW * len(panel.x.labels)
    layout = _layout(height)
    layout["xaxis"] = axis_json(panel.x, span) | {"anchor": "y2" if below else "y"}
    layout["yaxis"] = axis_json(panel.y, panel.y.limits) | {"domain": [0.36, 1] if below else [0, 1]}
    for other in below:
        layout["yaxis2"] = axis_json(other.y, other.y.limits) | {"domain": [0, 0.28], "anchor": "x"}
    layout["shapes"] = [_mark(place) for place in panel.marks]
    layout["annotations"] = list(_outside(panel, by_name))
    if panel.is_turned:
        _turn(layout)
    return PlotlyPanel(panel.title, {"data": traces, "layout": layout}, height)


def _turn(layout: Json) -> None:
    """Categories from top to bottom, and the metric from left to right."""
    layout["xaxis"], layout["yaxis"] = layout["yaxis"], layout["xaxis"]
    layout["xaxis"] |= {"anchor": "y"}
    layout["yaxis"] |= {"anchor": "x", "range": layout["yaxis"]["range"][::-1], "showgrid": False}
    for note in layout["annotations"]:
        note["x"], note["y"] = note["y"], note["x"]
        note["xref"], note["yref"] = "paper", "y"
        note["xanchor"], note["yanchor"] = ("left" if note["x"] == 0 else "right"), "middle"


def _outside(panel: Panel, by_name: Mapping[str, Look]) -> Iterator[Json]:
    """An arrow with the value for each mean beyond the ends of the axis."""
    if panel.y.limits is None:
        return
    low, high = panel.y.limits
    for series in panel.series:
        for x, y in zip(series.x, series.y, strict=False):
            if not low <= y <= high:
                arrow = ("◀" if panel.is_turned else "▼") if y < low else ("▶" if panel.is_turned else "▲")
                yield {
                    "x": on_axis(panel.x, x),
                    "y": 0 if y < low else 1,
                    "xref": "x",
                    "yref": "paper",
                    "yanchor": "bottom" if y < low else "top",
                    "text": f"{arrow} {y:.3g}",
                    "showarrow": False,
                    "font": {"color": by_name[series.name].colour},
                }


def _layout(height: int) -> Json:
    return {
        "height": height,
        "autosize": True,
        "showlegend": False,
        "hovermode": "closest",
        "margin": {"l": 10, "r": 14, "t": 12, "b": 10},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#222222"},
        "hoverlabel": {"align": "left"},
    }


def _mark(place: float) -> Json:
    line = {"color": GREY, "width": 1, "dash": "dot"}
    return {"type": "line", "x0": place, "x1": place, "yref": "paper", "y0": 0, "y1": 1, "line": line, "layer": "below"}


# --- heat maps


def _heat_map(heat_map: HeatMap, chart: Chart) -> PlotlyPanel:
    rows, columns = range(len(heat_map.values)), range(len(heat_map.x.labels))
    width, height = (room + size * len(n) for room, size, n in zip(AROUND, CELL, (columns, rows), strict=True))
    layout = _layout(height)
    layout["xaxis"] = axis_json(heat_map.x, (-0.5, len(columns) - 0.5)) | {"showgrid": False}
    layout["yaxis"] = axis_json(heat_map.y, (len(rows) - 0.5, -0.5)) | {"showgrid": False}
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
        "colorscale": _steps(category_colours(heat_map.hues or heat_map.categories, chart)),
        "zmin": -0.5,
        "zmax": len(heat_map.categories) - 0.5,
    }
    return PlotlyPanel(heat_map.title, {"data": [trace], "layout": layout}, height, width)


def _steps(colours: Sequence[str]) -> list[list[Any]]:
    """A colour for each category, with sharp edges between them."""
    tints = [faded(colour, TINT) for colour in colours]
    return [[round(end / len(tints), 6), tint] for i, tint in enumerate(tints) for end in (i, i + 1)]
