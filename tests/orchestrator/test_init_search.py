"""Searches that start from trained weights: their candidates are the trials that a sweep with these values has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from prunesweep import load_candidates, load_results
from prunesweep.workers import models
from prunesweep.workers.spec import Choice, PartStage
from prunesweep.workers.store import Store
from tests.in_process import run_here

HEAD = """\
dataset: digits
model: lenet300
seeds: 2
train: {batch_size: 64}
init: {path: net.pt}
"""

LISTED = f"""\
name: listed
{HEAD}train_from_init: {{epochs: 3, lr: [0.02, 0.1, 0.4]}}
trials:
  - {{method: gmp, sparsity: 0.9, pruning_interval: 1}}
"""

SEARCHED = f"""\
name: searched
{HEAD}train_from_init: {{epochs: 3}}
trials:
  - method: gmp
    sparsity: 0.9
    pruning_interval: 1
    search: {{space: {{train_from_init.lr: [0.02, 0.1, 0.4]}}, budget: 3x, algorithm: grid}}
  - method: imp
    sparsity: 0.9
    retrain_epochs: 3
    retrain_schedule: linear
    search:
      space: {{retrain_lr: {{log: [0.01, 0.5]}}}}
      budget: 4x
      algorithm: halving
      rungs: {{from: 34%, factor: 2}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With weights in a file, and a store in which both sweeps have run."""
    folder = tmp_path_factory.mktemp("init_search")
    torch.manual_seed(0)
    torch.save(models.build(Choice("lenet300"), (1, 8, 8), 10).state_dict(), folder / "net.pt")
    for name, text in (("listed", LISTED), ("searched", SEARCHED)):
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_candidates_are_the_trials_of_a_sweep_that_lists_their_settings(folder: Path):
    store = Store(folder / "results")
    run_here(folder / "listed.yaml", store)
    trained = set((folder / "results/stages").iterdir())
    plan = run_here(folder / "searched.yaml", store)
    added = {path.name for path in set((folder / "results/stages").iterdir()) - trained}
    assert {plan.stages[key].root.method.name for key in added} == {"dense"}, "GMP's candidates were all there"

    listed = load_results(folder / "results/listed").query("seed == 0")
    best = listed.loc[listed.validation_accuracy.idxmax()]
    searched = load_results(folder / "results/searched")
    gmp, imp = (searched[searched.method == name] for name in ("gmp", "imp"))
    assert set(gmp.lr) == {best.lr}
    assert gmp.validation_accuracy.tolist()[0] == best.validation_accuracy
    assert set(gmp.tuning_epochs) == {9}

    assert set(searched.init) == set(listed.init), "the same weights for all"
    assert set(imp.total_epochs) == {3}, "what comes before costs nothing"
    candidates = load_candidates("searched", store=folder / "results").query("method == 'imp'")
    assert candidates.groupby("epoch").size().to_dict() == {1: 6, 3: 3}, "6 x 1 and 3 x 2 of 12 epochs"
    assert set(imp.tuning_epochs) == {12}
    parts = [stage for stage in plan.stages.values() if isinstance(stage, PartStage)]
    assert {part.root.key for part in parts} == {plan.decisions[1].candidates[0].paths[0][0].key}
