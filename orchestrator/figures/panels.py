"""Draws one panel of a chart with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from prunesweep.orchestrator.figures.charts import Axis, HeatMap, Panel, Series
from prunesweep.orchestrator.figures.hues import DENSE
from prunesweep.orchestrator.figures.style import MOST_BANDS, TINT, Look
from prunesweep.orchestrator.figures.wording import COLLAPSE
from prunesweep.orchestrator.results.collapse import MARK

CHARACTER = 0.06
"""Width in inches, about; letters are about twice as high."""

MOST_MARKERS = 10
"""On a line with more points than about so many, only some get a marker."""

DODGE = 7.0
"""Points by which bars of deviations at one place are spread, where there are no bands."""

Looks = Mapping[str, Look]


def draw(
    made: Figure, place: SubplotSpec, panel: Panel, looks: Looks, width: float, left: Panel | HeatMap | None
) -> Axes:
    """Add a panel to the figure, `width` inches wide; returns its axes, the upper ones of two.

    What the y axis of the panel to its left says is not said again.
    """
    if panel.below is None:
        axes = made.add_subplot(place)
        _draw_panel(axes, panel, looks, width)
    else:
        rows = place.subgridspec(2, 1, height_ratios=(3, 1))
        axes = made.add_subplot(rows[0])
        _draw_panel(axes, panel, looks, width)
        axes.tick_params(labelbottom=False)
        axes.set_xlabel("")
        _draw_panel(made.add_subplot(rows[1], sharex=axes), panel.below, looks, width)
    axes.set_title(panel.title)
    if left is not None and left.y.label == panel.y.label and not panel.is_turned:
        axes.set_ylabel("")
        axes.tick_params(labelleft=left.y != panel.y or panel.y.limits is None)
    return axes


def has_upright_labels(axis: Axis, width: float) -> bool:
    """Whether the labels of categories would overlap side by side in a panel of that width."""
    return CHARACTER * (max(map(len, axis.labels)) + 1) * len(axis.labels) > width - 0.6


def _draw_panel(axes: Axes, panel: Panel, looks: Looks, width: float) -> None:
    for mark in panel.marks:
        axes.axvline(mark, color="gray", linewidth=0.6, linestyle=(0, (1, 2)), label=panel.marked, zorder=1)
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.set_axisbelow(True)
    _set_axis(axes, "y" if panel.is_turned else "x", panel.x, width)
    _set_axis(axes, "x" if panel.is_turned else "y", panel.y, width)
    has_bands = sum(s.kind == "line" and s.hue != DENSE for s in panel.series) <= MOST_BANDS
    for number, series in enumerate(panel.series):
        look = looks[series.name]
        if series.kind == "level":
            _draw_level(axes, series, look, panel.is_turned)
        elif series.kind == "front":
            axes.plot(series.x, series.y, color=look.colour, linestyle=look.dash, label=series.name, lw=1.0, zorder=1)
        elif series.kind == "bars":
            _draw_bars(axes, series, look, [s.name for s in panel.series if {*s.x} & {*series.x}])
        elif panel.is_turned:
            _draw_dots(axes, series, look, panel.y)
        else:
            has_band = has_bands and series.kind == "line" and len(series.x) > 1
            shift = 0.0 if has_bands or panel.below else DODGE * (number / (len(panel.series) - 1) - 0.5)
            _draw_points(axes, series, look, has_band, panel.y, shift)
    for series in panel.series:
        if series.x and not panel.is_turned:
            _mark_outside(axes, series, looks[series.name], panel.y)
    _mark_collapses(axes, panel, looks)
    if panel.is_turned:
        axes.set_ylim(len(panel.x.labels) - 0.5, -0.5)
        axes.grid(False, axis="y")


def _set_axis(axes: Axes, side: str, axis: Axis, width: float = 0.0) -> None:
    """Scale, label, ticks and ends of one side; `width` is that of a panel with categories."""
    mpl_axis = axes.xaxis if side == "x" else axes.yaxis
    mpl_axis.set_label_text(axis.label)
    if axis.scale in ("log", "density"):
        axes.set(**{f"{side}scale": "log"})
    if axis.scale == "logit":
        set_scale = axes.set_xscale if side == "x" else axes.set_yscale
        set_scale("function", functions=(_logit, _from_logit))
    if axis.whole:
        mpl_axis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if axis.ticks:
        mpl_axis.set_major_locator(FixedLocator(list(axis.ticks)))
        mpl_axis.set_minor_locator(NullLocator())
        mpl_axis.set_ticks(list(axis.ticks), labels=list(axis.labels))
    if axis.scale == "category" and side == "x":
        mpl_axis.set_tick_params(rotation=90 if has_upright_labels(axis, width) else 0)
    if axis.limits:
        axes.set(**{f"{side}lim": axis.limits})


def _logit(percent: Any) -> Any:
    """Where accuracies lie: by the logarithm of the error. matplotlib tries values that no accuracy has."""
    return -np.log10(np.clip(100 - np.asarray(percent, dtype=float), 1e-6, None))


def _from_logit(place: Any) -> Any:
    return 100 - 10.0 ** -np.asarray(place, dtype=float)


def _draw_points(axes: Axes, series: Series, look: Look, has_band: bool, y: Axis, shift: float) -> None:
    """A line, or points where it is none; its deviations as a band, or as bars. `shift` is to the right, in points."""
    means = np.array(series.y, dtype=float)
    deviations = np.array([deviation or 0.0 for deviation in series.deviation], dtype=float)
    # On a logarithmic axis a deviation beyond the mean has no end; it is drawn to half of the mean.
    down = np.minimum(deviations, means / 2) if y.scale == "log" else deviations
    if has_band:
        axes.fill_between(series.x, means - down, means + deviations, color=look.colour, alpha=0.14, linewidth=0)
    is_hollow = series.kind == "points" and look.dash != "-"
    axes.errorbar(
        series.x,
        means,
        yerr=None if has_band else (down, deviations),
        label=series.name,
        linestyle=look.dash if series.kind == "line" else "none",
        markevery=max(1, len(series.x) // MOST_MARKERS),
        linewidth=1.1,
        **_shifted(axes, shift),
        **_marker(look) | ({"markerfacecolor": "white", "markeredgecolor": look.colour} if is_hollow else {}),
    )
    # A line that is shifted has no part in matplotlib's choice of the ends.
    axes.update_datalim(np.column_stack([[*series.x] * 2, [*(means - down), *(means + deviations)]]))
    axes.margins(x=0.08 if shift else 0.05)
    axes.autoscale_view()


def _shifted(axes: Axes, points: float) -> dict[str, Any]:
    """The transform of what is drawn so far to the right of its place, if it is."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    move = ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)
    return {"transform": axes.transData + move} if points else {}


