"""Which weights may be pruned: what patterns match, and that every method leaves the others alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from prunesweep.workers.decoding import decode_stage, decode_trial
from prunesweep.workers.encoding import encode
from prunesweep.workers.errors import UserError
from prunesweep.workers.examination import examine_stages
from prunesweep.workers.host import Where
from prunesweep.workers.methods import last_stage, method_class
from prunesweep.workers.run import StageFailed, run_stage
from prunesweep.workers.scope import in_scope
from prunesweep.workers.selection import kept
from prunesweep.workers.spec import ALL, Scope, Stage, path
from prunesweep.workers.store import Store
from tests.cases import SETTINGS, TAYLOR, trial
from tests.contract import Awkward, run
from tests.networks import prunable_weights, recorded

NAMES = [name for name in SETTINGS if method_class(name).prunes]
QUICK = ("imp", "gmp", "rigl", TAYLOR)
ENDS = Scope.of(exempt=["first", "last"])


def stage_of(name: str, scope: Scope, sparsity: float = 0.75) -> Stage:
    return last_stage(replace(trial(name, sparsity), prune=scope))


def matched(**patterns: Any) -> list[str]:
    """Of weights that are computed in the order first, grouped (which twin shares), frozen, last, one."""
    model = Awkward()
    weights = prunable_weights(model, Awkward.SHAPE)
    chosen = in_scope(Scope.of(**patterns), model, weights, recorded(model, Awkward.SHAPE))
    return [name.removesuffix(".weight") for name in chosen]


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        ({}, "first grouped frozen last one"),
        ({"exempt": ["first"]}, "grouped frozen last one"),
        ({"exempt": ["last"]}, "first grouped frozen last"),
        ({"exempt": ["first", "last"]}, "grouped frozen last"),
        ({"only": ["Linear"]}, "frozen last one"),
        ({"exempt": ["Linear"]}, "first grouped"),
        ({"only": ["Conv*"], "exempt": ["first"]}, "grouped"),
        ({"only": ["frozen", "*d.weight"]}, "grouped frozen"),
        ({"only": ["one.weight"]}, "one"),
    ],
)
def test_patterns_match_names_modules_kinds_and_ends(patterns: dict[str, list[str]], chosen: str):
    """`first` and `last` are the ends of the computation: the layer that is called last is not the last one."""
    assert matched(**patterns) == chosen.split()


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        (
            {"only": ["linear"]},
            'prune: only: "linear" matches no prunable weight; there are first.weight, grouped.weight, frozen.weight, '
            r"last.weight, one.weight; did you mean .Linear.\?",
        ),
        ({"exempt": ["conv1"]}, 'prune: except: "conv1" matches no prunable weight; there are first.weight,'),
        ({"exempt": ["norm"]}, 'prune: except: "norm" matches no prunable weight'),
        ({"exempt": ["*"]}, "prune: nothing is left to prune of first.weight, grouped.weight"),
        ({"only": ["last"], "exempt": ["one"]}, "prune: nothing is left to prune"),
    ],
)
def test_a_pattern_that_matches_nothing_or_leaves_nothing_is_refused_with_what_there_is(
    patterns: dict[str, list[str]], said: str
):
    with pytest.raises(UserError, match=said):
        matched(**patterns)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_every_method_leaves_exempt_layers_dense_and_prunes_the_others_exactly(name: str, store: Store):
    stage = stage_of(name, ENDS)
    run(stage, store)
    result = store.result(stage.key)
    layers, metrics = {layer["name"]: layer for layer in result["layers"]}, result["metrics"]
    exempt, others = [layers.pop(end) for end in ("conv1.weight", "fc.weight")], list(layers.values())
    assert all(layer["nonzero"] == layer["weights"] for layer in exempt)
    n, left = (sum(layer[count] for layer in others) for count in ("weights", "nonzero"))
    if name != "sr_ste":  # its pattern stands for a sparsity
        assert left <= kept(n, 0.75)
        assert left == kept(n, 0.75) or name in ("str", "dst", "cs")
    assert metrics["reached_sparsity"] == 1 - left / n
    whole = n + sum(layer["weights"] for layer in exempt)
    assert metrics["sparsity_with_exempt"] == pytest.approx((n - left) / whole)


def test_one_dense_training_serves_all_scopes_and_every_scope_is_a_trial():
    keys = {stage_of("imp", scope).key for scope in (ALL, ENDS, Scope.of(only=["Linear"]))}
    assert len(keys) == 3
    assert stage_of("imp", ENDS).root == stage_of("imp", ALL).root
    assert stage_of("gmp", ENDS).key != stage_of("gmp", ALL).key
    assert replace(trial("gmp"), prune=ENDS).key != trial("gmp").key
    assert Scope.of(exempt=["last", "first", "last"]) == ENDS


@pytest.mark.parametrize("name", ["imp", "gmp", "str"])
def test_records_are_read_again_and_older_ones_have_no_scope(name: str):
    asked, stage = replace(trial(name), prune=ENDS), stage_of(name, ENDS)
    assert decode_stage(encode(stage)) == stage
    assert decode_trial(encode(asked)) == asked
    assert "prune" not in encode(trial(name))
    with pytest.raises(TypeError):
        decode_stage({**encode(stage), "prune": {"only": [1]}})


def test_the_stage_and_the_examination_before_it_say_what_matches_nothing(store: Store):
    stages = path(stage_of("imp", Scope.of(exempt=["layer9"])))
    run(stages[0], store)
    with pytest.raises(StageFailed, match=r'^prune: except: "layer9" matches no prunable weight; there are conv1'):
        list(run_stage(stages[1], store, Where()))
    with pytest.raises(UserError, match="layer9"):
        examine_stages(stages, Where())


def test_only_dense_training_takes_no_scope():
    assert [name for name in SETTINGS if not method_class(name).prunes] == ["dense", "small_dense"]
