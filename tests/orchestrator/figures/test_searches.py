"""Figures of searches, against numbers worked out by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from prunesweep.orchestrator.figures.charts import Chart, Panel
from prunesweep.orchestrator.figures.comparisons import Frames
from prunesweep.orchestrator.figures.kinds import make_chart
from prunesweep.orchestrator.figures.searches import expected_best
from prunesweep.orchestrator.results.query import Query
from prunesweep.workers.errors import UserError
from tests.orchestrator.figures.test_figures import CANDIDATES_MADE, absent, gmp


def chart(kind: str, rows: list[dict] = CANDIDATES_MADE) -> Chart:
    candidates = pd.DataFrame(rows)
    return make_chart(kind, Frames(pd.DataFrame(gmp([0.9])), absent, absent, None, lambda: candidates), Query())


def only_panel(made: Chart) -> Panel:
    (panel,) = made.panels
    assert isinstance(panel, Panel)
    return panel


def test_scores_over_a_setting_are_those_of_the_last_look():
    panel = only_panel(chart("tuning"))
    assert (panel.title, panel.x.label, panel.x.scale) == ("sparsity 90%", "train.lr", "log")
    points = {series.name: sorted(zip(series.x, series.y, strict=True)) for series in panel.series}
    assert points["stopped at a rung"] == [(0.01, 50.0)]
    assert points["gmp"] == [(0.1, 92.0), (0.5, 94.0)]
    assert points["imp"] == [(0.01, 80.0), (0.1, 90.0)]


def test_rungs_join_the_candidates_that_went_on_and_the_winner_has_the_colour():
    panel = only_panel(chart("rungs"))
    assert panel.title == "sparsity 90%, gmp"
    lines = [(series.name, series.hue, list(zip(series.x, series.y, strict=True))) for series in panel.series]
    assert lines == [
        ("other candidates", "", [(2.0, 50.0)]),
        ("other candidates", "", [(2.0, 70.0), (20.0, 92.0)]),
        ("the winner", "gmp", [(2.0, 60.0), (20.0, 94.0)]),
    ]


def test_the_best_to_expect_of_k_candidates():
    """Of 0.5 and 0.9 one is 0.7; of two, three times in four the better: 0.8. Losses the other way round."""
    assert expected_best([0.9, 0.5]) == pytest.approx([0.7, 0.8])
    assert expected_best([0.9, 0.5], lower=True) == pytest.approx([0.7, 0.6])
    panel = only_panel(chart("tries"))
    curves = {series.name: list(series.y) for series in panel.series}
    assert curves["gmp"] == pytest.approx([93.0, 93.5])
    assert curves["imp"] == pytest.approx([85.0, 87.5])
    assert "its curves begin too high" in chart("tries").notes[-1]


def test_without_searches_it_is_said():
    with pytest.raises(UserError, match="there are no searches"):
        make_chart("tuning", Frames(pd.DataFrame(gmp([0.9])), absent, absent), Query())
