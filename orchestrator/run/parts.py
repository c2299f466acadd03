"""Rows of a table that come a few at a time, in any order, and are wanted in another: kept as Arrow, and packed."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa
from pyarrow import ipc

T = TypeVar("T")

MERGED = 1000
"""So many parts become one table: each table, and each row as a dictionary, takes some thousand bytes of its own."""

PACKED = 2**13
"""Rows of a table that is packed as one: nulls, and texts that many rows have, take a tenth of their memory then."""


class Parts(Generic[T]):
    """Rows by the key of what they are of. `tabled` makes a table with this schema of what was added."""

    def __init__(self, schema: pa.Schema, tabled: Callable[[list[T]], pa.Table]) -> None:
        self.schema, self.tabled = schema, tabled
        self.places: dict[str, int] = {}
        self.first, self.count = array("q"), array("q")
        """Of each place the first row, and how many there are."""
        self.packed: list[pa.Buffer] = []
        self.begins: list[int] = []
        """Of each packed table the first row."""
        self.pending: list[T] = []
        self.rows = self.packed_rows = 0

    def __contains__(self, key: str) -> bool:
        return key in self.places

    def add(self, key: str, parts: Sequence[T], rows: int) -> None:
        """What is of this key, over what was; all parts together have so many rows."""
        self._place(key, self.rows, rows)
        self.rows += rows
        self.pending += parts
        if len(self.pending) >= MERGED:
            self._merge()

    def adopt(self, table: pa.Table, places: Mapping[str, tuple[int, int]]) -> None:
        """Rows of a table with this schema: of each key the first, and how many there are."""
        self._merge()
        for key, (first, count) in places.items():
            self._place(key, self.rows + first, count)
        self.rows += len(table)
        self._pack(table)

    def lengths(self, keys: Sequence[str]) -> list[int]:
        """How many rows each has."""
        return [self.count[self.places[key]] for key in keys]

    def table(self, keys: Sequence[str]) -> pa.Table:
        """The rows of these keys, one key after the other; only the tables that have some of them are unpacked."""
        self._merge()
        places = np.array([self.places[key] for key in keys], np.int64)
        starts, lengths = np.array(self.first, np.int64)[places], np.array(self.count, np.int64)[places]
        rows = np.arange(lengths.sum()) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        if not len(rows):
            return self.schema.empty_table()
        begins = np.array(self.begins)
        numbers, among = np.unique(np.searchsorted(begins, rows, side="right") - 1, return_inverse=True)
        tables = [ipc.open_stream(self.packed[number]).read_all() for number in numbers]
        moved = np.cumsum([0, *map(len, tables[:-1])]) - begins[numbers]
        return pa.concat_tables(tables).combine_chunks().take(pa.array(rows + moved[among]))

    def slices(self, keys: Sequence[str], most: int) -> Iterator[slice]:
        """Where to divide the keys, so that each slice has at most so many rows, or is one key."""
        start, rows = 0, 0
        for place, key in enumerate(keys):
            length = self.count[self.places[key]]
            if rows + length > most and place > start:
                yield slice(start, place)
                start, rows = place, 0
            rows += length
        yield slice(start, len(keys))

    def _place(self, key: str, first: int, count: int) -> None:
        self.places[key] = len(self.first)
        self.first.append(first)
        self.count.append(count)

    def _merge(self) -> None:
        if self.pending:
            self._pack(self.tabled(self.pending))
        self.pending = []

    def _pack(self, table: pa.Table) -> None:
        options = ipc.IpcWriteOptions(compression="lz4")
        for start in range(0, len(table), PACKED):
            rows, sink = table.slice(start, PACKED).combine_chunks(), pa.BufferOutputStream()
            with ipc.new_stream(sink, table.schema, options=options) as writer:
                writer.write_table(rows)
            self.packed.append(sink.getvalue())
            self.begins.append(self.packed_rows)
            self.packed_rows += len(rows)


def repeated(values: Sequence[str], counts: Sequence[int]) -> pa.Array:
    """Each text so many times."""
    places = np.repeat(np.arange(len(values), dtype=np.int32), counts)
    return pa.DictionaryArray.from_arrays(pa.array(places), pa.array(values, pa.string())).cast(pa.string())
