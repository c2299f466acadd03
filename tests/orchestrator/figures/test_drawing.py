"""Drawing: what of a chart is on the paper, by matplotlib's objects; what is written, by its bytes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
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
from prunesweep.orchestrator.figures.line_labels import spread
from prunesweep.orchestrator.figures.page import Page, read_limits, read_width
from prunesweep.workers.errors import UserError

START = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}
DENSITY = Axis("sparsity", "density", (0.3, 0.1, 0.02), ("70%", "90%", "98%"), (0.35, 0.017))
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


def written(axes: Axes) -> set[str]:
    """Texts within axes and beside them."""
    return {text.get_text() for text in axes.texts}


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
    assert [written(axes) for axes in figure.axes] == [{"dense", "a = b"}, {"dense", "b"}], "at the lines' ends"
    assert [axes.get_ylabel() for axes in figure.axes] == ["test accuracy in percent", ""], "said once"


def test_many_lines_differ_without_colour() -> None:
    axes = drawing.figure(Chart("", [panel(*(line(f"method {i}") for i in range(40)))])).axes[0]
    found = [bar.lines[0] for bar in errors(axes).values()]
    assert len({(each.get_color(), each.get_marker()) for each in found}) == 40
    assert len({(each.get_linestyle(), each.get_marker()) for each in found}) >= 25


def outside(figure: Figure) -> list[str]:
    """Texts that are not wholly on the paper."""
    figure.draw_without_rendering()
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    texts = [text for axes in figure.axes for text in (*axes.texts, *axes.get_xticklabels())]
    for axes in figure.axes:  # matplotlib has labels beyond the ends of an axis, and does not draw them
        low, high = sorted(axes.get_ylim())
        texts += [label for label in axes.get_yticklabels() if low <= label.get_position()[1] <= high]
    texts += [text for box in figure.legends for text in box.get_texts()]
    boxes = {text.get_text(): text.get_window_extent() for text in texts if text.get_visible() and text.get_text()}
    return [t for t, box in boxes.items() if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height]


@pytest.mark.parametrize("width", [3.25, 5.5])
@pytest.mark.parametrize("count", [1, 15, 40])
@pytest.mark.parametrize("panels", [1, 2, 5])
def test_series_are_named_on_the_paper_and_below_the_panels(count: int, panels: int, width: float) -> None:
    """Lines that end at different places, which have no labels at their ends."""
    lines = [line(f"a method with a long name, {i}", (96.0, 91.0, 80.0)[: 2 + i % 2]) for i in range(count)]
    figure = drawing.figure(Chart("title", [panel(*lines, line("short", (90.0,)))] * panels), Page(width))
    assert outside(figure) == []
    assert figure.get_figwidth() == width
    box = figure.legends[0].get_window_extent()
    assert len(legend(figure)) == count + 1
    assert all(axes.get_tightbbox().y0 >= box.y1 for axes in figure.axes)


def test_lines_that_end_together_are_named_at_their_ends_without_what_all_names_have() -> None:
    lines = [line("imp, FT", (96.0, 91.0, 80.0)), line("imp, SLR", (96.0, 91.0, 80.1)), line("imp, LLR", (96, 91, 90))]
    figure = drawing.figure(Chart("", [panel(*lines, DENSE)]), Page(3.25))
    assert figure.legends == []
    assert written(figure.axes[0]) == {"FT", "SLR", "LLR", "dense"}
    assert outside(figure) == []
    boxes = sorted((text.get_window_extent() for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert all(lower.y1 <= upper.y1 - 0.7 * lower.height for lower, upper in pairwise(boxes)), "they do not overlap"


def test_labels_move_apart_as_little_as_it_takes() -> None:
    assert spread([0.0, 0.5, 0.5], 0.1) == [0.0, 0.45, 0.55]
    assert spread([0.2, 0.5, 0.9], 0.1) == [0.2, 0.5, 0.9]
    assert spread([0.5, 0.5, 0.55], 0.1) == pytest.approx([0.516667 - 0.1, 0.516667, 0.516667 + 0.1], abs=1e-5)


def test_a_point_beyond_the_ends_of_the_axis_is_an_arrow_with_its_value() -> None:
    limited = replace(ACCURACY, limits=(85.0, 100.0))
    axes = drawing.figure(Chart("", [panel(line("gmp"), line("short", (90.0,)), y=limited)])).axes[0]
    assert written(axes) == {"80 ▼"}
    assert axes.get_ylim() == (85.0, 100.0)


def test_a_page_has_a_title_and_limits_only_where_they_are_asked_for() -> None:
    assert drawing.figure(SMALL).get_suptitle() == ""
    figure = drawing.figure(
        SMALL, Page(3.25, "A title that is so long that it does not fit into one line of it", (70.0, 99.0))
    )
    assert figure.get_suptitle().count("\n") == 1
    assert figure.axes[0].get_ylim() == (70.0, 99.0)


def test_on_a_logit_axis_equal_ratios_of_errors_are_equal_distances() -> None:
    logit = Axis("accuracy", "logit", (96.0, 98.0, 99.0), ("96", "98", "99"), (95.0, 99.5))
    axes = drawing.figure(Chart("", [panel(line("a", (99.0, 98.0, 96.0)), y=logit)])).axes[0]
    low, middle, high = (axes.transData.transform((0.1, y))[1] for y in (96.0, 98.0, 99.0))
    assert high - middle == pytest.approx(middle - low)


def test_rows_of_dots_run_from_top_to_bottom_with_their_deviations() -> None:
    names = Axis("", "category", (0, 1), ("imp, FT", "gmp"))
    rows = [Series(n, "points", (i,), (90.0 + i,), (0.5,), (3,)) for i, n in enumerate(names.labels)]
    figure = drawing.figure(Chart("", [Panel("sparsity 90%", names, ACCURACY, [*rows, DENSE], is_turned=True)]))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["imp, FT", "gmp"]
    assert axes.get_ylim() == (1.5, -0.5)
    assert [tuple(map(float, bar.lines[0].get_xydata()[0])) for bar in errors(axes).values()] == [
        (90.0, 0.0),
        (91.0, 1.0),
    ]
    assert all(bar.has_xerr and not bar.has_yerr for bar in errors(axes).values())
    assert legend(figure) == ["dense"]


@pytest.mark.parametrize("width", [3.25, 5.5])
def test_a_figure_is_as_wide_as_its_paper_with_letters_of_seven_points(width: float, tmp_path: Path) -> None:
    file = tmp_path / "a.svg"
    drawing.save(Chart("title", [panel(line("imp, ALLR, 20+1"), DENSE)]), file, Page(width))
    assert float(file.read_text().split('width="')[1].split("pt")[0]) / 72 == pytest.approx(width)
    assert min(v for k, v in drawing.STYLE.items() if k.endswith("size")) >= 7


@pytest.mark.parametrize(
    ("text", "inches"), [("3.25in", 3.25), ("8.255cm", 3.25), ("82.55 mm", 3.25), ("397.485pt", 5.5)]
)
def test_a_width_has_a_unit(text: str, inches: float) -> None:
    assert read_width(text) == pytest.approx(inches)


@pytest.mark.parametrize("text", ["3.25", "in", "1in", "900in", "3..2in", "-3in", "3 feet"])
def test_what_is_no_width_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--width: "):
        read_width(text)


@pytest.mark.parametrize("text", ["90", "98:90", "a:b", "90:98:99", "nan:5", "90:inf"])
def test_what_are_no_limits_is_refused(text: str) -> None:
    assert read_limits("90:97.5") == (90.0, 97.5)
    with pytest.raises(UserError, match=r"--ylim: .* LOW:HIGH"):
        read_limits(text)


def test_marks_are_lines_and_the_lower_panel_shares_the_axis() -> None:
    lower = panel(line("a"), y=Axis("learning rate"))
    figure = drawing.figure(Chart("", [Panel("t", Axis("epochs"), ACCURACY, [line("a")], (0.1,), "prune", lower)]))
    above, below = figure.axes
    assert above.get_shared_x_axes().joined(above, below)
    assert (above.get_xlabel(), below.get_ylabel()) == ("", "learning rate")
    assert [list(each.get_xdata()) for each in above.lines if each.get_label() == "prune"] == [[0.1, 0.1]]
    assert legend(figure) == ["prune", "a"]


def test_labels_that_would_touch_the_next_one_are_left_out(tmp_path: Path) -> None:
    densities = (0.3, 0.2, 0.1, 0.05, 0.02)
    near = replace(DENSITY, ticks=densities, labels=[f"{100 - 100 * density:g}%" for density in densities])
    narrow = Chart("", [Panel("", near, ACCURACY, [line("a")])] * 3)
    for width, shown in ((1.2, ["90%", "98%"]), (12.0, ["70%", "80%", "90%", "95%", "98%"])):
        drawing.save(narrow, tmp_path / "figure.svg", Page(width))
        text = (tmp_path / "figure.svg").read_text()
        assert [label for label in ("70%", "80%", "90%", "95%", "98%") if f"<!-- {label} -->" in text] == shown


def test_epochs_are_labelled_with_whole_numbers() -> None:
    curve = Series("a", "line", (1, 2, 3), (50.0, 60.0, 70.0), (None,) * 3, (1,) * 3)
    for epochs, is_whole in ((Axis("epochs", whole=True), True), (Axis("epochs"), False)):
        axes = drawing.figure(Chart("", [Panel("", epochs, ACCURACY, [curve])])).axes[0]
        assert all(tick == round(tick) for tick in axes.get_xticks()) == is_whole


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
