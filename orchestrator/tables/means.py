"""Which method is best, at which sparsity, for which training budget: the comparison as a value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from prunesweep.orchestrator.results import aggregation
from prunesweep.orchestrator.results.aggregation import AXES, OPTIONS, SUBJECT, Cell, Key, Unranked
from prunesweep.orchestrator.results.best_settings import (
    ASKED_SPARSITY,
    NEAR_TARGET,
    REACHED,
    TARGET,
    Selection,
    choose,
)
from prunesweep.orchestrator.results.compare import other_settings
from prunesweep.orchestrator.results.image_counts import image_counts
from prunesweep.orchestrator.results.marking import OFF_TARGET, marked_cells
from prunesweep.orchestrator.results.parquet import SWEEPS
from prunesweep.orchestrator.results.primary import on_test, on_validation
from prunesweep.orchestrator.results.schemas import IDENTITY, measurements
from prunesweep.orchestrator.results.units import Scale, scale
from prunesweep.orchestrator.tables.failed_cells import failed_cells
from prunesweep.orchestrator.tables.wording import SHOWN_DIFFERENCE, in_unit
from prunesweep.orchestrator.text import counted
from prunesweep.workers.errors import UserError

ROWS = ("method", "retrain_schedule")
SHARE, ACCURACY = "prunable_share", "test_accuracy"

LEAST_WORTH = 0.01
"""Percentage points, as tables show them; one of ImageNet's 50,000 test images is less."""

WHOLE_NETWORK = 0.95
"""A table says so where fewer of the parameters are prunable."""


@dataclass(frozen=True)
class Table:
    """A comparison. `cells` are by row and column, keys under `row_names` and `column_names`; one may be missing.

    `controls` have no target sparsity: the dense networks. `missed` have reached another sparsity than their target,
    and are out of competition. `budgets` says how total epochs are written, `scale` how
    the metric is. Where settings were chosen, `best_by` is the column that decided, and `choices` names for each row
    which settings of its cells are to be shown.
    """

    title: str
    metric: str
    row_names: tuple[str, ...]
    column_names: tuple[str, ...]
    rows: tuple[Key, ...]
    columns: tuple[Key, ...]
    cells: Mapping[tuple[Key, Key], Cell]
    controls: tuple[Cell, ...]
    missed: tuple[Cell, ...]
    budgets: Mapping[int, str]
    scale: Scale
    notes: tuple[str, ...]
    best_by: str | None = None
    choices: Mapping[Key, tuple[str, ...]] = field(default_factory=dict)


def means_table(
    frame: pd.DataFrame,
    metric: str | None = None,
    by: Sequence[str] | None = None,
    tolerance: float | None = None,
    asked: pd.DataFrame | None = None,
) -> Table:
    """Means over seeds, with the best of every sparsity and budget marked; of the primary metric unless one is given.

    Rows are `by` (default: method and retraining schedule), after dataset and model if there are several, before every
    other setting that still varies within a cell: different settings are never averaged. Columns are target sparsity
    and, below it, total epochs; where that would leave over a third of the table empty (methods with unlike budgets),
    each budget has rows of its own. Budgets are totals, pretraining included: what a result costs. A cell that missed
    its target by more than the tolerance (0.2 points) is out of competition and stands apart. A cell whose trials
    all failed says so: of `asked`, which is as `orchestrator.run.outcomes` makes it. Raises `UserError` for an
    unknown metric or column, and when no trial has the metric.
    """
    metric = on_test(frame, metric)
    trials = aggregation.with_metric(frame, metric)
    names, axes = _names(trials, metric, by)
    if asked is not None and {*names, *axes} <= {*asked}:
        settings = [name for name in other_settings(trials, metric) if name in asked]
        names = [name for name in aggregation.separating(asked, [*names, *axes], settings) if name not in axes]
    return _table(trials, metric, names, axes, OFF_TARGET if tolerance is None else tolerance, asked=asked)


