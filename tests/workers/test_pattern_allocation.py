"""The allocation N:M of the methods that take one: exact groups, and a sparsity that follows from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunesweep.workers.errors import SpecError, UserError
from prunesweep.workers.methods import last_stage, method_class
from prunesweep.workers.methods.acdc import ACDC
from prunesweep.workers.methods.base import Method
from prunesweep.workers.methods.dnw import DNW
from prunesweep.workers.methods.dpf import DPF
from prunesweep.workers.methods.gmp import GMP
from prunesweep.workers.methods.imp import IMP
from prunesweep.workers.methods.pruner import Setup
from prunesweep.workers.methods.sr_ste import SRSTE
from prunesweep.workers.methods.static import Static
from prunesweep.workers.patterns import pattern_masks, require_divided
from prunesweep.workers.selection import magnitude_masks
from prunesweep.workers.spec import Scope, TrialSpec
from prunesweep.workers.store import Store
from tests.cases import SETTINGS, trial
from tests.contract import Awkward, Training, network, run

SHORT = {**SETTINGS, "imp": {"retrain_epochs": 2}}
"""Of each method that takes a pattern, settings for a few epochs."""

DURING = ("gmp", "dpf", "dnw", "acdc", "static")
"""The methods with a pattern that sparsify while they train."""


def asked(allocation: str, sparsity: float, name: str = "imp", **settings: Any) -> TrialSpec:
    method = method_class(name)(**{**SHORT[name], "allocation": allocation, **settings})
    made = replace(trial("dense"), method=method.choice(name), sparsity=sparsity, prune=Scope.of(exempt=["first"]))
    method.check(made)
    return made


def groups(weight: Tensor, m: int) -> Tensor:
    """The weights of each output and kernel position in groups of m inputs, [groups, m], without `workers.patterns`."""
    return weight.movedim(1, -1).reshape(-1, m)


@pytest.mark.parametrize(("allocation", "n", "m"), [("2:4", 2, 4), ("1:4", 1, 4)])
def test_every_group_keeps_its_largest_and_no_more(allocation: str, n: int, m: int, store: Store):
    """After retraining every group of inputs at every kernel position has exactly n weights."""
    stage = last_stage(asked(allocation, 1 - n / m))
    run(stage, store)
    dense, sparse = network(stage.parent, store), network(stage, store)
    for layer in store.result(stage.key)["layers"][1:]:
        before, after = groups(dense[layer["name"]], m), groups(sparse[layer["name"]], m)
        for group, left in zip(before.abs().tolist(), (after != 0).tolist(), strict=True):
            ranked = sorted(range(m), key=lambda i: -group[i])
            assert {i for i in range(m) if left[i]} == set(ranked[:n])
    assert store.result(stage.key)["metrics"]["reached_sparsity"] == 1 - n / m


def test_random_pruning_leaves_exactly_n_of_every_group(store: Store):
    stage = last_stage(asked("3:4", 0.25, "random"))
    run(stage, store)
    result, tensors = store.result(stage.key), network(stage, store)
    layers = [groups(tensors[layer["name"]], 4) for layer in result["layers"][1:]]
    assert {left for layer in layers for left in (layer != 0).sum(1).tolist()} == {3}
    assert result["metrics"]["reached_sparsity"] == 0.25


@pytest.mark.parametrize("name", DURING)
def test_training_ends_with_exactly_n_of_every_group(name: str):
    """Layers of one input, which no two weights share, stay dense."""
    training = Training(method_class(name)(**{**SETTINGS[name], "allocation": "1:2"}), Awkward(), 0.5)
    training.run()
    training.pruner.finalize()
    weights = dict(zip(training.pruner.names, training.pruner.weights, strict=True))
    dense = {key: weight for key, weight in weights.items() if weight.shape[1] == 1}
    assert dense.keys() == {"first.weight", "one.weight"}
    assert all(weight.count_nonzero() == weight.numel() for weight in dense.values())
    assert {
        left
        for key, weight in weights.items()
        if key not in dense
        for left in (groups(weight.detach(), 2) != 0).sum(1).tolist()
    } == {1}


def test_masks_by_hand():
    even = torch.tensor([[1.0, -3.0, 2.0, 0.5], [0.0, 0.0, 1.0, 1.0]])
    odd = torch.tensor([[1.0, 2.0, 3.0]])
    masks = pattern_masks([even, odd], 1, 2).views
    assert masks[0].tolist() == [[0, 1, 1, 0], [1, 0, 1, 0]]
    assert masks[1].tolist() == [[1, 1, 1]]


def test_what_no_group_divides_is_named_or_refused(caplog: pytest.LogCaptureFixture):
    even, odd = torch.ones(2, 4), torch.ones(1, 3)
    require_divided(["even", "odd"], [even, odd], "1:2")
    assert caplog.messages == ["1:2 does not divide the inputs of odd: dense"]
    with pytest.raises(UserError, match="1:5 fits no layer: 5 divides none of their input dimensions"):
        require_divided(["even", "odd"], [even, odd], "1:5")
    caplog.clear()
    require_divided(["odd"], [odd], "uniform")
    assert not caplog.messages


@pytest.mark.parametrize("name", DURING)
def test_a_network_without_a_group_is_refused_before_it_trains(name: str):
    method = method_class(name)(**{**SETTINGS[name], "allocation": "1:5"})
    model = nn.Linear(3, 2)
    with pytest.raises(UserError, match="1:5 fits no layer"):
        method.pruner(Setup(model, {"weight": model.weight}, 0.8, 4, 8))


@pytest.mark.parametrize(
    ("sparsity", "kept"),
    [(0.0, [1, 1, 1, 1]), (0.12, [1, 1, 1, 1]), (0.13, [1, 1, 1, 0]), (0.4375, [0, 1, 1, 0]), (0.5, [0, 1, 1, 0])],
)
def test_a_gradual_method_prunes_one_weight_after_the_other(sparsity: float, kept: list[int]):
    """Of four weights round(4 s) go: none below an eighth, one up to three, then two."""
    masks = magnitude_masks([torch.tensor([[1.0, -3.0, 2.0, 0.5]])], sparsity, "2:4")
    assert masks.views[0].tolist() == [kept]


def test_gmp_takes_2_of_4_in_two_steps():
    """Three prunes in eight epochs of interval 2: to 0.5 (1 - (1 - k/3)^3) = 0.352, 0.481, 0.5, so 3, 2 and 2 of 4."""
    training = Training(GMP(allocation="2:4", pruning_interval=2), Awkward(), 0.5, epochs=8)
    left = []
    for epoch in range(1, 9):
        training.epoch(epoch)
        left.append(int(training.pruner.weights[-2].count_nonzero()))
    names = dict(zip(training.pruner.names, training.pruner.weights, strict=True))
    assert names["last.weight"] is training.pruner.weights[-2]
    assert left == [12, 9, 9, 6, 6, 6, 6, 6]


def test_nan_among_the_weights_is_noticed_by_a_prune():
    with pytest.raises(FloatingPointError, match="NaN"):
        magnitude_masks([torch.tensor([[1.0, float("nan"), 2.0, 0.5]])], 0.5, "2:4")


def test_discovering_neural_wirings_is_sr_ste_without_its_refinement():
    networks = []
    for method in (DNW(allocation="2:4"), SRSTE(pattern="2:4", refinement=0.0)):
        torch.manual_seed(0)
        training = Training(method, Awkward(), 0.5)
        training.run()
        training.pruner.finalize()
        networks.append(training.network.model.state_dict())
    assert all(torch.equal(networks[0][name], tensor) for name, tensor in networks[1].items())


def test_random_groups_are_uniform():
    """Of 4,096 groups of four each of the six pairs is drawn about 683 times; five deviations are 119."""
    model = nn.Linear(128, 128)
    Static(allocation="2:4").pruner(Setup(model, {"weight": model.weight}, 0.5, 4, 8, seed=3))
    pairs = [tuple(group) for group in (groups(model.weight.detach(), 4) != 0).int().tolist()]
    counts = {pair: pairs.count(pair) for pair in set(pairs)}
    assert len(counts) == 6
    assert all(sum(pair) == 2 and abs(count - 4096 / 6) < 119 for pair, count in counts.items())


@pytest.mark.parametrize(
    "method", [IMP(retrain_epochs=1, allocation="2:4"), GMP(allocation="2:4"), DPF(allocation="2:4")]
)
def test_the_sparsity_is_that_of_the_pattern(method: Method):
    assert [level for level, _ in method.levels(None)] == [0.5]
    assert [level for level, _ in IMP(retrain_epochs=1, allocation="1:3").levels(None)] == [0.6666666667]


@pytest.mark.parametrize("m", [3, 7, 11, 9999])
def test_rounded_sparsities_keep_exactly_n(m: int):
    (level, _), *_ = ACDC(allocation=f"1:{m}").levels(None)
    assert level is not None
    assert magnitude_masks([torch.ones(1, m)], level, f"1:{m}").whole.sum() == 1


@pytest.mark.parametrize(
    ("settings", "sparsity", "said"),
    [
        ({"allocation": "4:2"}, 0.5, '"4:2" is no pattern: N:M keeps N of every M weights'),
        ({"allocation": "2:4"}, 0.9, "2:4 is 0.5, not 0.9"),
        ({"allocation": "2:4", "phases": 2}, 0.5, "2:4 is reached in one phase"),
        ({"allocation": "2:4", "name": "bimp", "phases": 2}, 0.5, "2:4 is reached in one phase"),
        ({"allocation": "2:4", "criterion": "fisher"}, 0.5, "2:4 keeps the largest of each group; leave out criterion"),
        ({"allocation": "globl"}, 0.5, 'lamp, or a pattern such as 2:4; did you mean "global"'),
        ({"allocation": "ekr", "name": "static"}, 0.5, 'first_dense, or a pattern such as 2:4; did you mean "erk"'),
        ({"allocation": "global", "name": "rigl"}, 0.5, '"global" is not allowed: one of erk, uniform, first_dense$'),
        ({"allocation": "2:4", "name": "set"}, 0.5, '"2:4" is not allowed: one of erk, uniform, first_dense$'),
    ],
)
def test_what_does_not_go_with_a_pattern_is_refused(settings: dict[str, Any], sparsity: float, said: str):
    with pytest.raises(SpecError, match=said):
        asked(**{"sparsity": sparsity, **settings})
