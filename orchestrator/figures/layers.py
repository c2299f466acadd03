"""Where the weights stay: the density of each layer, in the network's order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from prunesweep.orchestrator.figures.axes import log_ticks
from prunesweep.orchestrator.figures.charts import Axis, Chart, Panel, Series
from prunesweep.orchestrator.figures.comparisons import (
    TOTALS,
    Frames,
    compare_cells,
    group_cells,
    merge_equal,
    none_if_nan,
    setting_names,
    sparse_cells,
    subject,
    variant_of,
)
from prunesweep.orchestrator.figures.hues import DENSE, hue_of
from prunesweep.orchestrator.figures.wording import heading, how_chosen, percent, series_name, title_about
from prunesweep.orchestrator.results.aggregation import SUBJECT, Cell, Key, plain
from prunesweep.orchestrator.results.best_settings import REACHED, TARGET
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.tables.means import Table
from prunesweep.workers.errors import UserError

DENSE_DENSITY = 100.0
"""The density of a dense network's layers in percent."""

SAME = 9
"""Densities in percent that agree in so many decimals are equal."""

Profile = dict[str, tuple[float, float | None, int]]
"""Of each layer the mean density in percent, its deviation, and over how many trials."""


def layers(frames: Frames, query: Query) -> Chart:
    """A panel for each dataset, model and target sparsity, a line for each row over the layers.

    Settings that change no density, as schedules of retraining often do not, are not told apart.
    """
    if query.column != "density":
        raise UserError(f"layers have no {query.column}: their plot is of density; leave --metric out")
    by = query.by or ["method"]
    trials, table = compare_cells(frames, query, REACHED, by)
    sparse, names = sparse_cells(table), setting_names(table)
    profiles = _profiles(frames.layers(), trials[["trial", *names]], names)
    cells = [cell for cell in sparse if cell.at(names) in profiles]
    if not cells:
        raise UserError("nothing to plot: layers.parquet has none of these trials; `prunesweep run SWEEP` writes it")
    telling = _telling_settings(cells, profiles, names, by)
    panels = []
    for at in dict.fromkeys(subject(table, cell) for cell in cells):
        for sparsity in sorted({cell.settings[TARGET] for cell in cells if subject(table, cell) == at}):
            here = [c for c in cells if (subject(table, c), c.settings[TARGET]) == (at, sparsity)]
            first_cells = [group[0] for group in group_cells(here, telling)]
            looks = [_look(table, cell, telling, frames.hues) for cell in first_cells]
            drawn = [(look, profiles[cell.at(names)]) for look, cell in zip(looks, first_cells, strict=True)]
            panels.append(_panel(heading((*at, f"sparsity {percent(sparsity)}")), drawn))
    note = "settings that change no density share a line; retraining schedules often do not change any"
    title = title_about(trials, "density of layers in percent") + how_chosen(table)
    return Chart(title, merge_equal(panels), [note, *table.notes], frames.hues)


def _look(table: Table, cell: Cell, names: Sequence[str], hues: Sequence[str]) -> Series:
    """A line without points, named after these settings of the cell."""
    hue = hue_of({name: cell.settings[name] for name in names}, hues)
    return Series(series_name(table, cell, names), "line", (), (), (), (), hue, variant_of(table, cell, names, hues))


def _profiles(frame: pd.DataFrame, settings: pd.DataFrame, names: Sequence[str]) -> dict[Key, Profile]:
    """Of each cell, by its settings, the mean density of each layer over its trials."""
    weights = frame[frame["density"].notna()]  # attention and the like have none
    groups = weights.merge(settings, on="trial").groupby([*names, "layer"], dropna=False, sort=False)["density"]
    profiles: dict[Key, Profile] = defaultdict(dict)
    for row in groups.agg(["mean", "std", "count"]).reset_index().to_dict("records"):
        key = tuple(plain(row[name]) for name in names)
        profiles[key][row["layer"]] = (100 * row["mean"], none_if_nan(100 * row["std"]), int(row["count"]))
    return profiles


def _telling_settings(
    cells: Sequence[Cell], profiles: Mapping[Key, Profile], names: Key, by: Sequence[str]
) -> list[str]:
    """`by`, and of the other settings those without which cells of unlike densities would be one line."""
    telling = [*by, *(name for name in names if name not in (*by, *SUBJECT, TARGET))]
    fixed = [name for name in names if name in (*SUBJECT, TARGET)]

    def is_enough(settings: Sequence[str]) -> bool:
        groups = group_cells(cells, [*fixed, *settings])
        return all(len({_rounded(profiles[cell.at(names)]) for cell in same}) == 1 for same in groups)

    for name in sorted(telling[len(by) :], key=lambda name: name not in TOTALS):
        fewer = [other for other in telling if other != name]
        telling = fewer if is_enough(fewer) else telling
    return telling


def _rounded(profile: Profile) -> Key:
    return tuple((layer, round(mean, SAME)) for layer, (mean, _, _) in profile.items())


def _panel(title: str, drawn: Sequence[tuple[Series, Profile]]) -> Panel:
    order = list(dict.fromkeys(layer for _, profile in drawn for layer in profile))
    densities = [mean for _, profile in drawn for mean, _, _ in profile.values()]
    x = Axis("layer", "category", range(len(order)), [layer.removesuffix(".weight") for layer in order])
    y = Axis("density in percent")
    if min(densities) > 0:
        ticks = log_ticks([*densities, DENSE_DENSITY])
        y = Axis(y.label, "log", ticks, [f"{tick:g}" for tick in ticks])
    dense = Series(DENSE, "level", (), (DENSE_DENSITY,), (None,), (1,), DENSE)
    return Panel(title, x, y, [*(_series(look, profile, order) for look, profile in drawn), dense])


def _series(look: Series, profile: Profile, order: Sequence[str]) -> Series:
    means, deviations, counts = zip(*profile.values(), strict=True)
    x = [order.index(layer) for layer in profile]
    return replace(look, x=x, y=means, deviation=deviations, n=counts)
