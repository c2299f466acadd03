"""Draws a whole chart with matplotlib, and writes it as png, svg or pdf: the layout of its panels, and its legend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil
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
from prunesweep.orchestrator.figures.panels import CHARACTER, draw, has_upright_labels
from prunesweep.orchestrator.figures.style import looks
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
    "svg.hashsalt": "prunesweep",  # identifiers that do not change
    "pdf.fonttype": 42,  # fonts that publishers take
}
"""For a figure that is printed as large as it is, or up to a tenth smaller."""

PANELS = {1: (3.7, 2.9), 2: (2.9, 2.6), 3: (2.5, 2.4)}
"""Width and height in inches, by the number of panels beside each other."""

CELL = (1.0, 0.55)
"""The size of a cell of a heat map in inches."""

WIDEST = 9.0

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
    """Lay the figure out, and round places: the layout's last bits depend on addresses in memory."""
    made.draw_without_rendering()
    made.set_layout_engine("none")
    for axes in made.axes:
        axes.set_position(tuple(round(side, 6) for side in axes.get_position().bounds))


def figure(chart: Chart) -> Figure:
    """The panels, at most three beside each other, with one legend to their right.

    Fonts are those of the caller's matplotlib; `save` sets them.
    """
    across, (width, height) = _layout(chart.panels)
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
    drawn = [draw(made, grid[number], panel, looks(chart), width) for number, panel in enumerate(panels)]
    if entries:
        _add_legend(made, drawn, entries, columns, (share, 1 - above / made.get_figheight()))
    return made


# --- layout


def _layout(panels: Sequence[Panel | HeatMap]) -> tuple[int, tuple[float, float]]:
    """The number of panels beside each other, and the size of each in inches."""
    for across in range(min(len(panels), max(PANELS)), 0, -1):
        sizes = [_size(panel, PANELS[across]) for panel in panels]
        width, height = (max(sides) for sides in zip(*sizes, strict=True))
        if width * across <= WIDEST:
            break
    return across, (width, height)


def _labelled_once(panels: Sequence[Panel | HeatMap], across: int) -> Iterator[Panel | HeatMap]:
    """The panels, without the labels of y axes that the panel to the left has too."""
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
        height += CHARACTER * max(map(len, panel.x.labels)) if has_upright_labels(panel.x, width) else 0.0
    return width, height * (1.3 if panel.below else 1.0)


# --- legend


def _entries(chart: Chart) -> list[str]:
    """The legend's: marks, levels and fronts above all other series; a single set of bars needs no legend."""
    marked = [panel.marked for panel in chart.panels if isinstance(panel, Panel) and panel.marks]
    entries = [*dict.fromkeys(marked), *looks(chart)]
    return [] if entries == chart.names_of("bars")[:1] else entries


def _add_legend(
    made: Figure, drawn: Sequence[Axes], entries: Sequence[str], columns: int, corner: tuple[float, float]
) -> None:
    """One for all panels; `corner` is its upper left one."""
    handles: dict[str, Artist] = {}
    for axes in drawn:
        artists, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, artists, strict=True))
    made.legend(
        [handles[name] for name in entries],
        entries,
        loc="upper left",
        bbox_to_anchor=corner,
        ncols=columns,
        frameon=False,
    )
