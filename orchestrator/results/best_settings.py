"""Which setting of a method is its best: hyperparameters chosen by a mean over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunesweep.orchestrator.results.aggregation import (
    METHOD_VERSION,
    SUBJECT,
    Key,
    plain,
    separating,
    subject_columns,
    with_metric,
)
from prunesweep.orchestrator.results.filtering import check_column
from prunesweep.orchestrator.results.primary import on_validation
from prunesweep.orchestrator.results.schemas import IDENTITY, better, measurements
from prunesweep.workers.errors import UserError

TARGET, ASKED_SPARSITY, REACHED = "target_sparsity", "asked_sparsity", "reached_sparsity"

NEAR_TARGET = 0.02
"""A setting that is chosen competes at a target that it reaches within this, unless another tolerance is given."""


@dataclass(frozen=True)
class Selection:
    """The trials of the chosen settings, and for each group the settings in which its candidates differ."""

    trials: pd.DataFrame
    varied: Mapping[Key, tuple[str, ...]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """A setting with all its seeds: its own target, the target where it competes, and its means.

    `trials` are their places in the frame. `target` is None where it misses every target.
    """

    trials: tuple[int, ...]
    group: Key
    own_target: float | None
    target: float | None
    reached: float
    score: float
    seeds: int

    @property
    def placed(self) -> bool:
        """Without a target there is none to miss."""
        return self.own_target is None or self.target is not None


def select_best(frame: pd.DataFrame, by: str | None = None, tolerance: float | None = None) -> pd.DataFrame:
    """The trials of the best setting of each dataset, model, method and target sparsity.

    A setting is everything that a trial is given but the seed. Its mean of `by`, the primary metric on validation
    images unless given, over the seeds decides, in the
    direction that is better for that column; among equals, the first in the frame.

    A setting competes at the target, of any trial on the same dataset and model, that is nearest to its mean
    `reached_sparsity`, and nowhere when that is farther than `tolerance` (0.02): a method that learns its sparsity
    may miss its own target. The trials returned have the target where they compete as their `target_sparsity`, and
    their own in a new column `asked_sparsity`. Trials without a target compete among themselves. A setting with
    fewer seeds than a rival does not compete: it could win by luck.

    Raises `UserError` for a column that is missing or has no better direction, and when no setting competes.

    >>> rows = [(0.1, 0, 0.90, 0.89), (0.1, 1, 0.91, 0.90), (0.2, 0, 0.93, 0.92), (0.2, 1, 0.92, 0.94)]
    >>> frame = pd.DataFrame(rows, columns=["lr", "seed", "validation_accuracy", "test_accuracy"]).assign(
    ...     dataset="digits", model="resnet8", method="gmp", target_sparsity=0.9, reached_sparsity=0.9, sweep="s"
    ... )
    >>> frame["trial"] = [str(place) for place in frame.index]
    >>> select_best(frame)[["lr", "seed", "test_accuracy"]]
        lr  seed  test_accuracy
    2  0.2     0           0.92
    3  0.2     1           0.94
    """
    return choose(frame, on_validation(frame, by), tolerance, (*SUBJECT, "method")).trials


def choose(frame: pd.DataFrame, by: str, tolerance: float | None, groups: Sequence[str]) -> Selection:
    """As `select_best`, a setting for each target and each combination of the columns `groups`."""
    tolerance = NEAR_TARGET if tolerance is None else tolerance
    _check(frame, (*SUBJECT, *groups, TARGET, REACHED, by), by)
    trials = with_metric(frame, by).reset_index(drop=True)
    apart = [name for name in subject_columns(trials) if name not in SUBJECT]
    if METHOD_VERSION in trials and trials[METHOD_VERSION].nunique(dropna=False) > 1:
        apart.append(METHOD_VERSION)
    groups = list(dict.fromkeys([*groups, *apart]))
    varied = _varied(trials, groups)
    subject = subject_columns(trials)
    names = dict.fromkeys([*subject, *groups, TARGET, *(name for differing in varied.values() for name in differing)])
    settings, places = trials.groupby(list(names), dropna=False, sort=False), _places(frame, subject)
    candidates = list(_candidates(trials, settings, by, groups, subject, places, tolerance))
    arenas = _arenas(candidates)
    notes = tuple(_notes(candidates, arenas, by, tolerance))
    if not arenas:
        raise UserError(f"nothing to compare: {'; '.join(notes)}; a larger tolerance allows more")
    return Selection(_chosen(trials, [_best(arena, by) for arena in arenas]), varied, notes)


def _check(frame: pd.DataFrame, names: Iterable[str], by: str) -> None:
    for name in names:
        check_column(frame, name)
    if not better(by):
        judged = f"{on_validation(frame)}, validation_loss or another measurement of which one is better"
        raise UserError(f"cannot choose by {by}: neither more nor less of it is better; choose by {judged}")


def _varied(trials: pd.DataFrame, groups: Sequence[str]) -> dict[Key, tuple[str, ...]]:
    settings = [name for name in trials.columns if name not in (TARGET, *groups, *IDENTITY, *measurements())]
    return {
        tuple(map(plain, key)): tuple(separating(same, [TARGET], settings)[1:])
        for key, same in trials.groupby(list(groups), dropna=False, sort=False)
    }


def _places(frame: pd.DataFrame, subject: Sequence[str]) -> dict[Key, list[float]]:
    """The targets of each dataset and model."""
    targets = frame.groupby(list(subject), dropna=False)[TARGET]
    return {tuple(map(plain, key)): sorted(same.dropna().unique()) for key, same in targets}


def _candidates(
    trials: pd.DataFrame,
    settings: Any,
    by: str,
    groups: Sequence[str],
    subject: Sequence[str],
    places: Mapping[Key, list[float]],
    tolerance: float,
) -> Iterator[Candidate]:
    """One for each group of `settings`. There may be thousands, and a row of pandas takes longer than all else here."""
    columns = {name: trials[name].array for name in {*groups, *subject, TARGET}}
    reached, scores, seeds = (trials[name].to_numpy() for name in (REACHED, by, "seed"))
    for rows in _rows_of(settings):
        first = {name: plain(column[rows[0]]) for name, column in columns.items()}
        mean_reached, own_places = _mean(reached[rows]), places[tuple(first[name] for name in subject)]
        yield Candidate(
            trials=tuple(rows.tolist()),
            group=tuple(first[name] for name in groups),
            own_target=first[TARGET],
            target=None if first[TARGET] is None else _nearest(mean_reached, own_places, tolerance),
            reached=mean_reached,
            score=_mean(scores[rows]),
            seeds=len({seed for seed in seeds[rows] if not pd.isna(seed)}),
        )


def _rows_of(settings: Any) -> list[NDArray[np.intp]]:
    """The places of each group's rows, in the order of the groups."""
    numbers = settings.ngroup().to_numpy()
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def _mean(values: NDArray[Any]) -> float:
    """To the last bit as pandas computes it of a column; NaN where all are missing."""
    numbers = values.astype(float)
    missing = np.isnan(numbers)
    count = len(numbers) - int(missing.sum())
    return float(np.where(missing, 0.0, numbers).sum() / count) if count else nan


