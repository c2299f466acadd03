"""The table of means laid out: which text stands where."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

from prunesweep.orchestrator.results.aggregation import AXES, SUBJECT, Cell, Key
from prunesweep.orchestrator.results.best_settings import REACHED
from prunesweep.orchestrator.results.marking import unranked_notes
from prunesweep.orchestrator.tables.collapse import collapse_notes, mark_of
from prunesweep.orchestrator.tables.failed_cells import failed_notes, word_of
from prunesweep.orchestrator.tables.means import Table
from prunesweep.orchestrator.tables.text_table import Columns, Emphasis, Entry, Line, TextTable
from prunesweep.orchestrator.tables.wording import FORMS, words, written


def laid_out(table: Table) -> TextTable:
    """Rows and columns as texts; the controls above, and below what the marks say and which settings were chosen."""
    return TextTable(
        title=table.title,
        heads=tuple(map(words, table.row_names)),
        columns=tuple(_column_heads(table, key) for key in table.columns),
        lines=tuple(_lines(table)),
        holds=Columns.MEANS,
        above=tuple(_control(table, cell) for cell in table.controls),
        legend=tuple(_legend(table)),
        notes=(
            *unranked_notes(table.cells.values()),
            *failed_notes(_cells(table)),
            *collapse_notes(_cells(table)),
            *table.notes,
        ),
        details=tuple(filter(None, [_off_target(table), _chosen_settings(table)])),
        records=tuple({"metric": table.metric, **cell.settings, **cell.statistics} for cell in _cells(table)),
    )


def label(table: Table, name: str, value: Any) -> str:
    """A setting's value as people write it; empty for none."""
    return written(name, value, table.budgets)


def chosen_by(table: Table) -> str:
    """What the settings of a table of the best have in common."""
    return f"settings with the best mean {words(table.best_by or '')}"


def _cells(table: Table) -> list[Cell]:
    keys = product(table.rows, table.columns)
    return [*table.controls, *(table.cells[key] for key in keys if key in table.cells), *table.missed]


def _column_heads(table: Table, key: Key) -> tuple[str, ...]:
    heads = (FORMS[name].format(label(table, name, value)) for name, value in zip(table.column_names, key, strict=True))
    return tuple(heads) or (words(table.metric),)


def _row_labels(table: Table, row: Key) -> tuple[str, ...]:
    return tuple(label(table, name, value) for name, value in zip(table.row_names, row, strict=True))


def _lines(table: Table) -> Iterator[Line]:
    """A block starts where other rivals do."""
    above: Key = ()
    for row in table.rows:
        same = next((i for i, (new, old) in enumerate(zip(row, above, strict=False)) if new != old), 0)
        starts_block = bool(above) and {*table.row_names[: same + 1]} <= {*SUBJECT, *AXES}
        entries = tuple(_entry(table, table.cells.get((row, key))) for key in table.columns)
        yield Line(_row_labels(table, row), entries, starts_block)
        above = row


def _entry(table: Table, cell: Cell | None) -> Entry:
    if cell is None:
        return Entry("-")
    emphasis = Emphasis.BEST if cell.best else Emphasis.NEAR if cell.near else Emphasis.PLAIN
    return Entry(_text(table, cell), Emphasis.SINGLE if cell.n == 1 else emphasis, mark_of(cell))


def _text(table: Table, cell: Cell) -> str:
    if cell.failed:
        return word_of(cell)
    return table.scale.text(cell.mean, cell.std, cell.n, cell.planned)


def _control(table: Table, cell: Cell) -> str:
    """`dense, 20 epochs: 96.64 ± 0.12 (3)`."""
    given = [(name, value) for name, value in cell.settings.items() if value is not None and name != REACHED]
    texts = [v if isinstance(v, str) else FORMS.get(n, f"{words(n)} {{}}").format(v) for n, v in given]
    return f"{', '.join(texts)}: {_text(table, cell)}{mark_of(cell)}"


def _legend(table: Table) -> Iterator[str]:
    place = "sparsity and budget" if "total_epochs" in (*table.row_names, *table.column_names) else "sparsity"
    cells = table.cells.values()
    if any(cell.best for cell in cells):
        test = "moderated paired t, all pairs at 5%"
        yield f"{{best}}: best mean at its {place}; {{near}}: not shown to be worse ({test})"
    if any(cell.n == 1 for cell in cells):
        yield "{single}: one seed"


def _off_target(table: Table) -> TextTable | None:
    """The cells that are out of competition, with what they reached; None where there are none."""
    if not table.missed:
        return None
    names = (*table.row_names, *table.column_names)
    lines = []
    for cell in table.missed:
        labels = tuple(label(table, name, cell.settings[name]) for name in names)
        lines.append(Line(labels, (Entry(label(table, REACHED, cell.reached)), _entry(table, cell))))
    return TextTable(
        title="out of competition: off their target sparsity",
        heads=tuple(map(words, names)),
        columns=(("reached",), (words(table.metric),)),
        lines=tuple(lines),
        holds=Columns.NUMBERS,
    )


def _chosen_settings(table: Table) -> TextTable | None:
    """A line for each row and each of its settings that were chosen; None where none were."""
    lines = tuple(line for row in table.rows for line in _setting_lines(table, row))
    if not lines:
        return None
    heads = (", ".join(map(partial(label, table), table.column_names, key)) for key in table.columns)
    return TextTable(
        title=chosen_by(table),
        heads=(*map(words, table.row_names), "setting"),
        columns=tuple((head,) for head in heads),
        lines=lines,
        holds=Columns.TEXTS,
    )


def _setting_lines(table: Table, row: Key) -> Iterator[Line]:
    cells = [table.cells.get((row, key)) for key in table.columns]
    for name in table.choices.get(row, ()):
        texts = (label(table, name, cell.settings[name]) if cell else "-" for cell in cells)
        yield Line((*_row_labels(table, row), words(name)), tuple(map(Entry, texts)))
