"""Finished results as DataFrames: select, aggregate, compare over seeds."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Any, Literal

import pandas as pd

from prunesweep.orchestrator.results.collapse import collapsed_seeds
from prunesweep.orchestrator.results.filtering import check_column
from prunesweep.orchestrator.results.group_means import group_means, indexed_means
from prunesweep.orchestrator.results.parquet import SWEEPS, sweeps_of
from prunesweep.orchestrator.results.schemas import IDENTITY, better, measurements
from prunesweep.orchestrator.results.statistics import LEVEL
from prunesweep.workers.errors import UserError, unknown

SUBJECT = ("dataset", "model")
DETAILS = {"dataset": ("dataset_options", "dataset_version"), "model": ("model_options", "model_version")}
"""What else a dataset or model of one name is, where it has several."""

OPTIONS = tuple(column for columns in DETAILS.values() for column in columns)
METHOD_VERSION = "method_version"
AXES = ("target_sparsity", "total_epochs")
REACHED = "reached_sparsity"

Key = tuple[Any, ...]


class Unranked(Enum):
    """Why a cell that has rivals is not among those that are ranked."""

    OFF_TARGET = "it reached another sparsity than its target"
    FEWER_SEEDS = "it has fewer seeds than others"
    FEW_SEEDS = "too few seeds to rank"
    UNLIKE_SEEDS = "its seeds are not those of the others"


@dataclass(frozen=True)
class Cell:
    """A mean over `n` seeds, of the `planned` ones, in the metric's own unit; `std` is None for one seed.

    `low` and `high` are its 95 % t interval. `best` and `near` are among the cells that it competes with: of the same
    dataset, model, sparsity and total epochs. `near` is not shown to be worse than the best: `p`, adjusted for all
    pairs of rivals, is above 5 %. `unranked` says why a cell with rivals is not ranked. `reached` is the mean sparsity
    that was reached, where known. In `collapsed` of the seeds a layer kept no weight. `failed` says why there is no
    mean: all its trials failed, `mean` is NaN and `n` 0.
    """

    settings: Mapping[str, Any]
    mean: float
    std: float | None
    n: int
    planned: int | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    best: bool = False
    near: bool = False
    unranked: Unranked | None = None
    reached: float | None = None
    failed: str | None = None
    collapsed: int = 0

    def at(self, names: Iterable[str]) -> Key:
        """The cell's settings under these names."""
        return tuple(self.settings[name] for name in names)

    @property
    def statistics(self) -> dict[str, float | int | bool | str | None]:
        """All but the settings."""
        return {
            "mean": None if self.failed else self.mean,
            "std": self.std,
            "n": self.n,
            "seeds": self.planned,
            "low": self.low,
            "high": self.high,
            "best": self.best,
            "near": self.near,
            "p_adjusted": self.p,
            **({"failed": self.failed} if self.failed else {}),
            **({"collapsed_seeds": self.collapsed} if self.collapsed else {}),
        }


def aggregate(
    frame: pd.DataFrame,
    metric: str,
    by: str | Sequence[str],
    *,
    interval: Literal["t", "bootstrap"] | None = None,
    level: float = LEVEL,
) -> pd.DataFrame:
    """Mean, sample standard deviation and count over the seeds of each group; missing settings make groups too.

    `by` names at least one column. Returns the columns `by`, then `mean`, `std` (over n - 1, so NaN for one seed) and
    `n` (rows that have the metric). With `interval`, then also `low` and `high`, the mean's confidence interval at
    `level`, NaN for n < 2: Student's, or the percentile bootstrap's, which is too narrow for three to five seeds.

    Where a group has several trials of one seed, and with them several settings, a warning names the settings.

    >>> frame = pd.DataFrame({"method": ["imp", "imp", "imp", "gmp"], "test_accuracy": [0.5, 0.6, 0.7, 0.8]})
    >>> aggregate(frame, "test_accuracy", "method", interval="t").round(3)
      method  mean  std  n    low   high
    0    imp   0.6  0.1  3  0.352  0.848
    1    gmp   0.8  NaN  1    NaN    NaN
    """
    names = listed(by)
    for name in (metric, *names):
        check_column(frame, name)
    if interval not in (None, "t", "bootstrap"):
        raise UserError(unknown("interval", str(interval), ["t", "bootstrap"]))
    if "seed" in frame and seeds_repeat(frame, names):
        warnings.warn(_pooled(frame, names), stacklevel=2)
    return group_means(frame, metric, names, interval, level)


