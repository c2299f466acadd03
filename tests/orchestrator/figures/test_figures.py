"""Figures as values: what each kind shows, against numbers worked out by hand; and each through the command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from prunesweep.orchestrator.figures.axes import density_axis, factor_axis, log_ticks, spaced_ticks
from prunesweep.orchestrator.figures.charts import Chart, HeatMap, Panel, Series
from prunesweep.orchestrator.figures.comparisons import Frames
from prunesweep.orchestrator.figures.drawing import figure
from prunesweep.orchestrator.figures.hues import hues_of, in_given_order
from prunesweep.orchestrator.figures.kinds import KINDS, make_chart
from prunesweep.orchestrator.figures.style import COLOURS, looks
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.results.schemas import CURVES, LAYERS, candidates_schema, trials_schema
from prunesweep.workers.errors import UserError
from tests.orchestrator import frames
from tests.orchestrator.conftest import Cli
from tests.orchestrator.figures.test_drawing import START
from tests.orchestrator.frames import candidate, dense, imp, judged, trials

CANDIDATES_MADE = [
    *(candidate("gmp", number, 2, score, lr) for number, score, lr in ((1, 0.5, 0.01), (2, 0.7, 0.1), (3, 0.6, 0.5))),
    *(candidate("gmp", number, 20, score, lr) for number, score, lr in ((2, 0.92, 0.1), (3, 0.94, 0.5))),
    *(candidate("imp", number, 20, score, lr) for number, score, lr in ((1, 0.8, 0.01), (2, 0.9, 0.1))),
    candidate("imp", 3, 20, None, 0.5),
]
"""Candidate 3 of gmp wins after it was second at the rung; candidate 3 of imp has diverged."""

Rows = list[dict[str, Any]]


def gmp(values: Iterable[float], sparsity: float = 0.9, **more: Any) -> Rows:
    return trials(values, method="gmp", target_sparsity=sparsity, **more)


SMALL = [*gmp([0.90, 0.92], 0.9), *gmp([0.94, 0.98], 0.7), *gmp([0.8], 0.98), *dense([0.96, 0.98])]


def absent() -> pd.DataFrame:
    raise UserError("no results")


def made(
    kind: str,
    rows: Rows,
    curves: Sequence[Any] = (),
    layers: Sequence[Any] = (),
    metric: str | None = None,
    of: Sequence[Any] = (),
    **asked: Any,
) -> Chart:
    """`of` are the trials of the whole sweep, where the rows are some of them."""
    found = Frames(
        pd.DataFrame(rows),
        lambda: pd.DataFrame(curves) if curves else absent(),
        lambda: pd.DataFrame(layers) if layers else absent(),
        pd.DataFrame(of) if of else None,
    )
    return make_chart(kind, found, Query(**asked), metric)


def panels(figure: Chart) -> list[Panel]:
    return [panel for panel in figure.panels if isinstance(panel, Panel)]


def points(panel: Panel, kind: str = "line") -> dict[str, list[tuple[float, float]]]:
    found = [each for each in panel.series if each.kind == kind]
    return {s.name: [(round(x, 6), round(y, 6)) for x, y in zip(s.x, s.y, strict=True)] for s in found}


def only(found: Sequence[Series], kind: str) -> Series:
    (series,) = [each for each in found if each.kind == kind]
    return series


# --- over sparsity


def test_a_line_is_the_means_and_deviations_over_sparsity_in_the_units_of_people() -> None:
    figure = made("sparsity", SMALL)
    (panel,) = panels(figure)
    assert figure.title == "digits, resnet8: test accuracy in percent, mean ± standard deviation"
    assert panel.y.label == "test accuracy in percent"
    line = only(panel.series, "line")
    assert (line.name, line.n) == ("gmp, 20 epochs", (2, 2, 1))
    assert line.x == pytest.approx((0.3, 0.1, 0.02))
    assert line.y == pytest.approx((96, 91, 80))
    assert line.deviation[:2] == pytest.approx((8**0.5, 2**0.5))
    assert line.deviation[2] is None


def test_the_dense_control_is_a_level() -> None:
    level = only(panels(made("sparsity", SMALL))[0].series, "level")
    assert (level.name, level.x) == ("dense, 20 epochs", ())
    assert level.y == pytest.approx((97,))
    assert level.deviation == pytest.approx((2**0.5,))


def test_the_axis_is_labelled_at_the_targets_where_there_is_room() -> None:
    few = panels(made("sparsity", SMALL))[0].x
    assert (few.scale, list(few.labels)) == ("density", ["70%", "90%", "98%"])
    levels = [1 - 0.9**k for k in range(1, 31)]
    many = panels(made("sparsity", [row for level in levels for row in gmp([0.5], round(level, 6))]))[0]
    assert len(many.series[0].x) == 30
    assert 6 <= len(many.x.ticks) == len(many.x.labels) <= 10


def test_a_row_is_a_line_and_so_is_each_of_its_budgets() -> None:
    rows = [*imp([0.5], "FT", 1), *imp([0.6], "FT", 2), *imp([0.7], "LLR", 1), *imp([0.4], "FT", 1, 0.95)]
    assert points(panels(made("sparsity", rows))[0]) == {
        "imp, FT, 20+1 epochs": [(0.1, 50.0), (0.05, 40.0)],
        "imp, FT, 20+2 epochs": [(0.1, 60.0)],
        "imp, LLR, 20+1 epochs": [(0.1, 70.0)],
    }


def test_levels_of_one_path_are_one_line_though_each_has_its_own_budget() -> None:
    rows = [row for k in range(1, 4) for row in imp([k / 10], "LLR", 5 * k, 1 - 0.5**k)]
    assert points(panels(made("sparsity", rows))[0]) == {"imp, LLR": [(0.5, 10.0), (0.25, 20.0), (0.125, 30.0)]}


def test_rows_of_the_sparsity_are_joined_to_lines_again() -> None:
    (rows,), (usual,) = (panels(made("sparsity", SMALL, by=by)) for by in (["target_sparsity", "method"], []))
    assert points(rows) == points(usual)


def test_every_dataset_and_model_has_a_panel() -> None:
    other = [*gmp([0.4], 0.9, model="lenet300"), *dense([0.5], model="lenet300")]
    figure = made("sparsity", [*imp([0.9], "FT"), *gmp([0.5]), *gmp([0.3], 0.98), *dense([0.8]), *other])
    assert [panel.title for panel in figure.panels] == ["resnet8", "lenet300"]
    assert [only(panel.series, "level").y[0] for panel in panels(figure)] == pytest.approx([80, 50])
    assert figure.names == ["gmp, 20 epochs", "imp, FT, 20+1 epochs"]


def test_many_lines_have_a_panel_for_each_budget_on_the_same_axes() -> None:
    """Five schedules at two budgets, and GMP at a third."""
    names, sparsities = ("FT", "LRW", "SLR", "CLR", "LLR"), (0.8, 0.9)
    rows = [
        r for s in sparsities for n in (1, 2) for i, name in enumerate(names) for r in imp([0.5 + i / 50], name, n, s)
    ]
    figure = made("sparsity", [*rows, *gmp([0.6], 0.8), *gmp([0.5], 0.9), *dense([0.7])])
    first, second, third = panels(figure)
    assert [first.title, second.title, third.title] == ["20 epochs", "20+1 epochs", "20+2 epochs"]
    assert list(points(first)) == ["gmp"]
    assert list(points(second)) == list(points(third)) == [f"imp, {name}" for name in names]
    assert first.x == second.x == third.x
    assert first.y == second.y == third.y
    assert first.y.limits == pytest.approx((50 - 0.06 * 20, 70 + 0.06 * 20))
    assert [only(panel.series, "level").name for panel in (first, second, third)] == ["dense, 20 epochs"] * 3


def test_a_single_sparsity_is_rows_of_dots() -> None:
    figure = made("sparsity", [*gmp([0.7, 0.9]), *imp([0.6], "FT"), *imp([0.5], "LLR"), *dense([0.96])])
    (panel,) = panels(figure)
    assert (panel.title, panel.is_turned) == ("sparsity 90%", True)
    assert list(panel.x.labels) == ["gmp, 20 epochs", "imp, FT, 20+1 epochs", "imp, LLR, 20+1 epochs"]
    assert [s.x + s.y for s in panel.series if s.kind == "points"] == [
        pytest.approx((0, 80.0)),
        pytest.approx((1, 60.0)),
        pytest.approx((2, 50.0)),
    ]
    assert panel.series[0].deviation == pytest.approx((200**0.5,))
    assert only(panel.series, "level").y == pytest.approx((96,))


def test_series_that_coincide_are_named_together() -> None:
    rows = [r for s in (0.8, 0.9) for name in ("FT", "LRW") for r in imp([0.6, 0.7], name, 1, s)]
    figure = made("sparsity", [*rows, *imp([0.6, 0.7], "SLR", 1, 0.8), *imp([0.6, 0.8], "SLR", 1, 0.9)])
    assert points(panels(figure)[0]) == {
        "imp, FT = LRW, 20+1 epochs": [(0.2, 65.0), (0.1, 65.0)],
        "imp, SLR, 20+1 epochs": [(0.2, 65.0), (0.1, 70.0)],
    }


def chance(accuracy: float, sparsity: float) -> Rows:
    return trials([accuracy], method="random", target_sparsity=sparsity)


def test_random_pruning_far_below_does_not_decide_the_axis() -> None:
    others = [*gmp([0.9], 0.8), *gmp([0.8], 0.9), *dense([0.92])]
    far = [*others, *chance(0.7, 0.8), *chance(0.2, 0.9)]
    near = [*others, *chance(0.85, 0.8), *chance(0.78, 0.9)]
    assert panels(made("sparsity", far))[0].y.limits == pytest.approx((80 - 0.72, 92 + 0.72))
    assert panels(made("sparsity", near))[0].y.limits is None


def test_accuracies_above_95_percent_are_on_an_axis_of_errors() -> None:
    high = [*gmp([0.992], 0.8), *gmp([0.96], 0.9), *dense([0.995])]
    y = panels(made("sparsity", high))[0].y
    assert (y.scale, list(y.ticks), list(y.labels)) == ("logit", [99.5, 99, 98], ["99.5", "99", "98"])
    assert y.limits is not None
    assert y.limits[0] < 96 < 99.5 < y.limits[1] < 100
    assert panels(made("sparsity", [*high, *gmp([0.94], 0.95)]))[0].y.scale == "linear"


def test_a_method_has_its_colour_in_every_figure_and_a_schedule_where_one_method_has_several() -> None:
    rows = [*imp([0.5], "FT", 1, 0.8), *imp([0.6], "SLR", 1, 0.9), *gmp([0.7], 0.8), *gmp([0.6], 0.9), *dense([0.9])]
    whole, part = made("sparsity", rows), made("sparsity", [row for row in rows if row["method"] == "gmp"], of=rows)
    assert list(whole.hues) == list(part.hues) == ["imp, FT", "imp, SLR", "gmp"]
    assert looks(whole)["gmp, 20 epochs"].colour == looks(part)["gmp, 20 epochs"].colour == COLOURS[2]
    assert looks(whole)["imp, SLR, 20+1 epochs"].colour == COLOURS[1]


def test_budgets_of_a_method_differ_in_dashes_and_not_in_colour() -> None:
    rows = [r for s in (0.8, 0.9) for n in (1, 2) for r in imp([s - n / 10], "FT", n, s)]
    short, long = looks(made("sparsity", rows)).values()
    assert (short.colour, short.dash, long.colour, long.dash) == (COLOURS[0], "-", COLOURS[0], "--")


def test_more_schedules_than_colours_leave_a_colour_to_each_method() -> None:
    rows = [row for k in range(11) for row in imp([0.5], f"S{k}")]
    assert hues_of(pd.DataFrame([*rows, *gmp([0.5])])) == ["imp", "gmp"]


def test_methods_and_schedules_come_in_the_order_that_is_given() -> None:
    frame = pd.DataFrame([*imp([0.5], "FT"), *imp([0.5], "SLR"), *gmp([0.5]), *dense([0.9])])
    ordered = in_given_order(frame, ["gmp", "imp", "SLR"])
    schedules = ordered["retrain_schedule"].fillna("")
    assert [*zip(ordered["method"], schedules, strict=True)] == [
        ("gmp", ""),
        ("imp", "SLR"),
        ("imp", "FT"),
        ("dense", ""),
    ]


def test_the_best_settings_are_a_line_for_each_method() -> None:
    rows = [
        *judged([0.9], [0.7], method="gmp", lr=0.1, target_sparsity=0.9),
        *judged([0.8], [0.9], method="gmp", lr=0.2, target_sparsity=0.9),
        *judged([0.6], [0.4], method="gmp", lr=0.1, target_sparsity=0.95),
        *judged([0.7], [0.5], method="gmp", lr=0.2, target_sparsity=0.95),
        *judged([0.9], [0.6], method="str", target_sparsity=0.9, reached=0.945),
    ]
    figure = made("sparsity", rows, best_by="validation_accuracy")
    assert points(panels(figure)[0]) == {"gmp": [(0.1, 70.0), (0.05, 50.0)], "str": [(0.05, 60.0)]}
    assert figure.title.endswith("\nsettings with the best mean validation accuracy")


def test_a_row_of_a_setting_that_its_method_lacks_has_a_name_too() -> None:
    rows = [*judged([0.9], [0.7], method="gmp"), *judged([0.9], [0.8], retrain_schedule="FT")]
    assert made("sparsity", rows, best_by="validation_accuracy", by=["retrain_schedule"]).names == ["none", "FT"]


# --- over compression and speedup


def measured(column: str, values: Sequence[float], rows: Rows) -> Rows:
    return [{**row, column: value} for row, value in zip(rows, values, strict=True)]


def test_compression_is_the_mean_that_was_reached_on_a_logarithmic_axis() -> None:
    rows = [
        *measured("compression_ratio", [4.0, 5.0], gmp([0.9, 0.8], 0.8)),
        *measured("compression_ratio", [20.0], gmp([0.7], 0.95)),
        *measured("compression_ratio", [None], gmp([0.6], 0.99)),  # type: ignore[list-item]
        *measured("compression_ratio", [1.0], dense([0.95])),
    ]
    (panel,) = panels(made("compression", rows))
    assert points(panel) == {"gmp, 20 epochs": [(4.5, 85.0), (20.0, 70.0)]}, "none where it is not known"
    assert only(panel.series, "level").y == pytest.approx((95,))
    assert (panel.x.scale, list(panel.x.labels)) == ("log", ["5x", "10x", "20x"])


def test_compression_of_the_best_settings_is_that_of_their_own_trials() -> None:
    rows = [
        *measured("compression_ratio", [4.0], judged([0.9], [0.7], method="gmp", lr=0.1)),
        *measured("compression_ratio", [9.0], judged([0.8], [0.9], method="gmp", lr=0.2)),
    ]
    assert points(panels(made("compression", rows, best_by="validation_accuracy"))[0]) == {"gmp": [(4.0, 70.0)]}


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("test_accuracy", [(4.0, 90.0), (6.0, 70.0)]),
        ("test_loss", [(5.0, 0.1), (6.0, 0.7)]),
        ("peak_memory_bytes", [(5.0, 1.0), (6.0, 7.0)]),
    ],
)
def test_the_front_is_what_nothing_beats_in_both(metric: str, expected: list[tuple[float, float]]) -> None:
    """Dense networks and random pruning have no part in it, though nothing beats them."""
    cells = [("imp", 2.0, 0.90), ("gmp", 4.0, 0.90), ("str", 5.0, 0.10), ("dst", 6.0, 0.70), ("random", 9.0, 0.65)]
    unit = 2**20 * 10 if metric == "peak_memory_bytes" else 1
    rows = [
        {**row, "theoretical_speedup": speed, metric: value * unit}
        for method, speed, value in cells
        for row in trials([value], method=method)
    ]
    rows += [{**row, "theoretical_speedup": 1.0, metric: 0.95 * unit} for row in dense([0.95])]
    (panel,) = panels(made("speedup", rows, metric=metric))
    assert points(panel, "front") == {"Pareto front": expected}
    factor = 100 if metric == "test_accuracy" else 1 if metric == "test_loss" else 10
    assert only(panel.series, "level").y == pytest.approx((0.95 * factor,))


def test_over_the_cost_of_training_the_front_is_what_nothing_cheaper_is_as_good_as() -> None:
    """A dense network costs 1x and is a line across the panel."""
    cells = [("rigl", 0.2, 0.90), ("set", 0.2, 0.88), ("gmp", 0.5, 0.93), ("imp", 1.1, 0.92), ("acdc", 0.6, 0.95)]
    rows = [
        {**row, "train_flops_ratio": cost} for method, cost, value in cells for row in trials([value], method=method)
    ]
    (panel,) = panels(made("training", [*rows, *({**row, "train_flops_ratio": 1.0} for row in dense([0.97]))]))
    assert points(panel, "front") == {"Pareto front": [(0.2, 90.0), (0.5, 93.0), (0.6, 95.0)]}
    assert panel.x.label == "training FLOPs, of dense training"
    assert {"0.2x", "1x"} <= set(panel.x.labels)
    assert only(panel.series, "level").y == pytest.approx((97.0,))


def test_points_of_one_method_differ_by_being_filled() -> None:
    """Points have no dashes, by which lines of one colour differ."""
    rows = [
        {**row, "train_flops_ratio": 0.1 + lr}
        for lr in (0.1, 0.2)
        for row in [*trials([0.9 + lr / 10], method="gmp", lr=lr), *trials([0.9], method="rigl", lr=lr)]
    ]
    (axes,) = figure(made("training", rows)).axes
    drawn = [line for line in axes.lines if line.get_marker() not in ("None", "_", "|")]
    faces = {(line.get_color(), str(line.get_markerfacecolor())) for line in drawn if line.get_linestyle() == "None"}
    assert len(faces) == 4
    assert sum(face == "white" for _, face in faces) == 2


def test_there_is_no_front_where_neither_direction_is_better() -> None:
    rows = [{**row, "theoretical_speedup": 2.0, "reached_sparsity": 0.9} for row in gmp([0.5])]
    assert points(panels(made("speedup", rows, metric="reached_sparsity"))[0], "front") == {}


# --- over budgets


RETRAINED = [
    *imp([0.5, 0.7], "FT", 1),
    *imp([0.6], "FT", 4),
    *imp([0.8], "LLR", 4),
    *imp([0.3], "LLR", 1, 0.95),
    *imp([0.75], "LLR", 4, pretrain_epochs=16, method="bimp"),
    *gmp([0.7]),
    *dense([0.9]),
]


def test_the_budget_is_of_retraining_with_a_panel_for_each_sparsity() -> None:
    figure = made("budget", RETRAINED)
    first, second = panels(figure)
    assert [first.title, second.title] == ["sparsity 90%", "sparsity 95%"]
    assert points(first) == {
        "imp, FT": [(1.0, 60.0), (4.0, 60.0)],
        "imp, LLR": [(4.0, 80.0)],
        "bimp, LLR": [(4.0, 75.0)],
        "gmp": [(0.0, 70.0)],
    }
    assert points(second) == {"imp, LLR": [(1.0, 30.0)]}
    assert list(first.x.ticks) == [0, 1, 4]
    assert [only(panel.series, "level").name for panel in (first, second)] == ["dense, 20 epochs"] * 2
    assert figure.notes[-1] == "epochs in all, pretraining included: imp 21 to 24, bimp 20, gmp 20"


def test_two_totals_of_one_retraining_are_two_lines() -> None:
    rows = [*imp([0.5], "FT", 1), *imp([0.6], "FT", 2), *imp([0.7], "FT", 1, pretrain_epochs=40)]
    names = made("budget", rows).names
    assert len(names) == 3
    assert all("epochs" in name for name in names)


def test_the_best_settings_of_each_budget() -> None:
    rows = [
        *judged([0.9], [0.7], retrain_schedule="FT", retrain_epochs=1, phases=1),
        *judged([0.8], [0.9], retrain_schedule="LLR", retrain_epochs=1, phases=1),
        *judged([0.7], [0.5], retrain_schedule="FT", retrain_epochs=2, phases=1),
        *judged([0.8], [0.6], retrain_schedule="LLR", retrain_epochs=2, phases=1),
    ]
    figure = made("budget", rows, best_by="validation_accuracy")
    assert points(panels(figure)[0]) == {"imp": [(1.0, 70.0), (2.0, 60.0)]}


def test_the_map_names_the_best_schedule_of_each_sparsity_and_budget() -> None:
    rows = [
        *imp([0.8899, 0.9301, 0.9100, 0.8999, 0.9201], "FT", 1),  # 0.05 behind LLR with each seed, nearly
        *imp([0.94, 0.98, 0.96, 0.95, 0.97], "LLR", 1),
        *imp([0.936, 0.944, 0.96, 0.96, 0.94], "CLR", 1),
        *imp([0.9] * 5, "FT", 2),
        *imp([0.9] * 5, "LLR", 2),
        *imp([0.6999, 0.7001, 0.7, 0.7, 0.7], "CLR", 2),
        *imp([0.5], "FT", 1, 0.95),
        *imp([0.6], "ALLR", 1, method="random"),
    ]
    figure = made("schedules", rows)
    (map,) = [panel for panel in figure.panels if isinstance(panel, HeatMap)]
    assert (map.title, list(map.x.labels), list(map.y.labels)) == (
        "digits, resnet8, imp",
        ["20+1", "20+2"],
        ["90%", "95%"],
    )
    assert list(map.categories) == ["FT", "LLR", "CLR"]
    assert map.values == [[1, 0], [None, None]]
    assert map.texts == [["LLR\n96.0 ± 1.6\n~ CLR", "FT = LLR\n90.0 ± 0.0"], ["FT\n50.0\nno rival", ""]]
    assert "digits, resnet8, random: one schedule only, so no map" in figure.notes
    assert figure.notes[0] == "=: equal means; ~: not shown to be worse (moderated paired t, all pairs at 5%)"
    assert not any("too few" in note for note in figure.notes)


def test_many_schedules_as_good_as_the_best_are_counted_and_equal_ones_have_no_colour() -> None:
    rows = [row for name in ("FT", "LRW", "SLR", "CLR") for row in imp([0.9] * 5, name, 1)]
    (map,) = made("schedules", rows).panels
    assert isinstance(map, HeatMap)
    assert (map.values, map.texts) == ([[None]], [["FT = LRW = SLR = CLR\n90.00 ± 0.00"]])
    rows += imp([0.90, 0.94, 0.92, 0.90, 0.94], "ALLR", 1)
    (map,) = made("schedules", rows).panels
    assert isinstance(map, HeatMap)
    assert map.texts == [["ALLR\n92.00 ± 2.00\n~ 4 others"]]


def test_a_schedule_with_several_settings_is_not_its_own_rival() -> None:
    rows = [*imp([0.94, 0.98], "LLR", lr=0.1), *imp([0.94, 0.96], "LLR", lr=0.2), *imp([0.5], "FT", lr=0.1)]
    (map,) = made("schedules", rows).panels
    assert isinstance(map, HeatMap)
    assert map.texts == [["LLR\n96.0 ± 2.8"]]


def test_a_map_says_what_could_not_be_ranked() -> None:
    figure = made("schedules", [*imp([0.94, 0.98], "LLR"), *imp([0.93], "FT")])
    assert figure.notes[1:] == ["1 cell out of competition: fewer seeds than others at the same place"]
    few = made("schedules", [*imp([0.94, 0.98], "LLR"), *imp([0.93, 0.96], "FT")])
    assert few.notes[1:] == ["2 seeds: too few to rank, which takes 5"]
    (map,) = few.panels
    assert isinstance(map, HeatMap)
    assert (map.values, map.texts) == ([[None]], [["LLR\n96.0 ± 2.8"]])


# --- throughput


def test_bars_are_the_means_over_all_trials_of_a_method_by_device() -> None:
    speed = "train_images_per_second"
    rows = [
        *(
            {**row, "device": "cpu", speed: value}
            for row, value in zip(imp([0.5, 0.6], "FT"), (100.0, 120.0), strict=True)
        ),
        *({**row, "device": "cpu", speed: 200.0} for row in imp([0.5], "LLR")),
        *({**row, "device": "cpu", speed: 300.0} for row in dense([0.5])),
        *({**row, "device": "gpu", speed: 900.0} for row in dense([0.5], seed_=1, lr=0.2)),
    ]
    figure = made("throughput", [{**row, "trial": f"{n}"} for n, row in enumerate(rows)])
    (panel,) = panels(figure)
    assert list(panel.x.labels) == ["imp", "dense"]
    cpu, gpu = panel.series
    assert (cpu.name, gpu.name) == ("cpu", "gpu")
    assert points(panel, "bars") == {"cpu": [(0, 140.0), (1, 300.0)], "gpu": [(1, 900.0)]}
    assert cpu.deviation[0] == pytest.approx(pd.Series([100.0, 120.0, 200.0]).std())
    assert cpu.n == [3, 1]
    assert figure.notes == ["a bar is the mean over all its trials, which differ in seed, retrain schedule"]


def test_one_device_is_in_the_title_and_bars_may_be_of_another_metric_and_setting() -> None:
    rows = [{**row, "device": "cpu", "train_seconds": 2.0} for row in (*imp([0.5], "FT"), *gmp([0.5]))]
    figure = made("throughput", rows, metric="train_seconds", by=["method", "retrain_schedule"])
    assert figure.title == "digits, resnet8: train seconds on cpu, mean ± standard deviation"
    assert list(panels(figure)[0].x.labels) == ["imp, FT", "gmp, none"]


# --- layers


def of_layers(rows: Rows, *densities: dict[str, float]) -> Rows:
    return [row for trial, each in zip(rows, densities, strict=True) for row in frames.layers(trial, **each)]


def reaching(rows: Rows, sparsity: float = 0.9) -> Rows:
    return [{**row, "reached_sparsity": sparsity} for row in rows]


def test_layers_are_in_the_networks_order_with_a_panel_for_each_sparsity() -> None:
    rows = reaching([*gmp([0.5, 0.6]), *gmp([0.4], 0.95)])
    layers = of_layers(rows, {"stem": 0.5, "body": 0.04}, {"stem": 0.7, "body": 0.06}, {"stem": 0.4, "body": 0.02})
    first, second = panels(made("layers", rows, layers=layers))
    assert [first.title, second.title] == ["sparsity 90%", "sparsity 95%"]
    assert (list(first.x.labels), first.y.label, first.y.scale) == (["stem", "body"], "density in percent", "log")
    assert points(first) == {"gmp": [(0, 60.0), (1, 5.0)]}
    assert first.series[0].deviation == pytest.approx((100 * 0.02**0.5, 2**0.5))
    assert first.series[0].n == (2, 2)
    assert points(second) == {"gmp": [(0, 40.0), (1, 2.0)]}


def test_settings_that_change_no_density_share_a_line() -> None:
    rows = reaching([*imp([0.5], "FT"), *imp([0.6], "LLR"), *imp([0.7], "LLR", 2), *gmp([0.5])])
    layers = of_layers(rows, {"a": 0.5}, {"a": 0.5}, {"a": 0.5}, {"a": 0.3})
    assert made("layers", rows, layers=layers).names == ["gmp", "imp"]
    more = reaching([*imp([0.5], "LLR", 2, phases=2), *imp([0.5], "LLR", 4, 0.95)])
    layers += of_layers(more, {"a": 0.4}, {"a": 0.2})
    first, second = panels(made("layers", [*rows, *more], layers=layers))
    assert points(first) == {"gmp": [(0, 30.0)], "imp, phases 1": [(0, 50.0)], "imp, phases 2": [(0, 40.0)]}
    assert points(second) == {"imp, phases 1": [(0, 20.0)]}, "under the same name as at another sparsity"


def test_an_empty_layer_has_no_place_on_a_logarithmic_axis() -> None:
    rows = reaching(gmp([0.5]))
    (panel,) = panels(made("layers", rows, layers=of_layers(rows, {"a": 0.5, "b": 0.0})))
    assert panel.y.scale == "linear"


# --- curves


def ending(rows: Rows) -> Rows:
    return [{**row, "validation_accuracy": row["test_accuracy"]} for row in rows]


def test_a_curve_is_the_mean_over_seeds_with_two_points_where_the_network_is_pruned() -> None:
    rows = ending(imp([0.5, 0.7], "FT", 2, pretrain_epochs=2))
    curves = [*frames.curve(rows[0], [0.2, 0.8], [0.3, 0.4, 0.5]), *frames.curve(rows[1], [0.4, 0.8], [0.5, 0.6, 0.7])]
    figure = made("curves", rows, curves)
    (panel,) = panels(figure)
    assert points(panel) == {"imp, FT, 2+2 epochs": [(1, 30.0), (2, 80.0), (2, 40.0), (3, 50.0), (4, 60.0)]}
    assert panel.series[0].deviation == pytest.approx([100 * x * 2**-0.5 for x in (0.2, 0, 0.2, 0.2, 0.2)])
    assert (list(panel.marks), panel.marked, panel.title) == ([2], "prune", "sparsity 90%")
    assert panel.below is not None
    assert points(panel.below)["imp, FT, 2+2 epochs"] == [(1, 0.1), (2, 0.05), (3, 0.05), (4, 0.033333)]


def test_every_phase_is_marked_and_what_is_long_before_the_first_is_left_out() -> None:
    rows = ending(imp([0.5], "FT", 2, pretrain_epochs=10, phases=2))
    figure = made("curves", rows, frames.curve(rows[0], [0.9] * 10, [0.1, 0.5], [0.2, 0.6]))
    (panel,) = panels(figure)
    assert list(panel.marks) == [10, 11]
    assert panel.series[0].x == (6, 7, 8, 9, 10, 10, 11, 11, 12)
    assert "epochs before 6 are left out" in figure.notes


def test_of_many_curves_some_are_chosen_and_it_is_said_how() -> None:
    schedules = ("FT", "LRW", "SLR", "CLR", "LLR", "ALLR")
    cells = [(name, epochs, target) for name in schedules for epochs in (1, 2) for target in (0.9, 0.95)]
    rows = [row for k, (n, e, t) in enumerate(cells) for row in ending(imp([k / 100], n, e, t, pretrain_epochs=3))]
    retrained = [(row, [row["test_accuracy"]] * (1 + row["retrain_epochs"])) for row in rows]
    curves = [point for row, values in retrained for point in frames.curve(row, [0.5] * 3, values)]
    figure = made("curves", rows, curves)
    assert figure.names == [f"imp, {name}, 3+2 epochs" for name in schedules]
    (said,) = [note for note in figure.notes if "settings" in note]
    assert said == (
        "6 of 24 settings are shown: those of the highest sparsity, of these the largest budget of each; "
        "choose others with --where"
    )
    more = [row for k in range(9) for row in ending(gmp([k / 10], 0.95, lr=k / 10, pretrain_epochs=3))]
    figure = made("curves", more, [point for row in more for point in frames.curve(row, [row["test_accuracy"]] * 3)])
    assert figure.names == [f"gmp, lr {k / 10:g}, 3 epochs" for k in range(1, 9)], "not the one that ends worst"


def test_curves_that_coincide_above_and_below_are_named_together() -> None:
    rows = ending([row for name in ("FT", "LRW", "LLR") for row in imp([0.5], name, pretrain_epochs=1)])
    ends = zip(rows, (0.5, 0.5, 0.6), strict=True)
    curves = [point for row, end in ends for point in frames.curve(row, [0.9], [0.1, end])]
    (panel,) = panels(made("curves", rows, curves))
    assert panel.below is not None
    names = ["imp, FT = LRW, 1+1 epochs", "imp, LLR, 1+1 epochs"]
    assert ([*points(panel)], [*points(panel.below)]) == (names, names)
    unlike = [{**point, "learning_rate": 0.2} if point["trial"] == rows[1]["trial"] else point for point in curves]
    (panel,) = panels(made("curves", rows, unlike))
    assert len(points(panel)) == 3, "the learning rates differ"


def test_curves_may_be_of_the_sparsity() -> None:
    rows = reaching(gmp([0.5], pretrain_epochs=2))
    figure = made("curves", rows, frames.curve(rows[0], [0.5, 0.6]), metric="sparsity")
    assert points(panels(figure)[0]) == {"gmp, 2 epochs": [(1, 0.0), (2, 0.0)]}
    assert panels(figure)[0].y.label == "sparsity in percent"


# --- axes


def test_ticks_of_a_logarithmic_axis_are_round_and_few() -> None:
    assert log_ticks([1, 20]) == (1, 2, 5, 10, 20)
    assert log_ticks([1, 3000]) == (1, 10, 100, 1000)
    assert log_ticks([2.9, 3.1]) == (3,)
    assert log_ticks([0.4, 80]) == pytest.approx((0.5, 1, 2, 5, 10, 20, 50))


@pytest.mark.parametrize("places", [[0.0, 2.0, 4.0], [-1.0, 0.0], []])
def test_a_logarithmic_axis_ends_above_zero_whatever_a_table_says(places: list[float]):
    for axis in (factor_axis("factor", places), density_axis(places)):
        assert axis.limits is not None
        assert min(axis.limits) > 0


def test_ticks_keep_their_distance() -> None:
    assert spaced_ticks([0, 1, 10, 11, 20]) == (0, 10, 20)
    assert spaced_ticks([3]) == (3,)


# --- what cannot be drawn


@pytest.mark.parametrize(
    ("kind", "rows", "asked", "said"),
    [
        ("pie", SMALL, {}, 'unknown kind of plot "pie": allowed are'),
        ("sparsity", dense([0.5]), {}, "nothing to plot: no trial has a target sparsity"),
        ("sparsity", SMALL, {"metric": "tost"}, 'unknown metric "tost"'),
        ("compression", measured("compression_ratio", [None], gmp([0.5])), {}, "no trial has compression_ratio"),  # type: ignore[list-item]
        ("speedup", SMALL, {}, 'unknown column "theoretical_speedup"'),
        ("budget", SMALL, {}, "no trial has a retraining schedule"),
        ("budget", [*imp([0.5], "FT", target_sparsity=None)], {}, "no trial has a target sparsity"),
        ("schedules", imp([0.5], "FT"), {}, "no method has trials with several retraining schedules"),
        ("schedules", reaching(RETRAINED), {"metric": "reached_sparsity"}, "no schedule is best in reached_sparsity"),
        ("schedules", RETRAINED, {"by": ["method"]}, "--by does not go with --kind schedules: its cells are fixed"),
        ("schedules", RETRAINED, {"best_by": "test_loss"}, "--best-by does not go with --kind schedules"),
        ("throughput", SMALL, {}, 'unknown metric "train_images_per_second"'),
        ("throughput", SMALL, {"best_by": "test_loss"}, "--best-by does not go with --kind throughput"),
        ("layers", SMALL, {"metric": "test_accuracy"}, "layers have no test_accuracy"),
        ("layers", reaching(SMALL), {}, "no results"),
        ("curves", SMALL, {"metric": "test_accuracy"}, 'unknown metric of learning curves "test_accuracy"'),
        ("curves", ending(SMALL), {}, "no results"),
    ],
)
def test_what_a_kind_cannot_draw_is_said(kind: str, rows: Rows, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        made(kind, rows, **asked)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["layers", "curves"])
def test_tables_without_these_trials(kind: str) -> None:
    rows = reaching(ending(gmp([0.5])))
    (other,) = gmp([0.5], 0.1)
    with pytest.raises(UserError, match=f"{kind}.parquet has none of these trials"):
        made(kind, rows, frames.curve(other, [0.5]), frames.layers(other, a=0.5))


# --- through the command


@pytest.fixture
def folder(cli: Cli) -> str:
    """Results that every kind can draw something of."""
    rows = [
        *imp([0.90, 0.92], "FT", 1),
        *imp([0.94, 0.95], "LLR", 1),
        *imp([0.95, 0.96], "LLR", 2, 0.95),
        *gmp([0.93, 0.95]),
        *dense([0.97, 0.98]),
    ]
    for row in rows:
        target = row["target_sparsity"] or 0.0
        row.update(validation_accuracy=row["test_accuracy"], reached_sparsity=target, device="cpu")
        row.update(compression_ratio=1 / (1 - target), theoretical_speedup=1 + 5 * target)
        row.update(train_images_per_second=50.0, train_flops_ratio=1 - target / 2)
    retrained = [
        [[0.2] + [row["test_accuracy"]] * row["retrain_epochs"]] if row["retrain_epochs"] else [] for row in rows
    ]
    curves = [
        point for row, phase in zip(rows, retrained, strict=True) for point in frames.curve(row, [0.9] * 20, *phase)
    ]
    layers = [part for row in rows for part in frames.layers(row, stem=0.5, body=0.1)]
    frames.write(cli.folder / "made", rows, trials_schema({"lr": pa.float64()}))
    frames.write(cli.folder / "made", curves, CURVES, "curves")
    frames.write(cli.folder / "made", layers, LAYERS, "layers")
    frames.write(cli.folder / "made", CANDIDATES_MADE, candidates_schema({"train.lr": pa.float64()}), "candidates")
    return "made"


def test_the_command_offers_every_kind(cli: Cli) -> None:
    offered = " ".join(cli("plot", "--help").replace("│", " ").split())
    assert f"{', '.join(KINDS)} or all." in offered


@pytest.mark.parametrize("suffix", [".pdf", *(pytest.param(s, marks=pytest.mark.slow) for s in (".png", ".svg"))])
def test_all_kinds_are_written_beside_each_other(suffix: str, cli: Cli, folder: str) -> None:
    printed = cli("plot", folder, "--kind", "all", "--output", f"a{suffix}").splitlines()
    assert [line for line in printed if line.startswith("wrote")] == [f"wrote a-{kind}{suffix}" for kind in KINDS]
    assert not any("not drawn" in line for line in printed)
    for kind in KINDS:
        assert (cli.folder / f"a-{kind}{suffix}").read_bytes().startswith(START[suffix])


def test_equal_results_make_equal_files(cli: Cli, folder: str) -> None:
    """In processes that hash texts differently, which those forked from one do not."""
    command = ("plot", folder, "--kind", "curves", "--output")
    for name, seed in (("a.svg", "1"), ("b.svg", "2")):
        drawing = Cli(cli.folder, PYTHONHASHSEED=seed).start(*command, name)
        out, err = drawing.communicate(timeout=60)
        assert drawing.returncode == 0, out + err
    assert (cli.folder / "a.svg").read_bytes() == (cli.folder / "b.svg").read_bytes()


def test_a_kind_has_its_own_file_and_all_say_what_is_not_drawn(cli: Cli, folder: str) -> None:
    assert cli("plot", folder, "--kind", "curves").splitlines()[0] == "wrote made-curves.png"
    (cli.folder / folder / "layers.parquet").unlink()
    printed = cli("plot", folder, "--kind", "all", "--where", "method=imp,gmp", "--where", "retrain_epochs<=1")
    assert "not drawn: layers: no results at made/layers.parquet; `prunesweep run SWEEP` makes them\n" in printed
    assert not (cli.folder / "made-layers.png").exists()
    assert (cli.folder / "made-sparsity.png").exists()


def test_what_is_wrong_with_a_plot_is_said_and_nothing_written(cli: Cli, folder: str) -> None:
    answer = cli.ask("plot", folder, "--kind", "spedup")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith('error: unknown kind of plot "spedup": allowed are')
    assert "speedup" in answer.err
    answer = cli.ask("plot", folder, "--kind", "all", "--where", "method=dense", "--where", "test_accuracy>2")
    assert answer.code == 2
    assert answer.err.startswith('error: "test_accuracy>2" leaves none of 2 rows: test_accuracy is from 0.97 to 0.98')
    assert [path.name for path in cli.folder.iterdir()] == ["made"]


def test_what_missed_its_target_is_not_drawn_and_the_notes_say_so() -> None:
    rows = [*gmp([0.9, 0.8], reached_sparsity=0.9), *imp([0.99, 0.97], "FT", reached_sparsity=0.985)]
    figure = made("sparsity", rows)
    assert "left out, off their target sparsity: imp FT 20+1 at 90% reached 98.5%" in figure.notes
    within = made("sparsity", rows, tolerance=0.1)
    assert not any("left out" in note for note in within.notes)
