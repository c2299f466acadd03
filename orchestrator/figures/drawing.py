"""Draws a figure on paper: `orchestrator.figures.charts.Chart` with matplotlib, as png, svg or pdf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, NullLocator

from prunesweep.orchestrator.figures.charts import Axis, Chart, HeatMap, Panel, Series
from prunesweep.orchestrator.figures.style import COLOURS, Looks
from prunesweep.workers.errors import UserError

METADATA: Mapping[str, Mapping[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}
"""By suffix, what a file must not say for equal figures to be equal files."""

STYLE: Mapping[Any, Any] = {
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.linewidth": 0.6,
    "hatch.linewidth": 0.5,
    "svg.hashsalt": "prunesweep",  # identifiers that do not change
    "pdf.fonttype": 42,  # fonts that publishers take
}
"""For a figure that is printed as large as it is, or up to a tenth smaller."""

PANELS = {1: (3.7, 2.9), 2: (2.9, 2.6), 3: (2.5, 2.4)}
"""Width and height in inches, by the number of panels beside each other."""

CHARACTER = 0.06
"""Width in inches, about; letters are about twice as high."""

CELL = (1.0, 0.55)
"""The size of a cell of a heat map in inches."""

WIDEST = 9.0
BANDS = 8
"""More bands in a panel hide each other: deviations are bars then."""

MARKERS_SHOWN = 10
"""On a line with more points than about so many, only some get a marker."""

LINE = 0.16
"""Height of a line of text in inches, of the title and of the legend."""


def check_suffix(file: Path) -> None:
    """Raise `UserError` unless a figure can be written into such a file."""
    if file.suffix.lower() not in METADATA:
        raise UserError(f"{file}: a figure's file ends in {', '.join(METADATA)}")


def save(chart: Chart, file: Path) -> None:
    """Draw the chart in the format of the file's suffix; equal charts make equal files."""
    check_suffix(file)
    with mpl.rc_context(dict(STYLE)):
        made = figure(chart)
        _settle(made)
        made.savefig(file, dpi=200, metadata=dict(METADATA[file.suffix.lower()]))


def _settle(made: Figure) -> None:
    """Lay it out, and round: the solver of the layout leaves last bits that depend on addresses in memory."""
    made.draw_without_rendering()
    made.set_layout_engine("none")
    for axes in made.axes:
        axes.set_position(tuple(round(each, 6) for each in axes.get_position().bounds))


def figure(chart: Chart) -> Figure:
    """The panels, at most three beside each other, with one legend to their right.

    Fonts are those of the caller's matplotlib; `save` sets them.
    """
    across, (width, height) = _layout(chart.panels)
    looks = Looks(chart.names, _names(chart, "level"), width)
    down, entries = ceil(len(chart.panels) / across), _entries(chart)
    columns = ceil(len(entries) * LINE / (height * down))
    wide = width * across + columns * (0.6 + CHARACTER * max(map(len, entries), default=0))
    title = "\n".join(fill(line, int(wide / CHARACTER)) for line in chart.title.split("\n"))
    above = LINE * (1 + title.count("\n"))
    share = width * across / wide
    made = Figure(figsize=(wide, height * down + above), layout=ConstrainedLayoutEngine(rect=(0, 0, share, 1)))
    made.suptitle(title, fontsize="medium", x=0.01, horizontalalignment="left")
    grid = GridSpec(down, across, figure=made)
    panels = _labelled_once(chart.panels, across)
    drawn = [_draw(made, grid[number], panel, looks) for number, panel in enumerate(panels)]
    if entries:
        _add_legend(made, drawn, entries, columns, (share, 1 - above / made.get_figheight()))
    return made


# --- layout


def _layout(panels: Sequence[Panel | HeatMap]) -> tuple[int, tuple[float, float]]:
    """How many panels are beside each other, and the size of each in inches."""
    for across in range(min(len(panels), max(PANELS)), 0, -1):
        sizes = [_size(panel, PANELS[across]) for panel in panels]
        width, height = (max(each) for each in zip(*sizes, strict=True))
        if width * across <= WIDEST:
            break
    return across, (width, height)


