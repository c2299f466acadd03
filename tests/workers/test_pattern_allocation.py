"""IMP with a pattern N:M: exact groups, and a sparsity that follows from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from prunesweep.workers.errors import SpecError, UserError
from prunesweep.workers.methods import last_stage
from prunesweep.workers.methods.imp import IMP
from prunesweep.workers.patterns import pattern_masks, undivided
from prunesweep.workers.spec import Scope, TrialSpec
from prunesweep.workers.store import Store
from tests.cases import trial
from tests.contract import network, run


def asked(allocation: str, sparsity: float, **settings: Any) -> TrialSpec:
    method = IMP(**{"retrain_epochs": 2, "allocation": allocation, **settings})
    made = replace(trial("imp", sparsity), method=method.choice("imp"), prune=Scope.of(exempt=["first"]))
    method.check(made)
    return made


@pytest.mark.parametrize(("allocation", "n", "m"), [("2:4", 2, 4), ("1:4", 1, 4)])
def test_every_group_keeps_its_largest_and_no_more(allocation: str, n: int, m: int, store: Store):
    """After retraining every group of inputs at every kernel position has exactly n weights."""
    stage = last_stage(asked(allocation, 1 - n / m))
    run(stage, store)
    dense, sparse = network(stage.parent, store), network(stage, store)
    for layer in store.result(stage.key)["layers"][1:]:
        before, after = (tensors[layer["name"]].movedim(1, -1).reshape(-1, m) for tensors in (dense, sparse))
        for group, left in zip(before.abs().tolist(), (after != 0).tolist(), strict=True):
            ranked = sorted(range(m), key=lambda i: -group[i])
            assert {i for i in range(m) if left[i]} == set(ranked[:n])
    assert store.result(stage.key)["metrics"]["reached_sparsity"] == 1 - n / m


def test_masks_by_hand():
    even = torch.tensor([[1.0, -3.0, 2.0, 0.5], [0.0, 0.0, 1.0, 1.0]])
    odd = torch.tensor([[1.0, 2.0, 3.0]])
    masks = pattern_masks([even, odd], 1, 2).views
    assert masks[0].tolist() == [[0, 1, 1, 0], [1, 0, 1, 0]]
    assert masks[1].tolist() == [[1, 1, 1]]
    assert undivided(["even", "odd"], [even, odd], "1:2") == ["odd"]
    with pytest.raises(UserError, match="1:5 fits no layer"):
        undivided(["even", "odd"], [even, odd], "1:5")


def test_the_sparsity_is_that_of_the_pattern():
    assert [level for level, _ in IMP(retrain_epochs=1, allocation="2:4").levels(None)] == [0.5]
    assert [level for level, _ in IMP(retrain_epochs=1, allocation="1:3").levels(None)] == [0.6666666667]


@pytest.mark.parametrize(
    ("settings", "sparsity", "said"),
    [
        ({"allocation": "4:2"}, 0.5, '"4:2" is no pattern: N:M keeps N of every M weights'),
        ({"allocation": "2:4"}, 0.9, "2:4 is 0.5, not 0.9"),
        ({"allocation": "2:4", "phases": 2}, 0.5, "2:4 is reached in one phase, by magnitude"),
        ({"allocation": "2:4", "criterion": "fisher"}, 0.5, "2:4 is reached in one phase, by magnitude"),
        (
            {"allocation": "globl"},
            0.5,
            'lamp, or a pattern such as 2:4; did you mean "global"',
        ),
    ],
)
def test_what_does_not_go_with_a_pattern_is_refused(settings: dict[str, Any], sparsity: float, said: str):
    with pytest.raises(SpecError, match=said):
        asked(**{"sparsity": sparsity, **settings})
