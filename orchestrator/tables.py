"""Which method is best, at which sparsity, for which training budget: the comparison as a value, then as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table as Grid
from rich.text import Text

from orchestrator import columns
from orchestrator.results import AXES, SUBJECT, Cell, budgets, cells, check_column, separating, spelled, with_metric
from workers.errors import UserError, unknown

ROWS = ("method", "retrain_schedule")
PIPE_WIDTH = 120
LATEX = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
)

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Table:
    """A comparison. `cells` are by row and column, keys under `row_names` and `column_names`; one may be missing.

    `controls` have no target sparsity: the dense networks. `budgets` says how total epochs are written, `scale` how
    the metric is.
    """

    title: str
    metric: str
    row_names: tuple[str, ...]
    column_names: tuple[str, ...]
    rows: tuple[Key, ...]
    columns: tuple[Key, ...]
    cells: Mapping[tuple[Key, Key], Cell]
    controls: tuple[Cell, ...]
    budgets: Mapping[int, str]
    scale: columns.Scale
    notes: tuple[str, ...]


def comparison(frame: pd.DataFrame, metric: str = "test_accuracy", by: Sequence[str] | None = None) -> Table:
    """Means over seeds, with the best of every sparsity and budget marked.

    Rows are `by` (default: method and retraining schedule), then every other setting that still varies within a cell,
    so that different settings are never averaged. Columns are target sparsity and, below it, total epochs, as long as
    at most a third of the table stays empty; otherwise (methods with unlike budgets) each budget has rows of its own.
    Budgets are compared in total, pretraining included: that is what a result costs. Raises `UserError` for an unknown
    metric or column, and when no trial has the metric.
    """
    for name in by or ():
        check_column(frame, name)
    trials = with_metric(frame, metric)
    names, axes = _names(trials, metric, by)
    means = cells(trials, metric, [*names, *axes])
    sparse = [cell for cell in means if "target_sparsity" not in axes or cell.settings["target_sparsity"] is not None]
    row_names, column_names = _layout(sparse, names, axes)
    placed = {(cell.at(row_names), cell.at(column_names)): cell for cell in sparse}
    labels = budgets(trials)
    return Table(
        title=_title(trials, metric),
        metric=metric,
        row_names=row_names,
        column_names=column_names,
        rows=_in_order(row for row, _ in placed),
        columns=_in_order(column for _, column in placed),
        cells=placed,
        controls=tuple(cell for cell in means if cell not in sparse),
        budgets=labels,
        scale=columns.scale(metric).suited([cell.std for cell in means if cell.std is not None]),
        notes=tuple(_notes(trials, [*names, *axes], labels)),
    )


def _names(trials: pd.DataFrame, metric: str, by: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The settings that tell the rows apart, and those that the columns may show."""
    axes = [name for name in AXES if name not in (by or ()) and _given(trials, name)]
    leading = [*_several(trials), *(by or [name for name in ROWS if _given(trials, name)])]
    settings = [name for name in trials if name not in (metric, *columns.IDENTITY, *columns.MEASUREMENTS)]
    names = separating(trials, list(dict.fromkeys([*leading, *axes])), settings)
    return [name for name in names if name not in axes], axes


def _given(trials: pd.DataFrame, name: str) -> bool:
    return bool(trials[name].notna().any())


def _several(trials: pd.DataFrame) -> list[str]:
    return [name for name in SUBJECT if trials[name].nunique(dropna=False) > 1]


