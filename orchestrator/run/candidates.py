"""The rows of `candidates.parquet`: what each candidate of a sweep's searches came to, at each rung."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan
from typing import Any

import pyarrow as pa

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.results.schemas import candidates_schema
from prunesweep.orchestrator.search.decision import Decision
from prunesweep.orchestrator.search.space import Dimension, Range


def candidates_table(plan: Plan) -> pa.Table:
    """In the order of the searches, their rounds and their candidates."""
    dimensions = [dimension for decision in plan.decisions for dimension in decision.search.settings]
    types: dict[str, pa.DataType] = {}
    for dimension in dimensions:
        kind = _type(dimension)
        types[dimension.name] = kind if types.get(dimension.name, kind) == kind else pa.string()
    schema = candidates_schema(types)
    rows = [row for decision in plan.decisions for row in _rows(plan.sweep.name, decision)]
    texts = [name for name, kind in types.items() if kind == pa.string()]
    for row in rows:
        row |= {name: str(row[name]) for name in texts if row.get(name) is not None}
    return pa.Table.from_pylist(rows, schema=schema)


def _rows(sweep: str, decision: Decision) -> Iterator[dict[str, Any]]:
    search, base = decision.search, decision.search.base
    for step in decision.rounds:
        own, losses = dict(step.own_sparsities()), dict(step.copies())
        for candidate, paths, score in zip(step.candidates, step.paths, step.scores, strict=True):
            sparsity, loss = own.get(candidate), losses.get(candidate)
            yield {
                "sweep": sweep,
                "search": search.key,
                "dataset": base.dataset.name,
                "model": base.model.name,
                "method": base.method.name,
                "target_sparsity": base.sparsity or None,
                "algorithm": search.algorithm,
                "by": search.by,
                "better": "higher" if search.sign > 0 else "lower",
                "candidate": candidate.number,
                "epoch": step.epoch,
                "is_last": step.epoch == search.last_epoch,
                "score": None if score is None or isnan(score) else score,
                "pruned_loss": None if loss is None or isnan(loss) else loss,
                "diverged": score is not None and isnan(score),
                "own_sparsity": None if sparsity is None or isnan(sparsity) else sparsity,
                "on_target": None if sparsity is None else search.hit(sparsity),
                "winner": decision.winner is not None and candidate.number == decision.winner.number,
                "first_stage": paths[0][-1].key,
                **dict(candidate.point),
            }


def _type(dimension: Dimension) -> pa.DataType:
    """A column of numbers where all values are numbers, and else of texts."""
    if isinstance(dimension, Range):
        return pa.int64() if dimension.whole else pa.float64()
    kinds = {type(value) for value in dimension.values}
    if kinds == {int}:
        return pa.int64()
    return pa.float64() if kinds <= {int, float} else pa.string()
