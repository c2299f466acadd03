"""Learning rates against numbers worked out by hand. `E` is 10 iterations an epoch throughout."""

from __future__ import annotations

from math import cos, pi

import pytest

from prunesweep.workers.errors import SpecError
from prunesweep.workers.schedules import Pruned, allr_peak, check_dense, cubic_sparsity, dense, retraining
from prunesweep.workers.spec import RetrainSpec, TrainSpec

E = 10
LINEAR = TrainSpec(epochs=10, lr=1.0, schedule="linear")
CYCLE = TrainSpec(epochs=10, lr=1.0, schedule="one_cycle", rise=0.3)
LOWEST = (1 + cos(pi * 69 / 70)) / 2
HALF = Pruned(norm_drop=0.4, fraction=0.64)
"""0.4 / sqrt(0.64) = 0.5."""


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        (LINEAR, {0: 1.0, 25: 0.75, 99: 0.01}),
        (TrainSpec(epochs=10, lr=2.0, end_lr=1.0), {0: 2.0, 50: 1.5}),
        (TrainSpec(epochs=10, lr=1.0, warmup_epochs=2), {0: 0.0, 5: 0.25, 19: 0.95, 20: 1.0, 60: 0.5, 99: 1 / 80}),
        (TrainSpec(epochs=10, lr=1.0, schedule="constant", warmup_epochs=1), {0: 0.0, 9: 0.9, 10: 1.0, 99: 1.0}),
        (
            TrainSpec(epochs=10, lr=1.0, schedule="step", step_epochs=3, gamma=0.1),
            {29: 1.0, 30: 0.1, 60: 0.01, 99: 0.001},
        ),
        (
            TrainSpec(epochs=10, lr=1.0, schedule="multistep", milestones=(5, 8), gamma=0.5, warmup_epochs=1),
            {0: 0.0, 10: 1.0, 49: 1.0, 50: 0.5, 80: 0.25},
        ),
        (
            TrainSpec(epochs=10, lr=1.0, schedule="exponential", gamma=0.5, warmup_epochs=1),
            {10: 1.0, 20: 0.5, 40: 0.125},
        ),
        (TrainSpec(epochs=10, lr=2.0, schedule="cosine"), {0: 2.0, 50: 1.0, 75: 1.0 + cos(0.75 * pi)}),
        (TrainSpec(epochs=10, lr=2.0, schedule="cosine", end_lr=1.0, warmup_epochs=2), {20: 2.0, 60: 1.5}),
        (
            TrainSpec(epochs=10, lr=2.0, schedule="polynomial", power=2.0, end_lr=1.0, warmup_epochs=2),
            {0: 0.0, 10: 1.0, 20: 2.0, 60: 1.25, 99: 1.0 + 1 / 6400},
        ),
        (
            TrainSpec(epochs=10, lr=1.0, schedule="one_cycle", rise=0.3, end_lr=0.1),
            {0: 0.04, 15: 0.52, 30: 1.0, 65: 0.55, 99: 0.1 + 0.45 * (1 + cos(pi * 69 / 70))},
        ),
        (
            TrainSpec(epochs=10, lr=2.0, schedule="tests.own_training:halving", warmup_epochs=2),
            {10: 1.0, 20: 2.0, 59: 2.0, 60: 1.0, 99: 1.0},
        ),
        (TrainSpec(epochs=10, lr=1.0, schedule="inverse_sqrt", warmup_epochs=2), {10: 0.5, 20: 1.0, 80: 0.5}),
    ],
)
def test_dense(train: TrainSpec, expected: dict[int, float]):
    check_dense(train)
    lr = dense(train, E)
    assert {k: lr(k) for k in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("spec", "train", "expected"),
    [
        # The rise of a cycle, 30 iterations, is its warm-up; it falls to (1 + cos(69 pi / 70)) / 2.
        (RetrainSpec(2, "FT"), CYCLE, {0: LOWEST, 19: LOWEST}),
        (RetrainSpec(2, "LRW"), CYCLE, {0: (1 + cos(pi * 50 / 70)) / 2, 19: LOWEST}),
        (RetrainSpec(2, "SLR"), CYCLE, {1: 0.5, 2: 1.0, 7: 1.0, 11: (1 + cos(pi * 20 / 70)) / 2}),
        (RetrainSpec(2, "CLR"), CYCLE, {1: 0.5, 2: 1.0, 11: (1 + LOWEST) / 2}),
        (RetrainSpec(2, "LLR"), CYCLE, {1: 0.5, 2: 1.0, 11: 0.5}),
        (RetrainSpec(2, "ALLR"), CYCLE, {2: 0.5, 11: 0.25}),
        # N = 20, W = 2, R = 18 wherever there is a warm-up.
        (RetrainSpec(2, "FT"), LINEAR, {0: 0.01, 19: 0.01}),
        (RetrainSpec(2, "LRW"), LINEAR, {0: 0.2, 10: 0.1, 19: 0.01}),
        (RetrainSpec(2, "SLR"), LINEAR, {0: 0.0, 1: 0.5, 2: 1.0, 11: 0.5, 19: 1 - 94 / 100}),
        (
            RetrainSpec(2, "CLR"),
            LINEAR,
            {0: 0.0, 1: 0.5, 2: 1.0, 11: (1.0 + 0.01) / 2, 19: 0.01 + 0.99 * (1 + cos(pi * 17 / 18)) / 2},
        ),
        (RetrainSpec(2, "LLR"), LINEAR, {0: 0.0, 1: 0.5, 2: 1.0, 11: 0.5, 19: 1 / 18}),
        (RetrainSpec(2, "ALLR"), LINEAR, {0: 0.0, 1: 0.25, 2: 0.5, 11: 0.25, 19: 0.5 / 18}),
        # The dense warm-up is replaced by the peak: iterations 0..19 of 100 are squeezed into j = 0..3.
        (RetrainSpec(2, "SLR"), TrainSpec(epochs=10, lr=1.0, warmup_epochs=2), {2: 1.0, 5: 1.0, 6: 1 - 2 / 80}),
        # FT and LRW of a stepped schedule; eta_min of CLR is the last step's.
        (RetrainSpec(2, "FT"), TrainSpec(epochs=10, lr=1.0, schedule="step", step_epochs=4, gamma=0.1), {0: 0.01}),
        (
            RetrainSpec(4, "LRW"),
            TrainSpec(epochs=10, lr=1.0, schedule="step", step_epochs=4, gamma=0.1),
            {0: 0.1, 19: 0.1, 20: 0.01},
        ),
        (
            RetrainSpec(2, "CLR"),
            TrainSpec(epochs=10, lr=1.0, schedule="step", step_epochs=4, gamma=0.1),
            {11: (1 + 0.01) / 2},
        ),
        (RetrainSpec(2, "constant", 0.3), LINEAR, {0: 0.0, 1: 0.15, 2: 0.3, 19: 0.3}),
        (RetrainSpec(2, "linear", 0.4, 0.0), LINEAR, {0: 0.4, 10: 0.2, 19: 0.02}),
        (RetrainSpec(2, "cosine", 0.4, 0.5), LINEAR, {0: 0.0, 5: 0.2, 10: 0.4, 15: 0.2}),
        (RetrainSpec(2, "stepped", 1.0, 0.0), LINEAR, {9: 1.0, 10: 0.1, 14: 0.1, 15: 0.01, 19: 0.01}),
    ],
)
def test_retraining(spec: RetrainSpec, train: TrainSpec, expected: dict[int, float]):
    lr = retraining(spec, train, E, HALF)
    assert {k: lr(k) for k in expected} == pytest.approx(expected, rel=1e-12)


