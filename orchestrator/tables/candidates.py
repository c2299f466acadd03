"""The candidates of searches as a table: settings, and what they came to, the best first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from prunesweep.orchestrator.results.candidates import lower_is_better
from prunesweep.orchestrator.results.schemas import CANDIDATES, unit
from prunesweep.orchestrator.tables.text_table import Columns, Emphasis, Entry, Line, TextTable
from prunesweep.orchestrator.tables.wording import words
from prunesweep.orchestrator.text import counted

LABELS = ("dataset", "model", "method", "target_sparsity")

MANY = 5
"""Of fewer values that were tried, the best is often the first or the last."""


def candidates_table(frame: pd.DataFrame) -> TextTable:
    """A line for each candidate, as far as it was trained, search by search; the winner stands out."""
    settings, varied = _settings_of(frame), _varied(frame)
    ranked = ranked_candidates(frame)
    own = ["own sparsity"] if frame["own_sparsity"].notna().any() else []
    is_alike = bool(frame.groupby("search")[settings].count().gt(0).all(axis=None))
    heads = settings if is_alike else ["setting"]
    lines = [
        _line(
            row,
            varied,
            [
                *(_settings(row, settings) if is_alike else [_in_words(row, settings)]),
                str(row["epoch"]),
                *([_own_sparsity(row)] if own else []),
            ],
            place,
        )
        for place, row in ranked
    ]
    by = ", ".join(words(name) for name in dict.fromkeys(frame["by"]))
    return TextTable(
        title=f"candidates, chosen by {by}",
        heads=(*(("sparsity" if name == "target_sparsity" else name) for name in varied), "candidate"),
        columns=tuple((name,) for name in (*heads, "epochs", *own, by)),
        lines=tuple(lines),
        holds=Columns.TEXTS,
        legend=("{best} the winner",) if frame["winner"].any() else (),
        notes=tuple(_notes(frame)),
        records=tuple(_record(row, settings) for _, row in ranked),
    )


def ranked_candidates(frame: pd.DataFrame) -> list[tuple[int, Any]]:
    """Place within its search and row: those trained longest first, and of these the best; of each its last look.

    Searches are in the order of the sweep.
    """
    last = frame.loc[frame.groupby(["search", "candidate"], sort=False)["epoch"].idxmax()]
    ranked = []
    for _, same in last.groupby("search", sort=False):
        sign = -1 if lower_is_better(same) else 1
        missed = same["on_target"].astype("boolean").fillna(True).eq(False)
        better = same.assign(missed=missed, rank=sign * same["score"]).sort_values(
            ["winner", "epoch", "missed", "rank", "candidate"],
            ascending=[False, False, True, False, True],
            na_position="last",
        )
        ranked += list(enumerate(better.to_dict("records")))
    return ranked


def _line(row: dict[str, Any], varied: Sequence[str], texts: Sequence[str], place: int) -> Line:
    entries = [Entry(text) for text in texts]
    score = Entry(_score(row), Emphasis.BEST if row["winner"] else Emphasis.PLAIN)
    labels = (*(_label(name, row[name]) for name in varied), str(row["candidate"]))
    return Line(labels, (*entries, score), starts_block=place == 0)


def _label(name: str, value: Any) -> str:
    if name != "target_sparsity":
        return str(value)
    return "" if pd.isna(value) else f"{100 * value:.6g}%"


def _settings(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    return [_setting(row.get(name)) for name in names]


def _in_words(row: dict[str, Any], names: Sequence[str]) -> str:
    """In one text, where searches have different settings, whose columns would be empty for most."""
    return ", ".join(f"{name} {value}" for name, value in zip(names, _settings(row, names), strict=True) if value)


def _setting(value: Any) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _own_sparsity(row: dict[str, Any]) -> str:
    """`90.31`, and whether that misses the target; empty where there is none, or nothing is known."""
    if pd.isna(row["own_sparsity"]):
        return ""
    return f"{100 * row['own_sparsity']:.2f}{'' if row['on_target'] else ' (missed)'}"


def _score(row: dict[str, Any]) -> str:
    if row["diverged"]:
        return "diverged"
    if pd.isna(row["score"]):
        return "not known yet"
    return f"{100 * row['score']:.2f}" if unit(row["by"]) == "fraction" else f"{row['score']:.4f}"


def _notes(frame: pd.DataFrame) -> Iterator[str]:
    searches = frame["search"].nunique()
    undecided = searches - frame.loc[frame["winner"], "search"].nunique()
    yield "of the last look at each candidate; numbers are of validation images, fractions in percent"
    if "pruned_loss" in frame and frame["pruned_loss"].notna().any():
        yield (
            "at a rung two kinds of networks went on, by turns: those that were best, and those whose copy, pruned in "
            "one go to the sparsity asked, had the smallest loss"
        )
    if (missed := int(frame["on_target"].eq(False).sum())) > 0:
        yield f"{counted(missed, 'candidate')} missed the target sparsity, and can't win"
    if undecided:
        yield f"{undecided:,} of {counted(searches, 'search', 'searches')} without a winner yet"
    if ends := winners_at_ends(frame):
        yield f"winners at an end of the values tried, so that a wider range may be better: {', '.join(ends)}"


def winners_at_ends(frame: pd.DataFrame) -> list[str]:
    """`gmp train.lr 0.41`: winners beyond whose setting nothing was tried, so that a wider range may be better."""
    ends, settings, varied = [], _settings_of(frame), _varied(frame)
    for _, tried in frame.groupby("search", sort=False):
        for row in tried[tried["winner"]].tail(1).to_dict("records"):
            label = " ".join(_label(name, row[name]) for name in varied)
            ends += [f"{label} {name} {_setting(row[name])}" for name in settings if _is_at_end(tried[name], row[name])]
    return ends


def ended(frame: pd.DataFrame | None) -> str:
    """`, 3 to 7 of them to the end`: of the candidates of each search, where rungs have stopped some; else empty."""
    if frame is None or frame["is_last"].all():
        return ""
    counts = frame.groupby("search")["is_last"].sum()
    return f", {' to '.join(dict.fromkeys(f'{count:,}' for count in (counts.min(), counts.max())))} of them to the end"


def _settings_of(frame: pd.DataFrame) -> list[str]:
    """The columns of what is searched for."""
    return [name for name in frame.columns if name not in CANDIDATES.names and frame[name].notna().any()]


def _varied(frame: pd.DataFrame) -> list[str]:
    """What tells the searches apart, the method in any case."""
    return [name for name in LABELS if name == "method" or frame[name].nunique(dropna=False) > 1]


def _is_at_end(tried: pd.Series, value: Any) -> bool:
    is_number = pd.api.types.is_numeric_dtype(tried) and not pd.api.types.is_bool_dtype(tried)
    return is_number and tried.nunique() >= MANY and value in (tried.min(), tried.max())


def _record(row: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    own = {name: row[name] for name in settings if not (isinstance(row[name], float) and pd.isna(row[name]))}
    fixed = {name: row.get(name) for name in CANDIDATES.names}
    return {**{name: None if _is_missing(value) else value for name, value in fixed.items()}, "settings": own}


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and bool(pd.isna(value)))
