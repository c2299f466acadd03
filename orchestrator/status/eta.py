"""The time left of a sweep, wherever it is shown: while it runs, and by `status`."""

from __future__ import annotations


def seconds_left(epochs: int, epochs_per_second: float | None) -> float | None:
    """For the epochs to come, at the pace of those that are computed now; None while nothing is known of the pace.

    Epochs that a checkpoint held, or that were done by an earlier run, took no time now and are no part of the pace.
    """
    return epochs / epochs_per_second if epochs_per_second else None
