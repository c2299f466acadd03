"""Weights that stand the other way round, (inputs, outputs): what needs to know the inputs refuses them by name."""

from __future__ import annotations

from collections.abc import Iterable

from prunesweep.workers import methods
from prunesweep.workers.errors import UserError
from prunesweep.workers.patterns import is_pattern
from prunesweep.workers.recorded import Recording
from prunesweep.workers.spec import Stage, TrainStage

SHOWN = 3


def require_usual(stage: Stage, weights: Iterable[str], recording: Recording) -> None:
    """Raise `UserError` where the stage groups weights by their inputs or outputs, and one of these stands otherwise.

    Patterns N:M are along the second dimension, and `per_output` methods go by the first, as `nn.Linear` has them.
    """
    others = [name for name in weights if name in recording.transposed]
    what = _grouping(stage) if others else None
    if what is not None:
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        raise UserError(
            f"{what} takes weights [outputs, inputs], and {', '.join(others[:SHOWN])}{more} are [inputs, outputs], as "
            "in transposed convolutions and GPT-2's Conv1D: leave them out, with prune: {except: [...]}, or take "
            f"another {'allocation' if ':' in what else 'method'}"
        )


def _grouping(stage: Stage) -> str | None:
    """What in a stage goes by the inputs or outputs of weights."""
    if not isinstance(stage, TrainStage):
        allocation = getattr(stage, "allocation", "")
        return allocation if is_pattern(allocation) else None
    settings = stage.method.settings
    for value in (settings.get("allocation"), settings.get("pattern")):
        if isinstance(value, str) and is_pattern(value):
            return value
    return f"method {stage.method}" if methods.create(stage.method).per_output else None
