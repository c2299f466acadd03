"""Parts of a stage, its first epochs: the state that a part leaves, and where a longer one finds it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from prunesweep.workers.curve import curve_file
from prunesweep.workers.spec import PartStage, Stage, Whole
from prunesweep.workers.store import CURVE, STATE, Damaged, Store
from prunesweep.workers.tasks.base import Metric

log = logging.getLogger("prunesweep")

Measured = tuple[dict[str, bytes], dict[str, Any]]
"""The files of a result, and what it says of them."""


def whole_of(stage: Stage) -> Whole:
    """The stage that this is a part of; of a whole stage itself."""
    return stage.whole if isinstance(stage, PartStage) else stage


def longest_state(store: Store, parts: Sequence[str]) -> bytes | None:
    """The state after the last of these parts, given by their keys, that is whole in the store."""
    for key in reversed(parts):
        result = store.result(key)
        if result is None:
            continue
        try:
            return store.read_published(key, STATE, result)
        except Damaged as damaged:  # its epochs are computed again, to the same bits
            log.warning("%s; the stage does not continue from it", damaged)
    return None


def measured_part(metric: Metric, state: bytes, curve: Sequence[Mapping[str, Any]]) -> Measured:
    """What a part leaves: its state and its curve, and of that the last row. The test set is not looked at.

    `metric` is the task's primary one.
    """
    names = ("train_loss", f"train_{metric.name}", "validation_loss", f"validation_{metric.name}")
    last = {name: curve[-1][name] for name in names} | {"reached_sparsity": curve[-1]["sparsity"]}
    return {STATE: state, CURVE: curve_file(metric, curve)}, {"metrics": last}
