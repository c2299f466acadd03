"""The series of a chart as traces of plotly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from prunesweep.orchestrator.figures.charts import Axis, Panel, Series
from prunesweep.orchestrator.figures.hues import DENSE
from prunesweep.orchestrator.figures.style import MOST_BANDS, Look
from prunesweep.orchestrator.report.plotly_axes import Json, drawn, short
from prunesweep.orchestrator.results.collapse import MARK

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

MOST_MARKERS = 40
"""On a line with more points markers hide it."""


def series_traces(series: Series, look: Look, panel: Panel, span: tuple[float, float]) -> Iterator[Json]:
    """The traces of a series; all have its name as their group, by which the legend hides them together."""
    for trace in _traces(series, look, panel, span):
        if panel.is_turned:
            trace["x"], trace["y"] = trace["y"], trace["x"]
            if "error_y" in trace:
                trace["error_x"] = trace.pop("error_y")
        yield trace
    if series.collapses:
        yield _collapse_marks(series, look, panel)


def _collapse_marks(series: Series, look: Look, panel: Panel) -> Json:
    """A mark behind each mean of which a network is part that lost a layer."""
    xs, ys = zip(*series.collapses, strict=True)
    sides = [short(xs), short(drawn(panel.y, y) for y in ys)]
    x, y = reversed(sides) if panel.is_turned else sides
    return {
        **{"type": "scatter", "mode": "text", "legendgroup": series.name, "hoverinfo": "skip", "x": x, "y": y},
        **{"text": [MARK] * len(xs), "textposition": "top right", "textfont": {"color": look.colour}},
    }


def _traces(series: Series, look: Look, panel: Panel, span: tuple[float, float]) -> Iterator[Json]:
    common = {"name": escape(series.name, quote=False), "legendgroup": series.name, "type": "scatter"}
    line = {"color": look.colour, "dash": STROKES[look.dash], "width": 1.6}
    texts = [_hover_text(series, panel.x, number) for number in range(len(series.y))]
    y = short(drawn(panel.y, value) for value in series.y)
    shown: Json = {**common, "hoverinfo": "text", "hovertext": texts, "x": short(series.x), "y": y}
    is_hollow = series.kind == "points" and look.dash != "-" and look.marker
    marker = {
        "color": look.colour,
        "symbol": SYMBOLS[look.marker] + ("-open" if is_hollow else ""),
        "size": 8,
        "line": {"color": "#ffffff", "width": 0.8},
    }
    spread = _spread(series, panel.y)
    match series.kind:
        case "level":
            yield from _band(common, span, [*series.y] * 2, [*series.deviation] * 2, look.colour, panel.y)
            yield {**shown, "x": short(span), "y": y * 2, "hovertext": texts * 2} | _lined(line)
        case "line":
            bars: Json = {"error_y": spread | {"color": look.colour}}
            if sum(s.kind == "line" and s.hue != DENSE for s in panel.series) <= MOST_BANDS:
                yield from _band(common, series.x, series.y, series.deviation, look.colour, panel.y)
                bars = {}
            mode = "lines+markers" if len(series.x) <= MOST_MARKERS and look.marker else "lines"
            yield {**shown, **bars, "mode": mode, "line": line, "marker": marker}
        case "front":
            yield {**common, "x": short(series.x), "y": y, "hoverinfo": "skip"} | _lined(line)
        case "bars":
            yield {**shown, "type": "bar", "marker": {"color": look.colour}, "error_y": spread | {"color": "#222222"}}
        case _:
            yield {**shown, "mode": "markers", "marker": marker, "error_y": spread | {"color": look.colour}}


def _spread(series: Series, axis: Axis) -> Json:
    """Bars of the deviations, which are unlike in both directions on a logit axis."""
    pairs = [(mean, deviation or 0.0) for mean, deviation in zip(series.y, series.deviation, strict=True)]
    up = short(drawn(axis, mean + d) - drawn(axis, mean) for mean, d in pairs)
    bars: Json = {"type": "data", "array": up, "thickness": 1, "width": 3}
    if axis.scale == "logit":
        down = short(drawn(axis, mean) - drawn(axis, mean - d) for mean, d in pairs)
        bars |= {"symmetric": False, "arrayminus": down}
    return bars


def _lined(line: Json) -> Json:
    return {"mode": "lines", "line": line}


def _band(
    common: Json, x: Sequence[float], y: Sequence[float], deviation: Sequence[float | None], hex_colour: str, axis: Axis
) -> Iterator[Json]:
    """One deviation to each side, where there is any; a logarithmic axis has no place for what is not positive."""
    if not any(deviation):
        return
    pairs = [(mean, d or 0.0) for mean, d in zip(y, deviation, strict=True)]
    high = [drawn(axis, mean + d) for mean, d in pairs]
    low = [drawn(axis, mean - d) if axis.scale != "log" or d < mean else mean / 10 for mean, d in pairs]
    yield {
        **common,
        "x": short([*x, *reversed(x)]),
        "y": short([*high, *reversed(low)]),
        "mode": "lines",
        "fill": "toself",
        "fillcolor": faded(hex_colour, 0.13),
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def _hover_text(series: Series, axis: Axis, number: int) -> str:
    """`imp, FT<br>sparsity: 90%<br>96.5 ± 0.3 (3)`."""
    deviation = series.deviation[number]
    value = f"{series.y[number]:.4g}" + ("" if deviation is None else f" ± {deviation:.2g}")
    place = [f"{axis.label}: {_place(axis, series.x[number])}"] if series.x and axis.label else []
    lost = series.collapsed[number] if series.collapsed else 0
    collapse = [f"{MARK} in {lost} of {series.n[number]} a layer kept no weight"] if lost else []
    lines = [series.name, *place, f"{value} ({series.n[number]})", *collapse]
    return "<br>".join(escape(line, quote=False) for line in lines)


def _place(axis: Axis, value: float) -> str:
    if axis.scale == "density":
        return f"{100 * (1 - value):.6g}%"
    if axis.scale == "category":
        return axis.labels[round(value)]
    return f"{value:.3g}" if axis.scale == "log" else f"{value:g}"


def faded(hex_colour: str, alpha: float) -> str:
    red, green, blue = (int(hex_colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"
