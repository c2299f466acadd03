"""What searches have seen: scores over each setting, at the rungs, and the best to expect after so many candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from prunesweep.orchestrator.figures.axes import log_ticks
from prunesweep.orchestrator.figures.charts import Axis, Chart, Panel, Series
from prunesweep.orchestrator.figures.comparisons import Frames
from prunesweep.orchestrator.figures.wording import heading, in_unit, percent
from prunesweep.orchestrator.results.candidates import lower_is_better
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.results.schemas import CANDIDATES
from prunesweep.orchestrator.results.units import Scale, scale
from prunesweep.orchestrator.tables.wording import words
from prunesweep.workers.errors import UserError

CELL = ["dataset", "model", "target_sparsity"]
"""Searches of different methods in one cell are drawn in one panel."""

STOPPED = "stopped at a rung"
"""Candidates whose last score is of a rung, in the place of their method."""

SPREAD = 20.0
"""Settings whose largest value is so many times the smallest are drawn on a logarithmic axis."""


def tuning(frames: Frames, query: Query) -> Chart:
    """A panel for each setting and cell: the last score of each candidate over its value, a colour for each method.

    Candidates that were stopped at a rung are gray.
    """
    scored = _scored(frames)
    last = scored.sort_values("epoch").groupby(["search", "candidate"], sort=False).tail(1)
    unit, panels = scale(last["by"].iloc[0]), []
    for cell, same in last.groupby(CELL, sort=False, dropna=False):
        for name in (name for name in same.columns if name not in CANDIDATES.names):
            rows = same[same[name].notna()]
            if len(rows) and rows[name].nunique() > 1:
                panels.append(_over(name, rows, _title(last, cell), unit))
    if not panels:
        raise UserError("nothing to plot over settings: no search has scores of two values of one")
    return Chart(_said(last, "over the settings searched"), panels, [], frames.hues)


def rungs(frames: Frames, query: Query) -> Chart:
    """A panel for each search of several rungs: the scores of its candidates over epochs, those trained on joined."""
    scored, panels = _scored(frames), []
    unit = scale(scored["by"].iloc[0])
    for (*cell, method), same in scored.groupby([*CELL, "method"], sort=False, dropna=False):
        if same["epoch"].nunique() < 2:
            continue
        series = []
        for _, rows in same.groupby(["search", "candidate"], sort=False):
            is_winner = bool(rows["winner"].any())
            x, y = rows["epoch"].astype(float).tolist(), (rows["score"] * unit.factor).tolist()
            name, kind = (
                ("the winner", "line") if is_winner else ("other candidates", "line" if len(x) > 1 else "points")
            )
            series.append(_series(name, kind, x, y, hue=str(method) if is_winner else ""))
        epochs = sorted(same["epoch"].unique())
        axis = Axis("epochs", "linear", epochs, [f"{epoch:g}" for epoch in epochs])
        panels.append(
            Panel(heading((*_title(scored, cell), method)), axis, Axis(_label(scored, unit)), _joined(series))
        )
    if not panels:
        raise UserError("nothing to plot over rungs: no search has more than one")
    return Chart(_said(scored, "at the rungs"), panels, _of_copies(scored), frames.hues)


def tries(frames: Frames, query: Query) -> Chart:
    """A panel for each cell: the best score to expect after k candidates, a curve for each method (`expected_best`)."""
    scored = _scored(frames)
    final, panels = scored[scored["is_last"]], []
    if final.empty:
        raise UserError("nothing to plot over candidates: none was trained to the end yet")
    unit = scale(final["by"].iloc[0])
    lower = lower_is_better(final)
    for cell, same in final.groupby(CELL, sort=False, dropna=False):
        series = []
        for method, rows in same.groupby("method", sort=False):
            best = [value * unit.factor for value in expected_best(rows["score"].tolist(), lower=lower)]
            series.append(
                _series(str(method), "line", [float(k) for k in range(1, len(best) + 1)], best, hue=str(method))
            )
        panels.append(
            Panel(heading(_title(final, cell)), Axis("candidates", whole=True), Axis(_label(final, unit)), series)
        )
    notes = ["expected best of k candidates drawn from those that were trained to the end (Dodge et al. 2019)"]
    if (final["algorithm"] == "halving").any():
        notes.append("halving trains to the end only what did well before: its curves begin too high")
    if final["on_target"].notna().any():
        notes.append("with a target candidates that missed it are left out; each of the others took several trainings")
    return Chart(_said(final, "expected best"), panels, notes, frames.hues)


def expected_best(scores: Sequence[float], *, lower: bool = False) -> list[float]:
    """The expected best of k = 1, 2, ..., n scores drawn with replacement from these n (Dodge et al. 2019, sect. 3.2).

    With the scores in order, v_1 <= ... <= v_n, it is the sum over i of v_i (i^k - (i - 1)^k) / n^k.

    >>> expected_best([0.5, 0.9])
    [0.7, 0.8]
    """
    ordered, count = sorted(scores, reverse=lower), len(scores)
    return [
        round(sum(v * ((i / count) ** k - ((i - 1) / count) ** k) for i, v in enumerate(ordered, 1)), 12)
        for k in range(1, count + 1)
    ]


def _of_copies(rows: pd.DataFrame) -> list[str]:
    """What must be known of rungs at which it is not the score alone that decides."""
    if "pruned_loss" not in rows or not rows["pruned_loss"].notna().any():
        return []
    return ["at a rung half of those that go on are chosen by the loss of a copy, pruned to the sparsity asked"]


def _scored(frames: Frames) -> pd.DataFrame:
    """Candidates with a score that may win, of those that most searches choose by; raises `UserError` without any."""
    candidates = frames.candidates()
    scored = candidates[candidates["score"].notna() & ~candidates["on_target"].eq(False)]
    if scored.empty:
        raise UserError("nothing to plot: no candidate has a score yet, at its target where there is one")
    same: pd.DataFrame = scored[scored["by"] == scored["by"].mode()[0]]
    return same


def _over(name: str, rows: pd.DataFrame, title: tuple[str, ...], unit: Scale) -> Panel:
    numbers = pd.api.types.is_numeric_dtype(rows[name])
    values = sorted(rows[name].unique()) if numbers else list(dict.fromkeys(rows[name]))
    if not numbers:
        axis = Axis(name, "category", range(len(values)), [str(value) for value in values])
    else:
        is_log = values[0] > 0 and values[-1] / values[0] >= SPREAD
        ticks = log_ticks(values) if is_log else ()
        axis = Axis(name, "log" if is_log else "linear", ticks, [f"{tick:g}" for tick in ticks])
    series = []
    named = rows.assign(series=rows["method"].where(rows["is_last"], STOPPED))
    for label, same in sorted(named.groupby("series", sort=False), key=lambda group: group[0] != STOPPED):
        x = [float(value) if numbers else float(values.index(value)) for value in same[name]]
        hue = "" if label == STOPPED else str(label)
        series.append(_series(str(label), "points", x, (same["score"] * unit.factor).tolist(), hue=hue))
    return Panel(heading(title), axis, Axis(_label(rows, unit)), series)


def _series(name: str, kind: str, x: Sequence[float], y: Sequence[float], hue: str = "") -> Series:
    return Series(name, kind, x, y, [None] * len(x), [1] * len(x), hue=hue)


def _joined(series: Sequence[Series]) -> list[Series]:
    """Points of one name in one series; lines stay as they are, the winner's last, so that it is above the others."""
    points = [one for one in series if one.kind == "points"]
    lines = sorted((one for one in series if one.kind == "line"), key=lambda one: one.name == "the winner")
    x, y = [value for one in points for value in one.x], [value for one in points for value in one.y]
    return [*([_series("other candidates", "points", x, y)] if points else []), *lines]


def _title(rows: pd.DataFrame, cell: Sequence[Any]) -> tuple[str, ...]:
    """The sparsity, and the dataset and the model where the rows have several."""
    *subject, sparsity = cell
    several = [str(value) for name, value in zip(CELL, subject, strict=False) if rows[name].nunique() > 1]
    return (*several, "dense" if pd.isna(sparsity) else f"sparsity {percent(sparsity)}")


def _label(rows: pd.DataFrame, unit: Scale) -> str:
    return in_unit(words(rows["by"].iloc[0]), unit)


def _said(rows: pd.DataFrame, what: str) -> str:
    fixed = ", ".join(str(rows[name].iloc[0]) for name in CELL[:2] if rows[name].nunique() == 1)
    return f"{fixed}{': ' if fixed else ''}{words(rows['by'].iloc[0])} of candidates, {what}"