def _nearest(reached: float, targets: Iterable[float], tolerance: float) -> float | None:
    nearest = min(targets, key=lambda target: abs(target - reached))
    return nearest if round(abs(nearest - reached), 9) <= tolerance else None


def _arenas(candidates: Iterable[Candidate]) -> list[list[Candidate]]:
    """Those that compete with each other, in the frame's order."""
    arenas: dict[Key, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if candidate.placed:
            arenas[candidate.group, candidate.target].append(candidate)
    return list(arenas.values())


def _complete(arena: Sequence[Candidate]) -> list[Candidate]:
    full = max(candidate.seeds for candidate in arena)
    return [candidate for candidate in arena if candidate.seeds == full]


def _best(arena: Sequence[Candidate], by: str) -> Candidate:
    sign = 1 if better(by) == "higher" else -1
    return max(_complete(arena), key=lambda candidate: sign * candidate.score)


def _chosen(trials: pd.DataFrame, winners: Iterable[Candidate]) -> pd.DataFrame:
    targets = {number: winner.target for winner in winners for number in winner.trials}
    chosen = trials[trials.index.isin(targets)]
    return chosen.assign(asked_sparsity=chosen[TARGET], target_sparsity=chosen.index.map(targets).astype(float))


def _notes(
    candidates: Sequence[Candidate], arenas: Sequence[Sequence[Candidate]], by: str, tolerance: float
) -> Iterator[str]:
    if "test" in by.split("_"):
        yield f"caution: settings were chosen by {by}, on test data; the numbers flatter them"
    for group in dict.fromkeys(candidate.group for candidate in candidates):
        label = ", ".join("none" if value is None else str(value) for value in group)
        missed = "; ".join(_missed([c for c in candidates if c.group == group], tolerance))
        if missed:
            yield f"{label}: {missed}"
        spare = sum(len(arena) - len(_complete(arena)) for arena in arenas if arena[0].group == group)
        if spare:
            yield f"{label}: {_settings(spare)} left out, with fewer seeds than others at the same sparsity"


def _missed(same: Sequence[Candidate], tolerance: float) -> Iterator[str]:
    """How many settings are near no target, and the targets that no setting reached."""
    lost = sum(not candidate.placed for candidate in same)
    if lost:
        yield f"{lost} of {_settings(len(same))} left out, not within {tolerance:g} of a target"
    for target in sorted({c.own_target for c in same if c.own_target is not None} - {c.target for c in same}):
        nearest = min((candidate.reached for candidate in same), key=lambda reached: abs(reached - target))
        yield f"none at {100 * target:.6g}%, the nearest reached {100 * nearest:.1f}%"


def _settings(count: int) -> str:
    return f"{count} setting{'' if count == 1 else 's'}"
