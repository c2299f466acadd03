"""What `compare` computes: how far settings are from the best one, from a named one, or from published numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose, isnan, nan
from typing import Any

import pandas as pd

from prunesweep.orchestrator.results.aggregation import (
    AXES,
    DETAILS,
    REACHED,
    SUBJECT,
    Cell,
    Group,
    Key,
    Unranked,
    best_of,
    groups,
    plain,
    separating,
    sign_of,
    subject_columns,
    with_metric,
)
from prunesweep.orchestrator.results.filtering import check_column
from prunesweep.orchestrator.results.marking import OFF_TARGET, standings, values_of
from prunesweep.orchestrator.results.published import KEYS, OURS
from prunesweep.orchestrator.results.ranking import compare_with, rank
from prunesweep.orchestrator.results.schemas import IDENTITY, MEASUREMENTS, better
from prunesweep.orchestrator.results.statistics import SIGNIFICANCE, Paired, paired
from prunesweep.workers.errors import UserError, unknown

BY = ("method", "retrain_schedule")
AT = (*SUBJECT, *AXES)
OUT_OF_COMPETITION = (Unranked.OFF_TARGET, Unranked.FEWER_SEEDS)


@dataclass(frozen=True)
class Comparison:
    """A setting, what it is compared with, and the differences over the seeds that both have.

    The `reference` is another setting of the arena, or a published number, whose settings are what its paper states.
    `p` is adjusted for all tests of the arena, and NaN where the setting is not ranked. Where it is ranked, the
    difference's `low` and `high` hold for all settings of the arena at once: of the setting minus the best of the
    others, or minus the reference where that was named beforehand.
    """

    cell: Cell
    reference: Cell
    difference: Paired
    p: float = nan

    @property
    def is_ranked(self) -> bool:
        """Whether there are seeds enough, the same for all of the arena."""
        return not isnan(self.p)

    @property
    def distinguishable(self) -> bool | None:
        """Whether the setting is shown to be worse than the best, or unlike what was named; None if not ranked."""
        return self.p <= SIGNIFICANCE if self.is_ranked else None


def compare(
    frame: pd.DataFrame,
    metric: str = "test_accuracy",
    by: Sequence[str] = BY,
    at: Sequence[str] = AT,
    against: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
) -> pd.DataFrame:
    """How far each setting is from the best one, or from `against`, over the seeds that both have.

    Settings are `by` and what else varies within them: different settings are never averaged. They are compared
    within arenas, the trials that agree in the columns `at`, and in the options of dataset and model where these are
    among them; trials without a value in `at`, such as dense ones without a target, are in none. A setting that missed
    its target sparsity by more than `tolerance` (0.2 points) is out of competition. The reference of an
    arena is its best mean, or with `against`, such as `{"method": "gmp"}`, the best of the settings that have these
    values.

    Returns a row for each setting but the reference: its settings, and the reference's where they may differ as
    `against_...`; `difference` (setting minus reference), its sample deviation `std` and the number `n` of shared
    seeds. Settings with the same five seeds or more are ranked as `orchestrator.results.ranking` says: `p_adjusted`
    is that of its being as good as the best, or as the named reference, and `distinguishable` whether that is ruled
    out at 5 %. `low` and `high` are then 95 % intervals that hold for the whole arena at once, of the setting minus
    the best of the others, or minus the named reference. For what is not ranked they are Student's for this
    difference alone, and the other two are null. Raises `UserError` for unknown names, and where there is no best
    and no `against`.

    >>> accuracies = {"imp": [0.90, 0.92, 0.91, 0.90, 0.91], "gmp": [0.93, 0.96, 0.94, 0.95, 0.94]}
    >>> frame = pd.DataFrame([
    ...     {"trial": f"{method}{seed}", "sweep": "s", "method": method, "seed": seed, "test_accuracy": value}
    ...     for method, values in accuracies.items() for seed, value in enumerate(values)
    ... ])
    >>> rows = compare(frame, by=["method"], at=[])
    >>> rows[["method", "against_method", "difference", "n", "p_adjusted", "distinguishable"]].round(3)
      method against_method  difference  n  p_adjusted  distinguishable
    0    imp            gmp      -0.036  5       0.001             True
    """
    return pd.DataFrame([_row(comparison, at) for comparison in comparisons(frame, metric, by, at, against, tolerance)])


def comparisons(
    frame: pd.DataFrame,
    metric: str,
    by: Sequence[str],
    at: Sequence[str] = AT,
    against: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
) -> list[Comparison]:
    """As `compare`, arena by arena in the frame's order."""
    for name in (*by, *at, *(against or ())):
        check_column(frame, name)
    trials = with_metric(frame, metric).dropna(subset=list(at))
    if against is None and not better(metric):
        raise UserError(f"neither more nor less {metric} is better: say what to compare against, such as method=gmp")
    if trials.empty:
        raise UserError(f"nothing to compare: no trial with {metric} has all of {', '.join(at)}")
    arenas: dict[Key, list[Group]] = defaultdict(list)
    at = list(dict.fromkeys([*at, *(name for name in subject_columns(trials) if name in _options_of(at))]))
    names = list(dict.fromkeys([*at, *by, *(against or ())]))
    for group in groups(trials, metric, separating(trials, names, _settings(trials, metric))):
        arenas[group.cell.at(at)].append(group)
    near, sign = OFF_TARGET if tolerance is None else tolerance, sign_of(metric)
    return [comparison for rivals in arenas.values() for comparison in _in_arena(rivals, sign, against, near)]


def _options_of(at: Sequence[str]) -> list[str]:
    """The columns with the options and versions of the datasets and models that tell arenas apart."""
    return [detail for name, details in DETAILS.items() if name in at for detail in details]