def _draw_dots(axes: Axes, series: Series, look: Look, x: Axis) -> None:
    """Dots with their deviations to the left and the right; an arrow and the value at the edge where one is outside."""
    deviations = [deviation or 0.0 for deviation in series.deviation]
    axes.errorbar(series.y, series.x, xerr=deviations, label=series.name, linestyle="none", **_marker(look))
    for mean, row in zip(series.y, series.x, strict=True):
        if x.limits and not x.limits[0] <= mean <= x.limits[1]:
            is_low, value = mean < x.limits[0], _value(series, row, mean)
            axes.annotate(
                f"◀ {value}" if is_low else f"{value} ▶",
                (0.0 if is_low else 1.0, row),
                xycoords=axes.get_yaxis_transform(),
                color=look.colour,
                fontsize="small",
                ha="left" if is_low else "right",
                va="center",
            )


def _value(series: Series, x: float, mean: float) -> str:
    """Of a mean that is not drawn at its place."""
    return f"{mean:.3g}{MARK if (x, mean) in series.collapses else ''}"


def _marker(look: Look) -> dict[str, Any]:
    return {
        "color": look.colour,
        "marker": look.marker,
        "markersize": 4.0,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
        "elinewidth": 0.7,
        "capsize": 1.5,
    }


def _mark_outside(axes: Axes, series: Series, look: Look, y: Axis) -> None:
    """Means beyond the ends of the axis: an arrow at the edge, and the value."""
    if y.limits is None:
        return
    low, high = y.limits
    for x, mean in zip(series.x, series.y, strict=True):
        if not low <= mean <= high:
            is_below, arrow = mean < low, "▼" if mean < low else "▲"
            value = _value(series, x, mean)
            place = (x, 0.0 if is_below else 1.0)
            is_right = axes.transAxes.inverted().transform(axes.get_xaxis_transform().transform(place))[0] > 0.5
            axes.annotate(
                f"{value} {arrow}" if is_right else f"{arrow} {value}",
                place,
                (4 if is_right else -4, 2 if is_below else -2),
                xycoords=axes.get_xaxis_transform(),
                textcoords="offset points",
                color=look.colour,
                fontsize="small",
                ha="right" if is_right else "left",
                va="bottom" if is_below else "top",
                bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.3},
            )


