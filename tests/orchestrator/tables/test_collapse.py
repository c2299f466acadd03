"""Means of which a network is part that lost a layer are marked wherever they are shown."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from prunesweep.orchestrator.figures.comparisons import Frames
from prunesweep.orchestrator.figures.drawing import figure
from prunesweep.orchestrator.figures.kinds import make_chart
from prunesweep.orchestrator.figures.page import Page
from prunesweep.orchestrator.report.every_cell import every_cell
from prunesweep.orchestrator.report.plotly_charts import plotly_chart
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.tables.compare import differences
from prunesweep.orchestrator.tables.grid import laid_out
from prunesweep.orchestrator.tables.means import means_table
from prunesweep.orchestrator.tables.rendering import render
from tests.orchestrator.frames import dense, trials

LOST = [0, 1, 0, 3, 1]
"""Layers without weights in each of five seeds: in three of these there are any."""


def frame(lost: list[int] = LOST) -> pd.DataFrame:
    collapsed = trials([0.1, 0.1, 0.9, 0.1, 0.1], method="dpf", target_sparsity=0.98)
    rows = [{**row, "collapsed_layers": count} for row, count in zip(collapsed, lost, strict=True)]
    rows += [
        {**row, "collapsed_layers": 0}
        for row in [*trials([0.9] * 4 + [0.91], method="gmp", target_sparsity=0.98), *dense([0.97] * 5)]
    ]
    return pd.DataFrame(rows)


NOTE = "‡ in some seeds a layer kept no weight: at or near chance level by layer collapse (dpf at 98% in 3 of 5)"


@pytest.mark.parametrize("format", ["markdown", "latex", "table"])
def test_a_table_marks_them_and_says_what_the_mark_means(format: str) -> None:
    table = laid_out(means_table(frame()))
    assert NOTE in table.notes
    (marked,) = [entry for line in table.lines for entry in line.entries if entry.mark]
    assert marked.text == "26.0 ± 35.8 (5)"
    if format == "latex":
        assert r"(5)$^\ddagger$" in str(render(table, format))
    if format == "markdown":
        assert "(5)‡" in str(render(table, format))


def test_without_such_networks_there_is_no_mark() -> None:
    table = laid_out(means_table(frame([0] * 5)))
    assert "‡" not in str(render(table, "markdown"))
    assert "‡" not in str(render(differences(frame([0] * 5)), "markdown"))
    (panel,) = make_chart("sparsity", frames([0] * 5), Query()).panels
    assert not any(series.collapses for series in panel.series)


def test_results_of_before_without_the_column_have_no_mark() -> None:
    assert "‡" not in str(render(laid_out(means_table(frame().drop(columns="collapsed_layers"))), "markdown"))


def test_differences_mark_them_too() -> None:
    table = differences(frame())
    assert NOTE in table.notes
    assert "(5)‡ |" in str(render(table, "markdown"))


def test_a_program_is_told_in_how_many_seeds() -> None:
    records = json.loads(str(render(laid_out(means_table(frame())), "json")))
    assert {record["method"]: record.get("collapsed_seeds") for record in records} == {
        **{"dense": None, "gmp": None},
        **{"dpf": 3},
    }


def frames(lost: list[int] = LOST) -> Frames:
    return Frames(frame(lost), pd.DataFrame, pd.DataFrame)


def test_a_figure_marks_the_mean_on_paper_and_in_a_browser() -> None:
    chart = make_chart("sparsity", frames(), Query())
    assert NOTE in chart.notes
    texts = [text.get_text() for axes in figure(chart).axes for text in axes.texts]
    assert "‡ a layer kept no weight" in texts
    assert texts.count("‡") == 1
    (panel,) = plotly_chart(chart).panels
    (marks,) = [trace for trace in panel.json["data"] if trace.get("mode") == "text"]
    assert marks["text"] == ["‡"]
    hovers = [text for trace in panel.json["data"] for text in trace.get("hovertext", ())]
    assert sum("‡ in 3 of 5 a layer kept no weight" in text for text in hovers) == 1


def test_beyond_the_axis_the_mark_stands_at_the_value() -> None:
    drawn = figure(make_chart("sparsity", frames(), Query()), Page(limits=(80.0, 99.0)))
    assert any("26‡" in text.get_text() for axes in drawn.axes for text in axes.texts)


def test_the_table_of_every_cell_has_the_lost_layers_where_there_are_any() -> None:
    assert "collapsed layers" in every_cell(frame(), means_table(frame())).heads
    none = frame([0] * 5)
    assert "collapsed layers" not in every_cell(none, means_table(none)).heads
