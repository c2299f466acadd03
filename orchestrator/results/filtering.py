"""Which trials: conditions such as `target_sparsity>=0.9` on the columns of a frame."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from prunesweep.orchestrator.results.parquet import SWEEPS
from prunesweep.workers.errors import UserError, unknown

Mask = Any
"""A boolean for each row."""

Compare = Callable[[Any, Any], Mask]

_ORDER: Mapping[str, Compare] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_CONDITION = re.compile(r"\s*([^<>=!]*?)\s*(<=|>=|!=|==|=|<|>)\s*(.*?)\s*")


def where(frame: pd.DataFrame, expressions: Sequence[str]) -> pd.DataFrame:
    """The rows that meet all conditions.

    A condition is `column=value`, `column!=value`, `column<value`, `<=`, `>`, `>=`; `column=a,b` is any of the values
    and `column!=a,b` none of them. A missing value equals nothing and lies on neither side of a number. Raises
    `UserError` for an unknown column, a value of the wrong type, and after `=` or `!=` one that no row has. Seeds that
    a condition leaves out are no longer missing.

    >>> frame = pd.DataFrame({"method": ["imp", "imp", "gmp"], "target_sparsity": [0.8, 0.9, 0.9]})
    >>> where(frame, ["method=imp", "target_sparsity>0.8"])
      method  target_sparsity
    1    imp              0.9
    """
    for expression in expressions:
        mask, sweeps = _mask(frame, expression), frame.attrs.get(SWEEPS)
        frame = frame[mask]
        if sweeps and expression.lstrip().startswith("seed"):
            left = {*frame["seed"].dropna()}
            frame.attrs[SWEEPS] = [{**sweep, "seeds": _both(sweep["seeds"], left)} for sweep in sweeps]
    return frame


def _both(planned: list[int] | None, left: set[int]) -> list[int] | None:
    return planned and [seed for seed in planned if seed in left]


def setting(frame: pd.DataFrame, expression: str) -> tuple[str, Any]:
    """The column and the value that `column=value` names; raises `UserError` as `where` does."""
    match = _CONDITION.fullmatch(expression)
    if match is None or match[2] not in ("=", "==") or "," in match[3]:
        raise UserError(f'"{expression}" names no setting; write column=value')
    return match[1], frame[_mask(frame, expression)][match[1]].iloc[0]


def check_column(frame: pd.DataFrame, name: str) -> None:
    """Raise `UserError` unless the frame has the column."""
    if name not in frame.columns:
        raise UserError(unknown("column", name, map(str, frame.columns)))


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
    values = column.dropna().unique()
    if value not in values:
        show = str if isinstance(value, str | pd.Timestamp) else "{:g}".format
        raise UserError(unknown(name, show(value), [show(item) for item in values]))
    return value
