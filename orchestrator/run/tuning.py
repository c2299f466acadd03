"""The columns that say what the tuning of a trial's setting cost: of the sweep's searches, and not of its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from statistics import stdev
from typing import NamedTuple

import pyarrow as pa

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.search.decision import Decision


class Tuning(NamedTuple):
    """What a search spent and saw; its fields are columns of `trials.parquet`."""

    tuning_epochs: int
    candidates: int
    candidate_spread: float | None
    tuned_sparsity: float | None


COLUMNS = ("tuning_epochs", "candidates", "candidate_spread", "tuned_sparsity")


def tuning(plan: Plan) -> dict[str, Tuning]:
    """By trial, of those whose setting a search has chosen; where several have, the first of the file."""
    by_trial: dict[str, Tuning] = {}
    for decision in plan.decisions:
        spent = _of(decision) if decision.trials else None
        for trial in decision.trials:
            if spent is not None:
                by_trial.setdefault(trial.key, spent)
    return by_trial


def with_tuning(table: pa.Table, trials: Sequence[str], by_trial: Mapping[str, Tuning]) -> pa.Table:
    """The rows of these trials with these columns filled; rows that were written before may have others' numbers."""
    for name in COLUMNS:
        values = [getattr(by_trial[trial], name) if trial in by_trial else None for trial in trials]
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))
    return table


def _of(decision: Decision) -> Tuning:
    """The spread is over the candidates that were trained to the end, and on target where there is one."""
    scores = [score for _, score in decision.final_scores() if not isnan(score)]
    spread = stdev(scores) if len(scores) > 1 else None
    return Tuning(decision.spent, len(decision.candidates), spread, decision.winner_sparsity)
