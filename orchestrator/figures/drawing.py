"""Draws a whole chart with matplotlib, and writes it as png, svg or pdf: the layout of its panels, and its legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, inf
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine

from prunesweep.orchestrator.figures.charts import Chart, HeatMap, Panel
from prunesweep.orchestrator.figures.line_labels import draw_labels, fit_labels, short_names
from prunesweep.orchestrator.figures.page import Page
from prunesweep.orchestrator.figures.panels import CHARACTER, draw, draw_heat_map, has_upright_labels
from prunesweep.orchestrator.figures.style import category_colours, looks
from prunesweep.workers.errors import UserError

METADATA: Mapping[str, Mapping[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}
"""By suffix, the metadata to leave out, so that equal figures are equal files."""

STYLE: Mapping[Any, Any] = {
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.linewidth": 0.6,
    "hatch.linewidth": 0.5,
    "text.parse_math": False,  # a dollar in a name is one
    "svg.hashsalt": "prunesweep",  # identifiers that do not change
    "pdf.fonttype": 42,  # fonts that publishers take
}
"""For a figure that is printed as large as it is."""

DPI = 300
"""Pixels to an inch, of a png; the widths of texts, by which all is laid out, are those of this size."""

LEAST_WIDTH = 1.6
"""In inches: as many panels are beside each other as have this width, at most three."""

MOST_ACROSS = 3

CELL = 0.55
"""The height of a heat map's cell in inches, and about the least width in which its text is read."""

ROW = 0.17
"""The height of a row of dots in inches."""

LABEL_GAP = 5.0
"""Pixels at least between two labels of an axis."""

LINE = 0.16
"""Height of a line of text in inches, of the title and of the legend."""


USUAL = Page()


def check_suffix(file: Path) -> None:
    """Raise `UserError` unless a figure can be written into such a file."""
    if file.suffix.lower() not in METADATA:
        raise UserError(f"{file}: a figure's file ends in {', '.join(METADATA)}")


def save(chart: Chart, file: Path, page: Page = USUAL) -> None:
    """Draw the chart in the format of the file's suffix; equal charts make equal files."""
    check_suffix(file)
    with mpl.rc_context():
        mpl.rcdefaults()  # a `matplotlibrc` of the current folder may be anybody's, and have LaTeX started
        mpl.rcParams.update(STYLE)
        made = figure(chart, page)
        _settle(made)
        made.savefig(file, dpi=DPI, metadata=dict(METADATA[file.suffix.lower()]))


def _settle(made: Figure) -> None:
    """Lay the figure out, and round places: the layout's last bits depend on addresses in memory."""
    for _ in range(2):  # once is not enough where labels are wide
        made.draw_without_rendering()
    made.set_layout_engine("none")
    for axes in made.axes:
        _thin_labels(axes)
        axes.set_position(tuple(round(side, 6) for side in axes.get_position().bounds))


def _thin_labels(axes: Axes) -> None:
    """Hide labels of the x axis that would touch the one to their right: the highest sparsities matter most."""
    room = inf
    for tick in sorted(axes.xaxis.get_major_ticks(), key=lambda tick: -tick.label1.get_window_extent().x0):
        extent = tick.label1.get_window_extent()
        if extent.x1 + LABEL_GAP > room:
            tick.label1.set_visible(False)
        elif extent.width:
            room = extent.x0


