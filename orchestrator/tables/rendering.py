"""A table drawn: for a terminal, as Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table as Grid
from rich.text import Text

from prunesweep.orchestrator.results.collapse import MARK
from prunesweep.orchestrator.tables.text_table import SINGLE_MARK, Columns, Emphasis, Entry, TextTable
from prunesweep.orchestrator.text import for_csv, for_markdown, visible
from prunesweep.workers.errors import UserError, unknown

PIPE_WIDTH = 120
MARK_WIDTH = 2
"""Room behind a number for `**`."""

TERMINAL = {Emphasis.BEST: "**", Emphasis.NEAR: "*", Emphasis.SINGLE: SINGLE_MARK}
MARKDOWN = {
    Emphasis.BEST: "**{}**",
    Emphasis.BOLD: "**{}**",
    Emphasis.NEAR: r"{}\*",
    Emphasis.SINGLE: "{}" + SINGLE_MARK,
}
BOLD_LATEX = r"\textbf{{{}}}"
LATEX = {
    **{Emphasis.BEST: BOLD_LATEX, Emphasis.BOLD: BOLD_LATEX, Emphasis.NEAR: "{}*"},
    Emphasis.SINGLE: r"{}$^\dagger$",
}

MINUS = re.compile(r"(?<!\S)-(?=\d)")
"""A hyphen is shorter in print."""

ESCAPED = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    | {"<": "$<$", ">": "$>$", "|": "$|$", "[": "{[}", "*": "{*}", SINGLE_MARK: r"$^\dagger$", MARK: r"$^\ddagger$"}
)
"""For LaTeX; `[` and `*` at the start of a line would be arguments of the line's end above."""


def render(table: TextTable, format: str = "table") -> RenderableType:
    """As `table` (for a rich console, as wide as it is), or a string: `csv`, `markdown`, `latex` or `json`.

    CSV and JSON hold the records, in the metric's own unit; the others are for people.
    """
    formats: dict[str, Callable[[TextTable], RenderableType]] = {
        "table": lambda table: Terminal(table.mapped(visible)),
        "csv": lambda table: as_csv(pd.DataFrame(table.records, dtype=object)).rstrip("\n"),
        "markdown": lambda table: _markdown(table.mapped(for_markdown)),
        "latex": lambda table: _latex(table.mapped(visible)),
        "json": lambda table: json.dumps(table.records, indent=1),
    }
    if format not in formats:
        raise UserError(unknown("format", format, formats))
    return formats[format](table)


