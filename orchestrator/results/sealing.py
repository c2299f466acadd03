"""The checksum of a sweep's table, in the table's own metadata: it covers every byte, names of columns included.

Parquet has checksums for its pages and none for its footer, where a flipped bit renames a column.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prunesweep.workers.errors import UserError
from prunesweep.workers.seal import BLANK, FIELD, intact, parsed, seal

SEAL_KEY = b"prunesweep_file"
"""Under it the metadata say of which sweep this is which table, and the sum of the file."""

ROW_GROUP = 2**17
"""Rows that a reader takes at once: programs such as DuckDB share row groups among their threads."""

LARGE, EXPANDED = 2**29, 400
"""A table may take so many bytes of memory, and a larger one so many times those of its file."""

FEW = 2000
"""Rows of a table that is read without a closer look, and of which the texts are looked at together."""

WIDE_GROUP = 2**13
"""As `ROW_GROUP`, of a hundred columns; whoever writes them has so many in memory."""


def sealed_table(parts: Iterable[pa.Table], schema: pa.Schema, sweep: str, name: str) -> bytes:
    """A sweep's table as a Parquet file, as the store holds it; `name` is `trials`, `curves` or `layers`.

    Its parts come one after the other, so that they are never in memory together; each has row groups of its own.
    """
    said = json.dumps({"sweep": sweep, "table": name, FIELD: BLANK}).encode()
    sink = BytesIO()
    whole = schema.with_metadata({**(schema.metadata or {}), SEAL_KEY: said})
    with pq.ParquetWriter(sink, whole, write_page_checksum=True) as writer:
        for part in parts:
            writer.write_table(part.cast(whole), ROW_GROUP)
    return seal(sink.getbuffer(), last=True)


def write_table(table: pa.Table, sink: Any) -> None:
    """Write plain Parquet, with a checksum for every page."""
    pq.write_table(table, sink, write_page_checksum=True, row_group_size=ROW_GROUP)


def unsealed_table(data: bytes, name: str) -> pa.Table:
    """The table of a Parquet file; raises `ValueError` when it is not the one that was written, or another table.

    A file without a sum, of an earlier version or somebody's own, is taken as its pages' checksums allow. Columns of
    types that a package has registered with Arrow are left out, and so is what pandas notes of types and an index.
    """
    if SEAL_KEY in data and not intact(data, last=True):
        raise ValueError("its checksum does not match")
    modest(data)
    # Of what is noted in the footer twice, `ParquetFile.read` takes the one alone whose name may have a flipped bit.
    table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    said = described(table.schema)
    if said and (SEAL_KEY not in data or not intact(data, last=True)):
        raise ValueError("its checksum does not match")
    if said and said["table"] != name:
        raise ValueError(f"it is a table of {said['table']}")
    noted = {name: value for name, value in (table.schema.metadata or {}).items() if name != b"pandas"}
    plain = [field.name for field in table.schema if not _is_others(field.type)]
    return table.select(plain).replace_schema_metadata(noted)


def modest(data: bytes) -> pq.ParquetFile:
    """The Parquet file; raises `ValueError` where a few bytes of it claim to be a table that would fill the memory."""
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    about, limit = file.metadata, max(LARGE, EXPANDED * len(data))
    if about.num_rows < FEW:  # as those of curves are, of which many thousands are read
        return file
    stored = [_stored(about, place) for place in range(about.num_columns)]
    size = 8 * about.num_rows * about.num_columns + sum(stored)
    columns = (about.schema.column(place) for place, length in enumerate(stored) if about.num_rows * length > limit)
    texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
    for batch in file.iter_batches(FEW, columns=texts) if texts and size <= limit else ():
        size += sum(map(_length_of_texts, batch.columns))
        if size > limit:
            break
    if size > limit:
        raise ValueError(f"{len(data):,} bytes claim to be a table of more than {limit:,}")
    return file


def _stored(about: pq.FileMetaData, column: int) -> int:
    """The bytes of a column as it is encoded, before it is compressed."""
    groups = (about.row_group(number) for number in range(about.num_row_groups))
    return sum(group.column(column).total_uncompressed_size for group in groups)


def _length_of_texts(column: pa.Array) -> int:
    """Of all rows together, in bytes: a text that many rows have may be in the file once."""
    while pa.types.is_list(column.type):
        column = pc.list_flatten(column)
    is_text = pa.types.is_string(column.type) or pa.types.is_binary(column.type)
    return pc.sum(pc.binary_length(column)).as_py() or 0 if is_text else 0


def _is_others(kind: pa.DataType) -> bool:
    """Whether a type is, or has in it, one that a package defines: Ray's makes objects by unpickling the file."""
    if isinstance(kind, pa.BaseExtensionType):
        return True
    return any(_is_others(kind.field(number).type) for number in range(kind.num_fields))


def require_tables_of(sweep: str, folder: Path) -> None:
    """Raise `UserError` where a table in the folder of a sweep of a local store is another sweep's; footers are read.

    What is no table at all is left to who reads it.
    """
    for file in sorted(folder.glob("*.parquet")):
        of = _sweep_of(file)
        if of not in (None, sweep):
            raise UserError(f"{file} is a table of the sweep {of}; `prunesweep resume {sweep}` writes it again")


def _sweep_of(file: Path) -> str | None:
    try:
        return described(pq.read_schema(file)).get("sweep") if file.is_file() else None
    except (pa.ArrowException, ValueError, OSError):
        return None


def described(schema: pa.Schema) -> dict[str, str]:
    """The sweep and the name that a table was written with; empty where it says nothing."""
    said = parsed((schema.metadata or {}).get(SEAL_KEY, b"{}"))
    return {name: str(said.get(name)) for name in ("sweep", "table")} if isinstance(said, dict) and said else {}
