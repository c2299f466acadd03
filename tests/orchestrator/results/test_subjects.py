"""What is trained on other data, or is another network, never competes: options of dataset and model count."""

from __future__ import annotations

import pandas as pd

from prunesweep import compare, pareto, select_best
from prunesweep.orchestrator.tables.means import means_table
from tests.orchestrator.frames import imp, judged

NARROW, WIDE = {"model_options": "width: 1"}, {"model_options": "width: 2"}
LOW, HIGH = [0.80, 0.81, 0.82, 0.80, 0.81], [0.90, 0.91, 0.92, 0.90, 0.91]
BELOW = [value - 0.1 for value in LOW]

FRAME = pd.DataFrame(
    [
        *imp(LOW, "FT", **NARROW),
        *imp(BELOW, "LLR", **NARROW),
        *imp(HIGH, "FT", **WIDE),
        *imp([value - 0.1 for value in HIGH], "LLR", **WIDE),
        *imp(LOW, "FT", model="lenet5"),
    ]
)


def test_each_width_has_its_own_best_and_a_column_says_which() -> None:
    table = means_table(FRAME)
    assert table.row_names[:2] == ("model", "model_options")
    best = {
        (cell.settings["model_options"], cell.settings["retrain_schedule"])
        for cell in table.cells.values()
        if cell.best
    }
    assert best == {("width: 1", "FT"), ("width: 2", "FT")}


def test_no_difference_crosses_two_widths() -> None:
    rows = compare(FRAME)
    assert {*zip(rows.model_options, rows.retrain_schedule, rows.against_retrain_schedule, strict=True)} == {
        ("width: 1", "LLR", "FT"),
        ("width: 2", "LLR", "FT"),
    }
    assert [*rows.difference.round(6)] == [-0.1, -0.1]


def test_the_best_setting_is_chosen_for_each_width_and_a_model_without_options_keeps_its_own() -> None:
    frame = pd.DataFrame(
        [
            *judged(LOW, LOW, lr=0.1, retrain_schedule="FT", **NARROW),
            *judged(BELOW, BELOW, lr=0.2, retrain_schedule="FT", **NARROW),
            *judged(HIGH, HIGH, lr=0.2, retrain_schedule="FT", **WIDE),
            *judged(LOW, LOW, lr=0.3, retrain_schedule="FT", model="lenet5"),
        ]
    )
    frame["trial"] = [str(place) for place in frame.index]
    chosen = select_best(frame).drop_duplicates(["model", "model_options", "lr"])
    assert {*zip(chosen.model, chosen.model_options.fillna("-"), chosen.lr, strict=True)} == {
        ("resnet8", "width: 1", 0.1),
        ("resnet8", "width: 2", 0.2),
        ("lenet5", "-", 0.3),
    }


def test_each_width_has_its_own_front() -> None:
    rows = pareto(FRAME.assign(theoretical_speedup=2.0), by=["retrain_schedule"])
    on_front = rows[rows.front]
    assert {*zip(on_front.model, on_front.model_options.fillna("-"), on_front.retrain_schedule, strict=True)} == {
        ("resnet8", "width: 1", "FT"),
        ("resnet8", "width: 2", "FT"),
        ("lenet5", "-", "FT"),
    }


# --- versions of one's own code and images under one name

OLD, NEW = {"model_version": "code 11111111"}, {"model_version": "code 22222222"}


def test_two_versions_of_a_model_are_never_averaged_and_do_not_compete() -> None:
    table = means_table(pd.DataFrame([*imp(LOW, "FT", **OLD), *imp(HIGH, "FT", **NEW)]))
    means = {cell.settings["model_version"]: round(cell.mean, 3) for cell in table.cells.values()}
    assert means == {"code 11111111": 0.808, "code 22222222": 0.908}
    assert not any(cell.near or cell.best for cell in table.cells.values())


def test_a_version_that_all_have_is_no_column() -> None:
    table = means_table(pd.DataFrame([*imp(LOW, "FT", **OLD), *imp(HIGH, "LLR", **OLD)]))
    assert "model_version" not in table.row_names


def test_results_from_before_versions_were_named_are_not_averaged_with_those_since() -> None:
    table = means_table(pd.DataFrame([*imp(LOW, "FT"), *imp(HIGH, "FT", **NEW)]))
    assert sorted(round(cell.mean, 3) for cell in table.cells.values()) == [0.808, 0.908]


def test_two_versions_of_a_method_are_rows_of_their_own_and_no_hyperparameter_to_choose() -> None:
    first, second = {"method_version": "code 11111111"}, {"method_version": "code 22222222"}
    table = means_table(pd.DataFrame([*imp(LOW, "FT", **first), *imp(HIGH, "FT", **second)]))
    assert len(table.cells) == 2
    frame = pd.DataFrame([*judged(LOW, LOW, lr=0.1, **first), *judged(HIGH, HIGH, lr=0.2, **second)])
    frame["trial"] = [str(place) for place in frame.index]
    assert {*zip(select_best(frame).method_version, select_best(frame).lr, strict=True)} == {
        ("code 11111111", 0.1),
        ("code 22222222", 0.2),
    }