def as_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV in which no cell is a formula, for spreadsheets."""
    texts = {for_csv(str(name)): [_cell(value) for value in frame[name]] for name in frame}
    return str(pd.DataFrame(texts, dtype=object).to_csv(index=False))


def _cell(value: Any) -> Any:
    return for_csv(value) if isinstance(value, str) else value


# --- terminal


@dataclass(frozen=True)
class Terminal:
    """A table on a rich console; means are in several grids below each other where one would be too wide.

    Marks need no colour.
    """

    table: TextTable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # A pipe has no width; rich takes it for 80 characters.
        width = options.max_width if console.is_terminal else max(PIPE_WIDTH, options.max_width)
        yield from console.render(Group(*_parts(self.table, width)), options.update(width=width))


def _parts(table: TextTable, width: int) -> Iterator[RenderableType]:
    yield from (Text(table.title, style="bold"), *map(Text, table.above), Text())
    pieces = table.pieces(_room(table, width)) if table.holds is Columns.MEANS else [table]
    for place, piece in enumerate(pieces):
        yield from ([Text()] * (place > 0) + [_grid(piece, table)])
    below = table.below(*TERMINAL.values())
    if below:
        yield from (Text(), *map(Text, below))
    for detail in table.details:
        yield from (Text(), *_parts(detail, width))


def _grid(piece: TextTable, whole: TextTable) -> Grid:
    """Columns of means are as wide in every piece as the whole table wants them, so that marks have room."""
    means, right = piece.holds is Columns.MEANS, piece.holds is Columns.NUMBERS
    padding = (0, 2 if right else 0 if means else 1, 0, 0)
    gap, width = (" ", _cell_width(whole)) if means else ("", None)
    grid = Grid(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding, header_style="")
    for head in piece.heads:
        text = Text("\n".join(word + gap for word in head.split(" ")))  # no markup
        grid.add_column(text, vertical="bottom", no_wrap=means)
    for heads in _heads(piece):
        justify: Literal["left", "right"] = "right" if right else "left"
        grid.add_column(Text("\n".join(heads)), min_width=width, vertical="bottom", no_wrap=means, justify=justify)
    for line in piece.unrepeated():
        if line.starts_block:
            grid.add_section()
        grid.add_row(*(Text(label + gap) for label in line.labels), *(_entry(entry, whole) for entry in line.entries))
    for column in grid.columns:
        column.overflow = "ellipsis" if means else "fold"
    return grid


def _heads(piece: TextTable) -> Iterator[tuple[str, ...]]:
    """Of each column, without the upper head that it shares with the one before."""
    above: tuple[str, ...] = ()
    for heads in piece.columns:
        yield ("", *heads[1:]) if len(heads) > 1 and heads[:1] == above[:1] else heads
        above = heads


def _entry(entry: Entry, whole: TextTable) -> Text:
    text = entry.text
    if whole.holds is Columns.MEANS and text != "-":
        text = text.rjust(whole.entry_width)
    text += entry.mark + TERMINAL.get(entry.emphasis, "")
    return Text(text, style="bold" if entry.emphasis in (Emphasis.BEST, Emphasis.BOLD) else "")


def _room(table: TextTable, width: int) -> int:
    """How many columns fit beside the labels."""
    below = zip(*(line.labels for line in table.lines), strict=True)
    labels = [[*head.split(" "), *texts] for head, texts in zip(table.heads, below, strict=False)]
    return (width - sum(2 + max(map(len, texts)) for texts in labels) + 1) // (1 + _cell_width(table))


def _cell_width(table: TextTable) -> int:
    own = max((len(entry.mark) for line in table.lines for entry in line.entries), default=0)
    return max([table.entry_width + own + MARK_WIDTH, *(len(head) for heads in table.columns for head in heads)])


# --- Markdown


def _markdown(table: TextTable) -> str:
    below = table.below("**bold**", r"\*")
    return "\n\n".join([table.title, *table.above, _pipes(table), *below, *map(_markdown, table.details)])


def _pipes(table: TextTable) -> str:
    """Labels are aligned to the left, entries to the right."""
    lines = [[*table.heads, *(", ".join(heads) for heads in table.columns)]]
    lines += [["---"] * len(table.heads) + ["---:"] * len(table.columns)]
    for line in table.unrepeated():
        lines.append([*line.labels, *(_emphasised(entry, entry.text + entry.mark, MARKDOWN) for entry in line.entries)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _emphasised(entry: Entry, text: str, forms: dict[Emphasis, str]) -> str:
    return forms.get(entry.emphasis, "{}").format(text) if text else ""


# --- LaTeX


def _latex(table: TextTable) -> str:
    lines = [f"% {table.title}; needs \\usepackage{{booktabs}}", *_tabular(table)]
    lines += [f"% {line}" for line in table.below("bold", "*")]
    for detail in table.details:
        lines += ["", f"% {detail.title}", *_tabular(detail)]
    return "\n".join(lines)


def _tabular(table: TextTable) -> Iterator[str]:
    names, numbers = len(table.heads), len(table.columns)
    yield rf"\begin{{tabular}}{{{'l' * names}{'r' * numbers}}}"
    yield r"\toprule"
    if table.columns and len(table.columns[0]) > 1:
        yield from _groups(names, [heads[0] for heads in table.columns])
    yield _row([*table.heads, *(heads[-1] for heads in table.columns)])
    yield r"\midrule"
    for text in table.above:
        yield rf"\multicolumn{{{names + numbers}}}{{l}}{{{text.translate(ESCAPED)}}} \\"
        yield r"\midrule"
    for line in table.unrepeated():
        if line.starts_block:
            yield r"\addlinespace"
        yield _row(line.labels, line.entries)
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _row(labels: Sequence[str], entries: Sequence[Entry] = ()) -> str:
    numbers = (MINUS.sub("$-$", (entry.text + entry.mark).translate(ESCAPED)) for entry in entries)
    texts = (_emphasised(entry, text, LATEX) for entry, text in zip(entries, numbers, strict=True))
    return " & ".join([*(label.translate(ESCAPED) for label in labels), *texts]) + r" \\"


def _groups(column: int, firsts: Sequence[str]) -> list[str]:
    """The upper of two header lines, and a rule below each group; `column` are to their left."""
    heads, rules = [""] * column, []
    for label, group in groupby(firsts):
        size = len(list(group))
        heads.append(rf"\multicolumn{{{size}}}{{c}}{{{label.translate(ESCAPED)}}}")
        rules.append(rf"\cmidrule(lr){{{column + 1}-{column + size}}}")
        column += size
    return [" & ".join(heads) + r" \\", " ".join(rules)]