def _layout(cells: Sequence[Cell], names: list[str], axes: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of rows and columns: budgets in the header, or with the rows where the header would make many gaps."""
    wide = (tuple(names), tuple(axes))
    if len(axes) < 2:
        return wide
    subject = [name for name in names if name in SUBJECT]
    stacked = ((*subject, axes[1], *(name for name in names if name not in subject)), (axes[0],))
    gaps = 3 * len(cells) < 2 * _size(cells, *wide)
    return stacked if gaps and _size(cells, *stacked) < _size(cells, *wide) else wide


def _size(cells: Sequence[Cell], row_names: Key, column_names: Key) -> int:
    return len({cell.at(row_names) for cell in cells}) * len({cell.at(column_names) for cell in cells})


def _in_order(keys: Iterable[Key]) -> tuple[Key, ...]:
    """By the first name, then the next: missing first, numbers by size, texts as they first appear."""
    found = list(dict.fromkeys(keys))
    ranks = [{value: _rank(value, i) for i, value in enumerate(dict.fromkeys(values))} for values in zip(*found)]
    return tuple(sorted(found, key=lambda key: [rank[value] for rank, value in zip(ranks, key, strict=True)]))


def _rank(value: Any, position: int) -> float:
    if value is None:
        return -inf
    return float(value) if isinstance(value, int | float) else position


def _title(trials: pd.DataFrame, metric: str) -> str:
    subject = ", ".join(str(trials[name].iloc[0]) for name in SUBJECT if name not in _several(trials))
    unit = columns.scale(metric).name
    what = metric.replace("_", " ") + (f" in {unit}" if unit else "")
    return f"{subject}{': ' if subject else ''}{what}, mean ± standard deviation (seeds)"


def _notes(trials: pd.DataFrame, names: Sequence[str], labels: Mapping[int, str]) -> Iterator[str]:
    if any("+" in label for label in labels.values()):
        yield "epochs a+b: pretraining + retraining"
    if bool(trials.duplicated(list(dict.fromkeys([*names, "seed"]))).any()):
        yield "caution: some means are over trials that differ in a setting without a column; select some with --where"


# --- text


def render(table: Table, format: str = "table") -> RenderableType:
    """As `table` (for a rich console, as wide as it is), or a string: `csv`, `markdown`, `latex` or `json`.

    CSV and JSON have a record for each cell, in the metric's own unit; the others are for people.
    """
    formats: dict[str, Callable[[Table], RenderableType]] = {
        "table": Terminal,
        "csv": lambda table: pd.DataFrame(_records(table)).to_csv(index=False).rstrip("\n"),
        "markdown": _markdown,
        "latex": _latex,
        "json": lambda table: json.dumps(_records(table), indent=1),
    }
    if format not in formats:
        raise UserError(unknown("format", format, formats))
    return formats[format](table)


@dataclass(frozen=True)
class Terminal:
    """A table on a rich console: several grids below each other when one would be too wide."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Marks read without colour and without bold."""
        # A pipe has no width; rich takes it for 80 characters.
        width = options.max_width if console.is_terminal else max(PIPE_WIDTH, options.max_width)
        above = [Text(self.table.title, style="bold"), *map(Text, _controls(self.table)), Text()]
        grids = [part for across in _fitting(self.table, width) for part in (_grid(self.table, across), Text())]
        below = map(Text, _footer(self.table, "**", "*"))
        yield from console.render(Group(*above, *grids, *below), options.update(width=width))


def _grid(table: Table, across: Sequence[Key]) -> Grid:
    grid = Grid(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0, header_style="")
    for name in table.row_names:
        grid.add_column("\n".join(f"{word} " for word in name.split("_")), vertical="bottom", no_wrap=True)
    for key, before in zip(across, [(), *across], strict=False):
        heads = _column_labels(table, key)
        shown = ["", *heads[1:]] if len(heads) > 1 and key[:1] == before[:1] else heads
        grid.add_column("\n".join(shown), min_width=_cell_width(table), vertical="bottom", no_wrap=True)
    for starts_block, labels, cells in _lines(table, across):
        if starts_block:
            grid.add_section()
        grid.add_row(*(Text(f"{label} ") for label in labels), *(_styled(table, cell) for cell in cells))
    return grid


def _styled(table: Table, cell: Cell | None) -> Text:
    if cell is None:
        return Text("-")
    mark = "**" if cell.best else "*" if cell.near else ""
    return Text(_text(table, cell).rjust(_text_width(table)) + mark, style="bold" if cell.best else "")


def _fitting(table: Table, width: int) -> list[list[Key]]:
    """The columns in pieces that fit the width, each with whole sparsities if that is possible."""
    labels = zip(*(labels for _, labels, _ in _lines(table, ())), strict=True)
    heads = [[*name.split("_"), *column] for name, column in zip(table.row_names, labels, strict=False)]
    room = (width - sum(2 + max(map(len, head)) for head in heads) + 1) // (1 + _cell_width(table))
    groups = [list(group) for _, group in groupby(table.columns, key=lambda key: key[:1])]
    if max(map(len, groups), default=0) > room:
        groups = [[column] for column in table.columns]
    pieces: list[list[Key]] = []
    for group in groups:
        if pieces and len(pieces[-1]) + len(group) <= room:
            pieces[-1] += group
        else:
            pieces.append(group)
    return pieces


def _text_width(table: Table) -> int:
    return max(len(_text(table, cell)) for cell in table.cells.values())


def _cell_width(table: Table) -> int:
    heads = [len(line) for key in table.columns for line in _column_labels(table, key)]
    return max(_text_width(table) + len("**"), *heads) if heads else 0


def _markdown(table: Table) -> str:
    heads = [*map(_words, table.row_names), *(", ".join(_column_labels(table, key)) for key in table.columns)]
    lines = [heads, ["---"] * len(table.row_names) + ["---:"] * len(table.columns)]
    for _, labels, cells in _lines(table, table.columns):
        lines.append([*labels, *(_emphasised(table, cell, "**{}**", "{}\\*") for cell in cells)])
    grid = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([table.title, *_controls(table), grid, *_footer(table, "**bold**", "\\*")])


def _latex(table: Table) -> str:
    heads, width = len(table.row_names), len(table.row_names) + len(table.columns)
    labels = [_column_labels(table, key) for key in table.columns]
    lines = [f"% {table.title}; needs \\usepackage{{booktabs}}"]
    lines += [rf"\begin{{tabular}}{{{'l' * heads}{'r' * len(labels)}}}", r"\toprule"]
    if len(table.column_names) > 1:
        lines += _latex_groups(heads, [first for first, *_ in labels])
    lines += [_latex_line([*map(_words, table.row_names), *(label[-1] for label in labels)]), r"\midrule"]
    for control in _controls(table):
        lines += [rf"\multicolumn{{{width}}}{{l}}{{{control.translate(LATEX)}}} \\", r"\midrule"]
    for starts_block, row, across in _lines(table, table.columns):
        lines += [r"\addlinespace"] if starts_block else []
        lines.append(_latex_line([*row, *(_emphasised(table, cell, r"\textbf{%s}", "%s*") for cell in across)]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *(f"% {line}" for line in _footer(table, "bold", "*"))])
