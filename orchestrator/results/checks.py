"""What a table is held to when its file is read, once: columns and types, keys that are names of files, plain text.

Tables are handed on, and may be anybody's: whatever is behind this need not ask again.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from prunesweep.orchestrator.results.schemas import (
    BEFORE,
    CANDIDATES,
    CLASSES,
    CURVES,
    LAYERS,
    OF_CLASSIFICATION,
    SWEEP_KEY,
    TRIALS,
)
from prunesweep.orchestrator.text import visible
from prunesweep.workers.seal import parsed

SCHEMAS = {"trials": TRIALS, "curves": CURVES, "layers": LAYERS, "classes": CLASSES, "candidates": CANDIDATES}

NEEDED = {
    "trials": ("trial", "sweep", "dataset", "model", "method", "seed"),
    "curves": ("trial", "stage", "epoch"),
    "layers": ("trial", "layer"),
    "candidates": ("sweep", "search", "method", "candidate", "epoch"),
    "classes": ("trial", "class"),
}
"""Without these columns a file is no such table; any other that is not there is null."""

KEYS = ("trial", "stage", "sweep", "stage_keys", "search")

KEY = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
"""A key, or the name of a sweep: one part of a path, and not a hidden one."""

LARGEST = 1e100
"""Larger ones are no measurement, nor are infinite ones; squares of much larger ones overflow."""


def checked(table: pa.Table, name: str) -> pa.Table:
    """The table as those of that name (`trials`, `curves`, `layers` and so on) are; raises `ValueError`."""
    absent = [column for column in NEEDED[name] if column not in table.column_names]
    if absent:
        raise ValueError(f"it has no column {absent[0]}, so that it is no table of {name}")
    if len(set(table.column_names)) < len(table.column_names):
        raise ValueError("it has two columns of one name")
    nested = [field.name for field in table.schema if pa.types.is_nested(field.type)]
    table = table.drop_columns(sorted({*nested} - {*SCHEMAS[name].names}))  # nothing that is grouped or compared
    for column in table.column_names:
        table = table.set_column(table.schema.get_field_index(column), *_column(table, column, SCHEMAS[name]))
    others = _others(table)
    for field in SCHEMAS[name]:
        if field.name not in table.column_names and field.name not in others:
            before = BEFORE.get(field.name)
            values = pa.nulls(len(table), field.type) if before is None else pa.array([before] * len(table))
            table = table.append_column(field, values)
    return table


def _others(table: pa.Table) -> frozenset[str]:
    """The columns of classification, where the table is of another task."""
    if "primary_metric" in table.column_names:
        is_other = len(table) > 0 and not pc.any(pc.equal(table["primary_metric"], BEFORE["primary_metric"])).as_py()
    else:
        is_other = "validation_loss" in table.column_names and any(
            name.startswith("validation_") and name not in ("validation_loss", *CURVES.names)
            for name in table.column_names
        )
    return OF_CLASSIFICATION if is_other else frozenset()


def _column(table: pa.Table, name: str, schema: pa.Schema) -> tuple[pa.Field, pa.ChunkedArray]:
    field, values = table.schema.field(name), table[name]
    wanted = schema.field(name).type if name in schema.names else _simple(field.type)
    if values.type != wanted:
        try:
            values = values.cast(wanted)
        except pa.ArrowException as error:
            raise ValueError(f"its column {name} holds {field.type}, not {wanted}") from error
    if name in KEYS:
        _check_keys(name, values)
    elif pa.types.is_string(wanted):
        values = _plain(values)
    elif pa.types.is_floating(wanted):
        values = pc.if_else(pc.less_equal(pc.abs(values), LARGEST), values, pa.scalar(None, wanted))
    return field.with_type(wanted), values


def _simple(kind: pa.DataType) -> pa.DataType:
    """What a setting is read as, whatever type its column has: a truth, a whole number, a number or a text."""
    types = pa.types
    if types.is_null(kind) or types.is_boolean(kind) or (types.is_integer(kind) and kind != pa.uint64()):
        return kind
    is_number = types.is_floating(kind) or types.is_decimal(kind) or kind == pa.uint64()
    return pa.float64() if is_number else pa.string()


def _check_keys(name: str, values: pa.ChunkedArray) -> None:
    if name != "stage_keys" and values.null_count:
        raise ValueError(f"its column {name} is empty in some rows")
    flat = pc.unique(pc.list_flatten(values) if pa.types.is_list(values.type) else values)
    wrong = flat.filter(pc.invert(pc.match_substring_regex(flat, KEY)))
    if len(wrong):
        raise ValueError(f"its column {name} holds {wrong[0].as_py()!a}, which is no key")


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without characters that steer a terminal: sweep files have none."""
    written = {text: visible(text) for text in pc.unique(values).to_pylist() if text is not None}
    if all(text == shown for text, shown in written.items()):
        return values
    return pa.chunked_array([[None if text is None else written[text] for text in values.to_pylist()]], values.type)


def asked_for(table: pa.Table) -> dict[str, Any] | None:
    """What the metadata of `trials.parquet` says of its sweep, None where it says nothing that can be used."""
    try:
        said = parsed((table.schema.metadata or {}).get(SWEEP_KEY, b"null"))
    except ValueError:
        return None
    if not isinstance(said, dict) or not isinstance(said.get("trials"), int) or "sweep" not in said:
        return None
    seeds = said.get("seeds")
    is_known = seeds is None or (isinstance(seeds, list) and all(isinstance(seed, int) for seed in seeds))
    return {"sweep": visible(str(said["sweep"])), "trials": said["trials"], "seeds": seeds if is_known else None}
