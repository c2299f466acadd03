"""The comparison: who is best where, worked out by hand, and what it looks like."""

from __future__ import annotations

import io
import json
from itertools import product
from typing import Any

import pandas as pd
import pytest
from rich.console import Console, RenderableType
from scipy import stats

from prunesweep.orchestrator.tables import rendering
from prunesweep.orchestrator.tables.grid import laid_out
from prunesweep.orchestrator.tables.means import Table, best_table, means_table
from prunesweep.workers.errors import UserError
from tests.orchestrator.frames import dense, imp, judged, trials

SCHEDULES = ("FT", "LRW", "SLR", "CLR", "LLR", "ALLR")


def render(table: Table, format: str = "table") -> RenderableType:
    return rendering.render(laid_out(table), format)


def shown(table: Table, width: int = 120, terminal: bool = False) -> str:
    sink = io.StringIO()
    Console(file=sink, width=width, force_terminal=terminal, color_system=None).print(render(table))
    return "\n".join(line.rstrip() for line in sink.getvalue().splitlines())


def marks(table: Table) -> dict[Any, str]:
    return {row: "best" if cell.best else "near" if cell.near else "" for (row, _), cell in table.cells.items()}


FT = imp([0.90, 0.92, 0.91, 0.90, 0.92], "FT")
ALLR = imp([0.92, 0.94, 0.93, 0.95, 0.91], "ALLR")
LLR = imp([0.93, 0.95, 0.94, 0.93, 0.95], "LLR")
"""Means 0.91, 0.93, 0.94; FT is 0.03 behind LLR with every seed, ALLR 0.01 with three, 0.04 behind and 0.02 before."""

SMALL = pd.DataFrame([*FT, *ALLR, *LLR, *dense([0.96, 0.98, 0.97, 0.97, 0.97])])

# Budgets in the header: FT lacks its second budget, LLR has one seed there.
HEADER = pd.DataFrame(
    [*imp([0.5, 0.5], "FT"), *imp([0.75, 0.77], "LLR"), *imp([0.8125], "LLR", 2), *imp([0.5, 0.52], "FT", 1, 0.95)]
)

# Methods with unlike budgets: 20 epochs in all, or 20 and 1 of retraining; gmp is not finished at 90 %.
UNLIKE = pd.DataFrame(
    [
        *imp([0.5, 0.52], "FT", 1, 0.8),
        *imp([0.6, 0.62], "FT", 1, 0.9),
        *trials([0.7, 0.72], method="bimp", retrain_schedule="ALLR", pretrain_epochs=18, retrain_epochs=2, phases=1),
        *trials([0.8, 0.82], method="gmp", target_sparsity=0.8),
    ]
)


# --- who is best


def test_means_deviations_best_and_near() -> None:
    table = means_table(SMALL)
    cells = {row[-1]: cell for (row, _), cell in table.cells.items()}
    assert [cells[s].mean for s in ("FT", "ALLR", "LLR")] == pytest.approx([0.91, 0.93, 0.94])
    assert [cells[s].std for s in ("FT", "ALLR", "LLR")] == pytest.approx([0.01, 0.00025**0.5, 0.01])
    # FT is the same 0.03 behind with five seeds: the sign test's 2^-4, times three pairs. It is 0.02 behind ALLR.
    assert cells["FT"].p == 3 * 2**-4
    assert marks(table) == {("imp", "FT"): "near", ("imp", "ALLR"): "near", ("imp", "LLR"): "best"}
    assert cells["LLR"].p is None


def test_near_is_a_question_of_differences_seed_by_seed_not_of_deviations() -> None:
    noisy = {
        "LLR": [0.50, 0.70, 0.90, 0.60, 0.80],
        "FT": [0.47, 0.66, 0.87, 0.57, 0.76],
        "SLR": [0.90, 0.50, 0.60, 0.60, 0.70],
    }
    frame = pd.DataFrame([row for name, values in noisy.items() for row in imp(values, name)])
    cells = {row[-1]: cell for (row, _), cell in means_table(frame).cells.items()}
    # FT is 0.03 or 0.04 behind, with t = 13.9 and four degrees of freedom; SLR now 0.4 before, now 0.3 behind.
    assert (cells["LLR"].best, cells["FT"].near, cells["SLR"].near) == (True, False, True)
    assert cells["FT"].p < 0.01


