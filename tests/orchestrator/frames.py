"""Rows of `trials.parquet`, made up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from prunesweep.orchestrator.results.schemas import CANDIDATES

SETTINGS: dict[str, Any] = {
    "sweep": "s",
    "dataset": "digits",
    "model": "resnet8",
    "method": "imp",
    "target_sparsity": 0.9,
    "retrain_schedule": None,
    "pretrain_epochs": 20,
    "retrain_epochs": 0,
    "phases": None,
}


def trials(values: Iterable[float | None], metric: str = "test_accuracy", **settings: Any) -> list[dict[str, Any]]:
    """A row for each value, seeds 0, 1, ..."""
    cell = {**SETTINGS, **settings}
    cell["total_epochs"] = cell["pretrain_epochs"] + cell["retrain_epochs"]
    return [{**cell, "trial": _key(cell, seed), "seed": seed, metric: value} for seed, value in enumerate(values)]


def _key(cell: dict[str, Any], seed: int) -> str:
    return hashlib.sha256(f"{cell}{seed}".encode()).hexdigest()[:20]


def imp(values: Iterable[float | None], schedule: str, epochs: int = 1, sparsity: float = 0.9, **more: Any) -> Any:
    retraining = {"retrain_schedule": schedule, "retrain_epochs": epochs, "target_sparsity": sparsity, "phases": 1}
    return trials(values, **{**retraining, **more})


def dense(values: Iterable[float], **more: Any) -> Any:
    return trials(values, method="dense", target_sparsity=None, **more)


def judged(
    validation: Sequence[float | None],
    test: Sequence[float],
    reached: Sequence[float] | float | None = None,
    **more: Any,
) -> list[dict[str, Any]]:
    """Trials to choose among; they reach their target unless it is said what they reach, together or each."""
    rows = trials(test, **more)
    target = rows[0]["target_sparsity"]
    each = reached if isinstance(reached, Sequence) else [(target or 0.0) if reached is None else reached] * len(rows)
    pairs = zip(rows, validation, each, strict=True)
    return [{**row, "validation_accuracy": value, "reached_sparsity": sparsity} for row, value, sparsity in pairs]


def curve(trial: dict[str, Any], trained: Sequence[float], *retrained: Sequence[float]) -> list[dict[str, Any]]:
    """Rows of `curves.parquet`: validation accuracies after epochs 1, 2, ... of training, then those of each phase.

    The first of a phase is that of the network just pruned.
    """
    rows, epoch = [], 0
    for number, values in enumerate((trained, *retrained)):
        for place, value in enumerate(values):
            pruned = number > 0 and place == 0
            epoch += not pruned
            rate = None if pruned else 0.1 / (1 + place)
            row = {"trial": trial["trial"], "stage": f"stage{number}", "epoch": epoch, "learning_rate": rate}
            rows.append({**row, "validation_accuracy": value, "sparsity": float(number > 0)})
    return rows


def layers(trial: dict[str, Any], **densities: float) -> list[dict[str, Any]]:
    """Rows of `layers.parquet`, in this order."""
    return [{"trial": trial["trial"], "layer": f"{name}.weight", "density": each} for name, each in densities.items()]


def candidate(method: str, number: int, epoch: int, score: float | None, lr: float) -> dict[str, Any]:
    """A row of `candidates.parquet`; of three candidates of gmp the third wins, of imp the second."""
    winner = number == {"gmp": 3, "imp": 2}[method]
    fixed = {"sweep": "s", "dataset": "digits", "model": "resnet8", "target_sparsity": 0.9}
    how = {
        "algorithm": "halving",
        "by": "validation_accuracy",
        "better": "higher",
        "own_sparsity": None,
        "on_target": None,
        "search": f"of_{method}",
        "method": method,
    }
    seen = {"candidate": number, "epoch": epoch, "is_last": epoch == 20, "score": score, "diverged": score is None}
    return {**fixed, **how, **seen, "winner": winner, "train.lr": lr}


def write(folder: Path, rows: list[dict[str, Any]], schema: pa.Schema, name: str = "trials") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / f"{name}.parquet")
    return folder


def candidates(scores: list[float], **fields: object) -> pd.DataFrame:
    """With learning rates of 0.1, 0.2 and so on, the best of them the winner."""
    rows = [
        {
            **dict.fromkeys(CANDIDATES.names),
            **{"search": "a", "dataset": "digits", "model": "resnet8", "method": "gmp", "target_sparsity": 0.9},
            **{"by": "validation_accuracy", "better": "higher", "candidate": number, "epoch": 20, "is_last": True},
            **{"score": score, "diverged": False, "winner": score == max(scores), "train.lr": number / 10},
            **fields,
        }
        for number, score in enumerate(scores, 1)
    ]
    return pd.DataFrame(rows)
