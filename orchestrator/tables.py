"""Which method is best, at which sparsity, for which training budget: the comparison as a value, then as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product, zip_longest
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table as Grid
from rich.text import Text

from orchestrator import results
from orchestrator.columns import IDENTITY, MEASUREMENTS, Scale, scale
from orchestrator.results import AXES, SUBJECT, Cell, Key, spelled
from workers.errors import UserError, unknown

ROWS = ("method", "retrain_schedule")
FORMS: Mapping[str, str] = {"target_sparsity": "sparsity {}", "total_epochs": "{} epochs"}
PIPE_WIDTH = 120
LATEX = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
)


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
    scale: Scale
    notes: tuple[str, ...]


def comparison(frame: pd.DataFrame, metric: str = "test_accuracy", by: Sequence[str] | None = None) -> Table:
    """Means over seeds, with the best of every sparsity and budget marked.

    Rows are `by` (default: method and retraining schedule), after dataset and model if there are several, before every
    other setting that still varies within a cell: different settings are never averaged. Columns are target sparsity
    and, below it, total epochs; where that would leave over a third of the table empty (methods with unlike budgets),
    each budget has rows of its own. Budgets are totals, pretraining included: what a result costs. Raises `UserError`
    for an unknown metric or column, and when no trial has the metric.
    """
    trials = results.with_metric(frame, metric)
    names, axes = _names(trials, metric, by)
    means = results.cells(trials, metric, [*names, *axes])
    controls = [cell for cell in means if "target_sparsity" in axes and cell.settings["target_sparsity"] is None]
    sparse = [cell for cell in means if cell not in controls]
    row_names, column_names = _layout(sparse, names, axes)
    placed = {(cell.at(row_names), cell.at(column_names)): cell for cell in sparse}
    labels = results.budgets(trials)
    return Table(
        title=_title(trials, metric),
        metric=metric,
        row_names=row_names,
        column_names=column_names,
        rows=results.in_order(row for row, _ in placed),
        columns=results.in_order(column for _, column in placed),
        cells=placed,
        controls=tuple(controls),
        budgets=labels,
        scale=scale(metric).suited([cell.std for cell in means if cell.std is not None]),
        notes=tuple(_notes(trials, [*names, *axes], labels)),
    )


def _names(trials: pd.DataFrame, metric: str, by: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The settings that tell the rows apart, and those that the columns may show."""
    given = set(trials.columns[trials.notna().any()])
    axes = [name for name in AXES if name in given and name not in (by or ())]
    leading = [*_several(trials), *(by or [name for name in ROWS if name in given])]
    settings = [name for name in trials.columns if name not in (metric, *IDENTITY, *MEASUREMENTS)]
    names = results.separating(trials, list(dict.fromkeys([*leading, *axes])), settings)
    return [name for name in names if name not in axes], axes


def _several(trials: pd.DataFrame) -> list[str]:
    return [name for name in SUBJECT if trials[name].nunique(dropna=False) > 1]


def _layout(found: Sequence[Cell], names: list[str], axes: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of rows and columns: budgets in the header, or with the rows where the header would make many gaps."""
    wide = (tuple(names), tuple(axes))
    if len(axes) < 2 or 3 * len(found) >= 2 * _size(found, *wide):
        return wide
    subject = [name for name in names if name in SUBJECT]
    stacked = ((*subject, axes[1], *(name for name in names if name not in subject)), (axes[0],))
    return stacked if _size(found, *stacked) < _size(found, *wide) else wide


def _size(found: Sequence[Cell], row_names: Key, column_names: Key) -> int:
    return len({cell.at(row_names) for cell in found}) * len({cell.at(column_names) for cell in found})


def _title(trials: pd.DataFrame, metric: str) -> str:
    subject = ", ".join(str(trials[name].iloc[0]) for name in SUBJECT if name not in _several(trials))
    what = " in ".join(filter(None, [_words(metric), scale(metric).name]))
    return f"{subject}{': ' if subject else ''}{what}, mean ± standard deviation (seeds)"


def _notes(trials: pd.DataFrame, names: Sequence[str], labels: Mapping[int, str]) -> Iterator[str]:
    if any("+" in label for label in labels.values()):
        yield "epochs a+b: pretraining + retraining"
    if results.seeds_repeat(trials, names):
        yield "caution: some means are over trials of one seed, which differ in a setting that has no column"


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
    """A table on a rich console: several grids below each other when one would be too wide. Marks need no colour."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
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
    text_width, cell_width = _text_width(table), _cell_width(table)
    for key, before in zip(across, [(), *across], strict=False):
        heads = _column_labels(table, key)
        shown = ["", *heads[1:]] if len(heads) > 1 and key[:1] == before[:1] else heads
        grid.add_column("\n".join(shown), min_width=cell_width, vertical="bottom", no_wrap=True)
    for starts_block, labels, row in _lines(table, across):
        if starts_block:
            grid.add_section()
        grid.add_row(*(Text(f"{label} ") for label in labels), *(_styled(table, cell, text_width) for cell in row))
    return grid


def _styled(table: Table, cell: Cell | None, width: int) -> Text:
    if cell is None:
        return Text("-")
    return Text(_emphasised(cell, _text(table, cell).rjust(width), "{}**", "{}*"), style="bold" if cell.best else "")


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
    return max(_text_width(table) + 2, *(len(line) for key in table.columns for line in _column_labels(table, key)))


def _markdown(table: Table) -> str:
    heads = [*map(_words, table.row_names), *(", ".join(_column_labels(table, key)) for key in table.columns)]
    lines = [heads, ["---"] * len(table.row_names) + ["---:"] * len(table.columns)]
    for _, labels, across in _lines(table, table.columns):
        lines.append([*labels, *(_emphasised(cell, _text(table, cell), "**{}**", r"{}\*") for cell in across)])
    grid = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([table.title, *_controls(table), grid, *_footer(table, "**bold**", r"\*")])


def _latex(table: Table) -> str:
    labels = [_column_labels(table, key) for key in table.columns]
    names, width = [_words(name) for name in table.row_names], len(table.row_names) + len(labels)
    lines = [f"% {table.title}; needs \\usepackage{{booktabs}}"]
    lines += [rf"\begin{{tabular}}{{{'l' * len(names)}{'r' * len(labels)}}}", r"\toprule"]
    if len(table.column_names) > 1:
        lines += _latex_groups(len(names), [first for first, *_ in labels])
    lines += [_latex_line([*names, *(label[-1] for label in labels)]), r"\midrule"]
    for control in _controls(table):
        lines += [rf"\multicolumn{{{width}}}{{l}}{{{control.translate(LATEX)}}} \\", r"\midrule"]
    for starts_block, row, across in _lines(table, table.columns):
        lines += [r"\addlinespace"] * starts_block
        lines.append(_latex_line([*row, *(_text(table, cell) for cell in across)], [None] * len(row) + across))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *(f"% {line}" for line in _footer(table, "bold", "*"))])


