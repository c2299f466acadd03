"""A comparison as a figure: the metric over target sparsity, a line for each row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, log
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from orchestrator.best import TARGET
from orchestrator.rendering import FORMS, chosen_by, label
from orchestrator.results import SUBJECT, Cell, Key
from orchestrator.tables import Table, words
from workers.errors import UserError

METADATA: Mapping[str, Mapping[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}
"""By suffix, what a file must not say for equal figures to be equal files."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
"""Okabe and Ito's, without the yellow that does not show on white: colour-blind readers tell them apart."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "d", "p")
"""As many as have no common factor with the colours: 77 lines differ. Without colour the first eleven do."""

DASHES = ("-", "--", "-.", ":")
"""A line has the next where its colour comes again; the dense networks take them from the end."""

PANEL = (5.2, 4.0)
"""Width and height in inches."""

PANELS_ACROSS = 3
LEGEND_LINES = 22
TICK_GAP = 0.07
"""Labels of targets that are nearer to each other than this share of the axis would overlap."""


@dataclass(frozen=True)
class Line:
    """The cells of a row from low to high sparsity, and the dataset and model that it belongs to."""

    subject: Key
    name: str
    cells: tuple[Cell, ...]


def check_suffix(file: Path) -> None:
    """Raise `UserError` unless a figure can be written into such a file."""
    if file.suffix.lower() not in METADATA:
        raise UserError(f"{file}: a figure's file ends in {', '.join(METADATA)}")


def save(figure: Figure, file: Path) -> None:
    """Write the figure in the format of the file's suffix; equal figures make equal files."""
    check_suffix(file)
    # Identifiers that do not change, and fonts that publishers take.
    with mpl.rc_context({"svg.hashsalt": "prunesweep", "pdf.fonttype": 42}):
        figure.savefig(file, dpi=200, metadata=dict(METADATA[file.suffix.lower()]))


def figure(table: Table) -> Figure:
    """A panel for each dataset and model; in it a line for each row, with standard deviations as bars.

    A row that has several budgets at one sparsity is a line for each of them. The dense networks are horizontal lines.
    The axis is the logarithm of the density, because the sparsities that matter bunch up near 1. Raises `UserError`
    when nothing has a target sparsity.
    """
    found = list(lines(table))
    if not found:
        raise UserError("nothing to plot: no trial has a target sparsity")
    subjects = list(dict.fromkeys(line.subject for line in found))
    across, down = min(len(subjects), PANELS_ACROSS), ceil(len(subjects) / PANELS_ACROSS)
    names = list(dict.fromkeys(line.name for line in found))
    made = Figure(figsize=(PANEL[0] * across + _legend_width(names), PANEL[1] * down), layout="constrained")
    made.suptitle("\n".join(_title(table)), fontsize="medium", x=0.01, horizontalalignment="left")
    for position, subject in enumerate(subjects, 1):
        axes = made.add_subplot(down, across, position)
        _draw(axes, table, [line for line in found if line.subject == subject], names)
        _draw_controls(axes, table, subject)
        axes.set_title(", ".join(map(str, subject)), fontsize="medium")
    _add_legend(made, made.axes[across - 1])
    return made


def lines(table: Table) -> Iterator[Line]:
    """In the table's order; what has no target sparsity is on none."""
    placed = [table.cells[key] for key in product(table.rows, table.columns) if key in table.cells]
    cells = [cell for cell in placed if cell.settings.get(TARGET) is not None]
    names, rest = ([name for name in found if name != TARGET] for found in (table.row_names, table.column_names))
    for row in _grouped(cells, names):
        once = len({cell.settings[TARGET] for cell in row}) == len(row)
        for same in _grouped(row, names if once else [*names, *rest]):
            told = [*names, *(name for name in rest if len({cell.settings[name] for cell in same}) == 1)]
            ordered = sorted(same, key=lambda cell: float(cell.settings[TARGET]))
            yield Line(_subject(table, same[0]), _name(table, same[0], told), tuple(ordered))


