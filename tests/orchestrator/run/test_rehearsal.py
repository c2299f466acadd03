"""`run --smoke`: which cells are rehearsed, what the whole will take, and what a user sees of it on a real Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prunesweep.orchestrator.lookup import load_sweep
from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.run.rehearsal import cells, forecast, open_searches
from prunesweep.workers.spec import TrainStage
from prunesweep.workers.store import Store
from tests.orchestrator.conftest import Cli

SWEEP = {
    "name": "x",
    "dataset": "digits",
    "model": ["lenet300", "resnet8"],
    "seeds": 3,
    "train": {"epochs": 4},
    "resources": {"gpus": 0.5},
    "trials": [
        {"method": "dense"},
        {"method": "imp", "sparsity": [0.8, 0.9], "retrain_epochs": [1, 2], "retrain_schedule": ["FT", "LLR"]},
        {"method": "imp", "sparsity": 0.95, "retrain_epochs": 3, "phases": 3, "retrain_schedule": "FT"},
        {"method": "gmp", "sparsity": 0.9, "train": {"lr": [0.05, 0.1], "precision": ["float32", "bfloat16"]}},
    ],
}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan(load_sweep(SWEEP), Store(tmp_path / "none"))


def test_trials_that_differ_in_numbers_alone_are_one_cell(plan: Plan):
    """Of each model dense, two schedules of IMP, and two precisions of GMP."""
    chosen = cells(plan, plan.sweep.trials)
    named = [(c.trial.method.name, c.settings.get("retrain_schedule"), c.settings["precision"]) for c in chosen]
    assert sorted(set(named), key=str) == [
        ("dense", None, "float32"),
        ("gmp", None, "bfloat16"),
        ("gmp", None, "float32"),
        ("imp", "FT", "float32"),
        ("imp", "LLR", "float32"),
    ]
    assert len(chosen) == 10
    assert sum(cell.trials for cell in chosen) == len(plan.sweep.trials) == 3 * 2 * (1 + 8 + 1 + 4)
    imp = next(cell.trial for cell in chosen if cell.settings.get("retrain_schedule") == "FT")
    assert (imp.sparsity, imp.method.settings["phases"]) == (0.9, 1), "the shortest path, and then the sparsest"


def test_the_forecast_is_of_all_stages_at_the_rates_of_those_like_them(plan: Plan, tmp_path: Path):
    """Dense ones take 100 s an epoch, retraining 10 s; setting up 2 s, the end 1 s. GMP and ResNet do not work."""
    own = make_plan(load_sweep({**SWEEP, "model": "lenet300", "seeds": 1}), Store(tmp_path / "none"))
    results = {
        key: {
            "bytes": 1000,
            "rehearsal": {"setup": 2.0 if dense else 5.0, "epoch": 100.0 if dense else 10.0, "end": 1.0},
        }
        for key, stage in own.stages.items()
        for dense in [isinstance(stage, TrainStage)]
        if stage.root.method.name == "dense"
    }
    whole = forecast(plan, own, results, slots=2)
    # Of each seed one dense stage; of each sparsity and schedule one epoch and two; and three phases of one.
    dense, one, two = 2 + 400 + 1, 2 + 10 + 1, 2 + 20 + 1
    assert whole.seconds == pytest.approx(3 * (dense + 4 * one + 4 * two + 3 * one))
    assert whole.chain == pytest.approx(dense + 3 * one)
    assert whole.wall_seconds == pytest.approx(whole.seconds / 2)
    assert whole.gpu_seconds == pytest.approx(whole.seconds / 2)
    assert (whole.stages, whole.bytes) == (3 * 12, 3 * 12 * 1000)
    assert whole.unknown == len(plan.stages) - whole.stages


SEARCHED = {
    **{key: SWEEP[key] for key in ("name", "dataset", "resources")},
    "model": "lenet300",
    "seeds": 3,
    "train": {"epochs": 4},
    "trials": [
        {"method": "dense"},
        {
            "method": "dnw",
            "sparsity": [0.8, 0.9],
            "search": {
                "space": {"allocation": ["global", "uniform"], "train.lr": {"log": [0.01, 0.5]}},
                "budget": "6x",
                "algorithm": "halving",
                "rungs": {"from": "25%"},
            },
        },
    ],
}


def test_every_cell_that_a_search_may_try_is_rehearsed(tmp_path: Path):
    """Both allocations; halving begins with 12 candidates at each sparsity: 12 epochs to the first rung, 4 times 3."""
    plan = make_plan(load_sweep(SEARCHED), Store(tmp_path / "none"))
    chosen = cells(plan, plan.sweep.trials, open_searches(plan))
    named = [(cell.trial.method.name, cell.settings.get("allocation")) for cell in chosen]
    assert sorted(named, key=str) == [("dense", None), ("dnw", "global"), ("dnw", "uniform")]
    begun = sum(len(decision.candidates) for decision in plan.decisions)
    assert sum(cell.trials for cell in chosen if cell.trial.method.name == "dnw") == begun == 24


def test_the_forecast_holds_what_searches_may_still_ask_for(tmp_path: Path):
    """An epoch takes 10 s, setting up and the end of a stage 3 s."""
    plan = make_plan(load_sweep(SEARCHED), Store(tmp_path / "none"))
    rehearsed = [cell.trial for cell in cells(plan, plan.sweep.trials, open_searches(plan))]
    own = make_plan(replace(plan.sweep, trials=tuple(rehearsed), searches=()), Store(tmp_path / "none"))
    result = {"bytes": 1000, "rehearsal": {"setup": 2.0, "epoch": 10.0, "end": 1.0}}
    whole = forecast(plan, own, dict.fromkeys(own.stages, result), slots=2)
    # Two searches: of 24 epochs 12 are asked for by their first rung, and two seeds more of each winner have 4 each.
    dense, first_rung, training = 3 * 43, 24 * (3 + 10), 43
    assert whole.undecided == 2 * (12 + 2 * 4)
    assert whole.seconds == pytest.approx(dense + first_rung + 2 * (12 / 4 + 2) * training)
    assert whole.gpu_seconds == pytest.approx(whole.seconds / 2)
    assert (whole.stages, whole.unknown) == (3 + 24, 0)


OWN = """
import torch


