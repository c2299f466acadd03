"""Methods whose sparsity is a consequence say what steers it, and which way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prunesweep.workers import methods
from prunesweep.workers.host import Where
from prunesweep.workers.methods.base import Steering
from prunesweep.workers.run import run_stage
from prunesweep.workers.spec import PruneStage
from prunesweep.workers.store import Store
from tests.cases import SETTINGS, TRAIN, last_stage, trial


def steering_of(name: str) -> Steering:
    steering = methods.method_class(name).steering
    assert steering is not None
    return steering


def test_those_that_are_not_told_their_sparsity_in_training_say_what_steers_it():
    """They are those after whose training only what is missing is pruned, without retraining."""
    last = {name: last_stage(trial(name)) for name in SETTINGS}
    untold = {name for name, stage in last.items() if isinstance(stage, PruneStage) and stage.retrain is None}
    assert untold == {name for name in SETTINGS if methods.method_class(name).steering} == {"str", "dst", "cs"}
    for name in untold:
        assert steering_of(name).name in {h.name for h in methods.method_class(name).hyperparameters()}


@pytest.mark.parametrize("name", ["str", "dst", "cs"])
def test_networks_get_sparser_in_the_direction_that_they_say(name: str, tmp_path: Path):
    steering, store = steering_of(name), Store(tmp_path)
    store.require_writable()
    sparsities = []
    for value in (steering.low, steering.high):
        method = methods.create(trial(name).method)
        choice = replace(method, **{steering.name: value}).choice(name)
        stage = replace(trial(name, train=replace(TRAIN, epochs=3)), method=choice).root(sparsity=0.0)
        for _ in run_stage(stage, store, Where(run="here")):
            pass
        result = store.result(stage.key)
        assert result is not None
        sparsities.append(result["metrics"]["reached_sparsity"])
    dense, sparse = sparsities if steering.rises else reversed(sparsities)
    assert dense < 0.2 < sparse
