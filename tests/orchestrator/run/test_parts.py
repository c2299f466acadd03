"""Rows that come in any order, and leave in another, a slice at a time."""

from __future__ import annotations

import pyarrow as pa
import pytest

from prunesweep.orchestrator.run.parts import MERGED, PACKED, Parts

SCHEMA = pa.schema([("row", pa.int64())])
ROWS = {"a": [1, 2], "b": [3, 4, 5], "none": [], "c": [6], "d": [7, 8, 9, 10, 11, 12, 13]}


@pytest.fixture
def parts() -> Parts[int]:
    """Of each key as many rows as it has numbers, added from the last to the first."""
    parts = Parts(SCHEMA, lambda rows: pa.table({"row": rows}, SCHEMA))
    for key, rows in reversed(ROWS.items()):
        parts.add(key, rows, len(rows))
    return parts


def test_rows_come_in_the_order_that_is_asked_for(parts: Parts[int]) -> None:
    assert parts.table(["d", "a"])["row"].to_pylist() == [*ROWS["d"], 1, 2]
    assert parts.table(["b", "none", "b"])["row"].to_pylist() == [3, 4, 5, 3, 4, 5]
    assert parts.table([]).schema == SCHEMA


def test_a_slice_has_as_many_rows_as_allowed_or_is_one_key(parts: Parts[int]) -> None:
    keys = list(ROWS)
    assert [keys[part] for part in parts.slices(keys, 5)] == [["a", "b", "none"], ["c"], ["d"]]
    assert [keys[part] for part in parts.slices(keys, 100)] == [keys]
    assert [keys[part] for part in parts.slices([], 5)] == [[]]


def test_thousands_of_parts_are_the_rows_that_were_added() -> None:
    many = Parts(SCHEMA, lambda rows: pa.table({"row": rows}, SCHEMA))
    for number in range(3 * MERGED + 1):
        many.add(str(number), [number], 1)
    wanted = [*range(3 * MERGED, -1, -7)]
    assert many.table(list(map(str, wanted)))["row"].to_pylist() == wanted


def test_rows_of_a_table_that_was_there_and_of_what_is_added_to_it() -> None:
    """The table is longer than what is packed as one; a key that is added again has its new rows."""
    parts = Parts(SCHEMA, lambda rows: pa.table({"row": rows}, SCHEMA))
    length = 2 * PACKED + 11  # a multiple of 5
    parts.adopt(pa.table({"row": range(length)}, SCHEMA), {str(first): (first, 5) for first in range(0, length, 5)})
    parts.add("new", [-1, -2], 2)
    parts.add("5", [-3], 1)
    first, last = PACKED // 5 * 5, length - 5
    assert parts.lengths([str(last), "5", "new"]) == [5, 1, 2]
    rows = parts.table([str(last), "new", str(first), "5"])["row"].to_pylist()
    assert rows == [*range(last, length), -1, -2, *range(first, first + 5), -3]