def best_table(
    frame: pd.DataFrame,
    metric: str | None = None,
    by: Sequence[str] | None = None,
    best_by: str | None = None,
    tolerance: float | None = None,
) -> Table:
    """Means over seeds of the settings that `prunesweep.select_best` chooses, the best of every sparsity marked.

    Rows are `by` (default: method), after dataset and model if there are several, each with its best setting at every
    target sparsity; budgets are settings too, and compete unless `by` names `total_epochs`. The settings of a cell are
    those in which the candidates of any row differ, and the sparsities asked for and reached. Raises `UserError` as
    `means_table` and `select_best` do.
    """
    metric, best_by = on_test(frame, metric), on_validation(frame, best_by)
    names = list(dict.fromkeys([*_several(frame), *(by or ["method"])]))
    if TARGET in names:
        raise UserError(f"{TARGET} makes the columns where settings are chosen; leave it out of the rows")
    tolerance = NEAR_TARGET if tolerance is None else tolerance
    selection = choose(frame, best_by, tolerance, names)
    trials = aggregation.with_metric(selection.trials, metric)
    axes = [TARGET] if trials[TARGET].notna().any() else []
    chosen = dict.fromkeys(
        ["total_epochs", *(name for names in selection.varied.values() for name in names), ASKED_SPARSITY]
    )
    if metric != REACHED:
        reached = trials.groupby([*names, *axes], dropna=False)[REACHED].transform("mean")
        trials, chosen[REACHED] = trials.assign(**{REACHED: reached}), None
    extra = [name for name in chosen if name not in (metric, *names)]
    table = _table(trials, metric, names, axes, tolerance, extra)
    notes = (*table.notes, *_unlike_budgets(trials, names), *selection.notes)
    return replace(table, notes=notes, best_by=best_by, choices=_choices(table, selection))