def test_allr_takes_the_larger_of_norm_drop_and_budget_and_at_most_the_peak():
    assert allr_peak(0.1, Pruned(0.4, 0.64), 0.2) == pytest.approx(0.05)
    assert allr_peak(0.1, Pruned(0.04, 0.64), 0.2) == pytest.approx(0.02)
    assert allr_peak(0.1, Pruned(0.4, 0.64), 3.0) == 0.1
    assert allr_peak(0.1, Pruned(0.0, 0.0), 0.2) == pytest.approx(0.02), "nothing pruned: the budget alone decides"


def test_lrw_may_rewind_the_whole_schedule():
    lr = retraining(RetrainSpec(10, "LRW"), LINEAR, E, HALF)
    assert [lr(0), lr(99)] == pytest.approx([1.0, 0.01])


def test_cubic_sparsity():
    assert [cubic_sparsity(0.8, t, 4) for t in range(5)] == pytest.approx([0.0, 0.4625, 0.7, 0.7875, 0.8])


@pytest.mark.parametrize(
    ("train", "field"),
    [
        (TrainSpec(schedule="lineer"), "train.schedule"),
        (TrainSpec(schedule="step", gamma=0.1), "train.step_epochs"),
        (TrainSpec(schedule="multistep", milestones=(1,)), "train.gamma"),
        (TrainSpec(schedule="linear", gamma=0.1), "train.gamma"),
        (TrainSpec(schedule="constant", end_lr=0.1), "train.end_lr"),
        (TrainSpec(epochs=3, warmup_epochs=3), "train.warmup_epochs"),
        (TrainSpec(epochs=10, schedule="multistep", milestones=(200, 300), gamma=0.1), "train.milestones"),
        (TrainSpec(epochs=10, schedule="multistep", milestones=(8, 4), gamma=0.1), "train.milestones"),
        (TrainSpec(epochs=10, schedule="multistep", milestones=(4, 4), gamma=0.1), "train.milestones"),
        (TrainSpec(epochs=10, schedule="step", step_epochs=10, gamma=0.1), "train.step_epochs"),
        (TrainSpec(schedule="exponential", gamma=3.0), "train.gamma"),
        (TrainSpec(lr=0.1, end_lr=0.2), "train.end_lr"),
    ],
)
def test_a_schedule_has_exactly_its_settings_and_falls(train: TrainSpec, field: str):
    with pytest.raises(SpecError) as caught:
        check_dense(train)
    assert caught.value.field == field
