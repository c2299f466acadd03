"""The curve of a stage: a row per epoch."""

from __future__ import annotations

import io
import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from prunesweep.workers.errors import Diverged
from prunesweep.workers.training import Score

CURVE_SCHEMA = pa.schema(
    [
        ("epoch", pa.int64()),
        ("train_loss", pa.float64()),
        ("train_accuracy", pa.float64()),
        ("validation_loss", pa.float64()),
        ("validation_accuracy", pa.float64()),
        ("learning_rate", pa.float64()),
        ("sparsity", pa.float64()),
        ("nonzero_multiply_adds", pa.float64()),
    ]
)


def require_finite(what: str, score: Score, epoch: int) -> None:
    """Raise `Diverged` unless it is: weights may become NaN in an epoch's last step, after its last training loss."""
    if not math.isfinite(score.loss):
        raise Diverged(f"the {what} loss became {score.loss} in epoch {epoch}; try a lower learning rate")


def curve_file(rows: list[dict[str, Any]]) -> bytes:
    """The curve of a stage as a Parquet file."""
    sink = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(rows, CURVE_SCHEMA), sink)
    return sink.getvalue()
