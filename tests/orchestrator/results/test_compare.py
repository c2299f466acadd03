"""Differences over shared seeds and Pareto fronts: numbers worked out by hand, and how they are shown."""

from __future__ import annotations

import io
import json
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from prunesweep import compare, pareto
from prunesweep.orchestrator.results.filtering import setting
from prunesweep.orchestrator.tables.compare import differences
from prunesweep.orchestrator.tables.rendering import render
from prunesweep.orchestrator.tables.text_table import TextTable
from prunesweep.workers.errors import UserError
from tests.orchestrator.frames import dense, imp, trials

FT, SLR, LLR = [0.90, 0.92, 0.91, 0.91, 0.91], [0.93, 0.94, 0.97, 0.94, 0.97], [0.94, 0.96, 0.95, 0.97, 0.98]
"""Means 0.91, 0.95 and 0.96."""

FRAME = pd.DataFrame(
    [
        *imp(FT, "FT"),
        *imp(SLR, "SLR"),
        *imp(LLR, "LLR"),
        *imp([0.5, 0.6], "FT", 2),
        *imp([0.7, 0.9], "LLR", 2),
        *dense([0.97] * 5),
    ]
)

SAME = pd.DataFrame([*imp([0.25, 0.5, 0.375] * 2, "FT"), *imp([0.5, 0.75, 0.625] * 2, "LLR")])
"""FT is 0.25 behind with each of six seeds."""


def shown(table: TextTable) -> list[str]:
    sink = io.StringIO()
    Console(file=sink, width=120, color_system=None).print(render(table))
    return [line.rstrip() for line in sink.getvalue().splitlines()]


# --- compare


def test_each_setting_is_compared_with_the_best_of_its_arena() -> None:
    rows = compare(FRAME)
    assert rows[["total_epochs", "retrain_schedule", "against_retrain_schedule"]].to_numpy().tolist() == [
        [21, "FT", "LLR"],
        [21, "SLR", "LLR"],
        [22, "FT", "LLR"],
    ]
    assert rows["difference"].tolist() == pytest.approx([-0.05, -0.01, -0.25])
    assert rows["n"].tolist() == [5, 5, 2]


def test_what_is_ranked_has_p_and_an_interval_that_agrees_and_the_rest_student_s_interval_alone() -> None:
    rows = compare(FRAME)
    assert rows["distinguishable"].tolist() == [True, False, None]
    assert rows["high"][0] < 0 < rows["high"][1]
    assert rows["p_adjusted"].isna().tolist() == [False, False, True]
    student = stats.ttest_rel([0.5, 0.6], [0.7, 0.9]).confidence_interval(0.95)
    assert rows.loc[2, ["low", "high"]].tolist() == pytest.approx([student.low, student.high])


def test_two_settings_are_ranked_by_the_paired_t_test() -> None:
    pair = FRAME[(FRAME.total_epochs == 21) & FRAME.retrain_schedule.isin(["SLR", "LLR"])]
    row = compare(pair).iloc[0]
    expected = stats.ttest_rel(SLR, LLR)
    assert row["p_adjusted"] == pytest.approx(expected.pvalue, abs=0.01)
    interval = expected.confidence_interval(0.95)
    assert row[["low", "high"]].tolist() == pytest.approx([interval.low, interval.high], abs=0.001)


def test_the_same_difference_with_every_seed_has_no_interval() -> None:
    row = compare(SAME).iloc[0]
    assert (row["difference"], row["std"], row["n"]) == (-0.25, 0, 6)
    assert (row["p_adjusted"], row["distinguishable"]) == (0.03125, True)  # the sign test: 2^-5
    assert row[["low", "high"]].isna().all()
    five = compare(SAME[SAME.seed < 5]).iloc[0]
    assert (five["p_adjusted"], five["distinguishable"]) == (0.0625, False)


def test_against_a_setting_that_is_named() -> None:
    found = compare(FRAME, against={"retrain_schedule": "FT"})
    assert found["retrain_schedule"].tolist() == ["SLR", "LLR", "LLR"]
    assert found["difference"].tolist() == pytest.approx([0.04, 0.05, 0.25])
    assert set(found["against_retrain_schedule"]) == {"FT"}
    with pytest.raises(UserError, match='unknown phases "7": allowed are 1'):
        compare(FRAME, against={"phases": 7})


def test_against_several_settings_is_against_the_best_of_them() -> None:
    frame = pd.DataFrame([*FRAME.to_dict("records"), *trials([0.99] * 5, method="gmp", retrain_epochs=1)])
    found = compare(frame, against={"method": "imp"})
    assert set(found["against_retrain_schedule"]) == {"LLR"}
    assert found["difference"][found["method"] == "gmp"].tolist() == pytest.approx([0.03])