@pytest.mark.parametrize(("seeds", "mark"), [(4, None), (5, "near"), (6, "")])
def test_the_same_difference_with_every_seed_tells_apart_from_six_seeds_on(seeds: int, mark: str | None) -> None:
    frame = pd.DataFrame(
        [*imp([0.25 + i / 16 for i in range(seeds)], "FT"), *imp([0.5 + i / 16 for i in range(seeds)], "LLR")]
    )
    best = "" if mark is None else "best"
    assert marks(means_table(frame)) == {("imp", "FT"): mark or "", ("imp", "LLR"): best}


def test_the_more_rivals_the_more_it_takes() -> None:
    def arena(epochs: int, rivals: int) -> list[dict[str, Any]]:
        best = imp([0.50, 0.70, 0.90, 0.60, 0.80], "best", epochs)
        shifts = ([0.01, 0.01, 0.02, 0.01, 0.02], [0.02, 0.01, 0.01, 0.02, 0.01])
        return [
            row
            for i in range(rivals)
            for row in imp([b["test_accuracy"] - d for b, d in zip(best, shifts[i % 2], strict=True)], f"{i}", epochs)
        ] + best

    table = means_table(pd.DataFrame([*arena(1, 1), *arena(2, 3)]))
    cells = {(column[1], row[-1]): cell for (row, column), cell in table.cells.items()}
    # t = 0.014 / 0.00245 = 5.7 with four degrees of freedom: p = 0.0046 for one pair, and there are six of 22 epochs.
    assert cells[21, "0"].p == pytest.approx(0.0046, abs=0.002)
    assert 2 * cells[21, "0"].p < cells[22, "0"].p <= 6 * 0.0066


def test_few_seeds_are_not_ranked_and_that_is_said_in_every_format_for_people() -> None:
    table = means_table(pd.DataFrame([*imp([0.8, 0.9, 0.85], "LLR"), *imp([0.5, 0.6, 0.55], "FT")]))
    assert set(marks(table).values()) == {""}
    for text in (shown(table), render(table, "markdown"), render(table, "latex")):
        assert "3 seeds: too few to rank, which takes 5" in str(text)
        assert "best mean" not in str(text)


def test_a_setting_with_fewer_seeds_is_out_of_competition() -> None:
    lucky = imp([0.99, 0.99, 0.99, 0.99], "SLR")
    table = means_table(pd.DataFrame([*FT, *LLR, *lucky]))
    assert marks(table) == {("imp", "FT"): "near", ("imp", "LLR"): "best", ("imp", "SLR"): ""}
    assert "1 cell out of competition: fewer seeds than others at the same place" in shown(table).splitlines()


def test_one_seed_has_a_mark_of_its_own() -> None:
    table = means_table(pd.DataFrame([*FT, *LLR, *imp([0.5], "SLR")]))
    assert "50.0 (1/5)†" in shown(table)
    assert "†: one seed" in shown(table)
    assert r"50.0 (1/5)$^\dagger$" in str(render(table, "latex"))
    assert "50.0 (1/5)† |" in str(render(table, "markdown"))


def test_unlike_seeds_are_not_ranked_and_that_is_said() -> None:
    apart = [{**row, "seed": row["seed"] + 1, "trial": f"{row['trial']}+1"} for row in FT]
    table = means_table(pd.DataFrame([*LLR, *apart]))
    assert set(marks(table).values()) == {""}
    lines = shown(table).splitlines()
    assert "2 cells not ranked: their seeds are not the same" in lines
    assert "(n/N): n of the N seeds asked for" in lines
    assert any("(5/6)" in line for line in lines)


def test_trials_of_one_seed_cannot_be_paired() -> None:
    hidden = [{**row, "trial": f"other {row['trial']}"} for row in ALLR]
    assert marks(means_table(pd.DataFrame([*ALLR, *LLR]))) == {("imp", "ALLR"): "near", ("imp", "LLR"): "best"}
    twice = [*LLR, *({**row, "trial": f"other {row['trial']}"} for row in LLR)]
    assert marks(means_table(pd.DataFrame([*ALLR, *hidden, *twice]))) == {("imp", "ALLR"): "", ("imp", "LLR"): ""}


def test_equal_means_are_both_best_whatever_their_seeds() -> None:
    frame = pd.DataFrame(
        [*imp([0.5, 0.75] * 3, "A"), *imp([0.75, 0.5] * 3, "B"), *imp([0.25, 0.5, 0.75, 0.25, 0.5, 0.75], "C")]
    )
    assert list(marks(means_table(frame)).values()) == ["best", "best", "near"]


# --- what reached another sparsity than its target


