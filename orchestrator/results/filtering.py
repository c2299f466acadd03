"""Which trials: conditions such as `target_sparsity>=0.9` on the columns of a frame."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from prunesweep.orchestrator.results.parquet import SWEEPS
from prunesweep.workers.errors import UserError, unknown

Mask = Any
"""A boolean for each row."""

Compare = Callable[[Any, Any], Mask]

_ORDER: Mapping[str, Compare] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
ALIKE = 1e-9
"""Numbers are equal to this relative difference: 0.1 + 0.2 is 0.3."""

_BETWEEN_COMMAS = re.compile(r"""\s*(?:"[^"]*"|'[^']*'|[^,]+)""")
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+%?")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_CONDITION = re.compile(r"\s*([^<>=!]*?)\s*(<=|>=|!=|==|=|<|>)\s*(.*?)\s*")


class _Day(NamedTuple):
    """All times from one on, and before the other."""

    begin: pd.Timestamp
    end: pd.Timestamp

    def __str__(self) -> str:
        return f"{self.begin:%Y-%m-%d}"


TARGET = "target_sparsity"
SPARSITIES = (TARGET, "reached_sparsity", "overall_sparsity")
"""Columns whose conditions are about sparse networks."""


def where(frame: pd.DataFrame, expressions: Sequence[str], *, keep_dense: bool = False) -> pd.DataFrame:
    """The rows that meet all conditions.

    A condition is `column=value`, `column!=value`, `column<value`, `<=`, `>`, `>=`; `column=a,b` is any of the values
    and `column!=a,b` none of them; a value with commas is put into quotes. Numbers that print alike are equal, so that
    0.9 is also 0.9000000000000001, and 90% is 0.9. A day, such as 2026-11-28, is all times of that day, in UTC. A
    missing value equals nothing and lies on neither side of a number. Raises `UserError` for an unknown column, a value
    of the wrong type, after `=` or `!=` one that no row has, and where nothing lies on this side of a number. Seeds
    that a condition leaves out are no longer missing. With `keep_dense` conditions on sparsities leave trials without a
    target as they are: those are what the sparse ones are compared with.

    >>> frame = pd.DataFrame({"method": ["imp", "imp", "gmp"], "target_sparsity": [0.8, 0.9, 0.9]})
    >>> where(frame, ["method=imp", "target_sparsity>0.8"])
      method  target_sparsity
    1    imp              0.9
    """
    for expression in expressions:
        mask, sweeps = _mask(frame, expression), frame.attrs.get(SWEEPS)
        about_sparse = keep_dense and expression.lstrip().startswith(SPARSITIES)
        meeting = frame[mask | frame[TARGET].isna() if about_sparse and TARGET in frame else mask]
        if meeting.empty and not frame.empty:
            _require_order(frame, expression)
        frame = meeting
        if sweeps and expression.lstrip().startswith("seed"):
            left = {*frame["seed"].dropna()}
            frame.attrs[SWEEPS] = [{**sweep, "seeds": _both(sweep["seeds"], left)} for sweep in sweeps]
    return frame


def _require_order(frame: pd.DataFrame, expression: str) -> None:
    """Raise `UserError` when the condition, which no row meets, is one of order: the range tells of a wrong unit."""
    match = _CONDITION.fullmatch(expression)
    if match and match[2] in _ORDER and len(known := frame[match[1]].dropna()):
        extent = f"{match[1]} is from {spelled(known.min())} to {spelled(known.max())}"
        raise UserError(f'"{expression}" leaves none of {len(frame):,} rows: {extent}')


def _both(planned: list[int] | None, left: set[int]) -> list[int] | None:
    return planned and [seed for seed in planned if seed in left]


def setting(frame: pd.DataFrame, expression: str) -> tuple[str, Any]:
    """The column and the value that `column=value` names; raises `UserError` as `where` does."""
    match = _CONDITION.fullmatch(expression)
    if match is None or match[2] not in ("=", "==") or len(_values(match[3], frame.get(match[1]))) != 1:
        raise UserError(f'"{expression}" names no setting; write column=value')
    return match[1], frame[_mask(frame, expression)][match[1]].iloc[0]


def check_column(frame: pd.DataFrame, name: str) -> None:
    """Raise `UserError` unless the frame has the column."""
    if name not in frame.columns:
        raise UserError(unknown("column", name, map(str, frame.columns)))


def _mask(frame: pd.DataFrame, expression: str) -> Mask:
    match = _CONDITION.fullmatch(expression)
    if match is None or not match[1] or not match[3]:
        raise UserError(
            f'"{expression}" is no condition; write column=value, column!=a,b, column<0.9, <=, > or >=, in quotes, '
            "since a shell takes < and > for files"
        )
    name, sign, text = match.groups()
    check_column(frame, name)
    column, parse = _typed(frame[name], expression)
    if sign in _ORDER:
        if parse is str:
            raise UserError(f'"{expression}": {name} is text and has no order; use = or !=')
        return _ordered(column, sign, parse(_unquoted(text)))
    try:
        equal = [_equal(column, parse(value), name) for value in _values(text, column)]
    except UserError as error:
        if parse is str or not _DECIMAL_COMMA.fullmatch(text):
            raise
        raise UserError(f"{error}; these are two values: one would be {text.replace(',', '.')}") from error
    return np.logical_or.reduce(equal) ^ (sign == "!=")


def _values(text: str, column: pd.Series[Any] | None) -> list[str]:
    """The values between commas; the whole text is one where it is quoted, or a value that a row has."""
    if column is not None and text in set(column.dropna().map(spelled)):
        return [text]
    return [_unquoted(value.strip()) for value in _BETWEEN_COMMAS.findall(text)]


def _unquoted(text: str) -> str:
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if is_quoted else text


def _ordered(column: pd.Series[Any], sign: str, value: Any) -> Mask:
    """Below, above or at the value; what equals it is at it, to the last digit or not."""
    if isinstance(value, _Day):
        edge = value.begin if sign in ("<", ">=") else value.end
        return column < edge if sign in ("<", "<=") else column >= edge
    if isinstance(value, pd.Timestamp):
        return _ORDER[sign](column, value)
    at = np.isclose(column.astype(float), value, rtol=ALIKE, atol=0.0)
    return _ORDER[sign](column, value) & ~at | (at if "=" in sign else False)


def _equal(column: pd.Series[Any], value: Any, name: str) -> Mask:
    """Which rows have the value; a `UserError` when none has it, since a typing error would silently select nothing."""
    if isinstance(value, _Day):
        mask: Mask = ((column >= value.begin) & (column < value.end)).to_numpy()
    elif isinstance(value, float):
        mask = np.isclose(column.astype(float), value, rtol=ALIKE, atol=0.0)
    else:
        mask = (column == value).fillna(False).to_numpy(dtype=bool)
    if not mask.any():
        show = "{:g}".format if isinstance(value, float) else str
        raise UserError(unknown(name, show(value), [show(item) for item in column.dropna().unique()]))
    return mask


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
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError as error:
        raise UserError(f'"{expression}": "{text}" is no number') from error


def _time(text: str, expression: str) -> pd.Timestamp | _Day:
    """ISO's form alone: other orders of day and month would be guessed."""
    try:
        if _DAY.match(text) is None:
            raise ValueError(text)
        time = pd.Timestamp(text)
    except ValueError as error:
        raise UserError(f'"{expression}": "{text}" is no time; write 2025-12-31 or 2025-12-31T18:00') from error
    time = time if time.tzinfo else time.tz_localize("UTC")
    return _Day(time, time + pd.Timedelta(days=1)) if _DAY.fullmatch(text) else time
