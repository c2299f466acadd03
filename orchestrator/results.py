"""Finished results as DataFrames: load, select, aggregate."""

from __future__ import annotations

import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from orchestrator.columns import MEASUREMENTS, SCHEMA_VERSION, VERSION_KEY, better
from workers.errors import UserError, unknown
from workers.files import remote

SUBJECT = ("dataset", "model")
AXES = ("target_sparsity", "total_epochs")

Mask = Any
"""A boolean for each row."""

Key = tuple[Any, ...]

Compare = Callable[[Any, Any], Mask]

_TABLES = ("trials.parquet", "curves.parquet", "layers.parquet")
_ORDER: Mapping[str, Compare] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_CONDITION = re.compile(r"\s*([^<>=!]*?)\s*(<=|>=|!=|==|=|<|>)\s*(.*?)\s*")


@dataclass(frozen=True)
class Cell:
    """A mean over `n` seeds in the metric's own unit; `std` is None for one seed.

    `best` and `near` are among the cells that it competes with: of the same dataset, model, sparsity and total epochs.
    `near` is within one standard deviation of the best: the means differ by at most the best cell's `std`.
    """

    settings: Mapping[str, Any]
    mean: float
    std: float | None
    n: int
    best: bool = False
    near: bool = False

    def at(self, names: Iterable[str]) -> Key:
        """The cell's settings under these names."""
        return tuple(self.settings[name] for name in names)

    @property
    def statistics(self) -> dict[str, float | int | bool | None]:
        """All but the settings."""
        return {"mean": self.mean, "std": self.std, "n": self.n, "best": self.best, "near": self.near}


def load_results(folder: str | Path, *more: str | Path) -> pd.DataFrame:
    """A row per finished trial, as `orchestrator.columns` describes it.

    Each argument is a sweep's folder (`results/quickstart`), its URL, or a `trials.parquet` itself. A trial that
    several sweeps share comes once, from the first. Raises `UserError` where there are no results.
    """
    return _load("trials.parquet", (folder, *more))


def load_curves(folder: str | Path, *more: str | Path) -> pd.DataFrame:
    """A row per trial, stage and epoch, from the same places as `load_results`."""
    return _load("curves.parquet", (folder, *more))


def load_layers(folder: str | Path, *more: str | Path) -> pd.DataFrame:
    """A row per trial and layer, from the same places as `load_results`."""
    return _load("layers.parquet", (folder, *more))


def where(frame: pd.DataFrame, expressions: Sequence[str]) -> pd.DataFrame:
    """The rows that meet all conditions.

    A condition is `column=value`, `column!=value`, `column<value`, `<=`, `>`, `>=`; `column=a,b` is any of the values
    and `column!=a,b` none of them. A missing value equals nothing and lies on neither side of a number. Raises
    `UserError` for an unknown column, a value of the wrong type, and after `=` or `!=` one that no row has.
    """
    for expression in expressions:
        frame = frame[_mask(frame, expression)]
    return frame


def aggregate(frame: pd.DataFrame, metric: str, by: Sequence[str]) -> pd.DataFrame:
    """Mean, sample standard deviation and count over the seeds of each group; missing settings make groups too.

    `by` names at least one column. Returns the columns `by`, then `mean`, `std` (over n - 1, so NaN for one seed) and
    `n` (rows that have the metric).
    """
    for name in (metric, *by):
        check_column(frame, name)
    groups = frame.groupby(list(by), dropna=False, sort=False)[metric]
    return groups.agg(["mean", "std", "count"]).rename(columns={"count": "n"}).reset_index()


def cells(frame: pd.DataFrame, metric: str, names: Sequence[str], competing: Sequence[str]) -> list[Cell]:
    """The mean of every group of trials that agree in these settings, in the frame's order.

    The best is marked among those that agree in the settings `competing`, some of the names.
    """
    means, arenas = [], defaultdict(list)
    for row in aggregate(frame, metric, names).to_dict("records"):
        settings = {name: plain(row[name]) for name in names}
        means.append(Cell(settings, float(row["mean"]), plain(row["std"]), int(row["n"])))
        arenas[means[-1].at(competing)].append(means[-1])
    sign = {"higher": 1, "lower": -1}.get(better(metric), 0)
    best = {arena: _best(rivals, sign) for arena, rivals in arenas.items()}
    return [_judged(cell, best[cell.at(competing)], sign) for cell in means]


def _best(rivals: Sequence[Cell], sign: int) -> Cell | None:
    """None without a rival, when all are equal, and where neither direction is better."""
    best = max(rivals, key=lambda rival: sign * rival.mean)
    return best if sign and any(rival.mean != best.mean for rival in rivals) else None


def _judged(cell: Cell, best: Cell | None, sign: int) -> Cell:
    if best is None:
        return cell
    behind = sign * (best.mean - cell.mean)
    return replace(cell, best=behind == 0, near=0 < behind <= (best.std or 0.0))