def _labelled_once(panels: Sequence[Panel | HeatMap], across: int) -> Iterator[Panel | HeatMap]:
    """Without the labels of y axes that the panel to the left has too."""
    for number, panel in enumerate(panels):
        if number % across and panel.y.label == panels[number - 1].y.label:
            panel = replace(panel, y=replace(panel.y, label=""))
            if isinstance(panel, Panel) and panel.below:
                panel = replace(panel, below=replace(panel.below, y=replace(panel.below.y, label="")))
        yield panel


def _size(panel: Panel | HeatMap, usual: tuple[float, float]) -> tuple[float, float]:
    """A panel grows with its categories, and with labels that stand upright, so that all can be read."""
    if isinstance(panel, HeatMap):
        return 0.9 + CELL[0] * len(panel.x.labels), 0.8 + CELL[1] * len(panel.y.labels)
    width, height = usual
    if panel.x.scale == "category":
        width = max(width, 0.6 + 2.2 * CHARACTER * len(panel.x.labels))
        height += CHARACTER * max(map(len, panel.x.labels)) if _upright(panel.x, width) else 0.0
    return width, height * (1.3 if panel.below else 1.0)


def _upright(axis: Axis, width: float) -> bool:
    """Whether the labels of categories would overlap side by side."""
    return CHARACTER * (max(map(len, axis.labels)) + 1) * len(axis.labels) > width - 0.6


# --- panels


def _draw(made: Figure, place: SubplotSpec, panel: Panel | HeatMap, looks: Looks) -> Axes:
    if isinstance(panel, HeatMap):
        axes = made.add_subplot(place)
        _draw_cells(axes, panel)
    elif panel.below is None:
        axes = made.add_subplot(place)
        _draw_panel(axes, panel, looks)
    else:
        rows = place.subgridspec(2, 1, height_ratios=(3, 1))
        axes = made.add_subplot(rows[0])
        _draw_panel(axes, panel, looks)
        axes.tick_params(labelbottom=False)
        axes.set_xlabel("")
        _draw_panel(made.add_subplot(rows[1], sharex=axes), panel.below, looks)
    axes.set_title(panel.title)
    return axes


def _draw_panel(axes: Axes, panel: Panel, looks: Looks) -> None:
    for mark in panel.marks:
        axes.axvline(mark, color="gray", linewidth=0.6, linestyle=(0, (1, 2)), label=panel.marked, zorder=1)
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.set_axisbelow(True)
    _place(axes, "x", panel.x, looks.width)
    _place(axes, "y", panel.y)
    bands = sum(series.kind == "line" for series in panel.series) <= BANDS
    bars = [series.name for series in panel.series if series.kind == "bars"]
    for series in panel.series:
        if series.kind == "level":
            _draw_level(axes, series, looks)
        elif series.kind == "front":
            axes.plot(series.x, series.y, color="dimgray", linestyle="--", linewidth=1.0, label=series.name, zorder=1)
        elif series.kind == "bars":
            _draw_bars(axes, series, looks, bars)
        else:
            band = bands and series.kind == "line" and len(series.x) > 1
            _draw_points(axes, series, looks, band, panel.y)
    if panel.x.scale == "density":
        _widen(axes, [x for series in panel.series for x in series.x])


def _place(axes: Axes, side: str, axis: Axis, width: float = 0.0) -> None:
    """Scale, label and ticks of one side; `width` is that of a panel with categories."""
    of = axes.xaxis if side == "x" else axes.yaxis
    of.set_label_text(axis.label)
    if axis.scale in ("log", "density"):
        axes.set(**{f"{side}scale": "log"})
    if axis.ticks:
        of.set_major_locator(FixedLocator(list(axis.ticks)))
        of.set_minor_locator(NullLocator())
        of.set_ticks(list(axis.ticks), labels=list(axis.labels))
    if axis.scale == "category":
        of.set_tick_params(rotation=90 if _upright(axis, width) else 0)


def _widen(axes: Axes, densities: Sequence[float]) -> None:
    """From the highest density to the lowest, with a margin."""
    low, high = min(densities), max(densities)
    margin = (high / low) ** 0.05 if high > low else 1.5
    axes.set_xlim(high * margin, low / margin)