def test_only_shared_seeds_count_and_too_few_are_not_tested() -> None:
    later = [{**row, "seed": row["seed"] + 4, "trial": f"{row['trial']}+4"} for row in imp([0.5, 0.1], "ALLR")]
    found = compare(pd.DataFrame([*imp(LLR, "LLR"), *later])).iloc[0]
    assert (found["n"], found["difference"]) == (1, pytest.approx(0.5 - 0.98))
    assert found[["std", "low", "high", "p_adjusted", "distinguishable"]].isna().all()


def test_different_settings_are_never_averaged() -> None:
    rates = [row for lr in (0.1, 0.2) for row in imp([0.5 + lr, 0.6 + lr], "FT", lr=lr)]
    found = compare(pd.DataFrame(rates))
    assert found[["lr", "against_lr"]].to_numpy().tolist() == [[0.1, 0.2]]
    assert found["difference"].tolist() == pytest.approx([-0.1])


def test_of_a_loss_the_lowest_is_the_reference() -> None:
    frame = pd.DataFrame([*imp([0.1, 0.2], "FT", metric="test_loss"), *imp([0.3, 0.5], "LLR", metric="test_loss")])
    assert compare(frame, "test_loss")["difference"].tolist() == pytest.approx([0.25])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "test_acuracy"}, 'did you mean "test_accuracy"'),
        ({"by": ["metod"]}, 'unknown column "metod"'),
        ({"against": {"metod": "gmp"}}, 'unknown column "metod"'),
        ({"metric": "reached_sparsity"}, "neither more nor less reached_sparsity is better: say what"),
        ({"at": ["validation_loss"]}, "no trial with test_accuracy has all of validation_loss"),
    ],
)
def test_what_cannot_be_compared(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        compare(FRAME.assign(reached_sparsity=0.9, validation_loss=None), **arguments)


def test_a_setting_is_named_by_a_condition() -> None:
    assert setting(FRAME, "method=imp") == ("method", "imp")
    assert setting(FRAME, "total_epochs = 22") == ("total_epochs", 22)
    for wrong in ("method", "method!=imp", "total_epochs=21,22", "total_epochs>1"):
        with pytest.raises(UserError, match="names no setting; write column=value"):
            setting(FRAME, wrong)
    with pytest.raises(UserError, match='unknown method "inp"'):
        setting(FRAME, "method=inp")


# --- what it looks like


def test_differences_in_the_terminal() -> None:
    frame = FRAME[(FRAME.total_epochs == 21)]
    assert shown(differences(frame)) == [
        "digits, resnet8: test accuracy in percent, differences to the best",
        "",
        "target     total    retrain",
        "sparsity   epochs   schedule    test accuracy   points   95% interval       g   seeds       p",
        "─" * 97,
        "90%        20+1     LLR        96.0 ± 1.6 (5)",
        "                    SLR        95.0 ± 1.9 (5)     -1.0   -4.3 to +2.3   -0.52       5   0.592   *",
        "                    FT         91.0 ± 0.7 (5)     -5.0   -7.5 to -2.5   -3.69       5   0.004",
        "",
        "mean differences over shared seeds to the first of each block",
        "95% intervals: of the setting minus the best of the others; all of a block hold at once",
        "p: moderated paired t, adjusted for all pairs of the block",
        "*: not shown to be worse at 5%",
        "g: effect size, the difference of the two means over their pooled deviation (Hedges' g)",
        "digits: one of the 100 images of the test set is 1.00 points",
    ]


def test_with_few_seeds_there_are_means_and_intervals_alone() -> None:
    lines = shown(differences(FRAME[(FRAME.total_epochs == 22)]))
    # pooled deviation 11.2 of 14.1 and 7.1, and 1 - 3 / (4 * 2 - 1) for two seeds each
    assert lines[6].split()[-7:] == ["-25.0", "-88.5", "to", "+38.5", "-1.28", "2", "-"]
    assert lines[-3:] == [
        "95% intervals without p: of this difference alone",
        "g: effect size, the difference of the two means over their pooled deviation (Hedges' g)",
        "2 seeds: too few to rank, which takes 5",
    ]


def test_missing_seeds_are_told() -> None:
    lines = shown(differences(FRAME))
    assert any("60.0" not in line and "55.0 ± 7.1 (2/5)" in line for line in lines)
    assert lines[-1] == "(n/N): n of the N seeds asked for"


def test_differences_for_programs() -> None:
    records = json.loads(str(render(differences(FRAME), "json")))
    assert len(records) == 3
    assert records[0]["difference"] == pytest.approx(-0.05)
    assert records[0]["mean"] + 0.05 == pytest.approx(records[0]["against_mean"])
    records = pd.read_csv(io.StringIO(str(render(differences(FRAME), "csv"))))
    assert records["difference"].tolist() == pytest.approx(compare(FRAME)["difference"].tolist())


def test_differences_in_markdown() -> None:
    lines = str(render(differences(FRAME[FRAME.total_epochs == 21]), "markdown")).splitlines()
    assert lines[2:7] == [
        "| target sparsity | total epochs | retrain schedule | test accuracy | points | 95% interval | g "
        "| seeds | p |  |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| 90% | 20+1 | LLR | **96.0 ± 1.6 (5)** |  |  |  |  |  |  |",
        r"|  |  | SLR | 95.0 ± 1.9 (5) | -1.0 | -4.3 to +2.3 | -0.52 | 5 | 0.592 | \* |",
        "|  |  | FT | 91.0 ± 0.7 (5) | -5.0 | -7.5 to -2.5 | -3.69 | 5 | 0.004 |  |",
    ]


def test_a_difference_without_an_interval_in_every_format() -> None:
    table = differences(SAME[SAME.seed < 5])
    (line,) = [line for line in shown(table) if " FT " in line]
    assert line.split()[-7:] == ["(5)", "-25.0", "-", "-1.81", "5", "0.062", "*"]
    assert "no interval: the same difference with every seed, so p is that of a sign test" in shown(table)
    assert r"| -25.0 | - | -1.81 | 5 | 0.062 | \* |" in str(render(table, "markdown"))
    assert r"& $-$25.0 & - & $-$1.81 & 5 & 0.062 & {*} \\" in str(render(table, "latex"))
    (record,) = json.loads(str(render(table, "json")))
    assert {name: record[name] for name in ("low", "high", "p_adjusted", "distinguishable")} == {
        **{"low": None, "high": None},
        **{"p_adjusted": 0.0625, "distinguishable": False},
    }
    head, row = (line.split(",") for line in str(render(table, "csv")).splitlines())
    assert [row[head.index(name)] for name in ("std", "low", "high", "p_adjusted")] == ["0.0", "", "", "0.0625"]


def test_what_it_is_compared_against_may_be_a_setting_that_does_not_vary() -> None:
    assert "phases" not in differences(FRAME).records[0]
    table = differences(FRAME, against={"retrain_schedule": "FT", "phases": 1})
    assert [record["difference"] for record in table.records] == pytest.approx([0.04, 0.05, 0.25])


def test_several_datasets_are_columns() -> None:
    other = FRAME.assign(dataset="cifar10", trial="other " + FRAME.trial)
    table = differences(pd.concat([FRAME, other]))
    assert table.heads[0] == "dataset"
    assert table.title == "resnet8: test accuracy in percent, differences to the best"


def test_nothing_to_show() -> None:
    with pytest.raises(UserError, match="nothing to compare: no two settings"):
        differences(pd.DataFrame(imp(FT, "FT")))


# --- fronts


def cell(method: str, speedup: float, accuracy: float, **more: Any) -> list[dict[str, Any]]:
    return [{**row, "theoretical_speedup": speedup} for row in trials([accuracy] * 2, method=method, **more)]


def front(frame: pd.DataFrame, *columns: str) -> list[str]:
    found = pareto(frame, *columns)
    return found["method"][found["front"]].tolist()


def test_the_front_is_what_no_other_beats() -> None:
    frame = pd.DataFrame([*cell("a", 2, 0.9), *cell("b", 3, 0.8), *cell("c", 2, 0.8), *cell("d", 3, 0.8)])
    assert front(frame) == ["a", "b", "d"]


def test_the_front_knows_which_direction_is_better() -> None:
    frame = pd.DataFrame([*cell("a", 2, 0.9), *cell("b", 3, 0.8)]).assign(train_seconds=[5.0, 5.0, 9.0, 9.0])
    assert front(frame, "train_seconds") == ["a"]
    assert front(frame.assign(test_loss=[0.9, 0.9, 0.8, 0.8]), "theoretical_speedup", "test_loss") == ["b"]


def test_each_dataset_has_its_own_front() -> None:
    frame = pd.DataFrame([*cell("a", 2, 0.9), *cell("b", 1, 0.1, dataset="cifar10")])
    assert front(frame) == ["a", "b"]
    with pytest.raises(UserError, match="reached_sparsity makes no front"):
        pareto(frame, "reached_sparsity")


def test_a_setting_off_its_target_competes_where_the_tolerance_allows_it() -> None:
    missed = imp([0.97, 0.96, 0.98, 0.97, 0.96], "LLR", reached_sparsity=0.905)
    frame = pd.DataFrame([*imp([0.90, 0.91, 0.92, 0.90, 0.91], "FT", reached_sparsity=0.9), *missed])
    (out,) = compare(frame).to_dict("records")
    assert (out["retrain_schedule"], out["against_retrain_schedule"]) == ("LLR", "FT")
    assert pd.isna(out["p_adjusted"])
    (within,) = compare(frame, tolerance=0.01).to_dict("records")
    assert (within["retrain_schedule"], within["against_retrain_schedule"]) == ("FT", "LLR")
    assert within["distinguishable"]