def with_metric(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Each trial that has the metric, once; a `UserError` for an unknown metric, and when no trial has it."""
    numbers = set(frame.select_dtypes("number").columns)
    if metric not in numbers:
        raise UserError(unknown("metric", metric, numbers & set(MEASUREMENTS)))
    found = frame.drop_duplicates("trial").dropna(subset=[metric])
    if found.empty:
        raise UserError(f"nothing to compare: none of {len(frame)} finished trials has {metric}")
    return found


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
    if setting in chosen:
        return []
    varies = (frame.groupby(chosen, dropna=False)[setting].nunique(dropna=False) > 1).any()
    return [setting] if varies else []


def seeds_repeat(frame: pd.DataFrame, names: Sequence[str]) -> bool:
    """Whether two trials agree in these settings and in the seed: then they differ in a setting without a column."""
    return bool(frame.duplicated([*names, *({"seed"} - {*names})]).any())


def in_order(keys: Iterable[Key]) -> tuple[Key, ...]:
    """Each key once, by its first value, then the next: missing first, numbers by size, texts as they first appear."""
    found = list(dict.fromkeys(keys))
    ranks = [
        {value: _rank(value, i) for i, value in enumerate(dict.fromkeys(values))} for values in zip(*found, strict=True)
    ]
    return tuple(sorted(found, key=lambda key: [rank[value] for rank, value in zip(ranks, key, strict=True)]))


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
    if pd.isna(value):
        return None
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_column(frame: pd.DataFrame, name: str) -> None:
    """Raise `UserError` unless the frame has the column."""
    if name not in frame.columns:
        raise UserError(unknown("column", name, map(str, frame.columns)))


def _load(name: str, places: Sequence[str | Path]) -> pd.DataFrame:
    whole = _read(_file(places[0], name))
    for place in places[1:]:
        table = _read(_file(place, name))
        known = pc.is_in(table["trial"], value_set=whole["trial"].combine_chunks())
        whole = pa.concat_tables([whole, table.filter(pc.invert(known))], promote_options="permissive")
    frame: pd.DataFrame = whole.to_pandas()
    return frame


def _file(place: str | Path, name: str) -> str:
    if "://" in str(place):
        text, mark, options = str(place).partition("?")
        return _beside(text.rstrip("/"), name) + mark + options
    return _beside(str(Path(place).expanduser()), name)


def _beside(text: str, name: str) -> str:
    folder, _, last = text.rpartition("/")
    if last in _TABLES:
        return f"{folder or '.'}/{name}"
    return text if last.endswith(".parquet") else f"{text}/{name}"


def _read(path: str) -> pa.Table:
    try:
        place, inner = remote(path) if "://" in path else (LocalFileSystem(), path)
        table = pq.read_table(inner, filesystem=place, partitioning=None, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise UserError(f"no results at {path}; `prunesweep run SWEEP` makes them") from error
    except (pa.ArrowException, ValueError, OSError) as error:
        raise UserError(
            f"cannot read {path}: {error}; if the file is damaged, `prunesweep run SWEEP` writes it again"
        ) from error
    version = int((table.schema.metadata or {}).get(VERSION_KEY, 0))
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {version}, this prunesweep reads up to {SCHEMA_VERSION}; upgrade prunesweep"
        )
    return table


def _mask(frame: pd.DataFrame, expression: str) -> Mask:
    match = _CONDITION.fullmatch(expression)
    if match is None or not match[1] or not match[3]:
        raise UserError(f'"{expression}" is no condition; write column=value, column!=a,b, column<0.9, <=, > or >=')
    name, sign, text = match.groups()
    check_column(frame, name)
    column, parse = _typed(frame[name], expression)
    if sign in _ORDER:
        if parse is str:
            raise UserError(f'"{expression}": {name} is text and has no order; use = or !=')
        return _ORDER[sign](column, parse(text))
    chosen = [_present(column, parse(value.strip()), name) for value in text.split(",")]
    return column.isin(chosen) ^ (sign == "!=")


def _typed(column: pd.Series[Any], expression: str) -> tuple[pd.Series[Any], Callable[[str], Any]]:
    """The column in the type that it is compared in, and what makes that type of a text."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return column, lambda text: _time(text, expression)
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column, lambda text: _number(text, expression)
    return column.map(spelled, na_action="ignore"), str


def spelled(value: Any) -> str:
    """A value as a sweep file spells it."""
    if isinstance(value, list | tuple | np.ndarray):
        return " ".join(map(spelled, value))
    return str(value).lower() if isinstance(value, bool | np.bool_) else str(value)


def _number(text: str, expression: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f'"{expression}": "{text}" is no number') from error


def _time(text: str, expression: str) -> pd.Timestamp:
    try:
        time = pd.Timestamp(text)
    except ValueError as error:
        raise UserError(f'"{expression}": "{text}" is no time; write 2025-12-31 or 2025-12-31T18:00') from error
    return time if time.tzinfo else time.tz_localize("UTC")


def _present(column: pd.Series[Any], value: Any, name: str) -> Any:
    """The value; a `UserError` when no row has it, because a typing error would silently select nothing."""
    found = column.dropna().unique()
    if value not in found:
        show = str if isinstance(value, str | pd.Timestamp) else "{:g}".format
        raise UserError(unknown(name, show(value), [show(item) for item in found]))
    return value
