"""Finished trials as other programs take them: a run with its settings, its curve and its results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from prunesweep.orchestrator.results.aggregation import plain
from prunesweep.orchestrator.results.parquet import load_curves, load_results
from prunesweep.orchestrator.results.schemas import CURVES, IDENTITY, measurements
from prunesweep.workers.location import Location

NAMED_AFTER = ("dataset", "model", "method", "retrain_schedule", "target_sparsity")

LONGEST_NAME = 180
"""Bytes of the settings in a name: file systems allow 255 for a name, of which seed, key and suffix take their part."""

Point = tuple[int, dict[str, float]]
"""An epoch, and the values of the columns of `curves.parquet` that are not missing."""


@dataclass(frozen=True)
class FinishedTrial:
    """A row of `trials.parquet` with its rows of `curves.parquet`, in their order; what is null is left out.

    `settings` are the sweep's, `results` the numbers that were measured, `notes` everything else, as text.
    """

    key: str
    name: str
    settings: Mapping[str, str | int | float | bool]
    results: Mapping[str, float]
    notes: Mapping[str, str]
    curve: Sequence[Point]
    finished_at: datetime

    @property
    def digest(self) -> str:
        """A hash of everything here."""
        return hashlib.sha256(json.dumps(asdict(self), default=str).encode()).hexdigest()[:20]


def finished(folders: Sequence[Location]) -> list[FinishedTrial]:
    """The finished trials of sweeps, in the order of their tables; raises `UserError` where there are no results."""
    trials, curves = load_results(*folders), load_curves(*folders)
    rows = dict(iter(curves.groupby("trial", sort=False)))
    return [_trial(row, list(_points(rows.get(row["trial"], curves[:0])))) for row in trials.to_dict("records")]


def _trial(row: Mapping[Any, Any], curve: list[Point]) -> FinishedTrial:
    known = {name: value for name, value in row.items() if not is_missing(value)}
    asked = [name for name in known if name not in measurements() and name not in IDENTITY]
    measured = {name: known[name] for name in measurements() if name in known}
    results = {name: float(value) for name, value in measured.items() if isinstance(value, int | float)}
    others = {"sweep": row["sweep"], **{name: value for name, value in measured.items() if name not in results}}
    return FinishedTrial(
        key=row["trial"],
        name=name_of(row),
        settings={name: plain(known[name]) for name in ("seed", *asked)},
        results=results,
        notes={name: _text(value) for name, value in others.items()},
        curve=curve,
        finished_at=row["finished_at"].to_pydatetime(),
    )


def _points(rows: pd.DataFrame) -> Iterator[Point]:
    measured = [name for name in CURVES.names if name not in ("trial", "stage", "epoch")]
    for row in rows.to_dict("records"):
        yield int(row["epoch"]), {name: float(row[name]) for name in measured if not is_missing(row[name])}


def name_of(row: Mapping[Any, Any]) -> str:
    """A name with the settings that people look for, and the key, which makes it unique and always the same.

    It fits into a file's name: where it would not, the settings' ends stand for them.
    """
    settings = [str(plain(row[name])) for name in NAMED_AFTER if not is_missing(row[name])]
    words = [setting.replace("/", "_").replace(":", "_") for setting in settings]
    if len("-".join(words).encode()) > LONGEST_NAME:
        share = LONGEST_NAME // len(words) - 1
        words = [word.encode()[-share:].decode(errors="ignore") for word in words]
    return "-".join([*words, f"seed{row['seed']}", row["trial"]])


def is_missing(value: Any) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if hasattr(value, "__iter__") and not isinstance(value, str) else str(value)