def _unlike_budgets(trials: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    epochs = trials["total_epochs"][trials[TARGET].notna()]
    if "total_epochs" not in names and epochs.nunique() > 1:
        equal = "equal ones compete with --by method --by total_epochs"
        yield f"budgets differ, {epochs.min():g} to {epochs.max():g} epochs in all; {equal}"


def _choices(table: Table, selection: Selection) -> dict[Key, tuple[str, ...]]:
    rows: dict[Key, list[Cell]] = defaultdict(list)
    for (row, _), cell in table.cells.items():
        rows[row].append(cell)
    return {
        row: (
            *(name for name in selection.varied[row] if name != table.metric),
            *(name for name in (ASKED_SPARSITY, REACHED) if any(_off_target(cell, name) for cell in cells)),
        )
        for row, cells in rows.items()
    }


def _off_target(cell: Cell, name: str) -> bool:
    there = cell.settings.get(name)
    return there is not None and abs(there - cell.settings.get(TARGET, there)) >= SHOWN_DIFFERENCE


def _table(
    trials: pd.DataFrame,
    metric: str,
    names: Sequence[str],
    axes: Sequence[str],
    tolerance: float,
    extra: Sequence[str] = (),
    asked: pd.DataFrame | None = None,
) -> Table:
    """A cell for each combination of the columns `names` and `axes`; those of `extra` have one value in each."""
    competing = [name for name in (*SUBJECT, *OPTIONS, *AXES) if name in (*names, *axes)]
    means = marked_cells(trials, metric, [*names, *axes, *extra], competing, tolerance)
    means += failed_cells(asked, means)
    controls = [cell for cell in means if TARGET in axes and cell.settings[TARGET] is None]
    missed = [cell for cell in means if cell.unranked is Unranked.OFF_TARGET and metric != REACHED]
    apart = {id(cell) for cell in (*controls, *missed)}
    sparse = [cell for cell in means if id(cell) not in apart]
    row_names, column_names = _layout(sparse, names, axes)
    placed = {(cell.at(row_names), cell.at(column_names)): cell for cell in sparse}
    labels = {**({} if asked is None else aggregation.budgets(asked)), **aggregation.budgets(trials)}
    return Table(
        title=_title(trials, metric),
        metric=metric,
        row_names=row_names,
        column_names=column_names,
        rows=aggregation.in_order(row for row, _ in placed),
        columns=aggregation.in_order(column for _, column in placed),
        cells=placed,
        controls=tuple(controls),
        missed=tuple(missed),
        budgets=labels,
        scale=scale(metric).suited([cell.std for cell in means if cell.std is not None]),
        notes=(*_notes(trials, [*names, *axes], labels), *resolution(trials, metric), *missing(trials, means)),
    )


def _names(trials: pd.DataFrame, metric: str, by: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The settings that tell the rows apart, and those that the columns may show."""
    given = set(trials.columns[trials.notna().any()])
    axes = [name for name in AXES if name in given and name not in (by or ())]
    leading = [*_several(trials), *(by or [name for name in ROWS if name in given])]
    settings = [name for name in trials.columns if name not in (metric, *IDENTITY, *measurements())]
    names = aggregation.separating(trials, list(dict.fromkeys([*leading, *axes])), settings)
    return [name for name in names if name not in axes], axes


def _several(trials: pd.DataFrame) -> list[str]:
    columns = aggregation.subject_columns(trials)
    return [name for name in columns if trials[name].nunique(dropna=False) > 1]


def _layout(
    cells: Sequence[Cell], names: Sequence[str], axes: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of rows and columns: budgets in the header, or with the rows where the header would make many gaps."""
    wide = (tuple(names), tuple(axes))
    if len(axes) < 2 or 3 * len(cells) >= 2 * _size(cells, *wide):
        return wide
    subject = [name for name in names if name in (*SUBJECT, *OPTIONS)]
    stacked = ((*subject, axes[1], *(name for name in names if name not in subject)), (axes[0],))
    return stacked if _size(cells, *stacked) < _size(cells, *wide) else wide


def _size(cells: Sequence[Cell], row_names: Key, column_names: Key) -> int:
    return len({cell.at(row_names) for cell in cells}) * len({cell.at(column_names) for cell in cells})


def _title(trials: pd.DataFrame, metric: str) -> str:
    subject = ", ".join(str(trials[name].iloc[0]) for name in SUBJECT if name not in _several(trials))
    return f"{subject}{': ' if subject else ''}{in_unit(metric, scale(metric))}, mean ± standard deviation (seeds)"


def _notes(trials: pd.DataFrame, names: Sequence[str], labels: Mapping[int, str]) -> Iterator[str]:
    if "total_epochs" in names and any("+" in label for label in labels.values()):
        yield "epochs a+b: pretraining + retraining"
    if aggregation.seeds_repeat(trials, names):
        yield "caution: some means are over trials of one seed, which differ in a setting that has no column"
    yield from _outside(trials)


def _outside(trials: pd.DataFrame) -> Iterator[str]:
    """Of which networks sparsities say little about the whole: many of their weights cannot be pruned."""
    if SHARE not in trials:
        return
    for model, share in trials.groupby("model", sort=False)[SHARE].min().items():
        if share < WHOLE_NETWORK:
            yield (
                f"{model}: {100 * share:.0f}% of the parameters are prunable, and sparsities are of these; "
                "`overall_sparsity` is of all"
            )


def resolution(trials: pd.DataFrame, metric: str) -> Iterator[str]:
    """What one image of a test set is worth, where that shows in the table."""
    if metric != ACCURACY or ACCURACY not in trials:
        return
    for count in image_counts(trials):
        if count.worth >= LEAST_WORTH:
            yield f"{count.dataset}: one of the {count.images:,} images of the test set is {count.worth:.2f} points"


def missing(trials: pd.DataFrame, means: Sequence[Cell]) -> Iterator[str]:
    """What was asked for and is not there."""
    if any(cell.planned and cell.n < cell.planned for cell in means):
        yield "(n/N): n of the N seeds asked for"
    for sweep in trials.attrs.get(SWEEPS, ()):
        left = sweep["trials"] - sweep["finished"]
        if left:
            yield f"{sweep['sweep']}: {left:,} of {counted(sweep['trials'], 'trial')} not finished"