def listed(names: str | Sequence[str]) -> list[str]:
    """The names of columns, of which a text is one."""
    return [names] if isinstance(names, str) else list(names)


def _pooled(frame: pd.DataFrame, names: Sequence[str]) -> str:
    settings = [str(name) for name in frame if name not in (*IDENTITY, *measurements())]
    varying = [name for name in separating(frame, names, settings) if name not in names]
    which = f" that differ in {', '.join(varying)}" if varying else ""
    return (
        f"a mean over all that agree in {', '.join(names)} is over several settings{which}, and n counts trials, not "
        "seeds: name these in `by`, or take one setting of each with select_best"
    )


@dataclass(frozen=True)
class Group:
    """A cell with its values by seed; none where seeds repeat, because nothing says which belong together."""

    cell: Cell
    values: Mapping[Any, float]


def groups(frame: pd.DataFrame, metric: str, names: Sequence[str]) -> list[Group]:
    """The trials that agree in these settings, in the frame's order, with how many seeds they are to have."""
    for name in (metric, *names):
        check_column(frame, name)
    indexed = indexed_means(frame, metric, names, "t")
    means, settings = indexed.to_dict("records"), indexed.index.to_frame(index=False).to_dict("records")
    pairs: list[list[tuple[Any, float]]] = [[] for _ in means]
    sweeps: list[set[str]] = [set() for _ in means]
    numbers = frame.groupby(list(names), dropna=False, sort=False).ngroup()
    for number, seed, sweep, value in zip(numbers, frame["seed"], frame["sweep"], frame[metric], strict=True):
        pairs[number].append((seed, value))
        sweeps[number].add(sweep)
    planned = _planned_seeds(frame)
    made = []
    reaches, collapses = _reached(frame, names), collapsed_seeds(frame, names)
    parts = zip(means, settings, pairs, sweeps, reaches, collapses, strict=True)
    for row, group, same, names_of_sweeps, reached, lost in parts:
        seeds = {seed for sweep in names_of_sweeps for seed in planned.get(sweep) or ()}
        count = len(seeds) if all(planned.get(sweep) for sweep in names_of_sweeps) else None
        std, low, high = (plain(row[name]) for name in ("std", "low", "high"))
        said = {name: plain(group[name]) for name in names}
        cell = Cell(said, float(row["mean"]), std, int(row["n"]), count, low, high, reached=reached, collapsed=lost)
        made.append(Group(cell, {} if len(dict(same)) < len(same) else dict(same)))
    return made


def _reached(frame: pd.DataFrame, names: Sequence[str]) -> list[float | None]:
    """The mean sparsity that each group reached."""
    same = frame.groupby(list(names), dropna=False, sort=False)
    return [plain(value) for value in same[REACHED].mean()] if REACHED in frame else [None] * same.ngroups


def _planned_seeds(frame: pd.DataFrame) -> dict[str, set[int] | None]:
    """By sweep; None where its settings have unlike seeds."""
    planned: dict[str, set[int] | None] = {}
    for sweep in frame.attrs.get(SWEEPS) or sweeps_of(frame):
        seeds, before = sweep["seeds"], planned.get(sweep["sweep"], set())
        planned[sweep["sweep"]] = None if seeds is None or before is None else before | set(seeds)
    return planned


def sign_of(metric: str) -> int:
    """1 where higher is better, -1 where lower is, 0 where neither is."""
    return {"higher": 1, "lower": -1}.get(better(metric), 0)


