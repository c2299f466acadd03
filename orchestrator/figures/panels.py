"""Draws one panel of a chart with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import FixedLocator, NullLocator

from prunesweep.orchestrator.figures.charts import Axis, HeatMap, Panel, Series
from prunesweep.orchestrator.figures.style import MOST_BANDS, TINT, Look, colour

CHARACTER = 0.06
"""Width in inches, about; letters are about twice as high."""

MOST_MARKERS = 10
"""On a line with more points than about so many, only some get a marker."""

Looks = Mapping[str, Look]


def draw(made: Figure, place: SubplotSpec, panel: Panel | HeatMap, looks: Looks, width: float) -> Axes:
    """Add a panel to the figure, `width` inches wide; returns its axes, the upper ones of two."""
    if isinstance(panel, HeatMap):
        axes = made.add_subplot(place)
        _draw_cells(axes, panel)
    elif panel.below is None:
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
    return axes


def has_upright_labels(axis: Axis, width: float) -> bool:
    """Whether the labels of categories would overlap side by side in a panel of that width."""
    return CHARACTER * (max(map(len, axis.labels)) + 1) * len(axis.labels) > width - 0.6


def _draw_panel(axes: Axes, panel: Panel, looks: Looks, width: float) -> None:
    for mark in panel.marks:
        axes.axvline(mark, color="gray", linewidth=0.6, linestyle=(0, (1, 2)), label=panel.marked, zorder=1)
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.set_axisbelow(True)
    _set_axis(axes, "x", panel.x, width)
    _set_axis(axes, "y", panel.y)
    has_bands = sum(series.kind == "line" for series in panel.series) <= MOST_BANDS
    bars = [series.name for series in panel.series if series.kind == "bars"]
    for series in panel.series:
        look = looks[series.name]
        if series.kind == "level":
            _draw_level(axes, series, look)
        elif series.kind == "front":
            axes.plot(series.x, series.y, color=look.colour, linestyle=look.dash, label=series.name, lw=1.0, zorder=1)
        elif series.kind == "bars":
            _draw_bars(axes, series, look, bars)
        else:
            has_band = has_bands and series.kind == "line" and len(series.x) > 1
            _draw_points(axes, series, look, has_band, panel.y)
    if panel.x.scale == "density":
        _set_density_limits(axes, [x for series in panel.series for x in series.x])


def _set_axis(axes: Axes, side: str, axis: Axis, width: float = 0.0) -> None:
    """Scale, label and ticks of one side; `width` is that of a panel with categories."""
    mpl_axis = axes.xaxis if side == "x" else axes.yaxis
    mpl_axis.set_label_text(axis.label)
    if axis.scale in ("log", "density"):
        axes.set(**{f"{side}scale": "log"})
    if axis.ticks:
        mpl_axis.set_major_locator(FixedLocator(list(axis.ticks)))
        mpl_axis.set_minor_locator(NullLocator())
        mpl_axis.set_ticks(list(axis.ticks), labels=list(axis.labels))
    if axis.scale == "category":
        mpl_axis.set_tick_params(rotation=90 if has_upright_labels(axis, width) else 0)


def _set_density_limits(axes: Axes, densities: Sequence[float]) -> None:
    """From the highest density at the left to the lowest, with a margin."""
    low, high = min(densities), max(densities)
    margin = (high / low) ** 0.05 if high > low else 1.5
    axes.set_xlim(high * margin, low / margin)


def _draw_points(axes: Axes, series: Series, look: Look, has_band: bool, y: Axis) -> None:
    """A line, or points where it is none; its deviations as a band, or as bars."""
    means = np.array(series.y, dtype=float)
    deviations = np.array([deviation or 0.0 for deviation in series.deviation], dtype=float)
    # On a logarithmic axis a deviation beyond the mean has no end; it is drawn to half of the mean.
    down = np.minimum(deviations, means / 2) if y.scale == "log" else deviations
    if has_band:
        axes.fill_between(series.x, means - down, means + deviations, color=look.colour, alpha=0.14, linewidth=0)
    axes.errorbar(
        series.x,
        means,
        yerr=None if has_band else (down, deviations),
        label=series.name,
        color=look.colour,
        marker=look.marker,
        linestyle=look.dash if series.kind == "line" else "none",
        markersize=4.5,
        markeredgecolor="white",
        markeredgewidth=0.4,
        markevery=max(1, len(series.x) // MOST_MARKERS),
        linewidth=1.1,
        elinewidth=0.7,
        capsize=1.5,
    )


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


def _draw_level(axes: Axes, series: Series, look: Look) -> None:
    (mean,), deviation = series.y, series.deviation[0] or 0.0
    axes.axhline(mean, linewidth=1.1, label=series.name, color=look.colour, linestyle=look.dash)
    axes.axhspan(mean - deviation, mean + deviation, color=look.colour, alpha=0.12, linewidth=0)


def _draw_cells(axes: Axes, heat_map: HeatMap) -> None:
    """Tints of the categories' colours, below black text."""
    tints = [[1 - TINT * (1 - part) for part in to_rgb(colour(n))] for n in range(len(heat_map.categories))]
    values = np.array([[np.nan if v is None else v for v in row] for row in heat_map.values], dtype=float)
    highest = len(heat_map.categories) - 0.5
    axes.pcolormesh(values, cmap=ListedColormap(tints), vmin=-0.5, vmax=highest, edgecolors="white", linewidth=1)
    for y, row in enumerate(heat_map.texts):
        for x, text in enumerate(row):
            axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize="small")
    axes.set_xticks([tick + 0.5 for tick in heat_map.x.ticks], heat_map.x.labels)
    axes.set_yticks([tick + 0.5 for tick in heat_map.y.ticks], heat_map.y.labels)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.set(xlabel=heat_map.x.label, ylabel=heat_map.y.label, facecolor="whitesmoke")