def test_a_cell_that_missed_its_target_is_out_of_competition_and_listed_with_what_it_reached() -> None:
    def reaching(rows: list[dict[str, Any]], sparsity: float) -> list[dict[str, Any]]:
        return [{**row, "reached_sparsity": sparsity} for row in rows]

    dense_in_truth = imp([0.99] * 4 + [0.98], "SLR")
    frame = pd.DataFrame([*reaching(FT, 0.9015), *reaching(LLR, 0.9), *reaching(dense_in_truth, 0.0)])
    table = means_table(frame)
    assert marks(table) == {("imp", "FT"): "near", ("imp", "LLR"): "best"}
    lines = shown(table).splitlines()
    assert "out of competition: off their target sparsity" in lines
    assert any(line.split() == ["imp", "SLR", "90%", "20+1", "0.0%", "98.8", "±", "0.4", "(5)"] for line in lines)
    assert r"imp & SLR & 90\% & 20+1 & 0.0\% & 98.8 $\pm$ 0.4 (5) \\" in str(render(table, "latex"))
    assert [record["mean"] for record in json.loads(str(render(table, "json")))] == pytest.approx([0.91, 0.94, 0.988])
    strict = means_table(frame, tolerance=0.001)
    assert list(marks(strict)) == [("imp", "LLR")]
    assert len(strict.missed) == 2


def test_missing_seeds_and_trials_are_told_in_every_format_for_people() -> None:
    frame = pd.DataFrame([*imp([0.5, 0.52, 0.51], "FT"), *imp([0.6], "LLR")])
    frame.attrs["sweeps"] = [{"sweep": "s", "trials": 1200, "finished": 4, "seeds": [0, 1, 2, 3, 4]}]
    table = means_table(frame)
    for text in (shown(table), render(table, "markdown"), render(table, "latex")):
        assert "(3/5)" in str(text)
        assert "60.0 (1/5)" in str(text)
        assert "s: 1,196 of 1,200 trials not finished" in str(text)
    assert [row["seeds"] for row in json.loads(str(render(table, "json")))] == [5, 5]
    frame.attrs["sweeps"][0]["seeds"] = None  # they differ from setting to setting: nobody knows what is missing
    assert "60.0 (1)" in shown(means_table(frame))


@pytest.mark.parametrize(
    ("metric", "best"),
    [("test_loss", "FT"), ("train_seconds", "FT"), ("test_accuracy", "LLR"), ("train_images_per_second", "LLR")],
)
def test_the_best_is_the_lowest_or_the_highest(metric: str, best: str) -> None:
    frame = pd.DataFrame([*imp([1.0] * 5, "FT", metric=metric), *imp([2.0] * 5, "LLR", metric=metric)])
    assert marks(means_table(frame, metric)) == {("imp", s): "best" if s == best else "near" for s in ("FT", "LLR")}


def test_nothing_is_best_alone_among_equals_or_where_neither_direction_is_better() -> None:
    equal = pd.DataFrame([*imp([0.9], "FT"), *imp([0.9], "LLR")])
    neutral = pd.DataFrame(
        [*imp([0.8], "FT", metric="reached_sparsity"), *imp([0.9], "LLR", metric="reached_sparsity")]
    )
    tables = [means_table(pd.DataFrame(FT)), means_table(equal), means_table(neutral, "reached_sparsity")]
    assert {mark for table in tables for mark in marks(table).values()} == {""}


def test_only_equal_sparsities_and_equal_total_budgets_compete() -> None:
    worse_but_cheaper = [
        *(*imp([0.8] * 5, "FT", 1), *imp([0.9] * 5, "FT", 2)),
        *(*imp([0.7] * 5, "LLR", 1), *imp([0.95] * 5, "LLR", 2)),
    ]
    best = {key for key, cell in means_table(pd.DataFrame(worse_but_cheaper)).cells.items() if cell.best}
    assert best == {(("imp", "FT"), (0.9, 21)), (("imp", "LLR"), (0.9, 22))}


def test_datasets_do_not_compete() -> None:
    frame = pd.DataFrame(
        [*FT, *LLR, *imp([0.3] * 5, "FT", dataset="cifar10"), *imp([0.2] * 5, "LLR", dataset="cifar10")]
    )
    table = means_table(frame)
    assert table.row_names == ("dataset", "method", "retrain_schedule")
    assert [row for row, mark in marks(table).items() if mark == "best"] == [
        ("digits", "imp", "LLR"),
        ("cifar10", "imp", "FT"),
    ]
    assert table.title == "resnet8: test accuracy in percent, mean ± standard deviation (seeds)"


def test_a_trial_counts_once_and_only_with_the_metric() -> None:
    frame = pd.DataFrame([*FT, *FT, *imp([0.5, None], "LLR")])
    assert {row[-1]: cell.n for (row, _), cell in means_table(frame).cells.items()} == {"FT": 5, "LLR": 1}


