"""What the tables of `compare` are made of: heads, labels and means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prunesweep.orchestrator.results.aggregation import SUBJECT, Cell
from prunesweep.orchestrator.results.units import Scale, scale
from prunesweep.orchestrator.tables.collapse import mark_of
from prunesweep.orchestrator.tables.text_table import Emphasis, Entry, Line
from prunesweep.orchestrator.tables.wording import in_unit, written


def unit_of(metric: str, cells: Sequence[Cell]) -> Scale:
    """How the metric is written beside these cells."""
    return scale(metric).suited([cell.std for cell in cells if cell.std is not None])


def title_of(cells: Sequence[Cell], metric: str, unit: Scale, what: str) -> str:
    """`digits, resnet8: test accuracy in percent, differences to the best`."""
    subject = [str(cells[0].settings[name]) for name in SUBJECT if len({cell.settings[name] for cell in cells}) == 1]
    return f"{', '.join(subject)}{': ' if subject else ''}{in_unit(metric, unit)}, {what}"


def difference_head(unit: Scale) -> str:
    """Of percentages, points."""
    return "points" if unit.name == "percent" else "difference"


def columns(*heads: str) -> tuple[tuple[str, ...], ...]:
    """A column for each head."""
    return tuple((head,) for head in heads)


def labels_of(cell: Cell, names: Sequence[str], labels: Mapping[int, str]) -> tuple[str, ...]:
    """The cell's settings under these names; `labels` say how total epochs are written."""
    return tuple(written(name, cell.settings[name], labels) for name in names)


def mean_entry(cell: Cell, unit: Scale, emphasis: Emphasis = Emphasis.PLAIN) -> Entry:
    """`96.5 ± 0.3 (3)`, marked where a network is part of it of which a layer kept no weight."""
    return Entry(unit.text(cell.mean, cell.std, cell.n, cell.planned), emphasis, mark_of(cell))


def set_apart(blocks: Iterable[Sequence[Line]]) -> Iterator[Line]:
    """The lines of all blocks, each block set apart from the one above."""
    for place, block in enumerate(blocks):
        for number, line in enumerate(block):
            yield Line(line.labels, line.entries, starts_block=place > 0 and number == 0)
