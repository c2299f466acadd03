"""The table of every cell, which a reader sorts and filters: a comparison's cells with their measurements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from prunesweep.orchestrator.results.aggregation import AXES, plain
from prunesweep.orchestrator.results.collapse import COLLAPSED
from prunesweep.orchestrator.results.primary import on_test, on_validation
from prunesweep.orchestrator.results.units import scale
from prunesweep.orchestrator.tables.grid import label
from prunesweep.orchestrator.tables.means import Table
from prunesweep.orchestrator.tables.wording import words

MEASURED = (
    *("test_accuracy_top5", "reached_sparsity", "compression_ratio"),
    *("theoretical_speedup", "train_flops_ratio", "inference_flops", "train_seconds", "train_images_per_second"),
)
"""Columns that every cell is shown with, after the metric that was asked for, where there is anything in them."""

MOST_ROWS = 5000
"""A browser sorts so many at once without a pause; of more rows the first are shown."""


@dataclass(frozen=True)
class Value:
    """A text, and the number by which it is sorted; None where the text sorts itself, or nothing is known."""

    text: str
    number: float | None = None


@dataclass(frozen=True)
class SortableTable:
    """`numeric` says which columns are numbers; `left_out` is the number of rows that were left out."""

    heads: Sequence[str]
    numeric: Sequence[bool]
    rows: Sequence[Sequence[Value]]
    left_out: int = 0


def every_cell(frame: pd.DataFrame, table: Table) -> SortableTable:
    """A row for each cell of the comparison and each control, in the order of the trials; means over seeds."""
    settings = (*table.row_names, *table.column_names)
    names = [*(name for name in settings if name not in AXES), *(name for name in AXES if name in settings)]
    trials = frame.drop_duplicates("trial").dropna(subset=[table.metric])
    own = (table.metric, on_test(trials), MEASURED[0], on_validation(trials))
    metrics = [n for n in dict.fromkeys([*own, *MEASURED]) if n in trials and trials[n].notna().any()]
    if COLLAPSED in trials and (trials[COLLAPSED] > 0).any():
        metrics.append(COLLAPSED)
    groups = trials.groupby(names, dropna=False, sort=False)
    counts = groups["trial"].count()
    columns = [_metric(groups[name].agg(["mean", "std"]), name) for name in metrics]
    keys = [key if isinstance(key, tuple) else (key,) for key in counts.index]
    rows = [
        [
            *(_setting(table, name, plain(value)) for name, value in zip(names, key, strict=True)),
            Value(f"{count}", float(count)),
            *measured,
        ]
        for key, count, *measured in zip(keys, counts, *columns, strict=True)
    ]
    heads = [*map(words, names), "seeds", *map(_head, metrics)]
    texts = [any(row[i].number is None and row[i].text for row in rows) for i in range(len(heads))]
    return SortableTable(heads, [not text for text in texts], rows[:MOST_ROWS], max(0, len(rows) - MOST_ROWS))


def _setting(table: Table, name: str, value: Any) -> Value:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Value(label(table, name, value), float(value) if is_number else None)


def _metric(groups: pd.DataFrame, name: str) -> Iterable[Value]:
    unit = scale(name).suited(list(groups["std"].dropna()))
    for mean, std in zip(groups["mean"], groups["std"], strict=True):
        if pd.isna(mean):
            yield Value("")
        else:
            deviation = "" if pd.isna(std) else f" ± {unit.number(std)}"
            yield Value(f"{unit.number(mean)}{deviation}", float(mean))


def _head(name: str) -> str:
    """`test accuracy, percent`."""
    return ", ".join(filter(None, [words(name), scale(name).name]))