def figure(chart: Chart, page: Page = USUAL) -> Figure:
    """The panels, at most three beside each other; series are named at the ends of their lines, or in a legend below.

    Fonts are those of the caller's matplotlib; `save` sets them.
    """
    panels = [_with_limits(panel, page) for panel in chart.panels]
    across = max(1, min(len(panels), MOST_ACROSS, int(page.width / _least_width(panels))))
    width, down = page.width / across, ceil(len(panels) / across)
    heights = [max(_height(p, width) for p in panels[row * across : (row + 1) * across]) for row in range(down)]
    title = fill(page.title, int(page.width / CHARACTER))
    above = LINE * (1 + title.count("\n")) if title else 0.0
    made = Figure(figsize=(page.width, sum(heights) + above), dpi=DPI, layout=ConstrainedLayoutEngine())
    grid = GridSpec(down, across, figure=made, height_ratios=heights)
    drawn = [
        draw(made, grid[number], panel, looks(chart), width, _left_of(panels, number, across))
        if isinstance(panel, Panel)
        else _draw_map(made.add_subplot(grid[number]), panel, chart, width)
        for number, panel in enumerate(panels)
    ]
    if title:
        made.suptitle(title, fontsize="medium", x=0.01, horizontalalignment="left")
    names = short_names(chart)
    labels = [
        fit_labels(axes, panel, names, looks(chart), (width, heights[number // across]))
        for number, (axes, panel) in enumerate(zip(drawn, panels, strict=True))
        if isinstance(panel, Panel)
    ]
    if labels and all(labels):
        for axes, texts in zip(drawn, labels, strict=True):
            draw_labels(axes, texts)
    else:
        _add_legend(made, drawn, _entries(chart, panels), page.width)
    return made


# --- layout


def _with_limits(panel: Panel | HeatMap, page: Page) -> Panel | HeatMap:
    if page.limits is None or isinstance(panel, HeatMap):
        return panel
    return replace(panel, y=replace(panel.y, limits=page.limits))


def _least_width(panels: Sequence[Panel | HeatMap]) -> float:
    """The width in inches that each of the panels needs."""
    return max(map(_least_width_of, panels))


def _least_width_of(panel: Panel | HeatMap) -> float:
    if isinstance(panel, HeatMap):
        return 0.7 + CELL * len(panel.x.labels)
    if panel.is_turned:
        return 1.4 + CHARACTER * max(map(len, panel.x.labels))
    if panel.x.scale == "category":
        return max(LEAST_WIDTH, 0.5 + 2.2 * CHARACTER * len(panel.x.labels))
    return LEAST_WIDTH


def _height(panel: Panel | HeatMap, width: float) -> float:
    """In inches; a panel grows with its rows, and with labels that stand upright, so that all can be read."""
    if isinstance(panel, HeatMap):
        return 0.6 + CELL * len(panel.y.labels)
    if panel.is_turned:
        return 0.7 + ROW * len(panel.x.labels)
    height = min(2.4, max(1.7, 0.72 * width))
    if panel.x.scale == "category" and has_upright_labels(panel.x, width):
        height += CHARACTER * max(map(len, panel.x.labels))
    return height * (1.3 if panel.below else 1.0)


def _left_of(panels: Sequence[Panel | HeatMap], number: int, across: int) -> Panel | HeatMap | None:
    return panels[number - 1] if number % across else None


def _draw_map(axes: Axes, panel: HeatMap, chart: Chart, width: float) -> Axes:
    cell = (width - 0.7) / len(panel.x.labels)
    draw_heat_map(axes, panel, category_colours(panel.hues or panel.categories, chart), cell)
    return axes


# --- legend


def _entries(chart: Chart, panels: Sequence[Panel | HeatMap]) -> list[str]:
    """The legend's: marks, levels and fronts above all other series, as far as the axes do not name them."""
    shown = [panel for panel in panels if isinstance(panel, Panel)]
    marked = [panel.marked for panel in shown if panel.marks]
    named = {label for panel in shown if panel.x.scale == "category" for label in panel.x.labels}
    entries = [*dict.fromkeys(marked), *(name for name in looks(chart) if name not in named)]
    return [] if entries == chart.names_of("bars")[:1] else entries


def _add_legend(made: Figure, drawn: Sequence[Axes], entries: Sequence[str], width: float) -> None:
    """One below all panels, in as many columns as the width holds; the figure grows by it."""
    if not entries:
        return
    handles: dict[str, Artist] = {}
    for axes in drawn:
        artists, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, artists, strict=True))
    columns = max(1, min(len(entries), int(width / (0.5 + CHARACTER * max(map(len, entries))))))
    height = made.get_figheight()
    below = LINE * ceil(len(entries) / columns) + 0.08
    made.set_figheight(height + below)
    made.set_layout_engine(ConstrainedLayoutEngine(rect=(0, below / (height + below), 1, height / (height + below))))
    made.legend(
        [handles[name] for name in entries],
        entries,
        loc="lower center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=columns,
        frameon=False,
        borderpad=0.1,
        columnspacing=1.2,
        handlelength=2.2,
    )