# --- rows and columns


def test_a_setting_that_varies_within_a_cell_becomes_part_of_the_row() -> None:
    frame = pd.DataFrame([*FT, *imp([0.5, 0.6], "FT", phases=2), *trials([0.7], method="gmp", pruning_interval=2)])
    table = means_table(frame)
    assert table.row_names[-3:] == ("method", "retrain_schedule", "phases")
    assert not any("caution" in note for note in table.notes)


def test_by_leads_and_what_varies_follows() -> None:
    table = means_table(SMALL, by=["phases"])
    assert table.row_names == ("phases", "retrain_schedule")
    assert table.rows == ((1, "FT"), (1, "ALLR"), (1, "LLR"))


def test_by_may_take_what_the_columns_would_show() -> None:
    table = means_table(SMALL, by=["target_sparsity", "total_epochs", "retrain_schedule"])
    assert table.rows == ((None, 20, None), (0.9, 21, "FT"), (0.9, 21, "ALLR"), (0.9, 21, "LLR"))
    assert table.columns == ((),)
    assert "| target sparsity | total epochs | retrain schedule | test accuracy |" in str(render(table, "markdown"))
    assert r"| 90% | 20+1 | FT | 91.0 ± 1.0 (5)\* |" in str(render(table, "markdown"))


def test_trials_of_one_seed_that_no_column_separates_are_pointed_out() -> None:
    hidden = [{**row, "trial": f"other {row['trial']}"} for row in FT]
    assert any(note.startswith("caution") for note in means_table(pd.DataFrame([*FT, *hidden])).notes)
    other_sweep = [{**row, "sweep": "other"} for row in hidden]
    assert means_table(pd.DataFrame([*FT, *other_sweep])).row_names[-1] == "sweep"


def test_budgets_are_in_the_header_when_the_methods_share_them() -> None:
    table = means_table(HEADER)
    assert table.row_names == ("method", "retrain_schedule")
    assert table.columns == ((0.9, 21), (0.9, 22), (0.95, 21))


def test_budgets_are_in_the_rows_when_the_methods_differ_in_them() -> None:
    table = means_table(UNLIKE)
    assert table.columns == ((0.8,), (0.9,))
    assert table.rows == ((20, "bimp", "ALLR"), (20, "gmp", None), (21, "imp", "FT"))


def test_levels_of_one_path_are_one_row_though_each_has_its_own_budget() -> None:
    levels = [row for k in range(1, 5) for row in imp([0.9], "LLR", 5 * k, round(1 - 0.8**k, 10), phase_fraction=0.2)]
    table = means_table(pd.DataFrame(levels))
    assert table.rows == (("imp", "LLR"),)
    assert table.columns == ((0.2, 25), (0.36, 30), (0.488, 35), (0.5904, 40))


def test_only_dense_trials_are_an_ordinary_table() -> None:
    table = means_table(pd.DataFrame(dense([0.5, 0.7])))
    assert (table.rows, table.columns, table.controls) == ((("dense",),), ((20,),), ())


# --- what is refused


