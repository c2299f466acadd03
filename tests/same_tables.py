"""Whether two runs of a sweep gave the same, bit for bit."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from prunesweep.orchestrator.results.parquet import load_candidates, load_curves, load_layers, load_results
from prunesweep.workers.errors import UserError
from prunesweep.workers.store import STATE
from tests.orchestrator.run.test_driver import VARYING

Rows = dict[tuple[object, ...], list[str]]
"""Key of a row -> the rows with that key, as text."""


class Comparison(NamedTuple):
    """Rows of a table; `lost` includes a whole table that cannot be read, `doubled` rows that should not be there."""

    compared: int
    lost: int
    doubled: int
    different: int

    @property
    def equal(self) -> bool:
        return not (self.lost or self.doubled or self.different)


def networks(folder: Path) -> pd.DataFrame:
    """The checksums of every finished stage's files: network, momentum, curve.

    The state after a part holds the seconds that it took; what is continued from it has the same bits, or has not.
    """
    results = ((path, json.loads(path.read_text())) for path in sorted(folder.parent.glob("stages/*/result.json")))
    rows = [(path.parent.name, name, sum_) for path, each in results for name, sum_ in sorted(each["files"].items())]
    return pd.DataFrame([row for row in rows if row[1] != STATE], columns=["stage", "file", "sum"])


def candidates(folder: Path) -> pd.DataFrame:
    """What searches tried, promoted and chose; empty where there are none."""
    return load_candidates(folder) if (folder / "candidates.parquet").exists() else pd.DataFrame()


TABLES: Mapping[str, tuple[Callable[[Path], pd.DataFrame], list[str]]] = {
    "trials": (load_results, ["trial"]),
    "curves": (load_curves, ["trial", "stage", "epoch"]),
    "layers": (load_layers, ["trial", "layer"]),
    "candidates": (candidates, ["search", "candidate", "epoch"]),
    "networks": (networks, ["stage", "file"]),
}
"""How each is read from a sweep's folder, and what makes a row of it unique."""


def compare(expected: Path, found: Path) -> dict[str, Comparison]:
    """Two folders of a sweep's tables, row by row, without the columns that are times or counts of attempts."""
    return {name: _compare(_rows(expected, name), _rows(found, name)) for name in TABLES}


def _compare(expected: Rows, found: Rows) -> Comparison:
    both = expected.keys() & found.keys()
    extra = sum(map(len, found.values())) - len(both)
    different = sum(expected[key] != found[key][:1] for key in both)
    return Comparison(len(expected), len(expected) - len(both), extra, different)


def _rows(folder: Path, name: str) -> Rows:
    """Each row as text, which tells every float from every other."""
    load, keys = TABLES[name]
    rows: Rows = defaultdict(list)
    try:
        frame = load(folder).drop(columns=VARYING, errors="ignore")
    except UserError:
        return rows
    for row in frame.to_dict("records"):
        rows[tuple(row[key] for key in keys)].append(repr(row))
    return rows


def assert_same(expected: Path, found: Path) -> None:
    """The tables as wholes: the order of rows and the types of columns as well."""
    for load, _ in TABLES.values():
        wanted, got = (load(folder).drop(columns=VARYING, errors="ignore") for folder in (expected, found))
        pd.testing.assert_frame_equal(got, wanted, check_exact=True)
