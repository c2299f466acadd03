"""Parts of a stage: what they leave, and what becomes of a stage whose part is damaged or was never told of."""

from __future__ import annotations

import json
from dataclasses import replace
from math import isfinite

import pytest

from prunesweep.workers import checkpoint
from prunesweep.workers.decoding import decode_stage
from prunesweep.workers.encoding import encode
from prunesweep.workers.host import Where
from prunesweep.workers.run import run_stage
from prunesweep.workers.spec import PartStage, PrunedCopy, PruneStage, label
from prunesweep.workers.store import NETWORK, STATE, Store
from tests.cases import TRAIN, last_stage, trial
from tests.contract import numbers, run

WHOLE = last_stage(trial("gmp"))
PART = PartStage(WHOLE, 2)


@pytest.fixture(scope="module")
def parted(tmp_path_factory) -> Store:
    store = Store(tmp_path_factory.mktemp("parted"))
    run(PART, store)
    return store


def test_a_part_has_a_key_and_a_label_of_its_own_and_is_read_back():
    assert PART.key != WHOLE.key
    assert PART.key != PartStage(WHOLE, 3).key
    assert label(PART) == f"first 2 epochs of {label(WHOLE)}"
    assert decode_stage(json.loads(json.dumps(encode(PART)))) == PART
    for wrong in ({"until": 6}, {"until": 0}, {"until": True}, {"whole": encode(PART)}):
        with pytest.raises(TypeError, match="part of a stage"):
            decode_stage({**encode(PART), **wrong})


def test_a_part_looks_at_no_test_image_and_leaves_no_network(parted: Store):
    result = parted.result(PART.key)
    assert result is not None
    assert not [name for name in result["metrics"] if name.startswith("test")]
    assert result["metrics"]["validation_accuracy"] > 0
    assert result["epochs"] == 2
    assert set(result["files"]) == {"curve.parquet", STATE}
    assert parted.result(WHOLE.key) is None


def test_a_pruned_copy_is_measured_on_validation_images_alone(parted: Store, tmp_path):
    """For every method the contract holds that training goes on from there to the same bits."""
    store, part = Store(tmp_path), PartStage(WHOLE, 2, PrunedCopy(0.9))
    run(part, store)
    metrics, plain = store.result(part.key)["metrics"], parted.result(PART.key)["metrics"]
    assert metrics.keys() - plain.keys() == {"pruned_validation_loss", "pruned_validation_accuracy"}
    assert {name: metrics[name] for name in plain} == plain
    assert isfinite(metrics["pruned_validation_loss"])


def test_a_copy_for_another_sparsity_costs_no_epoch_and_the_sparser_one_is_worse(tmp_path):
    store = Store(tmp_path)
    dense, sparse = (PartStage(WHOLE, 2, PrunedCopy(sparsity)) for sparsity in (0.1, 0.99))
    run(dense, store)
    assert len(list(run_stage(sparse, store, Where(parts=(dense.key,))))) == 1, "it is only measured"
    losses = [store.result(part.key)["metrics"]["pruned_validation_loss"] for part in (dense, sparse)]
    assert losses[0] < losses[1]
    states = [
        checkpoint.network_in(checkpoint.unpack_tensors(store.read_published(part.key, STATE)))
        for part in (dense, sparse)
    ]
    assert all(tensor.equal(states[1][name]) for name, tensor in states[0].items())


def test_a_copy_is_what_a_prune_behind_the_training_is(tmp_path):
    """Dense training of 4 epochs, pruned after them; as a part of one that is constant for 5 it is the same network."""
    train = replace(TRAIN, epochs=4, schedule="constant")
    short, long = (last_stage(trial("dense", train=replace(train, epochs=epochs))) for epochs in (4, 5))
    store, part, pruned = (
        Store(tmp_path),
        PartStage(long, 4, PrunedCopy(0.8, "erk")),
        PruneStage(short, 0.8, None, "magnitude", "erk"),
    )
    for stage in (part, short, pruned):
        run(stage, store)
    copied, behind = (store.result(stage.key)["metrics"] for stage in (part, pruned))
    assert copied["pruned_validation_loss"] == pytest.approx(behind["validation_loss"], rel=1e-6)


def test_a_part_has_the_weights_that_the_whole_training_had_then(parted: Store, tmp_path):
    """Its learning rates are those of the whole length, so a training of two epochs has other weights."""
    shorter = last_stage(trial("gmp", train=WHOLE.root.train.__class__(**{**encode(WHOLE.root.train), "epochs": 2})))
    store = Store(tmp_path)
    run(shorter, store)
    weights = checkpoint.network_in(checkpoint.unpack_tensors(parted.read_published(PART.key, STATE)))
    other = checkpoint.unpack_tensors(store.read_published(shorter.key, NETWORK))
    assert weights.keys() == other.keys()
    assert any(not weights[name].equal(other[name]) for name in weights)


def test_a_stage_whose_part_is_damaged_starts_from_the_beginning_to_the_same_bits(parted: Store, tmp_path):
    unbroken, broken = Store(tmp_path / "unbroken"), Store(tmp_path / "broken")
    run(WHOLE, unbroken)
    run(PART, broken)
    (tmp_path / "broken/stages" / PART.key / STATE).write_bytes(b"nothing")
    assert len(list(run_stage(WHOLE, broken, Where(parts=(PART.key,))))) == WHOLE.epochs
    assert numbers(WHOLE, broken) == numbers(WHOLE, unbroken)
