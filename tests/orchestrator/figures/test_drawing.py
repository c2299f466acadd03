"""Drawing: what of a chart is on the paper, by matplotlib's objects; what is written, by its bytes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure

from prunesweep.orchestrator.figures import drawing
from prunesweep.orchestrator.figures.charts import Axis, Chart, HeatMap, Panel, Series
from prunesweep.workers.errors import UserError

START = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}
DENSITY = Axis("sparsity", "density", (0.3, 0.1, 0.02), ("70%", "90%", "98%"))
ACCURACY = Axis("test accuracy in percent")


def line(name: str, y: Sequence[float] = (96.0, 91.0, 80.0), kind: str = "line") -> Series:
    return Series(name, kind, (0.3, 0.1, 0.02)[: len(y)], y, (2.0, 1.0, None)[: len(y)], (2, 2, 1)[: len(y)])


def panel(*series: Series, title: str = "", y: Axis = ACCURACY) -> Panel:
    return Panel(title, DENSITY, y, series)


DENSE = Series("dense", "level", (), (97.0,), (0.5,), (2,))
BARS = Panel(
    "",
    Axis("method", "category", (0, 1), ("gmp", "imp")),
    Axis("images"),
    [Series("cpu", "bars", (0, 1), (5.0, 7.0), (1.0, None), (2, 1))],
)
CELLS = HeatMap(
    "imp",
    Axis("epochs", "category", (0, 1, 2), ("20+1", "20+2", "20+5")),
    Axis("sparsity", "category", (0, 1), ("80%", "90%")),
    ((0, 1, None), (1, 1, None)),
    (("FT", "SLR", "FT\nno rival"), ("SLR", "SLR", "")),
    ("FT", "SLR"),
)
SMALL = Chart("gmp\non digits", [panel(line("gmp"), DENSE)])
ALL = Chart(
    "all",
    [
        panel(
            line("a"),
            line("b", kind="points"),
            Series("front", "front", (0.3, 0.1), (96.0, 91.0), (None, None), (1, 1)),
        ),
        Panel("", Axis("epochs"), ACCURACY, [line("a")], (0.1,), "prune", panel(line("a"), y=Axis("learning rate"))),
        BARS,
        CELLS,
    ],
)


@pytest.fixture(autouse=True)
def _as_saved() -> Iterator[None]:
    with mpl.rc_context(dict(drawing.STYLE)):
        yield


def errors(axes: Axes) -> dict[str, ErrorbarContainer]:
    return {str(each.get_label()): each for each in axes.containers if isinstance(each, ErrorbarContainer)}


def bands(axes: Axes) -> list[PolyCollection]:
    return [each for each in axes.collections if isinstance(each, PolyCollection)]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


# --- what is drawn


def test_a_line_has_a_band_of_a_deviation_to_each_side() -> None:
    axes = drawing.figure(SMALL).axes[0]
    (drawn,) = errors(axes).values()
    assert list(zip(*drawn.lines[0].get_data(), strict=True)) == [(0.3, 96.0), (0.1, 91.0), (0.02, 80.0)]
    (band,) = bands(axes)
    ends = {(round(float(x), 6), round(float(y), 6)) for x, y in band.get_paths()[0].vertices}
    assert ends == {(0.3, 94.0), (0.3, 98.0), (0.1, 90.0), (0.1, 92.0), (0.02, 80.0)}, "one seed has no deviation"


def test_points_single_cells_and_many_lines_have_bars_instead() -> None:
    one = drawing.figure(Chart("", [panel(line("a", (96.0,)), line("b", kind="points"))])).axes[0]
    many = drawing.figure(Chart("", [panel(*(line(f"{i}") for i in range(9)))])).axes[0]
    for axes in (one, many):
        assert bands(axes) == []
        assert all(bar.has_yerr for bar in errors(axes).values())
    low, high = (list(cap.get_ydata()) for cap in errors(one)["b"].lines[1])
    assert (low, high) == ([94.0, 90.0, 80.0], [98.0, 92.0, 80.0])


def test_sparsity_grows_to_the_right_by_the_logarithm_of_density() -> None:
    axes = drawing.figure(SMALL).axes[0]
    left, right = axes.get_xlim()
    assert left > 0.3 > 0.02 > right
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["70%", "90%", "98%"]
    assert axes.get_xlabel() == "sparsity"


def test_a_deviation_beyond_the_mean_does_not_stretch_a_logarithmic_axis() -> None:
    wide = Series("a", "line", (0.3, 0.1), (1.0, 2.0), (5.0, 0.1), (2, 2))
    axes = drawing.figure(Chart("", [panel(wide, y=Axis("density", "log"))])).axes[0]
    assert axes.get_ylim()[0] > 0.3


def test_a_level_is_a_horizontal_line_across_the_panel() -> None:
    axes = drawing.figure(SMALL).axes[0]
    (level,) = [each for each in axes.lines if each.get_label() == "dense"]
    assert list(level.get_ydata()) == [97.0, 97.0]
    assert list(level.get_xdata()) == [0, 1], "in shares of the axis"


def test_a_series_looks_the_same_in_every_panel_and_is_in_the_legend_once() -> None:
    chart = Chart("", [panel(line("a"), line("b"), DENSE, title="x"), panel(line("b"), DENSE, title="y")])
    figure = drawing.figure(chart)
    first, second = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["x", "y"]
    colours = [errors(axes)["b"].lines[0].get_color() for axes in (first, second)]
    assert colours[0] == colours[1] != errors(first)["a"].lines[0].get_color()
    assert legend(figure) == ["dense", "a", "b"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["test accuracy in percent", ""], "said once"


def test_many_lines_differ_without_colour() -> None:
    axes = drawing.figure(Chart("", [panel(*(line(f"method {i}") for i in range(40)))])).axes[0]
    found = [bar.lines[0] for bar in errors(axes).values()]
    assert len({(each.get_color(), each.get_marker()) for each in found}) == 40
    assert len({(each.get_linestyle(), each.get_marker()) for each in found}) >= 25


@pytest.mark.parametrize("count", [1, 15, 40])
@pytest.mark.parametrize("panels", [1, 2, 5])
def test_the_legend_is_beside_the_panels_and_on_the_paper(count: int, panels: int) -> None:
    lines = [line(f"a method with a long name, {i}") for i in range(count)]
    figure = drawing.figure(Chart("title", [panel(*lines)] * panels))
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    width, height = figure.get_size_inches() * figure.dpi
    assert box.x1 <= width
    assert box.y0 >= 0
    assert box.y1 <= height
    assert all(axes.get_tightbbox().x1 <= box.x0 for axes in figure.axes)


def test_letters_of_a_figure_five_inches_wide_have_seven_points(tmp_path: Path) -> None:
    chart = Chart("title", [panel(line("imp, ALLR, 20+1"), DENSE)])
    file = tmp_path / "a.svg"
    drawing.save(chart, file)
    width = float(file.read_text().split('width="')[1].split("pt")[0]) / 72
    assert width <= 5.5
    assert min(v for k, v in drawing.STYLE.items() if k.endswith("size")) * min(1, 5 / width) >= 7


def test_marks_are_lines_and_the_lower_panel_shares_the_axis() -> None:
    lower = panel(line("a"), y=Axis("learning rate"))
    figure = drawing.figure(Chart("", [Panel("t", Axis("epochs"), ACCURACY, [line("a")], (0.1,), "prune", lower)]))
    above, below = figure.axes
    assert above.get_shared_x_axes().joined(above, below)
    assert (above.get_xlabel(), below.get_ylabel()) == ("", "learning rate")
    assert [list(each.get_xdata()) for each in above.lines if each.get_label() == "prune"] == [[0.1, 0.1]]
    assert legend(figure) == ["prune", "a"]


def test_bars_are_in_their_categories_with_a_legend_where_there_are_several() -> None:
    figure = drawing.figure(Chart("", [BARS]))
    axes = figure.axes[0]
    (bars,) = [each for each in axes.containers if isinstance(each, BarContainer)]
    assert [(bar.get_center()[0], bar.get_height()) for bar in bars] == [(0.0, 5.0), (1.0, 7.0)]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["gmp", "imp"]
    assert figure.legends == []
    two = Panel("", BARS.x, BARS.y, [Series(name, "bars", (0, 1), (5.0, 7.0), (None, None), (1, 1)) for name in "ab"])
    assert legend(drawing.figure(Chart("", [two]))) == ["a", "b"]


def test_labels_that_have_no_room_beside_each_other_stand_upright() -> None:
    names = [f"layer{i}.conv1" for i in range(30)]
    many = Panel(
        "",
        Axis("layer", "category", range(30), names),
        ACCURACY,
        [Series("a", "line", range(30), range(30), [None] * 30, [1] * 30)],
    )
    figure = drawing.figure(Chart("", [many]))
    assert {label.get_rotation() for label in figure.axes[0].get_xticklabels()} == {90.0}
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))
    assert boxes[0].height < figure.bbox.height / 3


def test_a_heat_map_has_rows_from_top_to_bottom_and_no_colour_without_a_value() -> None:
    axes = drawing.figure(Chart("", [CELLS])).axes[0]
    (mesh,) = [each for each in axes.collections if isinstance(each, QuadMesh)]
    values = mesh.get_array()
    assert [
        [None if hidden else int(value) for value, hidden in zip(*row, strict=True)]
        for row in zip(values.data, values.mask, strict=True)
    ] == [
        [0, 1, None],
        [1, 1, None],
    ]
    texts = {text.get_text(): text.get_position() for text in axes.texts}
    assert texts["FT"] == (0.5, 0.5)
    low, high = axes.get_ylim()
    assert low > high, "the first row is at the top"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["80%", "90%"]
    assert len({to_hex(mesh.get_cmap()(mesh.norm(number))) for number in (0, 1)}) == 2


# --- what is written


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG"])
@pytest.mark.parametrize("chart", [SMALL, ALL], ids=["small", "all"])
def test_the_suffix_says_the_format_and_equal_charts_are_equal_files(suffix: str, chart: Chart, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for file in files:
        drawing.save(chart, file)
    first, second = (file.read_bytes() for file in files)
    assert first.startswith(START[suffix.lower()])
    assert first == second


@pytest.mark.parametrize("name", ["a.jpg", "a", "png"])
def test_another_suffix_is_refused_and_nothing_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a figure's file ends in \.png, \.svg, \.pdf"):
        drawing.save(SMALL, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_matplotlib_is_loaded_by_plots_alone_and_without_its_global_state() -> None:
    code = "import sys, prunesweep.orchestrator.cli.main, prunesweep.orchestrator.figures.kinds as kinds;"
    code += "print('pandas' in sys.modules);"
    code += "[kind.make for kind in kinds.KINDS.values()]; print('matplotlib' in sys.modules);"
    code += "import prunesweep.orchestrator.figures.drawing; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False"]
