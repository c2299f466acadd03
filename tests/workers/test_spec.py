from __future__ import annotations

import json
import pickle
from dataclasses import fields, replace

import pytest

from prunesweep.workers import data, methods, models
from prunesweep.workers.decoding import decode_stage, decode_trial
from prunesweep.workers.encoding import encode
from prunesweep.workers.methods import METHODS
from prunesweep.workers.spec import Choice, PruneStage, RetrainSpec, TrainSpec, TrainStage, TrialSpec, path
from tests.cases import SETTINGS

DENSE = TrainStage(data.choose("digits", {}), models.choose("resnet8", {}), Choice("dense"), 0, 0.0, TrainSpec())
PRUNED = PruneStage(DENSE, 0.9, RetrainSpec(2, "ALLR"))


def test_golden_keys():
    """A change here gives every result in every store a new name: say `changes keys` in the changelog."""
    assert DENSE.key == GOLDEN["dense"]
    assert PRUNED.key == GOLDEN["pruned"]
    assert TrialSpec(DENSE.dataset, DENSE.model, Choice("dense")).key == GOLDEN["trial"]


GOLDEN = {"dense": "068090d86607b85b230b", "pruned": "aa2ea06ee7c090f654d9", "trial": "8ab612b31b1a9e76253b"}


def test_equal_numbers_make_equal_keys():
    assert (
        replace(DENSE, train=replace(DENSE.train, lr=1)).key == replace(DENSE, train=replace(DENSE.train, lr=1.0)).key
    )


def test_values_that_python_takes_for_equal_make_keys_of_their_own():
    options = [{"size": True}, {"size": 1}, {"size": (True,)}, {"size": (1,)}, {"size": "1"}, {"size": None}]
    assert Choice.of("net", options[0]) == Choice.of("net", options[1])
    keys = [replace(DENSE, model=Choice.of("net", given)).key for given in (*options, *options)]
    assert len(set(keys)) == len(options)
    assert keys[: len(options)] == keys[len(options) :]


@pytest.mark.parametrize("field", [f.name for f in fields(TrainSpec)])
def test_every_training_setting_changes_the_key(field: str):
    value = getattr(DENSE.train, field)
    kinds = {"milestones": (1, 2), "freeze": ("fc",), "lr_scale": (("fc", 0.1),)}
    other = kinds.get(
        field,
        not value if isinstance(value, bool) else "x" if isinstance(value, str) else (value or 0) + 1,
    )
    assert replace(DENSE, train=replace(DENSE.train, **{field: other})).key != DENSE.key


@pytest.mark.parametrize(
    "other",
    [
        replace(PRUNED, sparsity=0.8),
        replace(PRUNED, criterion="random"),
        replace(PRUNED, retrain=RetrainSpec(3, "ALLR")),
        replace(PRUNED, retrain=RetrainSpec(2, "LLR")),
        replace(PRUNED, parent=replace(DENSE, seed=1)),
        replace(PRUNED, parent=PRUNED),
    ],
)
def test_every_pruning_setting_and_the_parent_change_the_key(other: PruneStage):
    assert other.key != PRUNED.key


@pytest.mark.parametrize("stage", [DENSE, PRUNED, PruneStage(PRUNED, 0.95, RetrainSpec(1, "linear", 0.1, 0.2))])
def test_stages_survive_json_and_pickle(stage: PruneStage):
    again = decode_stage(json.loads(json.dumps(encode(stage))))
    assert again == stage
    assert again.key == stage.key == pickle.loads(pickle.dumps(stage)).key


@pytest.mark.parametrize("name", METHODS)
def test_trials_of_every_method_survive_json(name: str):
    choice = methods.method_class(name)(**SETTINGS[name]).choice(name)
    trial = TrialSpec(DENSE.dataset, DENSE.model, choice, 3, 0.5, TrainSpec(milestones=(1, 2)))
    assert decode_trial(json.loads(json.dumps(encode(trial)))) == trial


def test_a_path_runs_from_the_root():
    second = PruneStage(PRUNED, 0.95, RetrainSpec(3))
    assert path(second) == [DENSE, PRUNED, second]
    assert (second.start_epoch, second.epochs) == (22, 3)
    assert second.root == DENSE
