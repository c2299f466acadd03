"""A list of rows as text, where `orchestrator.tables.rendering` has a grid of cells: what `compare` shows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from prunesweep.orchestrator.tables.rendering import LATEX, pipes
from prunesweep.workers.errors import UserError, unknown

MINUS = re.compile(r"(?<!\S)-(?=\d)")
"""A hyphen is shorter in print."""


@dataclass(frozen=True)
class Line:
    """`labels` under the heads at the left, `texts` under those at the right; `block` lines belong together."""

    block: Any
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    bold: bool = False
    """Of the texts."""


@dataclass(frozen=True)
class Sheet:
    """For people a title, heads, lines and notes; for programs `records`, in the metric's own unit."""

    title: str
    labels: tuple[str, ...]
    heads: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    records: tuple[Mapping[str, Any], ...]


def render(sheet: Sheet, format: str = "table") -> RenderableType:
    """As `table` (for a rich console), or a string: `csv`, `markdown`, `latex` or `json`."""
    formats: dict[str, Callable[[Sheet], RenderableType]] = {
        "table": _terminal,
        "csv": lambda sheet: pd.DataFrame(sheet.records, dtype=object).to_csv(index=False).rstrip("\n"),
        "markdown": _markdown,
        "latex": _latex,
        "json": lambda sheet: json.dumps(sheet.records, indent=1),
    }
    if format not in formats:
        raise UserError(unknown("format", format, formats))
    return formats[format](sheet)


def _terminal(sheet: Sheet) -> RenderableType:
    grid = Grid(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for head in sheet.labels:
        grid.add_column("\n".join(head.split(" ")), vertical="bottom", overflow="fold")
    for head in sheet.heads:
        grid.add_column(head, vertical="bottom", justify="right", overflow="fold")
    for starts_block, line in _told_once(sheet):
        if starts_block:
            grid.add_section()
        grid.add_row(*map(Text, line.labels), *(Text(text, style="bold" if line.bold else "") for text in line.texts))
    return Group(Text(sheet.title, style="bold"), Text(), grid, Text(), *map(Text, sheet.notes))


def _told_once(sheet: Sheet) -> Iterator[tuple[bool, Line]]:
    """Whether a block starts, and the line without the labels that the one above has too."""
    before: Line | None = None
    for line in sheet.lines:
        above = before.labels if before else ()
        same = next((i for i, (new, old) in enumerate(zip(line.labels, above, strict=False)) if new != old), 0)
        labels = ("",) * same + line.labels[same:]
        yield before is not None and before.block != line.block, Line(line.block, labels, line.texts, line.bold)
        before = line


def _markdown(sheet: Sheet) -> str:
    lines = [[*sheet.labels, *sheet.heads]]
    for _, line in _told_once(sheet):
        labels, texts = ([_escaped(text) for text in some] for some in (line.labels, line.texts))
        lines.append([*labels, *(f"**{text}**" if text and line.bold else text for text in texts)])
    return "\n\n".join([sheet.title, pipes(lines, len(sheet.labels)), *map(_escaped, sheet.notes)])


def _escaped(text: str) -> str:
    return text.replace("*", r"\*")


def _latex(sheet: Sheet) -> str:
    lines = [f"% {sheet.title}; needs \\usepackage{{booktabs}}"]
    lines += [rf"\begin{{tabular}}{{{'l' * len(sheet.labels)}{'r' * len(sheet.heads)}}}", r"\toprule"]
    lines += [_latex_line(sheet.labels, sheet.heads), r"\midrule"]
    for starts_block, line in _told_once(sheet):
        lines += [r"\addlinespace"] * starts_block
        lines.append(_latex_line(line.labels, line.texts, line.bold))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *(f"% {note}" for note in sheet.notes)])


def _latex_line(labels: Sequence[str], texts: Sequence[str], bold: bool = False) -> str:
    first, then = ([text.translate(LATEX) for text in some] for some in (labels, texts))
    then = [MINUS.sub("$-$", text) for text in then]
    return " & ".join([*first, *(rf"\textbf{{{text}}}" if text and bold else text for text in then)]) + r" \\"