def _draw_points(axes: Axes, series: Series, looks: Looks, band: bool, y: Axis) -> None:
    """A line, or points where it is none; its deviations as a band, or as bars."""
    look = looks.line(series.name)
    means = np.array(series.y, dtype=float)
    deviations = np.array([each or 0.0 for each in series.deviation], dtype=float)
    # On a logarithmic axis a deviation beyond the mean has no end; it is drawn to half of the mean.
    down = np.minimum(deviations, means / 2) if y.scale == "log" else deviations
    if band:
        axes.fill_between(series.x, means - down, means + deviations, color=look["color"], alpha=0.14, linewidth=0)
    axes.errorbar(
        series.x,
        means,
        yerr=None if band else (down, deviations),
        label=series.name,
        markersize=4.5,
        markeredgecolor="white",
        markeredgewidth=0.4,
        markevery=max(1, len(series.x) // MARKERS_SHOWN),
        linewidth=1.1,
        elinewidth=0.7,
        capsize=1.5,
        **(look if series.kind == "line" else {**look, "linestyle": "none"}),
    )


def _draw_bars(axes: Axes, series: Series, looks: Looks, beside: Sequence[str]) -> None:
    """`beside` are the names of all bars at one place."""
    width = 0.8 / len(beside)
    shift = width * (beside.index(series.name) - (len(beside) - 1) / 2)
    axes.bar(
        [x + shift for x in series.x],
        series.y,
        width,
        yerr=[each or 0.0 for each in series.deviation],
        label=series.name,
        alpha=0.75,
        edgecolor="white",
        linewidth=0.4,
        error_kw={"elinewidth": 0.8, "capsize": 2},
        **looks.bar(series.name),
    )


def _draw_level(axes: Axes, series: Series, looks: Looks) -> None:
    (mean,), deviation = series.y, series.deviation[0] or 0.0
    axes.axhline(mean, linewidth=1.1, label=series.name, **looks.level(series.name))
    axes.axhspan(mean - deviation, mean + deviation, color="dimgray", alpha=0.12, linewidth=0)


def _draw_cells(axes: Axes, map: HeatMap) -> None:
    """Tints of the categories' colours, below black text."""
    tints = [[1 - 0.35 * (1 - part) for part in to_rgb(colour)] for colour in COLOURS]
    colours = ListedColormap([tints[number % len(tints)] for number in range(len(map.categories))])
    values = np.array([[np.nan if v is None else v for v in row] for row in map.values], dtype=float)
    axes.pcolormesh(values, cmap=colours, vmin=-0.5, vmax=len(map.categories) - 0.5, edgecolors="white", linewidth=1)
    for y, row in enumerate(map.texts):
        for x, text in enumerate(row):
            axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize="small")
    axes.set_xticks([tick + 0.5 for tick in map.x.ticks], map.x.labels)
    axes.set_yticks([tick + 0.5 for tick in map.y.ticks], map.y.labels)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.set(xlabel=map.x.label, ylabel=map.y.label, facecolor="whitesmoke")


# --- legend


def _names(chart: Chart, kind: str) -> list[str]:
    """Of the series of a kind, each once."""
    found = [s.name for panel in chart.panels if isinstance(panel, Panel) for s in panel.series if s.kind == kind]
    return list(dict.fromkeys(found))


def _entries(chart: Chart) -> list[str]:
    """Of the legend: the series below all else; one set of bars needs none."""
    marked = [panel.marked for panel in chart.panels if isinstance(panel, Panel) and panel.marks]
    others = [*dict.fromkeys(marked), *_names(chart, "level"), *_names(chart, "front")]
    entries = [*others, *chart.names]
    return [] if entries == _names(chart, "bars")[:1] else entries


def _add_legend(
    made: Figure, drawn: Sequence[Axes], entries: Sequence[str], columns: int, corner: tuple[float, float]
) -> None:
    """One for all panels; `corner` is its upper left one."""
    handles: dict[str, Artist] = {}
    for axes in drawn:
        found, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, found, strict=True))
    made.legend(
        [handles[name] for name in entries],
        entries,
        loc="upper left",
        bbox_to_anchor=corner,
        ncols=columns,
        frameon=False,
    )