def _grouped(cells: Iterable[Cell], names: Sequence[str]) -> list[list[Cell]]:
    groups: dict[Key, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.at(names)].append(cell)
    return list(groups.values())


def _subject(table: Table, cell: Cell) -> Key:
    return cell.at(name for name in SUBJECT if name in table.row_names)


def _name(table: Table, cell: Cell, names: Iterable[str]) -> str:
    """`imp, FT, phases 2, 20+1 epochs`: the budget last, where a table may have it first."""
    ordered = sorted((name for name in names if name not in SUBJECT), key=lambda name: name == "total_epochs")
    given = [name for name in ordered if cell.settings[name] is not None]
    return ", ".join(_said(table, name, cell.settings[name]) for name in given) or "none"


def _said(table: Table, name: str, value: Any) -> str:
    return value if isinstance(value, str) else FORMS.get(name, f"{words(name)} {{}}").format(label(table, name, value))


def _title(table: Table) -> Iterator[str]:
    yield table.title.removesuffix(" (seeds)")
    if table.best_by:
        yield chosen_by(table)


def _draw(axes: Axes, table: Table, found: Sequence[Line], names: Sequence[str]) -> None:
    """`names` are those of all panels: a line looks the same in each."""
    for line in found:
        number = names.index(line.name)
        axes.errorbar(
            [1 - cell.settings[TARGET] for cell in line.cells],
            [cell.mean * table.scale.factor for cell in line.cells],
            yerr=[(cell.std or 0.0) * table.scale.factor for cell in line.cells],
            label=line.name,
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            linestyle=DASHES[number // len(COLOURS) % len(DASHES)],
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.5,
            linewidth=1.2,
            elinewidth=0.8,
            capsize=2,
        )
    _scale_axis(axes, sorted({1 - cell.settings[TARGET] for line in found for cell in line.cells}, reverse=True))
    axes.set_ylabel(" in ".join(filter(None, [words(table.metric), table.scale.name])))
    axes.grid(alpha=0.3)


def _scale_axis(axes: Axes, densities: Sequence[float]) -> None:
    """Logarithmic in density, growing in sparsity; labels at the targets where there is room."""
    span = log(densities[0] / densities[-1]) or 1.0
    shown = [densities[0]]
    for density in densities[1:]:
        if log(shown[-1] / density) >= TICK_GAP * span:
            shown.append(density)
    margin = (densities[0] / densities[-1]) ** 0.05 if len(densities) > 1 else 1.5
    axes.set_xlim(densities[0] * margin, densities[-1] / margin)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda density, _: f"{100 * (1 - density):.6g}%"))
    axes.set_xlabel("sparsity")


def _draw_controls(axes: Axes, table: Table, subject: Key) -> None:
    controls = [cell for cell in table.controls if _subject(table, cell) == subject]
    for number, cell in enumerate(controls):
        mean, deviation = cell.mean * table.scale.factor, (cell.std or 0.0) * table.scale.factor
        name = _name(table, cell, [*(n for n in table.row_names if n != "total_epochs"), "total_epochs"])
        axes.axhline(mean, color="dimgray", linestyle=DASHES[-1 - number % len(DASHES)], linewidth=1.2, label=name)
        axes.axhspan(mean - deviation, mean + deviation, color="dimgray", alpha=0.12, linewidth=0)


def _add_legend(made: Figure, beside: Axes) -> None:
    """One for all panels, in the table's order below the controls, at the right of the last panel of the first row."""
    handles: dict[str, Artist] = {}
    for axes in made.axes:
        found, names = axes.get_legend_handles_labels()
        handles |= dict(zip(names, found, strict=True))
    beside.legend(
        list(handles.values()),
        list(handles),
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        borderaxespad=0,
        ncols=ceil(len(handles) / LEGEND_LINES),
        fontsize="small",
        frameon=False,
    )


def _legend_width(names: Sequence[str]) -> float:
    """In inches, about."""
    return ceil(len(names) / LEGEND_LINES) * (0.7 + 0.065 * max(map(len, names)))
