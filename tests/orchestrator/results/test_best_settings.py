"""The best setting at each sparsity, worked out by hand."""

from __future__ import annotations

from math import nan
from typing import Any

import pandas as pd
import pytest

from prunesweep import select_best
from prunesweep.orchestrator.results.best_settings import choose
from prunesweep.workers.errors import UserError
from tests.orchestrator.frames import judged


def frame(*settings: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame([row for rows in settings for row in rows])


def gmp(lr: float, validation: list[float | None], sparsity: float = 0.9, **more: Any) -> list[dict[str, Any]]:
    return judged(validation, [0.5] * len(validation), method="gmp", lr=lr, target_sparsity=sparsity, **more)


def learned(lr: float, validation: float, asked: float, reached: float) -> list[dict[str, Any]]:
    """A method that learns its sparsity, two seeds."""
    rows = {"method": "str", "lr": lr, "target_sparsity": asked}
    return judged([validation] * 2, [0.5] * 2, [reached - 0.01, reached + 0.01], **rows)


def picked(chosen: pd.DataFrame) -> dict[Any, float]:
    """The learning rate at each place."""
    found = chosen.drop_duplicates(["method", "target_sparsity"])
    return {(row.method, row.target_sparsity): row.lr for row in found.itertuples()}


def notes(trials: pd.DataFrame, tolerance: float = 0.02, by: str = "validation_accuracy") -> tuple[str, ...]:
    return choose(trials, by, tolerance, ["method"]).notes


# --- who wins


def test_the_mean_over_seeds_decides_and_not_the_luckiest_seed() -> None:
    steady, lucky = gmp(0.1, [0.90, 0.90, 0.90]), gmp(0.2, [0.99, 0.85, 0.80])  # means 0.90 and 0.88
    chosen = select_best(frame(lucky, steady))
    assert chosen.lr.tolist() == [0.1] * 3
    assert chosen.seed.tolist() == [0, 1, 2]


def test_of_a_loss_the_lowest_wins() -> None:
    losses = frame(gmp(0.1, [0.9]), gmp(0.2, [0.8])).assign(validation_loss=[0.5, 0.25])
    assert picked(select_best(losses, "validation_loss")) == {("gmp", 0.9): 0.2}
    assert picked(select_best(losses)) == {("gmp", 0.9): 0.1}


def test_every_method_sparsity_dataset_and_model_has_its_own() -> None:
    other = {"model": "lenet300"}
    trials = frame(
        *(gmp(0.1, [0.8], 0.9), gmp(0.2, [0.9], 0.9), gmp(0.1, [0.7], 0.95), gmp(0.2, [0.6], 0.95)),
        *(gmp(0.1, [0.5], 0.9, **other), gmp(0.2, [0.4], 0.9, **other)),
    )
    chosen = select_best(trials)
    assert list(zip(chosen.model, chosen.target_sparsity, chosen.lr, strict=True)) == [
        *[("resnet8", 0.9, 0.2), ("resnet8", 0.95, 0.1)],
        ("lenet300", 0.9, 0.1),
    ]


def test_budgets_schedules_and_hyperparameters_are_part_of_a_setting() -> None:
    rows = {"method": "imp", "phases": 1}
    trials = frame(
        judged([0.80, 0.82], [0.5] * 2, retrain_epochs=1, retrain_schedule="FT", **rows),
        judged([0.84, 0.90], [0.5] * 2, retrain_epochs=2, retrain_schedule="FT", **rows),  # 0.87
        judged([0.86, 0.86], [0.5] * 2, retrain_epochs=2, retrain_schedule="LLR", **rows),  # 0.86
    )
    chosen = select_best(trials)
    assert chosen[["retrain_epochs", "retrain_schedule"]].drop_duplicates().to_numpy().tolist() == [[2, "FT"]]
    assert choose(trials, "validation_accuracy", 0.02, ["method"]).varied == {
        ("imp",): ("retrain_schedule", "retrain_epochs")
    }


def test_the_first_of_equals_wins() -> None:
    assert picked(select_best(frame(gmp(0.2, [0.9]), gmp(0.1, [0.9])))) == {("gmp", 0.9): 0.2}


def test_trials_without_a_target_compete_among_themselves() -> None:
    def dense(lr: float, validation: float) -> list[dict[str, Any]]:
        return judged([validation], [0.5], method="dense", target_sparsity=None, lr=lr)

    chosen = select_best(frame(dense(0.1, 0.91), dense(0.2, 0.93), gmp(0.1, [0.8])))
    assert chosen.lr.tolist() == [0.2, 0.1]
    assert chosen.target_sparsity.isna().tolist() == [True, False]
    assert select_best(frame(dense(0.1, 0.91), dense(0.2, 0.93))).lr.tolist() == [0.2]


def test_sweeps_are_apart_where_no_column_tells_their_trials_apart() -> None:
    good, bad = gmp(0.1, [0.9, 0.9]), gmp(0.1, [0.1, 0.1], sweep="other")
    assert select_best(frame(bad, good)).sweep.tolist() == ["s", "s"]


# --- which sparsity a setting competes at


GRID = [gmp(0.1, [0.8, 0.8], sparsity) for sparsity in (0.7, 0.8, 0.9, 0.95)]


def test_a_setting_competes_at_the_target_that_it_reached_on_average() -> None:
    trials = frame(*GRID, learned(0.1, 0.7, 0.9, 0.945), learned(0.2, 0.8, 0.95, 0.955), learned(0.3, 0.9, 0.9, 0.96))
    chosen = select_best(trials)
    chosen = chosen[chosen.method == "str"]
    assert chosen.lr.tolist() == [0.3, 0.3]
    assert chosen.target_sparsity.tolist() == [0.95, 0.95]
    assert chosen.asked_sparsity.tolist() == [0.9, 0.9]
    assert chosen.reached_sparsity.tolist() == pytest.approx([0.95, 0.97])
    assert notes(trials) == ("str: none at 90%, the nearest reached 94.5%",)


def test_what_misses_every_target_does_not_compete_and_is_named() -> None:
    trials = frame(*GRID, learned(0.1, 0.9, 0.7, 0.753), learned(0.1, 0.6, 0.9, 0.9))
    assert picked(select_best(trials))[("str", 0.9)] == 0.1
    assert ("str", 0.7) not in picked(select_best(trials))
    assert notes(trials) == (
        "str: 1 of 2 settings left out, not within 0.02 of a target; none at 70%, the nearest reached 75.3%",
    )


@pytest.mark.parametrize(("tolerance", "place"), [(0.0199, None), (0.02, 0.9), (0.03, 0.9), (0.1, 0.9)])
def test_the_tolerance_is_inclusive_and_the_nearest_target_is_taken(tolerance: float, place: float | None) -> None:
    chosen = select_best(frame(*GRID, learned(0.1, 0.5, 0.7, 0.88)), tolerance=tolerance)
    assert chosen.target_sparsity[chosen.method == "str"].unique().tolist() == ([] if place is None else [place])


def test_targets_are_those_of_the_same_dataset_and_model() -> None:
    elsewhere = gmp(0.1, [0.8, 0.8], 0.75, model="lenet300")
    chosen = select_best(frame(*GRID, elsewhere, learned(0.1, 0.9, 0.7, 0.755)))
    assert "str" not in chosen.method.tolist()


def test_a_setting_that_came_from_another_target_ties_with_the_same_training() -> None:
    there, same = learned(0.1, 0.9, 0.9, 0.95), learned(0.1, 0.9, 0.95, 0.95)
    assert select_best(frame(*GRID, there, same)).asked_sparsity.tolist()[-2:] == [0.9, 0.9]
    assert select_best(frame(*GRID, same, there)).asked_sparsity.tolist()[-2:] == [0.95, 0.95]


# --- seeds


def test_a_setting_with_fewer_seeds_does_not_win_by_luck() -> None:
    trials = frame(gmp(0.1, [0.99]), gmp(0.2, [0.90, 0.91, 0.92]), gmp(0.3, [0.99, 0.99, None]))
    assert picked(select_best(trials)) == {("gmp", 0.9): 0.2}
    assert notes(trials) == ("gmp: 2 settings left out, with fewer seeds than others at the same sparsity",)


def test_seeds_are_counted_at_each_sparsity() -> None:
    trials = frame(gmp(0.1, [0.8, 0.8]), gmp(0.1, [0.7], 0.95), gmp(0.2, [0.9], 0.95))
    assert picked(select_best(trials)) == {("gmp", 0.9): 0.1, ("gmp", 0.95): 0.2}
    assert notes(trials) == ()


# --- what is said and refused


@pytest.mark.parametrize("by", ["test_accuracy", "test_loss", "dense_test_accuracy"])
def test_choosing_on_test_data_is_pointed_out(by: str) -> None:
    trials = frame(gmp(0.1, [0.9]), gmp(0.2, [0.8])).assign(test_loss=1.0, dense_test_accuracy=0.5)
    assert notes(trials, by=by) == (f"caution: settings were chosen by {by}, on test data; the numbers flatter them",)


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("validation_acuracy", r'unknown column "validation_acuracy": .* did you mean "validation_accuracy"\?'),
        ("reached_sparsity", "cannot choose by reached_sparsity: neither more nor less of it is better; choose by val"),
        ("lr", "cannot choose by lr: neither"),
        ("method", "cannot choose by method: neither"),
    ],
)
def test_what_cannot_choose(by: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        select_best(frame(gmp(0.1, [0.9])), by)


def test_nothing_to_choose_among() -> None:
    with pytest.raises(UserError, match="none of 2 finished trials has validation_accuracy"):
        select_best(frame(gmp(0.1, [nan, nan])))
    with pytest.raises(UserError, match=r"gmp: 1 of 1 setting left out, not within 0\.02 .* a larger tolerance allows"):
        select_best(frame(gmp(0.1, [0.9], 0.7, reached=0.75)))


def test_the_frame_that_is_given_stays_as_it_is() -> None:
    trials = frame(*GRID, learned(0.1, 0.9, 0.9, 0.95)).iloc[::-1]
    before = trials.copy()
    select_best(trials)
    pd.testing.assert_frame_equal(trials, before)
