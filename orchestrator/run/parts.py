"""Rows of a table that come a few at a time, in any order, and are wanted in another: kept as Arrow, which is small."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa

T = TypeVar("T")

MERGED = 1000
"""So many parts become one table: each table, and each row as a dictionary, takes some thousand bytes of its own."""


class Parts(Generic[T]):
    """Rows by the key of what they are of. `tabled` makes a table with this schema of what was added."""

    def __init__(self, schema: pa.Schema, tabled: Callable[[list[T]], pa.Table]) -> None:
        self.schema, self.tabled = schema, tabled
        self.places: dict[str, tuple[int, int]] = {}
        self.tables: list[pa.Table] = []
        self.pending: list[T] = []
        self.rows = 0

    def __contains__(self, key: str) -> bool:
        return key in self.places

    def add(self, key: str, parts: Sequence[T], rows: int) -> None:
        """What is of this key, over what was; all parts together have so many rows."""
        self.places[key] = self.rows, rows
        self.rows += rows
        self.pending += parts
        if len(self.pending) >= MERGED:
            self._merge()

    def adopt(self, table: pa.Table, places: Mapping[str, tuple[int, int]]) -> None:
        """Rows of a table with this schema: of each key the first, and how many there are."""
        self._merge()
        self.places |= {key: (self.rows + first, count) for key, (first, count) in places.items()}
        self.rows += len(table)
        self.tables.append(table.combine_chunks())

    def lengths(self, keys: Sequence[str]) -> list[int]:
        """How many rows each has."""
        return [self.places[key][1] for key in keys]

    def table(self, keys: Sequence[str]) -> pa.Table:
        """The rows of these keys, one key after the other; beside them only the tables that have some are copied."""
        self._merge()
        if not keys or not self.tables:
            return self.schema.empty_table()
        starts, lengths = np.array([self.places[key] for key in keys], np.int64).T
        rows = np.arange(lengths.sum()) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        first = np.cumsum([0, *map(len, self.tables)])  # of each table in all rows
        tables, places = np.unique(np.searchsorted(first, rows, side="right") - 1, return_inverse=True)
        moved = np.cumsum([0, *(len(self.tables[table]) for table in tables)])[:-1] - first[tables]
        joined = pa.concat_tables([self.tables[table] for table in tables] or [self.schema.empty_table()])
        return joined.combine_chunks().take(pa.array(rows + moved[places]))

    def slices(self, keys: Sequence[str], most: int) -> Iterator[slice]:
        """Where to divide the keys, so that each slice has at most so many rows, or is one key."""
        start, rows = 0, 0
        for place, key in enumerate(keys):
            length = self.places[key][1]
            if rows + length > most and place > start:
                yield slice(start, place)
                start, rows = place, 0
            rows += length
        yield slice(start, len(keys))

    def _merge(self) -> None:
        if self.pending:
            self.tables.append(self.tabled(self.pending).combine_chunks())
        self.pending = []


def repeated(values: Sequence[str], counts: Sequence[int]) -> pa.Array:
    """Each text so many times."""
    places = np.repeat(np.arange(len(values), dtype=np.int32), counts)
    return pa.DictionaryArray.from_arrays(pa.array(places), pa.array(values, pa.string())).cast(pa.string())
