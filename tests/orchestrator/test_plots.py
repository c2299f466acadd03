"""Figures: what is drawn, by its data; what is written, by its bytes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from orchestrator import plots
from orchestrator.tables import comparison, comparison_of_best
from tests.orchestrator.frames import dense, imp, judged, trials
from workers.errors import UserError

START = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}


def gmp(values: Iterable[float], sparsity: float = 0.9, **more: Any) -> list[dict[str, Any]]:
    return trials(values, method="gmp", target_sparsity=sparsity, **more)


SMALL = pd.DataFrame([*gmp([0.90, 0.92], 0.9), *gmp([0.94, 0.98], 0.7), *gmp([0.8], 0.98), *dense([0.96, 0.98])])


def drawn(frame: pd.DataFrame) -> Figure:
    return plots.figure(comparison(frame))


def bars(axes: Axes) -> dict[str, ErrorbarContainer]:
    return {str(each.get_label()): each for each in axes.containers if isinstance(each, ErrorbarContainer)}


def points(figure: Figure) -> dict[str, list[tuple[float, float]]]:
    """Of each line in all panels, (sparsity, mean)."""
    found = {name: bar.lines[0] for axes in figure.axes for name, bar in bars(axes).items()}
    return {
        name: [(round(1 - x, 9), round(float(y), 9)) for x, y in zip(*line.get_data(), strict=True)]
        for name, line in found.items()
    }


def ticks(figure: Figure) -> list[str]:
    """The labels of the first panel, from left to right."""
    axis = figure.axes[0].xaxis
    shown = sorted(axis.get_majorticklocs(), reverse=True)
    return list(axis.get_major_formatter().format_ticks(shown))


# --- what is drawn


def test_a_line_is_the_means_over_sparsity_in_the_units_of_people() -> None:
    figure = drawn(SMALL)
    assert points(figure) == {"gmp, 20 epochs": [(0.7, 96.0), (0.9, 91.0), (0.98, 80.0)]}
    assert figure.axes[0].get_ylabel() == "test accuracy in percent"
    assert figure.get_suptitle() == "digits, resnet8: test accuracy in percent, mean ± standard deviation"


def test_bars_are_a_standard_deviation_to_each_side() -> None:
    _, caps, _ = bars(drawn(SMALL).axes[0])["gmp, 20 epochs"].lines
    low, high = (list(cap.get_ydata()) for cap in caps)
    assert low == pytest.approx([96 - 8**0.5, 91 - 2**0.5, 80.0])  # one seed has no deviation
    assert high == pytest.approx([96 + 8**0.5, 91 + 2**0.5, 80.0])


def test_the_axis_grows_in_sparsity_by_the_logarithm_of_density() -> None:
    figure = drawn(SMALL)
    left, right = figure.axes[0].get_xlim()
    assert left > 0.3 > 0.02 > right
    assert figure.axes[0].get_xscale() == "log"
    assert ticks(figure) == ["70%", "90%", "98%"]


def test_targets_that_crowd_the_axis_are_not_all_labelled() -> None:
    levels = [1 - 0.9**k for k in range(1, 31)]
    figure = drawn(pd.DataFrame([row for level in levels for row in gmp([0.5], round(level, 6))]))
    assert len(points(figure)["gmp, 20 epochs"]) == 30
    assert 8 <= len(ticks(figure)) <= 15


def test_the_dense_control_is_a_horizontal_line() -> None:
    axes = drawn(SMALL).axes[0]
    (line,) = [line for line in axes.lines if line.get_label() == "dense, 20 epochs"]
    assert list(line.get_ydata()) == pytest.approx([97.0, 97.0])
    assert list(line.get_xdata()) == [0, 1], "in shares of the axis"


def test_a_row_is_a_line_and_so_is_each_of_its_budgets() -> None:
    frame = pd.DataFrame(
        [*imp([0.5], "FT", 1), *imp([0.6], "FT", 2), *imp([0.7], "LLR", 1), *imp([0.4], "FT", 1, 0.95)]
    )
    assert points(drawn(frame)) == {
        "imp, FT, 20+1 epochs": [(0.9, 50.0), (0.95, 40.0)],
        "imp, FT, 20+2 epochs": [(0.9, 60.0)],
        "imp, LLR, 20+1 epochs": [(0.9, 70.0)],
    }


def test_levels_of_one_path_are_one_line_though_each_has_its_own_budget() -> None:
    levels = [row for k in range(1, 4) for row in imp([k / 10], "LLR", 5 * k, 1 - 0.5**k)]
    assert points(drawn(pd.DataFrame(levels))) == {"imp, LLR": [(0.5, 10.0), (0.75, 20.0), (0.875, 30.0)]}


def test_rows_of_the_sparsity_are_joined_to_lines_again() -> None:
    table = comparison(SMALL, by=["target_sparsity", "method"])
    assert points(plots.figure(table)) == points(drawn(SMALL))


def test_every_dataset_and_model_has_a_panel_and_a_line_looks_the_same_in_each() -> None:
    other = [*gmp([0.4], 0.9, model="lenet300"), *dense([0.5], model="lenet300")]
    figure = drawn(pd.DataFrame([*imp([0.9], "FT"), *gmp([0.5]), *dense([0.8]), *other]))
    assert [axes.get_title() for axes in figure.axes] == ["resnet8", "lenet300"]
    first, second = (bars(axes)["gmp, 20 epochs"].lines[0] for axes in figure.axes)
    assert first.get_color() == second.get_color() != bars(figure.axes[0])["imp, FT, 20+1 epochs"].lines[0].get_color()
    assert [axes.lines[-1].get_ydata()[0] for axes in figure.axes] == pytest.approx([80.0, 50.0])
    (legend,) = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert sorted(text.get_text() for text in legend.get_texts()) == [
        "dense, 20 epochs",
        "gmp, 20 epochs",
        "imp, FT, 20+1 epochs",
    ]


def test_the_best_settings_are_a_line_for_each_method() -> None:
    frame = pd.DataFrame(
        [
            *judged([0.9], [0.7], method="gmp", lr=0.1, target_sparsity=0.9),
            *judged([0.8], [0.9], method="gmp", lr=0.2, target_sparsity=0.9),
            *judged([0.6], [0.4], method="gmp", lr=0.1, target_sparsity=0.95),
            *judged([0.7], [0.5], method="gmp", lr=0.2, target_sparsity=0.95),
            *judged([0.9], [0.6], method="str", target_sparsity=0.9, reached=0.945),
        ]
    )
    figure = plots.figure(comparison_of_best(frame))
    assert points(figure) == {"gmp": [(0.9, 70.0), (0.95, 50.0)], "str": [(0.95, 60.0)]}
    assert figure.get_suptitle().endswith("\nsettings with the best mean validation accuracy")


def test_a_row_of_a_setting_that_its_method_lacks_has_a_name_too() -> None:
    frame = pd.DataFrame([*judged([0.9], [0.7], method="gmp"), *judged([0.9], [0.8], retrain_schedule="FT")])
    assert set(points(plots.figure(comparison_of_best(frame, by=["retrain_schedule"])))) == {"none", "FT"}


def test_many_lines_differ_without_colour() -> None:
    methods = [f"method{i}" for i in range(40)]
    frame = pd.DataFrame(
        [row for m, s in product(methods, (0.8, 0.9)) for row in trials([0.5], method=m, target_sparsity=s)]
    )
    found = [bar.lines[0] for bar in bars(drawn(frame).axes[0]).values()]
    assert len({(line.get_color(), line.get_marker()) for line in found}) == 40
    assert len({(line.get_linestyle(), line.get_marker()) for line in found}) >= 25


def test_nothing_to_plot() -> None:
    with pytest.raises(UserError, match="nothing to plot: no trial has a target sparsity"):
        drawn(pd.DataFrame(dense([0.5])))


# --- what is written


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG"])
def test_the_suffix_says_the_format_and_equal_figures_are_equal_files(suffix: str, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for file in files:
        plots.save(drawn(SMALL), file)
    first, second = (file.read_bytes() for file in files)
    assert first.startswith(START[suffix.lower()])
    assert first == second


@pytest.mark.parametrize("name", ["a.jpg", "a", "png"])
def test_another_suffix_is_refused_and_nothing_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a figure's file ends in \.png, \.svg, \.pdf"):
        plots.save(drawn(SMALL), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_matplotlib_is_loaded_by_plots_alone_and_without_its_global_state() -> None:
    code = "import sys, orchestrator.cli, orchestrator.rendering; print('matplotlib' in sys.modules);"
    code += "import orchestrator.plots; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