def _latex_groups(column: int, firsts: Sequence[str]) -> list[str]:
    """The upper of two header lines, and a rule below each group; `column` are to their left."""
    heads, rules = [""] * column, []
    for label, group in groupby(firsts):
        size = len(list(group))
        heads.append(rf"\multicolumn{{{size}}}{{c}}{{{label.translate(LATEX)}}}")
        rules.append(rf"\cmidrule(lr){{{column + 1}-{column + size}}}")
        column += size
    return [" & ".join(heads) + r" \\", " ".join(rules)]


def _latex_line(texts: Sequence[str], cells: Sequence[Cell | None] = ()) -> str:
    escaped = [text.translate(LATEX) for text in texts]
    pairs = zip_longest(cells, escaped)
    return " & ".join(_emphasised(cell, text, r"\textbf{{{}}}", "{}*") for cell, text in pairs) + r" \\"


def _lines(table: Table, across: Sequence[Key]) -> Iterator[tuple[bool, list[str], list[Cell | None]]]:
    """Of each row: whether a block of other rivals starts, its labels without those of the row above, its cells."""
    before: Key = ()
    for row in table.rows:
        same = next((i for i, (new, old) in enumerate(zip(row, before, strict=False)) if new != old), 0)
        starts_block = bool(before) and {*table.row_names[: same + 1]} <= {*SUBJECT, *AXES}
        labels = [_label(table, name, value) for name, value in zip(table.row_names, row, strict=True)]
        yield starts_block, [""] * same + labels[same:], [table.cells.get((row, key)) for key in across]
        before = row


def _column_labels(table: Table, key: Key) -> list[str]:
    labels = [FORMS[n].format(_label(table, n, value)) for n, value in zip(table.column_names, key, strict=True)]
    return labels or [_words(table.metric)]


def _label(table: Table, name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "target_sparsity":
        return f"{100 * value:.6g}%"
    if name == "total_epochs":
        return table.budgets[value]
    return f"{value:g}" if isinstance(value, float) else spelled(value)


def _controls(table: Table) -> Iterator[str]:
    """`dense, 20 epochs: 96.64 ± 0.12 (3)`."""
    for cell in table.controls:
        given = [(name, value) for name, value in cell.settings.items() if value is not None]
        said = [v if isinstance(v, str) else FORMS.get(n, f"{_words(n)} {{}}").format(v) for n, v in given]
        yield f"{', '.join(said)}: {_text(table, cell)}"


def _footer(table: Table, best: str, near: str) -> list[str]:
    legend = f"{best}: best at its sparsity and budget; {near}: within one standard deviation of the best"
    return [*([legend] if any(cell.best for cell in table.cells.values()) else []), *table.notes]


def _text(table: Table, cell: Cell | None) -> str:
    return table.scale.text(cell.mean, cell.std, cell.n) if cell else "-"


def _emphasised(cell: Cell | None, text: str, best: str, near: str) -> str:
    return best.format(text) if cell and cell.best else near.format(text) if cell and cell.near else text


def _words(name: str) -> str:
    return name.replace("_", " ")


def _records(table: Table) -> list[dict[str, Any]]:
    found = [table.cells[key] for key in product(table.rows, table.columns) if key in table.cells]
    return [{"metric": table.metric, **c.settings, **c.statistics} for c in (*table.controls, *found)]
