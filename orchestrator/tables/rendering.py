"""A comparison as text: for a terminal, a paper, a program."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, product, zip_longest
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table as Grid
from rich.text import Text

from prunesweep.orchestrator.results.aggregation import AXES, SUBJECT, Cell, Key
from prunesweep.orchestrator.results.best_settings import ASKED, REACHED, TARGET
from prunesweep.orchestrator.results.filtering import spelled
from prunesweep.orchestrator.tables.means import Table, untested, words
from prunesweep.workers.errors import UserError, unknown

FORMS: Mapping[str, str] = {"target_sparsity": "sparsity {}", "total_epochs": "{} epochs"}
PIPE_WIDTH = 120
LATEX = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    | {"<": "$<$", ">": "$>$", "|": "$|$", "[": "{[}", "*": "{*}"}
)
"""`[` and `*` at the start of a line would be arguments of the line's end above."""


def render(table: Table, format: str = "table") -> RenderableType:
    """As `table` (for a rich console, as wide as it is), or a string: `csv`, `markdown`, `latex` or `json`.

    CSV and JSON have a record for each cell, in the metric's own unit; the others are for people.
    """
    formats: dict[str, Callable[[Table], RenderableType]] = {
        "table": Terminal,
        "csv": lambda table: pd.DataFrame(_records(table), dtype=object).to_csv(index=False).rstrip("\n"),
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
        below = [*map(Text, _footer(self.table, "**", "*")), *_choices_grid(self.table)]
        yield from console.render(Group(*above, *grids, *below), options.update(width=width))


def _choices_grid(table: Table) -> Iterator[RenderableType]:
    lines = _choices(table)
    if lines:
        grid = Grid(*lines[0], box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="")
        for line in lines[1:]:
            grid.add_row(*map(Text, line))
        yield from (Text(), Text(chosen_by(table), style="bold"), Text(), grid)


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
    """The columns in pieces that fit the width."""
    labels = zip(*(labels for _, labels, _ in _lines(table, ())), strict=True)
    heads = [[*name.split("_"), *column] for name, column in zip(table.row_names, labels, strict=False)]
    return pieces(table, (width - sum(2 + max(map(len, head)) for head in heads) + 1) // (1 + _cell_width(table)))


def pieces(table: Table, room: int) -> list[list[Key]]:
    """The columns in pieces of at most `room`, each with whole sparsities if that is possible."""
    groups = [list(group) for _, group in groupby(table.columns, key=lambda key: key[:1])]
    if max(map(len, groups), default=0) > room:
        groups = [[column] for column in table.columns]
    found: list[list[Key]] = []
    for group in groups:
        if found and len(found[-1]) + len(group) <= room:
            found[-1] += group
        else:
            found.append(group)
    return found


def _text_width(table: Table) -> int:
    return max(len(_text(table, cell)) for cell in table.cells.values())


def _cell_width(table: Table) -> int:
    return max(_text_width(table) + 2, *(len(line) for key in table.columns for line in _column_labels(table, key)))


def _markdown(table: Table) -> str:
    heads = [*map(words, table.row_names), *(", ".join(_column_labels(table, key)) for key in table.columns)]
    lines = [heads]
    for _, labels, across in _lines(table, table.columns):
        lines.append([*labels, *(_emphasised(cell, _text(table, cell), "**{}**", r"{}\*") for cell in across)])
    grid = pipes(lines, len(table.row_names))
    below = [chosen_by(table), pipes(_choices(table), len(table.row_names) + 1)] if _choices(table) else []
    return "\n\n".join([table.title, *_controls(table), grid, *_footer(table, "**bold**", r"\*"), *below])


def pipes(lines: Sequence[Sequence[str]], names: int) -> str:
    """The first line is the head; the first columns, `names` of them, are aligned to the left."""
    head, *rest = lines
    rule = ["---"] * names + ["---:"] * (len(head) - names)
    escaped = ([text.replace("|", r"\|") for text in line] for line in (head, rule, *rest))
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _latex(table: Table) -> str:
    labels = [_column_labels(table, key) for key in table.columns]
    names, width = [words(name) for name in table.row_names], len(table.row_names) + len(labels)
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
    lines += [r"\bottomrule", r"\end{tabular}", *(f"% {line}" for line in _footer(table, "bold", "*"))]
    return "\n".join([*lines, *_latex_choices(table)])


def _latex_choices(table: Table) -> list[str]:
    lines, names = _choices(table), len(table.row_names) + 1
    if not lines:
        return []
    body = [_latex_line(line) for line in lines]
    begin = rf"\begin{{tabular}}{{{'l' * names}{'r' * (len(lines[0]) - names)}}}"
    above = ["", f"% {chosen_by(table)}", begin, r"\toprule", body[0], r"\midrule"]
    return [*above, *body[1:], r"\bottomrule", r"\end{tabular}"]


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
        labels = [label(table, name, value) for name, value in zip(table.row_names, row, strict=True)]
        yield starts_block, [""] * same + labels[same:], [table.cells.get((row, key)) for key in across]
        before = row


def _column_labels(table: Table, key: Key) -> list[str]:
    labels = [FORMS[n].format(label(table, n, value)) for n, value in zip(table.column_names, key, strict=True)]
    return labels or [words(table.metric)]


def label(table: Table, name: str, value: Any) -> str:
    """A setting's value as people write it; empty for none."""
    return written(name, value, table.budgets)


def written(name: str, value: Any, budgets: Mapping[int, str]) -> str:
    """As `label`, where there is no table; `budgets` as a table has them."""
    if value is None:
        return ""
    if name == REACHED:
        return f"{100 * value:.1f}%"
    if name in (TARGET, ASKED):
        return f"{100 * value:.6g}%"
    if name == "total_epochs":
        return budgets[value]
    return f"{value:g}" if isinstance(value, float) else spelled(value)


def _choices(table: Table) -> list[list[str]]:
    """The chosen settings: a head, then a line for each row and setting to show; empty without any."""
    lines = []
    for row in table.rows:
        labels = [label(table, name, value) for name, value in zip(table.row_names, row, strict=True)]
        cells = [table.cells.get((row, key)) for key in table.columns]
        for name in table.choices.get(row, ()):
            values = [label(table, name, cell.settings[name]) if cell else "-" for cell in cells]
            lines.append([*labels, words(name), *values])
            labels = [""] * len(labels)
    names = [*map(words, table.row_names), "setting"]
    heads = [", ".join(map(partial(label, table), table.column_names, key)) for key in table.columns]
    return [[*names, *heads], *lines] if lines else []


def chosen_by(table: Table) -> str:
    """What the settings of a table of the best have in common."""
    return f"settings with the best mean {words(table.best_by or '')}"


def _controls(table: Table) -> Iterator[str]:
    """`dense, 20 epochs: 96.64 ± 0.12 (3)`."""
    for cell in table.controls:
        given = [(name, value) for name, value in cell.settings.items() if value is not None and name != REACHED]
        said = [v if isinstance(v, str) else FORMS.get(n, f"{words(n)} {{}}").format(v) for n, v in given]
        yield f"{', '.join(said)}: {_text(table, cell)}"


def _footer(table: Table, best: str, near: str) -> list[str]:
    place = "sparsity and budget" if "total_epochs" in (*table.row_names, *table.column_names) else "sparsity"
    legend = f"{best}: best at its {place}; {near}: not distinguishable from it (paired t-test, Holm, 5%)"
    found = table.cells.values()
    told = [legend] if any(cell.best for cell in found) else []
    return [*told, *untested(found), *table.notes]


def _text(table: Table, cell: Cell | None) -> str:
    return table.scale.text(cell.mean, cell.std, cell.n, cell.asked) if cell else "-"


def _emphasised(cell: Cell | None, text: str, best: str, near: str) -> str:
    return best.format(text) if cell and cell.best else near.format(text) if cell and cell.near else text


def _records(table: Table) -> list[dict[str, Any]]:
    found = [table.cells[key] for key in product(table.rows, table.columns) if key in table.cells]
    return [{"metric": table.metric, **c.settings, **c.statistics} for c in (*table.controls, *found)]


@dataclass(frozen=True)
class Piece:
    """Some columns of a table as texts, for whoever lays them out otherwise.

    `columns` are each column's labels from top to bottom. A line is whether a block of other rivals starts, its labels
    (empty where they are those of the line above), and a text with its cell for each column.
    """

    columns: Sequence[Sequence[str]]
    lines: Sequence[tuple[bool, Sequence[str], Sequence[tuple[str, Cell | None]]]]


@dataclass(frozen=True)
class Parts:
    """All that a table says; of the `choices`, lines of settings that were chosen, the first is the head."""

    heads: Sequence[str]
    controls: Sequence[str]
    pieces: Sequence[Piece]
    footer: Sequence[str]
    choices: Sequence[Sequence[str]]


def parts(table: Table, best: str, near: str, room: int) -> Parts:
    """A table in pieces of at most `room` columns; `best` and `near` are what its marks look like."""
    return Parts(
        heads=[words(name) for name in table.row_names],
        controls=list(_controls(table)),
        pieces=[_piece(table, across) for across in pieces(table, room)],
        footer=_footer(table, best, near),
        choices=_choices(table),
    )


def _piece(table: Table, across: Sequence[Key]) -> Piece:
    lines = [(starts, labels, [(_text(table, c), c) for c in row]) for starts, labels, row in _lines(table, across)]
    return Piece([_column_labels(table, key) for key in across], lines)