@pytest.mark.parametrize(
    ("metric", "by", "message"),
    [
        ("test_acuracy", None, r'unknown metric "test_acuracy": allowed are test_accuracy; did you mean'),
        ("method", None, 'unknown metric "method"'),
        ("test_accuracy", ["metod"], r'unknown column "metod": .* did you mean "method"'),
    ],
)
def test_unknown_names(metric: str, by: list[str] | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        means_table(SMALL, metric, by)


@pytest.mark.parametrize("name", ["n", "mean", "std", "low", "high"])
def test_a_setting_may_be_called_as_what_is_computed(name: str) -> None:
    plain = means_table(SMALL.assign(k=[4 + row % 2 for row in range(len(SMALL))]), by=["method", "k"])
    table = means_table(SMALL.assign(**{name: [4 + row % 2 for row in range(len(SMALL))]}), by=["method", name])
    assert [cell.mean for cell in table.cells.values()] == [cell.mean for cell in plain.cells.values()]
    assert {cell.settings[name] for cell in table.cells.values()} == {4, 5}


def test_nothing_to_compare() -> None:
    with pytest.raises(UserError, match="nothing to compare: none of 0 finished trials has test_accuracy"):
        means_table(SMALL[:0])


def test_unknown_format() -> None:
    with pytest.raises(UserError, match=r'unknown format "latx": .* did you mean "latex"'):
        render(means_table(SMALL), "latx")


# --- what it looks like


def test_terminal() -> None:
    assert shown(means_table(SMALL)) == "\n".join(
        [
            "digits, resnet8: test accuracy in percent, mean ± standard deviation (seeds)",
            "dense, 20 epochs: 97.0 ± 0.7 (5)",
            "",
            "        retrain   sparsity 90%",
            "method  schedule  20+1 epochs",
            "──────────────────────────────────",
            "imp     FT        91.0 ± 1.0 (5)*",
            "        ALLR      93.0 ± 1.6 (5)*",
            "        LLR       94.0 ± 1.0 (5)**",
            "",
            "**: best mean at its sparsity and budget; *: not shown to be worse (moderated paired t, all pairs at 5%)",
            "epochs a+b: pretraining + retraining",
            "digits: one of the 100 images of the test set is 1.00 points",
        ]
    )


def test_terminal_with_missing_cells_single_seeds_and_two_levels() -> None:
    assert shown(means_table(HEADER)).splitlines()[2:8] == [
        "        retrain   sparsity 90%                      sparsity 95%",
        "method  schedule  20+1 epochs      20+2 epochs      20+1 epochs",
        "────────────────────────────────────────────────────────────────────",
        "imp     FT        50.0 ± 0.0 (2)   -                51.0 ± 1.4 (2)",
        "        LLR       76.0 ± 1.4 (2)       81.2 (1/2)†  -",
        "",
    ]


def test_terminal_with_budgets_in_the_rows() -> None:
    assert shown(means_table(UNLIKE)).splitlines()[2:9] == [
        "total           retrain",
        "epochs  method  schedule  sparsity 80%     sparsity 90%",
        "───────────────────────────────────────────────────────────",
        "20      bimp    ALLR      -                71.0 ± 1.4 (2)",
        "        gmp               81.0 ± 1.4 (2)   -",
        "",
        "20+1    imp     FT        51.0 ± 1.4 (2)   61.0 ± 1.4 (2)",
    ]


def quickstart() -> pd.DataFrame:
    paths = product((0.8, 0.9, 0.95), (1, 2), SCHEDULES)
    return pd.DataFrame([row for s, epochs, name in paths for row in imp([0.875, 0.885, 0.89], name, epochs, s)])


def test_six_schedules_at_three_sparsities_and_two_budgets_fit_120_columns() -> None:
    lines = shown(means_table(quickstart())).splitlines()
    assert len(lines) == 14
    assert max(map(len, lines)) <= 120


def test_a_narrow_terminal_gets_a_table_for_each_sparsity() -> None:
    lines = shown(means_table(quickstart()), width=80, terminal=True).splitlines()
    assert [line.split()[1:] for line in lines if "sparsity" in line] == [
        ["sparsity", "80%"],
        ["sparsity", "90%"],
        ["sparsity", "95%"],
    ]
    assert max(map(len, lines)) <= 80


def test_the_best_is_bold_on_a_terminal() -> None:
    sink = io.StringIO()
    Console(file=sink, width=120, force_terminal=True, color_system="standard").print(render(means_table(SMALL)))
    assert "\x1b[1m94.0 ± 1.0 (5)**\x1b[0m" in sink.getvalue()


def test_csv_has_a_line_for_each_cell_in_the_metrics_own_unit() -> None:
    frame = pd.DataFrame([*imp([0.25, 0.75], "FT"), *imp([0.5], "LLR"), *dense([1.0])])
    low, high = stats.t.interval(0.95, 1, 0.5, 0.25)
    assert render(means_table(frame), "csv") == "\n".join(
        [
            "metric,method,retrain_schedule,target_sparsity,total_epochs,mean,std,n,seeds,low,high,best,near,p_adjusted",
            "test_accuracy,dense,,,20,1.0,,1,2,,,False,False,",
            f"test_accuracy,imp,FT,0.9,21,0.5,0.3535533905932738,2,2,{low},{high},False,False,",
            "test_accuracy,imp,LLR,0.9,21,0.5,,1,2,,,False,False,",
        ]
    )


def test_json_has_a_record_for_each_cell() -> None:
    records = json.loads(str(render(means_table(SMALL), "json")))
    assert [record["retrain_schedule"] for record in records] == [None, "FT", "ALLR", "LLR"]
    assert records[3] == {
        "metric": "test_accuracy",
        "method": "imp",
        "retrain_schedule": "LLR",
        "target_sparsity": 0.9,
        "total_epochs": 21,
        "mean": pytest.approx(0.94),
        "std": pytest.approx(0.01),
        "n": 5,
        "seeds": 5,
        "low": pytest.approx(0.94 - 0.012416640, abs=1e-6),  # t = 2.776445 with four degrees of freedom
        "high": pytest.approx(0.94 + 0.012416640, abs=1e-6),
        "best": True,
        "near": False,
        "p_adjusted": None,
    }


def test_markdown() -> None:
    assert render(means_table(SMALL), "markdown") == "\n".join(
        [
            "digits, resnet8: test accuracy in percent, mean ± standard deviation (seeds)",
            "",
            "dense, 20 epochs: 97.0 ± 0.7 (5)",
            "",
            "| method | retrain schedule | sparsity 90%, 20+1 epochs |",
            "| --- | --- | ---: |",
            r"| imp | FT | 91.0 ± 1.0 (5)\* |",
            r"|  | ALLR | 93.0 ± 1.6 (5)\* |",
            "|  | LLR | **94.0 ± 1.0 (5)** |",
            "",
            r"**bold**: best mean at its sparsity and budget; "
            r"\*: not shown to be worse (moderated paired t, all pairs at 5%)",
            "",
            "epochs a+b: pretraining + retraining",
            "",
            "digits: one of the 100 images of the test set is 1.00 points",
        ]
    )


def test_latex() -> None:
    frame = pd.concat([SMALL, HEADER[HEADER.target_sparsity == 0.95]]).replace({"imp": "my_imp"})
    assert render(means_table(frame), "latex") == "\n".join(
        [
            "% digits, resnet8: test accuracy in percent, mean ± standard deviation (seeds); "
            r"needs \usepackage{booktabs}",
            r"\begin{tabular}{llrr}",
            r"\toprule",
            r" &  & \multicolumn{1}{c}{sparsity 90\%} & \multicolumn{1}{c}{sparsity 95\%} \\",
            r"\cmidrule(lr){3-3} \cmidrule(lr){4-4}",
            r"method & retrain schedule & 20+1 epochs & 20+1 epochs \\",
            r"\midrule",
            r"\multicolumn{4}{l}{dense, 20 epochs: 97.0 $\pm$ 0.7 (5)} \\",
            r"\midrule",
            r"my\_imp & FT & 91.0 $\pm$ 1.0 (5)* & 51.0 $\pm$ 1.4 (2/5) \\",
            r" & ALLR & 93.0 $\pm$ 1.6 (5)* & - \\",
            r" & LLR & \textbf{94.0 $\pm$ 1.0 (5)} & - \\",
            r"\bottomrule",
            r"\end{tabular}",
            "% bold: best mean at its sparsity and budget; "
            "*: not shown to be worse (moderated paired t, all pairs at 5%)",
            "% epochs a+b: pretraining + retraining",
            "% digits: one of the 100 images of the test set is 1.00 points",
            "% (n/N): n of the N seeds asked for",
        ]
    )


def test_latex_sets_blocks_of_rivals_apart() -> None:
    lines = str(render(means_table(UNLIKE), "latex")).splitlines()
    assert lines[6:9] == [
        r" & gmp &  & 81.0 $\pm$ 1.4 (2) & - \\",
        r"\addlinespace",
        r"20+1 & imp & FT & 51.0 $\pm$ 1.4 (2) & 61.0 $\pm$ 1.4 (2) \\",
    ]


@pytest.mark.parametrize(
    ("metric", "values", "text"),
    [
        ("test_accuracy", [0.8850, 0.8910, 0.8790], "88.5 ± 0.6 (3)"),
        ("test_accuracy", [0.9664, 0.9676, 0.9652], "96.64 ± 0.12 (3)"),
        ("test_accuracy", [0.75], "75.00 (1)†"),
        ("test_loss", [0.25, 0.5], "0.375 ± 0.177 (2)"),
        ("theoretical_speedup", [6.0, 6.5], "6.25 ± 0.35 (2)"),
        ("train_images_per_second", [1450.0, 1458.0], "1,454 ± 6 (2)"),
        ("train_seconds", [61.25], "61.2 (1)†"),
        ("peak_memory_bytes", [3 * 2**20], "3 (1)†"),
        ("nonzero_parameters", [84895], "84,895 (1)†"),
    ],
)
def test_each_unit_is_written_as_people_write_it(metric: str, values: list[float], text: str) -> None:
    assert f"| {text} |" in str(render(means_table(pd.DataFrame(imp(values, "FT", metric=metric)), metric), "markdown"))


# --- the best settings


def learned(lr: float, validation: float, test: list[float], asked: float, reached: float) -> list[dict[str, Any]]:
    return judged([validation] * 2, test, reached, method="str", lr=lr, target_sparsity=asked)


def gmp(lr: float, interval: int, validation: float, test: list[float], sparsity: float) -> list[dict[str, Any]]:
    settings = {"method": "gmp", "lr": lr, "pruning_interval": interval, "target_sparsity": sparsity}
    return judged([validation] * 2, test, **settings)


TUNED = pd.DataFrame(
    [
        *judged([0.97, 0.97], [0.96, 0.98], method="dense", target_sparsity=None, lr=0.1),
        *gmp(0.1, 2, 0.80, [0.99, 0.99], 0.9),  # best on test data
        *gmp(0.1, 4, 0.90, [0.9001, 0.9199], 0.9),
        *gmp(0.2, 4, 0.85, [0.80, 0.82], 0.9),
        *gmp(0.1, 2, 0.70, [0.60, 0.62], 0.95),
        *gmp(0.2, 2, 0.75, [0.7001, 0.7199], 0.95),
        *learned(0.1, 0.80, [0.91, 0.93], 0.9, 0.906),
        *learned(0.1, 0.70, [0.50, 0.52], 0.95, 0.95),
        *learned(0.2, 0.80, [0.71, 0.73], 0.9, 0.96),
        *learned(0.3, 0.99, [0.99, 0.99], 0.9, 0.85),  # 0.05 from any target
    ]
)


def test_the_best_settings_in_the_terminal() -> None:
    assert shown(best_table(TUNED)) == "\n".join(
        [
            "digits, resnet8: test accuracy in percent, mean ± standard deviation (seeds)",
            "dense, 20 epochs, lr 0.1: 97.0 ± 1.4 (2)",
            "",
            "method  sparsity 90%     sparsity 95%",
            "─────────────────────────────────────────",
            "gmp     91.0 ± 1.4 (2)   71.0 ± 1.4 (2)",
            "str     92.0 ± 1.4 (2)   72.0 ± 1.4 (2)",
            "",
            "2 seeds: too few to rank, which takes 5",
            "digits: one of the 10,000 images of the test set is 0.01 points",
            "str: 1 of 4 settings left out, not within 0.02 of a target",
            "",
            "settings with the best mean validation accuracy",
            "",
            "method  setting           90%    95%",
            "──────────────────────────────────────",
            "gmp     lr                0.1    0.2",
            "        pruning interval  4      2",
            "str     lr                0.1    0.2",
            "        asked sparsity    90%    90%",
            "        reached sparsity  90.6%  96.0%",
        ]
    )


def test_the_best_settings_in_markdown() -> None:
    text = str(render(best_table(TUNED), "markdown"))
    assert text.splitlines()[-9:] == [
        "settings with the best mean validation accuracy",
        "",
        "| method | setting | 90% | 95% |",
        "| --- | --- | ---: | ---: |",
        "| gmp | lr | 0.1 | 0.2 |",
        "|  | pruning interval | 4 | 2 |",
        "| str | lr | 0.1 | 0.2 |",
        "|  | asked sparsity | 90% | 90% |",
        "|  | reached sparsity | 90.6% | 96.0% |",
    ]
    assert "| str | 92.0 ± 1.4 (2) | 72.0 ± 1.4 (2) |" in text


def test_the_best_settings_in_latex() -> None:
    assert str(render(best_table(TUNED), "latex")).splitlines()[-14:] == [
        "% str: 1 of 4 settings left out, not within 0.02 of a target",
        "",
        "% settings with the best mean validation accuracy",
        r"\begin{tabular}{llrr}",
        r"\toprule",
        r"method & setting & 90\% & 95\% \\",
        r"\midrule",
        r"gmp & lr & 0.1 & 0.2 \\",
        r" & pruning interval & 4 & 2 \\",
        r"str & lr & 0.1 & 0.2 \\",
        r" & asked sparsity & 90\% & 90\% \\",
        r" & reached sparsity & 90.6\% & 96.0\% \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_records_of_the_best_carry_their_settings() -> None:
    lines = str(render(best_table(TUNED[TUNED.target_sparsity != 0.95]), "csv")).splitlines()
    assert lines[0] == (
        "metric,method,target_sparsity,total_epochs,lr,pruning_interval,asked_sparsity,reached_sparsity,"
        "mean,std,n,seeds,low,high,best,near,p_adjusted"
    )
    starts = [
        f"test_accuracy,dense,,20,0.1,,,0,0.97,{TUNED.test_accuracy[:2].std()},2,2,",
        f"test_accuracy,gmp,0.9,20,0.1,4,0.9,0.9,0.91,{TUNED.test_accuracy[4:6].std()},2,2,",
        f"test_accuracy,str,0.9,20,0.1,,0.9,0.906,0.92,{TUNED.test_accuracy[12:14].std()},2,2,",
    ]
    assert [line.startswith(start) for line, start in zip(lines[1:], starts, strict=True)] == [True] * 3
    assert [line.split(",")[-3:-1] for line in lines[1:]] == [["False"] * 2] * 3
    records = json.loads(str(render(best_table(TUNED), "json")))
    assert records[-1] == {
        "metric": "test_accuracy",
        "method": "str",
        "target_sparsity": 0.95,
        "total_epochs": 20,
        "lr": 0.2,
        "pruning_interval": None,
        "asked_sparsity": 0.9,
        "reached_sparsity": pytest.approx(0.96),
        "mean": pytest.approx(0.72),
        "std": pytest.approx(0.0141421, rel=1e-4),
        "n": 2,
        "seeds": 2,
        "low": pytest.approx(0.72 - 0.1270620, abs=1e-6),
        "high": pytest.approx(0.72 + 0.1270620, abs=1e-6),
        "best": False,
        "near": False,
        "p_adjusted": None,
    }


def test_another_column_may_choose_and_another_be_reported() -> None:
    lossy = TUNED.assign(train_loss=1 - TUNED.test_accuracy)
    table = best_table(lossy, "validation_accuracy", best_by="train_loss", tolerance=0.05)
    assert {row[0]: cell.mean for (row, column), cell in table.cells.items() if column == (0.9,)} == {
        "gmp": pytest.approx(0.80),
        "str": pytest.approx(0.99),
    }
    assert table.notes == ()
    reached = best_table(TUNED, "reached_sparsity")
    assert reached.cells[("str",), (0.95,)].mean == pytest.approx(0.96)


def test_budgets_compete_unless_they_make_rows() -> None:
    rows = {"method": "imp", "phases": 1}
    short, long = (
        judged([0.7 + epochs / 10] * 6, [0.5 + epochs / 10] * 6, retrain_epochs=epochs, **rows) for epochs in (1, 2)
    )
    frame = pd.DataFrame([*short, *long, *judged([0.6] * 6, [0.649, 0.651] * 3, method="gmp")])
    both = best_table(frame)
    assert marks(both) == {("imp",): "best", ("gmp",): ""}
    note = "budgets differ, 20 to 22 epochs in all; equal ones compete with --by method --by total_epochs"
    assert both.notes == (note,)
    assert both.choices == {("imp",): ("retrain_epochs",), ("gmp",): ()}
    apart = best_table(frame, by=["method", "total_epochs"])
    assert {row: cell.mean for (row, _), cell in apart.cells.items()} == {
        ("imp", 21): pytest.approx(0.6),
        ("imp", 22): pytest.approx(0.7),
        ("gmp", 20): pytest.approx(0.65),
    }
    assert set(marks(apart).values()) == {""}
    assert apart.notes == ("epochs a+b: pretraining + retraining",)


def test_ten_methods_at_five_sparsities_fit_120_columns() -> None:
    methods = [f"method{i}" for i in range(10)]
    grid = product(methods, (0.7, 0.8, 0.9, 0.95, 0.98), (0.05, 0.1), (1e-4, 5e-4))
    rows = [
        judged([0.8 - lr] * 3, [0.875, 0.885, 0.89], method=m, target_sparsity=s, lr=lr, weight_decay=decay)
        for m, s, lr, decay in grid
    ]
    lines = shown(best_table(pd.DataFrame([row for same in rows for row in same]))).splitlines()
    assert max(map(len, lines)) <= 120
    assert len(lines) <= 41


def test_only_dense_networks_have_a_best_too() -> None:
    table = best_table(TUNED[TUNED.method == "dense"])
    assert (table.rows, table.columns) == ((("dense",),), ((),))


def test_the_sparsity_cannot_be_a_row_of_the_best() -> None:
    with pytest.raises(UserError, match="target_sparsity makes the columns"):
        best_table(TUNED, by=["target_sparsity"])


def test_a_network_that_is_pruned_in_part_is_noted() -> None:
    """Of a vision transformer 68 % of the parameters are prunable, say: 90 % is of these."""
    rows = [*imp([0.9, 0.91], "FT", model="vit", prunable_share=0.677), *imp([0.8], "FT", prunable_share=0.99)]
    notes = means_table(pd.DataFrame(rows)).notes
    assert [note for note in notes if "prunable" in note] == [
        "vit: 68% of the parameters are prunable, and sparsities are of these; `overall_sparsity` is of all"
    ]
