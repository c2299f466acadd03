"""What `compare` computes: how far settings are from the best one, or from a named one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from typing import Any

import pandas as pd

from prunesweep.orchestrator.results.aggregation import (
    AXES,
    DETAILS,
    SUBJECT,
    Cell,
    Group,
    Key,
    Unranked,
    best_of,
    groups,
    listed,
    plain,
    separating,
    sign_of,
    subject_columns,
    with_metric,
)
from prunesweep.orchestrator.results.filtering import check_column
from prunesweep.orchestrator.results.marking import OFF_TARGET, standings, values_of
from prunesweep.orchestrator.results.primary import on_test
from prunesweep.orchestrator.results.ranking import compare_with, rank
from prunesweep.orchestrator.results.schemas import IDENTITY, better, measurements
from prunesweep.orchestrator.results.statistics import SIGNIFICANCE, Paired, hedges_g, paired
from prunesweep.orchestrator.text import joined
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
    def effect(self) -> float | None:
        """Hedges' g of the setting minus the reference, over all seeds that each has; None where it is not defined."""
        ours, theirs = self.cell, self.reference
        if ours.std is None or theirs.std is None:
            return None
        return hedges_g((ours.mean, ours.std, ours.n), (theirs.mean, theirs.std, theirs.n))

    @property
    def distinguishable(self) -> bool | None:
        """Whether the setting is shown to be worse than the best, or unlike what was named; None if not ranked."""
        return self.p <= SIGNIFICANCE if self.is_ranked else None


def compare(
    frame: pd.DataFrame,
    metric: str | None = None,
    by: str | Sequence[str] = BY,
    at: str | Sequence[str] = AT,
    against: str | Mapping[str, Any] | None = None,
    tolerance: float | None = None,
) -> pd.DataFrame:
    """How far each setting is from the best one, or from `against`, over the seeds that both have.

    `metric` is the task's primary one on the test set unless given.
    Settings are `by` and what else varies within them: different settings are never averaged. They are compared
    within arenas, the trials that agree in the columns `at`, and in the options of dataset and model where these are
    among them; trials without a value in `at`, such as dense ones without a target, are in none. A setting that missed
    its target sparsity by more than `tolerance` (0.2 points) is out of competition. The reference of an
    arena is its best mean, or with `against`, such as `{"method": "gmp"}` or only `"gmp"`, the best of the settings
    that have these values. Settings that are alone in their arena are in no row: with fewer columns `at`, such as
    `["dataset", "model", "target_sparsity"]`, those of different budgets are compared.

    Returns a row for each setting but the reference: its settings, and the reference's where they may differ as
    `against_...`; `difference` (setting minus reference), its sample deviation `std` and the number `n` of shared
    seeds. `hedges_g` is the effect size: the difference of the two means over their pooled deviation, null where that
    is 0 or a setting has one seed.

    Settings with the same five seeds or more are ranked as `orchestrator.results.ranking` says: `p_adjusted` is that
    of its being as good as the best, or as the named reference, and `distinguishable` whether that is ruled out at
    5 %. `low` and `high` are then 95 % intervals that hold for the whole arena at once, of the setting minus
    the best of the others, or minus the named reference. For what is not ranked they are Student's for this
    difference alone, and the other two are null. Raises `UserError` for unknown names and values, where there
    is no best and no `against`, and where nothing has a rival.

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
    metric = on_test(frame, metric)
    named = {"method": against} if isinstance(against, str) else against
    at = listed(at)
    compared = comparisons(frame, metric, listed(by), at, named, tolerance)
    if not compared:
        raise UserError(nothing_to_compare(at, named))
    return pd.DataFrame([_row(comparison, at) for comparison in compared])


def nothing_to_compare(at: Sequence[str], against: Mapping[str, Any] | None) -> str:
    """Why there is no comparison at all."""
    named = "" if against is None else ", one of them with " + ", ".join(f"{k} {v}" for k, v in against.items()) + ","
    return f"nothing to compare: no two settings{named} have the same {joined([name.replace('_', ' ') for name in at])}"


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
    for name, value in (against or {}).items():
        values = {plain(item) for item in frame[name].unique()}
        if value not in values:
            raise UserError(unknown(name, str(value), [str(item) for item in values if item is not None]))
    trials = with_metric(frame, metric).dropna(subset=list(at))
    if against is None and not better(metric):
        raise UserError(f"neither more nor less {metric} is better: say what to compare against, such as method=gmp")
    if trials.empty:
        raise UserError(f"nothing to compare: no trial with {metric} has all of {', '.join(at)}")
    near, sign = OFF_TARGET if tolerance is None else tolerance, sign_of(metric)
    rivals = arenas(trials, metric, by, at, tuple(against or ())).values()
    return [comparison for same in rivals for comparison in _in_arena(same, sign, against, near)]


def arenas(
    trials: pd.DataFrame, metric: str, by: Sequence[str], at: Sequence[str], more: Sequence[str] = ()
) -> dict[Key, list[Group]]:
    """The settings that are compared with each other, by what they agree in; `more` tells settings apart, too."""
    rivals: dict[Key, list[Group]] = defaultdict(list)
    at = list(dict.fromkeys([*at, *(name for name in subject_columns(trials) if name in _options_of(at))]))
    names = list(dict.fromkeys([*at, *by, *more]))
    for group in groups(trials, metric, separating(trials, names, other_settings(trials, metric))):
        rivals[group.cell.at(at)].append(group)
    return rivals


def _options_of(at: Sequence[str]) -> list[str]:
    """The columns with the options and versions of the datasets and models that tell arenas apart."""
    return [detail for name, details in DETAILS.items() if name in at for detail in details]


def other_settings(trials: pd.DataFrame, metric: str) -> list[str]:
    """The columns of what a trial was given, but for its seed."""
    return [name for name in trials.columns if name not in (metric, *IDENTITY, *measurements())]


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
        **{"difference": difference.mean, "std": difference.std, "n": difference.n, "hedges_g": comparison.effect},
        **{"low": difference.low, "high": difference.high, "p_adjusted": comparison.p},
        "distinguishable": comparison.distinguishable,
    }