def _mark_collapses(axes: Axes, panel: Panel, looks: Looks) -> None:
    """A mark behind each mean of which a network is part that lost a layer, and what it means above the panel."""
    marked = [(place, looks[series.name].colour) for series in panel.series for place in series.collapses]
    for (x, y), colour in marked:
        place = (y, x) if panel.is_turned else (x, y)
        axes.annotate(MARK, place, (3, 2), textcoords="offset points", color=colour, fontsize="medium", clip_on=True)
    if marked:
        axes.text(1.0, 1.01, COLLAPSE, transform=axes.transAxes, fontsize="x-small", ha="right", va="bottom")


def _draw_bars(axes: Axes, series: Series, look: Look, beside: Sequence[str]) -> None:
    """`beside` are the names of all bars at one place."""
    width = 0.8 / len(beside)
    shift = width * (beside.index(series.name) - (len(beside) - 1) / 2)
    axes.bar(
        [x + shift for x in series.x],
        series.y,
        width,
        yerr=[deviation or 0.0 for deviation in series.deviation],
        label=series.name,
        color=look.colour,
        hatch=look.hatch,
        alpha=0.75,
        edgecolor="white",
        linewidth=0.4,
        error_kw={"elinewidth": 0.8, "capsize": 2},
    )


def _draw_level(axes: Axes, series: Series, look: Look, is_turned: bool) -> None:
    (mean,), deviation = series.y, series.deviation[0] or 0.0
    line, span = (axes.axvline, axes.axvspan) if is_turned else (axes.axhline, axes.axhspan)
    line(mean, linewidth=1.1, label=series.name, color=look.colour, linestyle=look.dash)
    span(mean - deviation, mean + deviation, color=look.colour, alpha=0.12, linewidth=0)


def draw_heat_map(axes: Axes, heat_map: HeatMap, colours: Sequence[str], width: float) -> None:
    """Tints of the categories' colours, below black text that is as large as a cell `width` inches wide allows."""
    tints = [[1 - TINT * (1 - part) for part in to_rgb(colour)] for colour in colours]
    values = np.array([[np.nan if v is None else v for v in row] for row in heat_map.values], dtype=float)
    highest = len(heat_map.categories) - 0.5
    axes.pcolormesh(values, cmap=ListedColormap(tints), vmin=-0.5, vmax=highest, edgecolors="white", linewidth=1)
    longest = max((len(line) for row in heat_map.texts for text in row for line in text.split("\n")), default=1)
    size = min(7.0, 7.0 * width / (CHARACTER * longest))
    for y, row in enumerate(heat_map.texts):
        for x, text in enumerate(row):
            axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=size)
    axes.set_xticks([tick + 0.5 for tick in heat_map.x.ticks], heat_map.x.labels)
    axes.set_yticks([tick + 0.5 for tick in heat_map.y.ticks], heat_map.y.labels)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.set(xlabel=heat_map.x.label, ylabel=heat_map.y.label, facecolor="whitesmoke", title=heat_map.title)
