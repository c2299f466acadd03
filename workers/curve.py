"""The curve of a stage: a row per epoch."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prunesweep.workers.errors import Diverged
from prunesweep.workers.tasks.base import Metric

if TYPE_CHECKING:
    from prunesweep.workers.scoring import Score


def curve_row(
    metric: Metric, epoch: int, validation: Score, training: Score | None, lr: float | None
) -> dict[str, Any]:
    """An epoch's row, but for what is said of sparsity; `metric` is the task's primary one."""
    return {
        "epoch": epoch,
        "train_loss": training and training.loss,
        f"train_{metric.name}": training and training.metrics[metric.name],
        "validation_loss": validation.loss,
        f"validation_{metric.name}": validation.metrics[metric.name],
        "learning_rate": lr,
    }


def require_finite(what: str, score: Score, epoch: int) -> None:
    """Raise `Diverged` unless it is: weights may become NaN in an epoch's last step, after its last training loss."""
    if not math.isfinite(score.loss):
        raise Diverged(f"the {what} loss became {score.loss} in epoch {epoch}; try a lower learning rate")


def curve_file(metric: Metric, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The curve of a stage as a Parquet file; `metric` is the task's primary one."""
    import pyarrow as pa  # the driver, which plans stages with this module, does without
    import pyarrow.parquet

    losses = ("train_loss", f"train_{metric.name}", "validation_loss", f"validation_{metric.name}")
    names = (*losses, "learning_rate", "sparsity", "nonzero_multiply_adds")
    schema = pa.schema([("epoch", pa.int64()), *((name, pa.float64()) for name in names)])
    sink = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(rows, schema), sink)
    return sink.getvalue()
