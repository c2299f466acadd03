"""Where results come from: the code that the sweep was run with, and the code and devices of each trial."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from prunesweep.orchestrator.records import RECORD
from prunesweep.orchestrator.results.aggregation import plain
from prunesweep.workers.store import Store

MOST_DIFFERENCE = 200_000
"""Characters of a difference that are shown."""


@dataclass(frozen=True)
class Origin:
    """The code of a sweep's last run: its commit, the local changes on top of it, and the versions of packages."""

    sweep: str
    commit: str | None
    difference: str
    packages: Mapping[str, str]


@dataclass(frozen=True)
class Runs:
    """The number of trials that ran with this code on this device, and when the first and the last of them finished."""

    commit: str | None
    torch: str | None
    device: str | None
    trials: int
    first: str
    last: str


def origin(name: str, store: Store) -> Origin:
    """The origin that the store remembers of a sweep; the store must have that sweep."""
    provenance = json.loads(store.read(name, RECORD) or b"")["provenance"]
    difference = provenance["difference"]
    if len(difference) > MOST_DIFFERENCE:
        left_out = len(difference) - MOST_DIFFERENCE
        difference = f"{difference[:MOST_DIFFERENCE]}\n... and {left_out:,} characters more"
    return Origin(name, provenance["commit"], difference, provenance["packages"])


def runs(trials: pd.DataFrame) -> Sequence[Runs]:
    """By code and device, those with the most trials first."""
    groups = trials.groupby(["commit", "torch_version", "device"], dropna=False, sort=False)["finished_at"]
    times = groups.agg(["count", "min", "max"]).reset_index()
    return [_run(row) for row in times.sort_values("count", ascending=False, kind="stable").to_dict("records")]


def _when(time: pd.Timestamp) -> str:
    return "at an unknown time" if pd.isna(time) else f"{time:%Y-%m-%d %H:%M} UTC"


def _run(row: Mapping[Any, Any]) -> Runs:
    commit, torch, device = (plain(row[name]) for name in ("commit", "torch_version", "device"))
    first, last = (_when(row[name]) for name in ("min", "max"))
    return Runs(commit, torch, device, row["count"], first, last)
