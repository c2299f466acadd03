"""A table as texts: what every verb that prints a table makes, and `orchestrator.tables.rendering` draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from itertools import groupby
from typing import Any

SINGLE_MARK = "†"


class Emphasis(Enum):
    """How an entry stands out: the best, what may be, a single seed, and a text that is only bold."""

    PLAIN = "plain"
    BOLD = "bold"
    BEST = "best"
    NEAR = "near"
    SINGLE = "single"


class Columns(Enum):
    """What the columns hold: means of one quantity, so that they are equally wide, or numbers, or texts."""

    MEANS = "means"
    NUMBERS = "numbers"
    TEXTS = "texts"


@dataclass(frozen=True)
class Entry:
    """A text below a column's head, and a mark behind it of its own, beside that of its emphasis."""

    text: str
    emphasis: Emphasis = Emphasis.PLAIN
    mark: str = ""

    def mapped(self, clean: Callable[[str], str]) -> Entry:
        """With its text made fit for an output; most texts are."""
        text = clean(self.text)
        return self if text == self.text else replace(self, text=text)


@dataclass(frozen=True)
class Line:
    """Labels below the heads at the left, and an entry for each column; a block is set apart from what is above it."""

    labels: tuple[str, ...]
    entries: tuple[Entry, ...]
    starts_block: bool = False


@dataclass(frozen=True)
class TextTable:
    """A table for people, and the same as `records` for programs, in the metric's own unit.

    A column is its heads from top to bottom, as many as every other has. `above` are lines between the title and the
    table, `legend` and `notes` lines below it. In the legend `{best}`, `{near}` and `{single}` stand for what these
    marks look like. `details` are further tables, below the notes.
    """

    title: str
    heads: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    lines: tuple[Line, ...]
    holds: Columns
    above: tuple[str, ...] = ()
    legend: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    details: tuple[TextTable, ...] = ()
    records: tuple[Mapping[str, Any], ...] = ()

    @cached_property
    def entry_width(self) -> int:
        """The characters of the longest entry."""
        return max((len(entry.text) for line in self.lines for entry in line.entries), default=0)

    def below(self, best: str, near: str, single: str = SINGLE_MARK) -> list[str]:
        """The lines below the table, where the marks look like this."""
        return [*(line.format(best=best, near=near, single=single) for line in self.legend), *self.notes]

    def mapped(self, clean: Callable[[str], str]) -> TextTable:
        """With all texts that may be of a sweep or a store made fit for an output; the legend is our own."""
        return replace(
            self,
            title=clean(self.title),
            heads=tuple(map(clean, self.heads)),
            columns=tuple(tuple(map(clean, heads)) for heads in self.columns),
            lines=tuple(
                replace(
                    line,
                    labels=tuple(map(clean, line.labels)),
                    entries=tuple(entry.mapped(clean) for entry in line.entries),
                )
                for line in self.lines
            ),
            above=tuple(map(clean, self.above)),
            notes=tuple(map(clean, self.notes)),
            details=tuple(detail.mapped(clean) for detail in self.details),
        )

    def unrepeated(self) -> Iterator[Line]:
        """The lines, without the labels that the line above has too."""
        above: tuple[str, ...] = ()
        for line in self.lines:
            same = next((i for i, (new, old) in enumerate(zip(line.labels, above, strict=False)) if new != old), 0)
            yield replace(line, labels=("",) * same + line.labels[same:])
            above = line.labels

    def pieces(self, room: int) -> list[TextTable]:
        """The table in parts of at most `room` columns; those under one upper head stay together if they can."""
        groups = [list(group) for _, group in groupby(range(len(self.columns)), lambda i: self.columns[i][:-1] or i)]
        if max(map(len, groups), default=0) > room:
            groups = [[place] for place in range(len(self.columns))]
        parts: list[list[int]] = []
        for group in groups:
            if parts and len(parts[-1]) + len(group) <= room:
                parts[-1] += group
            else:
                parts.append(group)
        return [self._with(part) for part in parts]

    def _with(self, places: Sequence[int]) -> TextTable:
        columns = tuple(self.columns[place] for place in places)
        return replace(
            self,
            columns=columns,
            lines=tuple(replace(line, entries=tuple(line.entries[i] for i in places)) for line in self.lines),
        )
