"""Parts of a stage: what they leave, and what becomes of a stage whose part is damaged or was never told of."""

from __future__ import annotations

import json

import pytest

from prunesweep.workers import checkpoint
from prunesweep.workers.decoding import decode_stage
from prunesweep.workers.encoding import encode
from prunesweep.workers.host import Where
from prunesweep.workers.run import run_stage
from prunesweep.workers.spec import PartStage, label
from prunesweep.workers.store import NETWORK, STATE, Store
from tests.cases import last_stage, trial
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


def test_a_part_has_the_weights_that_the_whole_training_had_then(parted: Store, tmp_path):
    """Its learning rates are those of the whole length, so a training of two epochs has other weights."""
    shorter = last_stage(trial("gmp", train=WHOLE.root.train.__class__(**{**encode(WHOLE.root.train), "epochs": 2})))
    store = Store(tmp_path)
    run(shorter, store)
    weights = checkpoint.network_in(parted.read_published(PART.key, STATE))
    other = checkpoint.unpack_tensors(store.read_published(shorter.key, NETWORK))
    assert weights.keys() == other.keys()
    assert any(not weights[name].equal(other[name]) for name in weights)


def test_a_stage_whose_part_is_damaged_starts_from_the_beginning_to_the_same_bits(parted: Store, tmp_path):
    unbroken, broken = Store(tmp_path / "unbroken"), Store(tmp_path / "broken")
    run(WHOLE, unbroken)
    run(PART, broken)
    (tmp_path / "broken/stages" / PART.key / STATE).write_bytes(b"nothing")
    assert len(list(run_stage(WHOLE, broken, Where(parts=(2,))))) == WHOLE.epochs
    assert numbers(WHOLE, broken) == numbers(WHOLE, unbroken)