def best_of(rivals: Sequence[Group], sign: int) -> Group | None:
    """None without a rival, when all are equal, and where neither direction is better."""
    best = max(rivals, key=lambda rival: sign * rival.cell.mean)
    return best if sign and any(rival.cell.mean != best.cell.mean for rival in rivals) else None


def with_metric(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Each trial that has the metric, once; a `UserError` for an unknown metric, and when no trial has it."""
    numbers = set(frame.select_dtypes("number").columns)
    if metric not in numbers:
        raise UserError(unknown("metric", metric, numbers & set(measurements())))
    lacking = frame.duplicated("trial") | frame[metric].isna()
    trials = frame[~lacking] if lacking.any() else frame.copy(deep=False)  # large frames are seldom copied
    if trials.empty:
        raise UserError(f"nothing to compare: none of {len(frame)} finished trials has {metric}")
    trials.attrs[SWEEPS] = frame.attrs.get(SWEEPS) or sweeps_of(frame)
    return trials


def subject_columns(frame: pd.DataFrame) -> list[str]:
    """Dataset and model, and after each its options and its version where the frame has one name with several of them.

    What differs in these is trained on other data, or is another network: it never competes.
    """
    columns: list[str] = []
    for name, details in DETAILS.items():
        several = [
            detail
            for detail in details
            if detail in frame and (frame.groupby(name)[detail].nunique(dropna=False) > 1).any()
        ]
        columns += [name, *several]
    return columns


def separating(frame: pd.DataFrame, names: Sequence[str], settings: Iterable[str]) -> list[str]:
    """The names and as many further settings as it takes for every group to have one value of each setting.

    The sweep is added where it tells trials of one seed apart that no setting does.
    """
    for name in names:
        check_column(frame, name)
    chosen = list(names)
    for setting in settings:
        chosen += _varying(frame, chosen, setting)
    return chosen + _varying(frame, chosen, "sweep") if seeds_repeat(frame, chosen) else chosen


def _varying(frame: pd.DataFrame, chosen: list[str], setting: str) -> list[str]:
    if setting in chosen or frame[setting].nunique(dropna=False) < 2:  # most have one value, and groups take long
        return []
    varies = (frame.groupby(chosen, dropna=False)[setting].nunique(dropna=False) > 1).any()
    return [setting] if varies else []


def seeds_repeat(frame: pd.DataFrame, names: Sequence[str]) -> bool:
    """Whether two trials agree in these settings and in the seed: then they differ in a setting without a column."""
    return bool(frame.duplicated([*names, *({"seed"} - {*names})]).any())


def in_order(keys: Iterable[Key]) -> tuple[Key, ...]:
    """Each key once, by its first value, then the next: missing first, numbers by size, texts as they first appear."""
    distinct = list(dict.fromkeys(keys))
    ranks = [
        {value: _rank(value, i) for i, value in enumerate(dict.fromkeys(values))}
        for values in zip(*distinct, strict=True)
    ]
    return tuple(sorted(distinct, key=lambda key: [rank[value] for rank, value in zip(ranks, key, strict=True)]))


def _rank(value: Any, position: int) -> float:
    if value is None:
        return -inf
    return float(value) if isinstance(value, int | float) else position


def budgets(frame: pd.DataFrame) -> dict[int, str]:
    """How to write each total of epochs: `20+2` (pretraining + retraining) where all trials split it so, else `22`."""
    labels = {}
    for total, same in frame.groupby("total_epochs"):
        splits = same[["pretrain_epochs", "retrain_epochs"]].drop_duplicates().to_numpy()
        split = len(splits) == 1 and splits[0][1] > 0
        labels[plain(total)] = "+".join(f"{epochs:g}" for epochs in splits[0]) if split else f"{plain(total)}"
    return labels


def plain(value: Any) -> Any:
    """A value of a frame in Python's own type: missing is None, and a whole number that comes as a float is an int."""
    if isinstance(value, str | int):  # pandas takes ten times as long to tell
        return value
    if pd.isna(value):
        return None
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() else value
