"""`budget: 5x`: the whole path of a trial as a multiple of the dense training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from prunesweep.orchestrator.plan import forest
from prunesweep.orchestrator.results.parquet import load_results
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.orchestrator.sweepfile.read import sweep_of
from prunesweep.workers.decoding import decode_trial
from prunesweep.workers.encoding import encode
from prunesweep.workers.errors import UserError
from prunesweep.workers.methods import create
from prunesweep.workers.spec import TrialSpec, path
from prunesweep.workers.store import Store
from tests.orchestrator.finished import finish

TRAIN = {"epochs": 20, "schedule": "multistep", "milestones": [10, 15], "gamma": 0.1, "warmup_epochs": 2}
ACDC = {"method": "acdc", "sparsity": 0.9, "warmup": 3, "phase": 2, "final_dense": 3, "final_compressed": 4}


def sweep(**block: object) -> Sweep:
    train = {**TRAIN, **block.pop("train", {})}  # type: ignore[dict-item]
    return sweep_of({"name": "b", "dataset": "digits", "model": "resnet8", "train": train, "trials": [block]})


def lengths(trial: TrialSpec) -> list[int]:
    return [stage.epochs for stage in path(create(trial.method).stage(trial))]


def test_a_training_is_so_many_times_as_long_and_drops_its_learning_rate_so_much_later() -> None:
    once, longer = (trial.train for trial in sweep(method="rigl", sparsity=0.9, budget=["1x", "5x"]).trials)
    assert (once.epochs, once.milestones, once.warmup_epochs) == (20, (10, 15), 2)
    assert (longer.epochs, longer.milestones, longer.warmup_epochs) == (100, (50, 75), 10)
    assert replace(longer, epochs=20, milestones=(10, 15), warmup_epochs=2) == once, "nothing else is changed"


def test_steps_and_exponential_decay_end_at_the_learning_rate_of_before() -> None:
    step = {"schedule": "step", "milestones": None, "step_epochs": 6}
    (trial,) = sweep(method="dense", budget="1.5x", train=step).trials
    assert (trial.train.epochs, trial.train.step_epochs) == (30, 9)
    (trial,) = sweep(method="dense", budget="2x", train={"schedule": "exponential", "milestones": None}).trials
    assert trial.train.gamma == pytest.approx(0.1**0.5)
    assert trial.train.gamma**40 == pytest.approx(0.1**20)


def test_lengths_of_the_method_grow_with_it() -> None:
    (acdc,) = sweep(**ACDC, budget="3x").trials
    assert {name: acdc.method.settings[name] for name in ("warmup", "phase", "final_dense", "final_compressed")} == {
        **{"warmup": 9, "phase": 6},
        **{"final_dense": 9, "final_compressed": 12},
    }
    (bimp,) = sweep(method="bimp", sparsity=0.9, pretrain_epochs=14, budget="2x").trials
    assert lengths(bimp) == [28, 12]


def test_what_prunes_a_trained_network_retrains_for_the_rest() -> None:
    """The dense training is 1x, and the one that other trials share."""
    ones = sweep(method="imp", sparsity=0.9, budget=["1.5x", "2x"], phases=2).trials
    assert [lengths(trial) for trial in ones] == [[20, 5, 5], [20, 10, 10]]
    assert ones[0].key == sweep(method="imp", sparsity=0.9, retrain_epochs=10, phases=2).trials[0].key


def test_once_the_dense_training_is_what_is_meant_without_a_budget() -> None:
    (once,), (plain,) = sweep(**ACDC, budget="1x").trials, sweep(**ACDC).trials
    assert once.key == plain.key


def test_a_longer_training_shares_its_stage_with_one_that_asks_for_its_length() -> None:
    longer = sweep(method="dense", budget="2x")
    plain = sweep(method="dense", train={"epochs": 40, "milestones": [20, 30], "warmup_epochs": 4})
    assert forest(longer)[0].keys() == forest(plain)[0].keys()
    assert longer.trials[0].key != plain.trials[0].key, "its costs are multiples of another training's"


def test_a_record_holds_the_length_of_the_dense_training() -> None:
    (trial,) = sweep(method="dense", budget="2x").trials
    assert decode_trial(json.loads(json.dumps(encode(trial)))) == trial
    assert trial.dense_epochs == 20
    for wrong in (0, "20", True, 1.5):
        with pytest.raises(TypeError, match="its dense training has"):
            decode_trial({**encode(trial), "dense_epochs": wrong})


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"method": "imp", "budget": "1x"}, "1x leaves no epoch to retrain: the dense training of 20"),
        ({"method": "imp", "budget": "1.01x"}, "1.01x makes retrain_epochs 0.2 epochs, which is no whole number"),
        ({"method": "imp", "budget": "2x", "retrain_epochs": 2}, "and so does retrain_epochs; leave one out"),
        ({"method": "imp", "budget": "2x", "phase_epochs": 2}, "and so does phase_epochs; leave one out"),
        ({"method": "imp", "budget": "2x", "rewind_epoch": 0}, "and so does rewind_epoch; leave one out"),
        ({"method": "imp", "budget": "2x", "retrain_budget": "10%"}, "give either budget or retrain_budget, not both"),
        ({"method": "rigl", "budget": "1.3x"}, "1.3x makes train.warmup_epochs 2.6 epochs, which is no whole number"),
        ({"method": "rigl", "budget": "0x"}, "0x trains nothing; give a multiple above 0"),
        ({"method": "rigl", "budget": 2}, "2 is not allowed: a multiple of the dense training, such as 5x"),
        ({"method": "rigl", "budget": "200%"}, "is not allowed: a multiple of the dense training, such as 5x"),
    ],
)
def test_a_budget_that_makes_no_training_is_refused(block: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        sweep(sparsity=0.9, **block)
    assert "budget" in str(refused.value)


def test_it_is_an_axis_that_cells_can_be_excluded_by() -> None:
    left = sweep(method="rigl", sparsity=[0.8, 0.9], budget=["1x", "2x"], exclude=[{"sparsity": 0.8, "budget": "2x"}])
    assert [(trial.sparsity, trial.train.epochs) for trial in left.trials] == [(0.8, 20), (0.9, 20), (0.9, 40)]


TEXT = """\
name: budgets
dataset: digits
model: resnet8
train: {epochs: 20, warmup_epochs: 0}
trials:
  - {method: dense, budget: [1x, 2x]}
  - {method: static, sparsity: 0.9, budget: [1x, 5x]}
  - {method: imp, sparsity: 0.9, budget: 1.5x}
"""


def test_costs_are_multiples_of_the_dense_training_and_not_of_a_longer_one(tmp_path: Path) -> None:
    """A network at 90 % costs a tenth of a dense one here; imp retrains for half as long as it was trained."""
    finish(TEXT, Store(tmp_path / "results"), tmp_path / "budgets.yaml")
    rows = load_results(tmp_path / "results/budgets")
    told = rows[["method", "budget", "total_epochs", "train_flops_ratio"]].round(6).to_numpy().tolist()
    assert told == [
        *[["dense", 1.0, 20, 1.0], ["dense", 2.0, 40, 2.0]],
        *[["static", 1.0, 20, 0.1], ["static", 5.0, 100, 0.5]],
        ["imp", 1.5, 30, 1.05],
    ]