class Net(torch.nn.Module):
    def __init__(self, *, classes):
        super().__init__()
        self.hidden, self.last = torch.nn.Linear(64, 16), torch.nn.Linear(16, classes)

    def forward(self, images):
        return self.last(self.hidden(images.flatten(1)).relu())


class Broken(Net):
    batches = 0

    def forward(self, images):
        self.batches += self.training and len(images) == 64
        if self.batches > 5:
            raise KeyError("a batch")
        return super().forward(images)
"""

FILE = """\
name: mine
dataset: digits
model: ["mine:Net", "mine:Broken"]
seeds: 2
train: {epochs: 30, batch_size: 64}
trials:
  - {method: imp, sparsity: [0.8, 0.9], retrain_epochs: 20}
"""


def test_what_fails_is_a_sentence_and_nothing_is_kept(cli: Cli):
    """On a real Ray; what it would train takes 200 epochs, of which it trains none."""
    cli.write(OWN, "mine.py")
    printed = cli("run", cli.write(FILE), "--smoke", code=1)
    lines = [line.split() for line in printed.splitlines()]
    assert ["model", "method", "trials", "works", "memory", "s/epoch"] in lines
    (works,) = (line for line in lines if line[:2] == ["mine:Net", "imp"])
    (fails,) = (line for line in lines if line[:2] == ["mine:Broken", "imp"])
    assert (works[2:4], fails[2:]) == (["4", "yes"], ["4", "no", "-", "-"])
    (sentence,) = (line for line in printed.splitlines() if line.startswith("fails: "))
    assert sentence.startswith("fails: imp of mine:Broken: user code: KeyError: 'a batch' (")
    assert "mine.py, line 20" in sentence
    assert "forecast  6 stages:" in printed
    assert "without 6 stages of what fails" in printed
    assert not (cli.folder / "results").exists()