def _settings(trials: pd.DataFrame, metric: str) -> list[str]:
    return [name for name in trials.columns if name not in (metric, *IDENTITY, *MEASUREMENTS)]


def _in_arena(
    rivals: Sequence[Group], sign: int, against: Mapping[str, Any] | None, tolerance: float
) -> Iterator[Comparison]:
    reasons = standings(rivals, tolerance)
    meant = [group for group in rivals if all(group.cell.settings[k] == v for k, v in (against or {}).items())]
    if against is None:
        meant = [group for group, reason in zip(rivals, reasons, strict=True) if reason not in OUT_OF_COMPETITION]
    if not meant:
        return
    reference = best_of(meant, sign) or meant[0]
    ranked = [group for group, reason in zip(rivals, reasons, strict=True) if reason is None]
    is_ranked = len(ranked) > 1 and any(group is reference for group in ranked)
    told = _ranked(ranked, reference, sign, against is not None) if is_ranked else {}
    for group, reason in zip(rivals, reasons, strict=True):
        if group is not reference:
            plain = paired(group.values, reference.values)
            low, high, p = told.get(id(group), (plain.low, plain.high, nan))
            yield Comparison(
                replace(group.cell, unranked=reason), reference.cell, replace(plain, low=low, high=high), p
            )


def _ranked(
    rivals: Sequence[Group], reference: Group, sign: int, is_named: bool
) -> dict[int, tuple[float, float, float]]:
    """Of each rival, by identity, the interval and p."""
    values = values_of(rivals, sign or 1)
    place = next(i for i, rival in enumerate(rivals) if rival is reference)
    ranking = compare_with(values, place) if is_named else rank(values)
    bounds = zip(ranking.low, ranking.high, strict=True) if sign >= 0 else zip(-ranking.high, -ranking.low, strict=True)
    return {
        id(rival): (float(low), float(high), float(p))
        for rival, (low, high), p in zip(rivals, bounds, ranking.p, strict=True)
    }


def _row(comparison: Comparison, at: Sequence[str]) -> dict[str, Any]:
    difference = comparison.difference
    other = {f"against_{name}": value for name, value in comparison.reference.settings.items() if name not in at}
    return {
        **comparison.cell.settings,
        **other,
        **{"difference": difference.mean, "std": difference.std, "n": difference.n},
        **{"low": difference.low, "high": difference.high, "p_adjusted": comparison.p},
        "distinguishable": comparison.distinguishable,
    }


# --- published numbers


@dataclass(frozen=True)
class BesidePublished:
    """The comparisons, in the sweep's order; the cells and the published rows (by place) that have no counterpart."""

    comparisons: tuple[Comparison, ...]
    cells: tuple[Cell, ...]
    alone: tuple[Cell, ...]
    published: pd.DataFrame
    missed: tuple[int, ...]


def beside_published(
    frame: pd.DataFrame, published: pd.DataFrame, metric: str, across: Collection[str] = ()
) -> BesidePublished:
    """Lay each mean over seeds beside the published numbers of the same settings.

    Settings that a published row does not state are not looked at, nor are those named in `across`. A cell that
    corresponds to several published rows comes once for each. Raises `UserError` where `published` lacks the metric,
    and for a name in `across` that published numbers never state.
    """
    for name in across:
        if name not in KEYS:
            raise UserError(f"--across {name}: {unknown('column', name, KEYS)}")
    rows = published[published["metric"] == metric]
    if rows.empty:
        raise UserError(f"nothing published: {unknown('metric', metric, published['metric'].unique())}")
    cells = _cells(frame, metric)
    reached = {_stated(row): row["mean"] for row in _records(published[published["metric"] == REACHED])}
    stated = [(row, _published_cell(row, reached)) for row in _records(rows)]
    matches = [
        (place, Comparison(cell, theirs, _difference(cell, theirs)))
        for cell in cells
        for place, (row, theirs) in enumerate(stated)
        if _correspond(cell, row, across)
    ]
    matched = {id(comparison.cell) for _, comparison in matches}
    return BesidePublished(
        comparisons=tuple(comparison for _, comparison in matches),
        cells=tuple(cells),
        alone=tuple(cell for cell in cells if id(cell) not in matched),
        published=rows,
        missed=tuple(sorted({*range(len(stated))} - {place for place, _ in matches})),
    )


def _cells(frame: pd.DataFrame, metric: str) -> list[Cell]:
    trials = with_metric(frame, metric)
    names = [*SUBJECT, *(name for name in KEYS if name in trials.columns and name not in SUBJECT)]
    names = separating(trials, names, _settings(trials, metric))
    return [group.cell for group in groups(trials, metric, names)]


def _published_cell(row: Mapping[str, Any], reached: Mapping[Key, float]) -> Cell:
    return Cell({name: row[name] for name in KEYS}, row["mean"], row["std"], n=0, reached=reached.get(_stated(row)))


def _difference(cell: Cell, theirs: Cell) -> Paired:
    """Of means: no seed is shared."""
    return Paired(cell.mean - theirs.mean, nan, 0, nan, nan)


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): plain(value) for name, value in row.items()} for row in rows.to_dict("records")]


def _stated(row: Mapping[str, Any]) -> Key:
    return tuple(row[name] for name in KEYS)


def _correspond(cell: Cell, row: Mapping[str, Any], across: Collection[str]) -> bool:
    for name in KEYS:
        wanted = row[name] if row.get(OURS + name) is None else row[OURS + name]
        if name not in across and wanted is not None and not _equal(cell.settings.get(name), wanted):
            return False
    return True


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, int | float) and isinstance(theirs, int | float):
        return isclose(ours, theirs, rel_tol=1e-9)
    return bool(ours == theirs)
