"""The metric by which trials are compared unless another is asked for: their task's primary one."""

from __future__ import annotations

import pandas as pd

from prunesweep.workers.errors import UserError

USUAL = "accuracy"
"""Of trials that do not say it, as those of before there were tasks."""


def primary(trials: pd.DataFrame) -> str:
    """Its name, such as `accuracy` or `mse`; raises `UserError` where the trials have several."""
    said = list(trials["primary_metric"].dropna().unique()) if "primary_metric" in trials else []
    if len(said) > 1:
        columns = ", ".join(f"test_{name}" for name in said)
        raise UserError(
            f"these trials are of several tasks, with {columns}: say which with --metric, or --where task=..."
        )
    return str(said[0]) if len(said) else USUAL


def on_test(trials: pd.DataFrame, metric: str | None = None) -> str:
    """The column of the metric, or of the primary one on the test set."""
    return metric or f"test_{primary(trials)}"


def on_validation(trials: pd.DataFrame, metric: str | None = None) -> str:
    """The column by which settings are chosen: this, or the primary one on the validation set."""
    return metric or f"validation_{primary(trials)}"
